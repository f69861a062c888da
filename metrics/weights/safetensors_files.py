"""Weights from safetensors files, checked whole before anything uses them; nothing in a file is executed."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from metrics.files import WEIGHTS_BYTES, read_regular

ADVICE = "make it again with `nox -s train -- --preset pocket` or give --weights"


class Weights(NamedTuple):
    """The tensors of one file on the CPU, its text metadata, and the sha256 of its bytes."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str


def load_safetensors_verified(path: Path | str, sha256: str | None = None) -> Weights:
    """Read a safetensors file.

    Args:
        path: the file.
        sha256: the hexadecimal digest that its bytes must have; None = any.

    Raises:
        ValueError: the file is missing or truncated, is no safetensors file, has another digest, or holds a
            value that is not finite.
    """
    path = Path(path)
    try:
        content = read_regular(path, WEIGHTS_BYTES)  # once, so that what was hashed is what is loaded
        digest = hashlib.sha256(content).hexdigest()
        tensors = load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except (OSError, ValueError, SafetensorError) as error:
        raise broken(path, str(error)) from error
    if sha256 is not None and digest != sha256.lower():
        raise broken(path, f"its sha256 is {digest}, {sha256} was asked for")
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise broken(path, f"{bad[0]} is not finite")
    return Weights(tensors, metadata, digest)


def check_shapes(path: Path | str, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare names and shapes with those a network wants.

    Raises:
        ValueError: a tensor is missing, left over, or of another shape or dtype.
    """
    for what, names in (("lacks", wanted.keys() - tensors.keys()), ("has an unknown", tensors.keys() - wanted.keys())):
        if names:
            raise broken(path, f"it {what} {_first(names)}")
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            raise broken(path, f"{name} is {tuple(tensors[name].shape)}, the network wants {tuple(tensor.shape)}")
        if tensors[name].dtype != tensor.dtype:
            raise broken(path, f"{name} is {tensors[name].dtype}, the network wants {tensor.dtype}")


def broken(path: Path | str, reason: str) -> ValueError:
    """The error, of one line, for every fault of a weights file."""
    return ValueError(f"{path} is not a whole safetensors file: {' '.join(reason.split())}; {ADVICE}")


def _first(names: Iterable[str]) -> str:
    names = sorted(names)
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
