import re

from reports.ucf101.published import CONFIDENCE, published_rows


def test_the_row_to_reproduce_is_there():
    rows = {row["method"]: row for row in published_rows()}
    best = rows["VidRD w/ fine-tuned VAE"]
    assert (best["is"], best["fvd"], best["confidence"]) == ("39.37", "363.19", "primary")
    assert {row["confidence"] for row in rows.values()} <= set(CONFIDENCE)


def test_a_reader_needs_no_key_to_the_rows():
    for row in published_rows():
        assert row["source"], row
        assert row["is"] or row["fvd"], row
        text = " ".join(row.values())
        assert not re.search(r"recollect|\?|\b(REC|INF|NOTE)\b", text), row
    hearsay = [row["method"] for row in published_rows() if row["source"] == "no text that was read"]
    assert {row["confidence"] for row in published_rows() if row["method"] in hearsay} == {"unverified"}
