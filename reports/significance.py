"""Which differences between rows are beyond noise.

Two rows differ beyond noise if the interval of their difference excludes zero. That interval is combined from their own
95 % intervals (Zou and Donner 2008, "MOVER"): each contributes the side that faces the other. Rows are treated as
independent; if they share prompts and noise, their difference is more certain than that, so the verdict errs toward
"cannot be told apart". Which of many rows is best depends on chance too, so the best one is compared with the others as
if all pairs of rows were compared: intervals are widened so that all comparisons together have 5 % (Bonferroni, by the
normal law).
"""

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import pandas as pd

from bench.results.records import Better
from reports.run_table import Run, emulated_time, headlines

LEVEL = 0.95  # of the intervals in a record, and of the verdicts here


class Value(NamedTuple):
    """One row's number, turned so that lower is better. Without an interval, low and high are None."""

    value: float
    low: float | None
    high: float | None


class Ranking(NamedTuple):
    """How the rows of a column compare; all numbers are positions in the column.

    Args:
        best: the row with the best value.
        tied: the other rows that cannot be told apart from it.
        worse: rows that are worse beyond noise.
        unknown: rows that have a number but no interval.
    """

    best: int
    tied: tuple[int, ...]
    worse: tuple[int, ...]
    unknown: tuple[int, ...]

    @property
    def marked(self) -> tuple[int, ...]:
        """The rows to mark as best; none unless some row is worse beyond noise."""
        return (self.best, *self.tied) if self.worse else ()


def smaller_is_better(
    value: float, low: float | None, high: float | None, better: Better, real: float | None
) -> Value | None:
    """The number turned so that smaller is better; None if that has no meaning (no real video to compare with).

    For "real" it is the distance to real video's value, which is treated as exact, since all rows share its error.
    """
    if better == "lower":
        return Value(value, low, high)
    if better == "higher":
        return Value(-value, None if high is None else -high, None if low is None else -low)
    if real is None:
        return None
    if low is None or high is None:
        return Value(abs(value - real), None, None)
    near = 0.0 if low <= real <= high else min(abs(low - real), abs(high - real))
    return Value(abs(value - real), near, max(abs(low - real), abs(high - real)))


def beyond_noise(less: Value, more: Value, comparisons: int = 1) -> bool | None:
    """Whether `less` is smaller than `more` beyond noise; None if one of them has no interval.

    Args:
        comparisons: how many comparisons are made together, this one included.
    """
    if less.high is None or more.low is None:
        return None
    tail = (1 - LEVEL) / 2
    wider = NormalDist().inv_cdf(1 - tail / comparisons) / NormalDist().inv_cdf(1 - tail)
    margin = ((less.high - less.value) ** 2 + (more.value - more.low) ** 2) ** 0.5
    return more.value - less.value > wider * margin


def rank(column: Sequence[Value | None]) -> Ranking | None:
    """The best row of a column, and which rows can be told apart from it.

    None if fewer than two rows have an interval, or if a row without one has a better value than all that have one.
    """
    known = [i for i, value in enumerate(column) if value is not None and value.low is not None]
    unknown = tuple(i for i, value in enumerate(column) if value is not None and value.low is None)
    if len(known) < 2:
        return None
    values = {i: value for i in known if (value := column[i]) is not None}
    best = min(known, key=lambda i: values[i].value)
    if any((value := column[i]) is not None and value.value < values[best].value for i in unknown):
        return None
    others = [i for i in known if i != best]
    pairs = len(known) * len(others) // 2
    worse = tuple(i for i in others if beyond_noise(values[best], values[i], comparisons=pairs))
    return Ranking(best, tuple(i for i in others if i not in worse), worse, unknown)


def as_lower_is_better(run: Run, part: pd.DataFrame, measure: str, real: float | None) -> list[Value | None]:
    """A column turned by `smaller_is_better`; None for no number, no direction, or a time of an emulated precision."""
    better = run.measures[measure]["better"]
    if better is None:
        return [None] * len(part)
    columns = (part[name] for name in ("id", "status", measure, f"{measure}_low", f"{measure}_high"))
    return [
        None
        if value is None or status != "ok" or emulated_time(run.records[key], measure)
        else smaller_is_better(value, low, high, better, real)
        for key, status, value, low, high in zip(*columns, strict=True)
    ]


def real_value(part: pd.DataFrame, measure: str) -> float | None:
    """The value of the reference of a group; None if it has none."""
    known = part[part["reference"].astype(bool) & (part["status"] == "ok")][measure].dropna()
    return float(known.iloc[0]) if len(known) else None


def comparable_rows(run: Run, rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Sets of rows that may be compared: their common settings, the rows, and their whole group with its reference."""
    for _, group in rows.groupby(run.group, sort=False):
        generated = group[~group["reference"].astype(bool)]
        for values, part in generated.groupby(run.apart, sort=False):
            yield dict(zip(run.apart, values, strict=True)), part, group


def best_rows(run: Run, part: pd.DataFrame) -> pd.DataFrame:
    """The rows of one group: its reference, and the row of each series that is best by the first measure."""
    measure = next(iter(headlines(run, part)), None)
    best: dict[str, tuple[float, int]] = {}
    if measure is not None:
        for position, value in enumerate(as_lower_is_better(run, part, measure, None)):
            series = "" if not run.axes or part["reference"].iloc[position] else str(part[run.axes[0]].iloc[position])
            if value is not None and (series not in best or value.value < best[series][0]):
                best[series] = (value.value, position)
    return part.iloc[sorted(position for _, position in best.values())]


def best_ids(run: Run, rows: pd.DataFrame, measure: str) -> set[str]:
    """Ids of the cells to mark as best: no row is better beyond noise, and some are worse.

    If no row is worse, a mark would mean nothing, and nothing is marked.
    """
    ids: set[str] = set()
    for _, part, group in comparable_rows(run, rows):
        order = rank(as_lower_is_better(run, part, measure, real_value(group, measure)))
        if order is not None:
            ids |= {str(part["id"].iloc[position]) for position in order.marked}
    return ids
