import pytest

from bench.results.verdicts import Pair
from bench.studies.harness_overhead import verdict_on


def pairs(bare, more):
    """Pairs that agree up to a little noise."""
    return [Pair(bare * (1 + noise), (bare + more) * (1 - noise)) for noise in (0, 1e-4, -1e-4, 2e-4, -2e-4, 0) * 3]


@pytest.mark.parametrize(
    ("bare", "more", "margin", "verdict"),
    [
        (0.1, 0.004, 0.05, "PASS"),  # 4 % of a short batch are less than 5 ms
        (0.1, 0.007, 0.05, "FAIL"),
        (5.0, 0.040, 0.01, "PASS"),  # 40 ms of a long batch are less than 1 %
        (5.0, 0.080, 0.01, "FAIL"),
    ],
)
def test_the_goal_is_the_larger_of_a_share_and_a_time(bare, more, margin, verdict):
    found = verdict_on(pairs(bare, more))
    assert found.margin == pytest.approx(margin, rel=1e-3)
    assert found.verdict == verdict
