"""Two finished runs, cell by cell: what changed, and what that proves.

Two runs were measured at two times, perhaps on two machines, so a difference in speed between them proves nothing by
itself (docs/gate-simulation.md): it is shown, and a slow-down beyond the margin is INCONCLUSIVE until `bench gate` has
measured both alternately. Counts have no noise and are compared exactly; quality is judged by its intervals.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bench.harness.suite_spec import label
from bench.results.records import TIMED, Number, Record
from bench.results.run_folder import load_run
from bench.results.statistics import Estimate, trimmed_mean
from bench.results.verdicts import Finding, Verdict, count, not_worse

EXACT = ("fe_per_frame", "allocated_peak")  # the same work takes the same again
MEMORY_MARGIN = 0.05  # of the base: how many pages a process touches varies a little
ALPHA = 0.01


class FinishedRun(NamedTuple):
    """A finished run.

    Args:
        cells: id that a cell would have without its basis (source, weights, machine, software), so that cells of two
            revisions or machines meet -> its last record.
    """

    folder: Path
    manifest: Mapping[str, Any]
    cells: Mapping[str, Record]


def load(folder: Path) -> FinishedRun:
    """Read a run.

    Raises:
        ValueError: the folder holds no run, or a damaged one.
    """
    run = load_run(folder)
    return FinishedRun(folder, run.manifest, {_settings(record): record for record in run.records.values()})


def compare(
    base: FinishedRun,
    head: FinishedRun,
    *,
    margin: float = 0.07,
    quality_margin: float = 0.10,
    other_weights: bool = False,
) -> list[Finding]:
    """The findings on all cells that are in either run.

    Args:
        margin: a slow-down up to this share passes.
        quality_margin: what quality may lose, as a share of the base's value.
        other_weights: whether the two may have measured other weights.

    Raises:
        ValueError: the runs have no cell in common.
    """
    if not set(base.cells) & set(head.cells):
        raise ValueError(
            f"{base.folder} and {head.folder} have no cell in common: {base.manifest['suite']} and "
            f"{head.manifest['suite']} with equal settings would"
        )
    differing = [
        name for name in ("machine", "software") if base.manifest["basis"].get(name) != head.manifest["basis"].get(name)
    ]
    elsewhere = f"another {' and other '.join(differing)}" if differing else ""
    findings: list[Finding] = []
    if base.manifest["basis"].get("weights") != head.manifest["basis"].get("weights"):
        why = "the head measured other weights than the base, so another model"
        findings.append(
            Finding("run", "weights", "PASS", f"{why}, as was allowed")
            if other_weights
            else Finding("run", "weights", "CALIBRATION_NEEDED", f"{why}: --other-weights compares them all the same")
        )
    axes = dict.fromkeys([*base.manifest["axes"], *head.manifest["axes"]])
    for key in {**base.cells, **head.cells}:
        findings += _cell(base.cells.get(key), head.cells.get(key), axes, elsewhere, margin, quality_margin)
    return findings


def _settings(record: Record) -> str:
    """The key of a cell in `FinishedRun.cells`."""
    return replace(record.cell, basis={}).id


def _cell(
    base: Record | None,
    head: Record | None,
    axes: Iterable[str],
    elsewhere: str,
    margin: float,
    quality_margin: float,
) -> Iterator[Finding]:
    one = head or base
    assert one is not None
    name = label(one.cell.values, [axis for axis in axes if axis in one.cell.values])
    if base is None:
        yield Finding(name, "run", "CALIBRATION_NEEDED", "the base has no such cell")
        return
    if head is None:
        yield Finding(name, "run", "INVALID", "the head has no such cell: what was not measured has not passed")
        return
    if base.attempt.status != "ok":
        if head.attempt.status not in ("ok", base.attempt.status):
            yield Finding(name, "run", "INVALID", f"{head.attempt.status}: {head.attempt.reason}")
        elif head.attempt.status == "ok":
            yield Finding(name, "run", "CALIBRATION_NEEDED", f"the base was {base.attempt.status}, the head is ok")
        return
    if head.attempt.status != "ok":
        verdict: Verdict = "FAIL" if head.attempt.status == "oom" else "INVALID"
        yield Finding(name, "run", verdict, f"ok before, now {head.attempt.status}: {head.attempt.reason}")
        return
    emulated = "emulated" in {**base.facts, **head.facts}  # then its times mean nothing
    unjudged = {*TIMED} if emulated else {*TIMED} - {"s"}  # shares, speeds and ratios repeat what times say
    comparable = {measure: number for measure, number in base.numbers.items() if number.unit not in unjudged}
    for measure, number in comparable.items():
        now = head.numbers.get(measure)
        if now is None or now.unit != number.unit:
            why = (
                f"measured before, missing now: {head.absent.get(measure, 'it has no number')}"
                if now is None
                else f"measured in {now.unit or 'no unit'}, before in {number.unit or 'no unit'}"
            )
            yield Finding(name, measure, "INVALID", why, number.unit, number.value)
        elif measure in EXACT:
            yield count(name, measure, number.value, now.value, tolerance=0.01, unit=number.unit)
        elif number.unit == "bytes" and number.better == "lower":
            yield _memory(name, measure, number, now, elsewhere)
        elif number.unit == "s":
            samples = (base.samples.get(_samples_of(measure)), head.samples.get(_samples_of(measure)))
            yield _times(name, measure, number, now, samples, elsewhere, margin)
        elif number.better in ("lower", "higher"):
            yield _quality(name, measure, number, now, quality_margin)


def _samples_of(measure: str) -> str:
    return "total_seconds" if measure == "seconds_per_frame" else measure


def _memory(cell: str, measure: str, base: Number, head: Number, elsewhere: str) -> Finding:
    finding = count(cell, measure, base.value, head.value, tolerance=MEMORY_MARGIN, unit=base.unit)
    if finding.verdict == "FAIL" and elsewhere:
        return Finding(
            cell, measure, "CALIBRATION_NEEDED", f"{elsewhere}: {finding.reason}", base.unit, base.value, head.value,
            finding.change, margin=MEMORY_MARGIN,
        )  # fmt: skip
    return finding


def _times(
    cell: str,
    measure: str,
    base: Number,
    head: Number,
    samples: tuple[tuple[float, ...] | None, tuple[float, ...] | None],
    elsewhere: str,
    margin: float,
) -> Finding:
    """The ratio of two runs' times. Its interval covers the spread within each run, not what changed between them."""
    change = head.value / base.value - 1 if base.value > 0 else None  # a queue in which nobody waited has no ratio
    shown = f"{head.value:.3g} s after {base.value:.3g} s" if change is None else f"{change:+.1%} between two runs"
    finding = Finding(cell, measure, "PASS", shown, "s", base.value, head.value, change)
    if elsewhere:
        return replace(finding, verdict="CALIBRATION_NEEDED", reason=f"{elsewhere}: times do not compare")
    low = high = None
    n = min(len(each or ()) for each in samples)
    if n >= 4 and all(second > 0 for each in samples for second in each or ()):
        one, other = (trimmed_mean([math.log(second) for second in each or ()]) for each in samples)
        error = math.hypot(one.error, other.error)
        difference = Estimate(other.mean - one.mean, error, min(one.df, other.df), n)
        low, high = (math.expm1(end) for end in (difference.low(ALPHA), difference.high(ALPHA)))
    finding = replace(finding, low=low, high=high, margin=margin, n=n)
    if head.value <= (1 + margin) * max(base.value, 0.0):
        return finding
    return replace(finding, verdict="INCONCLUSIVE", reason=f"{finding.reason}: measure both in one with `bench gate`")


def _quality(cell: str, measure: str, base: Number, head: Number, share: float) -> Finding:
    """Non-inferiority from the two intervals, taken as independent, which is on the safe side."""
    halves = [number.half_width for number in (base, head) if number.half_width is not None]
    if len(halves) < 2 or base == head:  # then no change has an interval
        equal = base.value == head.value
        verdict: Verdict = "PASS" if equal else "INCONCLUSIVE"
        why = "equal" if equal else "too few samples for an interval"
        return Finding(cell, measure, verdict, why, base.unit, base.value, head.value, n=base.n)
    margin = share * abs(base.value) or share
    error = math.hypot(*halves) / 1.96
    difference = Estimate(head.value - base.value, error, max(min(base.n, head.n) - 1, 1), min(base.n, head.n))
    better = base.better or "lower"
    return not_worse(cell, measure, difference, margin=margin, better=better, base=base.value, unit=base.unit)
