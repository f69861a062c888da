"""The instruments that are examined: metrics of single videos, and of sets, that need no weights but the shipped ones.

Measures of features of frames run on frames averaged to 8 x 8 pixels, in the place of DINO's and CLIP's features: what
their formulas see, not what those networks do.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.special import log_softmax

from metrics.distribution.frechet import GaussianFactor, frechet_distance
from metrics.distribution.inception_score import score_of_logits
from metrics.distribution.kvd import kernel_score
from metrics.distribution.prdc import neighborhood
from metrics.networks.features import extract
from metrics.networks.pocket import load_shipped
from metrics.temporal import frame_difference, minutes, seams
from metrics.temporal.flow_metrics import compute_flow_statistics, jitter_of, moves
from metrics.vbench.formulas import consistency
from vidrd.pocket.world import Scene, labels

Videos = UInt8[np.ndarray, "N T H W C"]
Video = UInt8[np.ndarray, "T H W C"]
HALF = 2  # windows of a video, for steps of color
PLAIN = (
    frame_difference.flicker,
    frame_difference.temporal_flickering,
    frame_difference.jitter,
    frame_difference.light_jitter,
    frame_difference.motion,
    frame_difference.saturation_drift,
)


class Gauge(NamedTuple):
    """One instrument."""

    naive: str  # the direction that a reader takes for better: "lower" or "higher"
    says: str


OF_VIDEOS: dict[str, Gauge] = {
    "flicker": Gauge("lower", "mean gray change"),
    "temporal_flickering": Gauge("higher", "VBench's 1 - flicker"),
    "jitter": Gauge("lower", "share of change that is taken back"),
    "light_jitter": Gauge("lower", "jumps of mean brightness"),
    "motion": Gauge("higher", "change over two frames beyond one"),
    "motion_jitter": Gauge("lower", "unevenness of flow"),
    "warp_error": Gauge("lower", "change that motion does not explain"),
    "dynamic_degree": Gauge("higher", "VBench's share of moving videos"),
    "duplicates": Gauge("lower", "share of held frames"),
    "mirror": Gauge("lower", "second half like the first backwards"),
    "seam_d": Gauge("lower", "change in the middle over that elsewhere, log2"),
    "saturation_drift": Gauge("lower", "color of the end less that of the start"),
    "consistency": Gauge("higher", "VBench's formula on 8 x 8 pixels"),
    "identity": Gauge("higher", "likeness to frame 0 on 8 x 8 pixels"),
    "similarity_gap_5": Gauge("higher", "likeness of frames 5 apart on 8 x 8 pixels"),
    "color_step": Gauge("lower", "change of mean color between halves"),
    "action": Gauge("higher", "log probability of the captioned action"),
    "colour": Gauge("higher", "log probability of the captioned color"),
}
ALIGNED = ("action", "colour")  # with the caption
OF_SETS: dict[str, Gauge] = {
    "fvd": Gauge("lower", "Fréchet distance of the pocket I3D"),
    "kvd": Gauge("lower", "kernel distance of the same features"),
    "precision": Gauge("higher", "share of videos among the real ones"),
    "recall": Gauge("higher", "share of real videos among them"),
    "coverage": Gauge("higher", "share of real videos with one near"),
    "is": Gauge("higher", "Inception Score of the pocket C3D"),
}
GAUGES = OF_VIDEOS | OF_SETS


class SetFeatures(NamedTuple):
    """What the shipped networks see in a set."""

    i3d: Float[np.ndarray, "N F"]
    logits: dict[str, Float[np.ndarray, "N _"]]
    actions: Float[np.ndarray, "N K"]


def look(videos: Videos) -> SetFeatures:
    """Features and logits of a set, computed once for all gauges."""
    features = extract(load_shipped("i3d"), videos)
    return SetFeatures(features.embedding, features.logits, extract(load_shipped("c3d"), videos).logits["action"])


def of_videos(
    videos: Videos, captions: Sequence[Scene] | None, seen: SetFeatures
) -> dict[str, Float[np.ndarray, " N"]]:
    """One value per video of every gauge of `OF_VIDEOS`, of those of alignment only where the captions are scenes."""
    rows = [_plain(video) | _by_flow(video) | _by_pixels(video) for video in videos]
    for number, scene in enumerate(captions or ()):
        for name in ALIGNED:
            logits = seen.logits[name][number].astype(np.float64)
            rows[number][name] = float(log_softmax(logits)[labels(scene)[name]])
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _plain(video: Video) -> dict[str, float]:
    one, middle = video[None], [len(video) // 2]
    return {measure.__name__: measure(one).value for measure in PLAIN} | {
        "duplicates": seams.duplicates(one).value,
        "mirror": seams.cycling(one, middle, kind="mirror").value,
        "seam_d": seams.seam_ratio(one, middle, signal="D").value,
    }


def _by_flow(video: Video) -> dict[str, float]:
    motion = compute_flow_statistics(video)
    return {
        "motion_jitter": jitter_of(motion),
        "warp_error": float(motion.warp.mean()),
        "dynamic_degree": moves(motion),
    }


def _by_pixels(video: Video) -> dict[str, float]:
    small = np.stack([cv2.resize(frame, (8, 8), interpolation=cv2.INTER_AREA) for frame in video])
    rows = small.reshape(len(video), -1).astype(np.float64) - 128
    return {
        "consistency": float(consistency(rows).mean()),
        "identity": float(minutes.identity_against_first(rows).mean()),
        "similarity_gap_5": minutes.similarity_against_gap(rows, 5),
        "color_step": minutes.color_step(minutes.frame_colors(video), len(video) // HALF),
    }


def of_set(real: SetFeatures, other: SetFeatures, chosen: np.ndarray, real_chosen: np.ndarray) -> dict[str, float]:
    """Every gauge of `OF_SETS` on some videos of each side."""
    x, y = real.i3d[real_chosen], other.i3d[chosen]
    near, dense = neighborhood(x, y, k=3), neighborhood(x, y, k=5)
    return {
        "fvd": frechet_distance(GaussianFactor.of(x), GaussianFactor.of(y)),
        "kvd": kernel_score(x, y).value,
        "precision": near.precision.value,
        "recall": near.recall.value,
        "coverage": dense.coverage.value,
        "is": score_of_logits(other.actions[chosen]).value,
    }
