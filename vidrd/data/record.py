"""What a data set is built from: records, and stages that pass, change, split or drop them.

A stage is a pure function of a record and its pixels; its version goes into the label of its output, so that a data
set records how it was made and finished work is recognized.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from av import VideoFrame
from jaxtyping import UInt8
from numpy import ndarray

from vidrd.data.media import THUMB, to_rgb, to_yuv

Media = Literal["video", "image"]


class Pixels:
    """Frames of a clip as they will be stored, with small copies for stages that need no detail."""

    def __init__(self, frames: Sequence[VideoFrame], fps: float | int, thumbs: UInt8[ndarray, "T h w 3"] | None = None):
        self.frames, self.fps = list(frames), float(fps)
        if thumbs is not None:
            self.__dict__["thumbs"] = thumbs

    @classmethod
    def of_rgb(cls, frames: UInt8[ndarray, "T H W 3"], fps: float | int) -> "Pixels":
        """Pixels of RGB frames, whose height and width must be even."""
        return cls([to_yuv(frame) for frame in frames], fps)

    @cached_property
    def thumbs(self) -> UInt8[ndarray, "T h w 3"]:
        """All frames as thumbnails, RGB."""
        return np.stack([to_rgb(frame, THUMB) for frame in self.frames])

    def rgb(self, indices: Sequence[int] | None = None) -> UInt8[ndarray, "N H W 3"]:
        """Some frames, or all, at full size."""
        chosen = self.frames if indices is None else [self.frames[index] for index in indices]
        return np.stack([to_rgb(frame) for frame in chosen])


@dataclass(frozen=True)
class Record:
    """One video or picture, or a clip cut from one; everything that is known of it."""

    key: str  # unique in the data set, and fit to be a file's name
    uri: str  # path of the file; or "archive.tar?offset=..&length=..", "table.parquet?column=..&row=.."
    source: str  # data set that it comes from
    licence: str
    media: Media = "video"
    start: int = 0  # frame of the source with which it begins, in decode order
    end: int | None = None  # frame after its last one; None: to the end
    seconds: tuple[float, float] | None = None  # of the source that it is, where only times are known of it
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    caption_by: str = "source"  # who wrote the captions
    split: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)  # scores and columns that stages add
    pixels: Pixels | None = field(default=None, compare=False, repr=False)

    def having(self, **facts: Any) -> "Record":
        """The same record with some facts added."""
        return replace(self, facts={**self.facts, **facts})

    def seen(self) -> Pixels:
        """Its pixels, which stages behind the decoder may count on."""
        if self.pixels is None:
            raise ValueError(f"{self.key} has not been decoded: the stage needs pixels and must come after decoding")
        return self.pixels

    def to_json(self) -> dict[str, Any]:
        """All but the pixels."""
        return asdict(replace(self, pixels=None))


@dataclass(frozen=True)
class Drop:
    """A record that was dropped, and why."""

    key: str
    reason: str  # few and fixed, to be counted
    detail: str = ""


@dataclass(frozen=True)
class PreparationStage:
    """A step of the preparation: its function, and a version that changes whenever its results may."""

    name: str
    version: int
    apply: Callable[[Record], Record | Drop]
    together: Callable[[Sequence[Record]], list[Record | Drop]] | None = None  # the same, of several at once

    @property
    def label(self) -> str:
        """Name and version, as the index stores them."""
        return f"{self.name}@{self.version}"


@dataclass
class Tally:
    """Counts of what became of records at each step, and CPU seconds; `check` raises if they do not add up."""

    came: dict[str, int] = field(default_factory=dict)
    went: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)  # step -> reason -> count
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    def enter(self, step: str) -> None:
        """Count a record that enters a step."""
        self.came[step] = self.came.get(step, 0) + 1
        self.went.setdefault(step, 0)

    def leave(self, step: str, outcome: Record | Drop) -> None:
        """Count a record that leaves a step: it goes on, or is dropped for its reason."""
        if isinstance(outcome, Drop):
            reasons = self.dropped.setdefault(step, {})
            reasons[outcome.reason] = reasons.get(outcome.reason, 0) + 1
        else:
            self.went[step] = self.went.get(step, 0) + 1

    def spend(self, step: str, seconds: float) -> None:
        """Add the CPU seconds that a step took."""
        self.cpu_seconds[step] = self.cpu_seconds.get(step, 0.0) + seconds

    def add(self, other: "Tally") -> None:
        """Add the counts and seconds of another task."""
        for mine, theirs in ((self.came, other.came), (self.went, other.went)):
            for step, count in theirs.items():
                mine[step] = mine.get(step, 0) + count
        for step, reasons in other.dropped.items():
            for reason, count in reasons.items():
                self.dropped.setdefault(step, {}).setdefault(reason, 0)
                self.dropped[step][reason] += count
        for step, seconds in other.cpu_seconds.items():
            self.spend(step, seconds)

    def check(self) -> None:
        """Check that every record that entered a step left it.

        Raises:
            AssertionError: records were lost or invented.
        """
        for step, entered in self.came.items():
            out = self.went.get(step, 0) + sum(self.dropped.get(step, {}).values())
            assert entered == out, f"{step}: {entered} records entered, {out} went on or were dropped"


def slug(text: str) -> str:
    """Letters, digits, "-" and "_" of a text: fit for a file name, and without the dots that end a key in a tar."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")[:80] or "_"


def digest(*parts: Any) -> str:
    """A short name for some JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
