"""How a video changes from frame to frame: flicker, jitter, light, seams, held frames, cycling content, drift.

All are plain arithmetic on grey levels in [0, 1], counted in integers up to the last division, so a still video scores
exactly 0. D_t = mean |x_{t+1} - x_t| and A_t = mean |x_{t+1} - 2 x_t + x_{t-1}| are means over pixels and channels.
Every measure is per frame of the rate given, is taken per video and averaged, with a 95 % t-interval over videos.

None of these alone is "lower is better": blur and stillness lower flicker and jitter, a held frame lowers the seam
ratio. Read them beside real video's own values and beside each other.

`seams` are the indices of the first frames of each new clip, as the sampler reports them: never guessed from the
frames.

What each is blind to stands in its own lines; `metrics.motion` holds what optical flow adds.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int, UInt8

from metrics import motion as flows
from metrics.flow import Flow
from metrics.frames import check_videos, to_unit
from metrics.score import Score
from metrics.statistics import mean_score

Videos = UInt8[np.ndarray, "N T H W C"]
Video = UInt8[np.ndarray, "T H W C"]
Seams = Sequence[int] | Int[np.ndarray, " _"]
Signal = Literal["D", "A", "W", "dF"]

LUMA = np.array([0.299, 0.587, 0.114])
SLACK = {
    "D": 1 / 255,
    "A": 1 / 255,
    "W": 1 / 255,
    "dF": 0.05,
}  # what a signal must exceed to count: a grey level, or px
CENTRED = {"A", "dF"}  # signals whose entry i belongs to the frame i + 1; those of the others to the step i -> i + 1


def differences(video: Video, lag: int = 1) -> Float64[np.ndarray, " _"]:
    """Mean |x_{t+lag} - x_t| for every t."""
    wide = video.astype(np.int16)
    return _mean_abs(wide[lag:] - wide[:-lag])


def accelerations(video: Video) -> Float64[np.ndarray, " _"]:
    """A_t for t = 1 .. T-2: entry i belongs to the frame i + 1."""
    wide = video.astype(np.int16)
    return _mean_abs(wide[2:] - 2 * wide[1:-1] + wide[:-2])


def _mean_abs(levels: Int[np.ndarray, "T H W C"]) -> Float64[np.ndarray, " T"]:
    return np.abs(levels).reshape(len(levels), -1).sum(axis=1, dtype=np.int64) / (levels[0].size * 255)


def flicker(videos: Videos) -> Score:
    """Mean D_t: 0 for a still video. Blind to the cause: motion, cuts and noise raise it as flicker does."""
    return _over_videos(videos, 2, lambda video: float(differences(video).mean()))


def temporal_flickering(videos: Videos) -> Score:
    """VBench's temporal flickering, (255 - mean absolute difference of neighbours in grey levels) / 255: 1 is still.

    1 - flicker, but in VBench's own arithmetic: float32, blue first. Blind as flicker is: VBench takes it of videos
    only whose flow is small, and a frozen video is perfect.

    Source: Huang et al. 2023, arXiv:2311.17982, temporal flickering.
    """

    def one(video: Video) -> float:
        swapped = np.ascontiguousarray(video[..., ::-1])
        steps = [np.mean(np.abs(a.astype(np.float32) - b.astype(np.float32))) for a, b in pairwise(swapped)]
        return (255.0 - float(np.mean(np.array(steps)))) / 255.0

    return _over_videos(videos, 2, one)


def jitter(videos: Videos) -> Score:
    """J = sum A_t / sum (D_{t-1} + D_t), in [0, 1]: how much of the change from frame to frame is taken back.

    0 for a still video and for a linear fade, sqrt(3)/2 = 0.866 for white noise, 1 for strict alternation. Rises with
    speed times fineness of texture, so compare like content. Blind to slow drift and to shake slower than three frames.
    """

    def one(video: Video) -> float:
        d = differences(video)
        change = float((d[:-1] + d[1:]).sum())
        return float(accelerations(video).sum()) / change if change >= 1e-6 * len(video) else 0.0

    return _over_videos(videos, 3, one)


def light_jitter(videos: Videos) -> Score:
    """Mean |second difference| of a frame's mean luma: 2 a for light that alternates by a, 0 for a steady fade.

    Blind to flicker that leaves the frame's mean alone, and raised by bright objects that enter or leave.
    """

    def one(video: Video) -> float:
        luma = video.mean(axis=(1, 2), dtype=np.float64) @ LUMA / 255
        return float(np.abs(np.diff(luma, n=2)).mean())

    return _over_videos(videos, 3, one)


def motion(videos: Videos, *, lag: int = 2) -> Score:
    """Amount of motion: the root mean square change over `lag` frames beyond the change over one.

    sqrt(max(0, mean (y_{t+lag} - y_t)^2 - mean (y_{t+1} - y_t)^2)), where y is x averaged over 3 x 3 pixels. Noise that
    is new in every frame changes as much over one frame as over `lag` and cancels, light that alternates does not
    change over an even lag at all; blur only lowers it. 0 for a still video, and for motion that is back where it was
    after `lag`.
    """

    def one(video: Video) -> float:
        smooth = _box3(to_unit(video))
        far, near = ((smooth[step:] - smooth[:-step]) ** 2 for step in (lag, 1))
        return max(0.0, float(far.mean() - near.mean())) ** 0.5

    return _over_videos(videos, lag + 1, one)


def _box3(video: Float64[np.ndarray, "T H W C"]) -> Float64[np.ndarray, "T _ _ C"]:
    rows = video[:, 2:] + video[:, 1:-1] + video[:, :-2]
    return (rows[:, :, 2:] + rows[:, :, 1:-1] + rows[:, :, :-2]) / 9


def seam_ratio(
    videos: Videos,
    seams: Seams,
    *,
    signal: Signal = "D",
    flow: Flow = flows.CLASSICAL,
    absolute: bool = False,  # of each video the distance from 0, so that held frames and cuts do not cancel
) -> Score:
    """log2 of how much larger a signal is at the seams than elsewhere: 0 = no seam to be seen, 1 = twice as large.

    Per video: (mean over seams of the largest signal touching one + e) / (median of the others + e), e one grey level,
    or 0.05 pixels for dF. The signals: D; A; W, the warp error of `metrics.motion`; dF, the mean change of flow. D and
    W touch the seam k at the step k-1 -> k, A and dF at the frames k-1 and k. Below 0: the seam is stiller than the
    rest (a held or mirrored frame): see `duplicates` and `cycling`.

    Blind, D to motion that turns round and to steps of light in moving video, A to little in fast motion, W to jumps in
    noise, dF to light; so read all four.

    Raises:
        ValueError: seams outside 1 .. T-1, none, or so many that no frame is left to compare with.
    """
    check_videos(videos, frames=3)
    grid = _check_seams(seams, videos.shape[1])
    return ratio_of(_signals(videos, signal, flow), grid, signal, absolute=absolute)


def seam_phase(videos: Videos, seams: Seams, *, signal: Signal = "D", flow: Flow = flows.CLASSICAL) -> Score:
    """How rarely a wrong place for the seams looks as bad as the true one: small = the seams can be seen.

    The grid of seams is shifted by every offset short of a clip; the value is the share of all offsets (0 included)
    whose mean `seam_ratio` over the set is at least that of the true grid: a p-value by rank, 1/clip at best. Needs no
    threshold. For signals A and dF the two neighbours of the true grid, which look at one frame in common with it, are
    left out. Blind to what `seam_ratio` is, and to seams that show once in a while: it ranks their mean.

    Raises:
        ValueError: as `seam_ratio`; or seams that are not evenly spaced.
    """
    check_videos(videos, frames=3)
    return phase_of(_signals(videos, signal, flow), _check_seams(seams, videos.shape[1]), signal)


def ratio_of(
    signals: Float64[np.ndarray, "N S"], grid: Int[np.ndarray, " K"], signal: Signal, *, absolute: bool = False
) -> Score:
    """`seam_ratio` from the signal of every video."""
    ratios = _log_ratios(signals, grid, signal)
    return mean_score(np.abs(ratios) if absolute else ratios)


def phase_of(signals: Float64[np.ndarray, "N S"], grid: Int[np.ndarray, " K"], signal: Signal) -> Score:
    """`seam_phase` from the signal of every video."""
    frames = signals.shape[1] + (2 if signal in CENTRED else 1)
    spacing = np.diff(grid)
    if len(set(spacing)) > 1:
        raise ValueError(f"a phase test needs evenly spaced seams, {[int(seam) for seam in grid]} came")
    clip = int(spacing[0]) if len(spacing) else int(grid[0])
    levels = []
    for offset in range(clip):
        shifted = grid[grid + offset < frames] + offset
        if len(shifted) and not (signal in CENTRED and offset in (1, clip - 1)):
            levels.append(float(_log_ratios(signals, shifted, signal).mean()))
    return Score(float(np.mean([level >= levels[0] - 1e-12 for level in levels])), len(signals))


def duplicates(videos: Videos, seams: Seams | None = None, *, still: float = 0.25) -> Score:
    """Share of transitions that hold the frame: D_t at most `still` times the video's median D away from its seams.

    With `seams` only the transitions into a new clip are looked at; without, all of them. 1 for a still video. Blind to
    a frame that is held under fresh noise; real film that was sampled up to a higher rate holds frames too.

    Raises:
        ValueError: as `seam_ratio`.
    """
    check_videos(videos, frames=3)
    frames = videos.shape[1]
    grid = None if seams is None else _check_seams(seams, frames)

    def one(video: Video) -> float:
        d = differences(video)
        if grid is None:
            return float((d <= still * np.median(d)).mean())
        return float((d[grid - 1] <= still * np.median(np.delete(d, grid - 1))).mean())

    return _over_videos(videos, 3, one)


def cycling(
    videos: Videos,
    seams: Seams,
    *,
    kind: Literal["mirror", "repeat"] = "mirror",
    dropped: int = 0,  # frames each new clip lost at its start before the join (0 = clips were joined whole)
) -> Score:
    """How far content comes back from clip to clip: 1 = exactly, 0 = no nearer than any frames as far apart in time.

    `mirror`: a clip plays the one before backwards: x_{s+j} against x_{s-1-dropped-j} around every seam s, j running to
    the nearer end of the two clips. Compared with all pairs of the same lag that mirror about no seam.
    `repeat`: every second clip is alike: x_t against x_{t+2P}, P the spacing of the seams. Compared with pairs P apart.

    With m the mean distance (mean absolute difference) of the pairs and r that of the compared ones (averaged over the
    same lags): (r - m) / max(r, m), in [-1, 1]; below 0 the pairs are further apart than others (a cut). 0 for a still
    video. Real periodic motion scores too: read it beside real video's own value.

    Raises:
        ValueError: as `seam_ratio`; or videos too short to hold a pair to compare (`repeat` needs more than 2P frames).
    """
    check_videos(videos, frames=3)
    frames = videos.shape[1]
    pairs = _cycle_pairs(frames, _check_seams(seams, frames), kind, dropped)

    def one(video: Video) -> float:
        wide = video.astype(np.int16)
        near, others = 0.0, 0.0
        for mirrored, compared in pairs:
            near += float(_mean_abs(wide[mirrored[:, 1]] - wide[mirrored[:, 0]]).mean()) * len(mirrored)
            others += float(_mean_abs(wide[compared[:, 1]] - wide[compared[:, 0]]).mean()) * len(mirrored)
        largest = max(near, others)
        return (others - near) / largest if largest > 0 else 0.0

    return _over_videos(videos, 3, one)


def saturation_drift(videos: Videos) -> Score:
    """How much more colourful the last quarter of a video is than its first, [-1, 1]; below 0 it turns grey.

    Colour is the largest less the smallest of a pixel's R, G and B, in [0, 1], averaged over the frame. Long videos
    that are made from their own last frames drift up until they burn out; 0 for a still video. Blind to drifts of hue
    and light, and to drift that turns back; content that changes drifts too, so read it beside real video.
    """

    def one(video: Video) -> float:
        colour = (video.max(axis=-1) - video.min(axis=-1)).mean(axis=(1, 2), dtype=np.float64) / 255
        part = max(1, len(colour) // 4)
        return float(colour[-part:].mean() - colour[:part].mean())

    return _over_videos(videos, 2, one)


def _cycle_pairs(
    frames: int, grid: Int[np.ndarray, " S"], kind: str, dropped: int
) -> list[tuple[Int[np.ndarray, "P 2"], Int[np.ndarray, "Q 2"]]]:
    """Pairs of frames that cycling content would make alike, by lag, each with the pairs to compare them with."""
    if kind == "repeat":
        clip = int(np.diff(grid, prepend=0)[-1])
        if frames <= 2 * clip:
            raise ValueError(
                f"clips of {clip} frames repeat after {2 * clip}, {frames} frames came: give longer videos"
            )
        return [(_lagged(frames, 2 * clip), _lagged(frames, clip))]
    ends = [0, *grid.tolist(), frames]
    centres = 2 * grid - 1 - dropped  # of mirrored pairs, as the sum of their two indices
    mirrored: dict[int, list[tuple[int, int]]] = {}
    for before, seam, after in zip(ends, ends[1:], ends[2:], strict=False):
        for j in range(min(seam - dropped - before, after - seam)):
            mirrored.setdefault(2 * j + 1 + dropped, []).append((seam - 1 - dropped - j, seam + j))
    pairs = []
    for lag, found in sorted(mirrored.items()):
        others = _lagged(frames, lag)
        others = others[~np.isin(others.sum(axis=1), centres)]
        if len(others):
            pairs.append((np.array(found), others))
    if not pairs:
        raise ValueError(f"{frames} frames with seams at {grid.tolist()} leave no pair to compare: give longer videos")
    return pairs


def _lagged(frames: int, lag: int) -> Int[np.ndarray, "P 2"]:
    first = np.arange(frames - lag)
    return np.stack([first, first + lag], axis=1)


def _check_seams(seams: Seams, frames: int) -> Int[np.ndarray, " S"]:
    grid = np.unique(np.asarray(seams, dtype=np.int64))
    if len(grid) == 0 or grid[0] < 1 or grid[-1] >= frames:
        raise ValueError(
            f"seams are the first frames of new clips, in 1..{frames - 1} for {frames} frames; {grid.tolist()} came"
        )
    return grid


def _signals(videos: Videos, signal: Signal, flow: Flow) -> Float64[np.ndarray, "N _"]:
    match signal:
        case "D":
            return np.stack([differences(video) for video in videos])
        case "A":
            return np.stack([accelerations(video) for video in videos])
        case "W":
            return np.stack([flows.measure(video, flow).warp for video in videos])
        case "dF":
            return np.stack([flows.measure(video, flow).change for video in videos])


def _log_ratios(
    signals: Float64[np.ndarray, "N S"], grid: Int[np.ndarray, " K"], signal: Signal
) -> Float64[np.ndarray, " N"]:
    """log2 of the seam ratio of each video; entry i of D is the transition i -> i+1, of A the frame i + 1."""
    count, slack = signals.shape[1], SLACK[signal]
    reach = (2, 1) if signal in CENTRED else (1,)
    touching = [[seam - back for back in reach if 0 <= seam - back < count] for seam in grid]
    touching = [places for places in touching if places]
    others = np.setdiff1d(np.arange(count), [place for places in touching for place in places])
    if len(others) == 0 or not touching:
        raise ValueError(f"seams at {grid.tolist()} leave no frame to compare with: give longer clips")
    at_seams = np.mean([signals[:, places].max(axis=1) for places in touching], axis=0)
    return np.log2((at_seams + slack) / (np.median(signals[:, others], axis=1) + slack))


def _over_videos(videos: Videos, frames: int, measure: Callable[[Video], float]) -> Score:
    check_videos(videos, frames=frames)
    return mean_score([measure(video) for video in videos])
