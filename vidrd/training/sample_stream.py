"""The samples of a training run: number n is the same whoever reads it, and on how many machines.

Every epoch is a permutation of the usable rows; window, caption, crop and noise of sample n are keyed by (seed, n). So
a run resumes from one integer, the number of samples drawn, and two processes that take turns see what one would.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vidrd.data.shards import ShardSet
from vidrd.orphans import follow_starter
from vidrd.video import square

BLOCK = 10_000  # samples among which several sets have exactly their shares
_SIDES = re.compile(r"\b(left|right|clockwise|counterclockwise|anticlockwise)\b", re.IGNORECASE)


class View(NamedTuple):
    """The square of a frame that a sample shows."""

    side: float = 1.0  # share of the shorter side
    across: float = 0.5  # place between the left end, 0, and the right end, 1
    down: float = 0.5  # between the top and the bottom
    mirrored: bool = False  # left and right exchanged


MIDDLE = View()


@runtime_checkable
class ClipSet(Protocol):
    """A data set of captioned clips: pixels in [-1, 1], or unscaled latents."""

    frames: ndarray  # of each row

    def captions(self, row: int) -> Sequence[str]:
        """Captions of a row, at least one."""
        ...

    def origins(self) -> Sequence[str]:
        """The source file of each row."""
        ...

    def clip(self, row: int, indices: Sequence[int], view: View = MIDDLE) -> Float[Tensor, "C T H W"]:
        """Some frames of a row, C T H W."""
        ...


class PixelSet:
    """Clips of a shard set as squares of `size` pixels."""

    def __init__(self, shards: ShardSet, size: int):
        self.shards, self.size = shards, size
        self.frames = shards.frames

    def captions(self, row: int) -> Sequence[str]:
        """The row's captions."""
        return self.shards.captions(row)

    def origins(self) -> Sequence[str]:
        """The source file of each row."""
        return self.shards.columns("uri")[0]

    def clip(self, row: int, indices: Sequence[int], view: View = MIDDLE) -> Float[Tensor, "C T H W"]:
        """A square of some frames, C T H W in [-1, 1]."""
        pixels = square(self.shards.read(row, indices), self.size, view.side, (view.down, view.across))
        return pixels.flip(-1) if view.mirrored else pixels


@dataclass(frozen=True)
class Views:
    """The range of views that are drawn at random."""

    anywhere: bool = False  # or in the middle
    smallest: float | int = 1.0  # least share of the shorter side
    flip: bool = False  # mirror half of the samples, except those whose caption names left or right

    def draw(self, caption: str, *key: int | str) -> View:
        """The view that belongs to a key."""
        rng = keyed_rng(*key, "view")
        side, across, down, toss = rng.uniform(size=4)
        return View(
            self.smallest + (1 - self.smallest) * side if self.anywhere else 1.0,
            across if self.anywhere else 0.5,
            down if self.anywhere else 0.5,
            self.flip and bool(toss < 0.5) and not _SIDES.search(caption),
        )


class TrainingSample(NamedTuple):
    """One clip of a batch."""

    number: int  # in the run
    clip: Float[Tensor, "C T H W"]
    caption: str


class IndexedSamples(Dataset):
    """The samples of a run from one set, indexed by their number."""

    def __init__(
        self,
        clips: ClipSet,
        *,
        seed: int,
        frames: int,
        stride: int = 1,
        stream: str = "video",
        views: Views = Views(),
        left_out: Sequence[int] = (),  # rows
    ):
        self.clips, self.seed, self.frames, self.stride, self.stream = clips, seed, frames, stride, stream
        self.views = views
        self.rows: Int64[ndarray, " N"] = np.setdiff1d(np.flatnonzero(np.asarray(clips.frames) >= frames), left_out)
        if not len(clips.frames):
            raise ValueError("the data set has no clips: prepare one that has")
        if not len(self.rows):
            held = ", held-out ones apart" if len(left_out) else ""
            raise ValueError(
                f"no clip of the data set has {frames} frames{held}: ask for fewer, or prepare longer clips"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> TrainingSample:
        epoch, place = divmod(number, len(self.rows))
        row = int(self.rows[permutation(len(self.rows), self.seed, self.stream, epoch)[place]])
        rng = keyed_rng(self.seed, self.stream, number)
        length = int(self.clips.frames[row])
        stride = min(self.stride, (length - 1) // max(1, self.frames - 1)) if self.frames > 1 else 1
        first = int(rng.integers(length - (self.frames - 1) * stride))
        captions = self.clips.captions(row)
        caption = captions[int(rng.integers(len(captions)))] if captions else ""
        indices = range(first, first + self.frames * stride, stride)
        view = MIDDLE if self.views == Views() else self.views.draw(caption, self.seed, self.stream, number)
        return TrainingSample(number, self.clips.clip(row, indices, view), caption)


class MixedSamples(Dataset):
    """The samples of a run from several sets, each in its share; a set's own samples come in its own order."""

    def __init__(self, sets: Sequence[IndexedSamples], weights: Sequence[float | int], stream: str = "video"):
        self.sets, self.seed, self.stream = list(sets), sets[0].seed, stream
        self.counts = shares_of(weights, BLOCK)

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    def __getitem__(self, number: int) -> TrainingSample:
        block, place = divmod(number, BLOCK)
        order = _mixture(self.counts, self.seed, self.stream, block)
        chosen = int(order[place])
        own = block * self.counts[chosen] + int((order[:place] == chosen).sum())
        return self.sets[chosen][own]._replace(number=number)


def shares_of(weights: Sequence[float | int], whole: int) -> tuple[int, ...]:
    """Whole numbers in the ratio of the weights that add up to `whole`: the largest remainders are rounded up.

    Raises:
        ValueError: a weight is so small that its share is none.
    """
    exact = np.asarray(weights, np.float64) / np.sum(weights) * whole
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: whole - int(counts.sum())]] += 1
    if not counts.all():
        raise ValueError(f"a set's share is at least 1 of {whole} samples: got weights {', '.join(map(str, weights))}")
    return tuple(int(count) for count in counts)


