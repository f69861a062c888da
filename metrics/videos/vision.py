"""Frames as the image and video networks of 2026 read them: the input stages of VBench, cd-fvd and JEDi.

Each differs from the others, and from what its network was trained with, in ways that move scores: which side is
scaled, whether anything is cropped, bytes or numbers, which mean is subtracted. All work frame by frame.
"""

from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from metrics.protocols import Resample
from metrics.videos.preprocess import crop_plan, resize, threads

Frames = UInt8[np.ndarray, "T H W C"]
ImagingMode = Literal["longer", "shorter", "shorter_centercrop", "None"]


class Normalization(NamedTuple):
    """Mean and deviation of the channels that a network expects, of values in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = Normalization((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SHORTER_224 = Resample("bicubic", "crop", 224, "floor")
SQUASHED_224 = Resample("bilinear", "squash", 224)
LARGEST = 512  # pixels of the longer side that imaging quality sees


def dino_input(frames: Frames, *, dtype: torch.dtype = torch.float32) -> Float[Tensor, "T 3 Y X"]:
    """VBench's input of DINO: the shorter side to 224, bilinear without antialias, NOT cropped, ImageNet's mean."""
    (height, width), _ = crop_plan(frames.shape[1], frames.shape[2], SHORTER_224)
    with threads(1):
        sized = F.interpolate(_numbers(frames, dtype), (height, width), mode="bilinear", align_corners=False)
    return _normalized(sized / 255, IMAGENET)


def clip_input(
    frames: Frames, *, as_bytes: bool = False, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "T 3 224 224"]:
    """VBench's input of CLIP: the shorter side to 224, bicubic without antialias, the middle square, CLIP's mean.

    The bicubic overshoot beyond 0..255 stays, except `as_bytes`, which rounds and clips as ViCLIP's input does.
    """
    with threads(1):
        sized = resize(_numbers(frames, dtype), SHORTER_224)
    if as_bytes:
        sized = sized.round().clamp(0, 255)
    return _normalized(sized / 255, OPENAI)


def imaging_input(
    frames: Frames, mode: ImagingMode = "longer", *, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "T 3 Y X"]:
    """VBench's input of MUSIQ, in [0, 1]: frames are only ever made smaller, bilinear without antialias."""
    size = imaging_size(frames.shape[1], frames.shape[2], "shorter" if mode == "shorter_centercrop" else mode)
    numbers = _numbers(frames, dtype)
    if size != frames.shape[1:3]:
        with threads(1):
            numbers = F.interpolate(numbers, size, mode="bilinear", align_corners=False)
    if mode == "shorter_centercrop" and size != frames.shape[1:3]:
        numbers = F.pad(numbers, [0, max(0, LARGEST - size[1]), 0, max(0, LARGEST - size[0])])  # a 511 becomes a 512
        top, left = (round((side - LARGEST) / 2) for side in numbers.shape[2:])
        numbers = numbers[:, :, top : top + LARGEST, left : left + LARGEST]
    return numbers / 255


def imaging_size(height: int, width: int, mode: ImagingMode = "longer") -> tuple[int, int]:
    """Height and width that imaging quality sees; int() makes 511 of 195 of the lengths up to 2048.

    `longer` (VBench's default) brings a longer side over 512 to 512, `shorter` a shorter one, `shorter_centercrop` then
    cuts the middle out, and `None` leaves frames as they are.
    """
    side = {"longer": max(height, width), "None": 0}.get(mode, min(height, width))
    if side <= LARGEST:
        return height, width
    scale = LARGEST / side
    if mode == "shorter_centercrop":
        return LARGEST, LARGEST
    return int(scale * height), int(scale * width)


def video_mae_input(clip: Frames, *, dtype: torch.dtype = torch.float32) -> Float[Tensor, "1 3 T 224 224"]:
    """cd-fvd's input of VideoMAE: [0, 1], squashed to 224 x 224, and no mean subtracted, though the network had one."""
    with threads(1):
        return resize(_numbers(clip, dtype) / 255, SQUASHED_224).transpose(0, 1)[None]


def vjepa_input(clip: Frames, *, dtype: torch.dtype = torch.float32) -> Float[Tensor, "1 3 T H W"]:
    """JEDi's input of V-JEPA: frames at their own size, ImageNet's mean."""
    return _normalized(_numbers(clip, dtype) / 255, IMAGENET).transpose(0, 1)[None]


def viclip_input(clip: Frames, *, dtype: torch.dtype = torch.float32) -> Float[Tensor, "1 3 8 224 224"]:
    """VBench's input of ViCLIP: its 8 frames, through CLIP's stage on bytes."""
    return clip_input(clip[middle_frames(len(clip))], as_bytes=True, dtype=dtype).transpose(0, 1)[None]


def middle_frames(length: int, count: int = 8) -> list[int]:
    """The middles of `count` equal parts of a video; of a shorter one all frames, the last repeated."""
    if length < count:
        return [*range(length), *[length - 1] * (count - length)]
    ends = [k * length // count for k in range(count + 1)]
    return [(first + last - 1) // 2 for first, last in pairwise(ends)]


def _numbers(frames: Frames, dtype: torch.dtype) -> Float[Tensor, "T 3 H W"]:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).to(dtype)


def _normalized(unit: Float[Tensor, "T 3 Y X"], to: Normalization) -> Float[Tensor, "T 3 Y X"]:
    mean, std = (torch.tensor(values, dtype=unit.dtype).view(1, 3, 1, 1) for values in to)
    return (unit - mean) / std
