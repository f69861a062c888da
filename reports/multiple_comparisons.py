"""Every difference that a run's headlines can show: of rows alike in all but one axis, and of rows to real video.

What is compared has an interval. Rows of the same prompts and noise are compared video by video; others by their own
intervals; times by their repeats, and memory by one reading a row. Times and memory are compared as ratios, with what
one process differs from the next put to either side.

All differences of a measure are judged together. Those between the same two values, at several settings, are one claim:
whether it holds anywhere is told by Simes' test, corrected for the number of claims (Holm), and where it holds by
Hochberg's procedure within it. Many settings that agree so do not weaken each other.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from scipy.special import ndtri, stdtr, stdtrit

from bench.results.records import Record
from bench.results.statistics import Estimate, holm
from reports.format import half_width, numeric
from reports.paired import paired_difference
from reports.phrases import phrase_of
from reports.run_table import REFERENCE, Run, emulated_time

ALPHA = 0.05
KNOWN = 10**6  # degrees of freedom of an error that is taken for known
FEW = 4  # values of an axis of names up to which each is set against each other; of more each against the first
PROCESS = 0.02  # relative error of a process's times and memory that its own repeats do not show
UNHEARD = ("seed",)  # axes that repeat
MOST, STEP = 10**5, 1.05  # videos up to which the number needed is looked for, and the factor of a step


class Difference(NamedTuple):
    """What one row has more than another, or less.

    Args:
        axis: in which they differ.
        of, other: their values on it; `REFERENCE` for real video.
        at: what they have in common.
        value, base: their numbers.
        estimate: value less base, or the logarithm of value by base.
        ratio: which of these.
        size: videos or repeats of a row; 1 for one reading.
        told: beyond noise, all differences of the measure judged together.
    """

    measure: str
    axis: str
    of: Any
    other: Any
    at: Mapping[str, Any]
    value: float
    base: float
    estimate: Estimate
    ratio: bool
    size: int
    told: bool = False

    @property
    def half(self) -> float:
        """Half of the 95 % interval."""
        return self.estimate.high(ALPHA / 2) - self.estimate.mean

    @property
    def strength(self) -> float:
        """How many half intervals it is from none."""
        return abs(self.estimate.mean) / self.half if self.half else math.inf

    def turned(self) -> "Difference":
        """The same, seen from the other row."""
        estimate = self.estimate._replace(mean=-self.estimate.mean)
        return self._replace(of=self.other, other=self.of, value=self.base, base=self.value, estimate=estimate)


class Couple(NamedTuple):
    """Two rows that differ in one axis, and what they have in common."""

    axis: str
    of: Mapping[Any, Any]
    other: Mapping[Any, Any]
    at: Mapping[str, Any]


def differences(run: Run, rows: pd.DataFrame, measures: Sequence[str]) -> list[Difference]:
    """All of them, told or not."""
    every = rows.to_dict("records")
    couples, to_real = list(_couples(run, every)), list(_to_real(run, every))
    found = []
    for measure in measures:
        candidates = couples + (to_real if run.measures[measure]["better"] == "real" else [])
        part = [each for couple in candidates if (each := _difference(run, measure, couple))]
        found += _judged(part)
    return found


def claim(difference: Difference) -> tuple[str, str, frozenset[Any]]:
    """What differences have in common that are between the same two values."""
    return difference.measure, difference.axis, frozenset((difference.of, difference.other))


def compared_axes(run: Run) -> list[str]:
    """The axes along which rows of one table compare."""
    return [axis for axis in run.axes
            if axis not in run.apart and axis not in UNHEARD and len(run.manifest["axes"][axis]) > 1]  # fmt: skip


def videos_needed(difference: Difference, claims: int) -> float:
    """How many videos, or repeats, would tell a difference of this size; infinite where `MOST` would not.

    The error shrinks by the root of their number; what a process differs from the next does not. So many claims are
    judged together.
    """
    estimate, count = difference.estimate, float(difference.size)
    floor = 2 * PROCESS**2 if difference.ratio else 0.0
    own = max(0.0, estimate.error**2 - floor)
    while count < MOST and estimate.mean:
        share = count / difference.size
        reach = float(stdtrit(estimate.df * share, 1 - ALPHA / 2 / claims)) * math.sqrt(floor + own / share)
        if reach < abs(estimate.mean):
            return count
        count *= STEP
    return math.inf


def _judged(part: Sequence[Difference]) -> list[Difference]:
    """The differences of one measure with the verdict on each."""
    claims: dict[Any, list[Difference]] = {}
    for each in part:
        claims.setdefault(claim(each), []).append(each)
    chances = [[_p(each.estimate) for each in several] for several in claims.values()]
    holds = [p < ALPHA for p in holm([_simes(each) for each in chances])]
    return [
        each._replace(told=anywhere and here)
        for several, p, anywhere in zip(claims.values(), chances, holds, strict=True)
        for each, here in zip(several, _hochberg(p), strict=True)
    ]


def _simes(chances: Sequence[float]) -> float:
    """The chance of such a set if no difference in it were real. Source: Simes 1986."""
    return min(len(chances) * p / rank for rank, p in enumerate(sorted(chances), start=1))


def _hochberg(chances: Sequence[float]) -> list[bool]:
    """Which of a set are real, all of them judged together. Source: Hochberg 1988."""
    ordered = sorted(chances, reverse=True)
    limit = next((p for rank, p in enumerate(ordered, start=1) if p < ALPHA / rank), -1.0)
    return [p <= limit for p in chances]


def _p(estimate: Estimate) -> float:
    if estimate.error == 0:
        return float(estimate.mean == 0)
    return 2 * float(stdtr(estimate.df, -abs(estimate.mean) / estimate.error))


def _couples(run: Run, rows: Sequence[Mapping[Any, Any]]) -> Iterator[Couple]:
    """Rows that differ in one axis, the later value's first; costs also along the group, if that is numbers."""
    planned = [row for row in rows if not row["reference"]]
    for axis in compared_axes(run):
        values = run.manifest["axes"][axis]
        if numeric(values):
            pairs = [(max(values), min(values))]
        elif len(values) <= FEW:
            pairs = [(values[j], values[i]) for i in range(len(values)) for j in range(i + 1, len(values))]
        else:
            pairs = [(value, values[0]) for value in values[1:]]
        for of, other in pairs:
            yield from _matched(run, planned, axis, of, other)
    values = list(dict.fromkeys(row[run.group] for row in planned))
    if len(values) > 1 and numeric(values):
        yield from _matched(run, planned, run.group, max(values), min(values))


