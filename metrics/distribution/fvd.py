"""Fréchet video distance: how far the features of generated videos lie from those of real ones.

Blind to whatever the network does not tell apart, to all but mean and covariance of its features, and, with I3D, more
to time than to looks: a set whose single frames are good and whose motion is not can still score well. One number for
the set: it says neither which video is bad nor whether the fault is quality or variety (`metrics.distribution.prdc`
does).
"""

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, pairwise

import numpy as np
from jaxtyping import Float, Int, UInt8

from metrics.distribution.frechet import Gaussian, GaussianFactor, frechet_distance, leave_one_out
from metrics.intervals import assign_groups, jackknife_interval
from metrics.networks.features import FeatureNetwork, extract, extract_pair
from metrics.score import Score
from metrics.videos.frames import check_videos, windows

N_GROUPS = 20  # groups that the jackknife leaves out one at a time


def fvd(
    real: UInt8[np.ndarray, "N T H W C"],
    fake: UInt8[np.ndarray, "M S Y X C"],
    *,
    network: FeatureNetwork,
    window: int | None = None,  # frames; None = whole videos, which must then be equally long in both sets
    batch_size: int = 64,
    ddof: int = 1,
) -> Score:
    """Fréchet distance between the network's embeddings of two sets of videos; 0 for equal sets, lower is better.

    Videos longer than `window` are cut into all the windows that fit without overlap (a shorter remainder is not read),
    and each window is one sample. `n` counts the generated windows. Biased upward by about 1/n: compare only numbers of
    equal n, and with `fvd_floor` at that n. The interval (see `frechet_score`) is that of the distance at this n.

    Raises:
        ValueError: an array that is no set of videos, a set of fewer than 2, videos shorter than `window` or than the
            network's `min_frames`, or videos of different lengths without a `window`.

    Source: Unterthiner et al. 2018, arXiv:1812.01717, section 3.
    """
    return frechet_score(*extract_pair(network, real, fake, window=window, batch_size=batch_size), ddof=ddof)


def frechet_score(
    real: Float[np.ndarray, "N F"],
    fake: Float[np.ndarray, "M G"],
    real_source: Int[np.ndarray, " N"] | None = None,  # the video each row comes from; None = each from its own
    fake_source: Int[np.ndarray, " M"] | None = None,
    *,
    ddof: int = 1,
) -> Score:
    """Fréchet distance between two sets of embeddings, with the interval of a delete-a-group jackknife.

    Videos, not windows, are assigned to 20 random groups on either side, so what windows of one video share widens the
    interval as it should. Left out one at a time, they give the replicates and from them the variance
    (`metrics.intervals.jackknife_interval`). The interval belongs to the distance at this n, bias included; it is cut
    at 0 and None for fewer than 3 videos.

    Raises:
        ValueError: fewer than 2 rows in a set, rows that are not finite, or different numbers of features.
    """
    _check_pair(real, fake)
    (a, a_rest), (b, b_rest) = (
        _factors(rows, source, ddof) for rows, source in ((real, real_source), (fake, fake_source))
    )
    return _jackknifed(a, a_rest, b, b_rest)


def frechet_score_of_parts(real: Sequence[Gaussian], fake: Sequence[Gaussian], *, ddof: int = 1) -> Score:
    """`frechet_score` from statistics alone: each part holds the samples of one group of videos, none of them twice.

    For sets that were never in one place: every worker assigns its videos to the same number of groups, and groups of
    equal number are merged.

    Raises:
        ValueError: fewer than 2 samples in a set, or different numbers of features.
    """
    _check_count(*(sum(part.n for part in parts) for parts in (real, fake)))
    factors = []
    for parts in (real, fake):
        rest = leave_one_out(parts) if len(parts) >= 3 else []
        rest = rest if min((part.n for part in rest), default=0) >= 2 else []
        factors.append([GaussianFactor.of_gaussian(x, ddof=ddof) for x in (reduce(Gaussian.merge, parts), *rest)])
    (a, *a_rest), (b, *b_rest) = factors
    return _jackknifed(a, a_rest, b, b_rest)


def _jackknifed(
    a: GaussianFactor, a_rest: Sequence[GaussianFactor], b: GaussianFactor, b_rest: Sequence[GaussianFactor]
) -> Score:
    """The distance of a and b, with the interval from the distances of each side's rests to the whole other side."""
    value = frechet_distance(a, b)
    if not (a_rest and b_rest):
        return Score(value, b.n, replicates=([], []))
    replicates = [frechet_distance(rest, b) for rest in a_rest], [frechet_distance(a, rest) for rest in b_rest]
    low, high = jackknife_interval(value, replicates)
    return Score(value, b.n, max(0.0, low), high, replicates)


