"""Videos that cells saved, and pictures of them: a sheet of all frames, a strip, the x-t slice, the change over time.

A cell saves `cells/ID/videos.npz`: `videos` (N T H W C, uint8, RGB) and optionally `seams` (first frames of new clips,
in 1 .. T-1), `kinds` (text for each seam) and `fps`. Video i of every cell of a group belongs to prompt i of the group.
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

FPS = 8.0  # if a cell does not say
EXACT_SIDE = 64  # pixels: frames up to this size are stored without loss
SHEET_SIDE = 256  # pixels: larger frames are shrunk to this
MOST_BYTES = 2**31  # of a cell's saved videos: what a file declares is checked before any of it is unpacked
STRIP_SIDE = 96
STRIP_FRAMES = 10
QUALITY = 82  # of WebP, for frames that are not stored without loss


@dataclass(frozen=True, eq=False)
class SavedVideo:
    """One video of a cell.

    Args:
        id: the cell's.
        pixels: T H W C, uint8, RGB.
        seams: the first frame of every clip but the first, in 1 .. T-1; None if the cell does not say.
        fps: frames per second.
        kinds: of each seam, as the sampler calls it; empty if the cell does not say.
    """

    id: str
    pixels: Any
    seams: tuple[int, ...] | None
    fps: float
    kinds: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """The number of frames, T."""
        return len(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame of the sheet, in pixels."""
        height, width = self.pixels.shape[1:3]
        scale = min(1.0, SHEET_SIDE / max(height, width))
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def columns(self) -> int:
        """The number of frames in a row of the sheet."""
        return int(np.ceil(np.sqrt(self.frames)))


class Scene(NamedTuple):
    """Videos that are shown together: those of one prompt in one group, from one seed.

    Args:
        row: the row of pixels in the x-t slices, as a share of the height in [0, 1]: where the videos change most.
        videos: in the order of the table's rows.
    """

    group: Any
    prompt: int
    caption: str
    row: float
    videos: list[SavedVideo]


class VideoGallery(NamedTuple):
    """The scenes to show, how many videos are left out, and a line with the reason for each cell that is unreadable."""

    scenes: list[Scene]
    left_out: int
    unreadable: list[str]


def scenes(run: Run, rows: pd.DataFrame, most: int = 60) -> VideoGallery:
    """As many whole scenes as fit into `most` videos: the first prompt of every group first.

    The first scene is always shown; if it has more than `most` videos, it is cut.
    """
    saved: dict[tuple[int, int], list[SavedVideo]] = {}
    unreadable = []
    groups = list(dict.fromkeys(rows[run.group]))
    for key, value in zip(rows["id"], rows[run.group], strict=True):
        try:
            videos = read_videos(run.cell_folder(key), key)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            unreadable.append(f"{key}: {type(error).__name__}: {error}")
            continue
        for prompt, video in enumerate(videos):
            saved.setdefault((prompt, groups.index(value)), []).append(video)
    chosen: list[Scene] = []
    shown = 0
    for (prompt, position), videos in sorted(saved.items(), key=lambda item: item[0]):
        if chosen and shown + len(videos) > most:
            break
        kept = videos[:most]
        shown += len(kept)
        prompts = run.prompts(videos[0].id)
        caption = prompts[prompt] if prompt < len(prompts) else ""
        chosen.append(Scene(groups[position], prompt, caption, liveliest_row(kept), kept))
    return VideoGallery(chosen, sum(map(len, saved.values())) - shown, unreadable)


def read_videos(folder: Path, key: str) -> list[SavedVideo]:
    """The videos that a cell saved; empty if it saved none.

    Raises:
        ValueError: the file does not hold videos in the expected form.
    """
    path = folder / "videos.npz"
    if not path.exists():
        return []
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise ValueError("videos.npz is not a complete .npz file")
    with zipfile.ZipFile(path) as archive:
        declared = sum(member.file_size for member in archive.infolist())
    if declared > MOST_BYTES:
        raise ValueError(f"videos.npz unpacks to {declared:,} bytes: a report reads at most {MOST_BYTES:,} of a cell")
    try:
        with np.load(path, allow_pickle=False) as file:
            videos = file["videos"]
            seams = tuple(int(seam) for seam in file["seams"]) if "seams" in file else None
            kinds = tuple(map(str, file["kinds"])) if "kinds" in file else ()
            fps = float(file["fps"]) if "fps" in file else FPS
    except Exception as error:  # whatever a reader of broken archives may raise
        raise ValueError(f"videos.npz cannot be read: {error}") from error
    if videos.ndim != 5 or videos.shape[-1] != 3 or videos.dtype != np.uint8 or 0 in videos.shape:
        raise ValueError(f"videos are N T H W 3 uint8: got {videos.shape} {videos.dtype}")
    if kinds and len(kinds) != len(seams or ()):
        raise ValueError(f"every seam has a kind or none has: got {len(kinds)} kinds and {len(seams or ())} seams")
    return [SavedVideo(key, video, seams, fps, kinds) for video in videos]


