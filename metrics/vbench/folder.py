"""VBench's dimensions of a folder of videos: each video is decoded once for all of them, in blocks of frames."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from metrics.evaluation.cache import FeatureCache, cache_key
from metrics.evaluation.dataset import digest
from metrics.evaluation.extract import hash_frames
from metrics.evaluation.progress import Progress
from metrics.evaluation.result import Result, versions
from metrics.intervals import mean_score
from metrics.networks.features import Features
from metrics.score import Score
from metrics.text.prompts import hash_prompts
from metrics.vbench import formulas
from metrics.vbench.dimensions import CONSISTENCIES, DIMENSIONS, Dimension, Setting, load_dimension
from metrics.videos.read import DECODER, Video, VideoInfo, list_videos
from metrics.videos.stream import stream_frames
from metrics.weights.errors import WeightsError

Rows = Float[np.ndarray, "K F"]
BLOCK = 16  # frames in memory at a time


@dataclass
class Measured:
    """One side: a value per video and dimension, and what was left out."""

    names: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    frames: dict[str, list[Float64[np.ndarray, " _"]]] = field(default_factory=dict)  # of the two consistencies
    gaps: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FolderReader:
    """How folders are read, whatever the dimension."""

    n: int | None = None  # the first videos by name; None = all
    allow_gaps: bool = False
    cache: FeatureCache | None = None
    report: Callable[[str, Progress], None] | None = None

    def videos(self, source: Path | str, *, compat: bool) -> list[Video]:
        """The videos of a folder; `compat` takes what VBench takes, in its order.

        Raises:
            ValueError: none, or fewer than asked for.
        """
        found = list_as_vbench(source) if compat else list_videos(source)
        if self.n is not None and len(found) < self.n:
            raise ValueError(f"{source} holds {len(found)} videos, {self.n} were requested: ask for fewer")
        return found[: self.n]


def list_as_vbench(source: Path | str) -> list[Video]:
    """Files directly in a folder that VBench's custom input takes: .mp4 and .gif, and .png as a video of one frame.

    Raises:
        ValueError: none.
    """
    folder = Path(source)
    kinds = {".mp4": "file", ".gif": "file", ".png": "file"}
    paths = sorted(path for path in folder.iterdir() if path.suffix in kinds) if folder.is_dir() else []
    if not paths:
        raise ValueError(
            f"{source} holds no videos for VBench: it takes .mp4, .gif and .png files directly in a folder"
        )
    return [Video(path.name, path, "file") for path in paths]


def choose_dimensions(
    wanted: Sequence[str], setting: Setting, infos: Sequence[tuple[str, VideoInfo]]
) -> tuple[list[Dimension], list[str]]:
    """The dimensions that can be measured, and why the others cannot.

    Dimensions that are asked for by name are never left out; where none is, those without files or suitable videos are,
    with a note.

    Raises:
        ValueError: a dimension that is asked for cannot be measured.
    """
    chosen, notes = [], []
    for name in wanted or DIMENSIONS:
        try:
            dimension = load_dimension(name, setting)
            if reasons := [reason for video, info in infos if (reason := dimension.refuse(info, video))]:
                raise ValueError(f"{reasons[0]}{f' and {len(reasons) - 1} more' if len(reasons) > 1 else ''}")
        except (WeightsError, ValueError) as error:
            if wanted:
                raise ValueError(f"{name} cannot be measured: {error}") from error
            notes.append(f"not measured: {name} ({error})")
            continue
        chosen.append(dimension)
    if not chosen:
        raise ValueError(f"no dimension can be measured: {'; '.join(notes)}")
    return chosen, notes


def measure_videos(
    videos: Sequence[Video], dimensions: Sequence[Dimension], reader: FolderReader, side: str = "fake"
) -> Measured:
    """Every dimension of every video, with one block of frames in memory.

    Raises:
        ValueError: a video that cannot be read, unless gaps are allowed, or that a dimension cannot measure.
    """
    measured, started = Measured(), time.monotonic()
    for number, video in enumerate(videos, 1):
        try:
            info, content = video.probe(), content_of(video)
            gathered = gather(video, info, content, dimensions, reader.cache)
        except ValueError as error:
            measured.gaps.append(f"{video.name}: {error}")
            if not reader.allow_gaps:
                raise ValueError(f"{error}: fix or remove it, or --allow-gaps to measure without it") from error
            continue
        measured.names.append(video.name)
        measured.contents.append(content)
        for dimension in dimensions:
            rows = gathered[dimension.name]
            measured.values.setdefault(dimension.name, []).append(dimension.score(rows, info, video.name))
            if dimension.name in CONSISTENCIES:
                measured.frames.setdefault(dimension.name, []).append(formulas.consistency(rows))
        if reader.report is not None:
            reader.report(side, Progress(number, len(videos), len(measured.gaps), time.monotonic() - started))
    if not measured.names:
        raise ValueError("not one video could be read: give videos that can be decoded")
    return measured


def gather(
    video: Video, info: VideoInfo, content: str, dimensions: Sequence[Dimension], cache: FeatureCache | None
) -> dict[str, Rows]:
    """What every dimension needs of one video: from the cache, or in one pass over its frames."""
    keys = {}
    if cache is not None:
        keys = {each.name: cache_key(f"{content} {DECODER}", {"vbench": 1, **each.recipe}) for each in dimensions}
    found = {name: rows for name, key in keys.items() if (rows := _from_cache(cache, key)) is not None}
    collectors = {each.name: each.begin(info) for each in dimensions if each.name not in found}
    if collectors:
        for block in stream_frames(video, BLOCK):
            for collector in collectors.values():
                collector.take(block)
    for name, collector in collectors.items():
        found[name] = collector.rows()
        if cache is not None:
            shape = np.array([found[name].shape], dtype=np.float64)
            cache.put([keys[name]], Features(found[name].reshape(1, -1), {"shape": shape}))
    return found


def _from_cache(cache: FeatureCache | None, key: str) -> Rows | None:
    features = None if cache is None else cache.get(key)
    return None if features is None else features.embedding.reshape(features.logits["shape"][0].astype(int).tolist())


def content_of(video: Video) -> str:
    """A hash of the video's file or files, or of its frames, block by block."""
    stamp = video.fingerprint()
    return stamp or digest([hash_frames(block) for block in stream_frames(video, BLOCK)])


