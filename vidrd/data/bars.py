"""Black bars around a picture, found before a video is decoded: a few frames from all over the file show them."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from vidrd.foreign_media import open_video

LOOKS = 8  # frames that are looked at
DARK = 24  # of 255, which no color of a bar's pixels exceeds, but for few
FEW = 0.05  # of a row's or column's pixels
SHOWS = 20.0  # mean brightness of a frame that shows something
UNEVEN = 0.03  # of the frame's side, by which two opposite bars may differ
LEAST = 0.02  # of the frame's side, which a pair of bars covers
MOST = 0.6


class Box(NamedTuple):
    """The part of a stored frame inside its bars, in pixels, even."""

    top: int
    bottom: int
    left: int
    right: int


def find_bars(source: Path | bytes) -> Box | None:
    """What is inside a video's black bars; None where it has none.

    Bars lie on opposite sides, are about equally wide, and are black in every frame that shows something. So neither a
    dark scene nor a black edge on one side is taken for one.

    Raises:
        UnreadableError: the file cannot be read.
    """
    return inner_box(_looks(source))


def inner_box(looks: Sequence[UInt8[ndarray, "H W"]]) -> Box | None:
    """What is inside the black bars of frames, of which each pixel's brightest color is given; None without bars."""
    looks = [look for look in looks if look.mean() >= SHOWS]
    if len(looks) < 3:
        return None
    bright = np.stack([look > DARK for look in looks])
    top, bottom = _inside(bright.mean(axis=2).max(axis=0) > FEW)
    left, right = _inside(bright[:, top:bottom].mean(axis=1).max(axis=0) > FEW)
    height, width = looks[0].shape
    box = Box(top, bottom, left, right)
    return None if box == (0, height, 0, width) else box


def _inside(shows: ndarray) -> tuple[int, int]:
    """First row (or column) inside of a pair of bars and first one after it, even; all where there is no pair."""
    length, places = len(shows), np.flatnonzero(shows)
    before, after = (int(places[0]), length - 1 - int(places[-1])) if len(places) else (0, 0)
    paired = min(before, after) > 0 and abs(before - after) <= UNEVEN * length
    if not paired or not LEAST * length <= before + after <= MOST * length:
        return 0, length
    return -(-before // 2) * 2, (length - after) // 2 * 2


def _looks(source: Path | bytes) -> list[UInt8[ndarray, "H W"]]:
    """Each pixel's brightest color in frames of one size, from all over the file or, if it has no length, its start."""
    looks: list[UInt8[ndarray, "H W"]] = []
    with open_video(source) as (container, stream):
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        for number in range(LOOKS):
            try:
                if seconds:
                    container.seek(int((number + 0.5) / LOOKS * seconds / stream.time_base), stream=stream)
                frames = container.decode(stream)
                frame = next(islice(frames, 0 if seconds else 8, None), None)
            except (av.FFmpegError, ValueError):
                continue
            if frame is not None:
                looks.append(_brightest(frame))
    return [look for look in looks if look.shape == looks[0].shape]


def _brightest(frame: av.VideoFrame) -> UInt8[ndarray, "H W"]:
    return frame.to_ndarray(format="rgb24").max(axis=2)
