"""VBench's dimensions for anybody's videos: the files that each needs, what is gathered, and the score of that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float

from metrics.evaluation.collectors import FrameRows
from metrics.evaluation.measure import Collector, Measure
from metrics.networks.folder import WeightsFolder
from metrics.networks.vision import VisionFeatures
from metrics.temporal.frame_difference import steadiness
from metrics.temporal.raft import SMALLEST, load_raft
from metrics.text.alignment import viclip_measure, viclip_texts
from metrics.text.prompts import Prompt
from metrics.vbench import formulas
from metrics.vbench.collectors import InterpolationGap, Interpolator, flow_steps, gray_steps, padded_side
from metrics.vbench.long import lengthen
from metrics.videos.read import VideoInfo
from metrics.weights.checkpoint import Checkpoint
from metrics.weights.errors import WeightsError

Rows = Float[np.ndarray, "K F"]
RAFT_FILES = Checkpoint("RAFT", ("raft-things.pth", "raft_large_C_T_V1-22a6c225.pth"))
UPDATES = 20  # of RAFT, in VBench


@dataclass(frozen=True)
class Setting:
    """What all dimensions of one run share."""

    weights: WeightsFolder
    prompts: Mapping[str, Prompt] | None = None  # by the names of videos
    compat: bool = False  # as VBench does it, traps included
    interpolator: Interpolator | None = None  # what motion smoothness compares with
    long: bool = False  # VBench-Long: the mean over clips of 2 seconds


def loaders(setting: Setting) -> dict[str, Callable[[], Measure]]:
    """A function for every dimension of one's own videos, which loads what it needs, or raises ValueError."""

    def loaded(load: Callable[[Setting], Measure]) -> Measure:
        return lengthen(load(setting)) if setting.long else load(setting)

    return {name: partial(loaded, load) for name, load in LOADERS.items()}


def consistency_of(name: str, network: VisionFeatures) -> Measure:
    """A consistency of any network of frames."""

    def frames(rows: Rows, info: VideoInfo, video: str) -> Float[np.ndarray, " S"]:
        return formulas.consistency(rows)

    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        return float(formulas.consistency(rows).mean())

    return replace(_of_network(name, network, score), frames=2, parts=frames)


def _of_network(name: str, network: VisionFeatures, score: Callable[[Rows, VideoInfo, str], float]) -> Measure:
    return Measure(name, network.recipe, lambda info: FrameRows(network.rows), score)


def _subject(setting: Setting) -> Measure:
    return consistency_of("subject_consistency", setting.weights.dino)


def _background(setting: Setting) -> Measure:
    return consistency_of("background_consistency", setting.weights.clip_b32)


def _flickering(setting: Setting) -> Measure:
    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        return steadiness(rows[:, 0].tolist())

    return Measure("temporal_flickering", {"rows": "gray steps"}, lambda info: gray_steps(), score, frames=2)


def _smoothness(setting: Setting) -> Measure:
    interpolate = setting.interpolator
    if interpolate is None:
        raise WeightsError(
            "motion_smoothness needs AMT-S, which only VBench's own package has, and that needs numpy 1 and "
            "transformers 4.33: give an interpolator from Python, or read VBench's own result by --import"
        )
    label = getattr(interpolate, "name", None) or getattr(interpolate, "__name__", type(interpolate).__name__)
    recipe = {"rows": "interpolated", "interpolator": str(label)}

    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        return formulas.smoothness(rows[:, 0])

    return Measure("motion_smoothness", recipe, lambda info: InterpolationGap(interpolate), score, frames=3)


def _dynamic(setting: Setting) -> Measure:
    raft = load_raft(setting.weights.file(RAFT_FILES), device=setting.weights.device, updates=UPDATES)
    compat = setting.compat
    recipe = {"rows": "fastest flow", "network": raft.name, "compat": compat}

    def stride(info: VideoInfo) -> int:
        return 1 if info.fps is None else formulas.frame_step(info.fps)

    def check(info: VideoInfo) -> None:
        if compat:
            return
        if padded_side(info.height, info.width) < SMALLEST:
            raise ValueError(f"RAFT needs {SMALLEST} pixels a side, got {info.height} x {info.width}")
        if info.frames <= stride(info):
            raise ValueError(f"one frame is left at {formulas.RATE:g} a second, motion needs two")

    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        return float(formulas.moves(rows[:, 0], info.height, info.width, compat=compat))

    def begin(info: VideoInfo) -> Collector:
        return flow_steps(raft, stride(info), compat=compat)

    return Measure("dynamic_degree", recipe, begin, score, 1 if compat else 2, check)


def _aesthetic(setting: Setting) -> Measure:
    return _of_network(
        "aesthetic_quality", setting.weights.aesthetic, lambda rows, info, video: float(rows.mean()) / 10
    )


def _imaging(setting: Setting) -> Measure:
    return _of_network("imaging_quality", setting.weights.musiq, lambda rows, info, video: float(rows.mean()) / 100)


def _overall(setting: Setting) -> Measure:
    if setting.prompts is None:
        raise ValueError("overall_consistency compares videos with their prompts: give --prompts FILE")
    texts = viclip_texts(setting.weights, setting.prompts)
    return viclip_measure("overall_consistency", setting.weights.viclip, texts)


LOADERS: dict[str, Callable[[Setting], Measure]] = {
    "subject_consistency": _subject,
    "background_consistency": _background,
    "temporal_flickering": _flickering,
    "motion_smoothness": _smoothness,
    "dynamic_degree": _dynamic,
    "aesthetic_quality": _aesthetic,
    "imaging_quality": _imaging,
    "overall_consistency": _overall,
}
