"""Videos of minutes: what is measured of real video, and which planted fault shows in which column."""

import numpy as np
import pytest

from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.suites import SUITES
from bench.videos import long_cell
from bench.videos.long_cell import judge_length
from metrics.temporal.minutes import autocorrelation
from vidrd.pocket.world import TEST_SEEDS, draw_scene, render

FRAMES, VIDEOS = 96, 4


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(seed) for seed in TEST_SEEDS[:VIDEOS]]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    words = [f"videos={VIDEOS}", f"real_videos={4 * VIDEOS}", "device=cpu", "batch=1", f"frames={FRAMES}"]
    suite = override(SUITES["long"], words)
    item = plan(suite, {})[0]
    assert item.reference
    return Job(item.cell.values, tmp_path_factory.mktemp("real"), None, tuple(suite.measures))


@pytest.fixture(scope="module")
def real(job):
    return long_cell.run(job)


def test_real_video_loses_nothing(real):
    value = {name: number.value for name, number in real.numbers.items()}
    assert set(SUITES["long"].measures) == set(real.numbers) | set(real.absent)
    assert "clips 20 apart need more than 20" in real.absent["alike_20"]
    assert value["identity_end"] > 0.9
    assert value["action_end"] > 0.8
    assert value["contrast_drift"] < 0.05
    assert value["held_frames"] < 0.2
    assert 2 <= value["cycle_lag"] <= 6


@pytest.mark.parametrize("fault", ["repeats", "pales", "changes", "stands", "tints"])
def test_planted_faults_are_seen(fault, real, job, scenes):
    video = render(scenes, FRAMES).copy()
    share = np.linspace(0, 1, FRAMES)[:, None, None, None]
    if fault == "repeats":
        video = np.tile(render(scenes, 24), (1, 4, 1, 1, 1))
    if fault == "pales":
        video = (video * (1 - 0.7 * share) + 127 * 0.7 * share).astype(np.uint8)
    if fault == "changes":
        others = [draw_scene(seed) for seed in TEST_SEEDS[VIDEOS : 2 * VIDEOS]]
        video[:, 48:] = render(others, 48, start=48)
    if fault == "stands":
        video[:, 48:] = video[:, 47:48]
    if fault == "tints":
        video[..., 0] = np.clip(video[..., 0] + 100 * share[..., 0], 0, 255).astype(np.uint8)
    value = {name: number.value for name, number in judge_length(video, scenes, job, job.folder).numbers.items()}
    was = {name: number.value for name, number in real.numbers.items()}
    assert {
        "repeats": value["cycle"] > was["cycle"] + 0.15 and value["cycle_lag"] == 3,
        "pales": value["contrast_drift"] > was["contrast_drift"] + 0.03,
        "changes": value["identity_end"] < 0.7
        and value["fvd_end"] > was["fvd_end"] - 1e-6
        and value["action_end"] < 0.7,
        "stands": value["held_frames"] > 0.4,
        "tints": value["color_step"] > was["color_step"] + 2,
    }[fault], (value, was)


def test_autocorrelation_of_known_rows():
    beat = np.tile(np.eye(4), (6, 1))  # 24 rows, the same again every 4
    assert np.allclose(autocorrelation(beat)[[3, 7, 11]], 1)
    assert np.allclose(autocorrelation(beat)[0], -1 / 3)
    noise = np.random.default_rng(0).normal(size=(400, 50))
    assert np.abs(autocorrelation(noise)).max() < 0.05
    assert np.array_equal(autocorrelation(np.full((8, 3), 0.1)), np.zeros(4))
    with pytest.raises(ValueError, match="need 4 rows or more: got 3"):
        autocorrelation(beat[:3])


def test_what_would_take_too_long_is_a_row_with_its_reason():
    def why(method, frames, clip=8):
        return plan(override(SUITES["long"], [f"method={method}", f"frames={frames}", f"clip={clip}"]), {})[-1].skip

    assert "attention grows with their square" in why("direct", 512)
    assert why("direct", 128) is why("vidrd", 1024) is None
    assert "4 clips, of 8 frames or more: got 24 frames in clips of 8" in why("vidrd", 24)
    assert "got 32 frames in clips of 16" in why("vidrd", 32, clip=16)
    assert "got 32 frames in clips of 4" in why("vidrd", 32, clip=4)
