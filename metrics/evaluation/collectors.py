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
class ChosenClips:
    """The features of clips, of frames that are chosen by the length of the video."""

    network: VisionFeatures
    clips: Sequence[Sequence[int]]  # numbers of frames
    chosen: dict[int, Frame] = field(default_factory=dict)
    passed: int = 0

    def take(self, frames: Frames) -> None:
        """Keep the chosen ones."""
        ahead = range(self.passed, self.passed + len(frames))
        self.chosen |= {i: frames[i - self.passed].copy() for clip in self.clips for i in clip if i in ahead}
        self.passed += len(frames)

    def rows(self) -> Rows:
        """One row a clip."""
        return np.concatenate([self.network.rows(np.stack([self.chosen[i] for i in clip])) for clip in self.clips])


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
