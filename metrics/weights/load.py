"""One way into every file of weights that people have: named, shaped, finite float32 tensors under our names.

The content says what a file is; a suffix that says otherwise is a fault. Names and shapes are checked before values are
read, so that a small file cannot ask for much memory.
"""

import hashlib
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metrics.files import replacing
from metrics.weights.errors import TRUNCATED, refused
from metrics.weights.npz import open_npz
from metrics.weights.tensor_names import Naming, recognize
from metrics.weights.tf_checkpoint import is_index, read_index
from metrics.weights.torch_archive import Archive

Format = Literal["safetensors", "torch", "torchscript", "tensorflow", "npz"]
Shapes = Mapping[str, tuple[int, ...]]

SUFFIXES: dict[str, set[Format]] = {
    ".safetensors": {"safetensors"},
    ".npz": {"npz"},
    ".index": {"tensorflow"},
    ".pt": {"torch", "torchscript"},
    ".pth": {"torch", "torchscript"},
}
# In a folder, the first of these that is there.
FILES = {
    "i3d": ("i3d.safetensors", "i3d_torchscript.pt", "i3d_pretrained_400.pt", "model.ckpt.index", "variables.index"),
    "c3d": ("c3d.safetensors", "conv3d_deepnetA_ucf.npz", "c3d_ucf101.pt"),
}
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save began before it wrote zip archives
BOM = b"\xef\xbb\xbf"  # with which text may begin
KERNEL = (4, 3, 0, 1, 2)  # TensorFlow's axes in torch's order
SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class Source:
    """An opened file: the tensors it names, in torch's layout, none read yet."""

    format: Format
    files: tuple[Path, ...]
    shapes: Shapes
    read: Callable[[str], Tensor]


class LoadedTensors(NamedTuple):
    """One network's tensors under our names, and where they come from."""

    network: str  # "i3d" or "c3d"
    format: Format
    names: str  # whose names the file uses
    tensors: dict[str, Tensor]  # float32, on the CPU
    files: tuple[Path, ...]
    extra: tuple[str, ...]  # tensors of the file that belong to no network of ours
    digest: str  # sha256 of names, shapes and values: equal for equal weights, whatever the file


def load(path: Path | str, wanted: Mapping[str, Shapes]) -> LoadedTensors:
    """Read the weights of one of the wanted networks.

    Args:
        path: a file (of a TensorFlow checkpoint any of its files, or their common prefix), or a folder that holds one
            under the name it was published with.
        wanted: for each network that will do, the shapes of its tensors.

    Raises:
        WeightsError: the file is missing, truncated, damaged, named as what it is not, wants to run code, or holds
            another network or values that are not finite.
    """
    source = open_source(find(Path(path), wanted))
    shown = source.files[0]
    naming = recognize(source.shapes)
    if naming is None:
        some = ", ".join(sorted(source.shapes)[:3]) or "none"
        raise refused(shown, f"none of its {len(source.shapes)} tensors has a name of I3D or C3D (it has {some})")
    if naming.network not in wanted:
        raise refused(shown, f"it holds {naming.network}, {' or '.join(wanted)} is wanted", "give the other file")
    _check_names(shown, source, naming)
    shapes = wanted[naming.network]
    tensors = {}
    for ours, theirs in naming.theirs.items():
        if tuple(source.shapes[theirs]) != tuple(shapes[ours]):
            raise refused(shown, f"{theirs} is {source.shapes[theirs]}, {naming.network} wants {tuple(shapes[ours])}")
    for ours, theirs in naming.theirs.items():
        tensors[ours] = tensor = source.read(theirs).contiguous()
        if tensor.dtype != torch.float32:
            raise refused(shown, f"{theirs} is {tensor.dtype}, the published weights are float32")
        if not tensor.isfinite().all():
            raise refused(shown, f"{theirs} has values that are not finite")
    for ours in shapes.keys() - tensors.keys():  # TensorFlow's batch-norm has no scale
        tensors[ours] = torch.ones(shapes[ours])
    tensors = {name: tensors[name] for name in sorted(tensors)}
    return LoadedTensors(
        naming.network, source.format, naming.whose, tensors, source.files, naming.extra, digest(tensors)
    )


def export(loaded: LoadedTensors, path: Path | str) -> None:
    """Write the tensors as safetensors, which every later load reads fastest; the file appears whole or not at all."""
    with replacing(path) as part:
        save_file(loaded.tensors, part, {"network": loaded.network, "digest": loaded.digest})


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of the tensors' names, shapes and values."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha256.update(tensor.numpy().data)
    return sha256.hexdigest()


def find(path: Path, networks: Mapping[str, object]) -> Path:
    """The file that a path refers to.

    Raises:
        WeightsError: nothing there, or a folder with no file of a known name.
    """
    if path.is_dir():
        for folder in (path, path / "variables"):
            for name in (name for network in networks for name in FILES.get(network, ())):
                if (folder / name).is_file():
                    return folder / name
        names = ", ".join(name for network in networks for name in FILES.get(network, ()))
        raise refused(path, f"the folder has none of {names}", "name the file itself")
    if SHARD.search(path.name):
        return path.with_name(SHARD.sub(".index", path.name))
    if not path.is_file() and path.with_name(f"{path.name}.index").is_file():
        return path.with_name(f"{path.name}.index")
    return path


