"""Videos from files: video files by PyAV, arrays, folders of frames. Frames are addressed by their order of decoding.

Never by time stamps: MPEG-4 with B-frames in an AVI, as much of UCF-101 is, stores none that can be trusted, and
readers that seek by them return other frames. Pixels are taken as they are stored, not stretched where they are not
square; frames that a phone recorded sideways are turned upright; of several video streams, the one that FFmpeg calls
best is read, and of a GIF every frame once, whatever its delay.
"""

import hashlib
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from metrics.videos.frames import check_videos

ARRAYS = {".npy", ".npz"}
PLAYED = {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
EMPTY_PACKET = 16  # bytes: an MPEG-4 packet below may hold no picture of its own
DECODER = f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"

Video4 = UInt8[np.ndarray, "T H W C"]


class VideoInfo(NamedTuple):
    """What a file says of its video, and the number of frames that can be decoded."""

    frames: int
    height: int  # pixels, upright
    width: int
    fps: float | None  # None where a file has none
    codec: str
    pixel_aspect: float  # width over height of one pixel; frames are read as stored, whatever it is


@dataclass(frozen=True)
class Video:
    """One video of a set; nothing is read before `probe` or `read`."""

    name: str  # its path below the set's folder; in an array of several "set.npy#3"
    path: Path
    kind: Literal["file", "array", "frames"]  # a video file, one array of a file, or a folder of frames
    index: int | None = None  # which one of an array N T H W C

    def probe(self) -> VideoInfo:
        """Size, rate and number of frames, which are counted without decoding where that is reliable.

        Raises:
            ValueError: the file cannot be read, or is cut off.
        """
        if self.kind == "file":
            return _probe_file(self.path)
        if self.kind == "frames":
            pictures = _pictures(self.path)
            height, width = _picture(pictures[0]).shape[:2]
            return VideoInfo(len(pictures), height, width, None, pictures[0].suffix[1:], 1.0)
        count, height, width = self._array().shape[:3]
        return VideoInfo(count, height, width, None, "array", 1.0)

    def read(self, start: int = 0, count: int | None = None, stride: int = 1) -> Video4:
        """The frames start, start + stride, ...: `count` of them, or all there are.

        Raises:
            ValueError: the file cannot be decoded, is damaged in or before these frames, or has fewer of them; or all
                are requested from a file that is cut off.
        """
        if start < 0 or stride < 1 or (count is not None and count < 1):
            raise ValueError(f"frames are counted from 0 in steps of 1 or more: got start {start}, stride {stride}")
        if self.kind == "file":
            frames = _read_file(self.path, start, count, stride)
        elif self.kind == "frames":
            chosen = _pictures(self.path)[start::stride][:count]
            frames = np.stack([_picture(file) for file in chosen]) if chosen else np.empty((0, 1, 1, 3), np.uint8)
        else:
            frames = np.array(self._array()[start::stride][:count])
        if len(frames) == 0 or (count is not None and len(frames) < count):
            wanted = "one frame" if count is None else f"{count} frames"
            raise ValueError(
                f"{self.path} has {len(frames)} frames from {start} in steps of {stride}, requested: {wanted}"
            )
        return frames

    def fingerprint(self) -> str | None:
        """Which bytes the frames come from: sha256 of the file, or files; None for arrays, whose clips are hashed."""
        if self.kind == "array":
            return None
        files = _pictures(self.path) if self.kind == "frames" else [self.path]
        stamps = [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256("\n".join(_sha256(*stamp) for stamp in stamps).encode()).hexdigest()

    def _array(self) -> Video4:
        videos = _load_array(self.path, self.path.stat().st_mtime_ns)
        return videos[self.index or 0]


def list_videos(source: Path | str) -> list[Video]:
    """The videos of one file or of all files below a folder, in the order of their names.

    An .npy holds one array N T H W C or one video T H W C, uint8 RGB; an .npz one such array. A folder that holds
    pictures is one video, its frames in the order of their names, numbers counted as numbers. Hidden files and files of
    other kinds are skipped. A file that cannot be read is listed all the same: reading it raises the reason.

    Raises:
        ValueError: no videos there.
    """
    source = Path(source)
    videos: list[Video] = []
    for path, name in _walk(source):
        if path.is_dir():
            videos.append(Video(name, path, "frames"))
        elif path.suffix.lower() in PLAYED:
            videos.append(Video(name, path, "file"))
        else:
            try:
                count = len(_load_array(path, path.stat().st_mtime_ns))
            except ValueError:
                count = 1  # reading it raises the error
            videos += [Video(f"{name}#{i}" if count > 1 else name, path, "array", i) for i in range(count)]
    if not videos:
        raise ValueError(
            f"{source} holds no videos: give a folder of .npy, .npz, .mp4, .avi or .gif files or of folders of frames, "
            f"or one file"
        )
    return videos


def _walk(source: Path) -> Iterator[tuple[Path, str]]:
    """Files that hold videos and folders that are one, with their names below the source."""
    if source.is_file():
        if source.suffix.lower() in ARRAYS | PLAYED:
            yield source, source.name
        return
    if not source.is_dir():
        return
    paths = []
    for here, inner, files in os.walk(source, followlinks=True):
        folder = Path(here)
        inner[:] = [name for name in inner if not name.startswith(".")]
        kinds = {Path(name).suffix.lower() for name in files if not name.startswith(".")}
        if kinds & PICTURES and not kinds & (ARRAYS | PLAYED):
            paths.append(folder)
            inner.clear()
            continue
        paths += [
            folder / name for name in files if not name.startswith(".") and Path(name).suffix.lower() in ARRAYS | PLAYED
        ]
    for path in sorted(paths, key=lambda path: path.relative_to(source).as_posix()):
        yield path, path.relative_to(source).as_posix() if path != source else path.name


def read_videos(
    source: Path | str,
    *,
    n: int | None = None,  # the first n videos, in the order of their files' names; None = all
    frames: int | None = None,  # the first frames of each; None = all, which must then be equally many
) -> UInt8[np.ndarray, "N T H W C"]:
    """Read a set of videos into one array: for sets that fit into memory; `metrics.evaluation.evaluator`
    takes any number of videos.

    Raises:
        ValueError: what `list_videos` and `Video.read` raise, fewer videos than n, or videos of different sizes.
    """
    videos: list[Video4] = []
    for video in list_videos(source):
        if n is not None and len(videos) >= n:
            break
        array = video.read(0, frames)
        if videos and array.shape != videos[0].shape:
            first, other = ("x".join(map(str, part.shape[:3])) for part in (videos[0], array))
            raise ValueError(
                f"{video.path} has {other} (frames, height, width), those before {first}: give --frames, or one size"
            )
        videos.append(array)
    if n is not None and len(videos) < n:
        raise ValueError(f"{source} holds {len(videos)} videos, {n} were requested: ask for fewer")
    return np.stack(videos)


def _pictures(folder: Path) -> list[Path]:
    files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
    return sorted(files, key=lambda file: [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", file.name)])


def _picture(file: Path) -> UInt8[np.ndarray, "H W C"]:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as a frame: {error}") from error


@lru_cache(maxsize=4)
def _load_array(file: Path, _changed: int) -> UInt8[np.ndarray, "N T H W C"]:
    try:
        if file.suffix.lower() == ".npy":
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        else:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as members:
                if len(members.files) != 1:
                    raise ValueError(f"it holds {len(members.files)} arrays, one is wanted")
                array = members[members.files[0]]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} cannot be read as videos: {error}") from error
    videos = array[None] if array.ndim == 4 else array
    check_videos(videos, what=f"the videos of {file}")
    return videos


@lru_cache(maxsize=65536)
def _sha256(file: Path, _size: int, _changed: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _open_file(file: Path) -> av.container.InputContainer:
    return av.open(str(file), metadata_errors="replace")  # real files have names in other encodings


def _best(container: av.container.InputContainer) -> av.VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        raise ValueError("it holds no video stream")
    return stream


def _probe_file(file: Path) -> VideoInfo:
    """Packets are frames, except that MPEG-4 may hide empty ones between them: then the frames are decoded to count."""
    try:
        with _open_file(file) as container:
            stream = _best(container)
            announced, codec = stream.frames, stream.codec_context
            fps = float(stream.average_rate) if stream.average_rate else None
            aspect = float(stream.sample_aspect_ratio or 1) or 1.0
            sizes = [packet.size for packet in container.demux(stream) if packet.size and not packet.is_discard]
            count, name = len(sizes), codec.name
            size = codec.height, codec.width
        with _open_file(file) as container:
            first = next(iter(container.decode(_best(container))), None)
            if first is None:
                raise ValueError("it holds no frame")
            size = (first.height, first.width) if first.rotation % 180 == 0 else (first.width, first.height)
        if name == "mpeg4" and min(sizes) < EMPTY_PACKET:
            with _open_file(file) as container:
                count = sum(1 for _ in container.decode(_best(container)))
    except (OSError, ValueError, av.FFmpegError) as error:
        raise ValueError(f"{file} cannot be decoded: {_line(error)}") from error
    _check_whole(file, announced, count)
    return VideoInfo(count, *size, fps, name, aspect)


def _check_whole(file: Path, announced: int, held: int) -> None:
    """Refuse a file with fewer frames than its header announces; headers of whole files are sometimes one too high."""
    if held < announced - 1:
        raise ValueError(f"{file} is cut off: it announces {announced} frames and holds {held}")


def _read_file(file: Path, start: int, count: int | None, stride: int) -> Video4:
    images = []
    last = None if count is None else start + (count - 1) * stride
    held = 0
    try:
        with _open_file(file) as container:
            stream = _best(container)
            announced = stream.frames
            for i, image in enumerate(container.decode(stream)):
                held = i + 1
                if image.is_corrupt:
                    raise ValueError(f"frame {i} is damaged")
                if i >= start and (i - start) % stride == 0:
                    pixels = image.to_ndarray(format="rgb24")
                    images.append(np.rot90(pixels, image.rotation // 90) if image.rotation else pixels)
                if i == last:
                    break
    except (OSError, ValueError, av.FFmpegError) as error:
        raise ValueError(f"{file} cannot be decoded: {_line(error)}") from error
    if count is None:
        _check_whole(file, announced, held)
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"{file} changes its frame size: cut it where it does")
    return np.stack(images) if images else np.empty((0, 1, 1, 3), dtype=np.uint8)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
