"""From data sets to what a step sees: sets mixed in their shares, held-out clips, noise and captions of each sample."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from jaxtyping import Float
from torch import Tensor

from vidrd.data.latents import META, LatentSet
from vidrd.data.shards import ShardSet
from vidrd.models.blocks import frames_of
from vidrd.pipeline import VidRDPipeline
from vidrd.training.loop import keyed_generator
from vidrd.training.sample_stream import (
    MIDDLE,
    BatchLoader,
    ClipSet,
    IndexedSamples,
    MixedSamples,
    PixelSet,
    TrainingSample,
    Views,
    hold_out,
)
from vidrd.training.settings import Settings, weighted_sets


@dataclass
class Feed:
    """A source of clips of one length."""

    loader: BatchLoader
    stream: str
    mine: slice = field(init=False)  # this process's part of a batch

    def __post_init__(self) -> None:
        part = self.loader.batch // self.loader.world
        self.mine = slice(self.loader.rank * part, (self.loader.rank + 1) * part)


class TrainingData:
    """The sets of a run, opened."""

    def __init__(self, settings: Settings, pipeline: VidRDPipeline):
        self.settings = settings
        chosen = weighted_sets(settings.data)
        self.sets = [_open_set(folder, settings, pipeline) for folder, _ in chosen]
        self.names, self.weights = [str(folder) for folder, _ in chosen], [weight for _, weight in chosen]
        self.encoded = isinstance(self.sets[0], LatentSet)  # latents already
        if any(isinstance(each, LatentSet) != self.encoded for each in self.sets):
            raise ValueError("--data names either data sets or caches of latents: got both, make latents of all")
        views = Views(settings.crop == "random", settings.smallest_crop, settings.flip)
        if self.encoded and views != Views():
            raise ValueError("crops and flips are of pixels: train on the data sets, or leave out --crop and --flip")
        self.views = views
        frames = 1 if settings.stage == "image" else settings.frames
        self.left_out: list[list[int]] = []
        for name, clips in zip(self.names, self.sets, strict=True):
            with _about(name):
                self.left_out.append(hold_out(clips, settings.held_out, frames, settings.seed))

    def feed(self, batch: int, frames: int, stream: str, state: PartialState) -> Feed:
        """Clips of a length, over all processes `batch` a step.

        Raises:
            ValueError: a set has none.
        """
        sources = []
        for number, (clips, left_out) in enumerate(zip(self.sets, self.left_out, strict=True)):
            own = stream if len(self.sets) == 1 else f"{stream} {number}"
            with _about(self.names[number]):
                sources.append(
                    IndexedSamples(
                        clips, seed=self.settings.seed, frames=frames, stride=self.settings.stride, stream=own,
                        views=self.views, left_out=left_out,
                    )
                )  # fmt: skip
        draws = sources[0] if len(sources) == 1 else MixedSamples(sources, self.weights, stream)
        loader = BatchLoader(
            draws, batch, rank=state.process_index, world=state.num_processes, workers=self.settings.workers
        )
        return Feed(loader, stream)

    def validation_samples(self, frames: int) -> Iterator[TrainingSample]:
        """The middles of the held-out clips, each with its first caption."""
        numbers = count()
        for clips, rows in zip(self.sets, self.left_out, strict=True):
            for row in rows[: self.settings.held_out]:
                first = (int(clips.frames[row]) - frames) // 2
                captions = clips.captions(row)
                clip = clips.clip(row, range(first, first + frames), MIDDLE)
                yield TrainingSample(next(numbers), clip, captions[0] if captions else "")

    def some_captions(self, count: int) -> tuple[str, ...]:
        """Captions of the first set."""
        clips = self.sets[0]
        return tuple(dict.fromkeys((*clips.captions(row), "")[0] for row in range(min(count, len(clips.frames)))))


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Errors say which set they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _open_set(folder: Path, settings: Settings, pipeline: VidRDPipeline) -> ClipSet:
    """The data set of a folder: latents if it holds any, else pixels."""
    if (folder / META).is_file():
        if settings.stage == "vae-decoder":
            raise ValueError(f"{folder} holds latents; the decoder learns from pixels: name the data set itself")
        latents = LatentSet(folder)
        latents.check(pipeline.vae, settings.size)
        return latents
    return PixelSet(ShardSet(folder), settings.size)


def encode_frames(vae: Any, clips: Float[Tensor, "B C T H W"], chunk: int) -> Float[Tensor, "N D h w"]:
    """Unscaled latents of the frames of clips, `chunk` frames at a time (0: all)."""
    frames = frames_of(clips)
    with torch.no_grad():
        parts = [vae.encode(part).latent_dist.mode().float() for part in frames.split(chunk or len(frames))]
    return torch.cat(parts)


def noise_of(samples: Sequence[TrainingSample], shape: Iterable[int], seed: int, stream: str) -> Tensor:
    """Standard normal noise of each sample, whatever batch it is in."""
    size = tuple(shape)
    keys = (keyed_generator(seed, stream, "noise", sample.number) for sample in samples)
    return torch.stack([torch.randn(size, generator=generator) for generator in keys])


def caption_of(sample: TrainingSample, settings: Settings, stream: str) -> str:
    """The caption that a sample is trained with: at the share that was asked for, none."""
    generator = keyed_generator(settings.seed, stream, "drop", sample.number)
    return "" if float(torch.rand((), generator=generator)) < settings.caption_drop else sample.caption
