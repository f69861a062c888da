"""One attempt at a cell, in a process of its own: how it starts, how it ends, and why it left no result."""

import json
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

from bench.hardware.machine import hash_files, source_hash
from bench.hardware.memory import memory_kills
from bench.harness.identity import Identity
from bench.harness.job import RUN, Work, Workload, death, last_line
from bench.harness.suite_spec import PlannedCell, Suite, references_of
from bench.harness.worker import child
from bench.results.records import Attempt, Cell, Number, Record, Status, Value, canonical, read, write_atomic

FILES = "files_sha256"  # the fact of a reference that says what it left for other cells
ATTEMPTS = "attempts.jsonl"  # of a cell that another process tried, for the run to append
OWN = ("job.json", "log.txt", "result.json", ATTEMPTS)  # of a cell's folder, what is not for other cells
# In the reason of a failed attempt. A kill for want of memory is told apart before (`oom`).
LOST = "the fork server was killed"
UNKNOWN = 255  # exit code that multiprocessing gives a process when the fork server cannot tell
INFRASTRUCTURE = (
    LOST, "killed by SIGKILL", "killed by SIGTERM", "killed by SIGHUP", "killed by SIGBUS", "uncorrectable ECC", "Xid",
    "GPU is lost", "fallen off the bus", "CUDA-capable device(s) is/are busy or unavailable",
)  # fmt: skip


class Task(NamedTuple):
    """A cell with what its process has to know of its suite; it travels to other processes and machines."""

    item: PlannedCell
    reference: str | None  # id of the cell that it is compared with
    measures: tuple[str, ...]


def task_of(item: PlannedCell, suite: Suite) -> Task:
    """The task of a planned cell."""
    chain = references_of(suite, item.cell.values)
    reference = Cell(item.cell.workload, chain[0], item.cell.basis).id if chain else None
    return Task(item, reference, tuple(suite.measures))


def infrastructure(attempt: Attempt) -> bool:
    """Whether the machine failed and not the work: a process killed from outside, a GPU that was lost or broke.

    Only then is a cell tried again at once. What the work itself caused, want of memory or wrong numbers, would happen
    again.
    """
    return attempt.status == "failed" and any(sign in attempt.reason for sign in INFRASTRUCTURE)


def start_method(workload: Workload, *, on_gpu: bool) -> ForkServerContext | SpawnContext:
    """How the cells' processes begin.

    On a CPU they are forked from a server that has loaded the libraries and done nothing else: loading takes longer
    than a short cell, and a fork of an untouched interpreter is as fresh as a new one. CUDA does not survive a fork, so
    there every cell starts its own interpreter.
    """
    if on_gpu:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.harness.fork_server", *workload.preload])
    return context


def load_libraries(context: ForkServerContext | SpawnContext) -> None:
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
    return isinstance(context, ForkServerContext) and process.exitcode == UNKNOWN and _server_ends()


def _server_ends() -> bool:
    """Whether the fork server ends within two seconds, or has ended."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is None:
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


def skipped(item: PlannedCell, identity: Identity) -> Record:
    """The record of a cell that cannot run."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    why = Attempt("skipped", item.skip or "", started)
    return Record(item.cell, why, machine=identity.machine, revision=identity.revision)


def attempt(
    task: Task,
    identity: Identity,
    folder: Path,
    timeout: float | int,
    work: Work,
    context: ForkServerContext | SpawnContext,
) -> Record:
    """Do a cell in a process of its own, and say how that ended; no process of it is left.

    Args:
        folder: the run's.
        timeout: seconds after which the process is killed.

    Raises:
        ValueError: the source is no longer that of the run.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    machine_now: dict[str, Value] = {**identity.machine, "load_before": round(os.getloadavg()[0], 2)}
    item = task.item
    place = folder / "cells" / item.cell.id
    place.mkdir(parents=True, exist_ok=True)
    (place / "result.json").unlink(missing_ok=True)
    if task.reference is not None and (fault := _fault_of(task.reference, folder)):
        why = f"{task.reference}, which it is compared with, {fault}"
        return Record(item.cell, Attempt("failed", why, started), machine=machine_now, revision=identity.revision)
    job = {
        "cell": {"workload": item.cell.workload, "values": dict(item.cell.values), "basis": dict(item.cell.basis)},
        "reference": task.reference,
        "measures": list(task.measures),
    }
    write_atomic(place / "job.json", canonical(job))

    kills = memory_kills()
    began = time.monotonic()
    process = context.Process(target=child, args=(work, str(place / "job.json")))
    in_time, lost = True, False
    try:
        process.start()
        process.join(timeout)
        in_time = not process.is_alive()
        lost = _server_is_lost(process, context)
    except (EOFError, ConnectionError):  # while it started
        lost = True
        _server_ends()  # or else the next attempt would still ask this server
    finally:
        _end(process, lost=lost)
    seconds = round(time.monotonic() - began, 3)
    if source_hash() != identity.basis["source"]:
        raise ValueError(
            "the project's source changed while a cell ran, and nobody knows which it was measured with: run again"
        )

    result = _result(place / "result.json")
    status: Status
    if result is not None:
        status, reason = result["status"], result["reason"]
    elif lost:
        status, reason = "failed", f"{LOST}, which the cell's process was forked from"
    elif not in_time:
        status, reason = "timeout", f"not done after {timeout:g} s, killed"
    else:
        status, reason = _why_no_result(process.exitcode or 0, memory_kills() - kills, place / "log.txt")
    result = result or {"numbers": {}, "samples": {}, "absent": {}, "facts": {}}
    return Record(
        cell=item.cell,
        attempt=Attempt(status, reason, started, seconds),
        numbers={measure: Number(**number) for measure, number in result["numbers"].items()},
        samples={stage: tuple(values) for stage, values in result["samples"].items()},
        absent=result["absent"],
        facts=result["facts"] | ({FILES: files_of(place)} if item.reference and status == "ok" else {}),
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


def _fault_of(reference: str, folder: Path) -> str:
    """Why nothing can be compared with this reference; "" if something can."""
    record = read(folder / "records.jsonl").latest().get(reference)
    if record is None or record.attempt.status != "ok":
        return "did not succeed"
    if not is_whole(record, folder):
        return "has other files than it left: the same command again measures it anew"
    return ""


def is_whole(record: Record, folder: Path) -> bool:
    """Whether the files that a reference left for other cells are what they were; of other cells nothing is checked."""
    return FILES not in record.facts or record.facts[FILES] == files_of(folder / "cells" / record.cell.id)


def files_of(place: Path) -> str:
    """SHA-256 of the files that a cell left for others in its folder: names and contents, in the order of the names."""
    return hash_files(place, (path for path in sorted(place.rglob("*")) if path.is_file() and path.name not in OWN))


def _result(path: Path) -> dict[str, Any] | None:
    """The content of result.json, None if there is none; the child writes it whole or not at all."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _why_no_result(exit_code: int, kills: int, log: Path) -> tuple[Status, str]:
    last = last_line(log, "its log") if log.exists() else ""
    status, how = death(exit_code, kills)
    if status == "oom":
        return status, f"{how.removeprefix('was ')}{last}"
    return status, f"the process {how}{' and no result' if exit_code >= 0 else ''}{last}"
