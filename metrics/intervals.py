"""95 % intervals: of a mean over videos, and by leaving groups of videos out."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from metrics.score import RANGES, UNBOUNDED, Score


def mean_score(values: Sequence[float] | Float[np.ndarray, " N"], measure: str = "") -> Score:
    """The mean over videos with its 95 % t-interval over videos (none for a single video).

    The interval is cut to the range of the measure that is named, as `RANGES` has it.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"a mean needs finite values, one or more: {measure} got {list(values)[:5]}, look at the videos"
        )
    mean = float(np.mean(values))
    if n < 2:
        return Score(mean, n)
    reach = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n))
    return Score(mean, n, *within_range(measure, mean - reach, mean + reach))


def within_range(measure: str, low: float, high: float) -> tuple[float, float]:
    """An interval cut to the range of the measure; "duplicates:seams" is a measure of duplicates."""
    least, most = RANGES.get(measure.partition(":")[0], UNBOUNDED)
    return max(least, low), min(most, high)


def over_videos(measure: str, formula: Callable[..., float]) -> Callable[..., Score]:
    """The metric of a set of that name, from a formula of one video: mean and interval; options are passed on."""

    def score(videos: Iterable[Any], **options: Any) -> Score:
        return mean_score([formula(video, **options) for video in videos], measure)

    return score


def assign_groups(source: Int[np.ndarray, " K"], groups: int = 20, *, seed: int = 0) -> Int[np.ndarray, " K"]:
    """The group of each row, in 0 .. groups - 1: sources at random, evenly, rows of one source (video) together.

    With fewer sources than `groups`, each source is a group of its own.
    """
    names, member = np.unique(source, return_inverse=True)
    group = np.random.default_rng(seed).permutation(len(names)) % min(groups, len(names))
    return group[member]


def jackknife_interval(value: float, replicates: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95 % interval of a smooth statistic by the delete-a-group jackknife.

    Each inner sequence belongs to one independent sample and holds the statistic with one group of that sample left out
    at a time. The variance is the sum over samples of (G - 1)/G sum (replicate - their mean)^2, and the interval is
    `value` -+ its root times Student's t with G - 1 degrees of freedom, G the fewest groups.

    Why not a bootstrap: drawing with replacement makes duplicates, which add to a Fréchet distance the very bias that a
    finite set already has (the mean of the replicates has twice the bias). Leaving out a twentieth shifts all the
    replicates alike, and subtracting their mean removes the shift.
    """
    variance = 0.0
    for sample in replicates:
        values = np.asarray(sample, dtype=np.float64)
        variance += (len(values) - 1) / len(values) * float(((values - values.mean()) ** 2).sum())
    fewest = min(len(sample) for sample in replicates)
    reach = float(stdtrit(fewest - 1, 0.975)) * variance**0.5
    return value - reach, value + reach
