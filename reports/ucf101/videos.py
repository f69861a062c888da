"""The videos of a UCF-101 run for its page: the same prompt and seed in every row."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from reports.saved_videos import MOST_BYTES, SavedVideo, Scene, VideoGallery, liveliest_row

TEXTS = ("file", "class_name", "prompt_id")  # of a line
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
    """The list of a row's videos; empty if it has no list.

    Raises:
        ValueError: it is not what `bench ucf101` writes.
    """
    path = folder / name / LINES
    if Path(name).name != name or not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    if not all(isinstance(line, dict) and _is_video(line) for line in lines):
        raise ValueError(f"{path} is no list of videos: the command that made the run writes it again")
    return lines


def _is_video(line: Mapping[str, object]) -> bool:
    return isinstance(line.get("index"), int) and all(isinstance(line.get(key), str) for key in TEXTS)


def _read_video(folder: Path, file: str, key: str) -> SavedVideo:
    """One video file, decoded.

    Raises:
        ValueError: the file is outside the folder, or has no frames.
    """
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is outside {folder}")
    if not path.is_file():
        raise ValueError(f"{file} is no file")
    frames: list[np.ndarray] = []
    with av.open(str(path.absolute()), format="matroska", options={"protocol_whitelist": "file"}) as container:
        rate = container.streams.video[0].average_rate
        for frame in container.decode(video=0):
            if (len(frames) + 1) * frame.width * frame.height * 3 > MOST_BYTES:
                raise ValueError(f"{file} has more than {MOST_BYTES:,} bytes of frames")
            frames.append(frame.to_ndarray(format="rgb24"))
    if not frames or not rate:
        raise ValueError(f"{file} has no video")
    return SavedVideo(key, np.stack(frames), None, float(rate))
