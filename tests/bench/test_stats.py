import random
import statistics

import pytest

from bench.stats import median_interval, median_number


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
