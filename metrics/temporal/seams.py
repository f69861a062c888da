"""Faults where two clips meet: visible seams, held frames, content that comes back from clip to clip.

`seams` are the indices of the first frames of each new clip, as the sampler reports them: never guessed from
the frames. Every measure is taken per video and averaged, with a 95 % t-interval over videos. Read them next
to real video's own values: a held frame lowers the seam ratio."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

from metrics.intervals import mean_score
from metrics.score import Score
from metrics.temporal import flow_metrics as flows
from metrics.temporal.frame_difference import Video, Videos, _mean_abs, _over_videos, accelerations, differences
from metrics.temporal.optical_flow import Flow
from metrics.videos.frames import check_videos

Seams = Sequence[int] | Int[np.ndarray, " _"]
Signal = Literal["D", "A", "W", "dF"]
SLACK = {
    "D": 1 / 255,
    "A": 1 / 255,
    "W": 1 / 255,
    "dF": 0.05,
}  # what a signal must exceed to count: a gray level, or px
CENTERED = {"A", "dF"}  # signals whose entry i belongs to the frame i + 1; those of the others to the step i -> i + 1


def seam_ratio(
    videos: Videos,
    seams: Seams,
    *,
    signal: Signal = "D",
    flow: Flow = flows.CLASSICAL,
    absolute: bool = False,  # of each video the distance from 0, so that held frames and cuts do not cancel
) -> Score:
    """log2 of how much larger a signal is at the seams than elsewhere: 0 = no visible seam, 1 = twice as large.

    Per video: (mean over seams of the largest signal touching one + e) / (median of the others + e), e one gray level,
    or 0.05 pixels for dF. The signals: D; A; W, the warp error of `metrics.temporal.flow_metrics`; dF, the mean change
    of flow. D and W touch the seam k at the step k-1 -> k, A and dF at the frames k-1 and k. Below 0: the seam is
    stiller than the rest (a held or mirrored frame): see `duplicates` and `cycling`.

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
    threshold. For signals A and dF the two neighbors of the true grid, which share a frame with it, are left
    out. Blind to what `seam_ratio` is, and to seams that show once in a while: it ranks their mean.

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
    return mean_score(np.abs(ratios), "absolute_seam_ratio") if absolute else mean_score(ratios)


def phase_of(signals: Float64[np.ndarray, "N S"], grid: Int[np.ndarray, " K"], signal: Signal) -> Score:
    """`seam_phase` from the signal of every video."""
    frames = signals.shape[1] + (2 if signal in CENTERED else 1)
    clip = spacing_of(grid)
    levels = []
    for offset in range(clip):
        shifted = grid[grid + offset < frames] + offset
        if len(shifted) and not (signal in CENTERED and offset in (1, clip - 1)):
            levels.append(float(_log_ratios(signals, shifted, signal).mean()))
    return Score(float(np.mean([level >= levels[0] - 1e-12 for level in levels])), len(signals))


def duplicates(videos: Videos, seams: Seams | None = None, *, still: float = 0.25) -> Score:
    """Share of transitions that hold the frame: D_t at most `still` times the video's median D away from its seams.

    With `seams` only the transitions into a new clip count; without, all of them. 1 for a still video. Blind to
    a frame that is held under fresh noise; real video that was converted to a higher frame rate holds frames too.

    Raises:
        ValueError: as `seam_ratio`.
    """
    check_videos(videos, frames=3)
    frames = videos.shape[1]
    grid = None if seams is None else _check_seams(seams, frames)
    if grid is not None and len(grid) == frames - 1:
        raise ValueError(f"seams at {grid.tolist()} leave no frame to compare with: give longer clips")

    def one(video: Video) -> float:
        d = differences(video)
        if grid is None:
            return float((d <= still * np.median(d)).mean())
        return float((d[grid - 1] <= still * np.median(np.delete(d, grid - 1))).mean())

    return _over_videos("duplicates", videos, 3, one)


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
    video. Real periodic motion scores too: compare with real video's own value.

    Raises:
        ValueError: as `seam_ratio`; or videos too short to hold a pair to compare (`repeat` needs more than 2P frames),
            or, for `repeat`, seams that are not evenly spaced.
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

    return _over_videos("cycling", videos, 3, one)


