"""Video files frame by frame: decode in order, store as H.264 with unambiguous frame numbers, read back at random.

Frames are counted as they decode; time stamps of foreign files are never believed (AVI has none, and B-frames make them
lie). Files that `encode_mp4` wrote have no B-frames and a key frame every few frames, so there a seek is exact.
"""

import io
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from vidrd.data.bars import Box
from vidrd.foreign_media import MOST_BYTES, Turn, frames_of_video, open_video, turn_of
from vidrd.foreign_media import UnreadableError as UnreadableError  # noqa: PLC0414 - for those who read here
from vidrd.foreign_media import read_image as read_image  # noqa: PLC0414

THUMB = 64  # pixels of the shorter side of small copies
RATES = (1.0, 240.0)  # frames per second that a camera or a generator has
KEY_FRAMES = 16  # frames from one key frame of a stored clip to the next


class _Scaler(threading.local):
    """One scaler per thread: it is set up once for each size; a frame's own scaler is set up for every frame."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()


_SCALER = _Scaler()


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header says."""

    frames: int  # 0 where it does not say; often wrong by a few
    fps: float
    width: int  # pixels as stored
    height: int
    pixel_aspect: float  # width of a pixel over its height
    codec: str


@dataclass(frozen=True)
class EncoderSettings:
    """How clips are stored."""

    crf: int = 17  # x264's quality, 0 (lossless) to 51
    preset: str = "veryfast"
    threads: int = 1  # one: the pool's processes share the cores, and more threads write other bytes


@dataclass(frozen=True)
class Fit:
    """How large pictures are stored: large enough to be zoomed into later."""

    shorter: int = 512  # pixels; smaller pictures stay as they are
    longest: int = 2048  # pixels of the longer side; what is longer is cropped


def probe(source: Path | bytes) -> VideoInfo:
    """Read a video file's header.

    Raises:
        UnreadableError: it is broken, or holds no video.
    """
    with open_video(source) as (container, stream):
        info = _info(stream)
        if not RATES[0] <= info.fps <= RATES[1]:
            info = replace(info, fps=_measured_rate(container, stream))
        return info


def decode(
    source: Path | bytes, shorter: int | None = None, info: VideoInfo | None = None, box: Box | None = None
) -> Iterator[av.VideoFrame]:
    """All frames in decode order as upright 8-bit 4:2:0, `shorter` pixels high or wide (None: as large as they are).

    Pixels that are not square are made so; height and width become even. Of each frame what is inside `box` is shown.

    Raises:
        UnreadableError: the file holds no video, or is broken: at once, or after the frames before the damage.
    """
    info = info or probe(source)
    inner = info if box is None else replace(info, width=box.right - box.left, height=box.bottom - box.top)
    width, height = display_size(inner, shorter)
    scaler = VideoReformatter()
    for whole in frames_of_video(source):
        turn, fits = turn_of(whole), (whole.width, whole.height) == (info.width, info.height)
        shown = frame = _cropped(whole, box) if box is not None and fits else whole
        stored = frame.width, frame.height, frame.format.name, frame.color_range
        if stored[:3] != (width, height, "yuv420p") or stored[3] == ColorRange.JPEG:
            shown = scaler.reformat(
                frame, width, height, "yuv420p", interpolation="AREA" if width < frame.width else "BICUBIC",
                dst_color_range=ColorRange.MPEG,
            )  # fmt: skip
            shown.colorspace = frame.colorspace
        yield shown if turn == Turn() else _turned(shown, turn)


