"""What the content of two sets says about a number of them: copies, scales, sizes. Nothing here stops a score."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from metrics.videos.read import list_stray_pictures

FEW = 10  # videos, of which a t-interval needs more where their values are skewed


class Look(NamedTuple):
    """What is known of a clip's pixels as they were read."""

    height: int
    width: int
    largest: int  # byte

    @classmethod
    def of(cls, frames: UInt8[np.ndarray, "T H W C"]) -> "Look":
        """Of the frames of one clip."""
        return cls(frames.shape[1], frames.shape[2], int(frames.max()))


class Content(NamedTuple):
    """What is known of a set beyond its features."""

    origins: Sequence[str] = ()  # for each video, a hash of its file or of its frames
    looks: Sequence[Look] = ()  # for each clip
    stale: bool = False  # features that were saved by other code or packages than these


def cautions(sides: Mapping[str, Content]) -> list[str]:
    """Lines to print next to a number of these sets; `sides` are "real" and "fake", or one of them."""
    notes = []
    for name, side in sides.items():
        if side.stale:
            notes.append(f"the statistics of the {name} videos were saved by other code or packages: save them again")
        copies = len(side.origins) - len(set(side.origins))
        if copies:
            notes.append(f"{copies} of {len(side.origins)} {name} videos are copies of others in the set")
        if side.looks and max(look.largest for look in side.looks) <= 1:
            notes.append(f"no {name} pixel is above 1: these are 8-bit levels, 255 is white; scale frames from 0..1")
    if len(sides) < 2:
        return notes
    real, fake = sides["real"], sides["fake"]
    shared = len([origin for origin in fake.origins if origin in set(real.origins)])
    if shared and set(real.origins) == set(fake.origins):
        notes.append("both sets are the same videos: the number says nothing about generated video")
    elif shared:
        notes.append(f"{shared} of {len(fake.origins)} fake videos are in the real set too")
    sizes = [sorted({(look.height, look.width) for look in side.looks}) for side in (real, fake)]
    if all(sizes) and sizes[0] != sizes[1]:
        here, there = (_listed(size) for size in sizes)
        notes.append(f"real frames are {here} pixels, fake ones {there}: a score may see this alone")
    return notes


def cautions_of_means(sides: Mapping[str, Content]) -> list[str]:
    """`cautions`, and what must be known of a mean over videos."""
    few = [f"{len(side.origins)} {name}" for name, side in sides.items() if len(side.origins) < FEW]
    rough = f"few videos ({' and '.join(few)}): the interval of a mean over fewer than {FEW} is rough"
    return [*([rough] if few else []), *cautions(sides)]


def caution_of_strays(source: Path) -> str:
    """What to say of pictures that belong to no video; "" where there are none."""
    stray = list_stray_pictures(source)
    more = f" and {len(stray) - 1} other pictures" if len(stray) > 1 else ""
    return f"{stray[0]}{more} in {source} lie beside or above videos and are not read" if stray else ""


def _listed(sizes: Sequence[tuple[int, int]]) -> str:
    shown = ", ".join(f"{height}x{width}" for height, width in sizes[:3])
    return shown + (f" and {len(sizes) - 3} others" if len(sizes) > 3 else "")
