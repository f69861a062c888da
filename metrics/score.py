"""What a metric returns, and the row by which the table of metrics describes one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Score(NamedTuple):
    """A number, the count of samples it rests on and its 95 % interval (None where no interval can be had)."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None


class Replicated(NamedTuple):
    """A score and what it was jackknifed from: per side, the values with one group of that side's videos left out.

    Two scores against the same real set, of videos of the same prompts and seeds, differ by less than their intervals
    let fear; `metrics.paired.difference_of_replicates` takes the interval of their difference from here.
    """

    score: Score
    left_out: tuple[list[float], ...]  # the real side before the generated; empty lists where too few videos came


@dataclass(frozen=True)
class Metric:
    """One row of `metrics.METRICS`."""

    function: Callable[..., Score]
    unit: str  # "" for a bare number
    better: Literal["lower", "higher", "real"]  # "real": the nearer to real video's own value the better
    meaning: str  # one line
    blind: str  # what it does not see, or takes for something else; one line
