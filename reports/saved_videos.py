"""The videos that cells left, as pictures: a film of all frames, a strip, the x-t slice through it, its change in time.

A cell leaves `cells/ID/videos.npz`: `videos` (N T H W C, uint8, RGB), and if it likes `seams` (first frames of new
clips, in 1 .. T-1), `kinds` (of each seam, text) and `fps`. Video i of every cell of a group belongs to the group's
prompt i.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from reports.run_table import Run

FPS = 8.0  # where a cell does not say
EXACT_SIDE = 64  # pixels: films of frames up to this size are stored without loss
FILM_SIDE = 256  # larger frames are shrunk to this
STRIP_SIDE = 96
STRIP_FRAMES = 10
QUALITY = 82  # of WebP, where frames are large


@dataclass(frozen=True, eq=False)
class VideoFile:
    """One video of a cell.

    Args:
        id: of the cell.
        pixels: T H W C, uint8, RGB.
        seams: the first frame of every clip but the first; None where the cell does not say.
        fps: frames per second.
        kinds: of each seam, as the sampler calls it; empty where the cell does not say.
    """

    id: str
    pixels: Any
    seams: tuple[int, ...] | None
    fps: float
    kinds: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """How many."""
        return len(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame of the sheet."""
        height, width = self.pixels.shape[1:3]
        scale = min(1.0, FILM_SIDE / max(height, width))
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def columns(self) -> int:
        """Frames in a row of the sheet."""
        return int(np.ceil(np.sqrt(self.frames)))


class Scene(NamedTuple):
    """What is shown side by side: the videos of one prompt in one group, from one seed.

    Args:
        row: of pixels, as a share of the height, through which the x-t slices go: where the videos change most.
        films: by position in the table's rows.
    """

    group: Any
    prompt: int
    caption: str
    row: float
    films: list[VideoFile]


class VideoGallery(NamedTuple):
    """The scenes, how many videos were left out of them, and which could not be read and why."""

    scenes: list[Scene]
    left_out: int
    unreadable: list[str]


def scenes(run: Run, rows: pd.DataFrame, most: int = 60) -> VideoGallery:
    """As many whole scenes as hold at most `most` videos: the first prompt of every group first.

    One scene is shown in any case, cut to `most` videos.
    """
    kept: dict[tuple[int, int], list[VideoFile]] = {}
    unreadable = []
    groups = list(dict.fromkeys(rows[run.group]))
    for key, value in zip(rows["id"], rows[run.group], strict=True):
        try:
            films = read_videos(run.folder / "cells" / key, key)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            unreadable.append(f"{key}: {type(error).__name__}: {error}")
            continue
        for prompt, film in enumerate(films):
            kept.setdefault((prompt, groups.index(value)), []).append(film)
    found: list[Scene] = []
    shown = 0
    for (prompt, position), films in sorted(kept.items(), key=lambda item: item[0]):
        if found and shown + len(films) > most:
            break
        chosen = films[:most]
        shown += len(chosen)
        prompts = run.prompts(films[0].id)
        caption = prompts[prompt] if prompt < len(prompts) else ""
        found.append(Scene(groups[position], prompt, caption, liveliest_row(chosen), chosen))
    return VideoGallery(found, sum(map(len, kept.values())) - shown, unreadable)


def read_videos(folder: Path, key: str) -> list[VideoFile]:
    """The videos that a cell left; none if it left none.

    Raises:
        ValueError: the file holds something else than videos.
    """
    path = folder / "videos.npz"
    if not path.exists():
        return []
    if not zipfile.is_zipfile(path):
        raise ValueError("videos.npz is no whole .npz file")
    with np.load(path, allow_pickle=False) as file:
        videos = file["videos"]
        seams = tuple(int(seam) for seam in file["seams"]) if "seams" in file else None
        kinds = tuple(map(str, file["kinds"])) if "kinds" in file else ()
        fps = float(file["fps"]) if "fps" in file else FPS
    if videos.ndim != 5 or videos.shape[-1] != 3 or videos.dtype != np.uint8 or 0 in videos.shape:
        raise ValueError(f"videos are N T H W 3 uint8; {videos.shape} {videos.dtype} came")
    if kinds and len(kinds) != len(seams or ()):
        raise ValueError(f"every seam has a kind, or none has; {len(kinds)} kinds of {len(seams or ())} seams came")
    return [VideoFile(key, video, seams, fps, kinds) for video in videos]


