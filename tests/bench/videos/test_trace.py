import gzip
import json
from unittest.mock import patch

import pytest

from bench.hardware.roofline import Peaks
from bench.harness.suite_spec import override, plan
from bench.suites import SUITES
from bench.videos.plan import GIVEN
from bench.videos.trace import _prompts, trace
from vidrd.pocket.world import TEST_SEEDS, caption, draw_scene


def cells(*assignments):
    return [item.cell for item in plan(override(SUITES["smoke"], ["device=cpu", *assignments]), {})]


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """One short batch of the shipped pipeline under the profiler: the table, and the folder of what was written."""
    fast = Peaks({"float32": 1e12}, 1e11, 1e11)
    folder = tmp_path_factory.mktemp("run") / "profile" / "cell"
    cell = cells("method=independent", "steps=2", "batch=1", "videos=3")[-1]
    with patch("bench.videos.trace.peaks", lambda device: fast):
        return trace(cell, folder), folder, cell


def test_the_trace_is_chromes_format_with_a_range_for_every_stage_and_step(traced):
    _, folder, _ = traced
    with gzip.open(folder / "trace.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    ranges = [event for event in events if event.get("cat") == "user_annotation" and event["ph"] == "X"]
    named = {event["name"]: event for event in ranges}
    steps = {f"denoise {step}" for step in range(2 * 2)}  # of two clips
    assert {"text", "denoise", "decode"} | steps <= set(named)
    whole = named["denoise"]
    for step in steps:
        assert whole["ts"] <= named[step]["ts"]
        assert named[step]["ts"] + named[step]["dur"] <= whole["ts"] + whole["dur"] + 1
    assert any(event.get("name") == "aten::convolution" for event in events)


def test_the_table_names_ten_operators_by_layer_with_their_bound_and_limit(traced):
    table, folder, cell = traced
    page = (folder / "kernels.md").read_text()
    assert page.startswith("# Kernels of one batch")
    assert table in page
    header, _, *rows = table.splitlines()
    heads = [word.strip() for word in header.strip("|").split("|")]
    assert heads == [
        "stage", "layer", "operator", "kernel", "calls", "ms", "share", "GFLOP", "of bound", "limited by",
    ]  # fmt: skip
    assert len(rows) == 10
    profile = json.loads((folder / "profile.json").read_text())
    assert profile["values"] == dict(cell.values)
    assert sum(row["seconds"] for row in profile["rows"]) == pytest.approx(profile["seconds"])
    assert {row["stage"] for row in profile["rows"]} == {"text", "denoise", "decode"}
    layers = {row["layer"]: row for row in profile["rows"] if row["operator"] == "convolution"}
    assert layers["ResnetBlock › Conv2d"]["flops"] > 0
    assert {row["limit"] for row in profile["rows"]} <= {"", "launch gaps", "latency", "arithmetic", "memory"}
    assert json.loads((folder / "cell.json").read_text())["values"] == dict(cell.values)


def test_all_of_the_networks_work_is_found_in_the_rows(traced):
    """The oracle is the count on the meta device, which knows no profiler."""
    _, folder, cell = traced
    rows = json.loads((folder / "profile.json").read_text())["rows"]
    batches = int(cell.values["videos"]) // int(cell.values["batch"])
    predicted = SUITES["smoke"].predict(cell.values).flops / batches
    assert sum(row["flops"] for row in rows if row["stage"] != "text") == pytest.approx(predicted, rel=1e-3)


def test_prompts_that_change_and_long_videos_are_profiled_with_their_own_prompts():
    changes, long, lengths = (
        next(item.cell for item in plan(SUITES[name], {}) if item.cell.values["method"] not in GIVEN)
        for name in ("changes", "long", "lengths")
    )
    assert " | " in _prompts(changes, 2)[0]
    assert len(_prompts(changes, 2)) == 2
    assert _prompts(long, 1) == [caption(draw_scene(TEST_SEEDS[0]))]
    assert _prompts(lengths, 5)[4] == _prompts(lengths, 1)[0]  # of a short list, in turn


def test_video_that_no_network_makes_is_not_profiled(tmp_path):
    with pytest.raises(ValueError, match="only cells whose videos a network makes can be profiled"):
        trace(cells()[0], tmp_path)