def _matched(run: Run, planned: Sequence[Mapping[Any, Any]], axis: str, of: Any, other: Any) -> Iterator[Couple]:
    """Rows of two values that agree in all else, as far as it has a meaning for both of them.

    An axis on which the two have no setting in common has none for one of them (the overlap of independent clips).
    """
    one, two = ([row for row in planned if row[axis] == value] for value in (of, other))
    others = [name for name in (run.group, *run.axes) if name != axis]
    shared = [name for name in others if name in run.apart or {row[name] for row in one} & {row[name] for row in two}]
    more, fewer = (one, two) if len(one) >= len(two) else (two, one)
    ends: dict[tuple[Any, ...], Any] = {}
    for row in fewer:
        if row["status"] == "ok":
            ends.setdefault(tuple(row[name] for name in shared), row)
    for row in more:
        end = ends.get(tuple(row[name] for name in shared)) if row["status"] == "ok" else None
        if end is not None:
            first, last = (row, end) if more is one else (end, row)
            yield Couple(axis, first, last, _common(run, axis, first, last))


def _to_real(run: Run, rows: Sequence[Mapping[Any, Any]]) -> Iterator[Couple]:
    done = [row for row in rows if row["status"] == "ok"]
    real = {row[run.group]: row for row in done if row["reference"]}
    axis = next(iter(run.axes), run.group)
    for row in done:
        if not row["reference"] and row[run.group] in real:
            yield Couple(axis, row, real[row[run.group]], _common(run, axis, row, row))


def _common(run: Run, axis: str, of: Mapping[Any, Any], other: Mapping[Any, Any]) -> dict[str, Any]:
    """Where both rows are; of an axis that has a meaning for one of them only, where that one is."""
    found = {}
    for name in (run.group, *run.axes):
        if name != axis:
            planned = run.manifest["axes"].get(name, ())
            found[name] = next((row[name] for row in (of, other) if row[name] in planned), of[name])
    return found


def _difference(run: Run, measure: str, couple: Couple) -> Difference | None:
    said = run.measures[measure]
    if couple.axis == run.group and said["table"] != "cost":
        return None  # values of two groups do not compare, but what they cost
    phrase = phrase_of(measure, said)
    of, other = (run.records[row["id"]] for row in (couple.of, couple.other))
    if any(measure not in each.numbers or emulated_time(each, measure) for each in (of, other)):
        return None
    ratio, repeats = bool(phrase.ratio), phrase.samples or measure
    estimate = None if ratio else paired_difference(other, of, measure)
    if estimate is None:
        sides = [_side(each, measure, repeats, ratio) for each in (of, other)]
        if sides[0] is None or sides[1] is None:
            return None
        estimate = _less(sides[0], sides[1])
    return Difference(
        measure,
        couple.axis,
        of=couple.of[couple.axis],
        other=REFERENCE if couple.other["reference"] else couple.other[couple.axis],
        at=couple.at,
        value=of.numbers[measure].value,
        base=other.numbers[measure].value,
        estimate=estimate,
        ratio=ratio,
        size=estimate.n if ratio else int(of.cell.values.get("videos", estimate.n)),
    )


def _side(record: Record, measure: str, repeats: str, ratio: bool) -> Estimate | None:
    """A row's own value, or its logarithm, with its error; None where it has none."""
    number = record.numbers[measure]
    half = half_width(number.value, number.low, number.high)
    z = float(ndtri(1 - ALPHA / 2))
    if not ratio:
        return None if half is None else Estimate(number.value, half / z, KNOWN, number.n)
    if number.value <= 0:
        return None
    samples = [math.log(each) for each in record.samples.get(repeats, ()) if each > 0]
    own, df, n = 0.0, KNOWN, 1
    if half is not None and number.low is not None and number.high is not None and number.low > 0:
        own, n = max(math.log(number.high / number.value), math.log(number.value / number.low)) / z, number.n
    elif len(samples) > 1:
        own, df, n = statistics.stdev(samples) / math.sqrt(len(samples)), len(samples) - 1, len(samples)
    elif number.unit != "bytes":
        return None
    error = math.hypot(own, PROCESS)
    df = min(KNOWN, round(df * (error / own) ** 4)) if own else KNOWN
    return Estimate(math.log(number.value), error, df, n)


def _less(one: Estimate, two: Estimate) -> Estimate:
    """The difference of two independent estimates; degrees of freedom by Welch and Satterthwaite."""
    parts = [(each.error**2, each.df) for each in (one, two)]
    variance = sum(part for part, _ in parts)
    df = round(variance**2 / sum(part**2 / df for part, df in parts)) if variance else KNOWN
    return Estimate(one.mean - two.mean, math.sqrt(variance), min(KNOWN, max(1, df)), min(one.n, two.n))
