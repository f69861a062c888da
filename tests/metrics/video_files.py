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


def write_video(path, video, codec="libx264", pix_fmt="yuv420p", *, fps=25, options=None, muxer=None, matrix=None):
    """Write a video file by any codec; `muxer` are options of the container, `matrix` is its display matrix."""
    with av.open(str(path), "w", container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], pix_fmt
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def copy_from(source, target, skip):
    """Copy an .mp4 without coding it again, so that an edit list leaves out the first `skip` frames."""
    with (
        av.open(str(source)) as read,
        av.open(str(target), "w", container_options={"avoid_negative_ts": "disabled"}) as to,
    ):
        stream = read.streams.video[0]
        out = to.add_stream_from_template(stream)
        shift = round(skip / stream.average_rate / stream.time_base)
        for packet in read.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, out
                to.mux(packet)


def numbered(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame t is as bright as its number says."""
    levels = 20 + 3 * np.arange(frames)
    return np.broadcast_to(levels[:, None, None, None], (frames, height, width, 3)).astype(np.uint8)


def noisy(frames=30, height=48, width=64):
    random = np.random.default_rng(0)
    video = numbered(frames, height, width).astype(int) + random.integers(-20, 20, (frames, height, width, 3))
    return np.clip(video, 0, 255).astype(np.uint8)
