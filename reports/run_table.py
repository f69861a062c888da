"""A run's folder as a table: one row per planned cell, the real video of each group first. Needs no torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from bench.results.records import TIMED, Record
from bench.results.run_folder import load_run
from reports.format import printable
from reports.phrases import HEADLINES, MEMORY

REFERENCE = "real video"
APPROXIMATE = "≈"  # after the value of an axis that computes something else than the plain one
Row: TypeAlias = Mapping[Any, Any] | pd.Series  # of a table: axes, status, reason, values


@dataclass(frozen=True)
class Run:
    """The content of a run's folder.

    Args:
        manifest: the plan of the last command (`bench.harness.runner`).
        records: cell id -> its last record, for the planned cells only.
        others: how many cells in the file are not in this plan: other settings, source, weights, machine or software.
        torn: whether the file ends in an unfinished line.
        journal: every record of the file, in order, whether in this plan or not.
        folders: cell id -> the folder of the run that made it, for runs that were pooled.
    """

    folder: Path
    manifest: Mapping[str, Any]
    records: Mapping[str, Record]
    others: int
    torn: bool
    journal: Sequence[Record] = ()
    folders: Mapping[str, Path] = field(default_factory=dict)

    def cell_folder(self, key: str) -> Path:
        """The folder of a cell, with what it saved."""
        return self.folders.get(key, self.folder) / "cells" / key

    @property
    def group(self) -> str:
        """The axis (or fixed value) by which tables are split: values of two groups are not comparable."""
        return str(self.manifest["group"])

    @cached_property
    def axes(self) -> list[str]:
        """The axes within a table. The first one defines the series; each of its values has one color everywhere."""
        return [axis for axis in self.manifest["axes"] if axis != self.group]

    @cached_property
    def apart(self) -> list[str]:
        """The axes across which nothing is compared: the group, and axes whose values stand for different work."""
        return [self.group, *(axis for axis in self.manifest.get("apart", ()) if axis in self.axes)]

    @cached_property
    def measures(self) -> Mapping[str, Mapping[str, Any]]:
        """Measure -> its entry in the plan: title, unit, better, table, definition."""
        measures: Mapping[str, Mapping[str, Any]] = self.manifest["measures"]
        return measures

    def title(self, measure: str) -> str:
        """The heading of a measure's column; bytes are shown as MiB."""
        planned = self.measures[measure]
        return f"{planned['title']} MiB" if planned["unit"] == "bytes" else str(planned["title"])

    def name(self, row: Row, *, group: bool = False) -> str:
        """The settings that identify a row: "vidrd overlap=4 bf16"; with `group` also "at frames = 16"."""
        values = [(axis, row[axis]) for axis in self.axes if row[axis] != ""]
        text = " ".join(value if isinstance(value, str) else f"{axis}={value}" for axis, value in values)
        text = text or str(self.manifest["workload"])
        return f"{text} at {self.group} = {row[self.group]}" if group else text

    def prompts(self, key: str) -> list[str]:
        """The prompts of a cell's videos, in their order: its own, or else those of its group's reference."""
        cells = {cell["id"]: cell for cell in self.manifest["cells"]}
        at = cells[key]["values"][self.group]
        references = [cell["id"] for cell in cells.values() if cell["reference"] and cell["values"][self.group] == at]
        for candidate in (key, *references):
            record = self.records.get(candidate)
            if record is not None and "prompts" in record.facts:
                return record.facts["prompts"].splitlines()
        return []


def load(folder: Path) -> Run:
    """Read a run from its folder, its texts fit to be displayed.

    Raises:
        ValueError: the folder has no run, or its files cannot be read.
    """
    run = load_run(folder)
    others = len(run.journal.latest()) - len(run.records)
    records = {key: _displayed(record) for key, record in run.records.items()}
    journal = [_displayed(record) for record in run.journal.records]
    return Run(folder, _displayed(_with_marks(run.manifest)), records, others, bool(run.journal.torn), journal)


