"""Still pictures to clips: a camera that pans and zooms over a picture (arXiv 2309.03549, data; ranges are ours).

Boxes are floats, so that the camera can move by less than a pixel; each frame is sampled finely and averaged, so that
nothing shimmers. One path serves CPU and GPU.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

Easing = Literal["linear", "smooth", "late"]
EASINGS = {
    "linear": lambda u: u,
    "smooth": lambda u: u * u * (3 - 2 * u),  # starts and ends at rest
    "late": lambda u: u * u,  # starts at rest
}


@dataclass(frozen=True)
class Camera:
    """The range of movements that are drawn at random."""

    frames: int = 16
    size: int = 256  # pixels, height and width of the clip
    fps: float = 8.0
    slowest: float = 0.002  # displacement a frame, as a share of the box
    fastest: float = 0.03
    most_zoom: float = 0.02  # change of scale a frame, as a share
    smallest: float = 0.6  # box, as a share of the largest one in the picture
    most_enlarged: float = 1.25  # a box never has fewer pixels than the clip over this
    holds: float = 0.15  # share of clips in which nothing moves


@dataclass(frozen=True)
class Path:
    """A camera's path: center and side of its square box at both ends, in pixels of the picture."""

    start: tuple[float, float, float]  # x, y of the center, side
    end: tuple[float, float, float]
    easing: Easing = "linear"

    def boxes(self, frames: int) -> Float[ndarray, "T 3"]:
        """Center and side at each frame; the side changes geometrically, so that a zoom looks even."""
        u = EASINGS[self.easing](np.linspace(0.0, 1.0, frames) if frames > 1 else np.zeros(1))
        (x0, y0, s0), (x1, y1, s1) = self.start, self.end
        return np.stack([x0 + (x1 - x0) * u, y0 + (y1 - y0) * u, s0 * (s1 / s0) ** u], axis=1)


def draw_path(height: int, width: int, camera: Camera, rng: np.random.Generator) -> Path | None:
    """A random path that stays inside the picture; None where the picture is too small for any.

    Both ends are inside the picture, so all boxes between them are. Speeds are log-uniform: slow ones are common.
    """
    largest = float(min(height, width))
    smallest = max(camera.smallest * largest, camera.size / camera.most_enlarged)
    if smallest > largest:
        return None
    side = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
    easing: Easing = ("linear", "smooth", "late")[int(rng.integers(3))]
    steps = camera.frames - 1
    if rng.random() < camera.holds:
        pan, zoom = 0.0, 0.0
    else:
        pan = math.exp(rng.uniform(math.log(camera.slowest), math.log(camera.fastest))) * side * steps
        zoom = rng.uniform(-camera.most_zoom, camera.most_zoom) * steps if rng.random() < 0.5 else 0.0
    other = float(np.clip(side * math.exp(zoom), smallest, largest))
    angle = rng.uniform(0, 2 * math.pi)
    step = np.array([math.cos(angle), math.sin(angle)]) * pan
    low_0, high_0 = np.full(2, side / 2), np.array([width, height]) - side / 2
    low_1, high_1 = np.full(2, other / 2), np.array([width, height]) - other / 2
    # Where the way fits, start anywhere that lets it end inside; where it does not, go as far as there is room.
    low, high = np.maximum(low_0, low_1 - step), np.minimum(high_0, high_1 - step)
    start = np.where(low <= high, rng.uniform(size=2) * (high - low).clip(0) + low, np.where(step > 0, low_0, high_0))
    end = np.clip(start + step, low_1, high_1)
    return Path(
        (float(start[0]), float(start[1]), side),
        (float(end[0]), float(end[1]), other),
        easing,
    )


def move(
    pictures: Float[Tensor, "B C H W"],
    boxes: Float[Tensor, "B T 3"],  # center x, y and side, in pixels
    size: int,
    *,
    samples: int | None = None,  # a side of a pixel; None: as many as the largest reduction needs, at least 2
) -> Float[Tensor, "B C T size size"]:
    """What the camera sees: bilinear samples on a grid `samples` times as fine, averaged.

    A picture that is reduced four times or more is first halved (or more) by averaging, which costs once and not for
    every frame; at least a reduction by two is left to the float boxes.

    Boxes have no angle, so a pixel is a weighted sum over rows of weighted sums over columns. Each is a bag of a few
    rows of a table, which costs a fifth of sampling every point of the grid and gives the same numbers.
    """
    halved = int(float(boxes[..., 2].min()) / size / 2)
    if halved > 1:
        pictures, boxes = _reduced(pictures, halved), boxes / halved
    if samples is None:
        samples = max(2, math.ceil(float(boxes[..., 2].max()) / size / 2))
    clips = [_moved(picture, path, size, samples) for picture, path in zip(pictures, boxes.to(pictures), strict=True)]
    return torch.stack(clips)


