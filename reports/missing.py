"""What is missing from a run and why: one line per reason, however many cells it concerns."""

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from reports.format import MISSING
from reports.run_table import Run, emulated_time

DAGGER = "†"
EMULATED = f"{DAGGER} this machine only emulates that precision: these times are in no comparison and in no chart."
SIDE_BY_SIDE = "Several cells ran on a machine at a time: their times may be longer than those of a cell alone."
NAMED = 3  # cells that a line names; if there are more, it gives their number


class Note(NamedTuple):
    """One reason why numbers are missing.

    Args:
        what: a status ("oom"), or the titles of the measures without a number.
        reason: that of the first cell; reasons that differ only in numbers count as the same.
        cells: names of the cells that it concerns.
        all: whether these are all rows.
    """

    what: list[str]
    reason: str
    cells: list[str]
    all: bool

    @property
    def whom(self) -> str:
        """The cells by name, or their number, or "all"."""
        return "all" if self.all else _few(self.cells, "cells")

    @property
    def line(self) -> str:
        """The note in one line; long lists are replaced by their length."""
        return f"{_few(self.what, 'measures')}: {self.reason} ({self.whom})"

    def __str__(self) -> str:
        return f"{', '.join(self.what)}: {self.reason} ({self.whom})"


def _few(names: Sequence[str], what: str) -> str:
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} {what}"


def notes(
    run: Run, rows: Sequence[Mapping[Hashable, Any]], measures: Sequence[str], *, group: bool = False
) -> list[Note]:
    """Why cells have no numbers, then why measures have none; each reason appears once."""
    ends: dict[tuple[str, str], tuple[str, list[str]]] = {}
    gone: dict[str, tuple[str, list[str], list[str]]] = {}
    for row in rows:
        name = run.name(row, group=group)
        if row["status"] != "ok":
            ends.setdefault((row["status"], _alike(row["reason"])), (row["reason"], []))[1].append(name)
            continue
        absent = run.records[row["id"]].absent
        for measure in measures:
            if measure in absent:
                _, titles, cells = gone.setdefault(_alike(absent[measure]), (absent[measure], [], []))
                titles += [run.title(measure)] if run.title(measure) not in titles else []
                cells += [name] if name not in cells[-1:] else []
    whole = [Note([status], reason, cells, len(cells) == len(rows)) for (status, _), (reason, cells) in ends.items()]
    return whole + [Note([f"{MISSING} {titles[0]}", *titles[1:]], reason, cells, len(cells) == len(rows))
                    for reason, titles, cells in gone.values()]  # fmt: skip


def has_emulated(run: Run, rows: Sequence[Mapping[Hashable, Any]], measures: Sequence[str]) -> bool:
    """Whether any of these numbers is a time of an emulated precision, which `EMULATED` explains."""
    records = [run.records[row["id"]] for row in rows if row["id"] in run.records]
    return any(emulated_time(record, measure) for record in records for measure in measures)


def _alike(reason: str) -> str:
    """A key that is equal for reasons that differ only in numbers, or concern the same emulated precision."""
    if emulated := re.match(r"\w+ is emulated", reason):
        return emulated[0]
    return re.sub(r"\d+(\.\d+)?", "#", reason)
