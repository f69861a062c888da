"""Tensors out of a torch archive, executing nothing: state dicts and whole TorchScript programs alike.

Such an archive is a zip with a pickle, `data.pkl`, which lists the tensors, and one record of raw bytes per
tensor. The pickle is read by an unpickler that knows the few names torch itself writes there, makes plain records of
them, and refuses any other; a program's code is not looked at.
"""

import io
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from metrics.weights.errors import TRUNCATED, WeightsError, refused

PICKLE_BYTES = 16 << 20  # I3D's is some 50 kB
RECORDS = 10_000

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class StorageRecord:
    """A record of raw bytes."""

    dtype: torch.dtype
    record: str
    numel: int


@dataclass(frozen=True)
class TensorRecord:
    """A tensor that has not been read yet."""

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Module:
    """An object of a program, reduced to its attributes."""

    fields: Mapping[str, object]

    def __init__(self) -> None:
        self.fields = {}

    def __setstate__(self, state: object) -> None:
        self.fields = state if isinstance(state, dict) else {}


class Archive:
    """A torch archive, opened: the names of its tensors, each read when asked for."""

    def __init__(self, path: Path):
        """Read the pickle and check what it promises against what the archive holds.

        Raises:
            WeightsError: no whole torch archive, one that would unpack to more than it is, or a pickle that wants to
                run something.
        """
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            records = self._zip.infolist()
        except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
            raise refused(path, f"it is no whole zip archive ({error})", TRUNCATED) from error
        names = [record.filename for record in records]
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(names) > RECORDS:
            raise refused(
                path, f"a torch archive has one data.pkl, this one has {len(pickles)} in {len(names)} records"
            )
        self._root = pickles[0].removesuffix("data.pkl")
        self.is_program = f"{self._root}constants.pkl" in names
        order = self._read(f"{self._root}byteorder", 16) if f"{self._root}byteorder" in names else b"little"
        if order != b"little":
            raise refused(path, "its tensors are big-endian, which this reader does not know")
        self.tensors = _tensors(_unpickle(path, self._read(pickles[0], PICKLE_BYTES)))

    def tensor(self, name: str) -> Tensor:
        """Read one tensor, dense.

        Raises:
            WeightsError: its record is missing, damaged or shorter than the tensor.
        """
        record = self.tensors[name]
        storage, shape, stride = record.storage, record.shape, record.stride
        reach = record.offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1
        if min((record.offset, *shape, *stride), default=0) < 0 or max(reach, math.prod(shape)) > storage.numel:
            raise refused(self.path, f"{name} reaches beyond its record")
        size = storage.numel * storage.dtype.itemsize
        octets = self._read(f"{self._root}data/{storage.record}", size, compressed=False)
        if len(octets) != size:
            raise refused(self.path, f"the record of {name} has {len(octets)} bytes, {size} are wanted", TRUNCATED)
        return torch.frombuffer(bytearray(octets), dtype=storage.dtype).as_strided(shape, stride, record.offset).clone()

    def _read(self, record: str, limit: int, *, compressed: bool = True) -> bytes:
        """The bytes of a record that claims at most `limit` of them; zipfile unpacks no more than is claimed."""
        try:
            info = self._zip.getinfo(record)
            if info.file_size > limit:
                raise refused(self.path, f"{record} unpacks to {info.file_size} bytes, at most {limit} make sense")
            if not compressed and info.compress_type != zipfile.ZIP_STORED:
                raise refused(self.path, f"{record} is compressed, which torch never does with tensors")
            return self._zip.read(info)
        except KeyError as error:
            raise refused(self.path, f"it has no record {record}", TRUNCATED) from error
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise refused(self.path, f"{record} is damaged ({error})", TRUNCATED) from error


class _Reader(pickle.Unpickler):
    """An unpickler that makes records of what torch writes and refuses every other name."""

    def __init__(self, path: Path, octets: bytes):
        super().__init__(io.BytesIO(octets))
        self._path = path

    def find_class(self, module: str, name: str) -> object:
        """The record class for a name in the pickle; every name that torch does not write is refused."""
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module.partition(".")[0] == "__torch__":
            return Module
        raise refused(
            self._path,
            f"its pickle wants to run {module}.{name}, which has no place in a file of tensors",
            "do not open it with anything else",
        )

    def persistent_load(self, pid: object) -> StorageRecord:
        """A reference to a record of raw bytes."""
        match pid:
            case ("storage", torch.dtype() as dtype, str(record), str(), int(numel)) if numel > 0:
                return StorageRecord(dtype, record, numel)
        raise ValueError("a reference that is no storage")


def _tensor_record(
    storage: StorageRecord, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> object:
    whole = isinstance(storage, StorageRecord) and all(isinstance(n, int) for n in (offset, *shape, *stride))
    if not whole or len(shape) != len(stride):
        raise ValueError("a tensor that is none")
    return TensorRecord(storage, offset, tuple(shape), tuple(stride))


def _first(value: object, *_: object) -> object:
    return value


KNOWN: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_record,
    ("torch._utils", "_rebuild_parameter"): _first,
    **{("torch", name): dtype for name, dtype in DTYPES.items()},
    **{
        ("torch.jit._pickle", name): _first
        for name in ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")
    },
}


def _unpickle(path: Path, octets: bytes) -> object:
    try:
        return _Reader(path, octets).load()
    except WeightsError:
        raise
    except Exception as error:  # a pickle may fail in any way, and all of them mean the same
        raise refused(path, f"its data.pkl is no whole pickle of tensors ({error})", TRUNCATED) from error


def _tensors(root: object) -> dict[str, TensorRecord]:
    """Dotted names of all tensors below a node; a module that is there twice is named once, so no loop is endless."""
    records: dict[str, TensorRecord] = {}
    visited: set[int] = set()
    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        name, node = todo.pop()
        if isinstance(node, TensorRecord):
            records[name] = node
        fields = node.fields if isinstance(node, Module) else node
        if isinstance(fields, dict) and id(fields) not in visited:
            visited.add(id(fields))
            todo += [(f"{name}.{key}" if name else key, value) for key, value in fields.items() if isinstance(key, str)]
    return records
