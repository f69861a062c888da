"""The frames of one video in blocks, decoded once, for videos of any length in the memory of a block."""

from collections.abc import Iterator
from itertools import count

import numpy as np
from jaxtyping import UInt8

from metrics.videos.read import Span, Video

Frames = UInt8[np.ndarray, "T H W C"]
BLOCK = 16  # frames in memory at a time


def block_spans(size: int = BLOCK, most: int | None = None) -> Iterator[Span]:
    """Blocks of `size` frames from the first on, to the end of any video, or its first `most` frames."""
    for start in count(0, size):
        if most is not None and start >= most:
            return
        yield Span(start, size if most is None else min(size, most - start), short=True)


def stream_frames(video: Video, size: int = BLOCK, most: int | None = None) -> Iterator[Frames]:
    """Blocks of at most `size` frames, in order of decoding: together what `video.read(0, most)` returns.

    Raises:
        ValueError: the file cannot be decoded, is damaged or cut off, or changes its frame size.
    """
    shape: tuple[int, ...] = ()
    for _, block in video.spans(block_spans(size, most), whole=True):
        if isinstance(block, str):
            raise ValueError(block)
        shape = shape or block.shape[1:]
        if block.shape[1:] != shape:
            raise ValueError(f"{video.path} cannot be decoded: its frame size changes between blocks: cut it there")
        yield block
