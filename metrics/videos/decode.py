"""Files of pictures and videos to upright 8-bit RGB, and nothing but decoding: no program, no socket, no other file.

A file is opened once, by us, and only if it is a regular one. FFmpeg and Pillow are given the open file and a list of
the formats that they may take it for, so that a playlist, an SDP or an EPS is refused whatever its name says. Sizes
that a file declares are held to limits before memory is taken for them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from metrics.files import open_regular
from metrics.videos.truncation import find_cut

PLAYED = {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
DEMUXERS = "avi,gif,m4v,matroska,mov,mp4,mpeg,mpegts,mpegvideo,webm"  # FFmpeg's names of what PLAYED are
PICTURE_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # Pillow's names of what PICTURES are
MOST_PIXELS = 1 << 26  # of a frame: 8192 x 8192
MOST_BYTES = 1 << 31  # of a clip in memory
EMPTY_PACKET = 16  # bytes: an MPEG-4 packet below may hold no picture of its own
ONE_FRAME_A_PACKET = {"av1", "ffv1", "gif", "h264", "hevc", "huffyuv", "mjpeg", "mpeg4", "png", "rawvideo", "vp9"}
RATES = (1, 240)  # frames per second that a camera or a generator has; a header that says otherwise counts ticks
FULL = 1 << 16  # 1 in a display matrix
DECODER = f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"

Frames = UInt8[np.ndarray, "T H W C"]
Picture = UInt8[np.ndarray, "H W C"]


class VideoInfo(NamedTuple):
    """What a file says of its video, and the number of frames that can be decoded."""

    frames: int
    height: int  # pixels, upright
    width: int
    fps: float | None  # None where a file has none, or none that can be
    codec: str
    pixel_aspect: float  # width over height of one pixel; frames are read as stored, whatever it is


class _Packets(NamedTuple):
    frames: int
    counted: bool  # each packet is one frame, so that nothing has to be decoded to count them
    fps: float | None


def probe_video(file: Path) -> VideoInfo:
    """Size, rate and number of frames of a video file.

    Packets are counted where each is one frame; else, as of MPEG-4 that hides empty ones between them, of edit lists
    and of codecs with frames that are never shown, frames are decoded to count.

    Raises:
        ValueError: it cannot be decoded, is cut off, or its frames are larger than the limit.
    """
    with _faults(file, "decoded"), open_regular(file) as opened:
        packets = _scan(opened)
        with _video(opened) as (container, stream):
            first = next(iter(container.decode(stream)), None)
            if first is None:
                raise ValueError("it holds no frame")
            height, width = _upright(np.empty((first.height, first.width, 0), np.uint8), first).shape[:2]
            aspect, codec = float(stream.sample_aspect_ratio or 1) or 1.0, stream.codec_context.name
        count = packets.frames
        if not packets.counted:
            with _video(opened) as (container, stream):
                count = sum(1 for _ in container.decode(stream))
    return VideoInfo(count, height, width, packets.fps, codec, aspect)


class Span(NamedTuple):
    """The frames start, start + stride, ... of a video, so many of them."""

    start: int
    frames: int
    stride: int = 1
    short: bool = False  # fewer will do, where the video ends
    tag: Any = None  # for who asked

    @property
    def last(self) -> int:
        """Number of its last frame."""
        return self.start + (self.frames - 1) * self.stride


class _Partial:
    """A span that is being filled."""

    def __init__(self, span: Span) -> None:
        self.span, self.filled = span, 0
        self.frames: Frames = np.empty((0, 1, 1, 3), np.uint8)

    def add(self, pixels: Picture, number: int) -> None:
        if self.filled == 0:
            check_bytes(self.span.frames, *pixels.shape)
            self.frames = np.empty((self.span.frames, *pixels.shape), np.uint8)
        if pixels.shape != self.frames.shape[1:]:
            raise ValueError(f"its frame size changes at frame {number}: cut it there")
        self.frames[self.filled] = pixels
        self.filled += 1


def decode_spans(file: Path, spans: Iterable[Span], *, whole: bool = False) -> Iterator[tuple[Span, Frames]]:
    """The frames of every span, all out of one decoding, each span as soon as its last frame is there.

    Spans come in the order of their starts, and may be endless; those that the file cuts short come last, with the
    frames that there are. What lies behind the last span is not decoded.

    Args:
        file: a video file.
        spans: what to take of it.
        whole: all frames are asked for, so that a file that is cut off is refused.

    Raises:
        ValueError: it cannot be decoded, is damaged in or before these frames, changes its frame size within a span,
            or a span takes more memory than the limit.
    """
    with _faults(file, "decoded"), open_regular(file) as opened:
        if whole:
            _scan(opened)
        upcoming, partial = iter(spans), list[_Partial]()
        span = next(upcoming, None)
        with _video(opened) as (container, stream):
            for i, image in enumerate(container.decode(stream)):
                if image.is_corrupt:
                    raise ValueError(f"frame {i} is damaged")
                while span is not None and span.start == i:
                    partial.append(_Partial(span))
                    span = next(upcoming, None)
                if wanting := [each for each in partial if (i - each.span.start) % each.span.stride == 0]:
                    pixels = _to_rgb(image)
                    for each in wanting:
                        each.add(pixels, i)
                yield from ((each.span, each.frames) for each in partial if each.span.last == i)
                partial = [each for each in partial if each.span.last > i]
                if span is None and not partial:
                    return
        yield from ((each.span, each.frames[: each.filled]) for each in partial)


def read_video(file: Path, start: int, count: int | None, stride: int) -> Frames:
    """The frames start, start + stride, ... in the order of decoding; fewer than `count` where the file ends before.

    Raises:
        ValueError: as `decode_spans`; or all frames are requested of a file that is cut off.
    """
    if count is None:
        with _faults(file, "decoded"), open_regular(file) as opened:
            count = len(range(start, _scan(opened).frames, stride))
    empty = np.empty((0, 1, 1, 3), np.uint8)
    return next((frames for _, frames in decode_spans(file, [Span(start, count, stride)] if count else [])), empty)


def read_picture(file: Path) -> Picture:
    """A picture's pixels, turned as its tag says.

    Raises:
        ValueError: it cannot be read, holds several frames, transparent pixels or more than 16 bits, or is larger than
            the limit.
    """
    try:
        with open_regular(file) as opened, Image.open(opened, formats=PICTURE_FORMATS) as image:
            _check_pixels(image.width, image.height)
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a phone's, of several views
                raise ValueError(f"it is an animation of {frames} frames: make it a video file")
            return _picture_to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ValueError(f"{file} cannot be read as a frame: it is no {', '.join(PICTURE_FORMATS)} file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{file} cannot be read as a frame: {_line(error)}") from error


def check_bytes(frames: int, height: int, width: int, channels: int = 3) -> None:
    """Raise ValueError where a clip of this size is more than the limit."""
    if frames * height * width * channels > MOST_BYTES:
        size = frames * height * width * channels / 2**30
        raise ValueError(
            f"{frames} frames of {height}x{width} are {size:.1f} GiB, at most {MOST_BYTES / 2**30:g} GiB are read at a "
            "time: ask for fewer frames"
        )


def _picture_to_rgb(image: Image.Image) -> Picture:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[-1] != (255, 255):
            raise ValueError("it has transparent pixels: flatten it")
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image) >> 8).astype(np.uint8)  # the upper byte, as of 16-bit colors
        return np.repeat(gray[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are {image.mode} of 32 bits: convert it to 8 or 16")
    return np.asarray(image.convert("RGB"))


def _to_rgb(image: av.VideoFrame) -> Picture:
    if any(component.is_alpha for component in image.format.components):
        pixels = image.to_ndarray(format="rgba")
        if pixels[..., 3].min() < 255:
            raise ValueError("it has transparent pixels: flatten it")
        pixels = pixels[..., :3]
    else:
        pixels = image.to_ndarray(format="rgb24")
    return _upright(pixels, image)


def _upright(pixels: UInt8[np.ndarray, "Y X _"], image: av.VideoFrame) -> UInt8[np.ndarray, "H W _"]:
    """Turned and mirrored as the file's display matrix says: x' = a x + c y, y' = b x + d y."""
    side_data = image.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return pixels
    entries = np.frombuffer(bytes(side_data), np.int32)[[0, 1, 3, 4]]
    a, b, c, d = (round(entry / FULL) for entry in entries.tolist())
    straight = {(abs(a), abs(d)), (abs(b), abs(c))} == {(0, 0), (1, 1)}
    if not straight or np.abs(entries - FULL * np.array([a, b, c, d])).max() > FULL // 100:
        raise ValueError("its display matrix is no quarter turn and no mirror: turn it upright first")
    if a == 0:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]


