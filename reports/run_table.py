"""A run's folder to rows: one for each planned cell, the real video of each group first. Needs no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from bench.results.records import Record
from bench.results.run_folder import load_run
from reports.phrases import HEADLINES, MEMORY

REFERENCE = "real video"
TIMED = ("s", "%", "x", "J", "GFLOP/s", "GB/s", "s/TFLOP")  # units of costs that come from a clock
Row: TypeAlias = Mapping[Any, Any] | pd.Series  # of a table: axes, status, reason, values


@dataclass(frozen=True)
class Run:
    """What lies in a run's folder.

    Args:
        manifest: the plan of the last command (`bench.harness.runner`).
        records: cell id -> last record, of the planned cells only.
        others: how many cells of the file are not of this plan: other settings, source, weights, machine or software.
        torn: the file ends in an unfinished line.
        journal: every record of the file, in order, of this plan or another.
    """

    folder: Path
    manifest: Mapping[str, Any]
    records: Mapping[str, Record]
    others: int
    torn: bool
    journal: Sequence[Record] = ()

    @property
    def group(self) -> str:
        """The axis (or fixed value) by which tables are split: values of two groups do not compare."""
        return str(self.manifest["group"])

    @cached_property
    def axes(self) -> list[str]:
        """The axes within a table. The first names the series: one colour a value, everywhere."""
        return [axis for axis in self.manifest["axes"] if axis != self.group]

    @cached_property
    def apart(self) -> list[str]:
        """The axes across which nothing is compared: the group, and those whose values do other work."""
        return [self.group, *(axis for axis in self.manifest.get("apart", ()) if axis in self.axes)]

    @cached_property
    def measures(self) -> Mapping[str, Mapping[str, Any]]:
        """Measure -> what the plan says of it: title, unit, better, table, definition."""
        measures: Mapping[str, Mapping[str, Any]] = self.manifest["measures"]
        return measures

    def title(self, measure: str) -> str:
        """The heading of a measure's column; bytes are shown as MiB."""
        said = self.measures[measure]
        return f"{said['title']} MiB" if said["unit"] == "bytes" else str(said["title"])

    def name(self, row: Row, *, group: bool = False) -> str:
        """What tells a row from its neighbours: "vidrd overlap=4 bf16"; with `group` also "at frames = 16"."""
        values = [(axis, row[axis]) for axis in self.axes if row[axis] != ""]
        said = " ".join(value if isinstance(value, str) else f"{axis}={value}" for axis, value in values)
        said = said or str(self.manifest["workload"])
        return f"{said} at {self.group} = {row[self.group]}" if group else said

    def prompts(self, key: str) -> list[str]:
        """The prompts of a cell's videos, in their order: its own, or those of the reference of its group."""
        cells = {cell["id"]: cell for cell in self.manifest["cells"]}
        at = cells[key]["values"][self.group]
        beside = [cell["id"] for cell in cells.values() if cell["reference"] and cell["values"][self.group] == at]
        for candidate in (key, *beside):
            record = self.records.get(candidate)
            if record is not None and "prompts" in record.facts:
                return record.facts["prompts"].splitlines()
        return []


def load(folder: Path) -> Run:
    """Read a run.

    Raises:
        ValueError: the folder holds no run, or one that cannot be read.
    """
    run = load_run(folder)
    others = len(run.journal.latest()) - len(run.records)
    return Run(folder, run.manifest, run.records, others, bool(run.journal.torn), run.journal.records)


def headlines(run: Run, rows: pd.DataFrame) -> list[str]:
    """Of each kind of measure the first that has numbers and a direction in which it is better."""
    found: dict[str, str] = {}
    for name, measure in run.measures.items():
        if measure["better"] in {"lower", "higher"} and bool(rows[name].notna().any()):
            found.setdefault(measure["table"], name)
    return list(found.values())


def spoken(run: Run, rows: pd.DataFrame) -> list[str]:
    """What the answer speaks of and the terminal shows, the most important first.

    The headlines of the plan that have numbers; of kinds that it names none of, those of `HEADLINES`, and of each such
    kind the first measure that has numbers and a direction.
    """

    def known(name: str) -> bool:
        return name in run.measures and bool(run.measures[name]["better"]) and bool(rows[name].notna().any())

    named = [name for name in run.manifest.get("headlines", ()) if known(name)]
    kinds = {run.measures[name]["table"] for name in named}
    memory = next(filter(known, MEMORY), "")
    usual = [memory if name == "memory" else name for name in HEADLINES]
    others = [*filter(known, usual), *headlines(run, rows)]
    return list(dict.fromkeys([*named, *(name for name in others if run.measures[name]["table"] not in kinds)]))


def emulated_time(record: Record, measure: str) -> bool:
    """Whether this number is a time of a precision that the machine only emulates: it compares with nothing."""
    return "emulated" in record.facts and measure in record.numbers and record.numbers[measure].unit in TIMED


def comparable(run: Run, row: Mapping[Any, Any]) -> dict[Any, Any]:
    """The row without its emulated times."""
    record = run.records.get(row["id"])
    gone = [name for name in run.measures if record is not None and emulated_time(record, name)]
    return {**row, **dict.fromkeys(gone)}


def rows(run: Run) -> pd.DataFrame:
    """One row a planned cell: group, axes, status, reason, and of each measure value, low, high and n (None = absent).

    Sorted by group in the order of the plan, references first in theirs. A reference shows no axes: they mean nothing
    for it.
    """
    return pd.DataFrame(_rows(run), dtype=object)


def _rows(run: Run) -> Iterator[dict[str, Any]]:
    group = run.manifest["group"]
    cells = run.manifest["cells"]
    order = list(dict.fromkeys(cell["values"][group] for cell in cells))
    for cell in sorted(cells, key=lambda cell: (order.index(cell["values"][group]), not cell["reference"])):
        record = run.records.get(cell["id"])
        row: dict[str, Any] = {"id": cell["id"], "reference": cell["reference"], group: cell["values"][group]}
        for position, axis in enumerate(run.axes):
            row[axis] = cell["values"][axis] if not cell["reference"] else REFERENCE if position == 0 else ""
        row["status"] = record.attempt.status if record else "not run"
        row["reason"] = record.attempt.reason if record else "the same command goes on"
        for measure in run.manifest["measures"]:
            number = record.numbers.get(measure) if record else None
            row[measure] = None if number is None else number.value
            row[f"{measure}_low"] = None if number is None else number.low
            row[f"{measure}_high"] = None if number is None else number.high
            row[f"{measure}_n"] = None if number is None else number.n
        yield row
