"""Metrics by optical flow: uneven motion, change that motion does not explain, reversals, amount of motion.

Flows are in pixels per frame of the video as given, and means are taken over the frame without a border of 8 pixels
(an eighth of the side in frames under 64 pixels), where flow is a guess. All of it is blind where flow is: on plain
surfaces, at motion borders, in noise; report its name (`metrics.temporal.optical_flow`) with every number.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, UInt8

from metrics.intervals import mean_score
from metrics.score import Score
from metrics.temporal.optical_flow import Farneback, Flow, luma
from metrics.videos.frames import check_videos

Videos = UInt8[np.ndarray, "N T H W C"]
Video = UInt8[np.ndarray, "T H W C"]

VBENCH_FPS = 8.0  # frames per second at which its dynamic degree samples videos
STILL = 0.05  # pixels per frame: flow below it is rounding
BORDER = 8  # pixels
CLASSICAL = Farneback()


class FlowStatistics(NamedTuple):
    """One video's motion over time; entry t of all but `change` belongs to the step t -> t + 1."""

    speed: Float64[np.ndarray, " T"]  # mean |F_t|, pixels per frame
    fastest: Float64[np.ndarray, " T"]  # mean |F_t| of the fastest twentieth of the whole frame
    change: Float64[np.ndarray, " K"]  # mean |F_t - F_{t-1}|: entry i belongs to the frame i + 1
    alike: Float64[np.ndarray, " M"]  # likeness of F_i and F_{i+2} in [-1, 1]: 1 goes on, -1 turned round
    warp: Float64[np.ndarray, " T"]  # mean |y_{t+1} along the flow - y_t|, y luma in [0, 1], where flow can be trusted
    masked: Float64[np.ndarray, " T"]  # share of the frame where it cannot
    size: int  # the shorter side, pixels