@contextmanager
def _video(opened: BufferedReader) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """FFmpeg's best video stream of an open file. Titles in old files are in any encoding."""
    opened.seek(0)
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none", "max_pixels": str(MOST_PIXELS)}
    try:
        container = av.open(opened, options=options, metadata_errors="replace")
    except av.ArgumentError as error:  # by the list of formats
        raise ValueError(f"it is none of {DEMUXERS}, whatever its name says") from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise ValueError("it holds no video stream")
        codec = stream.codec_context
        if codec is None:
            raise ValueError("there is no decoder for its video")
        _check_pixels(codec.width, codec.height)
        codec.options = {"max_pixels": str(MOST_PIXELS), "err_detect": "explode"}  # stop at damage, do not guess
        if stream.metadata.get("alpha_mode") == "1":
            raise ValueError("it has a plane of transparency, which its decoder leaves out: flatten it")
        yield container, stream


def _scan(opened: BufferedReader) -> _Packets:
    """What the packets say; raises ValueError for a file that ends before it should."""
    reason = find_cut(opened)
    if reason:
        raise ValueError(f"it is cut off: {reason}")
    with _video(opened) as (container, stream):
        # An MP4's header counts frames that its edit list leaves out; its index, once read, does not.
        announced = len(stream.index_entries) if "mp4" in container.format.name else stream.frames
        packets, torn = [], False
        for packet in container.demux(stream):
            if packet.size:
                packets.append((packet.size, packet.pts, packet.is_discard))
                torn = packet.is_corrupt
        codec, rate, tick = stream.codec_context.name, stream.average_rate, stream.time_base
    if torn:
        raise ValueError(f"it is cut off: it ends in the middle of frame {len(packets) - 1}")
    if len(packets) < announced - 1:  # headers of whole files are sometimes one too high
        raise ValueError(f"it is cut off: it announces {announced} frames and holds {len(packets)}")
    counted = codec in ONE_FRAME_A_PACKET and not any(discarded for _, _, discarded in packets)
    if codec == "mpeg4":
        counted &= min((size for size, _, _ in packets), default=0) >= EMPTY_PACKET
    stamps = [pts * float(tick or 0) for _, pts, _ in packets if pts is not None]
    return _Packets(len(packets), counted, _rate(None if rate is None else float(rate), stamps))


def _rate(header: float | None, stamps: list[float]) -> float | None:
    """Frames per second by the header, or by the time stamps (seconds) where these contradict it by a twentieth."""
    rate, span = header, max(stamps, default=0.0) - min(stamps, default=0.0)
    if span > 0:
        measured = (len(stamps) - 1) / span
        rate = measured if header is None or abs(measured / header - 1) > 0.05 else header
    return rate if rate is not None and RATES[0] <= rate <= RATES[1] else None


def _check_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"its frames of {height}x{width} are too large: at most {MOST_PIXELS} pixels are read")


@contextmanager
def _faults(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, av.FFmpegError) as error:
        raise ValueError(f"{file} cannot be {what}: {_line(error)}") from error


def _line(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError | av.FFmpegError) else None
    return " ".join(str(reason or error).split())
