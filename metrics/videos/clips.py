"""Which frames of which videos a score uses: drawn by a protocol's rule, kept as a list with a hash.

Draws are keyed by (seed, purpose, the video's name): neither the order of the files nor other videos in the folder move
a video's own clip.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metrics.evaluation.progress import Progress
from metrics.files import read_text, write_text
from metrics.protocols import Sampling
from metrics.videos.read import Video

MOST_FRAMES = 1 << 31  # in a list of clips
WHOLE = Sampling("given", "given", "first", None)  # every video, from its first frame


@dataclass(frozen=True)
class Clip:
    """The frames start, start + stride, ... of one video."""

    video: str  # its name in the set
    start: int
    frames: int
    stride: int = 1


class Fault(NamedTuple):
    """A video that could not be read, and why."""

    video: str
    reason: str


@dataclass(frozen=True)
class SampledClips:
    """The clips of one side, and the videos that were left out."""

    clips: list[Clip]
    short: list[str] = field(default_factory=list)  # videos with too few frames, which the rule discards
    faults: list[Fault] = field(default_factory=list)


def sample_clips(
    videos: Sequence[Video],
    rule: Sampling,
    *,
    frames: int | None,  # of a clip; None = whole videos
    stride: int = 1,
    n: int | None = None,  # clips; None = as many as the rule says, or all
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,  # of the videos whose frames are counted
) -> SampledClips:
    """Draw clips as a protocol says.

    Videos are opened only until there are enough clips, so a fault in a later one does not count. `start="every"` makes
    a clip of each place that one fits, and draws among all of those. If there are fewer clips than requested, all of
    them are returned.

    Raises:
        ValueError: videos too short for a clip under a rule that refuses them, or an n below 1.
    """
    if n is not None and n < 1:
        raise ValueError(f"n is a number of clips from 1: got {n}")
    n = rule.n if n is None else n
    ordered = in_order(videos, rule.order, seed)
    sampled = SampledClips([])
    span = None if frames is None else (frames - 1) * stride + 1
    least = frames * stride if frames is not None and rule.short == "discard" else span  # as published loaders discard
    every, shuffled = rule.start == "every", rule.order == "shuffled"
    fits = []  # videos, the number of places where a clip fits, and the clip's frames
    places = 0
    for video, length in _lengths(ordered, least, rule, sampled, report):
        fits.append((video, length - (span or length) + 1, frames or length))
        places += fits[-1][1] if every else 1
        if n is not None and places >= n and not (every and shuffled):
            break
    if every:
        chosen = _generator(seed, "every").permutation(places) if shuffled else np.arange(places)
        ends = np.cumsum([room for _, room, _ in fits])  # places are numbered through all videos
        clips = []
        for place in chosen[:n].tolist():
            which = int(np.searchsorted(ends, place, side="right"))
            video, room, count = fits[which]
            clips.append(Clip(video.name, place - int(ends[which]) + room, count, stride))
        return SampledClips(clips, sampled.short, sampled.faults)
    rounds = -(-n // len(fits)) if fits and n is not None and rule.repeat else 1
    clips = [
        Clip(video.name, _start(rule, room, seed, video.name, turn), count, stride)
        for turn in range(rounds)
        for video, room, count in fits
    ]
    return SampledClips(clips[:n], sampled.short, sampled.faults)


def tile_clips(
    videos: Sequence[Video], *, frames: int, report: Callable[[Progress], None] | None = None
) -> SampledClips:
    """All the windows of `frames` frames that fit into each video without overlap, from its first frame on."""
    sampled = SampledClips([])
    for video, length in _lengths(videos, frames, WHOLE, sampled, report):
        sampled.clips.extend(Clip(video.name, start, frames) for start in range(0, length - frames + 1, frames))
    return sampled


def write_clips(path: Path | str, clips: Iterable[Clip]) -> None:
    """Write one clip per line, as JSON; the file appears whole or not at all."""
    write_text(path, _lines(clips))


def read_clips(path: Path | str) -> list[Clip]:
    """Read what `write_clips` wrote.

    Raises:
        ValueError: no such file, or a line that is no clip.
    """
    try:
        lines = read_text(path).removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a list of clips: {error}") from error
    clips = []
    for number, line in enumerate(lines, 1):
        try:
            clip = Clip(**json.loads(line))
            whole = isinstance(clip.video, str) and all(
                type(value) is int and least <= value < MOST_FRAMES
                for value, least in ((clip.start, 0), (clip.frames, 1), (clip.stride, 1))
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is no clip: {error}") from error
        if not whole:
            raise ValueError(f"{path}, line {number} is no clip: give video, start, frames, stride, not {line[:80]}")
        clips.append(clip)
    return clips


def hash_clips(clips: Iterable[Clip]) -> str:
    """sha256 of the list as `write_clips` writes it: equal lists, equal hashes."""
    return hashlib.sha256(_lines(clips).encode()).hexdigest()


def _lines(clips: Iterable[Clip]) -> str:
    return "".join(json.dumps(asdict(clip), ensure_ascii=False) + "\n" for clip in clips)


def in_order(videos: Sequence[Video], order: str, seed: int) -> list[Video]:
    """The videos as a rule's `order` has them; shuffled by seed and name, so that other videos change nothing."""
    match order:
        case "name":
            return sorted(videos, key=lambda video: video.name)
        case "shuffled":
            return sorted(videos, key=lambda video: _key(seed, "order", video.name))
    return list(videos)


def _lengths(
    videos: Sequence[Video],
    span: int | None,
    rule: Sampling,
    sampled: SampledClips,
    report: Callable[[Progress], None] | None,
) -> Iterator[tuple[Video, int]]:
    """Videos that are long enough, with their numbers of frames; `sampled` receives the others."""
    started = time.monotonic()
    for number, video in enumerate(videos, 1):
        try:
            length = video.probe().frames
        except ValueError as error:
            sampled.faults.append(Fault(video.name, str(error)))
            continue
        finally:
            if report is not None:
                report(Progress(number, len(videos), 0, time.monotonic() - started))
        if length >= (span or 1):
            yield video, length
        elif rule.short == "discard":
            sampled.short.append(video.name)
        else:
            raise ValueError(
                f"{video.path} has {length} frames, a clip spans {span}: leave it out, or ask for shorter clips"
            )


def _start(rule: Sampling, room: int, seed: int, name: str, turn: int) -> int:
    if rule.start == "first" and turn == 0:
        return 0
    if rule.start == "centre" and turn == 0:
        return (room - 1) // 2
    return int(_generator(seed, "start", name, turn).integers(room))


def _key(*parts: object) -> bytes:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()


def _generator(*parts: object) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_key(*parts)[:16], "little")))