def _moved(
    picture: Float[Tensor, "C H W"], boxes: Float[Tensor, "T 3"], size: int, samples: int
) -> Float[Tensor, "C T size size"]:
    C, H, W = picture.shape
    x, y, side = boxes.unbind(-1)
    left = max(0, math.floor(float((x - side / 2).min())) - 1)
    right = min(W, math.ceil(float((x + side / 2).max())) + 1)
    table = picture[:, :, left:right].permute(1, 2, 0).reshape(H, -1)  # a row of the picture, colors innermost
    rows, columns = _bags(y, side, H, size, samples), _bags(x - left, side, right - left, size, samples)
    frames = []
    for (row, row_weight), (column, column_weight) in zip(rows, columns, strict=True):
        across = F.embedding_bag(row, table, per_sample_weights=row_weight, mode="sum")
        turned = across.view(size, -1, C).transpose(0, 1).reshape(-1, size * C)
        frames.append(F.embedding_bag(column, turned, per_sample_weights=column_weight, mode="sum"))
    return torch.stack(frames).view(len(boxes), size, size, C).permute(3, 0, 2, 1)


def _bags(
    center: Float[Tensor, " T"], side: Float[Tensor, " T"], length: int, size: int, samples: int
) -> Iterator[tuple[Int[Tensor, "size K"], Float[Tensor, "size K"]]]:
    """Of each frame: which of `length` rows or columns each pixel is made of, and their weights."""
    at = (torch.arange(size * samples, device=center.device, dtype=center.dtype) + 0.5) / (size * samples) - 0.5
    place = (center[:, None] + side[:, None] * at - 0.5).clamp(0, length - 1)
    low = place.floor().clamp(max=max(0, length - 2))
    share = (place - low) / samples
    both = torch.stack([low, (low + 1).clamp(max=length - 1)], -1).long()
    weights = torch.stack([1 / samples - share, share], -1)
    return zip(both.view(-1, size, 2 * samples), weights.view(-1, size, 2 * samples), strict=True)


def _reduced(pictures: Float[Tensor, "B C H W"], by: int) -> Float[Tensor, "B C h w"]:
    """Each square of `by` x `by` pixels averaged; at the far edges the last pixels are repeated."""
    height, width = pictures.shape[-2:]
    if height % by or width % by:
        pictures = F.pad(pictures, (0, -width % by, 0, -height % by), mode="replicate")
    rows = reduce(torch.add, (pictures[..., i::by, :] for i in range(by)))
    return reduce(torch.add, (rows[..., i::by] for i in range(by))) / by**2


def animate(
    picture: UInt8[ndarray, "H W 3"], camera: Camera, rng: np.random.Generator
) -> tuple[UInt8[ndarray, "T size size 3"], Path] | None:
    """A clip of a picture and the path of its camera; None where the picture is too small."""
    path = draw_path(picture.shape[0], picture.shape[1], camera, rng)
    if path is None:
        return None
    boxes = torch.from_numpy(path.boxes(camera.frames)).float()[None]
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    clip = move(pixels, boxes, camera.size)[0].add_(0.5).clamp_(0, 255).to(torch.uint8)
    return clip.permute(1, 2, 3, 0).contiguous().numpy(), path


def name_motion(path: Path) -> str:
    """What the camera does, in words; empty where it hardly moves."""
    (x0, y0, s0), (x1, y1, s1) = path.start, path.end
    words = []
    dx, dy, zoom = (x1 - x0) / s0, (y1 - y0) / s0, math.log(s1 / s0)
    if max(abs(dx), abs(dy)) > 0.05:
        words.append(
            "pans " + (("right" if dx > 0 else "left") if abs(dx) >= abs(dy) else ("down" if dy > 0 else "up"))
        )
    if abs(zoom) > 0.05:
        words.append("zooms out" if zoom > 0 else "zooms in")
    return "the camera " + " and ".join(words) if words else ""