def liveliest_row(films: Sequence[VideoFile]) -> float:
    """The row of pixels in which all these videos together change most from frame to frame, in [0, 1]."""
    total = np.zeros(101)
    for film in films:
        if film.frames > 1:
            change = np.abs(np.diff(film.pixels.astype(np.int16), axis=0)).mean(axis=(0, 2, 3))
            total += np.interp(np.linspace(0, 1, 101), np.linspace(0, 1, len(change)), change / (change.max() or 1))
    return float(np.argmax(total)) / 100


def xt_slice(film: VideoFile, row: float) -> Any:
    """One row of pixels over time: W T C, time to the right. A seam is a vertical edge, mirrored time a symmetry."""
    y = min(film.pixels.shape[1] - 1, round(row * (film.pixels.shape[1] - 1)))
    return film.pixels[:, y].swapaxes(0, 1)


def change(film: VideoFile) -> tuple[list[float], list[float]]:
    """D_t = mean |x_t - x_{t-1}| for t = 1 .. T-1 and A_t = mean |x_{t+1} - 2 x_t + x_{t-1}| for t = 1 .. T-2, of 1."""
    wide = film.pixels.astype(np.int16)
    first, second = (np.abs(np.diff(wide, n=n, axis=0)).reshape(-1, wide[0].size).mean(axis=1) / 255 for n in (1, 2))
    return first.tolist(), second.tolist()


def strip_frames(film: VideoFile, most: int = STRIP_FRAMES) -> Any:
    """Frames from the middles of equal stretches of the video, so that a strip lies true above a time axis."""
    count = min(most, film.frames)
    return film.pixels[[int((k + 0.5) * film.frames / count) for k in range(count)]]


def sheet(film: VideoFile) -> bytes:
    """All frames, row by row, `film.columns` to a row."""
    width, height = film.size
    picture = Image.new("RGB", (width * film.columns, height * -(-film.frames // film.columns)))
    for i, frame in enumerate(film.pixels):
        picture.paste(_resized(frame, (width, height)), (i % film.columns * width, i // film.columns * height))
    return webp(picture, exact=max(film.pixels.shape[1:3]) <= EXACT_SIDE)


def poster(film: VideoFile) -> bytes:
    """The first frame."""
    return webp(_resized(film.pixels[0], film.size), exact=max(film.pixels.shape[1:3]) <= EXACT_SIDE)


def strip(film: VideoFile) -> bytes:
    """Frames side by side."""
    scale = min(1.0, STRIP_SIDE / max(film.size))
    size = (max(1, round(film.size[0] * scale)), max(1, round(film.size[1] * scale)))
    frames = [np.array(_resized(frame, size)) for frame in strip_frames(film)]
    for frame in frames[:-1]:
        frame[:, -1] = 128  # a line between two frames
    joined = np.concatenate(frames, axis=1)
    return webp(Image.fromarray(joined), exact=max(film.pixels.shape[1:3]) <= EXACT_SIDE)


def slice_picture(film: VideoFile, row: float) -> bytes:
    """The x-t slice, a pixel a frame and pixel of a row; longer rows are shrunk like the film's frames."""
    return webp(_resized(xt_slice(film, row), (film.frames, film.size[0])), exact=True)


def webp(picture: Image.Image, *, exact: bool) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=exact, quality=QUALITY)
    return buffer.getvalue()


def _resized(frame: Any, size: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(frame))
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
