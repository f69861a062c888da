"""Measures of single videos, taken together: each video is decoded once, in blocks, for all that is asked of it.

A `Measure` gathers rows of numbers from the frames that go by, and makes a score of them. Measures with one recipe
share their rows, and a cache keeps rows: a killed run resumes, and a second measure of the same features is free.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from metrics.evaluation.cache import Cache, cache_key, hash_of_makers
from metrics.evaluation.cautions import Content, Look, cautions_of_means
from metrics.evaluation.dataset import digest
from metrics.evaluation.extract import hash_frames
from metrics.evaluation.progress import Progress
from metrics.evaluation.result import Result, versions
from metrics.intervals import mean_score
from metrics.networks.features import Features
from metrics.score import Score
from metrics.videos.read import DECODER, Video, VideoInfo, list_videos
from metrics.videos.stream import BLOCK, stream_frames

Frames = UInt8[np.ndarray, "T H W C"]
Rows = Float[np.ndarray, "K F"]


UNLESS_GAPS = ": fix or remove it, or --allow-gaps to measure without it"


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
    most: int | None = None  # it takes the first so many frames of every video, which must be there; None = all

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
class SideValues:
    """One side: a value per video and measure, and what was left out."""

    names: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    parts: dict[str, list[Float[np.ndarray, " _"]]] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    infos: list[VideoInfo] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    @property
    def content(self) -> Content:
        """For cautions."""
        return Content(self.contents, self.looks)

    def means(self) -> dict[str, Score]:
        """The mean of every measure over the videos, with its interval."""
        return {name: mean_score(values, name) for name, values in self.values.items()}


@dataclass(frozen=True)
class FolderScore:
    """What one verb takes of folders, ready to run: its measures may share a pass with those of others."""

    sides: Mapping[str, Sequence[Video]]  # "fake", and "real" where there is one
    measures: Sequence[Measure]
    finish: Callable[[], Result]  # measures what the cache does not have, and makes the scores


@dataclass(frozen=True)
class FolderReader:
    """How folders are read, whatever the measure."""

    n: int | None = None  # the first videos by name; None = all
    allow_gaps: bool = False
    cache: Cache | None = None
    report: Callable[[str, Progress], None] | None = None
    listing: Callable[[Path | str], list[Video]] = list_videos

    def videos(self, source: Path | str) -> list[Video]:
        """The videos of a folder.

        Raises:
            ValueError: none, or fewer than asked for.
        """
        videos = self.listing(source)
        if self.n is not None and len(videos) < self.n:
            raise ValueError(f"{source} holds {len(videos)} videos, {self.n} were requested: ask for fewer")
        return videos[: self.n]

    def infos(self, videos: Sequence[Video]) -> list[tuple[str, VideoInfo]]:
        """Names and sizes of the videos that can be read.

        Raises:
            ValueError: one that cannot, unless gaps are allowed.
        """
        infos = []
        for video in videos:
            try:
                infos.append((video.name, video.probe()))
            except ValueError as error:
                if not self.allow_gaps:
                    raise ValueError(f"{error}{UNLESS_GAPS}") from error
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
                raise ValueError(f"{reasons[0]}{f'; {len(reasons) - 1} more videos too' if len(reasons) > 1 else ''}")
        except ValueError as error:
            if wanted:
                raise ValueError(f"{name} cannot be measured: {error}") from error
            notes.append(f"not measured: {name} ({error})")
            continue
        chosen.append(measure)
    if not chosen:
        raise ValueError(f"nothing can be measured: {'; '.join(notes)}")
    return chosen, notes


class UnreadableError(ValueError):
    """A video that cannot be read, as another than one that cannot be measured."""


def measure_videos(
    videos: Sequence[Video], measures: Sequence[Measure], reader: FolderReader, side: str = "fake"
) -> SideValues:
    """Every measure of every video, with one block of frames in memory.

    Raises:
        ValueError: a video that cannot be read, unless gaps are allowed, or that a measure cannot score.
    """
    measured, kept, started = SideValues(), 0, time.monotonic()
    for number, video in enumerate(videos, 1):
        try:
            gathering = RecipeRows(video, measures, reader.cache)
            kept += gathering.most == 0
            for block in _readable(video, gathering.most):
                gathering.take(block)
        except UnreadableError as error:
            measured.gaps.append(f"{video.name}: {error}")
            if not reader.allow_gaps:
                raise ValueError(f"{error}{UNLESS_GAPS}") from error
            continue
        rows, look = gathering.finish()
        measured.names.append(video.name)
        measured.contents.append(gathering.content)
        measured.infos.append(gathering.info)
        measured.looks.append(look)
        for measure in measures:
            of_measure = rows[_recipe(measure)], gathering.info, video.name
            measured.values.setdefault(measure.name, []).append(measure.score(*of_measure))
            if measure.parts is not None:
                measured.parts.setdefault(measure.name, []).append(measure.parts(*of_measure))
        if reader.report is not None:
            reader.report(side, Progress(number, len(videos), kept, time.monotonic() - started))
    if not measured.names:
        raise ValueError("not one video could be read: give videos that can be decoded")
    return measured


def _readable(video: Video, most: int | None) -> Iterator[Frames]:
    """Blocks of frames; none where none are wanted."""
    if most == 0:
        return
    try:
        yield from stream_frames(video, BLOCK, most)
    except (OSError, ValueError) as error:
        raise UnreadableError(str(error)) from error


class RecipeRows:
    """The rows of every recipe of one video: from the cache, or of the frames that go by.

    Raises:
        UnreadableError: the video's size cannot be told, or it has fewer frames than a measure takes.
    """

    def __init__(self, video: Video, measures: Sequence[Measure], cache: Cache | None) -> None:
        try:
            self.info, self.content = video.probe(), content_of(video)
        except (OSError, ValueError) as error:
            raise UnreadableError(str(error)) from error
        by_recipe = {_recipe(measure): measure for measure in measures}
        key = f"{self.content} {DECODER} {hash_of_makers()}"
        self._keys = {recipe: cache_key(key, each.recipe) for recipe, each in by_recipe.items()}
        self._cache, self._passed, self._largest = cache, 0, 0
        self._rows, looks = dict[str, Rows](), list[Look]()
        for recipe, of_recipe in self._keys.items():
            kept = None if cache is None else cache.get(of_recipe)
            if kept is not None:
                features, look = kept
                self._rows[recipe] = features.embedding.reshape(features.logits["shape"][0].astype(int).tolist())
                looks.append(look)
        self._look = looks[0] if looks else None
        self._collectors: list[tuple[str, Collector, int | None]] = []
        for recipe, each in by_recipe.items():
            if each.most is not None and self.info.frames < each.most:
                raise UnreadableError(video.too_few(self.info.frames, 0, each.most, 1))
            if recipe not in self._rows:
                self._collectors.append((recipe, each.begin(self.info), each.most))

    @property
    def most(self) -> int | None:
        """The first frames that are wanted; None = all; 0 = none, as the cache has all rows."""
        wanted = [most for _, _, most in self._collectors]
        return max((most or 0 for most in wanted), default=0) if None not in wanted else None

    def take(self, frames: Frames) -> None:
        """The next block."""
        for _, collector, most in self._collectors:
            block = frames if most is None else frames[: max(0, most - self._passed)]
            if len(block):
                collector.take(block)
        self._passed += len(frames)
        self._largest = max(self._largest, int(frames.max()))

    def finish(self) -> tuple[dict[str, Rows], Look]:
        """The rows by recipe, which the cache keeps, and what was seen of the pixels."""
        look = self._look or Look(self.info.height, self.info.width, self._largest)
        for recipe, collector, _ in self._collectors:
            self._rows[recipe] = rows = collector.rows()
            if self._cache is not None:
                shape = np.array([rows.shape], dtype=np.float64)
                self._cache.put([self._keys[recipe]], Features(rows.reshape(1, -1), {"shape": shape}), [look])
        return self._rows, look


def _recipe(measure: Measure) -> str:
    return json.dumps(measure.recipe, sort_keys=True)


def content_of(video: Video) -> str:
    """A hash of the video's file or files, or of its frames, block by block."""
    stamp = video.fingerprint()
    return stamp or digest([hash_frames(block) for block in stream_frames(video, BLOCK)])


