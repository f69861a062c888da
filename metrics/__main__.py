"""Metrics of folders of videos. A folder (or one file) holds .npy or .npz arrays (uint8, N T H W C) or video files."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import UInt8

from metrics.fvd import fvd, fvd_floor
from metrics.inception_score import inception_score
from metrics.jitter import cycling, duplicates, flicker, jitter, light_jitter, motion, seam_phase, seam_ratio
from metrics.read import read_videos
from metrics.score import Score

WEIGHTS = Path(__file__).parents[1] / "weights" / "pocket-judges"
USER_ERROR = 3


@dataclass(frozen=True)
class Common:
    """What every verb takes."""

    n: int | None = None
    """Videos to read of each set, the first by name (default: all)."""
    frames: int | None = None
    """Frames to read of each video (default: all, equally many)."""
    json: Path | None = None
    """Also write the numbers, with what they were made of, to this file."""


@dataclass(frozen=True)
class Fvd:
    """Fréchet video distance between two sets of videos."""

    real: tyro.conf.Positional[Path]
    fake: tyro.conf.Positional[Path]
    weights: Path = WEIGHTS / "i3d.safetensors"
    """The feature network's weights."""
    window: int | None = None
    """Cut longer videos into windows of this many frames (default: whole videos)."""
    floor: bool = False
    """Also print what two halves of the real set are apart."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()


@dataclass(frozen=True)
class InceptionScore:
    """Inception Score of a set of videos."""

    videos: tyro.conf.Positional[Path]
    weights: Path = WEIGHTS / "c3d.safetensors"
    """The classifier's weights."""
    head: str = "action"
    """Which of the classifier's attributes to score."""
    window: int | None = None
    """Cut longer videos into windows of this many frames (default: whole videos)."""
    splits: int = 1
    """Cut the set in so many parts and take the mean of their scores."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()


@dataclass(frozen=True)
class Jitter:
    """Flicker, jitter, light, motion and held frames of a set of videos; with --seams also what happens at them."""

    videos: tyro.conf.Positional[Path]
    seams: tuple[int, ...] = ()
    """First frame of each new clip, in every video."""
    dropped: int = 0
    """Frames each new clip lost at its start before it was joined."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()


Verb = (
    Annotated[Fvd, tyro.conf.subcommand("fvd")]
    | Annotated[InceptionScore, tyro.conf.subcommand("is")]
    | Annotated[Jitter, tyro.conf.subcommand("jitter")]
)


def measure(verb: Fvd | InceptionScore | Jitter) -> tuple[dict[str, Score], dict[str, object]]:
    """The numbers of one verb, and what else must be known to compare them."""
    n, frames = verb.common.n, verb.common.frames
    if isinstance(verb, Jitter):
        videos = read_videos(verb.videos, n=n, frames=frames)
        return jitter_scores(videos, verb.seams, verb.dropped), {"videos": str(verb.videos), "seams": verb.seams}

    from metrics.pocket import load_judge  # noqa: PLC0415 - torch is slow to import, and not every verb needs it

    judge = load_judge(verb.weights)
    made_with = {"network": judge.name, "sha256": judge.sha256, "window": verb.window}
    if isinstance(verb, InceptionScore):
        videos = read_videos(verb.videos, n=n, frames=frames)
        score = inception_score(videos, network=judge, head=verb.head, window=verb.window, splits=verb.splits)
        return {"is": score}, {**made_with, "videos": str(verb.videos), "head": verb.head, "splits": verb.splits}
    real, fake = (read_videos(folder, n=n, frames=frames) for folder in (verb.real, verb.fake))
    scores = {"fvd": fvd(real, fake, network=judge, window=verb.window)}
    if verb.floor:
        scores["fvd_floor"] = fvd_floor(real, len(real) // 2, network=judge, window=verb.window)
    return scores, {**made_with, "real": str(verb.real), "fake": str(verb.fake)}


def jitter_scores(videos: UInt8[np.ndarray, "N T H W C"], seams: tuple[int, ...], dropped: int = 0) -> dict[str, Score]:
    """All of `metrics.jitter`: what concerns seams only where there are some, and long enough clips to see it."""
    scores = {each.__name__: each(videos) for each in (flicker, jitter, light_jitter, motion, duplicates)}
    if not seams:
        return scores
    for signal in ("D", "A"):
        scores[f"seam_ratio:{signal}"] = seam_ratio(videos, seams, signal=signal)
        scores[f"seam_phase:{signal}"] = seam_phase(videos, seams, signal=signal)
    scores["duplicates:seams"] = duplicates(videos, seams)
    scores["cycling:mirror"] = cycling(videos, seams, dropped=dropped)
    return scores


def main() -> None:
    """Parse, measure, print."""
    verb: Fvd | InceptionScore | Jitter = tyro.cli(Verb, prog="python -m metrics", description=__doc__)
    try:
        if verb.common.json is not None and not verb.common.json.parent.is_dir():
            raise ValueError(
                f"{verb.common.json} cannot be written: {verb.common.json.parent} is no folder, make it first"
            )
        scores, made_with = measure(verb)
        for name, score in scores.items():
            interval = "" if score.low is None else f"  95 % [{score.low:.4g}, {score.high:.4g}]"
            print(f"{name:14} {score.value:10.4f}{interval}  n = {score.n}")
        if verb.common.json is not None:
            record = {"scores": {name: score._asdict() for name, score in scores.items()}, **made_with}
            _write(verb.common.json, json.dumps(record, indent=1, allow_nan=False) + "\n")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(USER_ERROR)


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)


if __name__ == "__main__":
    main()
