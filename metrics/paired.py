"""Differences of two sets that were made from the same prompts and seeds, with the interval that this pairing earns.

What a prompt or a seed does to both sets alike leaves with the difference, so far fewer videos tell two methods apart
than two separate intervals would let one think.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from metrics.intervals import assign_groups, jackknife_interval
from metrics.score import Replicated, Score


def paired_difference(
    statistic: Callable[..., float],  # of rows; with `real`, of (real rows, rows)
    first: Float[np.ndarray, "N ..."],  # row i of both sets: the same prompt and the same seed
    second: Float[np.ndarray, "M ..."],
    *,
    groups: Int[np.ndarray, " N"] | None = None,  # rows that are no independent samples, as of one prompt or video
    real: Float[np.ndarray, "K ..."] | None = None,  # what both sets are compared with, if the statistic does that
    hands: int = 20,
) -> Score:
    """`statistic(second) - statistic(first)` with its 95 % interval: below 0, the second set's number is the lower one.

    Pairs are dealt into random groups (whole `groups`, where given) and left out of both sets at once; with `real`, its
    rows are left out in turn as well, of both distances at once. The interval is None for fewer than 3 pairs. `n`
    counts the pairs.

    With `np.mean` and one value a video this is the paired t-test's interval, up to the dealing; with
    `lambda real, rows: frechet_distance(Spread.of(real), Spread.of(rows))` it is that of a difference of FVDs, whose
    bias by n leaves too, as both sets are equally large.

    Blind to what the pairs do not vary: other prompts, other seeds, another training of either model.

    Raises:
        ValueError: sets of different sizes, or none at all.
    """
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(
            f"a paired difference needs the same prompts in the same order in both sets, {len(first)} and "
            f"{len(second)} rows came"
        )

    def difference(rows: np.ndarray, others: np.ndarray, against: np.ndarray | None) -> float:
        before = () if against is None else (against,)
        return float(statistic(*before, others)) - float(statistic(*before, rows))

    value = difference(first, second, real)
    hand = assign_groups(np.arange(len(first)) if groups is None else groups, hands)
    if hand.max() < 2:
        return Score(value, len(first))
    left_out = [
        [difference(first[hand != out], second[hand != out], real) for out in range(int(hand.max()) + 1)],
    ]
    if real is not None:
        others = assign_groups(np.arange(len(real)), hands)
        left_out.append([difference(first, second, real[others != out]) for out in range(int(others.max()) + 1)])
    low, high = jackknife_interval(value, left_out)
    return Score(value, len(first), low, high)


def difference_of_replicates(
    first: Replicated,
    second: Replicated,
    *,
    paired: Sequence[bool],  # per side: both scores left out the same videos at the same places
) -> Score:
    """The difference of two stored scores, second - first, from the values that their intervals were made of.

    A side that both share (the same real set; videos of the same prompts and seeds) enters by the differences of its
    values, a side that they do not by those of either score apart.

    Raises:
        ValueError: a shared side that was dealt into different numbers of groups.
    """
    value, n = second.score.value - first.score.value, min(first.score.n, second.score.n)
    sides: list[list[float]] = []
    for a, b, shared in zip(first.left_out, second.left_out, paired, strict=True):
        if shared and len(a) != len(b):
            raise ValueError(f"a shared side must be dealt alike, {len(a)} and {len(b)} groups came: score both again")
        sides += [[y - x for x, y in zip(a, b, strict=True)]] if shared else [list(a), list(b)]
    if min(map(len, sides), default=0) < 3:
        return Score(value, n)
    low, high = jackknife_interval(value, sides)
    return Score(value, n, low, high)
