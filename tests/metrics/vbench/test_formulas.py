"""VBench's formulas against its own functions, and the traps that are left out by default."""

from itertools import pairwise

import numpy as np
import pytest

from metrics import METRICS
from metrics.evaluation.collectors import Steps
from metrics.intervals import mean_score
from metrics.score import Score
from metrics.temporal.raft import padding
from metrics.vbench import formulas
from metrics.vbench.collectors import InterpolationGap
from tests.metrics import recipes2026 as recipe
from tests.metrics.recipes import rng

KNOWN = recipe.golden("formulas")
SETS = {
    "a_random": recipe.features("m26/cons/a", 8, 16, "iid"),
    "b_walk": recipe.features("m26/cons/b", 13, 64, "walk"),
    "c_flip": recipe.features("m26/cons/c", 9, 32, "flip"),
}


def test_consistency_per_video_pooled_and_averaged():
    known = KNOWN["vbench_consistency_from_features"]["subject"]
    frames = [formulas.consistency(features) for features in SETS.values()]
    for of_video, value in zip(frames, known["per_video"].values(), strict=True):
        assert of_video.mean() == pytest.approx(value, abs=1e-6)
    assert formulas.pooled(frames).value == pytest.approx(known["set_one_process"], abs=1e-6)
    assert mean_score([f.mean() for f in frames]).value == pytest.approx(known["set_several_processes"], abs=1e-6)


def test_consistency_of_a_still_video_is_one_whatever_the_length_of_features():
    still = np.repeat(rng("still").standard_normal((1, 32)), 5, axis=0) * np.arange(1, 6)[:, None]
    np.testing.assert_allclose(formulas.consistency(still), 1, atol=1e-12)
    with pytest.raises(ValueError, match="got a video of one frame, give at least two"):
        formulas.consistency(still[:1])


def test_the_pooled_interval_is_that_of_a_ratio_of_videos():
    rows = [np.full(n, value) for n, value in zip((3, 5, 7, 4), (0.9, 0.8, 0.7, 0.95), strict=True)]
    score = formulas.pooled(rows)
    assert score.low < score.value < score.high
    assert score.n == 4
    equal = formulas.pooled([np.full(6, value) for value in (0.9, 0.8, 0.7)])
    plain = mean_score([0.9, 0.8, 0.7], "subject_consistency")
    np.testing.assert_allclose(equal[:4], plain[:4], atol=1e-12)  # of equally long videos it is the t-interval
    assert formulas.pooled([np.full(6, value) for value in (1.0, 1.0, 0.7)]).high == 1.0  # no interval leaves the range


def test_metrics_of_sets_cut_their_intervals_to_their_range():
    cosines = [np.ones(4), np.ones(4), np.full(4, 0.9)]
    assert METRICS["clipsim"].function(cosines).high == 1.0
    assert METRICS["clipscore"].function(cosines).high == 2.5
    assert METRICS["start_end_drift"].function([np.zeros(20), np.zeros(20), np.linspace(0, 1, 20)]).low == 0.0


def test_dynamic_degree_by_the_rule_and_without_its_traps():
    for case, known in KNOWN["dynamic_degree_rule"].items():
        size, frames = case.split(" n")
        height, width = map(int, size.split("x"))
        count, threshold = known["count_num"], known["thres"]
        for moving, verdict in known.items():
            if not moving.startswith("moving"):
                continue
            fast = {"0": 0, "count_num-1": count - 1, "count_num": count}[moving.removeprefix("moving=")]
            steps = np.full(int(frames) - 1, 0.5 * threshold)
            steps[: max(0, fast)] = 1.5 * threshold
            assert formulas.moves(steps, height, width, compat=True) is verdict, (case, moving)
        at = np.full(int(frames) - 1, threshold)
        assert formulas.moves(at, height, width, compat=True) is known["all_exactly_at_thres"]
    assert formulas.moves(np.zeros(1), 720, 1280, compat=True)
    assert not formulas.moves(np.zeros(1), 720, 1280)
    assert not formulas.moves(np.full(3, np.nan), 96, 128, compat=True)
    with pytest.raises(ValueError, match="got a flow that is not a number"):
        formulas.moves(np.full(3, np.nan), 96, 128)
    with pytest.raises(ValueError, match="got no step"):
        formulas.moves(np.zeros(0), 96, 128)


def test_the_fastest_twentieth_and_the_padding():
    flow = np.float32(3 * rng("m26/flow/shared").standard_normal((2, 96, 128)))
    assert formulas.fastest(flow.transpose(1, 2, 0)) == pytest.approx(KNOWN["dynamic_degree_max_rad"], abs=1e-6)
    for size, pads in KNOWN["InputPadder_sintel"].items():
        assert padding(*map(int, size.split("x"))) == pads
    for fps, stride in KNOWN["dynamic_degree_interval_by_fps"].items():
        assert formulas.frame_step(float(fps)) == stride


@pytest.mark.parametrize("block", [1, 3, 5, 16])
def test_steps_do_not_depend_on_blocks(block):
    video = recipe.videos()["cut16"]
    steps = Steps(lambda a, b: float(np.abs(a.astype(int) - b).mean()), stride=3)
    for start in range(0, 16, block):
        steps.take(video[start : start + block])
    kept = video[::3].astype(int)
    np.testing.assert_allclose(steps.rows()[:, 0], [np.abs(b - a).mean() for a, b in pairwise(kept)])


def test_smoothness_compares_odd_frames_with_what_their_neighbors_predict():
    def halfway(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return ((before.astype(np.float32) + after) / 2).astype(np.uint8)

    levels = np.array([0, 10, 20, 40, 40, 99])  # 10 is halfway, 40 is 10 off, the last one has no partner
    video = np.broadcast_to(levels[:, None, None, None], (6, 4, 4, 3)).astype(np.uint8)
    collector = InterpolationGap(halfway)
    for frame in video:
        collector.take(frame[None])
    np.testing.assert_allclose(collector.rows()[:, 0], [0, 10])
    assert formulas.smoothness(collector.rows()[:, 0]) == pytest.approx((255 - 5) / 255)
    with pytest.raises(ValueError, match="at least three frames"):
        formulas.smoothness(np.zeros(0))


def test_the_leaderboard_maps_its_ends_and_the_interval():
    scaled = formulas.leaderboard("motion_smoothness", Score(0.9975, 3, 0.706, 1.0))
    assert (scaled.value, scaled.low, scaled.n) == (1.0, 0.0, 3)
    assert scaled.high == pytest.approx((1 - 0.706) / 0.2915)
    assert formulas.leaderboard("overall_consistency", Score(0.182, 1)) == Score(0.5, 1)
