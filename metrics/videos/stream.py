"""The frames of one video in blocks, decoded once, for videos of any length in the memory of a block."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from metrics.videos.media import stream_video
from metrics.videos.read import Video

Frames = UInt8[np.ndarray, "T H W C"]


def stream_frames(video: Video, size: int = 16) -> Iterator[Frames]:
    """Blocks of at most `size` frames, in order of decoding: together what `video.read()` returns.

    Raises:
        ValueError: the file cannot be decoded, is damaged or cut off, or changes its frame size.
    """
    if video.kind == "file":
        yield from stream_video(video.path, size)
        return
    length = video.probe().frames
    for start in range(0, length, size):
        yield video.read(start, min(size, length - start))
