"""Measures of single videos, taken together: each video is decoded once, in blocks, for all that is asked of it.

A `Measure` gathers rows of numbers from the frames that go by, and makes a score of them. Measures with one recipe
share their rows, and a cache keeps rows: a killed run resumes, and a second measure of the same features is free.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from metrics.evaluation.cache import FeatureCache, cache_key, hash_of_makers
from metrics.evaluation.cautions import Look
from metrics.evaluation.dataset import digest
from metrics.evaluation.extract import hash_frames
from metrics.evaluation.progress import Progress
from metrics.evaluation.result import Result, versions
from metrics.networks.features import Features
from metrics.score import Score
from metrics.videos.read import DECODER, Video, VideoInfo, list_videos
from metrics.videos.stream import stream_frames

Frames = UInt8[np.ndarray, "T H W C"]
Rows = Float[np.ndarray, "K F"]
BLOCK = 16  # frames in memory at a time
LARGEST = 255  # byte of a frame, where nobody looked


@runtime_checkable
class Collector(Protocol):
    """Gathers numbers from the frames of one video."""

    def take(self, frames: Frames) -> None:
        """The next frames."""
        ...

    def rows(self) -> Rows:
        """What was gathered."""
        ...


@dataclass(frozen=True)
class Measure:
    """One measure of single videos, ready to run."""

    name: str
    recipe: Mapping[str, object]  # all that decides what is gathered, beside the frames: part of the cache's key
    begin: Callable[[VideoInfo], Collector]
    score: Callable[[Rows, VideoInfo, str], float]  # of one video, by its name
    frames: int = 1  # the fewest of a video
    check: Callable[[VideoInfo], None] = lambda info: None  # raises ValueError where a video cannot be measured
    parts: Callable[[Rows, VideoInfo, str], Float[np.ndarray, " _"]] | None = None  # of frames, where sets pool them

    def refuse(self, info: VideoInfo, name: str) -> str | None:
        """Why a video has no score, or None."""
        if info.frames < self.frames:
            return f"{name} has {info.frames} frames, {self.name} needs {self.frames}"
        try:
            self.check(info)
        except ValueError as error:
            return f"{name}: {error}"
        return None


@dataclass
class Measured:
    """One side: a value per video and measure, and what was left out."""

    names: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    parts: dict[str, list[Float[np.ndarray, " _"]]] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FolderReader:
    """How folders are read, whatever the measure."""

    n: int | None = None  # the first videos by name; None = all
    allow_gaps: bool = False
    cache: FeatureCache | None = None
    report: Callable[[str, Progress], None] | None = None
    listing: Callable[[Path | str], list[Video]] = list_videos

    def videos(self, source: Path | str) -> list[Video]:
        """The videos of a folder.

        Raises:
            ValueError: none, or fewer than asked for.
        """
        found = self.listing(source)
        if self.n is not None and len(found) < self.n:
            raise ValueError(f"{source} holds {len(found)} videos, {self.n} were requested: ask for fewer")
        return found[: self.n]

    def infos(self, videos: Sequence[Video]) -> list[tuple[str, VideoInfo]]:
        """Names and sizes of the videos that can be read.

        Raises:
            ValueError: one that cannot, unless gaps are allowed.
        """
        infos = []
        for video in videos:
            try:
                infos.append((video.name, video.probe()))
            except ValueError:
                if not self.allow_gaps:
                    raise
        return infos


def choose_measures(
    loaders: Mapping[str, Callable[[], Measure]],  # of all measures, by name
    wanted: Sequence[str],  # () = all that can be measured
    infos: Sequence[tuple[str, VideoInfo]],
) -> tuple[list[Measure], list[str]]:
    """The measures that can be taken of these videos, and why the others cannot.

    Measures that are asked for by name are never left out; where none is, those without files or suitable videos are,
    with a note.

    Raises:
        ValueError: a measure that is asked for does not exist or cannot be taken, or none can.
    """
    if unknown := [name for name in wanted if name not in loaders]:
        raise ValueError(f"there is no measure {unknown[0]!r} here: it is one of {', '.join(loaders)}")
    chosen, notes = [], []
    for name in wanted or loaders:
        try:
            measure = loaders[name]()
            if reasons := [reason for video, info in infos if (reason := measure.refuse(info, video))]:
                raise ValueError(f"{reasons[0]}{f' and {len(reasons) - 1} more' if len(reasons) > 1 else ''}")
        except ValueError as error:
            if wanted:
                raise ValueError(f"{name} cannot be measured: {error}") from error
            notes.append(f"not measured: {name} ({error})")
            continue
        chosen.append(measure)
    if not chosen:
        raise ValueError(f"nothing can be measured: {'; '.join(notes)}")
    return chosen, notes


def measure_videos(
    videos: Sequence[Video], measures: Sequence[Measure], reader: FolderReader, side: str = "fake"
) -> Measured:
    """Every measure of every video, with one block of frames in memory.

    Raises:
        ValueError: a video that cannot be read, unless gaps are allowed, or that a measure cannot score.
    """
    measured, started = Measured(), time.monotonic()
    for number, video in enumerate(videos, 1):
        try:
            info, content = video.probe(), content_of(video)
            gathered = gather(video, info, content, measures, reader.cache)
        except ValueError as error:
            measured.gaps.append(f"{video.name}: {error}")
            if not reader.allow_gaps:
                raise ValueError(f"{error}: fix or remove it, or --allow-gaps to measure without it") from error
            continue
        measured.names.append(video.name)
        measured.contents.append(content)
        for measure in measures:
            rows = gathered[_recipe(measure)]
            measured.values.setdefault(measure.name, []).append(measure.score(rows, info, video.name))
            if measure.parts is not None:
                measured.parts.setdefault(measure.name, []).append(measure.parts(rows, info, video.name))
        if reader.report is not None:
            reader.report(side, Progress(number, len(videos), len(measured.gaps), time.monotonic() - started))
    if not measured.names:
        raise ValueError("not one video could be read: give videos that can be decoded")
    return measured


def gather(
    video: Video, info: VideoInfo, content: str, measures: Sequence[Measure], cache: FeatureCache | None
) -> dict[str, Rows]:
    """The rows of every recipe: from the cache, or in one pass over the frames."""
    by_recipe = {_recipe(measure): measure for measure in measures}
    key = f"{content} {DECODER} {hash_of_makers()}"
    keys = {recipe: cache_key(key, each.recipe) for recipe, each in by_recipe.items()}
    found = {recipe: rows for recipe, key in keys.items() if (rows := _from_cache(cache, key)) is not None}
    collectors = {recipe: each.begin(info) for recipe, each in by_recipe.items() if recipe not in found}
    if collectors:
        for block in stream_frames(video, BLOCK):
            for collector in collectors.values():
                collector.take(block)
    for recipe, collector in collectors.items():
        found[recipe] = collector.rows()
        if cache is not None:
            shape = np.array([found[recipe].shape], dtype=np.float64)
            look = Look(info.height, info.width, LARGEST)
            cache.put([keys[recipe]], Features(found[recipe].reshape(1, -1), {"shape": shape}), [look])
    return found


def _recipe(measure: Measure) -> str:
    return json.dumps(measure.recipe, sort_keys=True)


def _from_cache(cache: FeatureCache | None, key: str) -> Rows | None:
    kept = None if cache is None else cache.get(key)
    return None if kept is None else kept[0].embedding.reshape(kept[0].logits["shape"][0].astype(int).tolist())


def content_of(video: Video) -> str:
    """A hash of the video's file or files, or of its frames, block by block."""
    stamp = video.fingerprint()
    return stamp or digest([hash_frames(block) for block in stream_frames(video, BLOCK)])


