"""The samples of a training run: number n is the same whoever reads it, and on how many machines.

Every epoch is a permutation of the usable rows; window, caption and noise of sample n are keyed by (seed, n). So a run
resumes from one integer, the number of samples drawn, and two processes that take turns see what one would.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
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
from vidrd.video import middle_square


@runtime_checkable
class ClipSet(Protocol):
    """A data set of captioned clips: pixels in [-1, 1], or unscaled latents."""

    frames: ndarray  # of each row

    def captions(self, row: int) -> Sequence[str]:
        """Captions of a row, at least one."""
        ...

    def clip(self, row: int, indices: Sequence[int]) -> Float[Tensor, "C T H W"]:
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

    def clip(self, row: int, indices: Sequence[int]) -> Float[Tensor, "C T H W"]:
        """The middle square of some frames, C T H W in [-1, 1]."""
        return middle_square(self.shards.read(row, indices), self.size)


class TrainingSample(NamedTuple):
    """One clip of a batch."""

    number: int  # in the run
    clip: Float[Tensor, "C T H W"]
    caption: str


class IndexedSamples(Dataset):
    """The samples of a run, indexed by their number."""

    def __init__(self, clips: ClipSet, *, seed: int, frames: int, stride: int = 1, stream: str = "video"):
        self.clips, self.seed, self.frames, self.stride, self.stream = clips, seed, frames, stride, stream
        self.rows: Int64[ndarray, " N"] = np.flatnonzero(np.asarray(clips.frames) >= frames)
        if not len(clips.frames):
            raise ValueError("the data set has no clips: prepare one that has")
        if not len(self.rows):
            raise ValueError(f"no clip of the data set has {frames} frames: ask for fewer, or prepare longer clips")

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
        return TrainingSample(number, self.clips.clip(row, range(first, first + self.frames * stride, stride)), caption)


class BatchLoader:
    """Batches of a run by step, for one of several processes, read ahead by workers."""

    def __init__(self, draws: IndexedSamples, batch: int, *, rank: int = 0, world: int = 1, workers: int = 0):
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
