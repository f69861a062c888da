"""Records of a run: one JSON line for each attempt at a cell, appended and never rewritten.

A cell is a question, an attempt is how its measurement ended, a record is both with everything that was measured. The
file of records is the truth; tables, pages and verdicts are made from it. Reading it takes only the standard library.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from vidrd.files import write_atomic as write_atomic  # noqa: PLC0414 - for reports, which import no vidrd

# 1: first version
SCHEMA = 1
# Between a measure and the number of a side, in the name of samples that are the measure with a group left out.
LEFT_OUT = ":left out:"
CHANGES = "+changes"  # ends the revision of a checkout whose files differ from its commit
TIMED = ("s", "%", "x", "J", "1/s", "GFLOP/s", "GB/s", "s/TFLOP")  # units of costs that come from a clock
# Settings that a workload got after its first cells, each with the value that stands for what was done before: left out
# of ids, so that a cell keeps its own.
LATER: Mapping[str, Mapping[str, str | float]] = {
    "lengths": {
        **{"real": "", "weights": "", "protocol": "clean"},
        **{"compat": "paper", "solver": "ddim", "positions": "trained"},
    },
    "approximation": {"model": "pocket", "revision": "", "prompts": ""},
    "growth": {"revision": ""},
    "instrument": {"real": "pocket"},
}

Value: TypeAlias = str | int | float | bool
Better: TypeAlias = Literal["lower", "higher", "real"]  # "real": the nearer to real video's own value the better
Status: TypeAlias = Literal["ok", "skipped", "oom", "timeout", "failed", "invalid"]
STATUSES: tuple[Status, ...] = get_args(Status)
# Trying again would end the same way. "failed" and "timeout" are not here: the same command tries them again.
FINAL: tuple[Status, ...] = ("ok", "skipped", "oom", "invalid")


@dataclass(frozen=True)
class Cell:
    """The settings of a measurement, and all that its result depends on. Cells of equal content have one id, anywhere.

    Args:
        workload: the name of the work, a key of `bench.workloads.WORKLOADS`.
        values: every setting of the work: axes and fixed values.
        basis: hashes of what the settings do not name: weights, source, machine, software. A record answers a cell only
            if these agree too.
    """

    workload: str
    values: Mapping[str, Value]
    basis: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _frozen(self.values))
        object.__setattr__(self, "basis", _frozen(self.basis))

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[type["Cell"], tuple[object, ...]]:
        return Cell, (self.workload, dict(self.values), dict(self.basis))  # proxies of mappings cannot be pickled

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the content."""
        later = LATER.get(self.workload, {}).items()
        values = {name: value for name, value in self.values.items() if (name, value) not in later}
        return digest({"workload": self.workload, "values": values, "basis": dict(self.basis)})


class NotFiniteError(ValueError):
    """Raised when a number that is NaN or infinite was about to be recorded."""


def half_width(value: float, low: float | None, high: float | None) -> float | None:
    """Half an interval, by its longer side: the other may be cut at an end of the measure's range. None without one."""
    return None if low is None or high is None else max(value - low, high - value)


@dataclass(frozen=True)
class Number:
    """A measured number that describes itself, so that a report needs no list of measures.

    Args:
        value: finite, in `unit`.
        unit: "s", "bytes", "1/frame", ... or "" for a pure number.
        better: which direction is better; None when none is.
        n: how many videos or repeats it comes from.
        low: lower end of the 95 % interval; None, with `high`, when n is too small for one.
        high: upper end of the 95 % interval.
    """

    value: float
    unit: str = ""
    better: Better | None = None
    n: int = 1
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise NotFiniteError(
                    f"a number in a record is finite; {name} is {number}: leave it out and say why in `absent`"
                )
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends; give both low and high, or neither")

    @property
    def half_width(self) -> float | None:
        """Half the 95 % interval, as `half_width` has it."""
        return half_width(self.value, self.low, self.high)


