"""Scores of videos that arrive in batches: update with each batch, merge other workers' accumulators, then compute.

For training loops and for many workers. Memory is that of the statistics, whatever the number of videos, and neither
the batches nor the order of merging change a result by more than rounding.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, UInt8
from scipy.special import log_softmax, xlogy

from metrics.distribution.frechet import Gaussian
from metrics.distribution.fvd import N_GROUPS, frechet_score_of_parts
from metrics.distribution.inception_score import check_probabilities
from metrics.intervals import jackknife_interval
from metrics.networks.features import FeatureNetwork, digest_of, extract
from metrics.protocols import FvdProtocol, Storage
from metrics.score import Score
from metrics.videos.frames import check_videos


class FvdAccumulator:
    """FVD of videos that arrive in batches.

    Videos are assigned to the groups of the jackknife in turn, as they arrive, and taken to be independent: of a
    video's many windows, give one. A protocol says how frames are stored before the network sees them, and the ddof;
    the caller chooses the clips.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        protocol: FvdProtocol | None = None,  # a row of metrics.protocols.FVD; None = frames as given, ddof 1
        *,
        ddof: int | None = None,  # None = the protocol's
        stored: bool = False,  # videos are already as the protocol's loader stores them
        groups: int = N_GROUPS,
    ) -> None:
        self.network = network
        self.ddof = ddof if ddof is not None else 1 if protocol is None else protocol.ddof
        self._storage: dict[str, Storage | None] = {"real": None, "fake": None}
        if protocol is not None and not stored:
            self._storage = {"real": protocol.real.storage, "fake": protocol.fake.storage}
        self._parts: dict[str, list[Gaussian | None]] = {side: [None] * groups for side in ("real", "fake")}
        self._frames: int | None = None  # of every video; None = none yet

    def update(
        self,
        *,
        real: UInt8[np.ndarray, "N T H W C"] | None = None,
        fake: UInt8[np.ndarray, "M S Y X C"] | None = None,
        batch_size: int = 64,
    ) -> None:
        """Add videos of one side or of both, as `check_videos` wants them; what is refused adds nothing.

        Raises:
            ValueError: an array that is no set of videos, videos of another length than those before, or what the
                network refuses.
        """
        added: dict[str, dict[int, Gaussian]] = {}
        for side, videos in (("real", real), ("fake", fake)):
            if videos is None:
                continue
            check_videos(videos, what=f"{side} videos")
            rows = np.concatenate(
                [
                    extract(self.network, self._stored(side, videos[i : i + batch_size])).embedding
                    for i in range(0, len(videos), batch_size)
                ]
            )
            group = (self._count(side) + np.arange(len(rows))) % len(self._parts[side])
            added[side] = {int(number): Gaussian.of(rows[group == number]) for number in np.unique(group)}
        for videos in (real, fake):
            self._keep_length(None if videos is None else videos.shape[1])
        for side, parts in added.items():
            self._add(side, parts)

    def _count(self, side: str) -> int:
        return sum(part.n for part in self._parts[side] if part is not None)

    def _add(self, side: str, added: Mapping[int, Gaussian]) -> None:
        for number, new in added.items():
            old = self._parts[side][number]
            self._parts[side][number] = new if old is None else old.merge(new)

    def _keep_length(self, frames: int | None) -> None:
        if None not in (frames, self._frames) and frames != self._frames:
            raise ValueError(
                f"whole videos are comparable only at equal length: got {frames} frames after {self._frames}, cut "
                "windows"
            )
        self._frames = self._frames or frames

    def _stored(self, side: str, videos: UInt8[np.ndarray, "N T H W C"]) -> UInt8[np.ndarray, "N T Y X C"]:
        storage = self._storage[side]
        if storage is None:
            return videos
        from metrics.videos.preprocess import store  # noqa: PLC0415 - torch is slow to import

        return store(videos, storage)

    def merge(self, other: "FvdAccumulator") -> None:
        """Add what another accumulator has, with the same network.

        Raises:
            ValueError: another network, other weights, another storage, ddof, number of groups or length of videos.
        """
        ours, theirs = (
            (x.network.name, digest_of(x.network), x._storage, x.ddof, len(x._parts["real"])) for x in (self, other)
        )
        if ours != theirs:
            raise ValueError(
                f"only equal accumulators merge: got (network, weights, storage, ddof, groups) {ours} and {theirs}"
            )
        self._keep_length(other._frames)
        for side, parts in other._parts.items():
            self._add(side, {number: part for number, part in enumerate(parts) if part is not None})

    def compute(self) -> Score:
        """FVD of all videos so far, with its interval.

        Raises:
            ValueError: fewer than 2 videos on a side.
        """
        sides = [[part for part in self._parts[side] if part is not None] for side in ("real", "fake")]
        return frechet_score_of_parts(*sides, ddof=self.ddof)

    def reset(self) -> None:
        """Back to no videos."""
        self._frames = None
        for parts in self._parts.values():
            parts[:] = [None] * len(parts)


