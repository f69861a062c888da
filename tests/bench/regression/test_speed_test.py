import math
import random
from collections import Counter

import pytest

from bench.regression.speed_test import Look, SpeedTest, look
from bench.results.verdicts import Pair


def pairs(draw, effect, group, *, spread=0.03, offset=0.02, n=2):
    own = draw.gauss(0, offset)
    return [Pair(1.0, (1 + effect) * math.exp(own + draw.gauss(0, spread)), group) for _ in range(n)]


def gate(draw, effects, *, most=12, margin=0.03):
    """The verdict on each of several cells."""
    tests = [SpeedTest(str(i), margin) for i in range(len(effects))]
    for group in range(most):
        for test, effect in zip(tests, effects, strict=True):
            if not test.decided:
                test.pairs += pairs(draw, effect, group)
        look(tests, (group + 1) / most, among=len(tests))
    return [test.finding.verdict for test in tests]


def test_errors_at_the_margin_are_as_rare_as_promised():
    """The processes differ, which a test of single pairs would take for certainty."""
    draw = random.Random(0)
    verdicts = Counter(verdict for _ in range(150) for verdict in gate(draw, [0.03]))
    assert verdicts["FAIL"] / 150 <= 0.04
    assert 0.01 <= verdicts["PASS"] / 150 <= 0.11


def test_a_fail_leaves_its_part_of_the_error_to_the_others():
    """At the second cell's evidence alone, .005 (of two cells) is missed and .01 (when the other has failed) is met."""
    values = [0.030, 0.041, 0.033, 0.042, 0.036, 0.0395]
    close = [Pair(1.0, math.exp(value), group) for group, value in enumerate(values)]
    assert 0.005 < _p(close) < 0.01
    sure = [pair._replace(head=2 * pair.head) for pair in close]
    alone = [SpeedTest("a", 0.03, close), SpeedTest("b", 0.03, list(close))]
    look(alone, 1.0, among=2)
    assert [test.finding.verdict for test in alone] == ["INCONCLUSIVE"] * 2
    beside = [SpeedTest("a", 0.03, close), SpeedTest("b", 0.03, sure)]
    look(beside, 1.0, among=2)
    assert [test.finding.verdict for test in beside] == ["FAIL", "FAIL"]


def test_no_look_before_three_processes_except_the_last():
    test = SpeedTest("", 0.03)
    draw = random.Random(2)
    for group in range(2):
        test.pairs += pairs(draw, 0.0, group)
        assert not test.look((group + 1) / 8)
    test.pairs += pairs(draw, 0.0, 2)
    assert test.look(3 / 8)
    assert test.looks == [Look(3, 3 / 8)]
    assert test.look(1.0)  # the next pair of processes was lost: the same data, seen for the last time
    assert test.looks == [Look(3, 1.0)]


def test_spoiled_pairs_are_no_witnesses_and_a_verdict_is_final():
    draw = random.Random(3)
    test = SpeedTest("", 0.03, [pair for group in range(12) for pair in pairs(draw, 0.2, group, spread=0.001)])
    spoiled = [pair._replace(spoiled="throttled") if pair.group < 10 else pair for pair in test.pairs]
    assert not SpeedTest("", 0.03, spoiled).look(0.5)
    look([test], 0.5, among=1)
    first = test.finding
    assert first.verdict == "FAIL"
    test.pairs += [Pair(2.0, 1.0, group) for group in range(20, 40)]
    look([test], 1.0, among=1)
    assert test.finding is first


def _p(some):
    test = SpeedTest("", 0.03, some)
    test.look(1.0)
    test.judge(0.01)
    return test.finding.p


def test_nothing_measured_is_no_verdict():
    test = SpeedTest("", 0.03)
    look([test], 1.0, among=1)
    assert test.finding.verdict == "INVALID"
    assert not test.decided


@pytest.mark.parametrize("most", [1, 2])
def test_few_processes_are_pooled_and_seen_once(most):
    draw = random.Random(4)
    tests = [SpeedTest("", 0.03, [p for g in range(most) for p in pairs(draw, 0.3, g, offset=0.0, n=8)])]
    look(tests, 1.0, among=1)
    assert tests[0].finding.verdict == "FAIL"
    assert tests[0].finding.n == 8 * most
