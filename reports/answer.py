"""The answer to a suite's question, in words, computed from its records: no number without its interval.

Three kinds of sentence: what became of the cells; who is best by the first measure of each kind, in every group; what
an axis changes when all else is equal. Where rows cannot be told apart, that is what is said.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from reports.format import half_width, number, numeric, plain_list
from reports.standing import Value, beside, beyond_noise, real_value, standing, turned
from reports.table import Row, Run, headlines

ENDS = {
    "oom": "ran out of memory",
    "timeout": "ran out of time",
    "failed": "failed",
    "invalid": "cannot be believed",
    "skipped": "skipped",
    "not run": "not run yet",
}
GROUPS = 4  # sets of rows that a sentence goes through
NAMED = 2  # rows that a sentence names; more are counted


class Sentence(NamedTuple):
    """What it speaks of, and the rest of it."""

    lead: str
    rest: str


def sentences(run: Run, rows: pd.DataFrame) -> list[Sentence]:
    """The answer, plain text."""
    measures = headlines(run, rows)
    best = (Sentence(run.measures[name]["title"], _best(run, rows, name)) for name in measures)
    said = [Sentence("", _counts(rows)), *best, *_axes(run, rows, measures)]
    return [sentence for sentence in said if sentence.rest]


def answer(run: Run, rows: pd.DataFrame) -> str:
    """The sentences as one paragraph."""
    return " ".join(sentence.lead + sentence.rest for sentence in sentences(run, rows))


def _counts(rows: pd.DataFrame) -> str:
    counts = Counter(rows["status"])
    done = counts.pop("ok", 0)
    if not counts:
        return f"All {len(rows)} cells have their numbers." if len(rows) > 1 else "The one cell has its numbers."
    ends = [f"{count} {ENDS.get(status, status)}" for status, count in counts.items()]
    return f"{done} of {len(rows)} cells have their numbers; {plain_list(ends)}."


def _best(run: Run, rows: pd.DataFrame, measure: str) -> str:
    """Who is best among the rows that compare; of many such sets the first and the last."""
    named = [axis for axis in run.apart if rows[axis].nunique() > 1]
    parts = []
    for values, part, group in beside(run, rows):
        if said := _best_of(run, part, measure, real_value(group, measure)):
            at = " and ".join(f"{axis} = {value}" for axis, value in values.items() if axis in named)
            parts.append(f"at {at} {said}" if at else said)
    if len(parts) > GROUPS:
        parts = [parts[0], parts[-1], f"the table marks it for the other {len(parts) - 2}"]
    direction = run.measures[measure]["better"]
    return f" is {'lowest' if direction == 'lower' else 'highest'} {'; '.join(parts)}." if parts else ""


def _best_of(run: Run, part: pd.DataFrame, measure: str, real: float | None) -> str:
    own = "" if real is None else f", where real video itself has {number(real, run.measures[measure]['unit'])}"
    column = turned(run, part, measure, real)
    order = standing(column)
    if order is None:
        known = [(value.value, i) for i, value in enumerate(column) if value is not None]
        if not known:
            return ""
        said = f"for {_named_number(run, part.iloc[min(known)[1]], measure)}{own}"
        others = _others(len(known) - 1)
        return said if len(known) == 1 else f"{said}, from too few samples to tell it apart from {others}"
    said = f"for {_named_number(run, part.iloc[order.best], measure)}{own}"
    if not order.tied:
        return f"{said}, beyond noise of {_others(len(order.worse))}"
    if not order.worse:
        return f"{said}, but it cannot be told apart from {_others(len(order.tied))}"
    tied = [run.name(part.iloc[position]) for position in order.tied]
    among = plain_list(tied) if len(tied) <= NAMED else f"{len(tied)} others"
    verb = "is" if len(order.worse) == 1 else "are"
    return f"{said}; it cannot be told apart from {among}, and {len(order.worse)} {verb} worse beyond noise"


def _others(count: int) -> str:
    return "the other one" if count == 1 else f"the other {count}"


def _named_number(run: Run, row: Row, measure: str) -> str:
    value, low, high = (row[name] for name in (measure, f"{measure}_low", f"{measure}_high"))
    return f"{run.name(row)} ({number(value, run.measures[measure]['unit'], half_width(value, low, high))})"


def _axes(run: Run, rows: pd.DataFrame, measures: Sequence[str]) -> Iterator[Sentence]:
    """What an axis changes from its one value to its other, or from its smallest number to its largest."""
    made = rows[~rows["reference"].astype(bool)]
    for axis in run.axes:
        values = run.manifest["axes"][axis]
        numbers = numeric(values)
        if len(values) < 2 or (not numbers and (len(values) > 2 or axis == run.axes[0])):
            continue  # nothing to compare, or the series: who is best has been said
        first, last = (min(values), max(values)) if numbers else values
        changed, same = [], []
        for measure in measures:
            pairs = _pairs(run, made, measure, axis, first, last)
            if said := _effect(pairs):
                changed.append(f"{run.measures[measure]['title']} is {said}")
            elif pairs:
                same.append(run.measures[measure]["title"])
        if same:
            changed.append(f"{plain_list(same)} cannot be told apart")
        if changed:
            yield Sentence(f"{axis} {last} against {first}", f", all else equal: {'; '.join(changed)}.")


def _effect(pairs: Sequence[tuple[Value, Value]]) -> str:
    """How the later of each pair stands to the earlier; "" if no pair can be told apart."""
    better = sum(beyond_noise(after, before, len(pairs)) is True for before, after in pairs)
    worse = sum(beyond_noise(before, after, len(pairs)) is True for before, after in pairs)
    if not better and not worse:
        return ""
    among = f"of {len(pairs)} pairs" if len(pairs) > 1 else "of one pair"
    ends = plain_list([f"{word} in {count}" for count, word in ((better, "better"), (worse, "worse")) if count])
    ratios = [after.value / before.value for before, after in pairs if before.value * after.value > 0]
    return f"{ends} {among}" + (f" ({statistics.median(ratios):.2f} times, the median)" if ratios else "")


def _pairs(
    run: Run, made: pd.DataFrame, measure: str, axis: str, first: object, last: object
) -> list[tuple[Value, Value]]:
    """Numbers of rows that differ in this axis only."""
    beside = [made[key] for key in (run.group, *(name for name in run.axes if name != axis))]
    values: dict[tuple[object, ...], Value] = {}
    for value, at, *rest in zip(turned(run, made, measure, None), made[axis], *beside, strict=True):
        if value is not None:
            values[(at, *rest)] = value
    return [
        (value, values[last, *rest]) for (at, *rest), value in values.items() if at == first and (last, *rest) in values
    ]