def open_source(path: Path) -> Source:
    """A file's format, by its first and last bytes, and the tensors it names.

    Raises:
        WeightsError: the file is missing, of no known format, or of another one than its suffix says.
    """
    if not path.is_file():
        raise refused(path, "there is no such file")
    with path.open("rb") as file:
        head = file.read(512)
    kind = _kind(path, head)
    if kind not in SUFFIXES.get(path.suffix.lower(), {kind}):
        raise refused(path, f"its name says {path.suffix}, its content is {kind}", "find out what it is and rename it")
    if kind == "tensorflow":
        return _tensorflow(path)
    if kind == "npz":
        arrays = open_npz(path)
        return Source("npz", (path,), arrays.shapes, lambda name: torch.from_numpy(arrays.array(name)))
    if kind == "safetensors":
        return _safetensors(path)
    return _legacy(path) if head.startswith(LEGACY) else _archive(path)


def _kind(path: Path, head: bytes) -> Format:
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if head.startswith(LEGACY):
        return "torch"
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    if path.suffix == ".index" or is_index(path):
        return "tensorflow"
    if not head:
        raise refused(path, "it is empty", TRUNCATED)
    if head.removeprefix(BOM).lstrip()[:1] == b"<":
        raise refused(path, "it is a web page, not a file of weights", "download it again in a browser")
    if head.startswith(b"version https://git-lfs"):
        raise refused(path, "it is a pointer of Git LFS, not the file itself", "fetch it with `git lfs pull`")
    if head.startswith(b"\x80"):
        raise refused(path, "it is a bare pickle, which could run anything when read", "get it as safetensors")
    raise refused(path, f"it begins with {head[:8]!r}, which no format of weights does", TRUNCATED)


def _zip_kind(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
        raise refused(path, f"it is no whole zip archive ({error})", TRUNCATED) from error
    if any(name.endswith("data.pkl") for name in names):
        return "torchscript" if any(name.endswith("/constants.pkl") for name in names) else "torch"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    raise refused(path, f"it is a zip archive of other things ({', '.join(names[:3])})", "unpack it")


def _archive(path: Path) -> Source:
    archive = Archive(path)
    shapes = {name: record.shape for name, record in archive.tensors.items()}
    return Source("torchscript" if archive.is_program else "torch", (path,), shapes, archive.tensor)


def _legacy(path: Path) -> Source:
    """What torch.save wrote before version 1.6; torch's own reader of tensors alone takes it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an old pickle may fail in any way, and all of them mean the same
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise refused(path, f"it is no whole file of tensors alone ({why})", TRUNCATED) from error
    if not isinstance(content, Mapping):
        raise refused(path, f"it holds a {type(content).__name__}, not tensors by their names")
    tensors = dict(_flat(content))
    return Source("torch", (path,), {name: tuple(t.shape) for name, t in tensors.items()}, tensors.__getitem__)


def _flat(content: Mapping[object, object], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Dotted names of all tensors in nested mappings, as `Archive` names them."""
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(name, str) and isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")


def _safetensors(path: Path) -> Source:
    try:
        file = safe_open(path, framework="pt", device="cpu")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise refused(path, f"it is no whole safetensors file ({error})", TRUNCATED) from error
    return Source("safetensors", (path,), shapes, file.get_tensor)


def _tensorflow(path: Path) -> Source:
    """A kernel is (T, H, W, in, out) there; the TF-Hub module has batch-norms as (1, 1, 1, 1, C)."""
    bundle = read_index(path)
    shapes = {
        name: tuple(entry.shape[axis] for axis in KERNEL)
        if name.endswith("/w") and len(entry.shape) == len(KERNEL)
        else (math.prod(entry.shape),)
        for name, entry in bundle.entries.items()
    }

    def read(name: str) -> Tensor:
        tensor = torch.from_numpy(bundle.tensor(name).copy())
        return tensor.permute(KERNEL) if len(shapes[name]) == len(KERNEL) else tensor.flatten()

    return Source("tensorflow", tuple(bundle.files()), shapes, read)


def _check_names(shown: Path, source: Source, naming: Naming) -> None:
    """All the tensors of the network, and in a file of tensors alone no others."""
    if naming.missing:
        more = f" and {len(naming.missing) - 1} more" if len(naming.missing) > 1 else ""
        raise refused(shown, f"it looks like {naming.network}, but lacks {naming.missing[0]}{more}", TRUNCATED)
    extra = [name for name in naming.extra if not name.endswith("num_batches_tracked")]
    if extra and source.format not in ("torchscript", "tensorflow"):
        raise refused(shown, f"it has the unknown {extra[0]}: it is another network than {naming.network}")
