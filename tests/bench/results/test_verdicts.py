import math
import random
from dataclasses import replace

import pytest

from bench.results.statistics import Estimate, trimmed_mean
from bench.results.verdicts import (
    EXIT_CODES,
    Finding,
    Pair,
    count,
    equal_output,
    not_worse,
    overall,
    same_recipe,
    speed,
)


def pairs(effect, *, spread=0.01, n=30, seed=0, spoiled=0, groups=5):
    draw = random.Random(seed)
    times = [
        Pair(math.exp(draw.gauss(0, spread)), (1 + effect) * math.exp(draw.gauss(0, spread)), i % groups)
        for i in range(n)
    ]
    return [pair._replace(spoiled="throttled") if i < spoiled else pair for i, pair in enumerate(times)]


@pytest.mark.parametrize(
    ("effect", "spread", "verdict"),
    [
        (0.0, 0.01, "PASS"),
        (0.10, 0.01, "FAIL"),
        (-0.10, 0.01, "PASS"),
        (0.03, 0.01, "INCONCLUSIVE"),
        (0.0, 0.20, "INCONCLUSIVE"),
        (0.10, 0.20, "INCONCLUSIVE"),
    ],
)
def test_three_states_of_a_speed(effect, spread, verdict):
    finding = speed("cell", pairs(effect, spread=spread))
    assert finding.verdict == verdict
    assert finding.low < finding.change < finding.high
    assert finding.margin == 0.03
    assert finding.detectable > 0.03
    if verdict == "PASS":
        assert f"less than {finding.detectable:.1%} could not have been detected" in finding.reason


def test_a_scale_or_the_unit_of_time_changes_no_verdict():
    some = pairs(0.05)
    scaled = [pair._replace(base=1000 * pair.base, head=1000 * pair.head) for pair in some]
    assert speed("", scaled).change == pytest.approx(speed("", some).change)


def test_swapped_arms_swap_the_sign():
    some = pairs(0.05)
    swapped = [pair._replace(base=pair.head, head=pair.base) for pair in some]
    assert math.log1p(speed("", swapped).change) == pytest.approx(-math.log1p(speed("", some).change))


def test_spoiled_pairs_do_not_count_and_too_many_make_the_cell_invalid():
    bad = [pair._replace(head=50.0) if pair.spoiled else pair for pair in pairs(0.0, spoiled=10)]
    assert speed("", bad).verdict == "PASS"
    assert speed("", bad).n == 20
    finding = speed("", pairs(0.0, spoiled=16))
    assert finding.verdict == "INVALID"
    assert "14 of 30 pairs are good (throttled)" in finding.reason
    assert speed("", pairs(0.0, n=5)).verdict == "INVALID"


def test_a_broken_clock_is_refused():
    with pytest.raises(ValueError, match="the clock is broken"):
        speed("", [*pairs(0.0), Pair(0.0, 1.0)])
    with pytest.raises(ValueError, match="a margin is at least 0"):
        speed("", pairs(0.0), margin=-0.1)


@pytest.mark.parametrize(
    ("base", "head", "tolerance", "verdict"),
    [
        (100, 100, 0.0, "PASS"),
        (100, 101, 0.0, "FAIL"),
        (100, 101, 0.01, "PASS"),
        (100, 50, 0.0, "PASS"),
        (0, 0, 0.0, "PASS"),
        (0, 1, 0.5, "FAIL"),
        (100, None, 0.0, "INVALID"),
        (None, 100, 0.0, "INVALID"),
    ],
)
def test_counts_are_exact(base, head, tolerance, verdict):
    assert count("", "flops", base, head, tolerance=tolerance).verdict == verdict


@pytest.mark.parametrize(
    ("error", "may_change", "verdict"),
    [(0.0, False, "PASS"), (1e-6, False, "PASS"), (0.1, False, "FAIL"), (0.1, True, "PASS"), (None, True, "INVALID"),
     (math.nan, True, "FAIL")],
)  # fmt: skip
def test_outputs(error, may_change, verdict):
    assert equal_output("", error, tolerance=1e-5, may_change=may_change).verdict == verdict


@pytest.mark.parametrize(
    ("mean", "error", "better", "verdict"),
    [
        (0.0, 0.01, "lower", "PASS"),
        (0.2, 0.01, "lower", "FAIL"),
        (0.2, 0.01, "higher", "PASS"),
        (-0.2, 0.01, "higher", "FAIL"),
        (0.0, 0.2, "lower", "INCONCLUSIVE"),
        (0.1, 0.01, "lower", "INCONCLUSIVE"),
    ],
)
def test_quality_must_be_shown_to_be_no_worse(mean, error, better, verdict):
    finding = not_worse("", "fvd", Estimate(mean, error, 19, 24), margin=0.1, better=better, base=2.0)
    assert finding.verdict == verdict
    assert finding.low < finding.change == mean < finding.high
    assert finding.head == 2.0 + mean
    assert ("videos would decide, 24 were made" in finding.reason) == (verdict == "INCONCLUSIVE")


def test_quality_errs_as_seldom_as_it_says():
    draw = random.Random(0)
    passed = 0
    for _ in range(1000):  # exactly at the margin: a PASS is an error
        difference = trimmed_mean([draw.gauss(0.1, 0.3) for _ in range(40)], trim=0.0)
        passed += not_worse("", "fvd", difference, margin=0.1, better="lower").verdict == "PASS"
    assert 0.03 < passed / 1000 < 0.07


def test_a_measure_without_direction_cannot_get_worse():
    with pytest.raises(ValueError, match="no direction in which it gets worse"):
        not_worse("", "motion", Estimate(0.0, 1.0, 3, 4), margin=0.1, better="real")
    with pytest.raises(ValueError, match="above 0"):
        not_worse("", "fvd", Estimate(0.0, 1.0, 3, 4), margin=0.0, better="lower")


def test_another_recipe_is_no_speed_up():
    finding = same_recipe("", {"steps": 10, "clip": 8}, {"steps": 8, "clip": 8})
    assert finding.verdict == "INVALID"
    assert "steps was 10, is 8" in finding.reason
    assert same_recipe("", {"steps": 10}, {"steps": 10, "extra": 1}).verdict == "INVALID"
    assert same_recipe("", {"steps": 10}, {"steps": 10}).verdict == "PASS"


def test_the_worst_verdict_counts_and_nothing_measured_is_no_pass():
    fine = Finding("", "speed", "PASS", "")
    for verdict, code in EXIT_CODES.items():
        assert overall([fine, replace(fine, verdict=verdict)]) == verdict
        assert EXIT_CODES[overall([replace(fine, verdict=verdict)])] == code
    assert overall([]) == "INVALID"
    assert overall([replace(fine, verdict="INVALID"), replace(fine, verdict="FAIL")]) == "FAIL"


def test_a_finding_survives_the_way_through_a_file():
    finding = speed("cell", pairs(0.0))
    assert Finding.from_dict(finding.to_dict()) == finding
