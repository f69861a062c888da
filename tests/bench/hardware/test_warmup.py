import pytest

from bench.hardware.warmup import until_flat


def times(*seconds):
    left = list(seconds)
    return lambda: left.pop(0)


def test_it_stops_when_the_last_runs_agree():
    warm_up = until_flat(times(9.0, 4.0, 1.0, 1.02, 1.01, 1.0, 1.0))
    assert warm_up == ((9.0, 4.0, 1.0, 1.02, 1.01), True)


def test_a_compiled_network_is_not_warm_before_its_third_call():
    assert until_flat(times(1.0, 1.0, 1.0, 1.0), window=2).seconds == (1.0, 1.0, 1.0)


def test_a_restless_machine_is_said_to_be_one():
    warm_up = until_flat(times(*([1.0, 2.0] * 10)), most=7)
    assert (len(warm_up.seconds), warm_up.flat) == (7, False)
    assert until_flat(times(40.0, 40.0, 40.0), budget=60.0).seconds == (40.0, 40.0)


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="window <= most"):
        until_flat(times(1.0), window=5, most=4)
