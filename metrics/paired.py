"""Differences of two sets that were made from the same prompts and seeds, with the interval that this pairing earns.

What a prompt or a seed does to both sets alike cancels in the difference, so far fewer videos tell two methods apart
than two separate intervals suggest.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from metrics.distribution.frechet import Gaussian, GaussianFactor, frechet_distance, leave_one_out
from metrics.intervals import assign_groups, jackknife_interval
from metrics.score import Score


def paired_difference(
    statistic: Callable[..., float],  # of rows; with `real`, of (real rows, rows)
    first: Float[np.ndarray, "N ..."],  # row i of both sets: the same prompt and the same seed
    second: Float[np.ndarray, "M ..."],
    *,
    groups: Int[np.ndarray, " N"] | None = None,  # rows that are no independent samples, as of one prompt or video
    real: Float[np.ndarray, "K ..."] | None = None,  # what both sets are compared with, if the statistic does that
    n_groups: int = 20,
) -> Score:
    """`statistic(second) - statistic(first)` with its 95 % interval: below 0, the second set's number is the lower one.

    Pairs are assigned to random groups (whole `groups`, where given) and left out of both sets at once; with `real`,
    its rows are left out in turn as well, of both distances at once. The interval is None for fewer than 3 pairs, or
    rows of `real`. `n` counts the pairs.

    With `np.mean` and one value per video this is the paired t-test's interval, up to the random grouping; with
    `lambda real, rows: frechet_distance(GaussianFactor.of(real), GaussianFactor.of(rows))` it is that of a difference
    of FVDs, in which the bias by n cancels, as both sets are equally large.

    Blind to what the pairs do not vary: other prompts, other seeds, another training of either model.

    Raises:
        ValueError: sets of different sizes, or none at all.
    """
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(
            f"a paired difference needs the same prompts in the same order in both sets: got {len(first)} and "
            f"{len(second)} rows"
        )

    def difference(rows: np.ndarray, others: np.ndarray, against: np.ndarray | None) -> float:
        before = () if against is None else (against,)
        return float(statistic(*before, others)) - float(statistic(*before, rows))

    value = difference(first, second, real)
    group = assign_groups(np.arange(len(first)) if groups is None else groups, n_groups)
    others = None if real is None else assign_groups(np.arange(len(real)), n_groups)
    if group.max() < 2 or (others is not None and others.max() < 2):
        return Score(value, len(first))
    replicates = [[difference(first[group != out], second[group != out], real) for out in range(int(group.max()) + 1)]]
    if real is not None and others is not None:
        replicates.insert(0, [difference(first, second, real[others != out]) for out in range(int(others.max()) + 1)])
    low, high = jackknife_interval(value, replicates)
    return Score(value, len(first), low, high, tuple(replicates))


def matched_frechet_difference(
    real: Float[np.ndarray, "N F"],
    first: Float[np.ndarray, "M F"],
    second: Float[np.ndarray, "K F"],
    real_caption: Int[np.ndarray, " N"],  # number of the caption of each row, from 0
    first_caption: Int[np.ndarray, " M"],
    second_caption: Int[np.ndarray, " K"],
) -> Score:
    """Fréchet distance of `second` to `real` minus that of `first`, for the same captions; above 0, `first` is nearer.

    Captions are assigned to 20 random groups and left out of all three sets at once: what the sets share cancels, so
    the difference is known far better than either distance. `n` counts the captions; the interval is None for fewer
    than 3, and there is one list of replicates.

    Raises:
        ValueError: fewer than 2 rows in a set, rows that are not finite, or different numbers of features.
    """
    count = int(max(real_caption.max(), first_caption.max(), second_caption.max())) + 1
    group = assign_groups(np.arange(count))
    sides = ((real, real_caption), (first, first_caption), (second, second_caption))

    def difference(sets: Sequence[Gaussian]) -> float:
        of_real = GaussianFactor.of_gaussian(sets[0])
        return frechet_distance(of_real, sets[2]) - frechet_distance(of_real, sets[1])

    value = difference([Gaussian.of(rows) for rows, _ in sides])
    if count < 3:
        return Score(value, count, replicates=([],))
    parts = [
        [Gaussian.of(rows[group[caption] == number]) for number in range(int(group.max()) + 1)]
        for rows, caption in sides
    ]
    replicates = [difference(rest) for rest in zip(*map(leave_one_out, parts), strict=True)]
    low, high = jackknife_interval(value, [replicates])
    return Score(value, count, low, high, (replicates,))


def difference_of_scores(
    first: Score,
    second: Score,
    *,
    paired: Sequence[bool],  # for each side: both scores left out the same videos at the same places
) -> Score:
    """The difference of two stored scores, second - first, with an interval from their replicates.

    A side that both share (the same real set; videos of the same prompts and seeds) enters by the differences of its
    replicates, a side that they do not share by those of each score separately.

    Raises:
        ValueError: a shared side that was cut into different numbers of groups.
    """
    value, n = second.value - first.value, min(first.n, second.n)
    sides: list[list[float]] = []
    for a, b, shared in zip(first.replicates, second.replicates, paired, strict=True):
        if shared and len(a) != len(b):
            raise ValueError(
                f"a shared side must have the same groups in both scores: got {len(a)} and {len(b)} groups, score both "
                "again"
            )
        sides += [[y - x for x, y in zip(a, b, strict=True)]] if shared else [list(a), list(b)]
    if min(map(len, sides), default=0) < 3:
        return Score(value, n)
    low, high = jackknife_interval(value, sides)
    return Score(value, n, low, high)
