"""Recipe weights to write, and files that were tampered with; the writers of formats are in `bench.ucf101.standins`."""

import zipfile
from pathlib import Path

import google_crc32c
import numpy as np
import torch

from bench.ucf101.standins.weight_files import (
    block_of,
    save_script,
    state_dict,
    table,
    write_checkpoint,
    write_npz,
    write_program,
)
from metrics.networks.c3d import c3d_shapes
from metrics.networks.i3d import i3d_shapes
from tests.metrics.recipes import filled

__all__ = ["block_of", "save_script", "state_dict", "table", "write_checkpoint", "write_npz", "write_program"]


def i3d_weights(gain: float = 2**0.5, *, unit_scales: bool = False, thin: int = 1) -> dict[str, torch.Tensor]:
    """The golden page's weights; `unit_scales` = batch-norm scales of 1, as TensorFlow has them."""
    ones = {name for name in i3d_shapes() if unit_scales and name.endswith("bn.weight")}
    return {
        name: torch.ones(shape) if name in ones else torch.from_numpy(filled(name, shape, gain))
        for name, shape in i3d_shapes(thin).items()
    }


def c3d_weights(gain: float = 2**0.5, *, thin: int = 1) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(filled(name, shape, gain)) for name, shape in c3d_shapes(thin).items()}


def forged(name: str, shape: tuple[int, ...], checksum: int) -> np.ndarray:
    """Small numbers whose float32 bytes have the wanted CRC-32C: the last of them is solved for.

    A checksum is affine in the last 32 bits, by the same map whatever comes before.
    """
    random = np.random.default_rng(len(name))
    while True:
        values = (0.01 * random.standard_normal(int(np.prod(shape)))).astype("<f4")
        values[-1] = 0
        bits = solve(LAST_BITS, checksum ^ google_crc32c.value(values.tobytes()))
        values[-1] = np.frombuffer(bits.to_bytes(4, "little"), "<f4")[0]
        if np.isfinite(values[-1]) and abs(values[-1]) < 1:
            return values.reshape(shape)


LAST_BITS = [google_crc32c.value((1 << i).to_bytes(4, "little")) ^ google_crc32c.value(bytes(4)) for i in range(32)]


def solve(columns: list[int], target: int) -> int:
    """The bits x for which the XOR of columns[i] over the set bits i is the target, by elimination."""
    pivots: list[tuple[int, int]] = []
    for i, whole in enumerate(columns):
        left, bits = reduced(pivots, whole)
        if left:
            pivots.append((left, bits ^ 1 << i))
    left, bits = reduced(pivots, target)
    assert left == 0
    return bits


def reduced(pivots: list[tuple[int, int]], value: int) -> tuple[int, int]:
    """What is left of a value after its lowest bits were cancelled, and the columns that cancelled them."""
    bits = 0
    for pivot, mixed in pivots:
        if value & pivot & -pivot:
            value, bits = value ^ pivot, bits ^ mixed
    return value, bits


def zip_with(path: Path, records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in records.items():
            file.writestr(name, content)
    return path
