"""Features that were computed before, in one file: a killed run resumes, and a second score needs no network.

The key of a row is its input: the content of the clip, the weights, all that is done to its frames, and the code that
does it. It is an SQLite file, so a process may be killed at any moment and several may write.
"""

import hashlib
import io
import json
import os
import sqlite3
import threading
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np

from metrics.evaluation.cautions import Look
from metrics.evaluation.result import versions
from metrics.files import HEADERS
from metrics.networks.features import Features

SCHEMA = "CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
PACKAGE = Path(__file__).parents[1]
# The code between a file and its features.
MAKERS = (
    "videos",
    "networks",
    "weights",
    "temporal",
    "vbench",
    "files.py",
    "protocols.py",
    "evaluation/batches.py",
    "evaluation/collectors.py",
    "evaluation/extract.py",
    "evaluation/measure.py",
)


def default_path() -> Path:
    """The file where features are kept by default: in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vidrd-bench" / "features.sqlite"


def cache_key(content: str, recipe: Mapping[str, object]) -> str:
    """The key of a clip with this content, made into features by this recipe (network, weights, preprocessing)."""
    return hashlib.sha256(f"{content}\n{json.dumps(recipe, sort_keys=True)}".encode()).hexdigest()


@cache
def hash_of_makers() -> str:
    """sha256 of the source that makes features, and of the versions of the packages that it calls."""
    places = [PACKAGE / name for name in MAKERS]
    files = sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("*.py")))
    sources = {str(file.relative_to(PACKAGE)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return hashlib.sha256(json.dumps([sources, versions()], sort_keys=True).encode()).hexdigest()


@runtime_checkable
class Cache(Protocol):
    """Where features are kept; None and nothing happening where they are not."""

    def get(self, key: str) -> tuple[Features, Look] | None:
        """The features of one clip as a batch of one."""
        ...

    def put(self, keys: Sequence[str], features: Features, looks: Sequence[Look]) -> None:
        """Keep the features of a batch."""
        ...


class MemoryCache:
    """Features of this run alone."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Features, Look]] = {}

    def get(self, key: str) -> tuple[Features, Look] | None:
        """The features of one clip as a batch of one."""
        return self.rows.get(key)

    def put(self, keys: Sequence[str], features: Features, looks: Sequence[Look]) -> None:
        """Keep the features of a batch."""
        for i, (key, look) in enumerate(zip(keys, looks, strict=True)):
            self.rows[key] = features.row(i), look


class FeatureCache:
    """A file of features; use as a context manager.

    What goes wrong after it was opened (a full disk, a damaged page) ends the keeping, not the score: `fault` then says
    what it was, and nothing more is read or written.

    Raises:
        ValueError: the file cannot be opened, or is something else.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.fault: str | None = None
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():
                raise OSError("it is no regular file")
            self._file = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
            self._file.execute(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ValueError(f"{self.path} cannot keep features: {error}; give another file, or keep none") from error

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def get(self, key: str) -> tuple[Features, Look] | None:
        """The features of one clip as a batch of one, or None where they are missing or damaged."""
        if self.fault is not None:
            return None
        try:
            with self._lock:
                row = self._file.execute("SELECT value FROM features WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self.fault = str(error)
            return None
        if row is None:
            return None
        try:
            with HEADERS, np.load(io.BytesIO(row[0]), allow_pickle=False) as arrays:
                logits = {name[7:]: arrays[name] for name in arrays.files if name.startswith("logits/")}
                return Features(arrays["embedding"], logits), Look(*map(int, arrays["look"]))
        except (TypeError, ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, keys: Sequence[str], features: Features, looks: Sequence[Look]) -> None:
        """Keep the features of a batch, all of them or none."""
        if self.fault is not None:
            return
        rows = []
        for i, key in enumerate(keys):
            buffer = io.BytesIO()
            logits = {f"logits/{head}": values[i : i + 1] for head, values in features.logits.items()}
            np.savez(buffer, allow_pickle=False, embedding=features.embedding[i : i + 1], look=looks[i], **logits)
            rows.append((key, buffer.getvalue()))
        try:
            with self._lock, self._file:
                self._file.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            self.fault = str(error)