@dataclass(frozen=True)
class Attempt:
    """How a cell ended, when and after how long. It has a reason if and only if the status is not "ok"."""

    status: Status
    reason: str = ""
    started: str = ""  # UTC, ISO 8601
    seconds: float = 0.0  # from the start of the process to its end

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is unknown: it is one of {', '.join(STATUSES)}")
        if (self.status == "ok") == bool(self.reason):
            raise ValueError(
                f"an attempt has a reason exactly when it is not ok; got {self.status!r} with {self.reason!r}"
            )


def short_revision(revision: str) -> str:
    """A revision for readers: eight digits of the commit, and whether the checkout differed from it."""
    commit, changes, _ = revision.partition(CHANGES)
    return f"{commit[:8]}{changes}"


@dataclass(frozen=True)
class Record:
    """One attempt at one cell and everything it measured.

    Args:
        numbers: measure -> number.
        samples: name -> raw repeats, in the order they were taken; nothing is averaged away. A measure
            that is a mean over videos has one value per video under its name, and under "MEASURE:left out:SIDE" the
            measure with one group of that side's videos left out at a time.
        absent: measure -> why it has no number.
        facts: name -> text: hash of the output, kind of memory reading, ...; records of equal `pairs` made their videos
            from the same prompts and noise, one by one.
        machine: what the attempt ran on.
        revision: commit of the project; "+changes" is appended when the checkout differed from it.
    """

    cell: Cell
    attempt: Attempt
    numbers: Mapping[str, Number] = field(default_factory=dict)
    samples: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Value] = field(default_factory=dict)
    revision: str = ""
    schema: int = SCHEMA

    def to_json(self) -> str:
        """One line. Raises ValueError for a number that is not finite."""
        return canonical(
            {
                "schema": self.schema,
                "id": self.cell.id,
                "cell": _plain(self.cell),
                "attempt": _plain(self.attempt),
                "numbers": {name: _plain(number) for name, number in self.numbers.items()},
                "samples": {name: list(values) for name, values in self.samples.items()},
                "absent": dict(self.absent),
                "facts": dict(self.facts),
                "machine": dict(self.machine),
                "revision": self.revision,
            }
        )

    @classmethod
    def from_json(cls, line: str) -> "Record":
        """The record of a line.

        Raises:
            ValueError: the line is no JSON, was written by a newer schema, or its id does not belong to its content.
        """
        data = json.loads(line, parse_constant=refuse_constant)
        if not isinstance(data, dict):
            raise ValueError("it is no object")
        if data.get("schema") != SCHEMA:
            raise ValueError(f"schema {data.get('schema')}; this version reads {SCHEMA}")
        fault = _fault_of(data)
        if fault:
            raise ValueError(fault)
        cell = Cell(**data["cell"])
        if cell.id != data["id"]:
            raise ValueError(f"cell {data['id']} was changed by hand: its content is that of {cell.id}")
        return cls(
            cell=cell,
            attempt=Attempt(**data["attempt"]),
            numbers={name: Number(**number) for name, number in data["numbers"].items()},
            samples={name: tuple(values) for name, values in data["samples"].items()},
            absent=data["absent"],
            facts=data["facts"],
            machine=data["machine"],
            revision=data["revision"],
            schema=data["schema"],
        )


class Journal(NamedTuple):
    """The records of a file in order, and the bytes of a last line that was never finished (b"" if none)."""

    records: list[Record]
    torn: bytes

    def latest(self) -> dict[str, Record]:
        """Cell id -> its last record: a later attempt replaces an earlier one."""
        return {record.cell.id: record for record in self.records}


def append(path: Path, record: Record) -> None:
    """Add one line and return when it is on the disk."""
    append_line(path, record.to_json())


