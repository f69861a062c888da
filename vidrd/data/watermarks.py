"""Marks over a whole video: find them without any model, score them, and drop, crop, undo or fill them.

A mark stands still while what is behind it moves. Only for footage whose rights one holds; the index records what
was done.
"""

import io
import math
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from vidrd.data.bars import Box, inner_box
from vidrd.data.record import Drop, Pixels, Record
from vidrd.files import write_atomic
from vidrd.foreign_media import MOST_BYTES

How = Literal["score", "drop", "crop", "invert", "inpaint"]
OPAQUE = 0.8  # where a mark covers more than this, nothing is left to be recovered
MARKED = 0.01  # share of a frame that must be covered for it to count as marked; docs/data.md has the rates of error


@dataclass(frozen=True)
class Overlay:
    """A mark that all videos of a source and size carry: a frame is (1 - alpha) * scene + light."""

    alpha: Float[ndarray, "H W"]  # share that covers the scene, [0, 1]
    light: Float[ndarray, "H W 3"]  # what the mark adds: alpha times its color

    @property
    def mask(self) -> Bool[ndarray, "H W"]:
        """True where the mark covers anything."""
        return self.alpha > 0

    def save(self, path: Path) -> None:
        """Write it atomically, as a .npz of `alpha` and `light`."""
        file = io.BytesIO()
        np.savez_compressed(file, alpha=self.alpha, light=self.light)
        write_atomic(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Overlay":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing, or is something else.
        """
        try:
            if not path.is_file():
                raise ValueError("it is no regular file")
            with zipfile.ZipFile(path) as held:
                alpha, light = (_array(held, f"{name}.npy") for name in ("alpha", "light"))
            if alpha.ndim != 2 or light.shape != (*alpha.shape, 3):
                raise ValueError(f"its arrays have shapes {alpha.shape} and {light.shape}")
            return cls(alpha, light)
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} is no overlay; make one with `python -m vidrd watermark` ({error})") from error


def _array(held: zipfile.ZipFile, name: str) -> Float[ndarray, "..."]:
    """An array of float64 from a .npz, whose header does not declare more than the limit."""
    with held.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, backwards, kind = read(file)
        size = math.prod(shape) * kind.itemsize
        if kind != np.float64 or backwards or size > MOST_BYTES:
            raise ValueError(f"{name} declares {size} bytes of {kind}")
        return np.frombuffer(file.read(size), kind).reshape(shape).copy()


def find_static(frames: UInt8[ndarray, "T H W 3"], *, edge: float = 12.0) -> Bool[ndarray, "H W"]:
    """The mask of a mark in one clip: edges that stay, around something that shows what is around it weakened.

    `edge`: gray levels over two pixels that make an edge. A scene that stands still hides nothing and shows nothing:
    there the mask is empty. Black bars, whose edges stay too, are no part of the scene.
    """
    height, width = frames.shape[1:3]
    box = inner_box(list(frames.max(axis=-1))) or Box(0, height, 0, width)
    inner = slice(box.top, box.bottom), slice(box.left, box.right)
    gray = frames[:, *inner].astype(np.float32).mean(axis=-1)
    middle, spread = _steady_edges(gray)
    mask = np.zeros((height, width), bool)
    mask[inner] = _regions((middle > edge) & (spread < 0.35 * middle), over=gray)
    return mask


def find_common(frames: UInt8[ndarray, "N H W 3"], *, edge: float = 8.0) -> Bool[ndarray, "H W"]:
    """The mask of a mark that many videos share: edges that are in the median over frames of different videos.

    Source: Dekel et al. 2017, "On the Effectiveness of Visible Watermarks", section 3.1: the median of gradients.
    """
    middle, _ = _steady_edges(frames.astype(np.float32).mean(axis=-1))
    return _regions(middle > edge, over=None)


def estimate(frames: UInt8[ndarray, "N H W 3"], mask: Bool[ndarray, "H W"]) -> Overlay:
    """How a common mark covers the scene, from frames of many videos.

    What is behind the mark varies as what is next to it: a covering of alpha shrinks its standard deviation by 1 -
    alpha, and what it adds is what is left of the mean. Mean and deviation next to the mark are carried under it.
    """
    pixels = frames.astype(np.float32)
    mean, deviation = pixels.mean(axis=0), pixels.std(axis=0)
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    outer_mean, outer_deviation = _carry_under(mean, wide), _carry_under(deviation, wide)
    kept = (deviation.mean(axis=-1) / np.maximum(outer_deviation.mean(axis=-1), 1e-3)).clip(0, 1)
    alpha = np.where(wide & (kept < 0.97), 1 - kept, 0.0).astype(np.float64)
    light = np.where(alpha[..., None] > 0, mean - (1 - alpha[..., None]) * outer_mean, 0.0).clip(0, 255)
    return Overlay(alpha, light.astype(np.float64))


def invert(frames: UInt8[ndarray, "T H W 3"], overlay: Overlay) -> UInt8[ndarray, "T H W 3"]:
    """Remove a known mark; where it is opaque, fill the hole from its surroundings."""
    left = np.maximum(1 - overlay.alpha, 1 - OPAQUE)[..., None]
    scene = np.where(overlay.mask[..., None], (frames - overlay.light) / left, frames)
    back = (scene + 0.5).clip(0, 255).astype(np.uint8)
    opaque = overlay.alpha > OPAQUE
    return inpaint(back, opaque) if opaque.any() else back


def inpaint(frames: UInt8[ndarray, "T H W 3"], mask: Bool[ndarray, "H W"]) -> UInt8[ndarray, "T H W 3"]:
    """Fill the same region of every frame from its surroundings (Telea 2004)."""
    region = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.stack([cv2.inpaint(np.ascontiguousarray(frame), region, 3, cv2.INPAINT_TELEA) for frame in frames])


def crop_box(mask: Bool[ndarray, "H W"], *, least: float = 0.6) -> tuple[int, int, int, int] | None:
    """Top, bottom, left and right, even, of the largest part that a straight cut frees of the mask.

    None where less than `least` of the frame would stay.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, height, 0, width
    options = [
        (0, int(rows[0]) // 2 * 2, 0, width),
        ((int(rows[-1]) + 2) // 2 * 2, height, 0, width),
        (0, height, 0, int(columns[0]) // 2 * 2),
        (0, height, (int(columns[-1]) + 2) // 2 * 2, width),
    ]
    top, bottom, left, right = max(options, key=lambda box: (box[1] - box[0]) * (box[3] - box[2]))
    if (bottom - top) * (right - left) < least * height * width:
        return None
    return top, bottom, left, right


def watermark_stage(record: Record, how: How, overlay: Overlay | None = None, *, frames: int = 24) -> Record | Drop:
    """Score the mark of a clip, and treat marked clips as asked; one mask for the whole clip, or it would flicker.

    Adds `watermark`, the covered share of the frame, and `watermark_was`, what was done.
    """
    pixels = record.seen()
    if overlay is not None:
        size = pixels.frames[0].height, pixels.frames[0].width
        if overlay.alpha.shape != size:
            return Drop(record.key, "size of no known watermark", f"{size[0]} x {size[1]}")
        mask = overlay.mask
    else:
        count = len(pixels.frames)
        mask = find_static(pixels.rgb(np.linspace(0, count - 1, min(count, frames)).astype(int).tolist()))
    share = float(mask.mean())
    scored = record.having(watermark=round(share, 5))
    if share < MARKED or how == "score":
        return scored
    if how == "drop":
        return Drop(record.key, "watermark", f"{share:.1%} of the frame")
    rgb = pixels.rgb()
    if how == "crop":
        box = crop_box(mask)
        if box is None:
            return Drop(record.key, "watermark", "too central to be cropped away")
        top, bottom, left, right = box
        clean, done = rgb[:, top:bottom, left:right], "cropped"
    elif how == "invert" and overlay is not None:
        clean, done = invert(rgb, overlay), "inverted"
    else:
        clean, done = inpaint(rgb, mask), "inpainted"
    return replace(scored.having(watermark_was=done), pixels=Pixels.of_rgb(clean, pixels.fps))


def _steady_edges(gray: Float[ndarray, "T H W"]) -> tuple[Float[ndarray, "H W"], Float[ndarray, "H W"]]:
    """Length of the median gradient over frames, and the mean distance of the frames' gradients from it."""
    across = np.stack([cv2.Sobel(frame, cv2.CV_32F, 1, 0, ksize=3) / 4 for frame in gray])
    down = np.stack([cv2.Sobel(frame, cv2.CV_32F, 0, 1, ksize=3) / 4 for frame in gray])
    x, y = np.median(across, axis=0), np.median(down, axis=0)
    return np.hypot(x, y), np.hypot(across - x, down - y).mean(axis=0)


def _regions(edges: Bool[ndarray, "H W"], *, over: Float[ndarray, "T H W"] | None) -> Bool[ndarray, "H W"]:
    """The areas that outlines of edges enclose; specks, and what spans most of the frame (black bars), are left out.

    `over`: gray levels of a clip, in which only what covers the scene counts.
    """
    height, width = edges.shape
    reach = max(3, round(min(height, width) / 40)) | 1
    joined = cv2.morphologyEx(edges.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    outlines, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros((height, width), np.uint8)
    for outline in outlines:
        left, top, w, h = cv2.boundingRect(outline)
        if w > 0.7 * width or h > 0.7 * height or cv2.contourArea(outline) < 4:
            continue
        one = cv2.drawContours(np.zeros_like(mask), [outline], -1, 1, cv2.FILLED)
        near = slice(max(0, top - 16), top + h + 16), slice(max(0, left - 16), left + w + 16)
        if over is None or _covers(over[:, *near], one[near]):
            mask |= one
    return mask.astype(bool)


def _covers(gray: Float[ndarray, "T h w"], region: UInt8[ndarray, "h w"]) -> bool:
    """Whether a region covers the scene: its gray levels over time, regressed on those next to it.

    A mark of opacity alpha that is blended into the scene shows it with slope 1 - alpha, and adds light; an opaque one
    has slope 0 over a scene that changes. Other things of the scene do not follow what is next to them, and where they
    do, in changing light, they add none. Each pixel is compared with the weighted mean of its neighbors outside, and
    the mean of the region with that of the ring around it. docs/data.md has the rates of error.
    """
    wide = cv2.dilate(region, np.ones((3, 3), np.uint8))
    ring = (cv2.dilate(region, np.ones((7, 7), np.uint8)) > wide) & (wide == 0)
    outside = (wide == 0).astype(np.float32)
    weight = cv2.GaussianBlur(outside, (0, 0), 3.0)
    inside = (region > 0) & (weight > 0.05)
    if inside.sum() < 4 or not ring.any():
        return False
    next_to = np.stack([cv2.GaussianBlur(frame * outside, (0, 0), 3.0)[inside] for frame in gray]) / weight[inside]
    slope, follows, light, changes = _regress(gray[:, inside], next_to)
    overall, overall_follows, _, _ = _regress(gray[:, region > 0].mean(axis=1), gray[:, ring].mean(axis=1))
    blended = 0.1 < slope < 1 and 0.1 < overall < 1 and follows > 0.45 and overall_follows > 0.3 and light > 20
    return blended or (abs(slope) < 0.12 and changes > 20)


def _regress(values: Float[ndarray, "T ..."], on: Float[ndarray, "T ..."]) -> tuple[float, float, float, float]:
    """Slope, correlation and mean intercept of values over time, about each place's means, and how much `on` varies."""
    y, x = values - values.mean(axis=0), on - on.mean(axis=0)
    both, of_y, of_x = (float((a * b).mean()) for a, b in ((y, x), (y, y), (x, x)))
    slope = both / max(of_x, 1e-6)
    return slope, both / max(math.sqrt(of_x * of_y), 1e-6), float((values - slope * on).mean()), math.sqrt(of_x)


def _carry_under(values: Float[ndarray, "H W C"], hole: Bool[ndarray, "H W"]) -> Float[ndarray, "H W C"]:
    """Fill a hole with the weighted mean of its surroundings, nearer pixels more."""
    weight = (~hole).astype(np.float32)
    filled, known = values * weight[..., None], weight
    result, done = values.copy(), ~hole
    sigma = 2.0
    while not done.all() and sigma < max(hole.shape):
        near = cv2.GaussianBlur(known, (0, 0), sigma)
        mean = cv2.GaussianBlur(filled, (0, 0), sigma) / np.maximum(near, 1e-6)[..., None]
        now = ~done & (near > 0.05)
        result[now] = mean[now]
        done |= now
        sigma *= 2
    return result