def liveliest_row(videos: Sequence[SavedVideo]) -> float:
    """The row of pixels in which these videos change most from frame to frame, as a share of the height in [0, 1]."""
    total = np.zeros(101)
    for video in videos:
        if video.frames > 1:
            change = np.abs(np.diff(video.pixels.astype(np.int16), axis=0)).mean(axis=(0, 2, 3))
            total += np.interp(np.linspace(0, 1, 101), np.linspace(0, 1, len(change)), change / (change.max() or 1))
    return float(np.argmax(total)) / 100


def xt_slice(video: SavedVideo, row: float) -> Any:
    """One row of pixels over time: W T C, time to the right. A seam is a vertical edge; mirrored time is a symmetry."""
    y = min(video.pixels.shape[1] - 1, round(row * (video.pixels.shape[1] - 1)))
    return video.pixels[:, y].swapaxes(0, 1)


def change(video: SavedVideo) -> tuple[list[float], list[float]]:
    """D_t = mean |x_t - x_{t-1}|, t = 1 .. T-1; A_t = mean |x_{t+1} - 2 x_t + x_{t-1}|, t = 1 .. T-2; x in [0, 1]."""
    wide = video.pixels.astype(np.int16)
    first, second = (np.abs(np.diff(wide, n=n, axis=0)).reshape(-1, wide[0].size).mean(axis=1) / 255 for n in (1, 2))
    return first.tolist(), second.tolist()


def strip_frames(video: SavedVideo, most: int = STRIP_FRAMES) -> Any:
    """Frames from the middles of equal parts of the video, so that a strip fits the time axis below it."""
    count = min(most, video.frames)
    return video.pixels[[int((k + 0.5) * video.frames / count) for k in range(count)]]


def sheet(video: SavedVideo) -> bytes:
    """All frames in one WebP, row by row, `video.columns` per row."""
    width, height = video.size
    picture = Image.new("RGB", (width * video.columns, height * -(-video.frames // video.columns)))
    for i, frame in enumerate(video.pixels):
        picture.paste(_resized(frame, (width, height)), (i % video.columns * width, i // video.columns * height))
    return webp(picture, exact=max(video.pixels.shape[1:3]) <= EXACT_SIDE)


def poster(video: SavedVideo) -> bytes:
    """The first frame as WebP."""
    return webp(_resized(video.pixels[0], video.size), exact=max(video.pixels.shape[1:3]) <= EXACT_SIDE)


def strip(video: SavedVideo) -> bytes:
    """Frames side by side as WebP."""
    scale = min(1.0, STRIP_SIDE / max(video.size))
    size = (max(1, round(video.size[0] * scale)), max(1, round(video.size[1] * scale)))
    frames = [np.array(_resized(frame, size)) for frame in strip_frames(video)]
    for frame in frames[:-1]:
        frame[:, -1] = 128  # a line between two frames
    joined = np.concatenate(frames, axis=1)
    return webp(Image.fromarray(joined), exact=max(video.pixels.shape[1:3]) <= EXACT_SIDE)


def slice_picture(video: SavedVideo, row: float) -> bytes:
    """The x-t slice as WebP, one pixel wide per frame; its height is that of a frame of the sheet."""
    return webp(_resized(xt_slice(video, row), (video.frames, video.size[0])), exact=True)


def webp(picture: Image.Image, *, exact: bool) -> bytes:
    """The bytes of the picture as WebP; `exact` stores it without loss."""
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=exact, quality=QUALITY)
    return buffer.getvalue()


def _resized(frame: Any, size: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(frame))
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