@lru_cache(maxsize=8)
def _mixture(counts: tuple[int, ...], seed: int, stream: str, block: int) -> Int64[ndarray, " N"]:
    """The set of each sample of a block."""
    return keyed_rng(seed, stream, "mixture", block).permutation(np.repeat(np.arange(len(counts)), counts))


def hold_out(clips: ClipSet, count: int, frames: int, seed: int) -> list[int]:
    """At least `count` rows with enough frames, and all others of the same source files, which are not trained on.

    The first `count` of them are those to validate on. Whole files are held out: clips of one video are alike.

    Raises:
        ValueError: nothing would be left to train on.
    """
    if not count:
        return []
    origins, lengths = np.asarray(clips.origins()), np.asarray(clips.frames)
    if not len(lengths):
        raise ValueError("the data set has no clips: prepare one that has")
    files = np.unique(origins)
    rows: list[int] = []
    others: list[int] = []
    for file in files[keyed_rng(seed, "held out").permutation(len(files))]:
        if len(rows) >= count:
            break
        own = np.flatnonzero(origins == file)
        rows += [int(row) for row in own if lengths[row] >= frames]
        others += [int(row) for row in own if lengths[row] < frames]
    if len(rows) < count or len(rows) + len(others) == len(lengths):
        raise ValueError(
            f"held-out clips are fewer than the set's, by whole source files: got {count}, the set has "
            f"{int((lengths >= frames).sum())} clips of {frames} frames from {len(files)} files"
        )
    return rows + others


class BatchLoader:
    """Batches of a run by step, for one of several processes, read ahead by workers."""

    def __init__(
        self, draws: IndexedSamples | MixedSamples, batch: int, *, rank: int = 0, world: int = 1, workers: int = 0
    ):
        if batch % world:
            raise ValueError(f"the batch is shared evenly: {batch} clips among {world} processes; take a multiple")
        self.draws, self.batch, self.rank, self.world, self.workers = draws, batch, rank, world, workers
        self._next = -1
        self._batches: Iterator[list[TrainingSample]] = iter(())

    def __call__(self, step: int) -> list[TrainingSample]:
        """This process's part of the batch of a step; consecutive steps are fast."""
        if step != self._next:
            loader: DataLoader[Any] = DataLoader(
                self.draws,
                batch_sampler=_Steps(step, self.numbers),
                num_workers=self.workers,
                collate_fn=list,
                multiprocessing_context="spawn" if self.workers else None,
                generator=torch.Generator(),  # else it draws from the global one, on which dropout depends
                worker_init_fn=_follow,
            )
            self._batches = iter(loader)
        self._next = step + 1
        return next(self._batches)

    def numbers(self, step: int) -> list[int]:
        """The samples of a step that this process gets."""
        mine = self.batch // self.world
        first = step * self.batch + self.rank * mine
        return list(range(first, first + mine))


def _follow(worker: int) -> None:
    """End with the training process, however that one ends."""
    follow_starter()


class _Steps:
    """Sample numbers of step after step, without end."""

    def __init__(self, first: int, numbers: Callable[[int], list[int]]):
        self.first, self.numbers = first, numbers

    def __iter__(self) -> Iterator[list[int]]:
        step = self.first
        while True:
            yield self.numbers(step)
            step += 1


@lru_cache(maxsize=8)
def permutation(count: int, seed: int, stream: str, epoch: int) -> Int64[ndarray, " N"]:
    """The shuffled rows of an epoch."""
    return keyed_rng(seed, stream, "order", epoch).permutation(count)


def keyed_rng(*key: int | str) -> np.random.Generator:
    """A numpy generator that depends on the key alone."""
    words = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(words, "big")))
