"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A path next to `path` to write to; on success it is renamed to `path`, and after an error it is removed.

    Readers see the old file or the new one, and two processes that write the same file do not mix: the last one wins.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text as a whole file; a device or a pipe is written to, never replaced.

    Raises:
        OSError: the folder is missing or full, or must not be written to.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
