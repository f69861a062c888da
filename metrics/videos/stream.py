"""The frames of one video in blocks, decoded once, for videos of any length in the memory of a block."""

from collections.abc import Iterator

import av
import numpy as np
from jaxtyping import UInt8

from metrics.videos.read import Video

Frames = UInt8[np.ndarray, "T H W C"]


def stream_frames(video: Video, size: int = 16) -> Iterator[Frames]:
    """Blocks of at most `size` frames, in order of decoding: together what `video.read()` returns.

    Raises:
        ValueError: the file cannot be decoded, is damaged or cut off, or changes its frame size.
    """
    if video.kind != "file":
        length = video.probe().frames
        for start in range(0, length, size):
            yield video.read(start, min(size, length - start))
        return
    info = video.probe()  # which refuses files that are cut off
    block: list[UInt8[np.ndarray, "H W C"]] = []
    try:
        with av.open(str(video.path), metadata_errors="replace") as container:
            for i, image in enumerate(container.decode(container.streams.best("video"))):
                if image.is_corrupt:
                    raise ValueError(f"frame {i} is damaged")
                pixels = image.to_ndarray(format="rgb24")
                block.append(np.rot90(pixels, image.rotation // 90) if image.rotation else pixels)
                if block[-1].shape[:2] != (info.height, info.width):
                    raise ValueError("it changes its frame size: cut it where it does")
                if len(block) == size:
                    yield np.stack(block)
                    block = []
    except (OSError, ValueError, av.FFmpegError) as error:
        raise ValueError(f"{video.path} cannot be decoded: {' '.join(str(error).split())}") from error
    if block:
        yield np.stack(block)
