"""The base's videos, kept between gates: those of one base need to be made once."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from bench.harness.suite_spec import Values
from bench.results.records import digest
from vidrd.files import replacing


class KeptVideos(NamedTuple):
    """Videos of one cell as a gate before this one had the base make them.

    Args:
        file: which holds them, N T H W C.
        first: SHA-256 of the first batch as the base makes it now. Videos that begin otherwise are not taken: those of
            another machine, say, or of another torch.
        batch: number of videos in it.
    """

    file: Path
    first: str
    batch: int

    def load(self, videos: int) -> UInt8[np.ndarray, "N T H W C"] | None:
        """That many videos; None if there are fewer, or others than the base makes now."""
        if not self.file.exists():
            return None
        kept: UInt8[np.ndarray, "N T H W C"] = np.load(self.file)
        same = hashlib.sha256(kept[: self.batch].tobytes()).hexdigest() == self.first
        return kept[:videos] if same and len(kept) >= videos else None

    def save(self, videos: UInt8[np.ndarray, "N T H W C"]) -> None:
        """Keep these, and none of another base."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        for other in self.file.parent.glob("*.npy"):
            if other.name.partition("-")[0] != self.file.name.partition("-")[0]:
                other.unlink()
        with replacing(self.file, sole_writer=True) as part, part.open("wb") as file:
            np.save(file, videos)


def kept_videos(folder: Path, revision: str, values: Values, first: str) -> KeptVideos:
    """Those of a cell of a revision, however many; `first` is the hash of their first batch."""
    cell = digest({name: value for name, value in values.items() if name != "videos"})
    return KeptVideos(folder / f"{revision}-{cell}.npy", first, int(values["batch"]))
