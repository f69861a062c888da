"""Sets of videos: video files, arrays, folders of frames. Frames are addressed by their order of decoding.

Never by time stamps: MPEG-4 with B-frames in an AVI, as much of UCF-101 is, stores none that can be trusted, and
readers that seek by them return other frames. Pixels are taken as they are stored, not stretched where they are not
square; frames that a phone recorded sideways are turned upright; of several video streams, the one that FFmpeg calls
best is read, and of a GIF every frame once, whatever its delay.
"""

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8

from metrics.files import HEADERS, load_npz, open_regular
from metrics.videos.decode import (
    DECODER,
    PICTURES,
    PLAYED,
    Span,
    VideoInfo,
    check_bytes,
    decode_spans,
    probe_video,
    read_picture,
    read_video,
)
from metrics.videos.frames import check_videos

__all__ = ["DECODER", "Span", "Video", "VideoInfo", "list_stray_pictures", "list_videos", "media_below", "read_videos"]
ARRAYS = {".npy", ".npz"}

Stamp = tuple[int, int, int, int]  # inode, bytes, times of modification and of change in nanoseconds
Video4 = UInt8[np.ndarray, "T H W C"]


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
            return _probe(self.path, _stamp(self.path)) if self.path.is_file() else probe_video(self.path)
        if self.kind == "frames":
            pictures = _pictures(self.path)
            height, width = read_picture(pictures[0]).shape[:2]
            return VideoInfo(len(pictures), height, width, None, pictures[0].suffix[1:], 1.0)
        count, height, width = self._array().shape[:3]
        return VideoInfo(count, height, width, None, "array", 1.0)

    def read(self, start: int = 0, count: int | None = None, stride: int = 1) -> Video4:
        """The frames start, start + stride, ...: `count` of them, or all there are.

        Raises:
            ValueError: the file cannot be decoded, is damaged in or before these frames, or has fewer of them; or all
                are requested from a file that is cut off; or they take more memory than a clip may.
        """
        if start < 0 or stride < 1 or (count is not None and count < 1):
            raise ValueError(f"frames are counted from 0 in steps of 1 or more: got start {start}, stride {stride}")
        if self.kind == "file":
            frames = read_video(self.path, start, count, stride)
        elif self.kind == "frames":
            frames = _read_pictures(_pictures(self.path)[start::stride][:count])
        else:
            part = self._array()[start::stride][:count]
            check_bytes(*part.shape)
            frames = np.array(part)
        if len(frames) == 0 or (count is not None and len(frames) < count):
            raise ValueError(self.too_few(len(frames), start, count, stride))
        return frames

    def spans(self, spans: Iterable[Span], *, whole: bool = False) -> Iterator[tuple[Span, Video4 | str]]:
        """The frames of every span, all out of one decoding, or the reason why that span has none.

        Spans come in the order of their starts and may be endless; those that begin behind the video's end are left
        out. `whole` refuses a file that is cut off.

        Raises:
            ValueError: a file that cannot be decoded, or is damaged, from there on.
        """
        if self.kind == "file":
            for span, frames in decode_spans(self.path, spans, whole=whole):
                cut = len(frames) < span.frames and not span.short
                yield span, self.too_few(len(frames), *span[:3]) if cut else frames
            return
        length = self.probe().frames
        for span in spans:
            if span.start >= length:
                return
            try:
                count = min(span.frames, length - span.start) if span.short else span.frames
                yield span, self.read(span.start, count, span.stride)
            except (OSError, ValueError) as error:
                yield span, str(error)

    def too_few(self, frames: int, start: int, count: int | None, stride: int) -> str:
        """What to say of a video with too few frames."""
        wanted = "one frame" if count is None else f"{count} frames"
        return f"{self.path} has {frames} frames from {start} in steps of {stride}, requested: {wanted}"

    def fingerprint(self) -> str | None:
        """Which bytes the frames come from: sha256 of the file, or files; None for arrays, whose clips are hashed."""
        if self.kind == "array":
            return None
        files = _pictures(self.path) if self.kind == "frames" else [self.path]
        return hashlib.sha256("\n".join(_sha256(file, _stamp(file)) for file in files).encode()).hexdigest()

    def _array(self) -> Video4:
        try:
            stamp = _stamp(self.path)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read as videos: {error.strerror}") from error
        videos = _load_array(self.path, stamp)
        return videos[self.index or 0]


class _Entry(NamedTuple):
    name: str
    path: Path
    kind: Literal["file", "array", "frames", "stray"]


def list_videos(source: Path | str) -> list[Video]:
    """The videos of one file or of all files below a folder, in the order of their names, each file once.

    An .npy holds one array N T H W C or one video T H W C, uint8 RGB; an .npz one such array. A folder that holds
    pictures, and no video in it or below, is one video, its frames in the order of their names, numbers counted as
    numbers; pictures beside or above videos are not read (`list_stray_pictures`). Links are followed, also where they
    lead in circles. Hidden files and files of other kinds are skipped. A file that cannot be read is listed all the
    same: reading it raises the reason.

    Raises:
        ValueError: no videos there.
        OSError: a folder that must not be read.
    """
    videos: list[Video] = []
    for name, path, kind in _walk(Path(source)):
        if kind == "stray":
            continue
        if kind != "array":
            videos.append(Video(name, path, kind))
            continue
        try:
            count = len(_load_array(path, _stamp(path)))
        except (OSError, ValueError):
            count = 1  # reading it raises the error
        videos += [Video(f"{name}#{i}" if count > 1 else name, path, kind, i) for i in range(count)]
    if not videos:
        raise ValueError(
            f"{source} holds no videos: give a folder of .npy, .npz, .mp4, .avi or .gif files or of folders of frames, "
            f"or one file"
        )
    return videos


