"""Writers of video files as people have them, and the real clips that are kept outside the project."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.real_clips import CLIPS, WANTED


def real_clips(part: str) -> Path:
    if not (CLIPS / part).is_dir():
        pytest.skip(WANTED)
    return CLIPS / part


def some_videos(n: int, frames: int = 9, seed: int = 0, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, frames, size, size, 3), dtype=np.uint8)


def write_lossless(path, video, fps=8):
    """Write a video file, losslessly."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.height, stream.width, stream.pix_fmt, stream.time_base = *video.shape[1:3], "bgr0", Fraction(1, fps)
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode())


def write_xvid(path, video, *, b_frames: int = 2, rotation: int | None = None, codec: str = "mpeg4"):
    """As UCF-101 is stored: MPEG-4 with B-frames, in an .avi without time stamps."""
    with av.open(str(path), "w") as container:
        options = {"bf": str(b_frames), "g": "250", "qmin": "1", "qmax": "2"} if codec == "mpeg4" else {"crf": "4"}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def numbered(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame t is as bright as its number says."""
    levels = 20 + 3 * np.arange(frames)
    return np.broadcast_to(levels[:, None, None, None], (frames, height, width, 3)).astype(np.uint8)