class IsAccumulator:
    """Inception Score in pieces, over all videos at once: splits would need their number beforehand."""

    def __init__(self, network: FeatureNetwork, *, head: str = "action", groups: int = N_GROUPS) -> None:
        self.network, self.head, self._groups = network, head, groups
        self._count = 0
        self._entropy = np.zeros(groups)  # per group, sum of p log p
        self._sums: Float64[np.ndarray, "G K"] | None = None  # per group, sums of p
        self._counts = np.zeros(groups)

    def update(self, videos: UInt8[np.ndarray, "N T H W C"], *, batch_size: int = 64) -> None:
        """Add videos.

        Raises:
            ValueError: a head that the network does not have, or logits that are no numbers.
        """
        logits = extract(self.network, videos, batch_size=batch_size).logits
        if self.head not in logits:
            raise ValueError(
                f"{self.network.name} has no head {self.head!r}: it tells apart {', '.join(sorted(logits))}"
            )
        p = np.exp(log_softmax(logits[self.head].astype(np.float64), axis=1))
        check_probabilities(p)
        chosen = np.eye(self._groups)[(self._count + np.arange(len(p))) % self._groups].T
        self._count += len(p)
        self._entropy += chosen @ xlogy(p, p).sum(axis=1)
        self._counts += chosen.sum(axis=1)
        self._sums = chosen @ p if self._sums is None else self._sums + chosen @ p

    def merge(self, other: "IsAccumulator") -> None:
        """Add what another accumulator has, with the same network.

        Raises:
            ValueError: another network, other weights, another head or number of groups.
        """
        ours, theirs = ((x.network.name, digest_of(x.network), x.head, x._groups) for x in (self, other))
        if ours != theirs:
            raise ValueError(f"only equal accumulators merge: got (network, weights, head, groups) {ours} and {theirs}")
        self._count += other._count
        self._entropy += other._entropy
        self._counts += other._counts
        if other._sums is not None:
            self._sums = other._sums.copy() if self._sums is None else self._sums + other._sums

    def compute(self) -> Score:
        """Inception Score of all videos so far, with its interval.

        Raises:
            ValueError: no videos yet.
        """
        if self._sums is None:
            raise ValueError("an Inception Score needs at least one video: got none, call update first")
        sums = self._sums

        def score(kept: Float64[np.ndarray, " G"]) -> float:
            n, mean = kept @ self._counts, (kept @ sums) / (kept @ self._counts)
            return float(np.exp(kept @ self._entropy / n - xlogy(mean, mean).sum()))

        filled = (self._counts > 0).astype(np.float64)
        value = score(filled)
        if filled.sum() < 3:
            return Score(value, self._count)
        replicates = [score(filled - np.eye(self._groups)[out]) for out in np.flatnonzero(filled)]
        low, high = jackknife_interval(value, [replicates])
        return Score(value, self._count, max(1.0, low), min(float(sums.shape[1]), high), (replicates,))
