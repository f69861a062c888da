"""How well videos fit their prompts by CLIP, under each of the definitions in use, which differ more than many models.

All start from the cosine of a frame's image feature and the prompt's text feature. Network, prompt prefix, factor,
clamp and order of means are what differs; a long prompt is cut at 77 tokens, and how many were cut is reported. Blind
to what CLIP's one vector does not hold: counting, order in time, who does what to whom.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Float64

from metrics.evaluation.collectors import ChosenClip, FrameRows
from metrics.evaluation.measure import Collector, Measure, Measured
from metrics.intervals import mean_score
from metrics.networks import vision_files as files
from metrics.networks.folder import WeightsFolder
from metrics.networks.vision import VisionFeatures, load_clip_text, load_viclip_text
from metrics.score import Score
from metrics.text.prompts import Prompt, embed_prompts
from metrics.videos.read import VideoInfo
from metrics.videos.vision import middle_frames

PREFIX = "A photo depicts "  # of Hessel's CLIPScore
Texts = Mapping[str, Float[np.ndarray, " F"]]


def cosines(frames: Float[np.ndarray, "T F"], text: Float[np.ndarray, " F"]) -> Float64[np.ndarray, " T"]:
    """Cosine of every frame with a text: the CLIP score per frame."""
    wide, other = frames.astype(np.float64), text.astype(np.float64)
    return wide @ other / (np.linalg.norm(wide, axis=1) * np.linalg.norm(other))


def clipsim(of_frames: Float[np.ndarray, " T"]) -> float:
    """CLIPSIM of a video: the mean cosine of its frames, negative ones too.

    Source: Wu et al. 2021, arXiv:2104.14806; ViT-B/32 in the tables of Make-A-Video and its like.
    """
    return float(np.mean(of_frames, dtype=np.float64))


def clipscore(of_frames: Float[np.ndarray, " T"]) -> float:
    """Hessel's CLIPScore, 2.5 max(cos, 0), averaged over frames; the prompt begins with "A photo depicts ".

    Source: Hessel et al. 2021, arXiv:2104.08718.
    """
    return float(2.5 * np.maximum(of_frames, 0).mean(dtype=np.float64))


def torchmetrics_clipscore(videos: Sequence[Float[np.ndarray, " _"]]) -> Score:
    """torchmetrics' CLIPScore of a set: 100 times the mean over all frames of all videos, clamped at 0 after the mean.

    Long videos weigh more; n counts videos.
    """
    every = np.concatenate(list(videos))
    return Score(max(100 * float(every.mean(dtype=np.float64)), 0.0), len(videos))


def clip_ratio(generated: Score, real: Score) -> Score:
    """CLIP-RM: CLIPSIM of generated videos over that of real ones under the same prompts.

    Raises:
        ValueError: real videos without a positive CLIPSIM.
    """
    if real.value <= 0:
        raise ValueError(f"CLIP-RM divides by real video's CLIPSIM: got {real.value:.4g}, check videos and prompts")
    return Score(generated.value / real.value, generated.n)


def frame_consistency(frames: Float[np.ndarray, "T F"]) -> float:
    """100 times the mean cosine of neighboring frames, as papers on video editing print it: not about text at all.

    Raises:
        ValueError: a video of one frame.
    """
    if len(frames) < 2:
        raise ValueError("frame consistency compares neighbors: got a video of one frame, give at least two")
    unit = frames / np.linalg.norm(frames.astype(np.float64), axis=1, keepdims=True)
    return 100 * float((unit[1:] * unit[:-1]).sum(axis=1).mean())


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
        "frame_consistency": lambda: _of_frames("frame_consistency", network()),
        "viclip": lambda: _of_clip(weights, prompts),
    }


def _of_frames(name: str, network: VisionFeatures) -> Measure:
    def score(rows: Float[np.ndarray, "T F"], info: VideoInfo, video: str) -> float:
        return frame_consistency(rows)

    return Measure(name, network.recipe, lambda info: FrameRows(network.rows), score, 2)


def _of_text(
    name: str, network: VisionFeatures, texts: Texts, formula: Callable[[Float[np.ndarray, " T"]], float]
) -> Measure:
    def frames(rows: Float[np.ndarray, "T F"], info: VideoInfo, video: str) -> Float64[np.ndarray, " T"]:
        return cosines(rows, text_of(video, texts))

    def score(rows: Float[np.ndarray, "T F"], info: VideoInfo, video: str) -> float:
        return formula(frames(rows, info, video))

    return Measure(name, network.recipe, lambda info: FrameRows(network.rows), score, parts=frames)


def _of_clip(weights: WeightsFolder, prompts: Mapping[str, Prompt]) -> Measure:
    network = weights.viclip
    tower, _ = load_viclip_text(weights.file(files.VICLIP_TEXT))
    return viclip_measure("viclip", network, embed_prompts(prompts, tower, weights.tokenizer))


def viclip_measure(name: str, network: VisionFeatures, texts: Texts) -> Measure:
    """The cosine of ViCLIP's middle 8 frames and the prompt: VBench's overall consistency."""

    def begin(info: VideoInfo) -> Collector:
        return ChosenClip(network, middle_frames(info.frames))

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


def scores_of(measured: Measured) -> dict[str, Score]:
    """Means over videos with their intervals, and torchmetrics' score of the set."""
    scores = {name: mean_score(values) for name, values in measured.values.items()}
    if "clipsim" in measured.parts:
        scores["clipscore_torchmetrics"] = torchmetrics_clipscore(measured.parts["clipsim"])
    return scores
