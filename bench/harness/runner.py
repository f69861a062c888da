"""From a suite to records: one process and one line for each cell; the same command again does what is missing.

A run lives in a folder:

    manifest.json   the plan of the last command: suite, measures, machine, software, revision, cells in order
    records.jsonl   every attempt, appended; the truth
    cells/ID/       job.json, log.txt, result.json and what the cell left (videos, features)
"""

import fcntl
import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

from bench.hardware.machine import ROOT, files_hash, machine, revision, software, source_hash
from bench.harness.job import RUN, Workload
from bench.harness.progress import CellTime, Progress
from bench.harness.suite_spec import PlannedCell, Suite, label, plan
from bench.harness.worker import child
from bench.results.manifest import read_manifest
from bench.results.records import (
    FINAL,
    SCHEMA,
    Attempt,
    Cell,
    Number,
    Record,
    Status,
    Value,
    append,
    canonical,
    digest,
    read,
    repair,
    write_atomic,
)
from bench.workloads import WORKLOADS

TIMEOUT = 600  # seconds of a cell, where neither the command nor the suite says
# In the reason of a failed attempt. A kill for want of memory is told apart before (`oom`).
LOST = "the fork server was killed"
UNKNOWN = 255  # exit code that multiprocessing gives a process when the fork server cannot tell
INFRASTRUCTURE = (
    LOST, "killed by SIGKILL", "killed by SIGTERM", "killed by SIGHUP", "killed by SIGBUS", "uncorrectable ECC", "Xid",
    "GPU is lost", "fallen off the bus", "CUDA-capable device(s) is/are busy or unavailable",
)  # fmt: skip


class Identity(NamedTuple):
    """Where and with what a run measures; `basis` is the part that goes into every cell's id."""

    machine: dict[str, Value]
    software: dict[str, str]
    revision: str
    basis: dict[str, str]


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


class _Reference(NamedTuple):
    id: str
    ok: bool


def identify(suite: Suite, root: Path = ROOT) -> Identity:
    """Machine, software, revision and hashes, as they are now.

    Raises:
        ValueError: weights that the suite needs are missing or broken.
    """
    on, using = machine(), software()
    basis = {
        "weights": files_hash(suite.files, root),
        "source": source_hash(root),
        "machine": digest(on),
        "software": digest(using),
    }
    return Identity(on, using, str(revision(root)), basis)


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
    }


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


def by_need(todo: Sequence[PlannedCell], suite: Suite) -> list[PlannedCell]:
    """Cells in their order, each reference right before the first cell that is compared with it.

    So the first cells differ in cost, and the time left can be estimated early.
    """
    waiting = {item.cell.id: item for item in todo if item.reference}
    ordered: list[PlannedCell] = []
    for item in todo:
        if item.reference:
            continue
        values = suite.reference(item.cell.values)
        reference = None if values is None else waiting.pop(Cell(item.cell.workload, values, item.cell.basis).id, None)
        ordered += [item] if reference is None else [reference, item]
    return [*ordered, *waiting.values()]


