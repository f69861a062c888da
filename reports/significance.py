"""Which differences between rows are beyond noise.

Two rows are told apart by the interval of their difference, put together from their own 95 % intervals (Zou and Donner
2008, "MOVER"): each contributes the side that faces the other. Rows are taken as independent; where they share prompts
and noise their difference is surer than that, so the verdict errs towards "cannot be told apart". Which of many rows is
best is itself chance, so the best one is compared with the others as if all pairs of rows were compared: intervals are
widened to leave 5 % for all of them together (Bonferroni, by the normal law).
"""

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import pandas as pd

from bench.results.records import Better
from reports.run_table import Run, emulated_time, headlines

LEVEL = 0.95  # of the intervals in a record, and of what is said here


class Value(NamedTuple):
    """One row's number: lower is better, whatever it was. Without an interval low and high are None."""

    value: float
    low: float | None
    high: float | None


class Ranking(NamedTuple):
    """How the rows of a column stand to each other; all are positions in it.

    Args:
        best: the row of the best value.
        tied: rows that cannot be told apart from it, itself left out.
        worse: rows that are worse beyond noise.
        unknown: rows that have a number and no interval.
    """

    best: int
    tied: tuple[int, ...]
    worse: tuple[int, ...]
    unknown: tuple[int, ...]

    @property
    def marked(self) -> tuple[int, ...]:
        """The rows to mark as best: none unless some row is worse beyond noise."""
        return (self.best, *self.tied) if self.worse else ()


def smaller_is_better(
    value: float, low: float | None, high: float | None, better: Better, real: float | None
) -> Value | None:
    """The number turned so that smaller is better; None where that has no meaning (no real video to be near to).

    For "real" it is the distance to real video's own value, which is taken as exact: all rows share its error.
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
    """Whether `less` is smaller than `more` beyond noise; None where one of them has no interval.

    Args:
        comparisons: of how many that are made together this is one.
    """
    if less.high is None or more.low is None:
        return None
    tail = (1 - LEVEL) / 2
    wider = NormalDist().inv_cdf(1 - tail / comparisons) / NormalDist().inv_cdf(1 - tail)
    margin = ((less.high - less.value) ** 2 + (more.value - more.low) ** 2) ** 0.5
    return more.value - less.value > wider * margin


def rank(column: Sequence[Value | None]) -> Ranking | None:
    """The best row of a column and who can be told apart from it.

    None if fewer than two rows have an interval, or a row without one has a better value than all that have.
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
    """A column as `smaller_is_better` has it; None without a number, a direction, or a machine that computes it."""
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
    """What the reference of a group scores itself; None if there is none."""
    known = part[part["reference"].astype(bool) & (part["status"] == "ok")][measure].dropna()
    return float(known.iloc[0]) if len(known) else None


def comparable_rows(run: Run, rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Rows that compare with each other: what they have in common, they, and their whole group with its reference."""
    for _, group in rows.groupby(run.group, sort=False):
        made = group[~group["reference"].astype(bool)]
        for values, part in made.groupby(run.apart, sort=False):
            yield dict(zip(run.apart, values, strict=True)), part, group


def best_rows(run: Run, part: pd.DataFrame) -> pd.DataFrame:
    """Of one group the reference, and of each series the row that is best by the first measure."""
    measure = next(iter(headlines(run, part)), None)
    best: dict[str, tuple[float, int]] = {}
    if measure is not None:
        for position, value in enumerate(as_lower_is_better(run, part, measure, None)):
            series = "" if not run.axes or part["reference"].iloc[position] else str(part[run.axes[0]].iloc[position])
            if value is not None and (series not in best or value.value < best[series][0]):
                best[series] = (value.value, position)
    return part.iloc[sorted(position for _, position in best.values())]


def best_ids(run: Run, rows: pd.DataFrame, measure: str) -> set[str]:
    """Ids of the cells to mark as best: no row beside them is better beyond noise, and some are worse.

    Where none is worse a mark would mean nothing, and there is none.
    """
    found: set[str] = set()
    for _, part, group in comparable_rows(run, rows):
        order = rank(as_lower_is_better(run, part, measure, real_value(group, measure)))
        if order is not None:
            found |= {str(part["id"].iloc[position]) for position in order.marked}
    return found