def _cropped(frame: av.VideoFrame, box: Box) -> av.VideoFrame:
    """The part of a frame inside a box of even sides, as 4:2:0 of limited range."""
    if frame.format.name != "yuv420p" or frame.color_range == ColorRange.JPEG:
        plain = _SCALER.reformatter.reformat(frame, format="yuv420p", dst_color_range=ColorRange.MPEG)
        plain.colorspace = frame.colorspace
        frame = plain
    planes = []
    for plane, by in zip(frame.planes, (1, 2, 2), strict=True):
        pixels = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        planes.append(pixels[box.top // by : box.bottom // by, box.left // by : box.right // by].reshape(-1))
    inner = av.VideoFrame.from_ndarray(np.concatenate(planes).reshape(-1, box.right - box.left), format="yuv420p")
    inner.colorspace, inner.color_range = frame.colorspace, frame.color_range
    return inner


def _turned(frame: av.VideoFrame, turn: Turn) -> av.VideoFrame:
    """A 4:2:0 frame, upright; plane by plane, so that nothing is computed anew."""
    height, width = frame.height, frame.width
    flat, pixels = frame.to_ndarray().reshape(-1), height * width
    luma = turn.apply(flat[:pixels].reshape(height, width))
    chroma = [turn.apply(part.reshape(height // 2, width // 2)) for part in np.split(flat[pixels:], 2)]
    joined = np.concatenate([plane.reshape(-1) for plane in (luma, *chroma)]).reshape(-1, luma.shape[1])
    upright = av.VideoFrame.from_ndarray(joined, format="yuv420p")
    upright.colorspace, upright.color_range = frame.colorspace, frame.color_range
    return upright


def display_size(info: VideoInfo, shorter: int | None) -> tuple[int, int]:
    """Width and height, even, of a video shown with square pixels."""
    width, height = info.width * info.pixel_aspect, float(info.height)
    if not 1 / 4 < info.pixel_aspect < 4:
        width = float(info.width)  # a header that claims more is broken
    scale = 1.0 if shorter is None else shorter / min(width, height)
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def to_rgb(frame: av.VideoFrame, shorter: int | None = None) -> UInt8[ndarray, "H W 3"]:
    """A frame's pixels, smaller if asked."""
    if shorter is None or shorter >= min(frame.width, frame.height):
        return frame.to_ndarray(format="rgb24")
    scale = shorter / min(frame.width, frame.height)
    width, height = round(frame.width * scale), round(frame.height * scale)
    return _SCALER.reformatter.reformat(frame, width, height, "rgb24", interpolation="FAST_BILINEAR").to_ndarray()


def to_yuv(frame: UInt8[ndarray, "H W 3"]) -> av.VideoFrame:
    """Pixels as they are stored; height and width must be even."""
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format="yuv420p")


def encode_mp4(
    frames: Sequence[av.VideoFrame], fps: float | int, encoder: EncoderSettings = EncoderSettings()
) -> bytes:
    """An H.264 file of these 4:2:0 frames, without B-frames, frame i shown at i / fps."""
    file = io.BytesIO()
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=rate, options={"crf": str(encoder.crf), "preset": encoder.preset, "bf": "0"}
        )
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        context.gop_size, context.thread_count, context.time_base = KEY_FRAMES, encoder.threads, 1 / rate
        context.colorspace = frames[0].colorspace
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base, frame.pict_type = index, 1 / rate, 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def read_mp4(data: bytes, indices: Iterable[int] | None = None) -> UInt8[ndarray, "T H W 3"]:
    """Frames of a file that `encode_mp4` wrote; for a run of indices only the needed ones are decoded.

    Raises:
        IndexError: a frame is beyond the file's end.
    """
    wanted = None if indices is None else list(indices)
    with open_video(data) as (container, stream):
        stream.codec_context.thread_count = 1
        tick = float(stream.time_base * stream.average_rate)  # frames a tick
        if wanted is None:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        frames: dict[int, ndarray] = {}
        if min(wanted) >= KEY_FRAMES:
            container.seek(round(min(wanted) / tick), stream=stream)
        for frame in container.decode(stream):
            index = round(frame.pts * tick)
            if index in wanted:
                frames[index] = frame.to_ndarray(format="rgb24")
            if index >= max(wanted):
                break
    if len(frames) < len(set(wanted)):
        raise IndexError(f"frames {min(wanted)} to {max(wanted)} are wanted, the clip ends before")
    return np.stack([frames[index] for index in wanted])


def fit_image(picture: UInt8[ndarray, "H W 3"], fit: Fit) -> UInt8[ndarray, "h w 3"]:
    """Reduce a picture to its stored size, of even sides."""
    height, width = picture.shape[:2]
    scale = min(1.0, fit.shorter / min(height, width))
    image = Image.fromarray(picture)
    if scale < 1:
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    wide, high = min(image.width, fit.longest) // 2 * 2, min(image.height, fit.longest) // 2 * 2
    left, top = (image.width - wide) // 2, (image.height - high) // 2
    return np.asarray(image.crop((left, top, left + max(2, wide), top + max(2, high))))


def _split(uri: str) -> tuple[Path, str]:
    """The file of a record's uri, and what of the file it names."""
    name, _, query = uri.rpartition("?") if re.search(r"\.(tar|parquet)\?[^?]*$", uri) else (uri, "", "")
    return Path(name), query


def file_state(uri: str) -> tuple[int, int] | None:
    """Bytes and time of the last change (ns) of the file that a uri names, by which a replaced one is known."""
    try:
        state = _split(uri)[0].stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def fetch(uri: str) -> Path | bytes:
    """What a record's uri names: a file, or the bytes of a member of an archive.

    Raises:
        FileNotFoundError: no such file.
        UnreadableError: the archive does not hold that, or cannot be read.
    """
    path, query = _split(uri)
    if not path.is_file():
        raise FileNotFoundError(str(path))
    try:
        return _member(path, query) if query else path
    except UnreadableError:
        raise
    except Exception as error:  # whatever a reader of broken archives may raise
        raise UnreadableError(f"{path} cannot be read: {error}") from error


def _member(path: Path, query: str) -> bytes:
    asked = {key: values[0] for key, values in parse_qs(query).items()}
    if path.suffix == ".tar":
        offset, length = int(asked["offset"]), int(asked["length"])
        if offset + length > path.stat().st_size:
            raise UnreadableError(f"{path} ends before its member does")
        if length > MOST_BYTES:
            raise UnreadableError(f"a member has at most {MOST_BYTES >> 30} GiB: got {length} bytes")
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    group, row = _row_group(str(path), int(asked["row"]))
    value = _column(str(path), group, asked["column"])[row]
    held = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(held, bytes):
        raise UnreadableError(f"{path} holds no bytes in column {asked['column']}")
    return held


@lru_cache(maxsize=4)
def _column(path: str, group: int, column: str) -> list:
    import pyarrow.parquet as pq  # noqa: PLC0415 - only some data sets need it

    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(0).to_pylist()


def _row_group(path: str, row: int) -> tuple[int, int]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if row < rows:
            return group, row
        row -= rows
    raise UnreadableError(f"{path} has no such row")


def _measured_rate(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Frames per second by the stamps of the first packets; 25 where these count something else too."""
    try:
        packets = islice(container.demux(stream), 64)
        stamps = sorted(float(p.pts * p.time_base) for p in packets if p.pts is not None and p.time_base)
    except av.FFmpegError:
        stamps = []
    span = stamps[-1] - stamps[0] if stamps else 0.0
    rate = (len(stamps) - 1) / span if span > 0 else 0.0
    return rate if RATES[0] <= rate <= RATES[1] else 25.0


def _info(stream: av.VideoStream) -> VideoInfo:
    context = stream.codec_context
    aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
    return VideoInfo(
        stream.frames, float(rate), context.width, context.height, float(aspect) if aspect else 1.0, context.name
    )
