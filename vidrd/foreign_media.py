"""Pictures and videos of strangers to upright 8-bit RGB. Nothing but decoding: no program, no socket, no other file.

FFmpeg and Pillow are told which formats they may take a file for, so that a playlist, an SDP or an EPS is refused
whatever its name says, and sizes that a file declares are held to limits before memory is taken for them. What is
damaged, cut off or transparent is refused: nobody can say what it shows.
"""

import io
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageOps, UnidentifiedImageError

DEMUXERS = "avi,gif,m4v,matroska,mov,mp4,mpeg,mpegts,mpegvideo,webm"  # FFmpeg's names
PICTURE_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # Pillow's names
MOST_PIXELS = 1 << 26  # of a frame: 8192 x 8192
MOST_BYTES = 1 << 31  # of frames in memory at a time
DOUBTFUL = 4  # frames before damage that may be missing or wrong: B-frames come two or three between others
ONE = 1 << 16  # of a display matrix


class UnreadableError(ValueError):
    """A file is broken, or no picture or video that can be shown as it is."""


@contextmanager
def open_video(source: Path | bytes) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """A video file, and of its streams the one that FFmpeg calls best.

    A decoder stops at damage instead of guessing. Frames come in the order in which they decode.

    Raises:
        UnreadableError: it is no regular file of a known format, holds no video that can be decoded, or its frames are
            too large. (Decoding it raises av.FFmpegError.)
    """
    if isinstance(source, Path) and not source.is_file():
        raise UnreadableError("it is no regular file")
    # Absolute, since FFmpeg takes "word:rest" for a protocol; and titles in old files are not always UTF-8.
    file = io.BytesIO(source) if isinstance(source, bytes) else str(source.absolute())
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file", "max_pixels": str(MOST_PIXELS)}
    try:
        container = av.open(file, options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UnreadableError(f"it cannot be opened as a video: {error}") from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise UnreadableError("it holds no video")
        codec = stream.codec_context
        if codec is None:
            raise UnreadableError("there is no decoder for its video")
        if codec.width < 1 or codec.height < 1:
            raise UnreadableError("its header names no size")
        check_pixels(codec.width, codec.height)
        if stream.metadata.get("alpha_mode") == "1":
            raise UnreadableError("it has a plane of transparency: flatten it")
        codec.options = {"max_pixels": str(MOST_PIXELS), "err_detect": "explode"}
        yield container, stream


def frames_of_video(source: Path | bytes) -> Iterator[av.VideoFrame]:
    """All frames as they decode, up to the first damage.

    The last few frames before damage are left out: of those that depend on each other, some may be missing or wrong.

    Raises:
        UnreadableError: as `open_video`; and at a damaged frame, at a transparent one, or at the end of a file that is
            cut off.
    """
    with open_video(source) as (container, stream):
        stream.codec_context.thread_count = 1
        whole, coming = _Whole(), deque[av.VideoFrame]()
        try:
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise UnreadableError(f"frame {whole.frames} is damaged")
                if any(component.is_alpha for component in frame.format.components):
                    _refuse_transparency(frame.to_ndarray(format="rgba")[..., 3])
                whole.add(frame.time)
                coming.append(frame)
                if len(coming) > DOUBTFUL:
                    yield coming.popleft()
        except (av.FFmpegError, OverflowError, MemoryError) as error:
            raise UnreadableError(f"it stops decoding at frame {whole.frames}: {error}") from error
        whole.check(container, stream)
        if container.format.name == "gif":
            _check_end_of_gif(source)
        yield from coming


class _Whole:
    """Counts frames, and tells at the end of a file whether it is cut off."""

    def __init__(self) -> None:
        self.frames, self.first, self.last = 0, 0.0, 0.0  # seconds

    def add(self, time: float | None) -> None:
        self.first = (time or 0.0) if self.frames == 0 else self.first
        self.frames, self.last = self.frames + 1, max(self.last, time or 0.0)

    def check(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        """Raise UnreadableError where the header promises two frames more, or more. (One more is common.)"""
        promised = self._promised(container, stream)
        if self.frames < promised - 1:
            raise UnreadableError(f"it is cut off: its header promises {promised} frames and {self.frames} decode")

    def _promised(self, container: av.container.InputContainer, stream: av.VideoStream) -> int:
        """AVI counts frames; an edit list of an MP4 shows fewer than are held; Matroska knows seconds alone."""
        rate, name = float(stream.average_rate or 0), container.format.name
        if "matroska" in name:
            seconds = _seconds(stream.metadata.get("DURATION", ""))
            if seconds is None and len(container.streams) == 1:
                seconds = (container.duration or 0) / av.time_base
            apart = (self.last - self.first) / (self.frames - 1) if self.frames > 1 else 1 / rate if rate else 0.0
            return round(seconds / apart) if seconds and apart > 0 else 0
        if "mov" in name and stream.duration and stream.time_base:
            return min(stream.frames, round(float(stream.duration * stream.time_base) * rate))
        return stream.frames


def _seconds(stamp: str) -> float | None:
    """Seconds of a time like 00:01:02.500000000; None where it is none."""
    try:
        hours, minutes, seconds = stamp.rstrip("\0").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _check_end_of_gif(source: Path | bytes) -> None:
    if isinstance(source, bytes):
        end = source[-4096:]
    else:
        with source.open("rb") as file:
            file.seek(max(0, source.stat().st_size - 4096))
            end = file.read()
    if not end.rstrip(b"\0").endswith(b";"):
        raise UnreadableError("it is cut off: it lacks the end mark of a GIF")


class Turn(NamedTuple):
    """How stored pixels become upright ones: first transposed, then mirrored."""

    transposed: bool = False
    rows_back: bool = False  # from the last to the first
    columns_back: bool = False

    def apply(self, pixels: UInt8[ndarray, "Y X *C"]) -> UInt8[ndarray, "H W *C"]:
        """The upright pixels, a view."""
        pixels = pixels.swapaxes(0, 1) if self.transposed else pixels
        return pixels[:: -1 if self.rows_back else 1, :: -1 if self.columns_back else 1]


def turn_of(frame: av.VideoFrame) -> Turn:
    """How the file's display matrix turns and mirrors its frames: x' = a x + c y, y' = b x + d y.

    Raises:
        UnreadableError: by no quarter turn and no mirror.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Turn()
    entries = np.frombuffer(bytes(matrix), np.int32)[[0, 1, 3, 4]].astype(np.int64)
    a, b, c, d = (int(entry) for entry in np.rint(entries / ONE))
    straight = {(abs(a), abs(d)), (abs(b), abs(c))} == {(0, 0), (1, 1)}
    if not straight or np.abs(entries - ONE * np.array([a, b, c, d])).max() > ONE // 100:
        raise UnreadableError("its display matrix is no quarter turn and no mirror: turn it upright first")
    return Turn(a == 0, (d or b) < 0, (a or c) < 0)


def rgb_of(frame: av.VideoFrame) -> UInt8[ndarray, "H W 3"]:
    """A frame's pixels, upright."""
    return np.ascontiguousarray(turn_of(frame).apply(frame.to_ndarray(format="rgb24")))


def read_image(source: Path | bytes) -> UInt8[ndarray, "H W 3"]:
    """A picture's pixels, turned as its tag says; of 16 bits the upper 8.

    Raises:
        UnreadableError: it is broken, no picture of a known format, animated, transparent, too large, or of more bits.
    """
    if isinstance(source, Path) and not source.is_file():
        raise UnreadableError("it is no regular file")
    try:
        with warnings.catch_warnings(action="ignore"):  # of large pictures, whose limit is ours, and of odd metadata
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=PICTURE_FORMATS)
            with image:
                check_pixels(image.width, image.height)
                count = getattr(image, "n_frames", 1)
                if count > 1 and image.format != "MPO":  # the JPEG of phones, with a thumbnail
                    raise UnreadableError(f"it is an animation of {count} frames: make it a video file")
                return _eight_bits(ImageOps.exif_transpose(image))
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError(f"it is no picture of {', '.join(PICTURE_FORMATS)}") from error
    except Exception as error:  # whatever a reader of broken pictures may raise
        raise UnreadableError(f"it is no picture that can be read: {error or type(error).__name__}") from error


def _eight_bits(image: Image.Image) -> UInt8[ndarray, "H W 3"]:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        _refuse_transparency(np.asarray(image)[..., 3])
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image) >> 8).astype(np.uint8)  # as Pillow reads colors of 16 bits
        return np.repeat(gray[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise UnreadableError(f"its pixels have 32 bits (mode {image.mode}): convert it to 8 or 16")
    return np.asarray(image.convert("RGB"))


def _refuse_transparency(alpha: UInt8[ndarray, "H W"]) -> None:
    if alpha.min() < 255:
        raise UnreadableError("it has transparent pixels: flatten it")


def check_pixels(width: int, height: int) -> None:
    """Raise UnreadableError where a frame is larger than the limit."""
    if width * height > MOST_PIXELS:
        raise UnreadableError(f"frames have at most {MOST_PIXELS} pixels: got {width} x {height}")