def append_line(path: Path, text: str) -> None:
    """Add a line to a file, which is made if it is not there, and return when it is on the disk."""
    line = (text + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        while line:
            line = line[os.write(handle, line) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> Journal:
    """The records of a file; none if there is no file.

    A last line without its end is what a killed writer leaves: it is returned apart, not raised.

    Raises:
        ValueError: a finished line cannot be read; the message names file and line.
    """
    if not path.exists():
        return Journal([], b"")
    if not path.is_file():
        raise ValueError(f"{path} is no file: move it away to start anew")
    *lines, torn = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(Record.from_json(line.decode()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}, is no record ({error}): move the file away to start anew"
            ) from error
    return Journal(records, torn)


def repair(path: Path) -> bytes:
    """Cut an unfinished last line off, append its bytes to a .torn file next to `path`, and return them (b"" if none).

    Call it only while no other process can write.
    """
    torn = read(path).torn
    if torn:
        with path.with_suffix(".torn").open("ab") as torn_file:
            torn_file.write(torn + b"\n")
            torn_file.flush()
            os.fsync(torn_file.fileno())
        os.truncate(path, path.stat().st_size - len(torn))
    return torn


def canonical(content: object) -> str:
    """JSON with one spelling for equal content: sorted keys, no spaces, no NaN."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(content: object) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:12]


def _frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping))


def _plain(item: Cell | Attempt | Number) -> dict[str, object]:
    fields: Iterable[str] = item.__dataclass_fields__
    values = ((name, getattr(item, name)) for name in fields)
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values if value is not None}


def is_value(content: object) -> bool:
    """Whether this is a text, true or false, a finite float, or a whole number below 2^64 in size."""
    whole = isinstance(content, int) and abs(content) < 2**64
    return isinstance(content, str) or whole or (isinstance(content, float) and math.isfinite(content))


def refuse_constant(name: str) -> float:
    """For `json.loads`: NaN and infinity are no JSON."""
    raise ValueError(f"{name} is no number")


def is_number(content: object) -> bool:
    """Whether this is a finite number, and neither true nor false."""
    return is_value(content) and not isinstance(content, str | bool)


def _is_text(content: object) -> bool:
    return isinstance(content, str)


def _fault_of(data: Mapping[str, Any]) -> str:
    """The first field of a record's line that is of a wrong type; "" if none is."""
    tables: tuple[tuple[str, Callable[[Any], bool]], ...] = (
        ("cell", lambda content: True),
        ("attempt", is_value),
        ("numbers", lambda content: isinstance(content, dict)),
        ("samples", lambda content: isinstance(content, list) and all(map(is_number, content))),
        ("absent", _is_text),
        ("facts", _is_text),
        ("machine", is_value),
    )
    for name, holds in tables:
        if not isinstance(data.get(name), dict) or not all(map(holds, data[name].values())):
            return f"{name} is not what a record holds"
    cell, attempt = data["cell"], data["attempt"]
    checks = {
        "cell": _is_text(cell.get("workload"))
        and all(isinstance(cell.get(part, {}), dict) for part in ("values", "basis"))
        and all(map(is_value, cell.get("values", {}).values()))
        and all(map(_is_text, cell.get("basis", {}).values())),
        "attempt": all(_is_text(attempt.get(part, "")) for part in ("status", "reason", "started"))
        and is_number(attempt.get("seconds", 0.0)),
        "numbers": all(map(_is_measured, data["numbers"].values())),
        "revision": _is_text(data.get("revision")),
    }
    return next((f"{name} is not what a record holds" for name, holds in checks.items() if not holds), "")


def _is_measured(number: Mapping[str, Any]) -> bool:
    return (
        is_number(number.get("value"))
        and _is_text(number.get("unit", ""))
        and number.get("better") in (None, *get_args(Better))
        and isinstance(number.get("n", 1), int)
        and is_number(number.get("n", 1))
        and all(number.get(end) is None or is_number(number[end]) for end in ("low", "high"))
    )


@dataclass(frozen=True)
class CellResults:
    """The results that a workload returns; the fields are those of `bench.results.records.Record`."""

    numbers: Mapping[str, Number] = field(default_factory=dict)
    samples: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.samples.items():
            if not all(map(math.isfinite, values)):
                raise NotFiniteError(f"the samples in a record are finite; {name} has one that is not")


class InvalidError(Exception):
    """Raised by a workload whose results cannot be trusted: a wrong count of calls, output that is not finite."""