def run(
    name: str,
    suite: Suite,
    identity: Identity,
    chosen: Sequence[PlannedCell],
    folder: Path,
    *,
    timeout: float | int = TIMEOUT,  # seconds that one cell may take
    max_minutes: float | int | None = None,  # start no cell later than this; None = no limit
    workloads: Mapping[str, Workload] = WORKLOADS,
    say: Callable[[str], None] = print,
    command: Sequence[str] = (),  # the command line, for the report
) -> Outcome:
    """Do the chosen cells that have no final record yet, one after another, each in a process of its own.

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
        counts = Counter(record.attempt.status for record in before.values())
        context = start_method(todo, workloads[suite.workload])
        axes = list(suite.axes)
        began = time.monotonic()
        ahead = [0.0 if item.skip else item.cost for item in todo]
        with Progress(ahead, pace(folder, suite), say) as progress:
            if any(item.skip is None for item in todo):
                progress.start("loading libraries")
                _load_libraries(context)
            for position, item in enumerate(todo):
                if max_minutes is not None and time.monotonic() - began > max_minutes * 60:
                    return Outcome(counts, len(before), len(todo) - position)
                progress.start(label(item.cell.values, axes))
                record = _attempt(item, suite, identity, folder, timeout, workloads, context)
                append(records, record)
                if infrastructure(record.attempt):
                    say(f"{label(item.cell.values, axes)}: {record.attempt.reason}; once more")
                    _load_libraries(context)
                    record = _attempt(item, suite, identity, folder, timeout, workloads, context)
                    append(records, record)
                counts[record.attempt.status] += 1
                progress.end(record.attempt, 0.0 if item.skip else item.cost, _accounted(record))
    return Outcome(counts, len(before), 0)


def infrastructure(attempt: Attempt) -> bool:
    """Whether the machine failed and not the work: a process killed from outside, a GPU that was lost or broke.

    Only then is a cell tried again at once. What the work itself caused, want of memory or wrong numbers, would happen
    again.
    """
    return attempt.status == "failed" and any(sign in attempt.reason for sign in INFRASTRUCTURE)


def start_method(todo: Sequence[PlannedCell], workload: Workload) -> ForkServerContext | SpawnContext:
    """How the cells' processes begin.

    On a CPU they are forked from a server that has loaded the libraries and done nothing else: loading takes longer
    than a short cell, and a fork of an untouched interpreter is as fresh as a new one. CUDA does not survive a fork, so
    there every cell starts its own interpreter.
    """
    if any(item.cell.values.get("device") == "cuda" for item in todo):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.harness.fork_server", *workload.preload])
    return context


def _load_libraries(context: ForkServerContext | SpawnContext) -> None:
    """Start the fork server and have it load its modules now, not in the first cell's time; again if it was lost."""
    if isinstance(context, ForkServerContext):
        os.environ[RUN] = str(os.getpid())
        process = context.Process(target=int)  # does nothing, once all is loaded
        with suppress(EOFError, ConnectionError):
            process.start()
            process.join()


def _server_is_lost(process: ForkServerProcess | SpawnProcess, context: ForkServerContext | SpawnContext) -> bool:
    """Whether the fork server of a process has ended, which only a kill from outside does.

    An exit code of 255 is all that its process then has. The server's pipes close a moment before it has ended.
    """
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if not isinstance(context, ForkServerContext) or process.exitcode != UNKNOWN or pid is None:
        return False
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            return True
        time.sleep(0.01)
    return False


