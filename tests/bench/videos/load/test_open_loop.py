"""The queue against theory, and what would bend its latencies."""

import math

import numpy as np
import pytest

from bench.results.statistics import trimmed_mean
from bench.videos.load.open_loop import ServiceTimes, arrivals, run_queue, simulate


def fixed(seconds):
    return lambda begin, first, size, server: begin + seconds


@pytest.mark.parametrize("busy", [0.3, 0.7])
def test_the_mean_wait_is_that_of_m_d_1(busy):
    """Pollaczek and Khinchine: with Poisson arrivals and a service of D seconds, busy D / (2 (1 - busy)) seconds."""
    seconds, requests, runs = 2.0, 2000, 12
    waits = [
        run_queue(arrivals(busy / seconds, requests, seed=seed), fixed(seconds)).waits[requests // 10 :].mean()
        for seed in range(runs)
    ]
    mean, expected = trimmed_mean(waits, 0.0), busy * seconds / (2 * (1 - busy))
    assert mean.low(0.005) < expected < mean.high(0.005)
    assert mean.error < 0.1 * expected


def test_gaps_have_their_mean_and_spread():
    for kind, spread in (("poisson", 1.0), ("bursty", 2.0)):
        gaps = np.diff(arrivals(4.0, 50_000, kind, seed=1))
        assert gaps.mean() == pytest.approx(0.25, rel=0.05)
        assert gaps.std() / gaps.mean() == pytest.approx(spread, rel=0.05)
    assert (arrivals(4.0, 9, seed=3) == arrivals(4.0, 9, seed=3)).all()


def test_bursts_wait_longer_and_a_second_server_shortens_the_wait():
    def wait(kind, servers):
        return np.mean([
            run_queue(arrivals(0.7, 1000, kind, seed), fixed(1.0), servers=servers).waits.mean() for seed in range(3)
        ])  # fmt: skip

    assert wait("bursty", 1) > 2 * wait("poisson", 1) > 6 * wait("poisson", 2)


def test_a_stall_counts_for_all_who_came_meanwhile():
    """A closed loop would send the second request after the first answer, and see one slow answer of ten."""
    served = run_queue(np.arange(1.0, 11.0), lambda begin, first, size, server: begin + (5.0 if first == 0 else 0.1))
    np.testing.assert_allclose(served.latencies[:6], [5.0, 4.1, 3.2, 2.3, 1.4, 0.5])
    np.testing.assert_allclose(served.latencies[6:], 0.1)
    assert served.percentile(50) == pytest.approx(0.5)
    assert served.percentile(99) == 5.0
    assert served.goodput(1.0) == pytest.approx(5 / 10.1)


def test_a_batch_waits_for_its_window_or_until_it_is_full():
    waiting = run_queue([0.0, 1.0, 1.5, 9.0], fixed(1.0), batch=2, window=3.0)
    assert (waiting.sizes, waiting.begins.tolist()) == ((2, 1, 1), [1.0, 1.0, 4.5, 12.0])
    at_once = run_queue([0.0, 0.5, 0.8, 9.0], fixed(1.0), batch=2)
    assert (at_once.sizes, at_once.begins.tolist()) == ((1, 2, 1), [0.0, 1.0, 1.0, 9.0])


def test_a_cold_server_loads_before_its_first_batch():
    service = ServiceTimes(load=10.0, cold=3.0, warm={1: [1.0], 2: [1.5]})
    times = np.array([0.0, 0.1, 20.0, 40.0])
    cold = simulate(times, service, servers=2, cold=True)
    np.testing.assert_allclose(cold.latencies, [13.0, 13.0, 1.0, 1.0])
    np.testing.assert_allclose(simulate(times, service, servers=2).latencies, 1.0)
    assert service.capacity(servers=2) == pytest.approx(2 * 2 / 1.5)


def test_a_request_that_failed_is_the_slowest_and_no_goodput():
    served = run_queue([0.0, 10.0], lambda begin, first, size, server: math.inf if first else begin + 1)
    assert served.percentile(50) == 1.0
    assert served.percentile(99) == math.inf
    assert served.goodput(5.0) == 1.0