def measure_sides(
    sides: Mapping[str, Sequence[Video]],  # "fake", and "real" where there is one
    measures: Sequence[Measure],
    reader: FolderReader,
    summarize: Callable[[Measured], dict[str, Score]],
    about: Mapping[str, object],  # protocol, variant and whatever else must be equal for scores to be comparable
    notes: Sequence[str] = (),
) -> Result:
    """All measures of a set, and of real video where it is given, as a result with manifest and notes.

    Raises:
        ValueError: as `measure_videos`.
    """
    scores: dict[str, Score] = {}
    values: dict[str, list[float]] = {}
    made_with = versions()
    counts: dict[str, dict[str, object]] = {}
    for side, videos in sides.items():
        measured = measure_videos(videos, measures, reader, side)
        ending = "" if side == "fake" else "_real"
        scores |= {name + ending: score for name, score in summarize(measured).items()}
        values |= {name + ending: of_videos for name, of_videos in measured.values.items()}
        hashes = {"names_sha256": digest(measured.names), "content_sha256": digest(measured.contents)}
        made_with[side] = hashes | {"gap_reasons": measured.gaps}
        counts[side] = {"videos": len(measured.names), "gaps": len(measured.gaps)}
        if side == "real":
            counts[side]["content_sha256"] = hashes["content_sha256"]
    manifest: dict[str, object] = {
        **about,
        "measures": {measure.name: dict(measure.recipe) for measure in measures},
        "decoder": DECODER,
        **{side: counts.get(side) for side in ("real", "fake")},
    }
    return Result(scores, manifest, made_with, values, list(notes))
