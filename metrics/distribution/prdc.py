"""Precision, recall, density and coverage: is it quality or variety that a set of generated videos lacks?

Each set is taken for the union of balls around its members, which reach to their k-th nearest neighbor. Blind to how
many samples lie where within that union; a single outlier's large ball lets much pass (density is less easily fooled);
all four depend on n and k, and equal distributions do not score 1: compare with real video's own values at that n.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, UInt8

from metrics.distribution.frechet import check_rows
from metrics.intervals import mean_score
from metrics.networks.features import FeatureNetwork, extract_pair
from metrics.score import Score

BLOCK = 512  # rows whose distances are held at a time


class Neighborhood(NamedTuple):
    """How far each set is within the other; all in [0, 1] except density, which may exceed 1."""

    precision: Score  # share of the generated that lie among the real
    recall: Score  # share of the real that lie among the generated
    density: Score  # how many of the real balls a generated one lies in, over k
    coverage: Score  # share of the real whose ball holds a generated one


def neighborhood(
    real: Float[np.ndarray, "N F"],
    fake: Float[np.ndarray, "M G"],
    real_source: Int[np.ndarray, " N"] | None = None,  # the video each row comes from; None = each from its own
    fake_source: Int[np.ndarray, " M"] | None = None,
    *,
    k: int = 3,
) -> Neighborhood:
    """The four shares, Euclidean, in float64; a member is not its own neighbor, and a ball's edge belongs to it.

    An interval is the t-interval over the videos that are counted, the other set held fixed.

    Raises:
        ValueError: a set of no more than k rows, rows that are not finite, or different numbers of features.

    Source: precision and recall Kynkaanniemi et al. 2019, arXiv:1904.06991 (k = 3); density and coverage Naeem et al.
    2020, arXiv:2002.09797 (where k = 5).
    """
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"sets of {real.shape[1]} and of {fake.shape[1]} features have no distance: use one network")
    if k < 1 or min(len(real), len(fake)) <= k:
        raise ValueError(f"k={k} neighbors need more than {k} samples in each set: got {len(real)} and {len(fake)}")
    for rows in (real, fake):
        check_rows(rows)
    reach, fake_reach = _radii(real, k), _radii(fake, k)
    inside = np.zeros(len(fake))
    covered: Bool[np.ndarray, " N"] = np.zeros(len(real), dtype=bool)
    recalled: Bool[np.ndarray, " N"] = np.zeros(len(real), dtype=bool)
    for first in range(0, len(real), BLOCK):
        block = slice(first, first + BLOCK)
        squares = _squares(real[block], fake)
        within = squares <= reach[block, None]
        inside += within.sum(axis=0)
        covered[block] = within.any(axis=1)
        recalled[block] = (squares <= fake_reach[None]).any(axis=1)
    return Neighborhood(
        precision=_share(inside > 0, fake_source, 1.0),
        recall=_share(recalled, real_source, 1.0),
        density=_share(inside / k, fake_source, np.inf),
        coverage=_share(covered, real_source, 1.0),
    )


def _squares(x: Float[np.ndarray, "N F"], y: Float[np.ndarray, "M F"]) -> Float64[np.ndarray, "N M"]:
    """Squared distances, about a common center: features far from zero lose no digits."""
    center = np.median(y.astype(np.float64), axis=0)  # a mean would follow a single outlier
    a, b = x - center, y - center
    norms = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None]
    squares = norms - 2 * (a @ b.T)
    return np.where(squares > 1e-13 * norms, squares, 0)  # equal rows are 0 apart, whatever rounding says


def _radii(rows: Float[np.ndarray, "N F"], k: int) -> Float64[np.ndarray, " N"]:
    """Squared distance of every row to its k-th nearest other row."""
    radii = np.empty(len(rows))
    for first in range(0, len(rows), BLOCK):
        squares = _squares(rows[first : first + BLOCK], rows)
        squares[np.arange(len(squares)), first + np.arange(len(squares))] = 0
        radii[first : first + BLOCK] = np.partition(squares, k, axis=1)[:, k]
    return radii


def _share(values: np.ndarray, source: Int[np.ndarray, " N"] | None, most: float) -> Score:
    """The mean over rows; its interval, cut to 0 .. most, is that over the videos that they come from."""
    wide = values.astype(np.float64)
    member = np.arange(len(wide)) if source is None else np.unique(source, return_inverse=True)[1]
    videos = mean_score(np.bincount(member, weights=wide) / np.bincount(member))
    value = float(wide.mean())
    if videos.low is None or videos.high is None:
        return Score(value, len(wide))
    reach = (videos.high - videos.low) / 2
    return Score(value, len(wide), max(0.0, value - reach), min(most, value + reach))


def _measured(
    real: np.ndarray, fake: np.ndarray, network: FeatureNetwork, window: int | None, k: int, batch_size: int
) -> Neighborhood:
    return neighborhood(*extract_pair(network, real, fake, window=window, batch_size=batch_size), k=k)


def precision(
    real: UInt8[np.ndarray, "N T H W C"],
    fake: UInt8[np.ndarray, "M S Y X C"],
    *,
    network: FeatureNetwork,
    window: int | None = None,  # frames; None = whole videos, which must then be equally long in both sets
    k: int = 3,
    batch_size: int = 64,
) -> Score:
    """Share of the generated videos that lie among the real ones: quality. See `neighborhood`."""
    return _measured(real, fake, network, window, k, batch_size).precision


def recall(
    real: UInt8[np.ndarray, "N T H W C"],
    fake: UInt8[np.ndarray, "M S Y X C"],
    *,
    network: FeatureNetwork,
    window: int | None = None,  # frames; None = whole videos, which must then be equally long in both sets
    k: int = 3,
    batch_size: int = 64,
) -> Score:
    """Share of the real videos that lie among the generated ones: variety. See `neighborhood`."""
    return _measured(real, fake, network, window, k, batch_size).recall


def density(
    real: UInt8[np.ndarray, "N T H W C"],
    fake: UInt8[np.ndarray, "M S Y X C"],
    *,
    network: FeatureNetwork,
    window: int | None = None,  # frames; None = whole videos, which must then be equally long in both sets
    k: int = 5,
    batch_size: int = 64,
) -> Score:
    """In how many real balls a generated video lies, over k: quality, less moved by outliers. See `neighborhood`."""
    return _measured(real, fake, network, window, k, batch_size).density


def coverage(
    real: UInt8[np.ndarray, "N T H W C"],
    fake: UInt8[np.ndarray, "M S Y X C"],
    *,
    network: FeatureNetwork,
    window: int | None = None,  # frames; None = whole videos, which must then be equally long in both sets
    k: int = 5,
    batch_size: int = 64,
) -> Score:
    """Share of the real videos with a generated one in their ball: variety. See `neighborhood`."""
    return _measured(real, fake, network, window, k, batch_size).coverage
