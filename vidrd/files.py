"""Files appear whole or not at all: they are written under another name in the same folder, synced and renamed.

Only the standard library is needed. What a killed process leaves has a hidden name that ends in ".part".
"""

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # how file systems say that they have none


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all. Text becomes UTF-8.

    A device or a pipe is written to directly: a rename would put a file in its place.

    Raises:
        OSError: the file cannot be written, or the pipe has no reader; an earlier file is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # a pipe without a reader then fails and does not wait
        os.set_blocking(handle, True)
        with open(handle, "wb") as file:
            file.write(data)
        return
    with replacing(path) as part:
        part.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path, *, sole_writer: bool = False) -> Iterator[Path]:
    """A temporary path next to `path` for a file or a folder, renamed to `path` when the block ends, else removed.

    A file is synced first; its mode is that of a new file under the umask. A link is followed. An existing folder is
    not replaced, and neither is a device or a pipe.

    Args:
        path: of the file or folder to make.
        sole_writer: no other process writes this path. The temporary name is then always the same, and what a killed
            run left under it is removed first; without it, several processes may make the same file at once.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"a file cannot take the place of a device or a pipe: got {path}, name a file")
    part = path.with_name(f".{path.name}.part" if sole_writer else f".{path.name[:50]}.{uuid.uuid4().hex}.part")
    if sole_writer:
        _remove(part)
    try:
        yield part
        if part.is_file():
            with part.open("rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:  # a full disk, Ctrl-C: half a file is of no use
        with contextlib.suppress(OSError):
            _remove(part)
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Allow one run at a time in a folder. The system drops the lock when its process ends, however it ends.

    On a file system without locks (some of clusters) nothing is allowed or refused, which standard error says.

    Raises:
        ValueError: another run holds the lock.
    """
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another run is writing into {folder}: wait for it, or give --out another folder"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"the file system of {folder} has no locks: start no second run in this folder", file=sys.stderr)
        yield


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` another name of a file, or a copy where the file system has no such names; atomically."""
    with replacing(target) as part:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
