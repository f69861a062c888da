"""Differences of rows that share prompts and noise: exact where the law is known, absent where nothing pairs."""

import json
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from made_runs import cells_of, grid, manifest_of, record_of

from bench.results.records import LEFT_OUT
from bench.results.statistics import jackknifed
from reports.html_page import page
from reports.paired_difference import paired_difference, paired_tables
from reports.run_table import load, rows
from reports.saved_videos import VideoGallery
from reports.text_tables import as_markdown

VIDEOS = 24
PAIRS = "prompts 1 to 24, noise of the seeds from 0 on"


def paired_record(cell, reference, *, pairs=PAIRS):
    """Videos differ much from prompt to prompt (spread 10), "theirs" is better by 1 in each, give or take .1."""
    record = record_of(cell, reference)
    if reference:
        return record
    draw = np.random.default_rng(1)
    prompts = 10 * draw.standard_normal(VIDEOS)
    noise = 0.1 * np.random.default_rng(["ours", "theirs", "same"].index(cell.values["method"])).standard_normal(VIDEOS)
    values = 50 + prompts + noise + (1.0 if cell.values["method"] == "theirs" else 0.0)
    mean, half = float(values.mean()), 2.07 * float(values.std(ddof=1)) / VIDEOS**0.5
    numbers = {"action": replace(record.numbers["action"], value=mean, low=mean - half, high=mean + half, n=VIDEOS)}
    left_out = tuple((values.sum() - value) / (VIDEOS - 1) for value in values.tolist())
    numbers["fvd"] = replace(numbers["action"], better="lower")
    samples = {"action": tuple(values.tolist()), f"fvd{LEFT_OUT}1": left_out}
    return replace(record, numbers=record.numbers | numbers, samples=samples, facts={"pairs": pairs} if pairs else {})


def run_of(folder, make=paired_record):
    axes = grid(frames=(16,), methods=("ours", "theirs", "same"), overlaps=(2, 4), precisions=("fp32",))
    cells = cells_of(axes)
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest_of(axes, cells)))
    (folder / "records.jsonl").write_text("".join(make(*cell).to_json() + "\n" for cell in cells))
    return load(folder)


@pytest.fixture
def run(tmp_path):
    return run_of(tmp_path / "run")


def of(run, method):
    return next(r for r in run.records.values() if r.cell.values["method"] == method and r.cell.values["overlap"] == 2)


def test_a_mean_over_videos_has_the_interval_of_the_paired_t_test(run):
    ours, theirs = of(run, "ours"), of(run, "theirs")
    each = [b - a for a, b in zip(ours.samples["action"], theirs.samples["action"], strict=True)]
    difference = paired_difference(ours, theirs, "action")
    reach = 2.0687 * statistics.stdev(each) / math.sqrt(VIDEOS)  # Student's t, 23 degrees of freedom
    assert difference.mean == pytest.approx(statistics.fmean(each))
    assert difference.high(0.025) - difference.mean == pytest.approx(reach, rel=1e-4)


def test_left_out_values_of_a_mean_give_the_same_interval(run):
    """The delete-one jackknife of a mean is the t-interval, exactly."""
    ours, theirs = of(run, "ours"), of(run, "theirs")
    mean, left_out = (paired_difference(ours, theirs, name) for name in ("action", "fvd"))
    assert left_out.mean == pytest.approx(mean.mean)
    assert left_out.error == pytest.approx(mean.error)
    assert (left_out.df, left_out.n) == (VIDEOS - 1, VIDEOS)


def test_pairs_see_what_two_intervals_cannot(run):
    ours, theirs = (of(run, name).numbers["action"] for name in ("ours", "theirs"))
    assert ours.high > theirs.low  # each by itself is as wide as the prompts differ
    assert paired_difference(of(run, "ours"), of(run, "theirs"), "action").low(0.025) > 0.8


def test_the_table_sets_every_row_against_the_first_of_its_series(run):
    table, overlaps = paired_tables(run, rows(run))
    assert table.title == "frames = 16"
    assert overlaps.title == "frames = 16: overlap against 2"
    assert [row[0] for row in overlaps.rows] == [
        f"{method} overlap=4 fp32 minus {method} overlap=2 fp32" for method in ("ours", "theirs", "same")
    ]
    assert {text for row in overlaps.rows for text in row[1:]} == {"0"}  # overlap changes nothing here
    assert table.columns == ["", "FVD", "action"]
    assert [row[0] for row in table.rows] == [
        f"{method} overlap={overlap} fp32 minus ours overlap={overlap} fp32"
        for method in ("theirs", "same")
        for overlap in (2, 4)
    ]
    assert all(text.startswith("+") for row in table.rows[:2] for text in row[1:])
    assert {(0, 1), (0, 2), (1, 1), (1, 2)} <= table.marked


def test_of_very_many_rows_only_the_first_axis_has_a_table(run, monkeypatch):
    monkeypatch.setattr("reports.paired_difference.MOST", 5)
    assert [table.title for table in paired_tables(run, rows(run))] == ["frames = 16"]


def test_equal_rows_are_rarely_marked():
    """Of sets of 5 rows that differ by chance alone at most 1 in 20 has a mark."""
    draw = np.random.default_rng(0)
    marked = 0
    for _ in range(400):
        rows_ = draw.standard_normal((5, 30))
        alpha = 0.05 / 2 / 4
        found = [jackknifed(*_mean_and_rest(row - rows_[0]), 30) for row in rows_[1:]]
        marked += any(each.low(alpha) > 0 or each.high(alpha) < 0 for each in found)
    assert marked / 400 < 0.07


def _mean_and_rest(values):
    return float(values.mean()), [((values.sum() - values) / (len(values) - 1)).tolist()]


@pytest.mark.parametrize("pairs", [None, "other"])
def test_what_is_not_paired_has_no_difference(tmp_path, pairs):
    def unpaired(cell, reference):
        return paired_record(cell, reference, pairs=pairs and f"{pairs} than {cell.id}")

    run = run_of(tmp_path / "run", unpaired)
    assert paired_tables(run, rows(run)) == []
    assert "Paired differences" not in as_markdown(run, rows(run))


def test_other_numbers_of_videos_do_not_pair(run):
    ours, theirs = of(run, "ours"), of(run, "theirs")
    fewer = replace(theirs, samples={name: values[:-1] for name, values in theirs.samples.items()})
    assert paired_difference(ours, fewer, "action") is None
    assert paired_difference(ours, fewer, "fvd") is None
    assert paired_difference(ours, theirs, "rss") is None  # nothing but the number


def test_page_and_markdown_show_them(run):
    table = rows(run)
    text = page(run, table, [], VideoGallery([], 0, []), ["python"])
    assert "Differences between rows with the same prompts and noise" in text
    assert text.count("<caption>frames = 16</caption>") == 1
    assert "## Paired differences at frames = 16" in as_markdown(run, table)
    assert LEFT_OUT not in text  # the page holds raw samples, not the jackknife's


def test_a_jackknife_needs_three_groups():
    with pytest.raises(ValueError, match="leaves out at least 3 groups"):
        jackknifed(0.0, [[1.0, 2.0]], 2)
    two_sides = jackknifed(0.0, [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], 3)
    assert two_sides.error == pytest.approx((2 * 2 / 3 * 2) ** 0.5)
