"""What published code does to frames before a network sees them, with its own arithmetic: sizes, crops, bytes.

Every function takes videos at rest (N T H W C, uint8, RGB) and works frame by frame, so batches and lengths change
nothing. Frames stay channels-last in memory from the decoder to the network's first convolution.
"""

import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from metrics.protocols import IsProtocol, Resample, Storage
from metrics.videos.frames import check_videos

C3D_SIZE = 112  # pixels that C3D reads
TURN = threading.Lock()


def i3d_input(
    videos: UInt8[np.ndarray, "N T H W C"], resample: Resample, *, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "N 3 T S S"]:
    """Frames in [-1, 1] at the network's size; channels-last in memory."""
    n, frames = videos.shape[:2]
    with threads(1):
        sized = resize(_frames(videos, dtype), resample)
    signed = 2 * sized / 255 - 1
    return signed.unflatten(0, (n, frames)).transpose(1, 2)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Resize on so many threads, whatever is set: no number may depend on that.

    PyTorch has one kernel for one thread and another, equal for all of them, for several; they differ by up to 1e-5.
    One caller at a time, since threads that are new take the setting over from whoever made it last.
    """
    with TURN:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def c3d_input(
    videos: UInt8[np.ndarray, "N 16 H W C"], protocol: IsProtocol, mean: Float32[Tensor, "3 16 128 171"]
) -> Float32[Tensor, "N 3 16 112 112"]:
    """Frames in 0..255 less the mean clip, BGR; channels-last in memory.

    Works on v - 128 and adds 128 - mean, as the published code does: rounding is then the same to the last bit.
    """
    n, frames = videos.shape[:2]
    with threads(1):
        sized = resize(_frames(videos, torch.float32) - 128, protocol.resample)
    corner, (row, column) = protocol.crop, protocol.mean
    cut = sized[:, [2, 1, 0], corner : corner + C3D_SIZE, corner : corner + C3D_SIZE]
    shift = 128 - mean[:, :, row : row + C3D_SIZE, column : column + C3D_SIZE]
    return cut.unflatten(0, (n, frames)).transpose(1, 2) + shift


def store(videos: UInt8[np.ndarray, "N T H W C"], storage: Storage) -> UInt8[np.ndarray, "N T S S C"]:
    """What is left of decoded frames after a published loader has put them to rest.

    Raises:
        ValueError: an array that is no set of videos.
    """
    check_videos(videos)
    frames = videos.reshape(-1, *videos.shape[2:])
    if storage.resample.kernel == "lanczos":
        stored = np.stack([_lanczos(frame, storage.resample) for frame in frames])
    else:
        with threads(2):  # the kernel of published loaders: truncation makes levels of last bits
            unit = resize(_frames(videos, torch.float32) / 255, storage.resample)
        stored = quantise(unit, storage.quantise).permute(0, 2, 3, 1).numpy()
    if storage.jpeg is not None:
        stored = np.stack([through_jpeg(frame, storage.jpeg) for frame in stored])
    return stored.reshape(*videos.shape[:2], *stored.shape[1:])


def quantise(
    unit: Float32[Tensor, "*axes"], rule: Literal["round", "truncate", "truncate-shifted"]
) -> UInt8[Tensor, "*axes"]:
    """[0, 1] to bytes. Truncation loses half a gray level on average; shifted, also where nothing was resized."""
    if rule == "round":
        return (unit * 255).round().clamp(0, 255).to(torch.uint8)
    if rule == "truncate-shifted":
        unit = (unit - 0.5) + 0.5
    return (unit * 255).to(torch.uint8)


def resize(frames: Float[Tensor, "M C H W"], rule: Resample) -> Float[Tensor, "M C S S"]:
    """Bring every frame to `rule.size` squared; the values keep their range, except that bicubic overshoots."""
    height, width = frames.shape[2:]
    if height == width == rule.size:
        return frames
    if rule.fit == "squash":
        return _interpolate(frames, (rule.size, rule.size), rule.kernel)
    size, (top, left) = crop_plan(height, width, rule)
    sized = _interpolate(frames, size, rule.kernel)
    return sized[:, :, top : top + rule.size, left : left + rule.size]


def crop_plan(height: int, width: int, rule: Resample) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) after the resize, and (top, left) of the square that is cut out of its center.

    `longer = "ceil"` is the arithmetic of VideoGPT and those who followed it, in floats, so that a square may grow by
    one row; `"floor"` is torchvision's, with offsets rounded to even.
    """
    if rule.longer == "ceil":
        scale = rule.size / min(height, width)
        wide = height < width
        size = (rule.size, math.ceil(width * scale)) if wide else (math.ceil(height * scale), rule.size)
        return size, ((size[0] - rule.size) // 2, (size[1] - rule.size) // 2)
    long = int(rule.size * max(height, width) / min(height, width))
    size = (rule.size, long) if height < width else (long, rule.size)
    return size, (round((size[0] - rule.size) / 2), round((size[1] - rule.size) / 2))


def through_jpeg(frame: UInt8[np.ndarray, "H W C"], quality: int) -> UInt8[np.ndarray, "H W C"]:
    """Encode and decode one frame; the last digit depends on the JPEG library."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _frames(videos: UInt8[np.ndarray, "N T H W C"], dtype: torch.dtype) -> Float[Tensor, "M C H W"]:
    """All frames one after the other, as numbers; a permuted view, so memory stays channels-last."""
    flat = torch.from_numpy(np.ascontiguousarray(videos)).flatten(0, 1)
    return flat.permute(0, 3, 1, 2).to(dtype)


def _interpolate(frames: Float[Tensor, "M C H W"], size: tuple[int, int], kernel: str) -> Float[Tensor, "M C Y X"]:
    match kernel:
        case "bilinear":
            return F.interpolate(frames, size, mode="bilinear", align_corners=False)
        case "bilinear-antialias":
            return F.interpolate(frames, size, mode="bilinear", align_corners=False, antialias=True)
        case "bilinear-corners":
            return F.interpolate(frames, size, mode="bilinear", align_corners=True)
        case "bicubic":
            return F.interpolate(frames, size, mode="bicubic", align_corners=False)
        case "bilinear-tf1":
            return _tf1(_tf1(frames, size[1], axis=3), size[0], axis=2)
    raise ValueError(f"frames as numbers cannot be resized by the kernel {kernel!r}: {kernel} works on bytes only")


def _tf1(frames: Float[Tensor, "M C H W"], size: int, *, axis: int) -> Float[Tensor, "M C Y X"]:
    """Linear interpolation along one axis at index * in / out, positions in float32 as TensorFlow 1 has them."""
    length = frames.shape[axis]
    position = torch.arange(size, dtype=torch.float32) * torch.tensor(length / size, dtype=torch.float32)
    low = position.floor().long().clamp(max=length - 1)
    share = (position - low).to(frames.dtype).view([-1 if i == axis else 1 for i in range(4)])
    left, right = frames.index_select(axis, low), frames.index_select(axis, (low + 1).clamp(max=length - 1))
    return left + (right - left) * share


def _lanczos(frame: UInt8[np.ndarray, "H W C"], rule: Resample) -> UInt8[np.ndarray, "S S C"]:
    """Pillow's resize, to bytes, and the crop of torchvision's centre_crop."""
    (height, width), (top, left) = crop_plan(frame.shape[0], frame.shape[1], rule)
    sized = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
    return sized[top : top + rule.size, left : left + rule.size]
