"""The temporal metrics of a set of videos, with one video in memory at a time."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8

from metrics.evaluation.measure import Collector, Measure, Rows
from metrics.score import Score
from metrics.temporal import flow_metrics, frame_difference
from metrics.temporal import seams as seams_module
from metrics.temporal.optical_flow import Flow
from metrics.videos.decode import check_bytes
from metrics.videos.read import VideoInfo

Video = UInt8[np.ndarray, "T H W C"]

PLAIN = (
    frame_difference.flicker,
    frame_difference.temporal_flickering,
    frame_difference.jitter,
    frame_difference.light_jitter,
    frame_difference.motion,
    seams_module.duplicates,
    frame_difference.saturation_drift,
)
FLOWING: dict[str, Callable[[flow_metrics.FlowStatistics], float]] = {
    "motion_jitter": flow_metrics.jitter_of,
    "warp_error": lambda statistics: float(statistics.warp.mean()),
    "masked_share": lambda statistics: float(statistics.masked.mean()),
}


class SeamSeries(NamedTuple):
    """One video: its values by name, and the signals whose size at the seams is told against that elsewhere."""

    values: dict[str, float]
    signals: dict[seams_module.Signal, np.ndarray]


def measure_video(
    video: Video,
    *,
    seams: tuple[int, ...] = (),  # first frame of each new clip
    dropped: int = 0,  # frames each new clip lost at its start before it was joined
    flow: Flow | None = flow_metrics.CLASSICAL,  # None = without what needs optical flow
    rate: float | None = None,  # frames per second; None = 8
) -> SeamSeries:
    """All temporal metrics of one video.

    Raises:
        ValueError: fewer than 3 frames, or senseless seams.
    """
    one = video[None]
    values = {measure.__name__: measure(one).value for measure in PLAIN}
    statistics = None
    if flow is not None:
        statistics = flow_metrics.compute_flow_statistics(video, flow)
        values |= {name: measure(statistics) for name, measure in FLOWING.items()}
        rate = rate or flow_metrics.VBENCH_FPS
        step = flow_metrics.step_of(rate, len(video))
        values["dynamic_degree"] = flow_metrics.moves(
            statistics if step == 1 else flow_metrics.compute_flow_statistics(video[::step], flow), rate
        )
    if not seams:
        return SeamSeries(values, {})
    grid = np.unique(np.asarray(seams, dtype=np.int64))
    values |= _at_seams(one, seams, dropped)
    if statistics is not None:
        values["boomerang"] = flow_metrics.turn_of(statistics, grid)
    signals = _signals(video, statistics)
    ratios = {
        f"seam_ratio:{name}": seams_module.ratio_of(each[None], grid, name).value for name, each in signals.items()
    }
    return SeamSeries(values | ratios, signals)


def phases(
    signals: Mapping[seams_module.Signal, Sequence[Float64[np.ndarray, " _"]]],  # of all videos
    seams: tuple[int, ...],
) -> dict[str, Score]:
    """The rank of the seams in every signal, where they are evenly spaced."""
    grid = np.unique(np.asarray(seams, dtype=np.int64))
    if len(set(np.diff(grid))) > 1:
        return {}
    return {f"seam_phase:{name}": seams_module.phase_of(np.stack(each), grid, name) for name, each in signals.items()}


def check_lengths(lengths: Collection[int], seams: tuple[int, ...]) -> None:
    """Seams are those of every video.

    Raises:
        ValueError: videos of different lengths.
    """
    if seams and len(set(lengths)) > 1:
        raise ValueError(
            f"seams are those of every video, but these have {sorted(set(lengths))} frames: give one length"
        )


@dataclass
class _WholeVideo:
    """All temporal metrics of a video whose frames went by: row 0 has the values, others a signal after its length."""

    measure: Callable[[Video], SeamSeries]
    blocks: list[Video] = field(default_factory=list)

    def take(self, frames: Video) -> None:
        self.blocks.append(frames)

    def rows(self) -> Float64[np.ndarray, "K F"]:
        values, signals = self.measure(np.concatenate(self.blocks))
        lines = [list(values.values()), *([len(series), *series.tolist()] for series in signals.values())]
        width = max(map(len, lines))
        return np.array([[*line, *[np.nan] * (width - len(line))] for line in lines])


def measures(
    length: int,  # frames of every video, where there are seams
    *,
    seams: tuple[int, ...] = (),
    dropped: int = 0,
    flow: Flow | None = flow_metrics.CLASSICAL,
    frames: int | None = None,  # the first of each video; None = all
) -> list[Measure]:
    """All temporal metrics as measures of one pass over folders; they share one row of numbers a video."""
    recipe: dict[str, object] = {"rows": "temporal metrics", "flow": None if flow is None else flow.name}
    recipe |= {"frames": frames, "seams": list(seams), "dropped": dropped}

    def begin(info: VideoInfo) -> Collector:
        check_bytes(frames or info.frames, info.height, info.width)
        return _WholeVideo(partial(measure_video, seams=seams, dropped=dropped, flow=flow, rate=info.fps))

    def value(number: int) -> Callable[[Rows, VideoInfo, str], float]:
        return lambda rows, info, video: float(rows[0, number])

    def series(number: int) -> Callable[[Rows, VideoInfo, str], Float64[np.ndarray, " _"]]:
        return lambda rows, info, video: rows[1 + number, 1 : 1 + int(rows[1 + number, 0])]

    names, signals = _names(length, seams, flow)
    return [
        Measure(
            name,
            recipe,
            begin,
            value(number),
            frames=3,
            parts=series(signals.index(name)) if name in signals else None,
            most=frames,
        )
        for number, name in enumerate(names)
    ]


def _names(length: int, seams: tuple[int, ...], flow: Flow | None) -> tuple[list[str], list[str]]:
    """Names of the values of a video, in their order, and those of them that come with a signal."""
    names = [measure.__name__ for measure in PLAIN]
    names += [] if flow is None else [*FLOWING, "dynamic_degree"]
    if not seams:
        return names, []
    names += ["duplicates:seams", "cycling:mirror", *(["cycling:repeat"] if _repeats(length, seams) else [])]
    names += [] if flow is None else ["boomerang"]
    signals = [f"seam_ratio:{signal}" for signal in ("D", "A", *(() if flow is None else ("W", "dF")))]
    return [*names, *signals], signals


def _at_seams(one: UInt8[np.ndarray, "1 T H W C"], seams: tuple[int, ...], dropped: int) -> dict[str, float]:
    values = {
        "duplicates:seams": seams_module.duplicates(one, seams).value,
        "cycling:mirror": seams_module.cycling(one, seams, dropped=dropped).value,
    }
    if _repeats(one.shape[1], seams):
        values["cycling:repeat"] = seams_module.cycling(one, seams, kind="repeat").value
    return values


def _repeats(length: int, seams: tuple[int, ...]) -> bool:
    """Whether clips may repeat the one before the last: seams have one spacing, and the video is long enough."""
    grid = np.unique(seams)
    return len(set(np.diff(grid))) < 2 and length > 2 * seams_module.spacing_of(grid)


def _signals(video: Video, statistics: flow_metrics.FlowStatistics | None) -> dict[seams_module.Signal, np.ndarray]:
    series: dict[seams_module.Signal, np.ndarray] = {
        "D": frame_difference.differences(video),
        "A": frame_difference.accelerations(video),
    }
    return series if statistics is None else series | {"W": statistics.warp, "dF": statistics.change}
