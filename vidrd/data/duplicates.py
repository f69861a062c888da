"""Find clips that are twice in a data set, or that are also in a set on which models are tested.

A clip is known by difference hashes of three of its frames: 64 bits each, that say whether brightness rises from each
cell of a small picture to the next. Re-encoding, resizing and small changes of color flip few of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, UInt8, UInt64
from numpy import ndarray

FRAMES = 3
FLAT = 3.0  # standard deviation of brightness below which a frame's hash would be noise


def frame_hash(frame: UInt8[ndarray, "H W 3"]) -> int | None:
    """Difference hash of a frame, rows of 8 bits; None where the frame is too flat to have one."""
    small = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    if small.std() < FLAT:
        return None
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def clip_hashes(thumbs: UInt8[ndarray, "T h w 3"]) -> list[int] | None:
    """Hashes at one, three and five sixths of a clip; None where one of these frames is too flat."""
    places = [(2 * i + 1) * len(thumbs) // (2 * FRAMES) for i in range(FRAMES)]
    hashes = [frame_hash(thumbs[place]) for place in places]
    return None if None in hashes else [value for value in hashes if value is not None]


def near_duplicates(
    hashes: Mapping[str, Sequence[int]],  # by key, in the order in which the first one stays
    *,
    most: int = 11,  # bits of 192 by which two clips may differ
) -> dict[str, str]:
    """The key of the earlier clip for each clip that repeats one. Exact: no pair within `most` bits is missed.

    Two clips within `most` bits agree in at least one of most + 1 bands, so only clips that share a band are compared.
    """
    bands = _bands(64 * FRAMES, most + 1)
    buckets: dict[tuple[int, int], list[str]] = defaultdict(list)
    kept: dict[str, int] = {}
    repeats: dict[str, str] = {}
    for key, frames in hashes.items():
        whole = sum(value << 64 * place for place, value in enumerate(frames))
        names = [(number, whole >> low & (1 << width) - 1) for number, (low, width) in enumerate(bands)]
        earlier = next(
            (other for name in names for other in buckets[name] if (kept[other] ^ whole).bit_count() <= most), None
        )
        if earlier is not None:
            repeats[key] = earlier
            continue
        kept[key] = whole
        for name in names:
            buckets[name].append(key)
    return repeats


class Reference:
    """Frame hashes of a set that must not be trained on, as of UCF-101 before a zero-shot test on it."""

    def __init__(self, *, most: int = 6):
        self.most = most  # bits of 64 by which two frames may differ
        self._hashes: list[int] = []
        self._owners: list[str] = []
        self._array: UInt64[ndarray, " N"] | None = None

    def add(self, name: str, thumbs: Iterable[UInt8[ndarray, "h w 3"]]) -> None:
        """Remember frames of a clip: every few, since clips of one video start at different frames."""
        for thumb in thumbs:
            value = frame_hash(thumb)
            if value is not None:
                self._hashes.append(value)
                self._owners.append(name)
        self._array = None

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, frames: Sequence[int]) -> str | None:
        """The clip of the set that holds at least two of these frames, if any."""
        if not self._hashes:
            return None
        if self._array is None:
            self._array = np.array(self._hashes, dtype=np.uint64)
        hits: dict[str, int] = defaultdict(int)
        for value in frames:
            for owner in {self._owners[index] for index in np.flatnonzero(_near(self._array, value, self.most))}:
                hits[owner] += 1
        owner, count = max(hits.items(), key=lambda item: item[1], default=("", 0))
        return owner if count >= min(2, len(frames)) else None


def _near(hashes: UInt64[ndarray, " N"], value: int, most: int) -> Bool[ndarray, " N"]:
    """Which hashes differ from one by at most `most` bits, and a third of the rises and falls that both have.

    Plain frames have few of these.
    """
    own = np.uint64(value)
    differ = np.bitwise_count(hashes ^ own)  # counts are uint8, at most 64
    rises, falls = np.bitwise_count(hashes & own), 64 - np.bitwise_count(hashes | own)
    return (differ <= most) & (3 * differ <= np.minimum(rises, falls))


def _bands(bits: int, count: int) -> list[tuple[int, int]]:
    """Lowest bit and width of `count` bands that cover all bits."""
    bounds = [bits * i // count for i in range(count + 1)]
    return [(low, high - low) for low, high in pairwise(bounds)]
