"""Contact sheets: for each group one picture, a row of frames a cell. Needs no torch."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from reports.table import Run, rows

LABEL = 190  # pixels
GAP = 2


def sheets(run: Run, scale: int = 2, most: int = 16) -> dict[str, Image.Image]:
    """File name -> picture. A cell's row shows its first video, at most `most` frames evenly spaced.

    Cells that left no videos have no row; a group without any has no picture.
    """
    group = run.manifest["group"]
    pictures = {}
    for value, part in rows(run).groupby(group, sort=False):
        strips = [
            (" ".join(str(row[axis]) for axis in run.axes if row[axis] != ""), strip)
            for _, row in part.iterrows()
            if (strip := _strip(run.folder / "cells" / row["id"] / "videos.npz", scale, most)) is not None
        ]
        if strips:
            pictures[f"{group}-{value}.png"] = _stack(strips)
    return pictures


def _strip(path: Path, scale: int, most: int) -> np.ndarray | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        video = file["videos"][0]
    frames, height, width, _ = video.shape
    chosen = video[np.unique(np.linspace(0, frames - 1, min(frames, most)).round().astype(int))]
    large = chosen.repeat(scale, axis=1).repeat(scale, axis=2)
    framed = np.full((len(large), height * scale + GAP, width * scale + GAP, 3), 255, np.uint8)
    framed[:, :-GAP, :-GAP] = large
    return framed.transpose(1, 0, 2, 3).reshape(height * scale + GAP, -1, 3)


def _stack(strips: list[tuple[str, np.ndarray]]) -> Image.Image:
    width = LABEL + max(strip.shape[1] for _, strip in strips)
    picture = Image.new("RGB", (width, sum(strip.shape[0] for _, strip in strips)), "white")
    draw = ImageDraw.Draw(picture)
    top = 0
    for label, strip in strips:
        draw.text((4, top + strip.shape[0] // 2 - 6), label, fill="black")
        picture.paste(Image.fromarray(strip), (LABEL, top))
        top += strip.shape[0]
    return picture
