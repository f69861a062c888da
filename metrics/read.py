"""Sets of videos from a folder: arrays of uint8, or files that a video player could open."""

import zipfile
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from metrics.frames import check_videos

ARRAYS = {".npy", ".npz"}
PLAYED = {".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm"}


def read_videos(
    source: Path | str,
    *,
    n: int | None = None,  # the first n videos, in the order of their files' names; None = all
    frames: int | None = None,  # the first frames of each; None = all, which must then be equally many
) -> UInt8[np.ndarray, "N T H W C"]:
    """Read a set of videos from one file or from a folder's files, in the order of their names.

    An .npy holds one array N T H W C or one video T H W C, uint8 RGB; an .npz one such array. Other files are decoded
    in the order in which they are stored.

    Raises:
        ValueError: nothing there, a file that cannot be read, fewer videos than n, or videos of different sizes.
    """
    source = Path(source)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    files = [file for file in files if file.suffix.lower() in ARRAYS | PLAYED]
    if not files or not source.exists():
        raise ValueError(
            f"{source} holds no videos: give a folder of .npy, .npz, .mp4, .avi or .gif files, or one file"
        )
    videos: list[UInt8[np.ndarray, "_ T H W C"]] = []
    for file in files:
        if n is not None and sum(map(len, videos)) >= n:
            break
        found = _read_array(file) if file.suffix.lower() in ARRAYS else _decode(file, frames)
        check_videos(found, frames=frames or 1, what=f"the videos of {file}")
        found = found[:, :frames]
        if videos and found.shape[1:] != videos[0].shape[1:]:
            first, other = ("x".join(map(str, part.shape[1:4])) for part in (videos[0], found))
            raise ValueError(
                f"{file} has {other} (frames, height, width), those before {first}: give --frames, or one size"
            )
        videos.append(found)
    together = np.concatenate(videos)[:n]
    if n is not None and len(together) < n:
        raise ValueError(f"{source} holds {len(together)} videos, {n} were asked for: ask for fewer")
    return together


def _read_array(file: Path) -> np.ndarray:
    try:
        with file.open("rb") as opened:
            found = np.load(opened, allow_pickle=False)
            if file.suffix.lower() == ".npz":
                names = list(found)
                if len(names) != 1:
                    raise ValueError(f"it holds {len(names)} arrays, one is wanted")
                found = found[names[0]]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} cannot be read as videos: {error}") from error
    return found[None] if found.ndim == 4 else found


def _decode(file: Path, frames: int | None) -> np.ndarray:
    images = []
    try:
        with av.open(str(file)) as container:
            for image in container.decode(video=0):
                images.append(image.to_ndarray(format="rgb24"))
                if len(images) == frames:
                    break
    except (OSError, IndexError, av.FFmpegError) as error:
        raise ValueError(f"{file} cannot be decoded: {error}") from error
    if not images:
        raise ValueError(f"{file} cannot be decoded: it holds no frame")
    return np.stack(images)[None]
