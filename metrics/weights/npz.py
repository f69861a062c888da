"""Arrays out of an .npz without pickle, each checked for size and type before a byte of it is unpacked."""

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metrics.files import HEADER_BYTES, array_header
from metrics.weights.errors import TRUNCATED, refused


@dataclass(frozen=True)
class Arrays:
    """An .npz that was opened: what its float arrays are called and how large they say they are."""

    path: Path
    shapes: dict[str, tuple[int, ...]]

    def array(self, name: str) -> np.ndarray:
        """One array.

        Raises:
            WeightsError: the file is damaged.
        """
        try:
            with zipfile.ZipFile(self.path) as file, file.open(f"{name}.npy") as member:
                return np.lib.format.read_array(member, allow_pickle=False, max_header_size=HEADER_BYTES)
        except FAULTS as error:
            raise refused(self.path, f"its array {name} is damaged ({error})", TRUNCATED) from error


FAULTS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, MemoryError)


def open_npz(path: Path) -> Arrays:
    """Read the headers of all arrays.

    Raises:
        WeightsError: no whole zip archive, or an array that holds objects (a pickle) or claims more or fewer bytes than
            its shape has.
    """
    shapes = {}
    try:
        with zipfile.ZipFile(path) as file:
            for info in file.infolist():
                if info.filename.endswith(".npy"):
                    shapes[info.filename.removesuffix(".npy")] = _shape(path, file, info)
    except FAULTS as error:
        raise refused(path, f"it is no whole .npz archive ({error})", TRUNCATED) from error
    return Arrays(path, shapes)


def _shape(path: Path, file: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...]:
    with file.open(info) as member:
        shape, dtype = array_header(member)
    if dtype.hasobject:
        raise refused(path, f"{info.filename} holds objects, that is a pickle", "do not open it with anything else")
    surplus = info.file_size - math.prod(shape) * dtype.itemsize
    if not 0 < surplus <= HEADER_BYTES:
        raise refused(path, f"{info.filename} has {info.file_size} bytes, which its shape {shape} does not explain")
    return shape
