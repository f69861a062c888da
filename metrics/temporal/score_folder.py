"""All that `metrics.temporal.frame_difference` and `metrics.temporal.flow_metrics` say of a set, one video in
memory at a time.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

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
    "warp_error": lambda seen: float(seen.warp.mean()),
    "masked_share": lambda seen: float(seen.masked.mean()),
}


class VideoReader:
    """The videos of a file or folder, read one by one; what cannot be read, or is cut off, is counted or refused.

    `names`, `gaps`, `contents`, `rates` and `sizes` fill as it is gone through.
    """

    def __init__(
        self,
        source: Path | str,
        side: str = "fake",  # what it is called when told of
        *,
        n: int | None = None,  # the first n videos by name; None = all
        frames: int | None = None,  # the first frames of each; None = all
        allow_gaps: bool = False,
        report: Callable[[str, Progress], None] | None = None,
    ) -> None:
        self.names: list[str] = []
        self.gaps: list[str] = []
        self.contents: list[str] = []  # a hash of each video's file, or of its frames
        self.rates: list[float | None] = []  # frames a second of each; None where its file has none
        self.sizes: set[tuple[int, int]] = set()  # height, width
        self._videos, self._side, self._frames = list_videos(source)[:n], side, frames
        self._allow_gaps, self._report = allow_gaps, report
        if n is not None and len(self._videos) < n:
            raise ValueError(f"{source} holds {len(self._videos)} videos, {n} were asked for: ask for fewer")

    def __iter__(self) -> Iterator[Video]:
        """Go through the videos.

        Raises:
            ValueError: a video that cannot be read, unless gaps are allowed.
        """
        started, total = time.monotonic(), len(self._videos)
        for i, video in enumerate(self._videos):
            try:
                info = video.probe()  # which refuses films that are cut off
                frames = video.read(0, self._frames)
            except ValueError as error:
                self.gaps.append(f"{video.name}: {error}")
                if not self._allow_gaps:
                    raise ValueError(f"{error}: mend or remove it, or --allow-gaps to measure without it") from error
                continue
            self.names.append(video.name)
            self.contents.append(video.fingerprint() or hash_frames(frames))
            self.rates.append(info.fps)
            self.sizes.add((info.height, info.width))
            yield frames
            if self._report is not None:
                self._report(self._side, Progress(i + 1, total, len(self.gaps), time.monotonic() - started))

    def scale(self) -> dict[str, object]:
        """Frame rates and frame sizes of the videos: the scale of a change from frame to frame."""
        rates = {None if rate is None else round(rate, 3) for rate in self.rates}
        return {
            "fps": sorted(rates, key=lambda rate: rate or 0.0),
            "size": [f"{height}x{width}" for height, width in sorted(self.sizes)],
        }


def jitter_scores(
    videos: Iterable[Video],
    *,
    seams: tuple[int, ...] = (),  # first frame of each new clip, in every video
    dropped: int = 0,  # frames each new clip lost at its start before it was joined
    flow: Flow | None = flow_metrics.CLASSICAL,  # None = without what needs optical flow
    rates: Sequence[float | None] | None = None,  # frames a second of each video, there when it comes; None = 8
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
        found = {measure.__name__: measure(one).value for measure in PLAIN}
        seen = None if flow is None else flow_metrics.compute_flow_statistics(video, flow)
        if seen is not None:
            assert flow is not None
            found |= {name: measure(seen) for name, measure in FLOWING.items()}
            rate = flow_metrics.VBENCH_FPS if rates is None else rates[number] or flow_metrics.VBENCH_FPS
            step = flow_metrics.step_of(rate)
            found["dynamic_degree"] = flow_metrics.moves(
                seen if step == 1 else flow_metrics.compute_flow_statistics(video[::step], flow), rate
            )
        if seams:
            found |= _at_seams(one, seams, dropped)
            if seen is not None:
                found["boomerang"] = flow_metrics.turn_of(seen, np.unique(np.asarray(seams, dtype=np.int64)))
            for signal, series in _series(video, seen).items():
                signals.setdefault(signal, []).append(series)
        for name, value in found.items():
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
    return {name: mean_score(each) for name, each in values.items()} | phases, values


def _at_seams(one: UInt8[np.ndarray, "1 T H W C"], seams: tuple[int, ...], dropped: int) -> dict[str, float]:
    found = {
        "duplicates:seams": seams_module.duplicates(one, seams).value,
        "cycling:mirror": seams_module.cycling(one, seams, dropped=dropped).value,
    }
    grid = np.unique(seams)
    if one.shape[1] > 2 * int(np.diff(grid, prepend=0)[-1]):
        found["cycling:repeat"] = seams_module.cycling(one, seams, kind="repeat").value
    return found


def _series(video: Video, seen: flow_metrics.FlowStatistics | None) -> dict[seams_module.Signal, np.ndarray]:
    found: dict[seams_module.Signal, np.ndarray] = {
        "D": frame_difference.differences(video),
        "A": frame_difference.accelerations(video),
    }
    return found if seen is None else found | {"W": seen.warp, "dF": seen.change}
