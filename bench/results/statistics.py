"""Statistics of repeated measurements, and of comparisons between two of them.

Everything about a comparison of speeds is in the natural logarithm of ratios, where "10 % slower" and "10 % faster" are
equally far from no change.
"""

import math
import statistics
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from scipy.special import ndtri, stdtr, stdtrit

from bench.results.records import Better, Number

TRIM = 0.2  # share of the values that the trimmed mean leaves out at either end
FEWEST_GROUPS = 3  # of which each is one value


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


class Estimate(NamedTuple):
    """A mean, its standard error, and the number of values that it comes from.

    Args:
        error: standard error of the mean.
        df: degrees of freedom of Student's t.
        n: values.
    """

    mean: float
    error: float
    df: int
    n: int

    def low(self, alpha: float) -> float:
        """The true mean is below this with probability `alpha`."""
        return self.mean - float(stdtrit(self.df, 1 - alpha)) * self.error

    def high(self, alpha: float) -> float:
        """The true mean is above this with probability `alpha`."""
        return self.mean + float(stdtrit(self.df, 1 - alpha)) * self.error

    def p_above(self, limit: float) -> float:
        """Probability of a mean this high, or higher, if the true one were `limit`."""
        if self.error == 0:
            return float(self.mean <= limit)
        return float(stdtr(self.df, (limit - self.mean) / self.error))


def trimmed_mean(values: Sequence[float], trim: float = TRIM) -> Estimate:
    """The mean without the lowest and the highest `trim` of the values, with Yuen's standard error.

    The error is that of the winsorized values (those left out count as the outermost that are kept), divided by
    (1 - 2 trim) sqrt(n); degrees of freedom are n - 2 floor(trim n) - 1. A few wild values, of which shared machines
    have many, move neither.

    Raises:
        ValueError: fewer than 2 values are kept, or one is not finite.

    Source: Tukey and McLaughlin 1963; Yuen 1974.
    """
    n, cut = len(values), math.floor(trim * len(values))
    kept = _kept(values, trim)
    if len(kept) < 2:
        raise ValueError(f"a trimmed mean keeps at least 2 values; of {n}, trimmed by {trim:g}, it keeps {len(kept)}")
    if not all(map(math.isfinite, values)):
        raise ValueError("a trimmed mean is one of finite values; some of these are not")
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    center = statistics.fmean(winsorized)
    spread = math.sqrt(math.fsum((value - center) ** 2 for value in winsorized) / (n - 1))
    error = spread / ((1 - 2 * trim) * math.sqrt(n))
    return Estimate(statistics.fmean(kept), error, len(kept) - 1, n)


def _kept(values: Sequence[float], trim: float) -> list[float]:
    cut = math.floor(trim * len(values))
    return sorted(values)[cut : len(values) - cut]


def jackknifed(value: float, sides: Sequence[Sequence[float]], n: int) -> Estimate:
    """A statistic with the error that the delete-a-group jackknife gives it.

    Each of `sides` is one independent sample and holds the statistic with one of its G groups left out at a time; the
    variance is the sum over samples of (G - 1)/G sum (replicate - their mean)^2.

    Raises:
        ValueError: no sample, or one of fewer than 3 groups.
    """
    fewest = min(map(len, sides), default=0)
    if fewest < 3:
        raise ValueError(f"a jackknife leaves out at least 3 groups of every sample in turn; of one it left {fewest}")
    variance = sum((len(side) - 1) * statistics.pvariance(side) for side in sides)
    return Estimate(value, math.sqrt(variance), fewest - 1, n)


def clustered_mean(values: Sequence[float], groups: Sequence[Hashable]) -> Estimate:
    """The mean of the groups' trimmed means (groups: the pairs of one pair of processes).

    Where a process was put in memory may make it faster or slower as long as it lives: many pairs of it are then not so
    many witnesses, so each group is one value. Fewer than three groups are pooled.

    Raises:
        ValueError: as `trimmed_mean`.
    """
    members: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(value)
    if len(members) < FEWEST_GROUPS:
        return trimmed_mean(values)
    means = [statistics.fmean(_kept(each, TRIM)) for each in members.values()]
    return trimmed_mean(means, trim=0.0)._replace(n=len(values))


def minimum_detectable(margin: float, error: float, *, alpha: float = 0.01, power: float = 0.9) -> float:
    """The effect that a test against `margin` detects with probability `power`: margin + (z_1-alpha + z_power) error.

    `margin` and `error` are in one unit, logarithms of ratios for speeds; so is the result.
    """
    return margin + float(ndtri(1 - alpha) + ndtri(power)) * error


def samples_needed(
    n: int,
    error: float,
    margin: float,
    *,
    expected: float | int = 0,  # the true difference, as far as one can guess
    alpha: float = 0.05,
    power: float = 0.9,
) -> int:
    """How many samples show with probability `power` that a difference is below `margin`.

    `error` is the standard error that `n` samples had; all in one unit.

    Raises:
        ValueError: the expected difference is no smaller than the margin, which no number of samples can show.
    """
    if expected >= margin:
        raise ValueError(f"no number of samples shows a difference of {expected:g} to be below {margin:g}")
    return math.ceil(n * (float(ndtri(1 - alpha) + ndtri(power)) * error / (margin - expected)) ** 2)


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of several tests, adjusted so that all of them together err as seldom as one would.

    Source: Holm 1979.
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def ratio(slow: Sequence[float], fast: Sequence[float], factor: float | int = 1) -> Number:
    """How many times faster, from rounds that both took part in: trimmed mean of logarithms, 95 % interval."""
    pairs = list(zip(slow, fast, strict=False))
    logs = [math.log(factor * a / b) for a, b in pairs]
    if len(logs) < 2:
        return Number(math.exp(logs[0]), "x", "higher")
    mean_log: Estimate = trimmed_mean(logs)
    low, high = (math.exp(end(0.025)) for end in (mean_log.low, mean_log.high))
    return Number(math.exp(mean_log.mean), "x", "higher", len(logs), low, high)
