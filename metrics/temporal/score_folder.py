"""The temporal metrics of a set of videos, with one video in memory at a time."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from metrics.evaluation.cautions import Look
from metrics.evaluation.extract import hash_frames
from metrics.evaluation.progress import Progress
from metrics.intervals import mean_score
from metrics.score import Score
from metrics.temporal import flow_metrics, frame_difference
from metrics.temporal import seams as seams_module
from metrics.temporal.optical_flow import Flow
from metrics.videos.read import list_videos

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


class VideoReader:
    """The videos of a file or folder, read one by one; one that cannot be read or is cut off is counted or refused.

    `names`, `gaps`, `contents`, `rates` and `looks` grow while it is iterated.
    """

    def __init__(
        self,
        source: Path | str,
        side: str = "fake",  # its name in progress lines
        *,
        n: int | None = None,  # the first n videos by name; None = all
        frames: int | None = None,  # the first frames of each; None = all
        allow_gaps: bool = False,
        report: Callable[[str, Progress], None] | None = None,
    ) -> None:
        self.names: list[str] = []
        self.gaps: list[str] = []
        self.contents: list[str] = []  # a hash of each video's file, or of its frames
        self.rates: list[float | None] = []  # frames per second of each; None where its file has none
        self.looks: list[Look] = []  # of each video
        if n is not None and n < 1:
            raise ValueError(f"n is a number of videos from 1: got {n}")
        self._videos, self._side, self._frames = list_videos(source)[:n], side, frames
        self._allow_gaps, self._report = allow_gaps, report
        if n is not None and len(self._videos) < n:
            raise ValueError(f"{source} holds {len(self._videos)} videos, {n} were requested: ask for fewer")

    def __iter__(self) -> Iterator[Video]:
        """Yield the frames of each video.

        Raises:
            ValueError: a video that cannot be read, unless gaps are allowed.
        """
        started, total = time.monotonic(), len(self._videos)
        for i, video in enumerate(self._videos):
            try:
                info = video.probe()  # which refuses files that are cut off
                frames = video.read(0, self._frames)
            except ValueError as error:
                self.gaps.append(f"{video.name}: {error}")
                if not self._allow_gaps:
                    raise ValueError(f"{error}: fix or remove it, or --allow-gaps to measure without it") from error
                continue
            self.names.append(video.name)
            self.contents.append(video.fingerprint() or hash_frames(frames))
            self.rates.append(info.fps)
            self.looks.append(Look.of(frames))
            yield frames
            if self._report is not None:
                self._report(self._side, Progress(i + 1, total, len(self.gaps), time.monotonic() - started))

    def scale(self) -> dict[str, object]:
        """Frame rates and frame sizes of the videos: the scale of a change from frame to frame."""
        rates = {None if rate is None else round(rate, 3) for rate in self.rates}
        return {
            "fps": sorted(rates, key=lambda rate: rate or 0.0),
            "size": [f"{height}x{width}" for height, width in sorted({look[:2] for look in self.looks})],
        }

    def notes(self, side: str, flow: bool) -> list[str]:
        """Lines that a reader of the scores must know: what was left out, and what was assumed."""
        notes = [f"{len(self.gaps)} {side} videos could not be read and are left out"] if self.gaps else []
        unknown = self.rates.count(None)
        if flow and unknown:
            notes.append(
                f"{unknown} {side} videos name no frame rate that can be: dynamic_degree takes them for "
                f"{flow_metrics.VBENCH_FPS:g} frames per second"
            )
        return notes


def jitter_scores(
    videos: Iterable[Video],
    *,
    seams: tuple[int, ...] = (),  # first frame of each new clip, in every video
    dropped: int = 0,  # frames each new clip lost at its start before it was joined
    flow: Flow | None = flow_metrics.CLASSICAL,  # None = without what needs optical flow
    rates: Sequence[float | None] | None = None,  # frames per second of each video, known when it is read; None = 8
) -> tuple[dict[str, Score], dict[str, list[float]]]:
    """Scores of a set, and the values of its videos; seams only where there are some, cycling where clips are long.

    Raises:
        ValueError: no video, fewer than 3 frames, videos of different lengths with seams, or senseless seams.
    """
    values: dict[str, list[float]] = {}
    signals: dict[seams_module.Signal, list[np.ndarray]] = {}
    lengths: set[int] = set()
    for number, video in enumerate(videos):
        one = video[None]
        lengths.add(len(video))
        if seams and len(lengths) > 1:
            raise ValueError(
                f"seams are those of every video, but these have {sorted(lengths)} frames: give one length"
            )
        of_video = {measure.__name__: measure(one).value for measure in PLAIN}
        statistics = None if flow is None else flow_metrics.compute_flow_statistics(video, flow)
        if statistics is not None:
            assert flow is not None
            of_video |= {name: measure(statistics) for name, measure in FLOWING.items()}
            rate = flow_metrics.VBENCH_FPS if rates is None else rates[number] or flow_metrics.VBENCH_FPS
            step = flow_metrics.step_of(rate, len(video))
            of_video["dynamic_degree"] = flow_metrics.moves(
                statistics if step == 1 else flow_metrics.compute_flow_statistics(video[::step], flow), rate
            )
        if seams:
            of_video |= _at_seams(one, seams, dropped)
            if statistics is not None:
                of_video["boomerang"] = flow_metrics.turn_of(statistics, np.unique(np.asarray(seams, dtype=np.int64)))
            for signal, series in _series(video, statistics).items():
                signals.setdefault(signal, []).append(series)
        for name, value in of_video.items():
            values.setdefault(name, []).append(value)
    if not values:
        raise ValueError("got no video: give at least one")
    phases: dict[str, Score] = {}
    if seams:
        grid = np.unique(np.asarray(seams, dtype=np.int64))
        for signal, of_videos in signals.items():
            together = np.stack(of_videos)
            values[f"seam_ratio:{signal}"] = [
                seams_module.ratio_of(each[None], grid, signal).value for each in together
            ]
            if len(set(np.diff(grid))) <= 1:
                phases[f"seam_phase:{signal}"] = seams_module.phase_of(together, grid, signal)
    return {name: mean_score(each, name) for name, each in values.items()} | phases, values


def _at_seams(one: UInt8[np.ndarray, "1 T H W C"], seams: tuple[int, ...], dropped: int) -> dict[str, float]:
    values = {
        "duplicates:seams": seams_module.duplicates(one, seams).value,
        "cycling:mirror": seams_module.cycling(one, seams, dropped=dropped).value,
    }
    grid = np.unique(seams)
    if one.shape[1] > 2 * int(np.diff(grid, prepend=0)[-1]):
        values["cycling:repeat"] = seams_module.cycling(one, seams, kind="repeat").value
    return values


def _series(video: Video, statistics: flow_metrics.FlowStatistics | None) -> dict[seams_module.Signal, np.ndarray]:
    series: dict[seams_module.Signal, np.ndarray] = {
        "D": frame_difference.differences(video),
        "A": frame_difference.accelerations(video),
    }
    return series if statistics is None else series | {"W": statistics.warp, "dF": statistics.change}
