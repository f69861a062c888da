import time

import pytest
import torch

from bench.hardware.stopwatch import Stopwatch


def test_stages_are_timed_apart_and_total_spans_them():
    watch = Stopwatch("cpu")
    with watch.stage("text"):
        time.sleep(0.02)
    time.sleep(0.01)
    with watch.stage("decode"):
        time.sleep(0.03)
    seconds = watch.read()
    assert list(seconds) == ["text", "decode", "total"]
    assert 0.02 <= seconds["text"] < seconds["decode"]
    assert seconds["total"] >= seconds["text"] + seconds["decode"] + 0.01
    with watch.stage("text"):
        pass
    assert watch.read()["text"] < 0.02


def test_a_stage_is_timed_once_a_read():
    watch = Stopwatch("cpu")
    with watch.stage("text"):
        pass
    with pytest.raises(ValueError, match="'text' was timed already"), watch.stage("text"):
        pass


def test_laps_are_parts_of_their_stage():
    watch = Stopwatch("cpu")
    with watch.stage("text"):
        pass
    with watch.stage("denoise"):
        for _ in range(3):
            time.sleep(0.01)
            watch.lap()
    seconds = watch.read()
    assert set(watch.laps) == {"denoise"}
    assert len(watch.laps["denoise"]) == 3
    assert 0.03 <= sum(watch.laps["denoise"]) <= seconds["denoise"]
    with watch.stage("denoise"):
        pass
    watch.read()
    assert watch.laps == {}


def test_ranges_name_stages_and_laps_in_a_profile():
    watch = Stopwatch("cpu", ranges=True)
    with torch.profiler.profile() as profile, watch.stage("denoise"):
        torch.ones(4) + 1
        watch.lap()
        torch.ones(4) + 1
        watch.lap()
    names = {event.name for event in profile.events()}
    assert {"denoise", "denoise 0", "denoise 1"} <= names


@pytest.mark.gpu
def test_on_a_gpu_the_kernels_are_timed_and_not_their_launch():
    a = torch.randn(8192, 8192, device="cuda")
    watch = Stopwatch("cuda")
    for _ in range(2):
        began = time.perf_counter()
        with watch.stage("denoise"):
            for _ in range(20):
                a = (a @ a).clamp(-1, 1)
        launched = time.perf_counter() - began
        seconds = watch.read()["denoise"]
    assert seconds > 2 * launched
