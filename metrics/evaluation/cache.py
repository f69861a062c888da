"""Features that were computed before, in one file: a killed run resumes, and a second score needs no network.

The key of a row is its input: the content of the clip, the weights, and all that is done to its frames. It is an SQLite
file, so a process may be killed at any moment and several may write.
"""

import hashlib
import io
import json
import os
import sqlite3
import threading
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from metrics.networks.features import Features

SCHEMA = "CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


def default_path() -> Path:
    """The file where features are kept by default: in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vidrd-bench" / "features.sqlite"


def cache_key(content: str, recipe: Mapping[str, object]) -> str:
    """The key of a clip with this content, made into features by this recipe (network, weights, preprocessing)."""
    return hashlib.sha256(f"{content}\n{json.dumps(recipe, sort_keys=True)}".encode()).hexdigest()


class FeatureCache:
    """A file of features; use as a context manager.

    Raises:
        ValueError: the file cannot be opened, or is something else.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
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

    def get(self, key: str) -> Features | None:
        """The features of one clip as a batch of one, or None where they are missing or damaged."""
        with self._lock:
            row = self._file.execute("SELECT value FROM features WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            with np.load(io.BytesIO(row[0]), allow_pickle=False) as arrays:
                logits = {name[7:]: arrays[name] for name in arrays.files if name.startswith("logits/")}
                return Features(arrays["embedding"], logits)
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, keys: Sequence[str], features: Features) -> None:
        """Keep the features of a batch, all of them or none."""
        rows = []
        for i, key in enumerate(keys):
            buffer = io.BytesIO()
            logits = {f"logits/{head}": values[i : i + 1] for head, values in features.logits.items()}
            np.savez(buffer, allow_pickle=False, embedding=features.embedding[i : i + 1], **logits)
            rows.append((key, buffer.getvalue()))
        with self._lock, self._file:
            self._file.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)
