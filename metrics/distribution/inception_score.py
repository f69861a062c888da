"""Inception Score: are single videos recognized with certainty, and are all classes there?

Blind to variety within a class (one video of each class, repeated, is perfect), to motion that the classifier does not
need, to how real the frames look as long as they are recognized; it never sees real video, and may exceed the score
of it. It depends on n and on the number of splits: see `ceiling`.
"""

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8
from scipy.special import log_softmax, xlogy

from metrics.intervals import assign_groups, jackknife_interval
from metrics.networks.features import FeatureNetwork, extract
from metrics.score import Score
from metrics.videos.frames import check_videos, windows


def inception_score(
    videos: UInt8[np.ndarray, "N T H W C"],
    *,
    network: FeatureNetwork,
    head: str = "action",
    window: int | None = None,  # frames; None = whole videos
    splits: int = 1,
    batch_size: int = 64,
) -> Score:
    """Inception Score by the classes of one head of the network; higher is better, at most their number K.

    Videos longer than `window` are cut into all the windows that fit without overlap, each a sample; `n` counts them.
    Depends on n and on `splits` even for a perfect classifier (`ceiling`): compare only equal ones.

    Raises:
        ValueError: an array that is no set of videos, videos too short, a head that the network does not have, or
            `splits` that are not in 1 .. N.

    Source: Salimans et al. 2016, arXiv:1606.03498; for videos Saito et al. 2017, arXiv:1611.06624.
    """
    check_videos(videos)
    cut, source = windows(videos, window)
    logits = extract(network, cut, batch_size=batch_size).logits
    if head not in logits:
        raise ValueError(f"{network.name} has no head {head!r}: it tells apart {', '.join(sorted(logits))}")
    return score_of_logits(logits[head], source, splits=splits)


def score_of_logits(
    logits: Float[np.ndarray, "N K"],
    source: Int[np.ndarray, " N"] | None = None,  # the video each row comes from; None = each from its own
    *,
    splits: int = 1,
    epsilon: float = 0.0,
    shuffle: int | None = None,
) -> Score:
    """Inception Score from a classifier's logits: softmax in float64; all else as `score_of_probabilities`."""
    probabilities = np.exp(log_softmax(logits.astype(np.float64), axis=1))
    return score_of_probabilities(probabilities, source, splits=splits, epsilon=epsilon, shuffle=shuffle)


def score_of_probabilities(
    probabilities: Float[np.ndarray, "N K"],
    source: Int[np.ndarray, " N"] | None = None,  # the video each row comes from; None = each from its own
    *,
    splits: int = 1,
    epsilon: float = 0.0,  # added to both probabilities inside the logarithms, as some published code does
    shuffle: int | None = None,  # seed of the legacy numpy generator that shuffles the rows first; None = as given
) -> Score:
    """Inception Score from class probabilities: the mean over splits of exp(mean_i KL(p_i || mean of the split)).

    Natural logarithms in float64, 0 log 0 = 0. Split s holds the rows [s*N//splits, (s+1)*N//splits) in the order
    given, or shuffled: shuffle where the order means something. The interval is that of a delete-a-group jackknife over
    videos (20 random groups), is cut to [1, K], and is None for fewer than 3 videos.

    Raises:
        ValueError: rows that are no probabilities, or splits that leave a split without a row.
    """
    n, classes = probabilities.shape
    wide, order = _checked(probabilities, splits), _order(n, shuffle)
    group = assign_groups(np.arange(n) if source is None else source)[order]
    wide = wide[order]
    value = _mean_over_splits(wide, splits, epsilon)
    rests = [wide[group != out] for out in range(group.max() + 1)]
    if len(rests) < 3 or min(len(rest) for rest in rests) < splits:
        return Score(value, n, replicates=([],))
    replicates = [_mean_over_splits(rest, splits, epsilon) for rest in rests]
    low, high = jackknife_interval(value, [replicates])
    return Score(value, n, max(1.0, low), min(float(classes), high), (replicates,))


def split_scores(
    probabilities: Float[np.ndarray, "N K"],
    *,
    splits: int,
    epsilon: float = 0.0,
    shuffle: int | None = None,
) -> Float64[np.ndarray, " S"]:
    """The scores of the single splits, whose mean is `score_of_probabilities`.

    Their standard deviation (ddof 0) is the +- that published tables print: how much splits differ, not an interval of
    the mean.

    Raises:
        ValueError: as `score_of_probabilities`.
    """
    wide = _checked(probabilities, splits)
    return np.array(_over_splits(wide[_order(len(wide), shuffle)], splits, epsilon))


def _checked(probabilities: Float[np.ndarray, "N K"], splits: int) -> Float64[np.ndarray, "N K"]:
    _check_splits(len(probabilities), splits)
    wide = probabilities.astype(np.float64)
    check_probabilities(wide)
    return wide


def _check_splits(n: int, splits: int) -> None:
    if not 1 <= splits <= n:
        raise ValueError(f"{n} samples can be cut into 1 to {n} splits: got splits={splits}")


def check_probabilities(rows: Float[np.ndarray, "N K"]) -> None:
    """Raise ValueError unless every row is one of probabilities."""
    if not np.isfinite(rows).all() or (rows < 0).any() or not np.allclose(rows.sum(axis=1), 1, rtol=0, atol=1e-3):
        raise ValueError("every row of probabilities must be finite, at least 0 and sum to 1; some do not")


def _order(n: int, shuffle: int | None) -> Int[np.ndarray, " N"]:
    order = np.arange(n)
    if shuffle is not None:
        np.random.RandomState(shuffle).shuffle(order)  # the published score's own
    return order


def _mean_over_splits(probabilities: Float64[np.ndarray, "N K"], splits: int, epsilon: float) -> float:
    return float(np.mean(_over_splits(probabilities, splits, epsilon)))


def _over_splits(probabilities: Float64[np.ndarray, "N K"], splits: int, epsilon: float) -> list[float]:
    n = len(probabilities)
    scores = []
    for split in range(splits):
        p = probabilities[split * n // splits : (split + 1) * n // splits]
        mean = p.mean(axis=0)
        scores.append(np.exp((xlogy(p, p + epsilon).sum() - len(p) * xlogy(mean, mean + epsilon).sum()) / len(p)))
    return scores


def ceiling(classes: int, n: int, *, splits: int = 1, draws: int = 200, seed: int = 0) -> float:
    """The score of a perfect classifier on n videos of uniformly random classes: below K, and far below with splits.

    A set that has every class equally often, rather than at random, may reach K.

    Raises:
        ValueError: splits that leave a split without a video.
    """
    _check_splits(n, splits)
    rng = np.random.default_rng(seed)
    sizes = [(split + 1) * n // splits - split * n // splits for split in range(splits)]
    scores = []
    for size in sizes:
        share = rng.multinomial(size, np.full(classes, 1 / classes), size=draws) / size
        scores.append(np.exp(-xlogy(share, share).sum(axis=1)).mean())
    return float(np.mean(scores))
