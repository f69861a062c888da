"""The answer to a suite's question, in words, computed from its records: no number without its interval.

Three kinds of sentence: what became of the cells; who is best by the measures that the plan calls its headlines and by
the first of each other kind, in every group; what an axis changes when all else is equal. Where rows cannot be told
apart, that is what is said.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench.record import Record
from reports.format import half_width, number, numeric, plain_list
from reports.paired import paired_difference
from reports.standing import LEVEL, Value, beside, beyond_noise, real_value, smaller_is_better, standing, turned
from reports.table import Row, Run, spoken

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
SUPERLATIVE = {"lower": "lowest", "higher": "highest", "real": "nearest to real video's"}
COMPARED = {"real": ("nearer to real video's", "farther from it")}  # else better and worse


class Sentence(NamedTuple):
    """What it speaks of, and the rest of it."""

    lead: str
    rest: str


class Pair(NamedTuple):
    """Two rows that differ in one axis: their numbers, smaller is better, and their records."""

    before: Value
    after: Value
    one: Record
    other: Record

    def verdict(self, measure: str, direction: str, pairs: int) -> bool | None:
        """Whether the later is better, beyond noise; None where that cannot be told.

        By the paired difference where the records allow it, else by their own intervals. A distance to real video's
        value has no paired difference: on which side a row lies is a question of its own interval.
        """
        estimate = None if direction == "real" else paired_difference(self.one, self.other, measure)
        if estimate is None:
            better = beyond_noise(self.after, self.before, pairs)
            return True if better else False if beyond_noise(self.before, self.after, pairs) else None
        tail = (1 - LEVEL) / 2 / pairs
        low, high = estimate.low(tail), estimate.high(tail)
        return None if low <= 0 <= high else (high < 0) == (direction == "lower")


def sentences(run: Run, rows: pd.DataFrame) -> list[Sentence]:
    """The answer, plain text."""
    measures = spoken(run, rows)
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
    return f" is {SUPERLATIVE[run.measures[measure]['better']]} {'; '.join(parts)}." if parts else ""


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
    """What an axis changes: from its smallest number to its largest, or from its first value to each other one."""
    made = [row for row in rows.to_dict("records") if not row["reference"] and row["status"] == "ok"]
    groups = rows.groupby(run.group, sort=False)
    real = {(value, measure): real_value(part, measure) for value, part in groups for measure in measures}
    for axis in run.axes:
        values = run.manifest["axes"][axis]
        numbers = numeric(values)
        if len(values) < 2 or (not numbers and len(values) > (2 if axis == run.axes[0] else GROUPS)):
            continue  # nothing to compare, or the series: who is best has been said
        for first, last in [(min(values), max(values))] if numbers else [(values[0], other) for other in values[1:]]:
            couples = list(_couples(run, made, axis, first, last))
            changed, same = [], []
            for measure in measures:
                turns = [
                    [_turned(run, row, measure, real[row[run.group], measure]) for row in couple] for couple in couples
                ]
                pairs = [
                    Pair(before, after, *(run.records[row["id"]] for row in couple))
                    for couple, (before, after) in zip(couples, turns, strict=True)
                    if before is not None and after is not None
                ]
                if said := _effect(run, measure, pairs):
                    changed.append(f"{run.measures[measure]['title']} is {said}")
                elif pairs:
                    same.append(run.measures[measure]["title"])
            if same:
                changed.append(f"{plain_list(same)} cannot be told apart")
            if changed:
                yield Sentence(f"{axis} {last} against {first}", f", all else equal: {'; '.join(changed)}.")


def _couples(
    run: Run, made: Sequence[Mapping[Any, Any]], axis: str, first: object, last: object
) -> Iterator[tuple[Mapping[Any, Any], Mapping[Any, Any]]]:
    """Rows that differ in this axis only."""
    others = [run.group, *(name for name in run.axes if name != axis)]
    ends = {tuple(row[name] for name in others): row for row in made if row[axis] == last}
    for row in made:
        if row[axis] == first and (key := tuple(row[name] for name in others)) in ends:
            yield row, ends[key]


def _turned(run: Run, row: Mapping[Any, Any], measure: str, real: float | None) -> Value | None:
    if row[measure] is None:
        return None
    ends = row[f"{measure}_low"], row[f"{measure}_high"]
    return smaller_is_better(row[measure], *ends, run.measures[measure]["better"], real)


def _effect(run: Run, measure: str, pairs: Sequence[Pair]) -> str:
    """How the later of each pair stands to the earlier; "" if no pair can be told apart."""
    direction = run.measures[measure]["better"]
    found = Counter(pair.verdict(measure, direction, len(pairs)) for pair in pairs)
    if not found[True] and not found[False]:
        return ""
    words = zip((found[True], found[False]), COMPARED.get(direction, ("better", "worse")), strict=True)
    told = [f"{word} in {count if len(pairs) > 1 else 'the one pair'}" for count, word in words if count]
    among = f" of {len(pairs)} pairs" if len(pairs) > 1 else ""
    ratios = [pair.after.value / pair.before.value for pair in pairs if pair.before.value * pair.after.value > 0]
    times = f"times{' the distance' if direction == 'real' else ''}{', the median' if len(pairs) > 1 else ''}"
    return plain_list(told) + among + (f" ({statistics.median(ratios):.2f} {times})" if ratios else "")
