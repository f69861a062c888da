"""Kernel video distance: the maximum mean discrepancy between two sets of features, unbiased at any n.

Unlike the Fréchet distance it assumes no Gaussian, and small sets do not raise it: sets of one distribution lie around
0, on either side of it. Blind to what the network does not tell apart; with a cubic kernel, to differences beyond the
third moments of the features; and, like any distance of sets, silent on whether quality or variety is at fault.
"""

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8

from metrics.distribution.frechet import check_rows
from metrics.intervals import assign_groups, jackknife_interval
from metrics.networks.features import FeatureNetwork, extract_pair
from metrics.score import Score

BLOCK = 1024  # rows whose kernel values are held at a time


def kvd(
    real: UInt8[np.ndarray, "N T H W C"],
    fake: UInt8[np.ndarray, "M S Y X C"],
    *,
    network: FeatureNetwork,
    window: int | None = None,  # frames; None = whole videos, which must then be equally long in both sets
    batch_size: int = 64,
) -> Score:
    """Kernel distance between the network's embeddings of two sets of videos: see `kernel_score`; windows as `fvd`.

    Raises:
        ValueError: as `extract_pair`, or fewer than 2 videos in a set.
    """
    return kernel_score(*extract_pair(network, real, fake, window=window, batch_size=batch_size))


def kernel_score(
    real: Float[np.ndarray, "N F"],
    fake: Float[np.ndarray, "M G"],
    real_source: Int[np.ndarray, " N"] | None = None,  # the video each row comes from; None = each from its own
    fake_source: Int[np.ndarray, " M"] | None = None,
    *,
    degree: int = 3,
    offset: float = 1.0,
    biased: bool = False,
) -> Score:
    """Squared maximum mean discrepancy under the kernel (x . y / F + offset)^degree, in float64.

    Unbiased by default: a sample's kernel with itself is left out (not that of two windows of one video), and the value
    may be negative. `degree=2, offset=0, biased=True`, times 100, is JEDi's. The interval is that of a delete-a-group
    jackknife over the videos of both sides, and None for fewer than 3 videos on a side.

    Raises:
        ValueError: fewer than 2 rows in a set, rows that are not finite, or different numbers of features.

    Source: Binkowski et al. 2018, arXiv:1801.01401, section 4; Gretton et al. 2012, equation 3.
    """
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"sets of {real.shape[1]} and of {fake.shape[1]} features have no distance: use one network")
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"a kernel distance needs at least 2 samples in each set: got {len(real)} and {len(fake)}")
    for rows in (real, fake):
        check_rows(rows)
    groups = [
        assign_groups(np.arange(len(rows)) if source is None else source)
        for rows, source in ((real, real_source), (fake, fake_source))
    ]
    counts = [np.bincount(group).astype(np.float64) for group in groups]
    sums = {
        (i, j): _group_sums(x, y, groups[i], groups[j], degree, offset)
        for i, j, x, y in ((0, 0, real, real), (1, 1, fake, fake), (0, 1, real, fake))
    }
    own = [
        np.bincount(group, weights=_own_kernel(rows, degree, offset))
        for group, rows in zip(groups, (real, fake), strict=True)
    ]

    def distance(kept: tuple[Float64[np.ndarray, " G"], Float64[np.ndarray, " P"]]) -> float:
        total = 0.0
        for side in (0, 1):
            n = float(kept[side] @ counts[side])
            within = float(kept[side] @ sums[side, side] @ kept[side])
            total += within / n**2 if biased else (within - float(kept[side] @ own[side])) / (n * (n - 1))
        between = float(kept[0] @ sums[0, 1] @ kept[1])
        return total - 2 * between / float((kept[0] @ counts[0]) * (kept[1] @ counts[1]))

    whole = np.ones(len(counts[0])), np.ones(len(counts[1]))
    value = distance(whole)
    if min(map(len, whole)) < 3 or any(count.sum() - count.max() < 2 for count in counts):
        return Score(value, len(fake), replicates=([], []))
    replicates = (
        [distance((whole[0] - out, whole[1])) for out in np.eye(len(whole[0]))],
        [distance((whole[0], whole[1] - out)) for out in np.eye(len(whole[1]))],
    )
    low, high = jackknife_interval(value, replicates)
    return Score(value, len(fake), low, high, replicates)


def jedi_score(
    real: Float[np.ndarray, "N F"],
    fake: Float[np.ndarray, "M G"],
    real_source: Int[np.ndarray, " N"] | None = None,
    fake_source: Int[np.ndarray, " M"] | None = None,
) -> Score:
    """JEDi: 100 times the squared discrepancy under the kernel (x . y / F)^2, biased, in float64; 0 for equal sets.

    Symmetric. It sees second moments only, |E xx' - E yy'|^2 / F^2, and so not the sign of the features: jedi(x, -x) is
    0. Biased upward at small n, as real video against real video shows: read it with `jedi_floor`.

    Raises:
        ValueError: as `kernel_score`.

    Source: Luo et al. 2024, arXiv:2410.05203, and its code (videojedi 1.1.0).
    """
    score = kernel_score(real, fake, real_source, fake_source, degree=2, offset=0.0, biased=True)
    low, high = (None if end is None else 100 * end for end in (score.low, score.high))
    low = None if low is None else max(0.0, low)
    return Score(100 * score.value, score.n, low, high, tuple([100 * x for x in side] for side in score.replicates))


def jedi_floor(
    real: Float[np.ndarray, "N F"],
    n: int,  # videos on either side
    source: Int[np.ndarray, " N"] | None = None,  # the video each row comes from; None = each from its own
    *,
    repeats: int = 20,
    seed: int = 0,
) -> Score:
    """JEDi between two disjoint random sets of `n` real videos, over `repeats` draws: the best that can be reached.

    The value is the mean of the draws; low and high are the 2.5th and 97.5th percentile of single ones.

    Raises:
        ValueError: fewer than 2 n real videos.
    """
    videos = np.arange(len(real)) if source is None else source
    names = np.unique(videos)
    if not 2 <= n <= len(names) // 2:
        raise ValueError(
            f"a floor at n={n} needs n >= 2 and {2 * n} real videos: got {len(names)}, ask for a smaller n"
        )
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(repeats):
        order = names[rng.permutation(len(names))]
        a, b = (real[np.isin(videos, part)] for part in (order[:n], order[n : 2 * n]))
        draws.append(jedi_score(a, b).value)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Score(float(np.mean(draws)), n, float(low), float(high))


def _group_sums(
    x: Float[np.ndarray, "N F"],
    y: Float[np.ndarray, "M F"],
    x_group: Int[np.ndarray, " N"],
    y_group: Int[np.ndarray, " M"],
    degree: int,
    offset: float,
) -> Float64[np.ndarray, "G P"]:
    """Sums of the kernel over the pairs of every two groups: all that the value and its jackknife need."""
    rows, columns = int(x_group.max()) + 1, int(y_group.max()) + 1
    y_member = np.eye(columns)[y_group]
    wide = y.astype(np.float64).T
    sums = np.zeros((rows, columns))
    for first in range(0, len(x), BLOCK):
        block = slice(first, first + BLOCK)
        kernel = (x[block].astype(np.float64) @ wide / x.shape[1] + offset) ** degree
        sums += np.eye(rows)[x_group[block]].T @ (kernel @ y_member)
    return sums


def _own_kernel(rows: Float[np.ndarray, "N F"], degree: int, offset: float) -> Float64[np.ndarray, " N"]:
    return ((rows.astype(np.float64) ** 2).mean(axis=1) + offset) ** degree
