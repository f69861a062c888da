"""VBench-Long: a video is cut into clips of 2 seconds, each is scored as a short video, and the scores are averaged.

A shorter rest is extended backwards to a whole clip, so its frames count twice. No clip is compared with another: in
its own code the terms that do have weight 0. There the clips are encoded anew before they are read; here they are not.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from metrics.evaluation.collectors import Frames, Rows
from metrics.evaluation.measure import Collector, Measure
from metrics.videos.read import VideoInfo

SECONDS = 2.0  # of a clip


def clips_of(info: VideoInfo) -> list[tuple[int, int]]:
    """First frame of each clip, and the frame behind its last; the last two clips may overlap.

    Raises:
        ValueError: a video without a frame rate.
    """
    if info.fps is None:
        raise ValueError(f"clips of {SECONDS:g} seconds need a frame rate, which it does not name: use --length short")
    size = min(info.frames, max(1, round(SECONDS * info.fps)))
    starts = [*range(0, info.frames - size + 1, size)]
    if starts[-1] + size < info.frames:
        starts.append(info.frames - size)
    return [(start, start + size) for start in starts]


def lengthen(measure: Measure) -> Measure:
    """The measure of a long video: the mean of that of its clips."""

    def of_clip(info: VideoInfo) -> VideoInfo:
        start, end = clips_of(info)[0]
        return info._replace(frames=end - start)

    def begin(info: VideoInfo) -> Collector:
        return _Clips(measure, of_clip(info), clips_of(info))

    def check(info: VideoInfo) -> None:
        if reason := measure.refuse(of_clip(info), "a clip of it"):
            raise ValueError(reason)

    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        clips = range(len(clips_of(info)))
        return float(np.mean([measure.score(rows[rows[:, 0] == clip, 1:], of_clip(info), video) for clip in clips]))

    recipe = {**measure.recipe, "clips": f"{SECONDS:g} s"}
    return replace(measure, recipe=recipe, begin=begin, check=check, score=score, parts=None)


@dataclass
class _Clips:
    """Gathers for every clip apart; a row is the clip's number and what was gathered."""

    measure: Measure
    info: VideoInfo  # of a clip
    clips: list[tuple[int, int]]
    open: dict[int, Collector] = field(default_factory=dict)
    gathered: list[Rows] = field(default_factory=list)
    passed: int = 0

    def take(self, frames: Frames) -> None:
        """Give every clip its own frames."""
        for number, (start, end) in enumerate(self.clips):
            part = frames[max(0, start - self.passed) : max(0, end - self.passed)]
            if len(part) == 0:
                continue
            if number not in self.open:
                self.open[number] = self.measure.begin(self.info)
            self.open[number].take(part)
            if self.passed + len(frames) >= end:
                rows = self.open.pop(number).rows()
                self.gathered.append(np.hstack([np.full((len(rows), 1), number), rows]))
        self.passed += len(frames)

    def rows(self) -> Rows:
        """All clips' rows."""
        return np.concatenate(self.gathered)
