"""The contract of every workload: what a cell's process gets, and how the work is named."""

import importlib
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from bench.results.records import CellResults, InvalidError, NotFiniteError, Status, Value
from vidrd.entry import is_out_of_memory, one_line

QUOTED = 1000  # letters of an error, or bytes of the end of a log, that a reason quotes at most
RUN = "VIDRD_BENCH_RUN"  # environment variable: the process whose fork server this is; see `bench.harness.fork_server`


class Job(NamedTuple):
    """What a workload gets.

    Args:
        values: the settings of the cell.
        folder: where it may leave files; of this cell alone.
        reference: the folder of the cell it is compared with, which is ok; None if it is compared with none.
        measures: names of the suite's measures, for work that is done only where a suite has the measure.
    """

    values: Mapping[str, Value]
    folder: Path
    reference: Path | None
    measures: tuple[str, ...] = ()


# A function that does one cell, or its name as "module:function".
Work: TypeAlias = Callable[[Job], CellResults] | str


class Workload(NamedTuple):
    """A kind of work.

    Args:
        run: does one cell; given by its name, it is loaded (and torch with it) where a cell runs and nowhere else.
        preload: modules that all its cells use, loaded once and shared where a process may be forked; see
            `bench.harness.cell_process.start_method`.
    """

    run: Work
    preload: tuple[str, ...] = ()


def load_work(work: Work) -> Callable[[Job], CellResults]:
    """The function that does a cell, imported if it is given by its name."""
    if not isinstance(work, str):
        return work
    module, _, name = work.partition(":")
    function: Callable[[Job], CellResults] = getattr(importlib.import_module(module), name)
    return function


def verdict(error: Exception) -> tuple[Status, str]:
    """What an error of the work means for its cell, and the reason in one line."""
    line = next((line for each in str(error).splitlines() if (line := one_line(each[:QUOTED]))), "no message")
    if isinstance(error, InvalidError | NotFiniteError):
        return "invalid", line
    return "oom" if is_out_of_memory(error) else "failed", f"{type(error).__name__}: {line}"


def last_line(log: Path, name: str) -> str:
    """The end of a reason: what a log says last, however much that is; "" if it says nothing."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - QUOTED))
        lines = [line for each in file.read().decode(errors="replace").splitlines() if (line := one_line(each))]
    return f"; last line of {name}: {lines[-1]}" if lines else ""


def death(exit_code: int, kills: int) -> tuple[Status, str]:
    """What it means for a cell that a process of it ended without an answer, and how it ended.

    Args:
        exit_code: of the process; below 0, the signal that killed it.
        kills: how many processes the system has killed for want of memory since it started.
    """
    if exit_code >= 0:
        return "failed", f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    if name == "SIGKILL" and kills > 0:
        return "oom", f"was killed by the system for want of memory ({name})"
    return "failed", f"was killed by {name}"
