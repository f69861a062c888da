"""How a video changes from frame to frame: flicker, jitter, light, motion, drift of color.

All are plain arithmetic on gray levels in [0, 1], counted in integers up to the last division, so a still video scores
exactly 0. D_t = mean |x_{t+1} - x_t| and A_t = mean |x_{t+1} - 2 x_t + x_{t-1}| are means over pixels and channels.
Every measure is per frame of the rate given, is taken per video and averaged, with a 95 % t-interval over videos.

None of these alone is "lower is better": blur and stillness lower flicker and jitter. Read them next to real video's
own values and to each other; `metrics.temporal.seams` measures where clips meet.

Each docstring says what its measure is blind to; `metrics.temporal.flow_metrics` adds what optical flow can see.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int, UInt8

from metrics.intervals import mean_score
from metrics.score import Score
from metrics.videos.frames import check_videos, to_unit

Videos = UInt8[np.ndarray, "N T H W C"]
Video = UInt8[np.ndarray, "T H W C"]
LUMA = np.array([0.299, 0.587, 0.114])


def differences(video: Video, lag: int = 1) -> Float64[np.ndarray, " _"]:
    """Mean |x_{t+lag} - x_t| for every t; frame by frame, since a wide copy of a long video would be large."""
    pairs = zip(video, video[lag:], strict=False)
    return np.array([_mean_abs((b.astype(np.int16) - a)[None])[0] for a, b in pairs], dtype=np.float64)


def accelerations(video: Video) -> Float64[np.ndarray, " _"]:
    """A_t for t = 1 .. T-2: entry i belongs to the frame i + 1."""
    triples = zip(video, video[1:], video[2:], strict=False)
    bends = ((c.astype(np.int16) - 2 * b.astype(np.int16) + a)[None] for a, b, c in triples)
    return np.array([_mean_abs(bend)[0] for bend in bends], dtype=np.float64)


def _mean_abs(levels: Int[np.ndarray, "T H W C"]) -> Float64[np.ndarray, " T"]:
    return np.abs(levels).reshape(len(levels), -1).sum(axis=1, dtype=np.int64) / (levels[0].size * 255)


def flicker(videos: Videos) -> Score:
    """Mean D_t: 0 for a still video. Blind to the cause: motion, cuts and noise raise it as flicker does."""
    return _over_videos("flicker", videos, 2, lambda video: float(differences(video).mean()))


def temporal_flickering(videos: Videos) -> Score:
    """VBench's temporal flickering, (255 - mean absolute difference of neighbors in gray levels) / 255: 1 is still.

    1 - flicker, but in VBench's own arithmetic: float32, blue first. Blind as flicker is: VBench takes it of videos
    only whose flow is small, and a frozen video is perfect.

    Source: Huang et al. 2023, arXiv:2311.17982, temporal flickering.
    """

    def one(video: Video) -> float:
        return steadiness([gray_step(a, b) for a, b in pairwise(video)])

    return _over_videos("temporal_flickering", videos, 2, one)


def gray_step(a: UInt8[np.ndarray, "H W C"], b: UInt8[np.ndarray, "H W C"]) -> float:
    """VBench's mean absolute difference of two frames in gray levels: float32, blue first."""
    swapped = [np.ascontiguousarray(frame[..., ::-1]).astype(np.float32) for frame in (a, b)]
    return float(np.mean(np.abs(swapped[0] - swapped[1])))


def steadiness(steps: Sequence[float]) -> float:
    """`temporal_flickering` of one video from its steps in gray levels, averaged in float32 as there."""
    return (255.0 - float(np.mean(np.array(steps, dtype=np.float32)))) / 255.0


def jitter(videos: Videos) -> Score:
    """J = sum A_t / sum (D_{t-1} + D_t), in [0, 1]: how much of the change from frame to frame is taken back.

    0 for a still video and for a linear fade, sqrt(3)/2 = 0.866 for white noise, 1 for strict alternation. Rises with
    speed times fineness of texture, so compare like content. Blind to slow drift and to shake slower than three frames.
    """

    def one(video: Video) -> float:
        d = differences(video)
        change = float((d[:-1] + d[1:]).sum())
        return float(accelerations(video).sum()) / change if change >= 1e-6 * len(video) else 0.0

    return _over_videos("jitter", videos, 3, one)


def light_jitter(videos: Videos) -> Score:
    """Mean |second difference| of a frame's mean luma: 2 a for light that alternates by a, 0 for a steady fade.

    Blind to flicker that leaves the frame's mean alone, and raised by bright objects that enter or leave.
    """

    def one(video: Video) -> float:
        luma = video.mean(axis=(1, 2), dtype=np.float64) @ LUMA / 255
        return float(np.abs(np.diff(luma, n=2)).mean())

    return _over_videos("light_jitter", videos, 3, one)


def motion(videos: Videos, *, lag: int = 2) -> Score:
    """Amount of motion: the root mean square change over `lag` frames beyond the change over one.

    sqrt(max(0, mean (y_{t+lag} - y_t)^2 - mean (y_{t+1} - y_t)^2)), where y is x averaged over 3 x 3 pixels. Noise that
    is new in every frame changes as much over one frame as over `lag` and cancels, light that alternates does not
    change over an even lag at all; blur only lowers it. 0 for a still video, and for motion that is back where it was
    after `lag`.

    Raises:
        ValueError: frames of fewer than 3 x 3 pixels.
    """

    def one(video: Video) -> float:
        if min(video.shape[1:3]) < 3:
            raise ValueError(
                f"motion averages over 3 x 3 pixels: got {video.shape[1]} x {video.shape[2]}, give larger frames"
            )
        smooth: deque[Float64[np.ndarray, "_ _ C"]] = deque(maxlen=lag + 1)
        far, near = [], []
        for frame in video:
            smooth.append(_box3(to_unit(frame[None]))[0])
            if len(smooth) > 1:
                near.append(float(((smooth[-1] - smooth[-2]) ** 2).mean()))
            if len(smooth) > lag:
                far.append(float(((smooth[-1] - smooth[0]) ** 2).mean()))
        return max(0.0, float(np.mean(far) - np.mean(near))) ** 0.5

    return _over_videos("motion", videos, lag + 1, one)


def _box3(video: Float64[np.ndarray, "T H W C"]) -> Float64[np.ndarray, "T _ _ C"]:
    rows = video[:, 2:] + video[:, 1:-1] + video[:, :-2]
    return (rows[:, :, 2:] + rows[:, :, 1:-1] + rows[:, :, :-2]) / 9


def saturation_drift(videos: Videos) -> Score:
    """How much more colorful the last quarter of a video is than its first, [-1, 1]; below 0 it turns gray.

    Color is the largest less the smallest of a pixel's R, G and B, in [0, 1], averaged over the frame. Long videos
    that are made from their own last frames drift up until they burn out; 0 for a still video. Blind to drifts of hue
    and light, and to drift that turns back; content that changes drifts too, so compare with real video.
    """

    def one(video: Video) -> float:
        color = (video.max(axis=-1) - video.min(axis=-1)).mean(axis=(1, 2), dtype=np.float64) / 255
        part = max(1, len(color) // 4)
        return float(color[-part:].mean() - color[:part].mean())

    return _over_videos("saturation_drift", videos, 2, one)


def _over_videos(name: str, videos: Videos, frames: int, measure: Callable[[Video], float]) -> Score:
    check_videos(videos, frames=frames)
    return mean_score([measure(video) for video in videos], name)
