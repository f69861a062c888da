"""What is gathered while the frames of one video go by in blocks: features, changes, flow; one pass serves them all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from metrics.networks.vision import VisionFeatures
from metrics.temporal.frame_difference import gray_step
from metrics.temporal.raft import Raft, padding
from metrics.vbench.formulas import fastest
from metrics.videos.read import VideoInfo
from metrics.videos.vision import middle_frames

Frames = UInt8[np.ndarray, "T H W C"]
Rows = Float[np.ndarray, "K F"]
Interpolator = Callable[[Frames, Frames], Frames]  # frames before and after -> the bytes in the middle


@runtime_checkable
class Collector(Protocol):
    """Gathers numbers from the frames of one video."""

    def take(self, frames: Frames) -> None:
        """The next frames."""
        ...

    def rows(self) -> Rows:
        """What was gathered."""
        ...


@dataclass
class FrameRows:
    """The features of every frame."""

    network: VisionFeatures
    parts: list[Rows] = field(default_factory=list)

    def take(self, frames: Frames) -> None:
        """Embed."""
        self.parts.append(self.network.rows(frames))

    def rows(self) -> Rows:
        """One row a frame."""
        return np.concatenate(self.parts)


@dataclass
class ChosenClip:
    """The features of one clip, of frames that are chosen by the length of the video."""

    network: VisionFeatures
    chosen: Sequence[int]  # numbers of frames, ascending
    held: list[UInt8[np.ndarray, "H W C"]] = field(default_factory=list)
    passed: int = 0

    def take(self, frames: Frames) -> None:
        """Keep the chosen ones."""
        for i in self.chosen:
            if self.passed <= i < self.passed + len(frames):
                self.held.append(frames[i - self.passed].copy())
        self.passed += len(frames)

    def rows(self) -> Rows:
        """One row."""
        return self.network.rows(np.stack(self.held))


def middle_clip(network: VisionFeatures, info: VideoInfo) -> ChosenClip:
    """ViCLIP's 8 frames of a video."""
    return ChosenClip(network, middle_frames(info.frames))


@dataclass
class Steps:
    """One number for each pair of frames `stride` apart that follow each other."""

    step: Callable[[UInt8[np.ndarray, "H W C"], UInt8[np.ndarray, "H W C"]], float]
    stride: int = 1
    numbers: list[float] = field(default_factory=list)
    before: UInt8[np.ndarray, "H W C"] | None = None
    passed: int = 0

    def take(self, frames: Frames) -> None:
        """Compare those that the stride leaves."""
        for frame in frames[-self.passed % self.stride :: self.stride]:
            if self.before is not None:
                self.numbers.append(self.step(self.before, frame))
            self.before = frame.copy()
        self.passed += len(frames)

    def rows(self) -> Rows:
        """One row a pair."""
        return np.array(self.numbers, dtype=np.float64)[:, None]


def gray_steps() -> Steps:
    """VBench's change from frame to frame, in gray levels."""
    return Steps(gray_step)


def flow_steps(raft: Raft, stride: int, *, compat: bool = False) -> Steps:
    """Lengths of the fastest twentieth of the flow, pixels; `compat` has NaN where frames are too small for RAFT."""

    def step(a: UInt8[np.ndarray, "H W C"], b: UInt8[np.ndarray, "H W C"]) -> float:
        left, right, top, bottom = padding(*a.shape[:2])
        if compat and min(a.shape[0] + top + bottom, a.shape[1] + left + right) < 128:
            return float("nan")
        return fastest(raft.padded(a[None], b[None])[0])

    return Steps(step, stride)


@dataclass
class Interpolated:
    """How far every second frame is from what its neighbors predict, mean absolute gray levels."""

    interpolate: Interpolator
    numbers: list[float] = field(default_factory=list)
    held: list[UInt8[np.ndarray, "H W C"]] = field(default_factory=list)

    def take(self, frames: Frames) -> None:
        """Compare where three frames are complete."""
        for frame in frames:
            self.held.append(frame.copy())
            if len(self.held) == 3:
                a, true, b = self.held
                middle = self.interpolate(a[None], b[None])[0]
                self.numbers.append(float(np.abs(middle.astype(np.float32) - true.astype(np.float32)).mean()))
                self.held = [b]

    def rows(self) -> Rows:
        """One row a triple."""
        return np.array(self.numbers, dtype=np.float64)[:, None]
