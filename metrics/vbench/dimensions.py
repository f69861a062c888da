"""VBench's dimensions for anybody's videos: the files that each needs, what is gathered, and the score of that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from metrics.networks import vision_files as files
from metrics.networks.vision import (
    VisionFeatures,
    load_aesthetic,
    load_clip,
    load_dino,
    load_musiq,
    load_viclip,
    load_viclip_text,
)
from metrics.temporal.flow_metrics import VBENCH_FPS, step_of
from metrics.temporal.frame_difference import steadiness
from metrics.temporal.raft import SMALLEST, load_raft, padding
from metrics.text.prompts import Prompt, embed_prompts, find_tokenizer
from metrics.vbench import formulas
from metrics.vbench.collectors import (
    Collector,
    FrameRows,
    Interpolated,
    Interpolator,
    flow_steps,
    gray_steps,
    middle_clip,
)
from metrics.videos.read import VideoInfo
from metrics.videos.vision import ImagingMode
from metrics.weights.checkpoint import Checkpoint, find_checkpoint
from metrics.weights.errors import WeightsError

Rows = Float[np.ndarray, "K F"]
RAFT_FILES = Checkpoint("RAFT", ("raft-things.pth", "raft_large_C_T_V1-22a6c225.pth"))
UPDATES = 20  # of RAFT, in VBench
FREE = ("temporal_flickering",)  # dimensions without a network
CONSISTENCIES = ("subject_consistency", "background_consistency")
DIMENSIONS = tuple(formulas.LEADERBOARD)


@dataclass(frozen=True)
class Dimension:
    """One dimension, ready to measure videos."""

    name: str
    recipe: Mapping[str, object]  # all that decides what is gathered, beside the frames: part of the cache's key
    begin: Callable[[VideoInfo], Collector]
    score: Callable[[Rows, VideoInfo, str], float]  # of one video, by its name
    frames: int  # the fewest of a video
    check: Callable[[VideoInfo], None] = lambda info: None  # raises ValueError where a video cannot be measured

    def refuse(self, info: VideoInfo, name: str) -> str | None:
        """Why a video has no score, or None."""
        if info.frames < self.frames:
            return f"{name} has {info.frames} frames, {self.name} needs {self.frames}"
        try:
            self.check(info)
        except ValueError as error:
            return f"{name}: {error}"
        return None


@dataclass(frozen=True)
class Setting:
    """What all dimensions of one run share."""

    weights: Path | None  # a folder
    prompts: Mapping[str, Prompt] | None = None  # by the names of videos
    compat: bool = False  # as VBench does it, traps included
    imaging: ImagingMode = "longer"
    device: str = "cpu"
    batch: int = 8
    interpolator: Interpolator | None = None  # what motion smoothness compares with

    def file(self, checkpoint: Checkpoint) -> Path:
        """A network's file in the folder of weights.

        Raises:
            WeightsError: no folder, or nothing there.
        """
        if self.weights is None:
            raise WeightsError(f"{checkpoint.network} needs {checkpoint.files[0]}: give --weights FOLDER")
        return find_checkpoint(self.weights, checkpoint)


def load_dimension(name: str, setting: Setting) -> Dimension:
    """One dimension with its network.

    Raises:
        ValueError: no such dimension, or what it needs is missing or broken.
    """
    if name not in LOADERS:
        raise ValueError(f"VBench has no dimension {name!r} for one's own videos: it is one of {', '.join(DIMENSIONS)}")
    return LOADERS[name](setting)


def consistency_of(name: str, network: VisionFeatures) -> Dimension:
    """A consistency of any network of frames."""

    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        return float(formulas.consistency(rows).mean())

    return of_network(name, network, score, frames=2)


def of_network(
    name: str, network: VisionFeatures, score: Callable[[Rows, VideoInfo, str], float], *, frames: int = 1
) -> Dimension:
    """A dimension whose score is made of the features of every frame."""
    recipe = {"rows": "frames", "network": network.name, "weights": network.digest}
    return Dimension(name, recipe, lambda info: FrameRows(network), score, frames)


def _subject(setting: Setting) -> Dimension:
    network = load_dino(setting.file(files.DINO), device=setting.device, batch=setting.batch)
    return consistency_of("subject_consistency", network)


def _background(setting: Setting) -> Dimension:
    path = setting.file(files.CLIP_IMAGE["b32"])
    return consistency_of("background_consistency", load_clip(path, device=setting.device, batch=setting.batch))


def _flickering(setting: Setting) -> Dimension:
    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        return steadiness(rows[:, 0].tolist())

    return Dimension("temporal_flickering", {"rows": "gray steps"}, lambda info: gray_steps(), score, frames=2)


def _smoothness(setting: Setting) -> Dimension:
    interpolate = setting.interpolator
    if interpolate is None:
        raise WeightsError(
            "motion_smoothness needs AMT-S, whose code is not free for all uses and in no library: give an "
            "interpolator from Python, or read VBench's own result by --import"
        )
    label = getattr(interpolate, "name", None) or getattr(interpolate, "__name__", type(interpolate).__name__)
    recipe = {"rows": "interpolated", "interpolator": str(label)}

    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        return formulas.smoothness(rows[:, 0])

    return Dimension("motion_smoothness", recipe, lambda info: Interpolated(interpolate), score, frames=3)


def _dynamic(setting: Setting) -> Dimension:
    raft, compat = load_raft(setting.file(RAFT_FILES), device=setting.device, updates=UPDATES), setting.compat
    recipe = {"rows": "fastest flow", "network": raft.name, "compat": compat}

    def stride(info: VideoInfo) -> int:
        return 1 if info.fps is None else step_of(info.fps)

    def check(info: VideoInfo) -> None:
        left, right, top, bottom = padding(info.height, info.width)
        if compat:
            return
        if min(info.height + top + bottom, info.width + left + right) < SMALLEST:
            raise ValueError(f"RAFT needs {SMALLEST} pixels a side, got {info.height} x {info.width}")
        if info.frames <= stride(info):
            raise ValueError(f"one frame is left at {VBENCH_FPS:g} a second, motion needs two")

    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        return float(formulas.moves(rows[:, 0], info.height, info.width, compat=compat))

    def begin(info: VideoInfo) -> Collector:
        return flow_steps(raft, stride(info), compat=compat)

    return Dimension("dynamic_degree", recipe, begin, score, 1 if compat else 2, check)


def _aesthetic(setting: Setting) -> Dimension:
    clip, head = setting.file(files.CLIP_IMAGE["l14"]), setting.file(files.AESTHETIC)
    network = load_aesthetic(clip, head, device=setting.device, batch=setting.batch)
    return of_network("aesthetic_quality", network, lambda rows, info, video: float(rows.mean()) / 10)


def _imaging(setting: Setting) -> Dimension:
    network = load_musiq(setting.file(files.MUSIQ), setting.imaging, device=setting.device, batch=setting.batch)
    dimension = of_network("imaging_quality", network, lambda rows, info, video: float(rows.mean()) / 100)
    return replace(dimension, recipe={**dimension.recipe, "imaging": setting.imaging})


def _overall(setting: Setting) -> Dimension:
    if setting.prompts is None:
        raise ValueError("overall_consistency compares videos with their prompts: give --prompts FILE")
    path = setting.file(files.VICLIP_CLIP)
    network = load_viclip(path, device=setting.device)
    tower, _ = load_viclip_text(path)
    texts = embed_prompts(setting.prompts, tower, find_tokenizer(setting.weights))

    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        if video not in texts:
            raise ValueError(f"{video} has no prompt: add it to the file of prompts")
        unit = formulas.directions(np.stack([rows[0], texts[video]]))
        return float(unit[0] @ unit[1])

    recipe = {"rows": "middle 8", "network": network.name, "weights": network.digest}
    return Dimension("overall_consistency", recipe, partial(middle_clip, network), score, 1)


LOADERS: dict[str, Callable[[Setting], Dimension]] = {
    "subject_consistency": _subject,
    "background_consistency": _background,
    "temporal_flickering": _flickering,
    "motion_smoothness": _smoothness,
    "dynamic_degree": _dynamic,
    "aesthetic_quality": _aesthetic,
    "imaging_quality": _imaging,
    "overall_consistency": _overall,
}
