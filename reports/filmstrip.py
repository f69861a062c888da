"""Pictures of videos for a README or a summary: one row per cell, with its frames and its x-t slice."""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from reports.format import file_name, printable
from reports.run_table import Run
from reports.saved_videos import SavedVideo, Scene, strip_frames, xt_slice

FRAME = 68  # pixels of a frame's longer side
SLICE = 136  # pixels: width of an x-t slice
LABEL = 172  # pixels: width of a row's name
GAP = 8
PAPER, INK, MUTED, SEAM = (255, 255, 255), (27, 29, 34), (95, 102, 115), (217, 72, 15)
ROWS = 24  # of a picture, at most


def group_strips(run: Run, rows: pd.DataFrame, scenes: Sequence[Scene]) -> dict[str, tuple[bytes, str]]:
    """File name -> PNG and its caption, for the first prompt of each group."""
    names = {row["id"]: run.name(row) for row in rows.to_dict("records")}
    pictures = {}
    for scene in scenes:
        if scene.prompt == 0:
            caption = f"Videos at {run.group} = {scene.group}: {scene.caption or 'prompt 1'}"
            caption += f"; {left} more rows are not shown" if (left := len(scene.videos) - ROWS) > 0 else ""
            picture = strip_picture(scene, [names[video.id] for video in scene.videos][:ROWS])
            pictures[file_name(f"videos-{run.group}-{scene.group}") + ".png"] = (picture, caption)
    return pictures


def strip_picture(scene: Scene, names: Sequence[str], *, title: bool = True) -> bytes:
    """One row per name and video, in their order, as PNG: the name, ten frames, the slice with its seams marked.

    Videos without a name are not drawn but counted below the rows.

    Args:
        title: write the prompt and the headings of the columns above the rows.
    """
    videos = scene.videos[: len(names)]
    head = 44 if title else 0
    strips = [_frames(video) for video in videos]
    width = LABEL + max(strip.width for strip in strips) + GAP + SLICE + GAP
    left = len(scene.videos) - len(videos)
    height = head + sum(strip.height + GAP for strip in strips) + (20 if left else 0)
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    if title:
        draw.text((GAP, 6), printable(scene.caption), INK, ImageFont.load_default(15))
        draw.text((LABEL, 26), "frames, from first to last", MUTED, ImageFont.load_default(12))
        draw.text((width - SLICE - GAP, 26), "x-t slice, seams marked", MUTED, ImageFont.load_default(12))
    top = head
    for name, video, strip in zip(names, videos, strips, strict=True):
        for line, text in enumerate(_wrapped(name)):
            draw.text(
                (GAP, top + strip.height / 2 - 8 * len(_wrapped(name)) + 16 * line),
                text,
                INK,
                ImageFont.load_default(13),
            )
        picture.paste(strip, (LABEL, top))
        edge = width - SLICE - GAP
        picture.paste(_slice(video, scene.row, strip.height), (edge, top))
        for seam in video.seams or ():
            x = edge + round(SLICE * seam / video.frames)
            draw.line([(x, top), (x, top + 6)], SEAM, 2)
            draw.line([(x, top + strip.height - 7), (x, top + strip.height - 1)], SEAM, 2)
        top += strip.height + GAP
    if left:
        draw.text((LABEL, top), f"{left} more rows are not shown", MUTED, ImageFont.load_default(12))
    buffer = io.BytesIO()
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _frames(video: SavedVideo) -> Image.Image:
    scale = FRAME / max(video.size)
    size = (max(1, round(video.size[0] * scale)), max(1, round(video.size[1] * scale)))
    frames = strip_frames(video)
    joined = Image.new("RGB", ((size[0] + 2) * len(frames) - 2, size[1]), PAPER)
    for i, frame in enumerate(frames):
        joined.paste(_enlarged(np.ascontiguousarray(frame), size), (i * (size[0] + 2), 0))
    return joined


def _slice(video: SavedVideo, row: float, height: int) -> Image.Image:
    return _enlarged(np.ascontiguousarray(xt_slice(video, row)), (SLICE, height))


def _enlarged(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    grows = pixels.shape[0] <= size[1] and pixels.shape[1] <= size[0]
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS)


def _wrapped(name: str, most: int = 22) -> list[str]:
    lines = [""]
    for word in printable(name).split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()[:most]
    return lines
