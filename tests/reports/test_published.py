import re

import pytest
from made_runs import MEASURES, grid, write

from reports.published import published_rows, published_table
from reports.table import load, rows


def table(folder):
    run = load(folder)
    return published_table(run, rows(run).to_dict("records"))


def test_measured_rows_stand_first_and_published_ones_say_where_they_are_from(tmp_path):
    found = table(write(tmp_path / "run", grid(frames=(16,), overlaps=(4,)), workload="ucf101", published="ucf101"))
    kinds = [row["kind"] for row in found["rows"]]
    assert kinds[:6] == ["measured"] * 6
    assert "measured" not in kinds[6:]
    heads = list(found["heads"])
    for row in found["rows"]:
        assert row["cells"][heads.index("confidence")]
        assert row["cells"][heads.index("source")]
    ours = found["rows"][0]["cells"]
    assert ours[heads.index("FVD ↓")] == "12.0 ±1.2"
    assert "n = 32" in ours[heads.index("note")]


def test_the_row_to_reproduce_is_there():
    rows_ = {row["method"]: row for row in published_rows("ucf101")}
    best = rows_["VidRD w/ fine-tuned VAE"]
    assert (best["is"], best["fvd"], best["confidence"]) == ("39.37", "363.19", "primary")
    assert {row["confidence"] for row in rows_.values()} <= {"primary", "secondary", "conflict", "unverified"}


def test_a_reader_needs_no_key_to_the_rows():
    for row in published_rows("ucf101"):
        assert row["source"], row
        assert row["is"] or row["fvd"], row
        text = " ".join(row.values())
        assert not re.search(r"recollect|\?|\b(REC|INF|NOTE)\b", text), row
    hearsay = [row["method"] for row in published_rows("ucf101") if row["source"] == "no text that was read"]
    assert {row["confidence"] for row in published_rows("ucf101") if row["method"] in hearsay} == {"unverified"}


def test_pocket_numbers_never_stand_there(tmp_path):
    assert table(write(tmp_path / "plain", grid(), workload="pocket")) is None
    with pytest.raises(ValueError, match="pocket numbers never stand beside published ones"):
        table(write(tmp_path / "run", grid(), workload="pocket", published="ucf101"))


def test_an_unknown_table_is_named(tmp_path):
    with pytest.raises(ValueError, match="no table of published rows 'kinetics': there is ucf101"):
        table(write(tmp_path / "run", grid(), published="kinetics", measures=MEASURES))
