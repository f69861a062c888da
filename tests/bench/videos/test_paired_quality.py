import numpy as np
import pytest

from bench.results.verdicts import overall
from bench.videos.paired_quality import CAPTION_MARGIN, FVD_MARGIN, ClassifierOutput, compare_videos, paired_fvd
from metrics.distribution.frechet import Gaussian, frechet_distance
from vidrd.pocket.world import TEST_SEEDS, draw_scene, render

N, F = 48, 6
CAPTIONS = np.arange(N)


def sets(shift, seed=0, own=0.3):
    """Real features, and two sets that share most of their noise; the second one is shifted."""
    random = np.random.default_rng(seed)
    real = random.normal(size=(N * 5, F))
    shared = random.normal(size=(N, F)) + 0.5
    base, head = (shared + own * random.normal(size=(N, F)) for _ in range(2))
    seen = [ClassifierOutput(rows, CAPTIONS, np.zeros(N)) for rows in (base, head + shift)]
    return real, np.arange(N * 5) % N, *seen


def test_the_difference_is_that_of_the_distances():
    real, caption, base, head = sets(0.4)
    difference, level = paired_fvd(real, caption, base, head)
    distances = [frechet_distance(Gaussian.of(real), Gaussian.of(side.embedding)) for side in (base, head)]
    assert level == pytest.approx(distances[0])
    assert difference.mean == pytest.approx(distances[1] - distances[0])
    assert difference.n == N


def test_the_error_is_the_spread_of_the_difference_over_draws():
    found = [paired_fvd(*sets(0.2, seed))[0] for seed in range(60)]
    spread = np.std([each.mean for each in found], ddof=1)
    assert 0.7 < np.mean([each.error for each in found]) / spread < 1.6


def test_pairing_makes_the_difference_sharper_than_a_distance():
    near = paired_fvd(*sets(0.1, own=0.05))[0]
    apart = paired_fvd(*sets(0.1, own=2.0))[0]
    assert near.error < apart.error / 3


def test_equal_sets_differ_by_nothing():
    real, caption, base, _ = sets(0.0)
    difference, _ = paired_fvd(real, caption, base, base)
    assert difference.mean == difference.error == 0


def test_too_few_captions_are_refused():
    real, caption, base, head = sets(0.0)
    few = [side._replace(embedding=side.embedding[:2], source=CAPTIONS[:2]) for side in (base, head)]
    with pytest.raises(ValueError, match="at least 3 captions: got 2"):
        paired_fvd(real[:2], caption[:2], *few)


def test_real_videos_pass_against_themselves_and_fail_as_noise():
    """The shipped judge: real videos of the captions, noisier ones, and videos of other captions."""
    count = 16
    scenes = [draw_scene(TEST_SEEDS[i]) for i in range(count)]
    real = render(scenes, 16)
    noisy = np.clip(real + np.random.default_rng(0).normal(0, 40, real.shape), 0, 255).astype(np.uint8)
    same = compare_videos("cell", real, real, window=16)
    assert {finding.measure for finding in same} == {"fvd", "caption"}
    assert overall(same) == "PASS"
    worse = {finding.measure: finding for finding in compare_videos("cell", real, noisy, window=16)}
    assert worse["fvd"].verdict == "FAIL"
    assert worse["fvd"].margin == pytest.approx(FVD_MARGIN * worse["fvd"].base)
    others = compare_videos("cell", real, real[::-1].copy(), window=16)
    caption = next(finding for finding in others if finding.measure == "caption")
    assert (caption.verdict, caption.margin) == ("FAIL", CAPTION_MARGIN)
    assert 0.9 < caption.base <= 1.0
