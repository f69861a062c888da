"""Networks with several files in circulation: published checkpoints and transformers' folders, read by lists of names.

`metrics.weights.load` recognizes I3D and C3D among each other; here the caller says which network is wanted, and a file
that holds anything less, or anything else under the same prefix, is refused: no network is ever partly loaded.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from metrics.weights.errors import TRUNCATED, refused
from metrics.weights.load import Source, digest, open_source
from metrics.weights.published import hashes

Shapes = Mapping[str, tuple[int, ...]]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PARTS = {"safetensors": "model.safetensors", "torch": "pytorch_model.bin"}  # of a transformers folder


@dataclass(frozen=True)
class NameConvention:
    """One convention of names: our name -> the file's names, whose tensors are joined along the first axis."""

    whose: str
    theirs: Callable[[str], tuple[str, ...]]
    transposed: frozenset[str] = frozenset()  # our names of matrices that the file has the other way round


PUBLISHED = NameConvention("published", lambda name: (name,))


@dataclass(frozen=True)
class Checkpoint:
    """What is known of the files of one network."""

    network: str  # for messages and manifests
    files: tuple[str, ...]  # names of files, or of folders of transformers, below a folder of weights
    namings: tuple[NameConvention, ...] = (PUBLISHED,)
    prefixes: tuple[str, ...] = ("",)  # what may stand before all names; the first that fits best counts
    unused: tuple[str, ...] = ()  # beginnings of names that belong to the file and are not read
    sha256: str | None = None  # of the published file, or its first digits; None = nobody published one
    advice: str = ""  # what to do instead of giving a file that does not fit


class State(NamedTuple):
    """The tensors of one network under our names, float32, and where they come from."""

    tensors: dict[str, Tensor]
    file: Path
    whose: str  # the convention of its names
    identity: str  # "published" where the file's sha256 is the published one, else "unrecognised"
    digest: str  # sha256 of names, shapes and values: equal for equal weights, whatever the file


def find_checkpoint(path: Path | str, checkpoint: Checkpoint) -> Path:
    """The file that a path refers to: itself, or the first known one in or below a folder.

    Folders of transformers may be those that `save_pretrained` writes or those of the hub's cache.

    Raises:
        WeightsError: nothing there.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    own = [path / part for part in PARTS.values() if (path / part).is_file() and (path / "config.json").is_file()]
    if own:
        return own[0]
    for name in checkpoint.files:
        candidates = path.rglob(name if "." in name else f"*{name}")
        for candidate in sorted(candidates, key=lambda place: (len(place.parts), place)):
            if file := next((file for file in _inside(candidate) if file.is_file()), None):
                return file
    raise refused(path, f"the folder has no {' or '.join(checkpoint.files)} of {checkpoint.network}", "name the file")


def _inside(place: Path) -> list[Path]:
    """A file itself, or where a folder of transformers may hold its weights."""
    parts = PARTS.values()
    return [place, *(place / part for part in parts), *(file for part in parts for file in place.glob(f"*/*/{part}"))]


def read_checkpoint(path: Path | str, checkpoint: Checkpoint, wanted: Shapes) -> State:
    """Read all tensors of one network; names and shapes are checked before a value is read, nothing is executed.

    Args:
        path: the file, or a folder that holds it under a known name.
        checkpoint: the network's files and names.
        wanted: our names and their shapes.

    Raises:
        WeightsError: the file is missing, damaged, lacks a tensor, has another of the network's, or one of another
            shape or with values that are not finite.
    """
    source = open_source(find_checkpoint(path, checkpoint))
    naming, prefix = _convention(source.shapes, checkpoint, wanted)
    names = {ours: tuple(prefix + name for name in naming.theirs(ours)) for ours in wanted}
    _check_names(source, checkpoint, names, prefix)
    for ours, theirs in names.items():
        _check_shape(source, checkpoint, theirs, _shape_in_file(wanted[ours], ours in naming.transposed))
    tensors = {ours: _read(source, theirs, ours in naming.transposed) for ours, theirs in sorted(names.items())}
    file = source.files[0]
    known = checkpoint.sha256 is not None and hashes(file)[0].startswith(checkpoint.sha256)
    return State(tensors, file, naming.whose, "published" if known else "unrecognised", digest(tensors))


def _convention(shapes: Shapes, checkpoint: Checkpoint, wanted: Shapes) -> tuple[NameConvention, str]:
    """The convention and prefix that explain most of the wanted names."""

    def hits(naming: NameConvention, prefix: str) -> int:
        return sum(prefix + name in shapes for ours in wanted for name in naming.theirs(ours))

    pairs = [(naming, prefix) for naming in checkpoint.namings for prefix in checkpoint.prefixes]
    return max(pairs, key=lambda pair: hits(*pair))


def _check_names(source: Source, checkpoint: Checkpoint, names: Mapping[str, tuple[str, ...]], prefix: str) -> None:
    """All tensors of the network, and under the same prefix no others."""
    file, network = source.files[0], checkpoint.network
    theirs = {name for parts in names.values() for name in parts}
    missing = [name for parts in names.values() for name in parts if name not in source.shapes]
    if len(missing) == len(theirs):
        raise refused(
            file,
            f"none of its {len(source.shapes)} tensors is of {network} (it has {_some(source.shapes)})",
            checkpoint.advice,
        )
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise refused(file, f"it looks like {network}, but lacks {missing[0]}{more}", checkpoint.advice or TRUNCATED)
    unused = tuple(prefix + name for name in checkpoint.unused)
    extra = [
        n for n in source.shapes if n.startswith(prefix) and n not in theirs and not n.startswith(unused or ("\0",))
    ]
    if extra:
        raise refused(
            file, f"it has the unknown {_some(extra)}: it is another network than {network}", checkpoint.advice
        )


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:3]) or "none"


def _shape_in_file(shape: tuple[int, ...], transposed: bool) -> tuple[int, ...]:
    return shape[::-1] if transposed else shape


def _check_shape(source: Source, checkpoint: Checkpoint, theirs: tuple[str, ...], shape: tuple[int, ...]) -> None:
    shapes = [tuple(source.shapes[name]) for name in theirs]
    whole = shapes[0] if len(theirs) == 1 else (sum(part[0] for part in shapes), *shapes[0][1:])
    if whole != shape or any(part[1:] != shape[1:] for part in shapes):
        got = shapes[0] if len(theirs) == 1 else shapes
        advice = checkpoint.advice
        raise refused(source.files[0], f"{theirs[0]} is {got}, {checkpoint.network} wants {shape}", advice)


def _read(source: Source, theirs: tuple[str, ...], transposed: bool) -> Tensor:
    parts = [read_tensor(source, name) for name in theirs]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    whole = whole.T if transposed else whole
    return whole.float().contiguous() if whole.dtype in FLOATS else whole


def read_tensor(source: Source, name: str) -> Tensor:
    """One tensor of a file.

    Raises:
        WeightsError: its numbers are not finite, or no floating-point numbers (counters of batches may be whole).
    """
    tensor = source.read(name)
    if tensor.dtype in FLOATS and not tensor.isfinite().all():
        raise refused(source.files[0], f"{name} has values that are not finite")
    if tensor.dtype not in FLOATS and not name.endswith("num_batches_tracked"):
        raise refused(source.files[0], f"{name} is {tensor.dtype}, weights are floating-point numbers")
    return tensor
