"""Clips that were read, to rows of features, in batches.

Which clips share a batch is decided by their places alone, so the same clips have the same features to the last bit,
whatever else is computed with them, in however many pieces, by however many workers.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from metrics.evaluation.cache import Cache
from metrics.evaluation.cautions import Look
from metrics.evaluation.progress import Progress
from metrics.networks.features import FeatureNetwork, Features, PreparingNetwork

Report = Callable[[Progress], None]


class ReadClip(NamedTuple):
    """A clip, read."""

    ready: Any  # what the network takes of it; None where the cache has the features
    content: str
    key: str
    look: Look
    features: Features | None = None  # from the cache


class Row(NamedTuple):
    """A clip's features."""

    clip: int  # its number
    features: Features  # a batch of one
    content: str
    look: Look


@dataclass
class Tally:
    """What was done of all that was asked for."""

    total: int | None
    report: Report | None
    done: int = 0
    kept: int = 0  # those from the cache
    started: float = field(default_factory=time.monotonic)

    def add(self, done: int, kept: int = 0) -> None:
        """Count, and say so."""
        self.done, self.kept = self.done + done, self.kept + kept
        self.notify()

    def notify(self) -> None:
        """Say how far it is."""
        if self.report is not None:
            self.report(Progress(self.done, self.total, self.kept, time.monotonic() - self.started))


@dataclass
class BatchEmbedder:
    """Embeds clips in batches of consecutive places; clips of different sizes never share one."""

    network: FeatureNetwork
    batch_size: int
    cache: Cache | None
    tally: Tally
    rows: list[Row] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)  # numbers of clips, and why there is no row
    kept: int = 0
    _waiting: dict[int, list[tuple[int, int, ReadClip]]] = field(default_factory=dict)  # batch -> place, number, clip
    _left: dict[int, int] = field(default_factory=dict)  # batch -> clips that have not come

    def take(self, place: int, number: int, clip: ReadClip | str) -> None:
        """One clip, or the reason why it cannot be read; a batch whose last clip this is is embedded."""
        batch = place // self.batch_size
        self._left[batch] = self._left.get(batch, self.batch_size) - 1
        if isinstance(clip, str):
            self.faults.append((number, clip))
            self.tally.add(1)
        elif clip.features is not None:
            self.rows.append(Row(number, clip.features, clip.content, clip.look))
            self.kept += 1
            self.tally.add(1, 1)
        else:
            self._waiting.setdefault(batch, []).append((place, number, clip))
        if self._left[batch] == 0:
            self._embed(batch)

    def finish(self) -> list[Row]:
        """Embed the batches that are not full; all rows, in the order of their numbers."""
        for batch in sorted(self._waiting):
            self._embed(batch)
        return sorted(self.rows, key=lambda row: row.clip)

    def _embed(self, batch: int) -> None:
        waiting = sorted(self._waiting.pop(batch, []), key=lambda each: each[0])
        for _, alike in groupby(waiting, key=lambda each: tuple(each[2].ready.shape)):
            part = [(number, clip) for _, number, clip in alike]
            clips = [clip.ready for _, clip in part]
            if isinstance(self.network, PreparingNetwork):
                features = self.network.embed_prepared(clips)
            else:
                features = self.network.embed(np.stack(clips))
            if self.cache is not None:
                self.cache.put([clip.key for _, clip in part], features, [clip.look for _, clip in part])
            self.rows += [
                Row(number, features.row(i), clip.content, clip.look) for i, (number, clip) in enumerate(part)
            ]
            self.tally.add(len(part))


def ready_of(network: FeatureNetwork) -> Callable[[Any], Any]:
    """What a reader does to the frames of a clip for this network."""
    return network.prepare if isinstance(network, PreparingNetwork) else lambda frames: frames


def stack(rows: Sequence[Row]) -> Features:
    """All rows as one set.

    Raises:
        ValueError: none.
    """
    if not rows:
        raise ValueError("not one clip could be read: give videos that can be decoded and are long enough")
    return Features(
        np.concatenate([row.features.embedding for row in rows]),
        {head: np.concatenate([row.features.logits[head] for row in rows]) for head in rows[0].features.logits},
    )
