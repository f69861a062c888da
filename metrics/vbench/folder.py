"""VBench's dimensions of folders of videos."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from metrics.evaluation.measure import FolderReader, FolderScore, SideValues, choose_measures, measure_sides
from metrics.evaluation.result import Result
from metrics.score import Score
from metrics.text.prompts import hash_prompts
from metrics.vbench import formulas
from metrics.vbench.dimensions import Setting, loaders
from metrics.videos.read import Video


def list_as_vbench(source: Path | str) -> list[Video]:
    """Files directly in a folder that VBench's custom input takes: .mp4 and .gif, and .png as a video of one frame.

    Raises:
        ValueError: none.
    """
    folder, kinds = Path(source), {".mp4", ".gif", ".png"}
    paths = sorted(path for path in folder.iterdir() if path.suffix in kinds) if folder.is_dir() else []
    if not paths:
        raise ValueError(
            f"{source} holds no videos for VBench: it takes .mp4, .gif and .png files directly in a folder"
        )
    return [Video(path.name, path, "frames" if path.suffix == ".png" else "file") for path in paths]


def scores_of(measured: SideValues, *, compat: bool) -> dict[str, Score]:
    """Raw scores of a set with their leaderboard scale; the two consistencies over videos and pooled over frames.

    The plain name is the mean over videos; with `compat` it is VBench's of one process, pooled.
    """
    scores: dict[str, Score] = {}
    for name, over_videos in measured.means().items():
        scores[name] = over_videos
        if name in measured.parts:
            over_frames = formulas.pooled(measured.parts[name])
            other = "per_video" if compat else "pooled"
            scores[name], scores[f"{name}_{other}"] = (
                (over_frames, over_videos) if compat else (over_videos, over_frames)
            )
        scores[f"{name}_scaled"] = formulas.leaderboard(name, scores[name])
    return scores


def measure_folders(
    sources: Mapping[str, Path | str],  # side -> folder; "fake", and "real" where there is one
    setting: Setting,
    *,
    wanted: Sequence[str] = (),  # dimensions; () = all that can be measured
    reader: FolderReader | None = None,
) -> Result:
    """VBench's dimensions of a set, and of real video where it is given, as a result with manifest and notes.

    Raises:
        ValueError: as `choose_measures` and `measure_videos` of `metrics.evaluation.measure`.
    """
    return prepare_folders(sources, setting, wanted=wanted, reader=reader).finish()


def prepare_folders(
    sources: Mapping[str, Path | str],
    setting: Setting,
    *,
    wanted: Sequence[str] = (),
    reader: FolderReader | None = None,
) -> FolderScore:
    """`measure_folders`, ready to run.

    Raises:
        ValueError: as `choose_measures`.
    """
    reader = reader or FolderReader()
    reader = replace(reader, listing=list_as_vbench) if setting.compat else reader
    sides = {side: reader.videos(source) for side, source in sources.items()}
    infos = [info for videos in sides.values() for info in reader.infos(videos)]
    dimensions, notes = choose_measures(loaders(setting), wanted, infos)
    about = {"protocol": _protocol(setting), "variant": variant(setting)}
    summarize = partial(scores_of, compat=setting.compat)
    finish = partial(measure_sides, sides, dimensions, reader, summarize, about, notes)
    return FolderScore(sides, dimensions, finish)


def _protocol(setting: Setting) -> str:
    return "vbench-compat" if setting.compat else "vbench-long" if setting.long else "vbench"


def variant(setting: Setting) -> dict[str, object]:
    """Which of VBench's several numbers these are."""
    return {
        "pooling": "frames of all videos" if setting.compat else "videos",
        "length": "long: mean over clips of 2 s, not encoded anew" if setting.long else "short",
        "imaging": setting.weights.imaging,
        "prompts_sha256": None if setting.prompts is None else hash_prompts(setting.prompts),
        "compat": setting.compat,
    }
