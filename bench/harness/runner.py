"""From a suite to records: one process and one line for each cell; the same command again does what is missing.

A run lives in a folder:

    manifest.json   the plan of the last command: suite, measures, machine, software, revision, cells in order
    records.jsonl   every attempt, appended; the truth
    cells/ID/       job.json, log.txt, result.json and what the cell left (videos, features)
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.harness.cell_pool import HERE, CellJob, Workers, carry_out
from bench.harness.cell_process import is_whole, skipped, task_of
from bench.harness.identity import Identity
from bench.harness.job import Workload
from bench.harness.progress import CellTime, Progress
from bench.harness.suite_spec import PlannedCell, Suite, label, plan, references_of
from bench.results.manifest import read_manifest
from bench.results.records import (
    FINAL,
    SCHEMA,
    Cell,
    Record,
    Status,
    append,
    read,
    repair,
    write_atomic,
)
from bench.workloads import WORKLOADS
from vidrd.files import locked

TIMEOUT = 600  # seconds of a cell, where neither the command nor the suite says


class Outcome(NamedTuple):
    """How a run ended.

    Args:
        counts: status -> number of the chosen cells that ended so, whenever they were measured.
        reused: how many of them had a final record before this command.
        untried: how many were not tried because the time was up.
    """

    counts: Mapping[Status, int]
    reused: int
    untried: int

    @property
    def exit_code(self) -> int:
        """0: every cell has its row. 2: one crashed, ran out of time or is invalid. 4: some were not tried."""
        if any(self.counts.get(status) for status in ("failed", "timeout", "invalid")):
            return 2
        return 4 if self.untried else 0

    def joined(self, other: "Outcome") -> "Outcome":
        """How a run of these and of other cells ended."""
        counts = Counter(self.counts) + Counter(other.counts)
        return Outcome(counts, self.reused + other.reused, self.untried + other.untried)


def done_before(folder: Path, planned: Sequence[PlannedCell]) -> dict[str, Record]:
    """Cell id -> record, for the planned cells that need not run again."""
    latest = read(folder / "records.jsonl").latest()
    skipped = {item.cell.id for item in planned if item.skip is not None}
    return {
        item.cell.id: record
        for item in planned
        if (record := latest.get(item.cell.id)) is not None
        and record.attempt.status in FINAL
        and (record.attempt.status != "skipped" or item.cell.id in skipped)
        and is_whole(record, folder)
    }


def latest(folder: Path, planned: Sequence[PlannedCell]) -> list[Record]:
    """The last record of every planned cell that has one, however it ended."""
    records = read(folder / "records.jsonl").latest()
    return [records[item.cell.id] for item in planned if item.cell.id in records]


def pace(folder: Path, suite: Suite) -> list[CellTime]:
    """Times of the cells of this suite that ended well in this folder, with any source and weights: for an estimate."""
    settings = {*suite.axes, *suite.fixed}
    return [
        CellTime(suite.cost(record.cell.values), record.attempt.seconds, _accounted(record))
        for record in read(folder / "records.jsonl").latest().values()
        if record.attempt.status == "ok" and set(record.cell.values) == settings
    ]


def _accounted(record: Record) -> float | int:
    """Seconds of a cell that its record accounts for: loading, warm-up and batches."""
    batches = sum(sum(record.samples.get(name, ())) for name in ("total_seconds", "warm_up_seconds"))
    loading = record.numbers.get("load_seconds")
    return batches + (loading.value if loading else 0.0)


def found(record: Record, reference: Record | None, suite: Suite) -> str:
    """The first two headlines of each table that a cell has, bytes left out, each next to that of its reference."""
    said, kinds = [], Counter[str]()
    for name in suite.headlines:
        number, measure = record.numbers.get(name), suite.measures[name]
        if number is None or measure.unit == "bytes" or kinds[measure.table] == 2:
            continue
        kinds[measure.table] += 1
        beside = reference.numbers.get(name) if reference else None
        said.append(f"{measure.title} {number.value:.3g}" + (f" (reference {beside.value:.3g})" if beside else ""))
    return ", ".join(said)


def by_need(todo: Sequence[PlannedCell], suite: Suite) -> list[PlannedCell]:
    """Cells in their order, each reference right before the first cell that is compared with it.

    So the first cells differ in cost, and the time left can be estimated early.
    """
    waiting = {item.cell.id: item for item in todo if item.reference}
    ordered: list[PlannedCell] = []
    for item in todo:
        if item.reference:
            continue
        for values in reversed(references_of(suite, item.cell.values)):
            reference = waiting.pop(Cell(item.cell.workload, values, item.cell.basis).id, None)
            ordered += [] if reference is None else [reference]
        ordered.append(item)
    return [*ordered, *waiting.values()]


def run(
    name: str,
    suite: Suite,
    identity: Identity,
    chosen: Sequence[PlannedCell],
    folder: Path,
    *,
    timeout: float | int = TIMEOUT,  # seconds that one cell may take
    end: float | None = None,  # start no cell after this, in seconds of the epoch; None = no limit
    workers: Workers = HERE,  # who does the cells
    workloads: Mapping[str, Workload] = WORKLOADS,
    say: Callable[[str], None] = print,
    command: Sequence[str] = (),  # the command line, for the report
) -> Outcome:
    """Do the chosen cells that have no final record yet, each in a process of its own, one on every worker at a time.

    Raises:
        ValueError: another run is writing into the folder, it belongs to another suite, or its records are unreadable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / "records.jsonl"
    with locked(folder):
        _check_owner(folder, name)
        torn = repair(records)
        if torn:
            say(f"the last line of {records} was unfinished: its {len(torn)} bytes are in {records.stem}.torn now")
        _say_what_changed(folder, identity, say)
        _write_manifest(folder, name, suite, identity, command)
        before = done_before(folder, chosen)
        todo = by_need([item for item in chosen if item.cell.id not in before], suite)
        known, counts = read(records).latest(), Counter(record.attempt.status for record in before.values())
        axes, untried = list(suite.axes), 0
        costs = [0.0 if item.skip else item.cost for item in todo]
        with Progress(costs, pace(folder, suite), say, workers.at_a_time) as progress:

            def note(item: PlannedCell, record: Record) -> None:
                counts[record.attempt.status] += 1
                known[item.cell.id] = record
                results = found(record, known.get(task_of(item, suite).reference or ""), suite)
                progress.start(label(item.cell.values, axes))
                progress.end(record.attempt, 0.0 if item.skip else item.cost, _accounted(record), results)

            for item in (item for item in todo if item.skip is not None):
                append(records, record := skipped(item, identity))
                note(item, record)
            tasks = [task_of(item, suite) for item in todo if item.skip is None]
            job = CellJob(
                identity, suite.files, folder.absolute(), timeout, workloads[suite.workload],
                on_gpu=any(task.item.cell.values.get("device") == "cuda" for task in tasks),
                began=time.time(), end=end,
            )  # fmt: skip
            if tasks:
                progress.start("loading libraries")
                for task, tried in carry_out(
                    job, tasks, workers, say, lambda task: progress.start(label(task.item.cell.values, axes))
                ):
                    untried += not tried
                    for record in tried:
                        append(records, record)
                        if record is not tried[-1]:
                            say(f"{label(task.item.cell.values, axes)}: {record.attempt.reason}; once more")
                    if tried:
                        note(task.item, tried[-1])
    return Outcome(counts, len(before), untried)


