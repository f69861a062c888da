"""Files that are read only if they are regular ones, and files that appear whole or not at all."""

import contextlib
import math
import os
import stat
import threading
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

HEADER_BYTES = 1 << 16  # of an array; numpy's are some 128
TEXT_BYTES = 1 << 28  # of a list or a result
WEIGHTS_BYTES = 1 << 34  # of one file of weights
ARRAY_BYTES = 1 << 31  # of an .npz, unpacked
# numpy parses an array's header with Python's own parser, which up to 3.11.8 fails where two threads are in it.
HEADERS = threading.Lock()
ARCHIVE_FAULTS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)


@contextmanager
def open_regular(path: Path | str) -> Iterator[BufferedReader]:
    """Open a file for reading if it is a regular one: a pipe or a device would be waited for, or never end.

    Raises:
        ValueError: it is something else.
        OSError: it is missing, or must not be read.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        yield file


def read_regular(path: Path | str, most: int) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        ValueError: it is no regular file, or larger.
        OSError: it is missing, or must not be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"it has {size} bytes, at most {most} make sense")
        return file.read(most + 1)


def read_text(path: Path | str) -> str:
    """UTF-8 text, with or without a byte order mark.

    Raises:
        ValueError: it is no regular file, too large, or no UTF-8.
        OSError: it is missing, or must not be read.
    """
    return read_regular(path, TEXT_BYTES).decode("utf-8-sig")


def array_header(member: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype by the header of an .npy; what follows is not read.

    Raises:
        ValueError: it is none, or its header is too long.
    """
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member, max_header_size=HEADER_BYTES)
    return shape, dtype


def load_npz(path: Path | str, most: int = ARRAY_BYTES) -> dict[str, np.ndarray]:
    """The arrays of an .npz, none of which is a pickle, if all of them together have at most `most` bytes.

    Sizes are checked before anything is unpacked, and what the archive claims against what the arrays do.

    Raises:
        ValueError: it is broken, too large, or holds pickles.
    """
    try:
        with open_regular(path) as file, HEADERS, zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            total = 0
            for info in members:
                with archive.open(info) as member:
                    shape, dtype = array_header(member)
                if dtype.hasobject:
                    raise ValueError(f"{info.filename} holds objects, that is a pickle")
                total += math.prod(shape) * dtype.itemsize
                if not 0 <= info.file_size - math.prod(shape) * dtype.itemsize <= HEADER_BYTES:
                    raise ValueError(f"{info.filename} does not have the size that its shape {shape} means")
            if total > most:
                raise ValueError(f"it unpacks to {total / 2**30:.1f} GiB, at most {most / 2**30:.1f} are read")
            arrays = {}
            for info in members:
                with archive.open(info) as member:
                    name = info.filename.removesuffix(".npy")
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False, max_header_size=HEADER_BYTES)
            return arrays
    except ARCHIVE_FAULTS as error:
        raise ValueError(str(error)) from error


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A path next to `path` to write to; on success it is renamed to `path`, and after an error it is removed.

    Readers see the old file or the new one, and two processes that write the same file do not mix: the last one wins.
    A link is followed.

    Raises:
        ValueError: `path` is a folder, a device or a pipe, which a rename would destroy.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file, and is not replaced by one: give another name")
    part = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text as a whole file; a device or a pipe is written to, never replaced.

    Raises:
        OSError: the folder is missing or full, or must not be written to, or the pipe has no reader.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # a pipe without a reader then fails and does not wait
        os.set_blocking(handle, True)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        return
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
