"""Requests that arrive by their own clock, whoever is still waiting, and servers that take them in batches.

Latencies count from the scheduled arrival, so a slow answer delays no later request out of the statistics (no
coordinated omission). The same loop runs on a simulated clock, with service times that were measured, and on the real
one, where `serve` sleeps and works.
"""

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

BURSTY_SHAPE = 0.25  # of the gamma distribution of gaps: their standard deviation is twice their mean
SHAPES = {"poisson": 1.0, "bursty": BURSTY_SHAPE}
Times = Float[np.ndarray, "N"]  # seconds


class LoadOutcome(NamedTuple):
    """What became of every request, in the order of their arrivals.

    Args:
        arrivals: when it came.
        begins: when its batch began.
        ends: when its batch was done; infinite if it failed.
        sizes: of the batches, in their order.
    """

    arrivals: Times
    begins: Times
    ends: Times
    sizes: tuple[int, ...] = ()

    @property
    def latencies(self) -> Times:
        """Seconds from arrival to end; infinite for what failed."""
        return self.ends - self.arrivals

    @property
    def waits(self) -> Times:
        """Seconds from arrival until its batch began."""
        return self.begins - self.arrivals

    def percentile(self, percent: float | int) -> float:
        """Of the latencies, the failed ones among them: infinite where so many failed. The nearest rank."""
        return float(np.percentile(self.latencies, percent, method="inverted_cdf"))

    def goodput(self, limit: float | int) -> float:
        """Requests per second that were answered within `limit` seconds, over the time until the last answer."""
        done = self.ends[np.isfinite(self.ends)]
        return float((self.latencies <= limit).sum() / done.max()) if len(done) else 0.0


def arrivals(rate: float | int, requests: int, kind: str = "poisson", seed: int = 0) -> Times:
    """The times at which so many requests come, `rate` of them a second on average.

    The gaps are gamma-distributed: "poisson" has shape 1, "bursty" `BURSTY_SHAPE`.
    """
    shape = SHAPES[kind]
    gaps: Times = np.random.default_rng(seed).gamma(shape, 1 / (rate * shape), requests)
    return np.cumsum(gaps)


def run_queue(
    times: Sequence[float] | Times,
    serve: Callable[[float, int, int, int], float],
    *,
    batch: int = 1,
    window: float | int = 0.0,
    servers: int = 1,
) -> LoadOutcome:
    """First come, first served, by whichever server is free first.

    Args:
        times: arrivals in seconds, ascending.
        serve: does a batch and returns when it was done; is given when it begins, its first request, how many there
            are, and the number of its server.
        batch: the most requests of a batch.
        window: seconds that the first request of a batch waits for others to fill it.
        servers: how many batches may be served at a time.
    """
    arrived = [float(time) for time in times]
    count = len(arrived)
    begins, ends, sizes = np.empty(count), np.empty(count), list[int]()
    free = [(0.0, server) for server in range(servers)]
    first = 0
    while first < count:
        ready, server = heapq.heappop(free)
        last = first + batch - 1
        patience = arrived[first] + window
        full = min(arrived[last], patience) if last < count else patience
        begin = max(ready, arrived[first], full)
        size = min(bisect_right(arrived, begin, first), first + batch) - first
        end = serve(begin, first, size, server)
        begins[first : first + size], ends[first : first + size] = begin, end
        sizes.append(size)
        heapq.heappush(free, (end, server))
        first += size
    return LoadOutcome(np.array(arrived), begins, ends, tuple(sizes))


class ServiceTimes(NamedTuple):
    """What a pipeline takes, as it was measured: seconds.

    Args:
        load: of the weights.
        cold: of the first batch after loading, of one video.
        warm: size of a batch -> of several batches.
    """

    load: float
    cold: float
    warm: dict[int, list[float]]

    def capacity(self, servers: int = 1) -> float:
        """Videos per second in full batches."""
        largest = max(self.warm)
        return servers * largest / float(np.mean(self.warm[largest]))


def simulate(
    times: Times,
    service: ServiceTimes,
    *,
    window: float | int = 0.0,
    servers: int = 1,
    cold: bool = False,
    seed: int = 0,
) -> LoadOutcome:
    """The queue on a simulated clock: every batch takes one of the times measured for its size, drawn at random.

    Args:
        times: arrivals in seconds.
        service: batches are at most as large as the largest that was measured.
        window: as in `run_queue`.
        servers: pipelines side by side, each as fast as the one that was measured.
        cold: every server begins its first batch by loading.
        seed: of the drawing.
    """
    lot, waiting = np.random.default_rng(seed), set(range(servers)) if cold else set[int]()

    def serve(begin: float, first: int, size: int, server: int) -> float:
        taken = float(lot.choice(service.warm[size]))
        if server in waiting:
            waiting.remove(server)
            taken = service.load + max(service.cold, taken)
        return begin + taken

    return run_queue(times, serve, batch=max(service.warm), window=window, servers=servers)
