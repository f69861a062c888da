"""Every file of weights that a full run needs: the model's, and random ones of I3D and C3D in each published format."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.ucf101.standins.model import make_released
from bench.ucf101.standins.weight_files import state_dict, write_checkpoint, write_npz, write_program
from metrics.networks.c3d import MEAN_FILE, MEAN_SHAPE, c3d_shapes
from metrics.networks.i3d import i3d_shapes

# Files of weights for the metrics -> the network whose tensors they hold.
METRIC_FILES = {
    "i3d_torchscript.pt": "i3d",
    "i3d_pretrained_400.pt": "i3d",
    "rgb_scratch/model.ckpt.index": "i3d",
    "conv3d_deepnetA_ucf.npz": "c3d",
    MEAN_FILE: "mean",
}


def make_weights(folder: Path, *, only: Collection[str] = tuple(METRIC_FILES), seed: int = 0, thin: int = 1) -> Path:
    """Write every file that the full run needs, as `python -m bench weights` lists them; returns the folder.

    The diffusion model is tiny. I3D and C3D have a `thin`-th of the published channels, and a loader takes such files
    only if it is given the same `thin`; at 1, a file of I3D has 50 MB and one of C3D 314 MB. `only` names the wanted
    ones of `METRIC_FILES`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make_released(folder, seed=seed)
    make_metric_weights(folder, only=only, seed=seed, thin=thin)
    return folder


def make_metric_weights(
    folder: Path, *, only: Collection[str] = tuple(METRIC_FILES), seed: int = 0, thin: int = 1
) -> None:
    """Write random weights of I3D, C3D and C3D's mean clip; every file of one network holds the same tensors.

    Raises:
        ValueError: a name that is none of `METRIC_FILES`.
    """
    strange = sorted(set(only) - METRIC_FILES.keys())
    if strange:
        raise ValueError(f"{strange[0]} is none of the metrics' files: {', '.join(METRIC_FILES)}")
    draw = np.random.default_rng(seed)
    kinds = {METRIC_FILES[name] for name in only}
    i3d = {name: _weights(name, shape, draw) for name, shape in i3d_shapes(thin).items()} if "i3d" in kinds else {}
    c3d = {name: _weights(name, shape, draw) for name, shape in c3d_shapes(thin).items()} if "c3d" in kinds else {}
    for name in only:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match name:
            case "i3d_torchscript.pt":
                write_program(path, i3d)
            case "i3d_pretrained_400.pt":
                torch.save(state_dict(i3d), path)
            case "rgb_scratch/model.ckpt.index":
                write_checkpoint(path.with_suffix(""), i3d)
            case "conv3d_deepnetA_ucf.npz":
                write_npz(path, c3d)
            case _:
                np.savez(path, mean=(80 + 40 * draw.random(MEAN_SHAPE)).astype(np.float32))


def _weights(name: str, shape: tuple[int, ...], draw: np.random.Generator) -> Tensor:
    """He's initialization; norms are the identity, since TensorFlow's file has no scale to store."""
    if name.endswith(("bn.weight", "running_var")):
        return torch.ones(shape)
    if len(shape) == 1:
        return torch.zeros(shape)
    scale = np.float32((2 / np.prod(shape[1:])) ** 0.5)
    return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32) * scale)
