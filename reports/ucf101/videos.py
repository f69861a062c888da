"""The videos of a UCF-101 run for its page: the same prompt and seed in every row."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from reports.saved_videos import SavedVideo, Scene, VideoGallery, liveliest_row

LINES, VIDEOS = "videos.jsonl", "videos"  # in the folder of a row: a list with one line per video, and the videos


def scenes(folder: Path, rows: Sequence[str], prompts: Mapping[str, str], most: int) -> VideoGallery:
    """The first samples of as many prompts as possible, in at most `most` videos, in the order of the run.

    Args:
        rows: names of the run's rows; a row without a list of its videos (those of other models) shows none.
        prompts: id -> text.
    """
    listed = {position: lines for position, name in enumerate(rows) if (lines := _lines(folder, name))}
    if not listed:
        return VideoGallery([], 0, [])
    common = set.intersection(*({line["file"] for line in lines} for lines in listed.values()))
    items = [line for line in next(iter(listed.values())) if line["file"] in common]
    items.sort(key=lambda line: line["index"])  # first samples of all prompts before any second one
    chosen: list[Scene] = []
    unreadable = []
    for line in items[: most // len(listed)]:
        videos = []
        for position in listed:
            try:
                videos.append(_read_video(folder / rows[position] / VIDEOS, line["file"], f"row-{position}"))
            except (OSError, ValueError, av.FFmpegError) as error:
                unreadable.append(f"{rows[position]}, {line['file']}: {type(error).__name__}")
        if videos:
            title = f"{line['class_name'] or line['prompt_id']} · sample {line['index'] + 1}"
            caption = prompts.get(line["prompt_id"], "")
            chosen.append(Scene(title, len(chosen), caption, liveliest_row(videos), videos))
    shown = sum(len(scene.videos) for scene in chosen)
    return VideoGallery(chosen, sum(map(len, listed.values())) - shown - len(unreadable), unreadable)


def _lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The list of a row's videos; empty if it has no list."""
    path = folder / name / LINES
    if Path(name).name != name or not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _read_video(folder: Path, file: str, key: str) -> SavedVideo:
    """One video file, decoded.

    Raises:
        ValueError: the file is outside the folder, or has no frames.
    """
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is outside {folder}")
    with av.open(str(path.absolute())) as container:
        rate = container.streams.video[0].average_rate
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if not frames or not rate:
        raise ValueError(f"{file} has no video")
    return SavedVideo(key, np.stack(frames), None, float(rate))
