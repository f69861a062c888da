import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from bench.results.sequential import level, spent


def bounds(spending, information=(1, 2, 3, 4)):
    """The boundaries of the looks, as standard normal quantiles."""
    return [-float(ndtri(level(information[:k], spending[:k]))) for k in range(1, len(spending) + 1)]


def test_the_boundaries_are_the_published_ones():
    """Four equal looks at a one-sided .025: tables of Lan and DeMets's spending functions."""
    late = [float(2 * ndtr(-ndtri(1 - 0.0125) / math.sqrt(k / 4))) for k in (1, 2, 3, 4)]
    assert bounds(late) == pytest.approx([4.333, 2.963, 2.359, 2.014], abs=1e-3)
    evenly = [0.025 * math.log(1 + (math.e - 1) * k / 4) for k in (1, 2, 3, 4)]
    assert bounds(evenly) == pytest.approx([2.368, 2.368, 2.358, 2.350], abs=1e-3)


def test_one_look_spends_everything_and_the_unit_of_information_does_not_matter():
    assert level([7], [0.01]) == pytest.approx(0.01)
    assert level([3, 9], [0.002, 0.01]) == pytest.approx(level([1, 3], [0.002, 0.01]))


def test_many_unequal_looks_err_as_often_as_one():
    information = np.array([3, 4, 5, 8, 9, 20, 21, 40])
    spending = [spent(n / 40, 0.05) for n in information]
    limits = np.array(bounds(spending, tuple(information.tolist()))) * np.sqrt(information)
    random = np.random.default_rng(0)
    scores = np.cumsum(random.normal(0, np.sqrt(np.diff(information, prepend=0)), (200_000, 8)), axis=1)
    crossed = np.maximum.accumulate(scores > limits, axis=1).mean(axis=0)
    assert crossed == pytest.approx(spending, abs=3e-3)


def test_spending_ends_where_the_data_do():
    assert spent(0.0, 0.05) == 0.0
    assert spent(1.0, 0.05) == spent(1.5, 0.05) == 0.05
    assert spent(0.25, 0.05) < spent(0.5, 0.05) < 0.05


@pytest.mark.parametrize(
    ("information", "spending", "match"),
    [([1, 1], [0.01, 0.02], "information grows"), ([1, 2], [0.01, 0.01], "spending grows"), ([1], [0.0], "spending")],
)
def test_looks_without_anything_new_are_refused(information, spending, match):
    with pytest.raises(ValueError, match=match):
        level(information, spending)
