"""CLIP's and ViCLIP's definitions (`metrics.text.clip_score`) on folders of videos and a file of prompts."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from jaxtyping import Float, Float64

from metrics.evaluation.collectors import ChosenClips, FrameRows
from metrics.evaluation.measure import Collector, Measure, SideValues
from metrics.networks import vision_files as files
from metrics.networks.folder import WeightsFolder
from metrics.networks.vision import VisionFeatures, load_clip_text, load_viclip_text
from metrics.score import Score
from metrics.text.clip_score import clipscore, clipsim, cosines, frame_consistency, torchmetrics_clipscore
from metrics.text.prompts import Prompt, embed_prompts
from metrics.videos.read import VideoInfo
from metrics.videos.vision import middle_frames

PREFIX = "A photo depicts "  # of Hessel's CLIPScore
Texts = Mapping[str, Float[np.ndarray, " F"]]


def loaders(weights: WeightsFolder, prompts: Mapping[str, Prompt], size: str) -> dict[str, Callable[[], Measure]]:
    """A function for every definition, which loads what it needs and raises ValueError where it cannot."""
    network = partial(getattr, weights, f"clip_{size}")

    def texts(of: Mapping[str, Prompt]) -> Texts:
        tower, _ = load_clip_text(weights.file(files.CLIP_TEXT[size]), size)
        return embed_prompts(of, tower, weights.tokenizer)

    def prefixed() -> Mapping[str, Prompt]:
        if any(not isinstance(prompt, str) for prompt in prompts.values()):
            raise ValueError(f"its prompts begin with {PREFIX.strip()!r}: give texts, not token ids")
        return {name: f"{PREFIX}{prompt}" for name, prompt in prompts.items()}

    return {
        "clipsim": lambda: _of_text("clipsim", network(), texts(prompts), clipsim),
        "clipscore": lambda: _of_text("clipscore", network(), texts(prefixed()), clipscore),
        "frame_consistency": lambda: _of_frames(network()),
        "viclip": lambda: viclip_measure("viclip", weights.viclip, viclip_texts(weights, prompts)),
    }


def _of_frames(network: VisionFeatures) -> Measure:
    def score(rows: Float[np.ndarray, "T F"], info: VideoInfo, video: str) -> float:
        return frame_consistency(rows)

    return Measure("frame_consistency", network.recipe, lambda info: FrameRows(network.rows), score, 2)


def _of_text(
    name: str, network: VisionFeatures, texts: Texts, formula: Callable[[Float[np.ndarray, " T"]], float]
) -> Measure:
    def frames(rows: Float[np.ndarray, "T F"], info: VideoInfo, video: str) -> Float64[np.ndarray, " T"]:
        return cosines(rows, text_of(video, texts))

    def score(rows: Float[np.ndarray, "T F"], info: VideoInfo, video: str) -> float:
        return formula(frames(rows, info, video))

    return Measure(name, network.recipe, lambda info: FrameRows(network.rows), score, parts=frames)


def viclip_texts(weights: WeightsFolder, prompts: Mapping[str, Prompt]) -> Texts:
    """The features of prompts by ViCLIP's text tower.

    Raises:
        ValueError: its file or the tokenizer is missing.
    """
    tower, _ = load_viclip_text(weights.file(files.VICLIP_TEXT))
    return embed_prompts(prompts, tower, weights.tokenizer)


def viclip_measure(name: str, network: VisionFeatures, texts: Texts) -> Measure:
    """The cosine of ViCLIP's middle 8 frames and the prompt: VBench's overall consistency."""

    def begin(info: VideoInfo) -> Collector:
        return ChosenClips(network, [middle_frames(info.frames)])

    def score(rows: Float[np.ndarray, "1 F"], info: VideoInfo, video: str) -> float:
        return float(cosines(rows, text_of(video, texts))[0])

    return Measure(name, {**network.recipe, "rows": "middle 8"}, begin, score)


def text_of(video: str, texts: Texts) -> Float[np.ndarray, " F"]:
    """The text feature of a video's prompt.

    Raises:
        ValueError: it has none.
    """
    if video not in texts:
        raise ValueError(f"{video} has no prompt: add it to the file of prompts")
    return texts[video]


def scores_of(measured: SideValues) -> dict[str, Score]:
    """Means over videos with their intervals, and torchmetrics' score of the set."""
    scores = measured.means()
    if "clipsim" in measured.parts:
        scores["clipscore_torchmetrics"] = torchmetrics_clipscore(measured.parts["clipsim"])
    return scores
