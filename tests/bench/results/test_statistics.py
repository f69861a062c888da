import random
import statistics

import numpy as np
import pytest
import scipy.stats

from bench.results.statistics import (
    Estimate,
    clustered_mean,
    holm,
    median_interval,
    median_number,
    minimum_detectable,
    samples_needed,
    trimmed_mean,
)


def test_six_samples_are_the_fewest_for_95_percent():
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]) == (1.0, 6.0)
    assert median_interval([float(i) for i in range(1, 10)]) == (
        2.0,
        8.0,
    )  # 1 - 2 (1 + 9) / 512 = 0.961; one further in: 0.820
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0], confidence=0.9) == (1.0, 5.0)


def test_the_interval_holds_the_median_as_often_as_it_says():
    draw = random.Random(0)
    for n in (6, 9, 20):
        inside = 0
        for _ in range(2000):
            low, high = median_interval([draw.lognormvariate(0, 1) for _ in range(n)])
            inside += low <= 1.0 <= high
        assert 0.94 <= inside / 2000 <= 0.995


def test_the_number_is_the_median_per_thing():
    samples = [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    number = median_number(samples, "s", "lower", per=2.0)
    assert number.value == statistics.median(samples) / 2 == 3.5
    assert (number.low, number.high, number.n, number.unit) == (1.0, 6.0, 6, "s")
    assert median_number([1.0, 5.0], "s", "lower").low is None


def test_a_median_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        median_number([], "s", "lower")


def test_the_trimmed_mean_is_scipys_and_its_error_yuens():
    draw = random.Random(1)
    values = [draw.gauss(1, 2) for _ in range(23)]
    estimate = trimmed_mean(values)
    assert estimate.mean == pytest.approx(scipy.stats.trim_mean(values, 0.2))
    assert (estimate.n, estimate.df) == (23, 23 - 2 * 4 - 1)
    winsorized = scipy.stats.mstats.winsorize(np.array(values), limits=(4.5 / 23, 4.5 / 23))
    assert estimate.error == pytest.approx(float(winsorized.std(ddof=1)) / (0.6 * 23**0.5))


def test_wild_values_do_not_move_the_trimmed_mean():
    calm = [0.01 * i for i in range(20)]
    wild = [*calm[:-3], 50.0, 60.0, 70.0]
    assert trimmed_mean(wild) == pytest.approx(trimmed_mean(calm))


def test_the_interval_of_the_trimmed_mean_holds_the_truth_as_often_as_it_says():
    draw = random.Random(2)
    missed = 0
    for _ in range(1500):
        estimate = trimmed_mean([draw.gauss(0, 1) + (draw.random() < 0.1) * draw.gauss(0, 10) for _ in range(30)])
        missed += not estimate.low(0.05) <= 0 <= estimate.high(0.05)
    assert missed / 1500 < 0.12


def test_groups_are_the_witnesses():
    draw = random.Random(3)
    apart = [draw.gauss(0, 0.1) + offset for offset in (-2, 0, 1, 2) for _ in range(8)]
    groups = [name for name in "abcd" for _ in range(8)]
    estimate = clustered_mean(apart, groups)
    assert (estimate.df, estimate.n) == (3, 32)
    means = [scipy.stats.trim_mean(apart[i : i + 8], 0.2) for i in range(0, 32, 8)]
    assert estimate.mean == pytest.approx(statistics.fmean(means))
    assert estimate.error == pytest.approx(statistics.stdev(means) / 2)
    assert estimate.error > 1.5 * trimmed_mean(apart).error
    assert clustered_mean(apart, ["a"] * 16 + ["b"] * 16) == trimmed_mean(apart)


def test_one_wild_value_of_a_group_does_not_move_its_mean():
    groups = [name for name in "abcd" for _ in range(6)]
    calm = [0.01 * (i % 6) for i in range(24)]
    wild = [50.0 if i == 5 else value for i, value in enumerate(calm)]
    assert clustered_mean(wild, groups) == clustered_mean(calm, groups)


def test_p_and_bounds_tell_the_same():
    estimate = Estimate(0.05, 0.01, 17, 30)
    assert estimate.p_above(estimate.low(0.01)) == pytest.approx(0.01)
    assert estimate.low(0.01) < estimate.mean < estimate.high(0.01)
    exact = Estimate(0.05, 0.0, 17, 30)
    assert (exact.p_above(0.03), exact.p_above(0.05)) == (0.0, 1.0)


def test_minimum_detectable_effects_of_the_usual_machines():
    for spread, n, beyond in ((0.4, 20, 0.32), (6, 30, 4.0), (12, 30, 7.9), (6, 100, 2.2)):
        assert minimum_detectable(1.0, spread / n**0.5) - 1.0 == pytest.approx(beyond, abs=0.06)


def test_samples_that_a_margin_takes():
    assert samples_needed(2048, 0.6, 2.0) == 1579
    with pytest.raises(ValueError, match="no number of samples"):
        samples_needed(10, 1.0, 2.0, expected=2)


def test_holm_is_as_published():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_trimmed_mean_needs_finite_values_and_enough():
    with pytest.raises(ValueError, match="keeps at least 2 values; of 1"):
        trimmed_mean([1.0])
    with pytest.raises(ValueError, match="finite"):
        trimmed_mean([1.0, 2.0, float("nan"), 3.0])