def _attempt(
    item: PlannedCell,
    suite: Suite,
    identity: Identity,
    folder: Path,
    timeout: float | int,
    workloads: Mapping[str, Workload],
    context: ForkServerContext | SpawnContext,
) -> Record:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    machine_now: dict[str, Value] = {**identity.machine, "load_before": round(os.getloadavg()[0], 2)}
    if item.skip is not None:
        return Record(
            item.cell, Attempt("skipped", item.skip, started), machine=machine_now, revision=identity.revision
        )
    place = folder / "cells" / item.cell.id
    place.mkdir(parents=True, exist_ok=True)
    (place / "result.json").unlink(missing_ok=True)
    reference = _reference(item, suite, folder)
    if reference is not None and not reference.ok:
        why = f"{reference.id}, which it is compared with, did not succeed"
        return Record(item.cell, Attempt("failed", why, started), machine=machine_now, revision=identity.revision)
    job = {
        "cell": {"workload": item.cell.workload, "values": dict(item.cell.values), "basis": dict(item.cell.basis)},
        "reference": None if reference is None else reference.id,
        "measures": list(suite.measures),
    }
    write_atomic(place / "job.json", canonical(job))

    kills = _memory_kills()
    began = time.monotonic()
    process = context.Process(target=child, args=(workloads[item.cell.workload].run, str(place / "job.json")))
    in_time, lost = True, False
    try:
        process.start()
        process.join(timeout)
        in_time = not process.is_alive()
        lost = _server_is_lost(process, context)
    except (EOFError, ConnectionError):  # while it started
        lost = True
    finally:
        _end(process, lost=lost)
    seconds = round(time.monotonic() - began, 3)

    result = _result(place / "result.json")
    status: Status
    if result is not None:
        status, reason = result["status"], result["reason"]
    elif lost:
        status, reason = "failed", f"{LOST}, which the cell's process was forked from"
    elif not in_time:
        status, reason = "timeout", f"not done after {timeout:g} s, killed"
    else:
        status, reason = _why_no_result(process.exitcode or 0, _memory_kills() - kills, place / "log.txt")
    result = result or {"numbers": {}, "samples": {}, "absent": {}, "facts": {}}
    return Record(
        cell=item.cell,
        attempt=Attempt(status, reason, started, seconds),
        numbers={measure: Number(**number) for measure, number in result["numbers"].items()},
        samples={stage: tuple(values) for stage, values in result["samples"].items()},
        absent=result["absent"],
        facts=result["facts"],
        machine=machine_now,
        revision=identity.revision,
    )


def _end(process: ForkServerProcess | SpawnProcess, *, lost: bool) -> None:
    """Leave no process of the cell behind."""
    if process.pid is None:
        return  # it was never started
    if lost:  # nobody can tell any more whether it runs
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        return
    process.kill()
    process.join()


def _reference(item: PlannedCell, suite: Suite, folder: Path) -> _Reference | None:
    values = suite.reference(item.cell.values)
    if item.reference or values is None:
        return None
    key = Cell(item.cell.workload, values, item.cell.basis).id
    record = read(folder / "records.jsonl").latest().get(key)
    return _Reference(key, record is not None and record.attempt.status == "ok")


def _result(path: Path) -> dict[str, Any] | None:
    """The content of result.json, None if there is none; the child writes it whole or not at all."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _why_no_result(exit_code: int, memory_kills: int, log: Path) -> tuple[Status, str]:
    lines = (
        [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    )
    last = f"; last line of its log: {lines[-1]}" if lines else ""
    if exit_code >= 0:
        return "failed", f"the process ended with exit code {exit_code} and no result{last}"
    name = signal.Signals(-exit_code).name
    if -exit_code == signal.SIGKILL and memory_kills > 0:
        return "oom", f"killed by the system for want of memory ({name}){last}"
    return "failed", f"the process was killed by {name}{last}"


def _memory_kills() -> int:
    """How many processes Linux has killed for want of memory since it started; 0 on systems that do not count them."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Allow one run at a time in a folder. The system drops the lock when its process ends, however it ends."""
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another run is writing into {folder}: wait for it, or give --out another folder"
            ) from None
        yield


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


def _write_manifest(folder: Path, name: str, suite: Suite, identity: Identity, command: Sequence[str]) -> None:
    """The whole plan, chosen or not: a report shows what is missing."""
    cells = [
        {"id": item.cell.id, "values": dict(item.cell.values), "reference": item.reference}
        for item in plan(suite, identity.basis)
    ]
    manifest = {
        "schema": SCHEMA,
        "suite": name,
        "question": suite.question,
        "hash": suite.hash,
        "workload": suite.workload,
        "axes": {axis: list(values) for axis, values in suite.axes.items()},
        "fixed": dict(suite.fixed),
        "group": suite.group,
        "headlines": list(suite.headlines),
        "apart": list(suite.apart),
        "measures": {key: measure._asdict() for key, measure in suite.measures.items()},
        "machine": identity.machine,
        "software": identity.software,
        "revision": identity.revision,
        "basis": identity.basis,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "cells": cells,
    }
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, allow_nan=False, ensure_ascii=False))