def list_stray_pictures(source: Path | str) -> list[str]:
    """Names of the pictures that belong to no video: they lie beside or above videos, as previews do."""
    return [entry.name for entry in _walk(Path(source)) if entry.kind == "stray"]


def _walk(source: Path) -> list[_Entry]:
    """Files that hold videos, folders that are one, and pictures that are neither, in the order of their names."""
    if not source.is_dir():
        there = os.path.lexists(source) and source.suffix.lower() in ARRAYS | PLAYED
        return [_entry(source.parent, source)] if there else []
    paths = media_below(source)
    files = [path for path in paths if path.suffix.lower() not in PICTURES]
    pictures: dict[Path, list[Path]] = {}
    for path in paths:
        if path.suffix.lower() in PICTURES:
            pictures.setdefault(path.parent, []).append(path)
    mixed = {above for path in files for above in path.parents}
    mixed |= {above for folder in pictures for above in folder.parents}
    entries = [_entry(source, path) for path in files]
    for folder, inner in pictures.items():
        if folder in mixed:
            entries += [_Entry(_name(source, path), path, "stray") for path in inner]
        else:
            entries.append(_Entry(_name(source, folder), folder, "frames"))
    return sorted(entries)


def _entry(source: Path, path: Path) -> _Entry:
    return _Entry(_name(source, path), path, "array" if path.suffix.lower() in ARRAYS else "file")


def _name(source: Path, path: Path) -> str:
    """The path below the source as Unicode; bytes that are none are written as numbers."""
    below = path.relative_to(source).as_posix() if path != source else path.resolve().name
    return os.fsencode(below).decode("utf-8", "backslashreplace")


def media_below(source: Path) -> list[Path]:
    """Files of videos and pictures below a folder, by suffix; a video that links lead to is there once.

    Raises:
        OSError: a folder that must not be read.
    """
    folders, linked = deque([source]), deque[Path]()
    inodes: set[tuple[int, int]] = set()
    files: dict[str, Path] = {}
    links: list[Path] = []
    while folders or linked:
        folder = folders.popleft() if folders else linked.popleft()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in inodes:
            continue
        inodes.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as scanned:
            entries = sorted((entry for entry in scanned if not entry.name.startswith(".")), key=lambda each: each.name)
        for entry in entries:
            path = folder / entry.name
            if entry.is_dir():
                (linked if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() in PICTURES:
                files[str(path)] = path  # a frame may be shown twice
            elif path.suffix.lower() in ARRAYS | PLAYED:
                if entry.is_symlink():
                    links.append(path)
                else:
                    files.setdefault(os.path.realpath(path), path)
    for path in links:
        files.setdefault(os.path.realpath(path), path)
    return list(files.values())


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
    """The pictures of a folder in order; a picture itself is a video of one frame."""
    if folder.is_file():
        return [folder]
    files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
    files.sort()  # of equal numbers, 01 before 1
    return sorted(files, key=lambda file: [int(x) if x.isdecimal() else x for x in re.split(r"(\d+)", file.name)])


def _read_pictures(files: list[Path]) -> Video4:
    """Pictures as one video; raises ValueError, naming the file, where one has another size than the first."""
    frames = np.empty((0, 1, 1, 3), np.uint8)
    for i, file in enumerate(files):
        picture = read_picture(file)
        if i == 0:
            check_bytes(len(files), *picture.shape)
            frames = np.empty((len(files), *picture.shape), np.uint8)
        if picture.shape != frames.shape[1:]:
            here, before = ("x".join(map(str, shape[-3:-1])) for shape in (picture.shape, frames.shape))
            raise ValueError(f"{file} is {here} pixels, the frames before it {before}: give all frames one size")
        frames[i] = picture
    return frames


def _stamp(file: Path) -> Stamp:
    """What is another if the file is: its time of change cannot be set, unlike that of modification."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=4)
def _load_array(file: Path, _changed: Stamp) -> UInt8[np.ndarray, "N T H W C"]:
    try:
        if file.suffix.lower() == ".npy":
            with open_regular(file), HEADERS:
                array = np.load(file, mmap_mode="r", allow_pickle=False)
        else:
            members = load_npz(file)
            if len(members) != 1:
                raise ValueError(f"it holds {len(members)} arrays, one is wanted")
            array = next(iter(members.values()))
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as videos: {error}") from error
    videos = array[None] if array.ndim == 4 else array
    check_videos(videos, what=f"the videos of {file}")
    return videos


@lru_cache(maxsize=65536)
def _probe(file: Path, _changed: Stamp) -> VideoInfo:
    return probe_video(file)


@lru_cache(maxsize=65536)
def _sha256(file: Path, _changed: Stamp) -> str:
    with open_regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
