"""Statistics of repeated measurements. Only the standard library."""

import math
import statistics
from collections.abc import Sequence

from bench.record import Better, Number


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Two samples that enclose the true median with at least this confidence, or None: too few samples for it.

    The k-th smallest and k-th largest of n independent samples enclose the median with probability
    1 - 2 P(Binomial(n, 1/2) < k), whatever the distribution. For 95 % it takes 6 samples.
    """
    ordered = sorted(samples)
    n = len(ordered)
    outside = 0.0
    best = None
    for k in range(1, n // 2 + 1):
        outside += 2 * math.comb(n, k - 1) / 2**n
        if outside > 1 - confidence:
            break
        best = (ordered[k - 1], ordered[n - k])
    return best


def median_number(samples: Sequence[float], unit: str, better: Better | None, per: float | int = 1) -> Number:
    """The median of the samples, divided by `per`, with its interval.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("a median needs at least one sample")
    low, high = median_interval(samples) or (None, None)
    return Number(
        value=statistics.median(samples) / per,
        unit=unit,
        better=better,
        n=len(samples),
        low=None if low is None else low / per,
        high=None if high is None else high / per,
    )
