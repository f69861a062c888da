"""VBench's formulas on features and numbers of frames, and its leaderboard's scale; no network, no video.

Source: Huang et al. 2023, arXiv:2311.17982, and its code of 2025 (Vchitect/VBench 45e79ec). `compat=True` repeats what
that code does where this project does otherwise.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from metrics.intervals import assign_groups, jackknife_interval, within_range
from metrics.score import Score

RATE = 8.0  # frames per second that dynamic degree samples
# Dimension -> the raw values that the leaderboard maps to 0 and 1.
LEADERBOARD = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.706, 0.9975),
    "dynamic_degree": (0.0, 1.0),
    "aesthetic_quality": (0.0, 1.0),
    "imaging_quality": (0.0, 1.0),
    "overall_consistency": (0.0, 0.364),
}


def leaderboard(dimension: str, score: Score) -> Score:
    """A raw score on the leaderboard's scale, (x - least) / (most - least), with its interval; it is not clipped."""
    least, most = LEADERBOARD[dimension]
    value, low, high = (
        None if x is None else (x - least) / (most - least) for x in (score.value, score.low, score.high)
    )
    assert value is not None
    return Score(value, score.n, low, high)


def consistency(features: Float[np.ndarray, "T F"]) -> Float64[np.ndarray, " S"]:
    """Per frame from the second on: mean of its cosines with the frame before and with the first, negative ones as 0.

    1 for a still video. Blind to all pairs but these two; near 1 for most videos; a frozen video is best.

    Raises:
        ValueError: fewer than two frames, of which VBench's own code ends with a division by zero.
    """
    if len(features) < 2:
        raise ValueError("consistency compares frames: got a video of one frame, give at least two")
    unit = directions(features)
    before, first = (unit[1:] * unit[:-1]).sum(axis=1), unit[1:] @ unit[0]
    return (np.maximum(before, 0) + np.maximum(first, 0)) / 2


def directions(features: Float[np.ndarray, "T F"]) -> Float64[np.ndarray, "T F"]:
    """Features at length 1, in float64."""
    wide = features.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def pooled(videos: Sequence[Float[np.ndarray, " _"]]) -> Score:
    """The mean over all frames of all videos, so that long videos weigh more; n counts videos.

    VBench's set score of the two consistencies in one process. The interval leaves groups of videos out in turn.
    """
    sums = np.array([float(np.sum(video)) for video in videos])
    counts = np.array([len(video) for video in videos])
    value = float(sums.sum() / counts.sum())
    if len(videos) < 2:
        return Score(value, len(videos))
    group = assign_groups(np.arange(len(videos)))
    kept = [group != out for out in range(group.max() + 1)]
    rest = [float(sums[these].sum() / counts[these].sum()) for these in kept]
    low, high = within_range("subject_consistency", *jackknife_interval(value, [rest]))
    return Score(value, len(videos), low, high, (rest,))


def frame_step(fps: float) -> int:
    """The step between the frames that dynamic degree samples: some 8 a second, halves rounded to even."""
    return max(1, round(fps / RATE))


def fastest(flow: Float[np.ndarray, "H W 2"]) -> float:
    """Mean length of the fastest twentieth of a flow, pixels."""
    lengths = np.linalg.norm(flow, axis=-1).ravel()
    top = int(0.05 * lengths.size)
    return float(np.partition(lengths, -top)[-top:].mean(dtype=np.float64)) if top else float(lengths.max())


def moves(steps: Float[np.ndarray, " S"], height: int, width: int, *, compat: bool = False) -> bool:
    """Whether a video counts as dynamic: enough of its steps exceed 6/256 of the shorter side.

    Enough is round(n / 4) of the n - 1 steps between n sampled frames, and here at least one. `compat=True` lets it be
    none: then a video of two frames always moves, and one of a single frame never does.

    Raises:
        ValueError: no step, or a flow that is not a number, which VBench counts as still.
    """
    if not compat and (len(steps) == 0 or not np.isfinite(steps).all()):
        fault = "no step" if len(steps) == 0 else "a flow that is not a number"
        raise ValueError(f"motion is seen between frames by their flow: got {fault}, give longer or larger videos")
    enough = round(4 * (len(steps) + 1) / 16)
    if not compat:
        enough = max(1, enough)
    fast = int((np.asarray(steps) > 6 * min(height, width) / 256).sum())
    return len(steps) > 0 and fast >= enough


def smoothness(differences: Float[np.ndarray, " P"]) -> float:
    """(255 - mean absolute difference of interpolated and true frames, in gray levels) / 255.

    Raises:
        ValueError: no pair: a video of fewer than three frames.
    """
    if len(differences) == 0:
        raise ValueError("smoothness compares a frame with its two neighbors: give videos of at least three frames")
    return (255.0 - float(np.mean(differences))) / 255.0
