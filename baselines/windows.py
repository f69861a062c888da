"""Windows of one clip over a longer video: which frames each sees, and the weight of its output for them."""

import math
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

Weights = Literal["flat", "pyramid", "ramp", "sine"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)


def cover(frames: int, clip: int, stride: int, first: int = 0) -> tuple[int, ...]:
    """First frames of windows of one clip, `stride` apart from `first` on, that see every frame of the video.

    The last window is shifted back to end with the video, and one starts at the beginning. A video no longer than a
    clip gets one window. Many published codes stop at the last whole stride instead and leave the tail unseen.
    """
    last = max(0, frames - clip)
    return tuple(sorted({0, *range(first, last, stride), last}))


def floor_cover(frames: int, clip: int, stride: int) -> tuple[int, ...]:
    """The windows of published codes: whole strides only, so that no window may contain the tail.

    Raises:
        ValueError: the video is shorter than a clip, and no window fits.
    """
    if frames < clip:
        raise ValueError(f"the released windows need a whole clip of {clip} frames: got {frames}, use compat='paper'")
    return tuple(range(0, frames - clip + 1, stride))


def moving_cover(frames: int, clip: int, stride: int, step: int) -> tuple[int, ...]:
    """Windows whose places change with the step, so that no frame is always at an edge.

    The grid begins at a share of the stride that runs through 0, 1/2, 1/4, 3/4, 1/8, ... (van der Corput's sequence).
    """
    share, bit = 0.0, 0.5
    while step:
        share, step, bit = share + bit * (step % 2), step // 2, bit / 2
    return cover(frames, clip, stride, math.floor(share * stride))


def strided_cover(frames: int, clip: int) -> tuple[Int[Tensor, " F"], ...]:
    """Frames of windows that each span the whole video: ceil(N / F) of them see every frame, N / F apart or nearly so.

    Where the windows hold more frames than the video has, some frames are seen twice, though by no window.
    """
    windows = math.ceil(frames / clip)
    grid = torch.arange(windows * clip) * frames // (windows * clip)
    return tuple(grid[number::windows] for number in range(windows))


def profile(weights: Weights, clip: int, overlap: int) -> Float[Tensor, " F"]:
    """Weight of a window's output for each of its frames, all above 0; only ratios matter.

    `flat`: equal; `pyramid`: rising to the middle; `ramp`: rising and falling over the overlap only; `sine`: half a
    wave, taken at the middle of each frame.
    """
    place = torch.arange(clip, dtype=torch.float64)
    to_edge = 1 + torch.minimum(place, clip - 1 - place)
    if weights == "flat":
        return torch.ones(clip, dtype=torch.float64)
    if weights == "sine":
        return torch.sin(math.pi * (place + 0.5) / clip)
    return to_edge if weights == "pyramid" else to_edge.clamp(max=1 + overlap)


def places(starts: tuple[int, ...], clip: int) -> Int[Tensor, "W F"]:
    """Frame numbers of each window."""
    return torch.tensor(starts)[:, None] + torch.arange(clip)


def shares(index: Int[Tensor, "W F"], weights: Float[Tensor, " F"], frames: int) -> Float[Tensor, "W F"]:
    """The weights, normalized to add up to 1 for every frame."""
    total = torch.zeros(frames, dtype=weights.dtype).index_add_(0, index.flatten(), weights.repeat(len(index)))
    return weights / total[index]


def changes(starts: tuple[int, ...], clip: int) -> tuple[int, ...]:
    """The first frames that are nearer to the next window's middle: where one window hands over to the next."""
    return tuple((a + b + clip - 1) // 2 + 1 for a, b in pairwise(starts))
