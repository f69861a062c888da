"""What VBench's dimensions gather: gray steps, the fastest flow, what an interpolator misses."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from metrics.evaluation.collectors import Frame, Frames, Steps
from metrics.temporal.frame_difference import gray_step
from metrics.temporal.raft import SMALLEST, Raft, padding
from metrics.vbench.formulas import fastest

Interpolator = Callable[[Frames, Frames], Frames]  # frames before and after -> the bytes in the middle


def gray_steps() -> Steps:
    """VBench's change from frame to frame, in gray levels."""
    return Steps(gray_step)


def padded_side(height: int, width: int) -> int:
    """The shorter side after VBench's padding to multiples of 8."""
    left, right, top, bottom = padding(height, width)
    return min(height + top + bottom, width + left + right)


def flow_steps(raft: Raft, stride: int, *, compat: bool = False) -> Steps:
    """Lengths of the fastest twentieth of the flow, pixels; `compat` has NaN where frames are too small for RAFT."""

    def step(a: Frame, b: Frame) -> float:
        if compat and padded_side(*a.shape[:2]) < SMALLEST:
            return float("nan")
        return fastest(raft.padded(a[None], b[None])[0])

    return Steps(step, stride)


@dataclass
class InterpolationGap:
    """How far every second frame is from what its neighbors predict, mean absolute gray levels."""

    interpolate: Interpolator
    numbers: list[float] = field(default_factory=list)
    window: list[UInt8[np.ndarray, "H W C"]] = field(default_factory=list)

    def take(self, frames: Frames) -> None:
        """Compare where three frames are complete."""
        for frame in frames:
            self.window.append(frame.copy())
            if len(self.window) == 3:
                a, true, b = self.window
                middle = self.interpolate(a[None], b[None])[0]
                self.numbers.append(float(np.abs(middle.astype(np.float32) - true.astype(np.float32)).mean()))
                self.window = [b]

    def rows(self) -> Float[np.ndarray, "K 1"]:
        """One row a triple."""
        return np.array(self.numbers, dtype=np.float64)[:, None]