def _factors(
    rows: Float[np.ndarray, "N F"], source: Int[np.ndarray, " N"] | None, ddof: int
) -> tuple[GaussianFactor, list[GaussianFactor]]:
    """A set's factor, and its factors with one group of videos left out at a time (none for fewer than 3 videos)."""
    group = assign_groups(np.arange(len(rows)) if source is None else source, N_GROUPS)
    whole, numbers = GaussianFactor.of(rows, ddof=ddof), range(group.max() + 1)
    if len(numbers) < 3 or len(rows) - np.bincount(group).max() < 2:
        return whole, []
    if len(rows) <= rows.shape[1]:
        return whole, [GaussianFactor.of(rows[group != out], ddof=ddof) for out in numbers]
    parts = [Gaussian.of(rows[group == number]) for number in numbers]
    return whole, [GaussianFactor.of_gaussian(rest, ddof=ddof) for rest in leave_one_out(parts)]


def matched_frechet_score(
    real: Float[np.ndarray, "N F"],
    fake: Float[np.ndarray, "M G"],
    real_caption: Int[np.ndarray, " N"],  # number of the caption of each row, from 0
    fake_caption: Int[np.ndarray, " M"],
) -> Score:
    """Fréchet distance between two sets of embeddings that show the same captions.

    What the captions name is then equal on both sides and adds neither bias nor noise, so that few videos tell more.
    Captions, not videos, are assigned to 20 random groups and left out of both sides at once; the interval is that of
    the distance for these captions at this n, and the score has one list of replicates. None for fewer than 3 captions.

    Raises:
        ValueError: as `frechet_score`.
    """
    _check_pair(real, fake)
    group = assign_groups(np.arange(int(max(real_caption.max(), fake_caption.max())) + 1), N_GROUPS)
    value = frechet_distance(GaussianFactor.of(real), GaussianFactor.of(fake))
    sides = ((real, group[real_caption]), (fake, group[fake_caption]))
    if group.max() < 2:
        return Score(value, len(fake), replicates=([],))
    replicates = [
        frechet_distance(*(GaussianFactor.of(rows[member != out]) for rows, member in sides))
        for out in range(int(group.max()) + 1)
    ]
    low, high = jackknife_interval(value, [replicates])
    return Score(value, len(fake), max(0.0, low), high, (replicates,))


def frechet_infinity(
    real: Float[np.ndarray, "N F"],
    fake: Float[np.ndarray, "M G"],
    real_source: Int[np.ndarray, " N"] | None = None,  # the video each row comes from; None = each from its own
    fake_source: Int[np.ndarray, " M"] | None = None,
    *,
    sizes: int = 8,
    permutations: int = 4,
    smallest: float = 0.25,  # share of both sets in the smallest subsets
    ddof: int = 1,
    seed: int = 0,
) -> Score:
    """Fréchet distance extrapolated to infinite sets: a line in 1/n through growing random subsets of both sets.

    Bias falls as 1/n, so the line's value at 1/n = 0 has none to that order. It may lie below 0, where it says that the
    sets cannot be told apart. Subsets take one video after the other, with all its rows. The interval is that of a
    jackknife over 10 groups of videos, left out of the same subsets; it is wider than that of `frechet_score`, which is
    the price of the extrapolation. None for fewer than 40 rows, or 3 videos on a side.

    Blind to what the line cannot see: with subsets no larger than the number of features the bias is not yet 1/n.

    Raises:
        ValueError: as `frechet_score`; or a smallest subset of fewer than 2 rows.

    Source: Chong and Forsyth 2020, arXiv:1911.07023, section 3.
    """
    _check_pair(real, fake)
    if sizes < 2 or permutations < 1 or not 0 < smallest < 1 or min(len(real), len(fake)) * smallest < 2:
        raise ValueError(
            f"a line in 1/n needs at least 2 sizes and 2 rows in the smallest subset: got {sizes} sizes from "
            f"{smallest:g} of {min(len(real), len(fake))} rows, give more videos"
        )
    rng = np.random.default_rng(seed)
    videos = [
        np.arange(len(rows)) if source is None else np.unique(source, return_inverse=True)[1]
        for rows, source in ((real, real_source), (fake, fake_source))
    ]
    orders = [tuple(_by_video(side, rng) for side in videos) for _ in range(permutations)]
    shares = np.linspace(smallest, 1, sizes)

    def intercept(pairs: Sequence[tuple[Int[np.ndarray, " _"], ...]]) -> float:
        distances = [
            [
                frechet_distance(a, b)
                for a, b in zip(_growing(real[i], shares, ddof), _growing(fake[j], shares, ddof), strict=True)
            ]
            for i, j in pairs
        ]
        inverse = np.sum([1 / _cuts(len(rows), shares) for rows in pairs[0]], axis=0)
        return float(np.polyfit(inverse, np.mean(distances, axis=0), 1)[1])

    value = intercept(orders)
    count = min(10, *(int(side.max()) + 1 for side in videos))
    if min(len(real), len(fake)) < 40 or count < 3:
        return Score(value, len(fake))
    groups = [assign_groups(side, count, seed=seed) for side in videos]
    kept = [
        [tuple(order[group[order] != out] for order, group in zip(pair, groups, strict=True)) for pair in orders[:2]]
        for out in range(count)
    ]
    low, high = jackknife_interval(value, [[intercept(pairs) for pairs in kept]])
    return Score(value, len(fake), low, high)


