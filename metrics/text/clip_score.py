"""How well videos fit their prompts by CLIP, under each of the definitions in use, which differ more than many models.

All start from the cosine of a frame's image feature and the prompt's text feature. Network, prompt prefix, factor,
clamp and order of means are what differs; a long prompt is cut at 77 tokens, and how many were cut is reported. Blind
to what CLIP's one vector does not hold: counting, order in time, who does what to whom.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from metrics.score import Score
from metrics.vbench.formulas import directions


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
    unit = directions(frames)
    return 100 * float((unit[1:] * unit[:-1]).sum(axis=1).mean())
