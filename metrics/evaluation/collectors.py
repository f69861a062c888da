"""What is gathered while the frames of a video go by: features of every frame or of one clip, numbers of pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from metrics.networks.vision import VisionFeatures

Frame = UInt8[np.ndarray, "H W C"]
Frames = UInt8[np.ndarray, "T H W C"]
Rows = Float[np.ndarray, "K F"]


@dataclass
class FrameRows:
    """One row a frame, of a function of blocks."""

    of_frames: Callable[[Frames], Rows]
    parts: list[Rows] = field(default_factory=list)

    def take(self, frames: Frames) -> None:
        """Compute."""
        self.parts.append(self.of_frames(frames))

    def rows(self) -> Rows:
        """All rows in order."""
        return np.concatenate(self.parts)


@dataclass
class ChosenClip:
    """The features of one clip, of frames that are chosen by the length of the video."""

    network: VisionFeatures
    chosen: Sequence[int]  # numbers of frames, ascending
    held: list[Frame] = field(default_factory=list)
    passed: int = 0

    def take(self, frames: Frames) -> None:
        """Keep the chosen ones."""
        ahead = range(self.passed, self.passed + len(frames))
        self.held += [frames[i - self.passed].copy() for i in self.chosen if i in ahead]
        self.passed += len(frames)

    def rows(self) -> Rows:
        """One row."""
        return self.network.rows(np.stack(self.held))


@dataclass
class Steps:
    """One number for each pair of frames `stride` apart that follow each other."""

    step: Callable[[Frame, Frame], float]
    stride: int = 1
    numbers: list[float] = field(default_factory=list)
    before: Frame | None = None
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
