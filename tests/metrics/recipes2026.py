"""The recipes of tests/golden/metrics2026/README.md: weights and videos, rebuilt from names."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from tests.metrics.recipes import rng

FOLDER = Path(__file__).parents[1] / "golden" / "metrics2026"
TABLES = ("cls_token", "pos_embed", "class_embedding", "positional_embedding", "token_embedding.weight", "query_tokens")
MUSIQ_TABLES = ("position_emb", "scale_emb", "transformer_encoder.cls")


def golden(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def keys(file: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published file, by the beginning of its entry in state_dicts.json; {i} spelled out."""
    listed = next(value for name, value in golden("state_dicts").items() if name.startswith(file))
    shapes = {}
    for name, shape, *span in listed["keys"]:
        numbers = range(int(span[0].split("..")[1]) + 1) if span else [0]
        shapes |= {name.replace("{i}", str(i)): tuple(shape) for i in numbers}
    return shapes


def fill(name: str, shape: Iterable[int], *, gain: float = 2, tables: tuple[str, ...] = TABLES) -> np.ndarray:
    """W(name, shape): the first rule that fits."""
    shape, last = tuple(shape), name.rpartition(".")[2]
    draw = rng(name)
    if not shape:
        return np.float32(np.log(100))
    if last in ("bias", "in_proj_bias", "q_bias", "v_bias"):
        values = 0.1 * draw.standard_normal(shape)
    elif name.endswith(tables):
        values = 0.5 * draw.standard_normal(shape)
    elif last in ("proj", "text_projection"):
        values = draw.standard_normal(shape) * shape[0] ** -0.5
    elif len(shape) == 1:
        values = 1 + 0.1 * draw.standard_normal(shape)
    else:
        values = draw.standard_normal(shape) * (gain * np.prod(shape[1:]) ** -0.5)
    return values.astype(np.float32)


def weights(
    shapes: Mapping[str, Iterable[int]], *, half: bool = False, gain: float = 2, tables: tuple[str, ...] = TABLES
) -> dict[str, torch.Tensor]:
    tensors = {
        name: torch.from_numpy(np.asarray(fill(name, s, gain=gain, tables=tables))) for name, s in shapes.items()
    }
    return {name: tensor.half().float() if half else tensor for name, tensor in tensors.items()}


def raft_weights() -> dict[str, torch.Tensor]:
    """raft-things.pth by the recipe, without its prefix."""
    tensors = {}
    for name, shape in keys("raft-things").items():
        source = name.replace(".downsample.1.", ".norm3.") if "cnet" in name or ".downsample.1." in name else name
        draw = rng(source)
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros((), dtype=torch.int64)
            continue
        if name.endswith("running_mean"):
            value = (0.1 * draw.standard_normal(shape)).astype(np.float32)
        elif name.endswith("running_var"):
            value = (1 + 0.1 * draw.random(shape)).astype(np.float32)
        else:
            value = fill(source, shape, gain=2**0.5)
        if name == "update_block.flow_head.conv2.weight":
            value = value * np.float32(0.02)
        tensors[name] = torch.from_numpy(np.asarray(value))
    return tensors


def keys_of_clip() -> dict[str, list[int]]:
    return golden("clip_vitb32")["state_dict"]


def textured(dx: int, height: int = 96, width: int = 128) -> np.ndarray:
    y, x, c = np.ogrid[:height, :width, :3]

    def tent(u: np.ndarray) -> np.ndarray:
        return np.abs(u % 128 - 64)

    return (32 + tent(4 * (x + dx) + 2 * y + 20 * c) + tent(2 * (x + dx) - 6 * y + 40 * c)).astype(np.uint8)


def gradient(t: int, height: int = 96, width: int = 128) -> np.ndarray:
    y, x, c = np.ogrid[:height, :width, :3]
    return ((2 * (c + 1) * x + 3 * y + 7 * (c + 1) * t) % 256).astype(np.uint8)


def cut(frames: int, height: int = 96, width: int = 128) -> np.ndarray:
    half = frames // 2
    return np.stack([textured(2 * t, height, width) if t < half else gradient(t, height, width) for t in range(frames)])


def videos() -> dict[str, np.ndarray]:
    return {
        "noise8": rng("m26/noise").integers(0, 256, size=(8, 96, 128, 3), dtype=np.uint8),
        "gradient12": np.stack([gradient(t) for t in range(12)]),
        "still8": np.stack([textured(0)] * 8),
        "cut16": cut(16),
    }


def features(tag: str, frames: int, width: int, mode: str) -> np.ndarray:
    """feats(tag, T, D, mode) of section 7."""
    r = rng(tag).standard_normal((frames, width))
    base = rng(f"{tag}/base").standard_normal(width)
    if mode == "walk":
        r = np.cumsum(0.5 * r, axis=0) + base
    if mode == "flip":
        r = (base + 0.3 * r) * np.where(np.arange(frames) % 3 == 2, -1, 1)[:, None]
    return r.astype(np.float32)


def sines_3d(width: int = 1280, depth: int = 8, grid: int = 14) -> torch.Tensor:
    """V-JEPA's `pos_embed`: per axis half sines, half cosines, the last four columns lost."""
    per_axis = 2 * math.ceil(width / 6)
    rate = 1 / 10000 ** (torch.arange(per_axis // 2, dtype=torch.float64) / (per_axis / 2))

    def axis(length: int) -> torch.Tensor:
        angle = torch.arange(length, dtype=torch.float64)[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    size = (depth, grid, grid, per_axis)
    parts = [
        axis(depth)[:, None, None].expand(size),
        axis(grid)[None, :, None].expand(size),
        axis(grid)[None, None].expand(size),
    ]
    return torch.cat(parts, dim=-1).flatten(0, 2)[None, :, :width].float()
