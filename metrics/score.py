"""What a metric returns, and the row by which the table of metrics describes one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

UNBOUNDED = (float("-inf"), float("inf"))
RANGES = {  # of measures that are means over videos: no interval leaves them
    "boomerang": (-1.0, 1.0),
    "cycling": (-1.0, 1.0),
    "duplicates": (0.0, 1.0),
    "dynamic_degree": (0.0, 1.0),
    "flicker": (0.0, 1.0),
    "jitter": (0.0, 1.0),
    "light_jitter": (0.0, 2.0),
    "masked_share": (0.0, 1.0),
    "motion": (0.0, 1.0),
    "motion_jitter": (0.0, 1.0),
    "saturation_drift": (-1.0, 1.0),
    "temporal_flickering": (0.0, 1.0),
    "warp_error": (0.0, 1.0),
    "subject_consistency": (0.0, 1.0),
    "background_consistency": (0.0, 1.0),
    "motion_smoothness": (0.0, 1.0),
    "overall_consistency": (-1.0, 1.0),
    "clipsim": (-1.0, 1.0),
    "clipscore": (0.0, 2.5),
    "viclip": (-1.0, 1.0),
    "similarity_gap": (-1.0, 1.0),
    "identity": (-1.0, 1.0),
    "frame_consistency": (-100.0, 100.0),
    "start_end_drift": (0.0, float("inf")),
    "chunk_drift": (0.0, float("inf")),
    "color_step": (0.0, 255.0),
    "seam_color_step": (0.0, 255.0),
    "saturation_step": (-1.0, 1.0),
    "absolute_seam_ratio": (0.0, float("inf")),
    "accuracy": (0.0, 1.0),
}


class Score(NamedTuple):
    """A number, the count of samples it rests on, its 95 % interval, and the values that interval was made of.

    Two scores against the same real set, of videos of the same prompts and seeds, differ by less than their intervals
    suggest; `metrics.paired.difference_of_scores` computes the interval of their difference from the replicates.
    """

    value: float
    n: int
    low: float | None = None  # None: the set is too small for an interval, or the metric has none
    high: float | None = None
    # For each side, the real one first: the values with one group of that side's videos left out at a time, [] where
    # there are too few videos. () where the metric keeps no replicates.
    replicates: tuple[list[float], ...] = ()

    def __repr__(self) -> str:
        """All but the replicates, which may be 40 numbers."""
        return f"Score(value={self.value!r}, n={self.n!r}, low={self.low!r}, high={self.high!r})"

    def as_record(self) -> dict[str, float]:
        """What a file keeps: value, n, and low and high where there is an interval."""
        return {name: item for name, item in zip(self._fields[:4], self[:4], strict=True) if item is not None}


@dataclass(frozen=True)
class Metric:
    """One row of `metrics.METRICS`."""

    function: Callable[..., Score]
    unit: str  # "" for a bare number
    better: Literal["lower", "higher", "real"]  # "real": the nearer to real video's own value, the better
    meaning: str  # one line
    blind: str  # what it does not see, or takes for something else; one line