def measure_sides(
    sides: Mapping[str, Sequence[Video]],  # "fake", and "real" where there is one
    measures: Sequence[Measure],
    reader: FolderReader,
    summarize: Callable[[SideValues], dict[str, Score]],
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
    contents: dict[str, Content] = {}
    gaps: list[str] = []
    for side, videos in sides.items():
        measured = measure_videos(videos, measures, reader, side)
        ending = "" if side == "fake" else "_real"
        scores |= {name + ending: score for name, score in summarize(measured).items()}
        values |= {name + ending: of_videos for name, of_videos in measured.values.items()}
        hashes = {"names_sha256": digest(measured.names), "content_sha256": digest(measured.contents)}
        made_with[side] = hashes | {"gap_reasons": measured.gaps}
        counts[side] = {"videos": len(measured.names), "gaps": len(measured.gaps)}
        contents[side] = measured.content
        gaps += [f"{len(measured.gaps)} {side} videos could not be read and are left out"] if measured.gaps else []
        if side == "real":
            counts[side]["content_sha256"] = hashes["content_sha256"]
    manifest: dict[str, object] = {
        **about,
        "measures": {measure.name: dict(measure.recipe) for measure in measures},
        "decoder": DECODER,
        **{side: counts.get(side) for side in ("real", "fake")},
    }
    return Result(scores, manifest, made_with, values, [*notes, *gaps, *cautions_of_means(contents)])