def scores_of(measured: Measured, *, compat: bool) -> dict[str, Score]:
    """Raw scores of a set with their leaderboard scale; the two consistencies over videos and pooled over frames.

    The plain name is the mean over videos; with `compat` it is VBench's of one process, pooled.
    """
    scores: dict[str, Score] = {}
    for name, values in measured.values.items():
        over_videos = mean_score(values)
        if name in CONSISTENCIES:
            over_frames = formulas.pooled(measured.frames[name])
            scores[name] = over_frames if compat else over_videos
            other = "per_video" if compat else "pooled"
            scores[f"{name}_{other}"] = over_videos if compat else over_frames
        else:
            scores[name] = over_videos
        scores[f"{name}_scaled"] = formulas.leaderboard(name, scores[name])
    return scores


def measure_folders(
    sources: Mapping[str, Path | str],  # side -> folder; "fake", and "real" where there is one
    setting: Setting,
    *,
    wanted: Sequence[str] = (),  # dimensions; () = all that can be measured
    reader: FolderReader = FolderReader(),
) -> Result:
    """VBench's dimensions of a set, and of real video where it is given, as a result with manifest and notes.

    Raises:
        ValueError: as `choose_dimensions` and `measure_videos`.
    """
    sides = {side: reader.videos(source, compat=setting.compat) for side, source in sources.items()}
    infos = [(video.name, video.probe()) for videos in sides.values() for video in videos if _readable(video, reader)]
    dimensions, notes = choose_dimensions(wanted, setting, infos)
    scores: dict[str, Score] = {}
    values: dict[str, list[float]] = {}
    made_with = versions()
    about: dict[str, dict[str, object]] = {}
    for side, videos in sides.items():
        measured = measure_videos(videos, dimensions, reader, side)
        ending = "" if side == "fake" else "_real"
        scores |= {name + ending: score for name, score in scores_of(measured, compat=setting.compat).items()}
        values |= {name + ending: of_videos for name, of_videos in measured.values.items()}
        hashes = {"names_sha256": digest(measured.names), "content_sha256": digest(measured.contents)}
        made_with[side] = hashes | {"gap_reasons": measured.gaps}
        about[side] = {"videos": len(measured.names), "gaps": len(measured.gaps)}
        if side == "real":
            about[side] |= {"content_sha256": hashes["content_sha256"]}
    manifest: dict[str, object] = {
        "protocol": "vbench-compat" if setting.compat else "vbench",
        "variant": variant(setting),
        "dimensions": {dimension.name: dict(dimension.recipe) for dimension in dimensions},
        "decoder": DECODER,
        **{side: about.get(side) for side in ("real", "fake")},
    }
    return Result(scores, manifest, made_with, values, notes)


def variant(setting: Setting) -> dict[str, object]:
    """Which of VBench's several numbers these are."""
    return {
        "pooling": "frames of all videos" if setting.compat else "videos",
        "length": "short",
        "imaging": setting.imaging,
        "prompts_sha256": None if setting.prompts is None else hash_prompts(setting.prompts),
        "compat": setting.compat,
    }


def _readable(video: Video, reader: FolderReader) -> bool:
    if not reader.allow_gaps:
        return True
    try:
        video.probe()
    except ValueError:
        return False
    return True
