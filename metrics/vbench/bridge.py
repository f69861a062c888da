"""To VBench's own code and back: folders as it wants them, and its results as records of this project."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from metrics.evaluation.result import Result, versions
from metrics.files import write_text
from metrics.intervals import mean_score
from metrics.score import Score
from metrics.text.prompts import Prompt, hash_prompts
from metrics.vbench import formulas
from metrics.videos.read import Video

LONGEST = 255  # bytes of a file's name
PER_VIDEO = {"imaging_quality": 100.0}  # dimension -> how much larger VBench's values of videos are than its set score
AGREEMENT = 1e-6  # a set score this near to the mean of videos is that mean


def export_videos(
    videos: Sequence[Video], prompts: Mapping[str, Prompt] | None, target: Path, full_info: Path | None = None
) -> Result:
    """Write a new folder: videos/PROMPT-N.mp4, prompts.json for custom input, export.json with names and hashes.

    With the user's copy of VBench_full_info.json, export.json lists the numbers of its prompts that have a video; their
    text is written only as the names that VBench demands.

    Raises:
        ValueError: the folder is there, a video without prompt or that is no .mp4, or a prompt that can be no name.
    """
    if prompts is None:
        raise ValueError("VBench finds the prompt of a video in its name: give --prompts FILE with --export")
    if target.exists():
        raise ValueError(f"{target} is there already: --export writes a new folder, give another name")
    names = _exported_names(videos, prompts)
    numbers = None if full_info is None else _numbers(full_info, {str(prompts[video.name]) for video in videos})
    folder = target / "videos"
    folder.mkdir(parents=True)
    for video, name in zip(videos, names, strict=True):
        _link(video.path, folder / name)
    texts = {f"videos/{name}": prompts[video.name] for video, name in zip(videos, names, strict=True)}
    write_text(target / "prompts.json", json.dumps(texts, indent=1, ensure_ascii=False) + "\n")
    record = {
        "videos": {video.name: name for video, name in zip(videos, names, strict=True)},
        "prompts_sha256": hash_prompts(prompts),
        "prompt_numbers": numbers,
        "full_info_sha256": None if full_info is None else hashlib.sha256(full_info.read_bytes()).hexdigest(),
    }
    write_text(target / "export.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return Result({}, {"protocol": "vbench-export", **record}, versions(), {}, [f"{len(names)} videos in {folder}"])


def _exported_names(videos: Sequence[Video], prompts: Mapping[str, Prompt]) -> list[str]:
    count: dict[str, int] = {}
    names = []
    for video in videos:
        prompt = prompts.get(video.name)
        if not isinstance(prompt, str):
            raise ValueError(f"{video.name} has no prompt as text: add it to the file of prompts")
        if video.kind != "file" or video.path.suffix != ".mp4":
            raise ValueError(f"VBench reads .mp4 files: got {video.name}, write it as one first")
        number = count.get(prompt, 0)
        count[prompt] = number + 1
        name = f"{prompt}-{number}.mp4"
        if not prompt or "/" in prompt or "\0" in prompt or len(name.encode()) > LONGEST:
            raise ValueError(f"VBench wants prompts as names of files, which {prompt[:60]!r} cannot be: shorten it")
        names.append(name)
    return names


def _link(source: Path, target: Path) -> None:
    """A hard link where the file system has them, otherwise a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _numbers(full_info: Path, prompts: set[str]) -> list[int]:
    """Numbers of the entries of VBench_full_info.json whose prompt has a video.

    Raises:
        ValueError: another file.
    """
    try:
        entries = json.loads(full_info.read_text(encoding="utf-8"))
        return [number for number, entry in enumerate(entries) if entry["prompt_en"] in prompts]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{full_info} is no VBench_full_info.json: {error!r}") from error


def import_results(path: Path) -> Result:
    """VBench's ..._eval_results.json as a result, with the variant that the numbers themselves show.

    A consistency is pooled over frames in one process and the mean of videos in several; the file does not say which,
    so it is compared with the mean of its videos. Only a mean over videos has an interval.

    Raises:
        ValueError: another file.
    """
    try:
        content = path.read_bytes()
        results = json.loads(content)
        parsed = {name: _dimension(name, result) for name, result in results.items()}
        if not parsed:
            raise ValueError("it holds no dimension")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} holds no results of VBench: {error}") from error
    scores: dict[str, Score] = {}
    videos: dict[str, list[float]] = {}
    pooling = {}
    for name, (total, over_videos, values) in parsed.items():
        if abs(total - over_videos.value) <= AGREEMENT:
            pooling[name], scores[name], videos[name] = "videos", over_videos._replace(value=total), values
        else:
            pooling[name], scores[name] = "frames of all videos", Score(total, len(values))
            scores[f"{name}_per_video"], videos[f"{name}_per_video"] = over_videos, values
        if name in formulas.LEADERBOARD:
            scores[f"{name}_scaled"] = formulas.leaderboard(name, scores[name])
    manifest: dict[str, object] = {
        "protocol": "vbench-import",
        "variant": {"pooling": pooling, "length": "as the file was made"},
        "results_sha256": hashlib.sha256(content).hexdigest(),
    }
    return Result(scores, manifest, versions(), videos, ["read from VBench's own results"]).named()


def _dimension(name: str, result: Sequence[object]) -> tuple[float, Score, list[float]]:
    """Set score of one dimension, and on its scale the mean over videos and their values."""
    total, videos = result
    if not isinstance(total, float | int) or not math.isfinite(total) or not isinstance(videos, Sequence) or not videos:
        raise ValueError(f"{name} has no set score with a list of videos")
    values = [float(video["video_results"]) / PER_VIDEO.get(name, 1.0) for video in videos]
    return float(total), mean_score(values), values
