"""Optical flow: how far every pixel moves from one frame to the next. Classical here; RAFT in `metrics.temporal.raft`.

A flow is a function of one video that has a name, which is reported with every number: flows differ by method more than
many videos do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

Video = UInt8[np.ndarray, "T H W C"]
LUMA = np.array([0.299, 0.587, 0.114])


class Pair(NamedTuple):
    """Flows in pixels per frame, (x, y) last, between two neighboring frames."""

    forward: Float32[np.ndarray, "H W 2"]
    backward: Float32[np.ndarray, "H W 2"]


@runtime_checkable
class Flow(Protocol):
    """A way to estimate flow."""

    @property
    def name(self) -> str:
        """Method, settings and, for a network, the sha256 of its weights."""
        ...

    def __call__(self, video: Video) -> Iterator[Pair]:
        """The flows between frames 0 and 1, 1 and 2, ... of one video; only a few are in memory at a time."""
        ...


def luma(video: Video) -> UInt8[np.ndarray, "T H W"]:
    """Brightness of every pixel, rounded to a byte."""
    return np.stack([np.rint(frame @ LUMA).astype(np.uint8) for frame in video])


@dataclass(frozen=True)
class Farneback:
    """Farnebäck's polynomial expansion on 8-bit luma: needs no weights; blurs motion borders, fails without texture.

    Source: Farnebäck 2003, by OpenCV's `calcOpticalFlowFarneback`.
    """

    pyramid: float = 0.5  # scale from level to level
    levels: int = 3
    window: int = 15  # pixels
    iterations: int = 3
    neighborhood: int = 5  # pixels of the polynomial
    sigma: float = 1.2

    @property
    def name(self) -> str:
        """Method, library and settings."""
        settings = (self.pyramid, self.levels, self.window, self.iterations, self.neighborhood, self.sigma)
        return f"farneback({','.join(map(str, settings))}) opencv {cv2.__version__}"

    def __call__(self, video: Video) -> Iterator[Pair]:
        """The flows between neighboring frames, in pixels per frame."""
        for a, b in pairwise(luma(video)):
            yield Pair(self._between(a, b), self._between(b, a))

    def _between(self, a: UInt8[np.ndarray, "H W"], b: UInt8[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 2"]:
        start = np.zeros((*a.shape, 2), dtype=np.float32)
        return cv2.calcOpticalFlowFarneback(
            a,
            b,
            start,
            self.pyramid,
            self.levels,
            self.window,
            self.iterations,
            self.neighborhood,
            self.sigma,
            0,
        )
