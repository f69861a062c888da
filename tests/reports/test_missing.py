"""A line a reason; times of an emulated precision are marked and in no comparison."""

import json
from dataclasses import replace

import pytest
from made_runs import MEASURES, POCKET_AXES, cells_of, grid, manifest_of, measured, pocket, record_of

from bench.results.records import Attempt, Number, Record
from reports.charts import charts
from reports.html_page import page
from reports.missing import EMULATED, SIDE_BY_SIDE, notes
from reports.paired_difference import paired_difference
from reports.run_table import load, rows
from reports.saved_videos import VideoGallery
from reports.significance import best_ids
from reports.text_tables import as_markdown, as_text

PAIRED = tuple(0.01 * i for i in range(9))


def of(values):
    if values["method"] == "real":
        return {"fvd": measured([1.0, 2.0, 3.0])}
    seconds = 0.001 if values["precision"] == "bf16" else 1.0  # emulated, yet the fastest by far
    return {
        "fvd": measured([10.0, 11.0, 12.0]),
        "seconds_per_frame": (Number(seconds, "s", "lower", 9, 0.98 * seconds, 1.02 * seconds), PAIRED),
        "rss": (Number(2.0**30, "bytes", "lower"), ()),
    }


def emulated(values):
    return {"emulated": "bf16"} if values["precision"] == "bf16" else {}


@pytest.fixture
def run(tmp_path):
    axes = POCKET_AXES | {"frames": [16], "overlap": [4]}
    return load(pocket(tmp_path / "run", axes, of, MEASURES, facts=emulated))


def test_an_emulated_time_is_marked_and_explained_once(run):
    table = rows(run)
    for text in (
        as_text(run, table),
        as_markdown(run, table),
        page(run, table, [], VideoGallery([], 0, []), ["python"]),
    ):
        assert text.count(EMULATED) == 1
        assert "0.001000 ±0.000020 †" in text or "0.001000 <small>±0.000020 †" in text
        assert "1024 †" not in text  # memory is what it is


def test_cells_that_ran_side_by_side_are_said_to_have(run, tmp_path):
    assert SIDE_BY_SIDE not in as_text(run, rows(run))
    axes = POCKET_AXES | {"frames": [16], "overlap": [4]}
    beside = load(pocket(tmp_path / "beside", axes, of, MEASURES, facts=lambda values: {"side_by_side": "2"}))
    assert as_text(beside, rows(beside)).count(SIDE_BY_SIDE) == 1


def test_an_emulated_time_is_no_best_one_and_in_no_pair_or_chart(run):
    table = rows(run)
    low = {row["id"] for row in table.to_dict("records") if row["precision"] == "bf16"}
    assert not low & best_ids(run, table, "seconds_per_frame")
    one, two = (next(iter(r for r in run.records.values() if r.cell.values["precision"] == name and "pairs" in r.facts))
                for name in ("fp32", "bf16"))  # fmt: skip
    assert paired_difference(one, two, "seconds_per_frame") is None
    assert paired_difference(one, one, "seconds_per_frame") is not None
    drawn = {chart.name: chart for chart in charts(run, table)}
    assert "bf16" not in drawn["trade-off"].svg
    assert "bf16" in drawn["ranking"].svg


def test_reasons_that_differ_in_numbers_are_one_line(tmp_path):
    axes = grid(frames=(16,))
    lines = []
    for i, (cell, reference) in enumerate(cells := cells_of(axes)):
        if cell.values["precision"] == "bf16":
            reason = f"bf16 is emulated here: {i} GFLOP/s" if i % 2 else f"bf16 is emulated (a copy takes {i} s)"
            record = Record(cell, Attempt("skipped", reason))
        elif cell.values["method"] == "theirs":
            record = Record(cell, Attempt("invalid", f"decode took {i}.5 s, it takes 64 s"))
        else:
            record = record_of(cell, reference)
        lines.append(record.to_json() + "\n")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest_of(axes, cells)))
    (folder / "records.jsonl").write_text("".join(lines))
    run = load(folder)
    table = rows(run)
    found = notes(run, table.to_dict("records"), list(run.measures))
    assert [(note.what[0], len(note.cells)) for note in found] == [("skipped", 6), ("invalid", 2), ("– GPU MiB", 5)]
    assert found[0].line.endswith("(6 cells)")
    text = page(run, table, [], VideoGallery([], 0, []), ["python"])
    missing = text.split("What is missing, and why")[1].split("What the columns mean")[0]
    assert missing.count("<summary>skipped: bf16 is emulated") == 1
    assert "ours overlap=2 bf16" in missing  # folded behind the line
    assert as_markdown(run, table).count("- skipped: bf16 is emulated") <= 3  # one for each table


def test_long_lists_of_measures_are_counted_in_the_line(run):
    absent = dict.fromkeys(("fvd", "is", "action", "gpu"), "no GPU")
    records = [{"id": "a", "status": "ok", "reason": "", **dict.fromkeys(["frames", *run.axes], "x")}]
    cell = next(iter(run.records.values())).cell
    bare = replace(run, records={"a": Record(cell, Attempt("ok"), absent=absent)})
    (note,) = notes(bare, records, list(run.measures))
    assert note.line == "4 measures: no GPU (all)"
    assert str(note) == "– FVD, IS, action, GPU MiB: no GPU (all)"