def compute_flow_statistics(video: Video, flow: Flow = CLASSICAL) -> FlowStatistics:
    """All that the measures below need of one video, from one pass of the flow.

    A pixel's flow is trusted where the way there and back ends near its start: |f + b|^2 <= 0.01 (|f|^2 + |b|^2) + 0.5
    (Sundaram et al. 2010). Where a whole frame is masked, as at a cut, `warp` is taken over all of it: a cut does not
    score 0.
    """
    height, width = video.shape[1:3]
    rim = min(BORDER, height // 8, width // 8)
    inner = (slice(rim, height - rim), slice(rim, width - rim))
    top = max(1, int(0.05 * height * width))
    gray = luma(video)
    before: list[Float64[np.ndarray, "_ _ 2"]] = []  # the inner flows of the last two steps
    series: dict[str, list[float]] = {name: [] for name in ("speed", "fastest", "change", "alike", "warp", "masked")}
    for t, (forward, backward) in enumerate(flow(video)):
        lengths = np.linalg.norm(forward, axis=-1)
        inside = forward[inner].astype(np.float64)
        warp, masked = _warped(gray[t], gray[t + 1], forward, backward, inner)
        series["speed"].append(float(lengths[inner].mean(dtype=np.float64)))
        series["fastest"].append(float(np.partition(lengths.ravel(), -top)[-top:].mean(dtype=np.float64)))
        series["warp"].append(warp)
        series["masked"].append(masked)
        if before:
            series["change"].append(float(np.linalg.norm(inside - before[-1], axis=-1).mean()))
        if len(before) == 2:
            series["alike"].append(_likeness(before[0], inside))
        before = [*before[-1:], inside]
    return FlowStatistics(**{name: np.array(values) for name, values in series.items()}, size=min(height, width))


def _warped(
    here: UInt8[np.ndarray, "H W"],
    there: UInt8[np.ndarray, "H W"],
    forward: Float32[np.ndarray, "H W 2"],
    backward: Float32[np.ndarray, "H W 2"],
    inner: tuple[slice, slice],
) -> tuple[float, float]:
    rows, columns = np.indices(here.shape[:2], dtype=np.float32)
    x, y = columns + forward[..., 0], rows + forward[..., 1]
    fetched = cv2.remap(there.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    back = cv2.remap(backward, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    missed = ((forward + back) ** 2).sum(axis=-1)
    allowed = 0.01 * ((forward**2).sum(axis=-1) + (back**2).sum(axis=-1)) + 0.5
    trusted: Bool[np.ndarray, "H W"] = (missed <= allowed)[inner]
    error = np.abs(fetched - here)[inner].astype(np.float64) / 255
    share = 1 - float(trusted.mean())
    return float(error[trusted].mean() if trusted.any() else error.mean()), share


def _likeness(a: Float64[np.ndarray, "H W 2"], b: Float64[np.ndarray, "H W 2"]) -> float:
    """Cosine of two flow fields, taken as long vectors; 0 where nothing moves."""
    scale = np.sqrt((a**2).sum() * (b**2).sum()) + STILL**2 * a.shape[0] * a.shape[1]
    return float((a * b).sum() / scale)


def motion_jitter(videos: Videos, *, flow: Flow = CLASSICAL) -> Score:
    """JF = sum |F_t - F_{t-1}| / sum (|F_t| + |F_{t-1}| + 0.05 px), in [0, 1]: how uneven motion is.

    Near 0 for motion of constant speed, whatever the texture; near 1 where every step is taken back. Blind to changes
    of light and to texture that flickers in place; textureless areas and noise (0.76) read as uneven motion.
    """
    return _over_videos("motion_jitter", videos, 3, flow, jitter_of)


def jitter_of(motion: FlowStatistics) -> float:
    """`motion_jitter` of one video."""
    scale = float((motion.speed[1:] + motion.speed[:-1] + STILL).sum())
    return float(motion.change.sum()) / scale


def warp_error(videos: Videos, *, flow: Flow = CLASSICAL) -> Score:
    """Mean change of luma along the motion, where flow can be trusted: what motion does not explain.

    0 for rigid motion and stillness, the step itself for light that steps. Blind to whatever the flow cannot match,
    which is masked: read it with `masked_share`. A flow that follows an artifact explains it away.

    Source: Lai et al. 2018, arXiv:1808.00449, with mean absolute differences and the video's own flow.
    """
    return _over_videos("warp_error", videos, 2, flow, lambda motion: float(motion.warp.mean()))


def masked_share(videos: Videos, *, flow: Flow = CLASSICAL) -> Score:
    """Share of all pixels where flow cannot be trusted and `warp_error` is not measured: covered, new, or torn."""
    return _over_videos("masked_share", videos, 2, flow, lambda motion: float(motion.masked.mean()))


def dynamic_degree(videos: Videos, *, fps: float = VBENCH_FPS, flow: Flow = CLASSICAL) -> Score:
    """Share of the videos that move: the fastest twentieth of the frame exceeds 6/256 of the shorter side often enough.

    Often enough is a quarter as many steps as there are frames. VBench's rule, which there runs on RAFT: of videos of
    `fps` frames per second every round(fps / 8)th frame counts, and below 8 per second the bar rises by 8 / fps. Here
    at least one step must be fast, where VBench lets videos of two frames pass. Blind to slow motion, and to whether
    the prompt asked for what moves; noise and cuts move.

    Source: Huang et al. 2023, arXiv:2311.17982, dynamic degree, and its code of 2025 (11abda97).
    """
    sampled = videos[:, :: step_of(fps, videos.shape[1])]
    return _over_videos("dynamic_degree", sampled, 2, flow, lambda motion: moves(motion, fps))


def step_of(fps: float, frames: int) -> int:
    """The step between the frames that VBench's dynamic degree samples at this rate; two of a short video at least."""
    return max(1, min(round(fps / VBENCH_FPS), frames - 1))


def moves(motion: FlowStatistics, fps: float = VBENCH_FPS) -> float:
    """1 where one video counts as dynamic, else 0; its frames are those that `step_of` leaves."""
    bar = max(1.0, VBENCH_FPS / fps) * 6 * motion.size / 256
    frames = len(motion.fastest) + 1
    return float(int((motion.fastest > bar).sum()) >= max(1, round(4 * frames / 16)))


def boomerang(videos: Videos, seams: Sequence[int] | Int[np.ndarray, " _"], *, flow: Flow = CLASSICAL) -> Score:
    """How far motion turns round at the seams: 0 as elsewhere in the video, 1 exactly reversed, [-1, 1].

    Half of the difference between the likeness of flow two steps apart elsewhere (the median) and across the seams (the
    mean over them): the step into the new clip itself, where a frame may be held, is jumped over. 0 for still video.
    Blind to reversals away from the seams, and to a world that looks alike in both directions of time.

    Raises:
        ValueError: seams outside 1 .. T-1 or none, or videos too short to compare with.
    """
    check_videos(videos, frames=4)
    grid = np.unique(np.asarray(seams, dtype=np.int64))
    return mean_score([turn_of(compute_flow_statistics(video, flow), grid) for video in videos], "boomerang")


def turn_of(motion: FlowStatistics, grid: Int[np.ndarray, " S"]) -> float:
    """`boomerang` of one video.

    Raises:
        ValueError: as `boomerang`.
    """
    frames = len(motion.speed) + 1
    if len(grid) == 0 or grid[0] < 1 or grid[-1] >= frames:
        raise ValueError(
            f"seams are the first frames of new clips, in 1..{frames - 1} for {frames} frames: got {grid.tolist()}"
        )
    across = [k - 2 for k in grid.tolist() if 2 <= k < len(motion.alike) + 2]
    around = {place for k in grid.tolist() for place in (k - 3, k - 2, k - 1)}
    others = [place for place in range(len(motion.alike)) if place not in around]
    if not across or not others:
        raise ValueError(f"seams at {grid.tolist()} leave no motion to compare with: give longer clips")
    return float(np.median(motion.alike[others]) - np.mean(motion.alike[across])) / 2


def _over_videos(name: str, videos: Videos, frames: int, flow: Flow, one: Callable[[FlowStatistics], float]) -> Score:
    check_videos(videos, frames=frames)
    return mean_score([one(compute_flow_statistics(video, flow)) for video in videos], name)
