"""The videos of a UCF-101 run, as its page shows them: the same prompt and seed in every row."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from reports.videos import Scene, VideoFile, VideoGallery, liveliest_row

LINES, VIDEOS = "videos.jsonl", "videos"  # in the folder of a row: a line a video, and the films themselves


def scenes(folder: Path, rows: Sequence[str], prompts: Mapping[str, str], most: int) -> VideoGallery:
    """As many items as hold at most `most` videos, of as many prompts as there are, in the order of the run.

    Args:
        rows: names of the run's rows; one without a list of its videos (those of other models) shows none.
        prompts: id -> text.
    """
    listed = {position: lines for position, name in enumerate(rows) if (lines := _lines(folder, name))}
    if not listed:
        return VideoGallery([], 0, [])
    common = set.intersection(*({line["file"] for line in lines} for lines in listed.values()))
    items = [line for line in next(iter(listed.values())) if line["file"] in common]
    items.sort(key=lambda line: line["index"])  # first samples of all prompts before any second one
    found: list[Scene] = []
    unreadable = []
    for line in items[: most // len(listed)]:
        films = []
        for position in listed:
            try:
                films.append(_film(folder / rows[position] / VIDEOS, line["file"], f"row-{position}"))
            except (OSError, ValueError, av.FFmpegError) as error:
                unreadable.append(f"{rows[position]}, {line['file']}: {type(error).__name__}")
        if films:
            title = f"{line['class_name'] or line['prompt_id']} · sample {line['index'] + 1}"
            caption = prompts.get(line["prompt_id"], "")
            found.append(Scene(title, len(found), caption, liveliest_row(films), films))
    shown = sum(len(scene.films) for scene in found)
    return VideoGallery(found, sum(map(len, listed.values())) - shown - len(unreadable), unreadable)


def _lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The list of a row's videos; none where there is none."""
    path = folder / name / LINES
    if Path(name).name != name or not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _film(folder: Path, file: str, key: str) -> VideoFile:
    """One video.

    Raises:
        ValueError: the file lies elsewhere, or holds no frames.
    """
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file} lies outside of {folder}")
    with av.open(str(path.absolute())) as container:
        rate = container.streams.video[0].average_rate
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if not frames or not rate:
        raise ValueError(f"{file} holds no video")
    return VideoFile(key, np.stack(frames), None, float(rate))
