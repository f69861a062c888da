"""Multiple comparisons: all differences of a run's headlines between rows that differ in one axis, or to real video.

Only numbers with an interval are compared. Rows with the same prompts and noise are compared video by video, others by
their own intervals; times by their repeats, and memory by one reading per row. Times and memory are compared as ratios,
and each side gets the error by which one process differs from the next.

All differences of a measure are tested together. Those between the same two values, at several settings, form one
claim: Simes' test decides whether it holds anywhere, corrected for the number of claims (Holm), and Hochberg's
procedure within the claim decides at which settings. So many settings that agree do not weaken each other.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from scipy.special import ndtri, stdtr, stdtrit

from bench.results.records import Record
from bench.results.statistics import Estimate, holm
from reports.format import numeric
from reports.paired_difference import paired_difference
from reports.phrases import phrase_of
from reports.run_table import REFERENCE, Run, emulated_time

ALPHA = 0.05
KNOWN = 10**6  # degrees of freedom of an error that counts as known
FEW = 4  # up to so many values of an axis of names all pairs are compared; of more, each with the first
PROCESS = 0.05  # relative error of a process's times and memory that its own repeats do not show
REPEATING = ("seed",)  # axes that only repeat the measurement
MOST, STEP = 10**5, 1.05  # the needed number of videos is searched up to MOST, by this factor per step


class Difference(NamedTuple):
    """The difference of one measure between two rows.

    Args:
        axis: the axis in which the rows differ.
        of, other: their values on it; `REFERENCE` for real video.
        at: axis -> value, for the settings that they have in common.
        value, base: their numbers, in the measure's unit.
        estimate: value - base, or log(value / base).
        ratio: whether it is the logarithm.
        size: videos or repeats of a row; 1 for a single reading.
        significant: whether it is beyond noise when all differences of the measure are tested together.
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
    significant: bool = False

    @property
    def half(self) -> float:
        """Half of the 95 % interval, in the unit of `estimate`."""
        return self.estimate.high(ALPHA / 2) - self.estimate.mean

    @property
    def strength(self) -> float:
        """The distance from zero in half intervals, 0 or more."""
        return abs(self.estimate.mean) / self.half if self.half else math.inf

    def reversed(self) -> "Difference":
        """The same difference with the two rows exchanged."""
        estimate = self.estimate._replace(mean=-self.estimate.mean)
        return self._replace(of=self.other, other=self.of, value=self.base, base=self.value, estimate=estimate)


class Couple(NamedTuple):
    """Two rows that differ in one axis, and the settings that they have in common."""

    axis: str
    of: Mapping[Any, Any]
    other: Mapping[Any, Any]
    at: Mapping[str, Any]


def differences(run: Run, rows: pd.DataFrame, measures: Sequence[str]) -> list[Difference]:
    """All differences of these measures, significant or not."""
    every = rows.to_dict("records")
    couples, to_real = list(_couples(run, every)), list(_to_real(run, every))
    tested = []
    for measure in measures:
        candidates = couples + (to_real if run.measures[measure]["better"] == "real" else [])
        part = [each for couple in candidates if (each := _difference(run, measure, couple))]
        tested += _test_together(part)
    return tested


def claim(difference: Difference) -> tuple[str, str, frozenset[Any]]:
    """The claim to which a difference belongs: its measure, its axis and the two values, whatever the setting."""
    return difference.measure, difference.axis, frozenset((difference.of, difference.other))


def compared_axes(run: Run) -> list[str]:
    """The axes along which rows of one table may be compared."""
    return [axis for axis in run.axes
            if axis not in run.apart and axis not in REPEATING and len(run.manifest["axes"][axis]) > 1]  # fmt: skip


def videos_needed(difference: Difference, claims: int) -> float:
    """How many videos, or repeats, would make a difference of this size significant; infinite if `MOST` would not.

    The error shrinks with the square root of their number, but the error between processes does not. `claims` is how
    many claims are tested together.
    """
    count = float(difference.size)
    while count < MOST and difference.estimate.mean:
        if detectable(difference, count / difference.size, claims) < abs(difference.estimate.mean):
            return count
        count *= STEP
    return math.inf


def detectable(difference: Difference, share: float, claims: int) -> float:
    """The smallest difference that would be significant, in the unit of the estimate.

    Args:
        share: of the videos or repeats that the difference has: 2 for twice as many.
        claims: how many are tested together.
    """
    floor = 2 * PROCESS**2 if difference.ratio else 0.0
    own = max(0.0, difference.estimate.error**2 - floor)
    quantile = float(stdtrit(difference.estimate.df * share, 1 - ALPHA / 2 / claims))
    return quantile * math.sqrt(floor + own / share)


def _test_together(part: Sequence[Difference]) -> list[Difference]:
    """The differences of one measure, each with `significant` set."""
    claims: dict[Any, list[Difference]] = {}
    for each in part:
        claims.setdefault(claim(each), []).append(each)
    p_values = [[_p(each.estimate) for each in several] for several in claims.values()]
    holds = [p < ALPHA for p in holm([_simes(each) for each in p_values])]
    return [
        each._replace(significant=anywhere and here)
        for several, p, anywhere in zip(claims.values(), p_values, holds, strict=True)
        for each, here in zip(several, _hochberg(p), strict=True)
    ]


def _simes(p_values: Sequence[float]) -> float:
    """The p-value of the hypothesis that no difference in the set is real. Source: Simes 1986."""
    return min(len(p_values) * p / rank for rank, p in enumerate(sorted(p_values), start=1))


def _hochberg(p_values: Sequence[float]) -> list[bool]:
    """Which differences of a set are real when all are tested together. Source: Hochberg 1988."""
    ordered = sorted(p_values, reverse=True)
    limit = next((p for rank, p in enumerate(ordered, start=1) if p < ALPHA / rank), -1.0)
    return [p <= limit for p in p_values]


def _p(estimate: Estimate) -> float:
    if estimate.error == 0:
        return float(estimate.mean == 0)
    return 2 * float(stdtr(estimate.df, -abs(estimate.mean) / estimate.error))


def _couples(run: Run, rows: Sequence[Mapping[Any, Any]]) -> Iterator[Couple]:
    """Pairs of rows that differ in one axis, the later value first; also along the group if its values are numbers."""
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
    """Pairs of rows with these two values that agree in every other axis that has a meaning for both.

    An axis without a common setting has no meaning for one of the two (the overlap of independent clips).
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
    axis = next(iter((*compared_axes(run), *run.axes)), run.group)
    for row in done:
        if not row["reference"] and row[run.group] in real:
            yield Couple(axis, row, real[row[run.group]], _common(run, axis, row, row))


def _common(run: Run, axis: str, of: Mapping[Any, Any], other: Mapping[Any, Any]) -> dict[str, Any]:
    """The settings of both rows; on an axis that has a meaning for only one of them, the setting of that one."""
    common = {}
    for name in (run.group, *run.axes):
        if name != axis:
            planned = run.manifest["axes"].get(name, ())
            common[name] = next((row[name] for row in (of, other) if row[name] in planned), of[name])
    return common


def _difference(run: Run, measure: str, couple: Couple) -> Difference | None:
    planned = run.measures[measure]
    if couple.axis == run.group and planned["table"] != "cost":
        return None  # between two groups only costs may be compared
    phrase = phrase_of(measure, planned)
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
    """A row's own value, or its logarithm, with its error; None if it has none."""
    number = record.numbers[measure]
    half = number.half_width
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