def _by_video(videos: Int[np.ndarray, " N"], rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """The rows of a set, its videos (numbered from 0) in random order."""
    place = np.argsort(rng.permutation(int(videos.max()) + 1))
    return np.argsort(place[videos], kind="stable")


def _cuts(n: int, shares: Float[np.ndarray, " S"]) -> Int[np.ndarray, " S"]:
    """How many of n rows each share has, two at least."""
    return np.maximum(2, np.rint(shares * n)).astype(np.int64)


def _growing(rows: Float[np.ndarray, "N F"], shares: Float[np.ndarray, " S"], ddof: int) -> list[GaussianFactor]:
    """Factors of the first shares of the rows, each built on the statistics of the one before."""
    cuts = _cuts(len(rows), shares)
    if len(rows) <= rows.shape[1]:
        return [GaussianFactor.of(rows[:cut], ddof=ddof) for cut in cuts]
    ends = np.unique(cuts)  # of few rows, two shares may have equally many
    parts = list(accumulate((Gaussian.of(rows[i:j]) for i, j in pairwise([0, *ends])), Gaussian.merge))
    return [GaussianFactor.of_gaussian(parts[i], ddof=ddof) for i in np.searchsorted(ends, cuts)]


def fvd_infinity(
    real: UInt8[np.ndarray, "N T H W C"],
    fake: UInt8[np.ndarray, "M S Y X C"],
    *,
    network: FeatureNetwork,
    window: int | None = None,  # frames; None = whole videos, which must then be equally long in both sets
    batch_size: int = 64,
    ddof: int = 1,
) -> Score:
    """FVD extrapolated to infinitely many videos by a line in 1/n (`frechet_infinity`); all else as `fvd`."""
    return frechet_infinity(*extract_pair(network, real, fake, window=window, batch_size=batch_size), ddof=ddof)


def fvd_floor(
    real: UInt8[np.ndarray, "N T H W C"],
    n: int,
    *,
    network: FeatureNetwork,
    window: int | None = None,  # frames; None = whole videos
    batch_size: int = 64,
    repeats: int = 20,
    seed: int = 0,
) -> Score:
    """What FVD reads between two sets of `n` real videos each: no generator can be expected to beat it at this n.

    Raises:
        ValueError: fewer than 2 n real videos, or what `fvd` raises.
    """
    check_videos(real, what="real videos")
    cut, source = windows(real, window)
    _check_floor(n, len(real))
    rows = extract(network, cut, batch_size=batch_size).embedding
    return frechet_floor(rows, n, source, repeats=repeats, seed=seed)


def frechet_floor(
    real: Float[np.ndarray, "N F"],
    n: int,  # videos on either side
    source: Int[np.ndarray, " N"] | None = None,  # the video each row comes from; None = each from its own
    *,
    ddof: int = 1,
    repeats: int = 20,
    seed: int = 0,
) -> Score:
    """Fréchet distance between two disjoint random sets of `n` real videos, over `repeats` draws.

    The value is the mean of the distances; low and high are the 2.5th and 97.5th percentile of single distances: a
    generator whose FVD lies between them cannot be told from real.

    Raises:
        ValueError: fewer than 2 n real videos.
    """
    videos = np.arange(len(real)) if source is None else source
    names = np.unique(videos)
    _check_floor(n, len(names))
    rng = np.random.default_rng(seed)
    distances, count = [], 0
    for _ in range(repeats):
        order = names[rng.permutation(len(names))]
        a, b = (GaussianFactor.of(real[np.isin(videos, part)], ddof=ddof) for part in (order[:n], order[n : 2 * n]))
        distances.append(frechet_distance(a, b))
        count = b.n
    low, high = np.percentile(distances, [2.5, 97.5])
    return Score(float(np.mean(distances)), count, float(low), float(high))


def _check_floor(n: int, videos: int) -> None:
    if not 2 <= n <= videos // 2:
        raise ValueError(
            f"a floor at n={n} needs n >= 2 and {2 * n} real videos: got {videos}, ask for n up to {videos // 2}"
        )


def _check_pair(real: Float[np.ndarray, "N F"], fake: Float[np.ndarray, "M G"]) -> None:
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"sets of {real.shape[1]} and of {fake.shape[1]} features have no distance: use one network")
    _check_count(len(real), len(fake))


def _check_count(real: int, fake: int) -> None:
    if min(real, fake) < 2:
        raise ValueError(f"a Fréchet distance needs at least 2 samples in each set: got {real} and {fake}")
