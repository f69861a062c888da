"""95 % intervals: of a mean over videos, by leaving groups of videos out, by subsamples."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from metrics.score import Score


def mean_score(values: Sequence[float] | Float[np.ndarray, " N"]) -> Score:
    """The mean over videos with its 95 % t-interval over videos (none for a single video)."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Score(mean, n)
    reach = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n))
    return Score(mean, n, mean - reach, mean + reach)


def assign_groups(groups: Int[np.ndarray, " K"], hands: int = 20, *, seed: int = 0) -> Int[np.ndarray, " K"]:
    """Deal whole groups (the windows of one video) at random, evenly, into at most `hands` hands, numbered from 0."""
    names, member = np.unique(groups, return_inverse=True)
    hand = np.random.default_rng(seed).permutation(len(names)) % min(hands, len(names))
    return hand[member]


def jackknife_interval(value: float, replicates: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95 % interval of a smooth statistic by the delete-a-group jackknife.

    Each inner sequence belongs to one independent sample and holds the statistic with one group of that sample left out
    at a time. The variance is the sum over samples of (G - 1)/G sum (replicate - their mean)^2, and the interval is
    `value` -+ its root times Student's t with G - 1 degrees of freedom, G the fewest groups.

    Why not a bootstrap: drawing with replacement makes duplicates, which add to a Fréchet distance the very bias that a
    finite set has already (the mean of the replicates lies at twice the bias). Leaving out a twentieth shifts all the
    replicates alike, and the shift leaves with their mean.
    """
    variance = 0.0
    for sample in replicates:
        left_out = np.asarray(sample, dtype=np.float64)
        variance += (len(left_out) - 1) / len(left_out) * float(((left_out - left_out.mean()) ** 2).sum())
    fewest = min(len(sample) for sample in replicates)
    reach = float(stdtrit(fewest - 1, 0.975)) * variance**0.5
    return value - reach, value + reach


def subsample_interval(value: float, replicates: Sequence[float], share: float) -> tuple[float, float]:
    """95 % interval of a smooth statistic from its values on random subsets, drawn without replacement.

    Each replicate holds the statistic of a random `share` of the set, 0 < share < 1. Their spread about their own mean,
    shrunk by (share / (1 - share))^(1/2), is the spread of the statistic of the whole set; what small subsets add to a
    biased statistic leaves with their mean.

    Source: Politis, Romano and Wolf 1999, Subsampling, chapter 2, with the correction for a finite population.
    """
    drawn = np.asarray(replicates, dtype=np.float64)
    away = (drawn - drawn.mean()) * (share / (1 - share)) ** 0.5
    low, high = np.percentile(away, [2.5, 97.5])
    return value - float(high), value - float(low)
