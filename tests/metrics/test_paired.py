"""Differences of two sets of the same prompts and seeds."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from metrics.distribution.frechet import GaussianFactor, frechet_distance
from metrics.distribution.fvd import frechet_score
from metrics.paired import difference_of_scores, matched_frechet_difference, paired_difference


def fvd(real, rows):
    return frechet_distance(GaussianFactor.of(real), GaussianFactor.of(rows))


def two_methods(seed: int, step: float = 0.3, n: int = 100):
    """Rows of two methods that share what prompt and seed do, the second set off by a small step."""
    random = np.random.default_rng(seed)
    shared = 3 * random.standard_normal((n, 4))
    real = 3 * random.standard_normal((n, 4))
    first, second = (shared + 0.2 * random.standard_normal((n, 4)) + 1 for _ in range(2))
    return real, first, second + step


def test_of_means_it_is_the_paired_t_interval():
    random = np.random.default_rng(0)
    first = random.standard_normal(20)
    second = first + 0.1 * random.standard_normal(20) + 0.2
    score = paired_difference(np.mean, first, second)
    low, high = ttest_rel(second, first).confidence_interval()
    assert score.value == pytest.approx((second - first).mean(), rel=1e-12)
    assert (score.low, score.high) == pytest.approx((low, high), rel=1e-9)
    assert score.n == 20


def test_pairing_tells_methods_apart_that_two_intervals_do_not():
    real, first, second = two_methods(0)
    score = paired_difference(fvd, first, second, real=real)
    assert score.low > 0
    assert score.value == pytest.approx(fvd(real, second) - fvd(real, first), rel=1e-9)
    one, other = frechet_score(real, first), frechet_score(real, second)
    assert one.high > other.low  # the two intervals overlap
    assert score.high - score.low < 0.5 * (one.high - one.low)


def test_the_interval_holds_the_mean_difference_as_often_as_it_says():
    trials = [paired_difference(fvd, *two_methods(seed)[1:], real=two_methods(seed)[0]) for seed in range(40)]
    mean = np.mean([trial.value for trial in trials])
    assert np.mean([trial.low <= mean <= trial.high for trial in trials]) >= 0.85


def test_equal_sets_differ_by_nothing_and_turning_them_round_turns_the_sign():
    real, first, second = two_methods(1)
    assert paired_difference(fvd, first, first, real=real)[:1] == (0,)
    there, back = paired_difference(fvd, first, second, real=real), paired_difference(fvd, second, first, real=real)
    assert back.value == pytest.approx(-there.value, rel=1e-9)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), rel=1e-9)


def test_rows_of_one_prompt_stay_together():
    random = np.random.default_rng(0)
    prompts = np.repeat(np.arange(25), 8)
    difference = np.repeat(random.standard_normal(25), 8)
    first = random.standard_normal(200)
    blind = paired_difference(np.mean, first, first + difference)
    aware = paired_difference(np.mean, first, first + difference, groups=prompts)
    assert aware.value == blind.value
    assert aware.high - aware.low > 1.8 * (blind.high - blind.low)


def test_stored_replicates_make_the_same_difference():
    real, first, second = two_methods(2)
    one, other = frechet_score(real, first), frechet_score(real, second)
    paired = difference_of_scores(one, other, paired=[True, True])
    live = paired_difference(fvd, first, second, real=real)
    assert paired[:4] == pytest.approx(live[:4], rel=1e-9)
    reals = [b - a for a, b in zip(one.replicates[0], other.replicates[0], strict=True)]
    assert live.replicates[0] == pytest.approx(reals, rel=1e-9)  # the real side comes first
    assert paired_difference(fvd, first, second, real=real[:2]).low is None
    apart = difference_of_scores(one, other, paired=[True, False])
    assert apart.value == paired.value
    assert apart.high - apart.low > 2 * (paired.high - paired.low)


def test_sets_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="same prompts in the same order in both sets: got 3 and 4 rows"):
        paired_difference(np.mean, np.zeros(3), np.zeros(4))
    assert paired_difference(np.mean, np.zeros(2), np.ones(2)) == (1, 2, None, None, ())
    real, first, second = two_methods(3, n=10)
    one, other = frechet_score(real, first), frechet_score(real, second[:8])
    with pytest.raises(ValueError, match="same groups in both scores: got 10 and 8 groups"):
        difference_of_scores(one, other, paired=[True, True])


def test_a_difference_of_distances_of_the_same_captions_cancels_what_the_sets_share():
    rng = np.random.default_rng(0)
    real, base = rng.standard_normal((400, 6)), rng.standard_normal((200, 6))
    captions = np.arange(400) % 200, np.arange(200), np.arange(200)
    score = matched_frechet_difference(real, base + 0.3, base + 0.4, *captions)
    assert score.low > 0  # `first` is nearer
    assert score.n == 200
    assert len(score.replicates[0]) == 20
    assert score.value == pytest.approx(6 * (0.16 - 0.09), abs=0.25)
    assert score.value == frechet_score(real, base + 0.4).value - frechet_score(real, base + 0.3).value
    swapped = matched_frechet_difference(real, base + 0.4, base + 0.3, *captions)
    assert swapped.value == pytest.approx(-score.value)
    same = matched_frechet_difference(real, base, base, *captions)
    assert same.value == same.low == same.high == 0
    two = matched_frechet_difference(real[:2], base[:2], base[2:4], *(number[:2] for number in captions))
    assert (two.low, two.replicates) == (None, ([],))
    more = np.arange(400) % 210  # real video of captions that the others lack
    assert matched_frechet_difference(real, base + 0.3, base + 0.4, more, *captions[1:]).n == 210
