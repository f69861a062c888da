import gzip
import json
import re

import pytest

from bench.harness.suite_spec import override, plan
from bench.suites import SUITES
from bench.videos.trace import trace


def cells(*assignments):
    return [item.cell for item in plan(override(SUITES["smoke"], ["device=cpu", *assignments]), {})]


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """One short batch of the shipped pipeline under the profiler: the table, and the folder of what was written."""
    folder = tmp_path_factory.mktemp("run") / "profile" / "cell"
    cell = cells("method=independent", "steps=2", "batch=1", "videos=3")[-1]
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


def test_the_table_of_kernels_has_time_calls_share_and_flops(traced):
    table, folder, cell = traced
    page = (folder / "kernels.md").read_text()
    assert page.startswith("# Kernels of one batch")
    assert table in page
    header, _, *rows = table.splitlines()
    assert [word.strip() for word in header.strip("|").split("|")] == ["operator", "calls", "ms", "share", "GFLOP"]
    cut = [[word.strip() for word in row.strip("|").split("|")] for row in rows]
    assert sum(float(share.rstrip("%")) for *_, share, _ in cut) == pytest.approx(100, abs=3)
    assert any("conv" in name and float(flops or 0) > 0 for name, *_, flops in cut)
    assert not any(re.match(r"`(text|denoise|decode)", name) for name, *_ in cut)
    assert json.loads((folder / "cell.json").read_text())["values"] == dict(cell.values)


def test_video_that_no_network_makes_is_not_profiled(tmp_path):
    with pytest.raises(ValueError, match="only cells whose videos a network makes can be profiled"):
        trace(cells()[0], tmp_path)
