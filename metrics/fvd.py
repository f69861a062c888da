"""Fréchet video distance: how far the features of generated videos lie from those of real ones."""

import numpy as np
from jaxtyping import Float, Int, UInt8

from metrics.features import FeatureNetwork, extract
from metrics.frames import check_videos, windows
from metrics.score import Score
from metrics.statistics import Gaussian, deal, frechet_distance, jackknife_interval, leave_one_out


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
    check_videos(real, what="real videos")
    check_videos(fake, what="generated videos")
    if window is None and real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"whole videos compare only at equal length, {real.shape[1]} and {fake.shape[1]} frames came: give a window"
        )
    embeddings, sources = [], []
    for videos in (real, fake):
        cut, source = windows(videos, window or videos.shape[1])
        embeddings.append(extract(network, cut, batch_size=batch_size).embedding)
        sources.append(source)
    return frechet_score(*embeddings, *sources, ddof=ddof)


def frechet_score(
    real: Float[np.ndarray, "N F"],
    fake: Float[np.ndarray, "M F"],
    real_source: Int[np.ndarray, " N"] | None = None,  # the video each row comes from; None = each from its own
    fake_source: Int[np.ndarray, " M"] | None = None,
    *,
    ddof: int = 1,
) -> Score:
    """Fréchet distance between two sets of embeddings, with the interval of a delete-a-group jackknife.

    Videos, not windows, are dealt into 20 random groups on either side, so what windows of one video share widens the
    interval as it should. Left out one at a time, they give the variance (`metrics.statistics.jackknife_interval`). The
    interval speaks of the distance at this n, bias included, and is cut at 0; sets of fewer than 3 videos have none.
    """
    sides = []
    for rows, source in ((real, real_source), (fake, fake_source)):
        hands = deal(np.arange(len(rows)) if source is None else source)
        sides.append([Gaussian.of(rows[hands == hand]) for hand in range(hands.max() + 1)])
    a, b = (Gaussian.of(rows) for rows in (real, fake))
    value = frechet_distance(a, b, ddof=ddof)
    if min(len(side) for side in sides) < 3:
        return Score(value, b.n)
    replicates = [
        [frechet_distance(rest, b, ddof=ddof) for rest in leave_one_out(sides[0])],
        [frechet_distance(a, rest, ddof=ddof) for rest in leave_one_out(sides[1])],
    ]
    low, high = jackknife_interval(value, replicates)
    return Score(value, b.n, max(0.0, low), high)


def matched_frechet_score(
    real: Float[np.ndarray, "N F"],
    fake: Float[np.ndarray, "M F"],
    real_caption: Int[np.ndarray, " N"],  # number of the caption of each row, from 0
    fake_caption: Int[np.ndarray, " M"],
) -> Score:
    """Fréchet distance between two sets of embeddings that show the same captions.

    What the captions name is then equal on both sides and adds neither bias nor noise, so that few videos tell more.
    Captions, not videos, are dealt into 20 random groups and left out of both sides at once; the interval is that of
    the distance for these captions at this n.
    """
    hands = deal(np.arange(int(max(real_caption.max(), fake_caption.max())) + 1))
    sides = [
        [Gaussian.of(rows[hands[caption] == hand]) for hand in range(int(hands.max()) + 1)]
        for rows, caption in ((real, real_caption), (fake, fake_caption))
    ]
    value = frechet_distance(Gaussian.of(real), Gaussian.of(fake))
    if len(sides[0]) < 3:
        return Score(value, len(fake))
    left_out = zip(*map(leave_one_out, sides), strict=True)
    low, high = jackknife_interval(value, [[frechet_distance(*rest) for rest in left_out]])
    return Score(value, len(fake), max(0.0, low), high)


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

    Draws `repeats` pairs of disjoint random sets from `real`. The value is the mean of their distances; low and high
    are the 2.5th and 97.5th percentile of single distances: a generator whose FVD lies between them cannot be told from
    real.

    Raises:
        ValueError: fewer than 2 n real videos, or what `fvd` raises.
    """
    check_videos(real, what="real videos")
    if not 2 <= n <= len(real) // 2:
        raise ValueError(
            f"a floor at n={n} needs n >= 2 and {2 * n} real videos, {len(real)} came: ask for n up to {len(real) // 2}"
        )
    cut, source = windows(real, window or real.shape[1])
    rows = extract(network, cut, batch_size=batch_size).embedding
    random = np.random.default_rng(seed)
    distances = []
    for _ in range(repeats):
        order = random.permutation(len(real))
        a, b = (Gaussian.of(rows[np.isin(source, order[part])]) for part in (slice(0, n), slice(n, 2 * n)))
        distances.append(frechet_distance(a, b))
    low, high = np.percentile(distances, [2.5, 97.5])
    return Score(float(np.mean(distances)), b.n, float(low), float(high))
