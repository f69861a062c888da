"""Paired differences of rows that made their videos from the same prompts and noise, with their intervals.

The effect that a prompt or a noise has on both rows cancels in the difference, so far fewer videos suffice to tell two
rows apart than their own intervals suggest. Each row is compared with the row of the first series that has the most
settings in common with it, and along every other axis with the row that has the axis's first value and is otherwise
equal. Rows are paired only if their records have the same `pairs`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench.results.records import LEFT_OUT, Record
from bench.results.statistics import Estimate, jackknifed, trimmed_mean
from reports.format import MISSING, number
from reports.run_table import Run, emulated_time
from reports.significance import comparable_rows

ALPHA = 0.05
MOST = 200  # rows up to which every axis has a table; above, only the first axis has one
EXPLANATION = (
    "Each row minus the row that it is compared with, video by video, from the same prompts and noise; so the "
    "difference is more certain than the two values. ± is half of its 95 % interval. Marked: different from zero when "
    "all rows of the table are judged together."
)


class Pairs(NamedTuple):
    """One table of differences, all cells text; a negative difference means that the row's own number is lower.

    Args:
        title: what the rows have in common.
        marked: (row, column) of differences beyond noise.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    marked: set[tuple[int, int]]


def paired_tables(run: Run, rows: pd.DataFrame) -> list[Pairs]:
    """For each set of comparable rows, one table per axis; none if no two rows are paired."""
    pairs = []
    for values, part, _ in comparable_rows(run, rows):
        title = ", ".join(f"{axis} = {value}" for axis, value in values.items())
        done = part[part["status"] == "ok"].to_dict("records")
        for axis in run.axes if len(done) <= MOST else run.axes[:1]:
            first = run.manifest["axes"][axis][0]
            named = title if axis == run.axes[0] else f"{title}: {axis} against {first}"
            if table := _table(run, _couples(run, done, axis, first), named):
                pairs.append(table)
    return pairs


def paired_difference(base: Record, other: Record, measure: str) -> Estimate | None:
    """`other` minus `base`, paired, in the measure's unit; None if their records do not allow pairing.

    A measure that is a mean over videos has one value per video in `samples`. Any other measure has its values with one
    group of videos left out at a time, for each set of videos that contributes to its error.
    """
    pairs = base.facts.get("pairs")
    if not pairs or pairs != other.facts.get("pairs") or measure not in base.numbers or measure not in other.numbers:
        return None
    if emulated_time(base, measure) or emulated_time(other, measure):
        return None
    one, two = base.samples.get(measure, ()), other.samples.get(measure, ())
    if len(one) == len(two) >= 2:
        return trimmed_mean([b - a for a, b in zip(one, two, strict=True)], trim=0.0)
    names = [name for name in base.samples if name.startswith(f"{measure}{LEFT_OUT}")]
    sides = [(base.samples[name], other.samples.get(name, ())) for name in names]
    if not sides or any(len(a) != len(b) or len(a) < 3 for a, b in sides):
        return None
    first, second = base.numbers[measure], other.numbers[measure]
    left_out = [[b - a for a, b in zip(*side, strict=True)] for side in sides]
    return jackknifed(second.value - first.value, left_out, min(first.n, second.n))


def _couples(
    run: Run, rows: Sequence[Mapping[Any, Any]], axis: str, first: object
) -> list[tuple[Mapping[Any, Any], Mapping[Any, Any]]]:
    """(base, row): every row with another value on the axis, and the row with the first value to compare it with.

    The two are equal in all other axes. Along the first axis the base is the row with the most equal settings, since
    not every series has every axis.
    """
    others = [name for name in run.axes if name != axis]
    bases = [row for row in rows if row[axis] == first]

    def alike(base: Mapping[Any, Any], row: Mapping[Any, Any]) -> int:
        return sum(base[name] == row[name] for name in others)

    nearest = [
        (max(bases, key=lambda base, row=row: alike(base, row)), row) for row in rows if bases and row[axis] != first
    ]
    return [couple for couple in nearest if axis == run.axes[0] or alike(*couple) == len(others)]


def _table(run: Run, couples: Sequence[tuple[Mapping[Any, Any], Mapping[Any, Any]]], title: str) -> Pairs | None:
    estimates = {
        (i, measure): estimate
        for i, (base, row) in enumerate(couples)
        for measure in run.measures
        if (estimate := paired_difference(run.records[base["id"]], run.records[row["id"]], measure))
    }
    measures = [measure for measure in run.measures if any((i, measure) in estimates for i in range(len(couples)))]
    if not measures:
        return None
    body, marked = [], set()
    for i, (base, row) in enumerate(couples):
        line = [f"{run.name(row)} minus {run.name(base)}"]
        for j, measure in enumerate(measures):
            estimate = estimates.get((i, measure))
            line.append(MISSING if estimate is None else _signed(estimate, run.measures[measure]["unit"]))
            alpha = ALPHA / 2 / sum((k, measure) in estimates for k in range(len(couples)))
            if estimate is not None and (estimate.low(alpha) > 0 or estimate.high(alpha) < 0):
                marked.add((i, j + 1))
        body.append(line)
    return Pairs(title, ["", *(run.title(measure) for measure in measures)], body, marked)


def _signed(estimate: Estimate, unit: str) -> str:
    text = number(estimate.mean, unit, estimate.high(ALPHA / 2) - estimate.mean)
    return text if text.startswith("-") or estimate.mean == 0 else f"+{text}"