def _displayed(content: Any) -> Any:
    """The content with spaces for all control characters of its texts but line ends, wherever they stand in it.

    Titles, units and values reach terminals, charts and pages, some of which such characters command, and others crash.
    """
    if isinstance(content, str):
        return content if content.isprintable() else "\n".join(map(printable, content.split("\n")))
    if isinstance(content, Mapping):
        return {_displayed(key): _displayed(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_displayed(each) for each in content]
    if is_dataclass(content) and not isinstance(content, type):
        return replace(content, **{each.name: _displayed(getattr(content, each.name)) for each in fields(content)})
    return content


def _with_marks(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest with `APPROXIMATE` after every value of an axis that makes an approximation."""
    inexact: Mapping[str, Any] = manifest.get("approximations") or {}
    if not inexact:
        return manifest

    def marked(axis: str, value: Any) -> Any:
        return f"{value} {APPROXIMATE}" if value in inexact.get(axis, ()) else value

    axes = {axis: [marked(axis, value) for value in values] for axis, values in manifest["axes"].items()}
    cells = [
        {**cell, "values": {axis: marked(axis, value) for axis, value in cell["values"].items()}}
        for cell in manifest["cells"]
    ]
    return {**manifest, "axes": axes, "cells": cells}


def unmarked(value: object) -> str:
    """The value of an axis as text, as records have it: without the mark of an approximation."""
    return str(value).removesuffix(f" {APPROXIMATE}")


def check_known(option: str, names: Sequence[str], known: Iterable[str], run: Run) -> None:
    """Raise ValueError where the run has no measure, method and so on of one of the names."""
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{option} {' '.join(unknown)}: {run.folder} has {', '.join(known)}")


def headlines(run: Run, rows: pd.DataFrame) -> list[str]:
    """The first measure of each kind that has numbers and for which lower or higher is better."""
    first: dict[str, str] = {}
    for name, measure in run.measures.items():
        if measure["better"] in {"lower", "higher"} and bool(rows[name].notna().any()):
            first.setdefault(measure["table"], name)
    return list(first.values())


def reported(run: Run, rows: pd.DataFrame) -> list[str]:
    """The measures of the answer and of the terminal's table, the most important first.

    These are the headlines of the plan that have numbers. For a kind of measures without a headline in the plan, they
    are those of `HEADLINES`, and the first measure of the kind that has numbers and a direction.
    """

    def known(name: str) -> bool:
        return name in run.measures and bool(run.measures[name]["better"]) and bool(rows[name].notna().any())

    named = [name for name in run.manifest.get("headlines", ()) if known(name)]
    kinds = {run.measures[name]["table"] for name in named}
    memory = next(filter(known, MEMORY), "")
    usual = [memory if name == "memory" else name for name in HEADLINES]
    others = [*filter(known, usual), *headlines(run, rows)]
    return list(dict.fromkeys([*named, *(name for name in others if run.measures[name]["table"] not in kinds)]))


def with_base(run: Run, base: str) -> Run:
    """The run with this value of an axis before its others, which are compared with the first one.

    Raises:
        ValueError: no axis has such a value.
    """
    axes: Mapping[str, Sequence[Any]] = run.manifest["axes"]
    owners = {str(value): axis for axis in reversed(run.axes) for value in axes[axis]}  # of two, the first axis
    check_known("--base", [base], [str(value) for axis in run.axes for value in axes[axis]], run)
    first = sorted(axes[owners[base]], key=lambda value: str(value) != base)
    return replace(run, manifest={**run.manifest, "axes": {**axes, owners[base]: first}})


def emulated_time(record: Record, measure: str) -> bool:
    """Whether this number is a time of a precision that the machine only emulates: it is not comparable."""
    return "emulated" in record.facts and measure in record.numbers and record.numbers[measure].unit in TIMED


def comparable(run: Run, row: Mapping[Any, Any]) -> dict[Any, Any]:
    """The row without its emulated times."""
    record = run.records.get(row["id"])
    gone = [name for name in run.measures if record is not None and emulated_time(record, name)]
    return {**row, **dict.fromkeys(gone)}


def rows(run: Run) -> pd.DataFrame:
    """One row per planned cell: group, axes, status, reason; value, low, high and n of each measure (None = absent).

    Rows are sorted by group, in the order of the plan, with the references of each group first. A reference has no
    axes, because they have no meaning for it.
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
            value = cell["values"][axis] if not cell["reference"] else REFERENCE if position == 0 else ""
            row[axis] = value
        row["status"] = record.attempt.status if record else "not run"
        row["reason"] = record.attempt.reason if record else "run the same command again to complete it"
        for measure in run.manifest["measures"]:
            number = record.numbers.get(measure) if record else None
            row[measure] = None if number is None else number.value
            row[f"{measure}_low"] = None if number is None else number.low
            row[f"{measure}_high"] = None if number is None else number.high
            row[f"{measure}_n"] = None if number is None else number.n
        yield row