def _check_owner(folder: Path, name: str) -> None:
    if (folder / "manifest.json").exists() and (owner := read_manifest(folder)["suite"]) != name:
        raise ValueError(f"{folder} holds a run of the suite {owner}, not of {name}: give --out another folder")


def _say_what_changed(folder: Path, identity: Identity, say: Callable[[str], None]) -> None:
    if not (folder / "manifest.json").exists():
        return
    before = read_manifest(folder)["basis"]
    changed = [name for name, value in identity.basis.items() if before.get(name) != value]
    if changed:
        say(f"changed since the last run in {folder}: {', '.join(changed)}; its records are kept and not used")


def conclude(folder: Path, name: str, suite: Suite, identity: Identity, command: Sequence[str]) -> None:
    """Write what the suite concludes from its records into the manifest, where it concludes anything."""
    if conclusions := suite.conclude(suite, latest(folder, plan(suite, identity.basis))):
        with locked(folder):
            _write_manifest(folder, name, suite, identity, command, conclusions)


def _write_manifest(
    folder: Path,
    name: str,
    suite: Suite,
    identity: Identity,
    command: Sequence[str],
    conclusions: Sequence[str] = (),
) -> None:
    """The whole plan, chosen or not: a report shows what is missing."""
    cells = [
        {
            "id": item.cell.id,
            "values": dict(item.cell.values),
            "reference": item.reference and not suite.among(item.cell.values),
        }
        for item in plan(suite, identity.basis)
    ]
    manifest = {
        "schema": SCHEMA,
        "suite": name,
        "question": suite.question,
        "hash": suite.hash,
        "workload": suite.workload,
        "conclusions": list(conclusions),
        "axes": {axis: list(values) for axis, values in suite.axes.items()},
        "fixed": dict(suite.fixed),
        "group": suite.group,
        "headlines": list(suite.headlines),
        "apart": list(suite.apart),
        "measures": {key: measure._asdict() for key, measure in suite.measures.items()},
        "approximations": {
            axis: found
            for axis, values in suite.axes.items()
            if (found := [v for v in values if suite.inexact(axis, v)])
        },
        "machine": identity.machine,
        "software": identity.software,
        "revision": identity.revision,
        "basis": identity.basis,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "cells": cells,
    }
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, allow_nan=False, ensure_ascii=False))