def _cycle_pairs(
    frames: int, grid: Int[np.ndarray, " S"], kind: str, dropped: int
) -> list[tuple[Int[np.ndarray, "P 2"], Int[np.ndarray, "Q 2"]]]:
    """Pairs of frames that cycling content would make alike, by lag, each with the pairs to compare them with."""
    if kind == "repeat":
        clip = spacing_of(grid)
        if frames <= 2 * clip:
            raise ValueError(f"clips of {clip} frames repeat after {2 * clip}: got {frames} frames, give longer videos")
        return [(_lagged(frames, 2 * clip), _lagged(frames, clip))]
    ends = [0, *grid.tolist(), frames]
    centres = 2 * grid - 1 - dropped  # of mirrored pairs, as the sum of their two indices
    mirrored: dict[int, list[tuple[int, int]]] = {}
    for before, seam, after in zip(ends, ends[1:], ends[2:], strict=False):
        for j in range(min(seam - dropped - before, after - seam)):
            mirrored.setdefault(2 * j + 1 + dropped, []).append((seam - 1 - dropped - j, seam + j))
    pairs = []
    for lag, of_lag in sorted(mirrored.items()):
        others = _lagged(frames, lag)
        others = others[~np.isin(others.sum(axis=1), centres)]
        if len(others):
            pairs.append((np.array(of_lag), others))
    if not pairs:
        raise ValueError(f"{frames} frames with seams at {grid.tolist()} leave no pair to compare: give longer videos")
    return pairs


def spacing_of(grid: Int[np.ndarray, " S"]) -> int:
    """Frames from seam to seam, or to the only one.

    Raises:
        ValueError: seams that are not evenly spaced.
    """
    spacing = np.unique(np.diff(grid)) if len(grid) > 1 else grid
    if len(spacing) > 1:
        raise ValueError(f"phase and repeat need evenly spaced seams: got {grid.tolist()}")
    return int(spacing[0])


def _lagged(frames: int, lag: int) -> Int[np.ndarray, "P 2"]:
    first = np.arange(frames - lag)
    return np.stack([first, first + lag], axis=1)


def _check_seams(seams: Seams, frames: int) -> Int[np.ndarray, " S"]:
    grid = np.unique(np.asarray(seams, dtype=np.int64))
    if len(grid) == 0 or grid[0] < 1 or grid[-1] >= frames:
        raise ValueError(
            f"seams are the first frames of new clips, in 1..{frames - 1} for {frames} frames: got {grid.tolist()}"
        )
    return grid


def _signals(videos: Videos, signal: Signal, flow: Flow) -> Float64[np.ndarray, "N _"]:
    match signal:
        case "D":
            return np.stack([differences(video) for video in videos])
        case "A":
            return np.stack([accelerations(video) for video in videos])
        case "W":
            return np.stack([flows.compute_flow_statistics(video, flow).warp for video in videos])
        case "dF":
            return np.stack([flows.compute_flow_statistics(video, flow).change for video in videos])


def _log_ratios(
    signals: Float64[np.ndarray, "N S"], grid: Int[np.ndarray, " K"], signal: Signal
) -> Float64[np.ndarray, " N"]:
    """log2 of the seam ratio of each video; entry i of D is the transition i -> i+1, of A the frame i + 1."""
    count, slack = signals.shape[1], SLACK[signal]
    reach = (2, 1) if signal in CENTERED else (1,)
    touching = [[seam - back for back in reach if 0 <= seam - back < count] for seam in grid]
    touching = [places for places in touching if places]
    others = np.setdiff1d(np.arange(count), [place for places in touching for place in places])
    if len(others) == 0 or not touching:
        raise ValueError(f"seams at {grid.tolist()} leave no frame to compare with: give longer clips")
    at_seams = np.mean([signals[:, places].max(axis=1) for places in touching], axis=0)
    return np.log2((at_seams + slack) / (np.median(signals[:, others], axis=1) + slack))
