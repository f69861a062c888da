"""Who does the cells of a run: this process, a process for each device of this machine, or the nodes of a Ray cluster.

Each of them starts a fresh process for every cell, as `bench.harness.cell_process` does. Workers leave what they tried
in the cell's folder, which all of them see; the run alone writes records.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from bench.hardware.threads import name_threads, pin, pin_to, sleep_at_barriers, usable_cores
from bench.harness.cell_process import ATTEMPTS, Task, attempt, infrastructure, load_libraries, start_method
from bench.harness.identity import Identity, check_alike, identify
from bench.harness.job import Workload
from bench.results.records import Record, read, write_atomic
from vidrd.resumable_pool import RESTARTS, Pool, connect, run_locally

SIDE_BY_SIDE = "side_by_side"  # the fact of a record: how many cells its machine did at a time
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Workers(NamedTuple):
    """Who does the cells.

    Args:
        devices: cuda:N, or cpu:FIRST-LAST for these cores; one cell on each at a time. (): this process, on whatever
            the cells ask for.
        ray: the nodes of a Ray cluster instead.
        alone: one cell on a machine at a time, whatever it has: for suites of times.
    """

    devices: tuple[str, ...] = ()
    ray: bool = False
    alone: bool = False

    @property
    def at_a_time(self) -> int:
        """Cells side by side, as far as is known: a Ray cluster may have more."""
        return len(self.devices) or 1


HERE = Workers()


@dataclass(frozen=True)
class CellJob:
    """The cells of one run, as a job of `vidrd.resumable_pool`."""

    identity: Identity
    files: tuple[str, ...]  # weights that the cells depend on
    folder: Path  # of the run; all workers see it
    timeout: float | int  # seconds of a cell
    workload: Workload
    on_gpu: bool
    began: float  # seconds of the epoch
    end: float | None  # after which no cell is begun; None: never
    side_by_side: int = 1  # cells at a time on one machine

    def open(self, device: str) -> Callable[[Task], None]:
        """What does a cell on a device, and leaves its records in the cell's folder.

        Raises:
            ValueError: this machine is of another kind than the one that planned the run.
        """
        use(device)
        sleep_at_barriers()
        cores = int(self.identity.machine["cores"])
        if len(usable_cores()) > cores:
            pin(cores)
        name_threads(str(self.identity.machine["threads_variable"]))
        here = identify(self.files)
        check_alike(here, self.identity)
        node = {"node": os.uname().nodename, "device": os.environ.get(VISIBLE, device) if self.on_gpu else device}
        tries = replace(self, identity=self.identity._replace(machine={**here.machine, **node})).tries()

        def do(task: Task) -> None:
            if records := tries(task):
                beside = {SIDE_BY_SIDE: str(self.side_by_side)} if self.side_by_side > 1 else {}
                lines = [replace(record, facts={**record.facts, **beside}).to_json() + "\n" for record in records]
                write_atomic(self._left(task), "".join(lines))

        return do

    def tries(self) -> Callable[[Task], list[Record]]:
        """What tries a cell, once more if the machine failed; without records where the time is up."""
        context = start_method(self.workload, on_gpu=self.on_gpu)
        load_libraries(context)

        def once(task: Task) -> Record:
            return attempt(task, self.identity, self.folder, self.timeout, self.workload.run, context)

        def do(task: Task) -> list[Record]:
            if self.end is not None and time.time() >= self.end:
                return []
            records = [once(task)]
            if infrastructure(records[0].attempt):
                load_libraries(context)
                records.append(once(task))
            return records

        return do

    def is_done(self, task: Task) -> bool:
        """Whether the cell was tried in this run."""
        return self._left(task).is_file()

    def forget(self, task: Task) -> None:
        """Remove what an earlier run left of a cell."""
        self._left(task).unlink(missing_ok=True)

    def records(self, task: Task) -> list[Record]:
        """What its worker left."""
        return read(self._left(task)).records

    def _left(self, task: Task) -> Path:
        return self.folder / "cells" / task.item.cell.id / ATTEMPTS


def use(device: str) -> None:
    """Let this process and all it starts compute on this device alone."""
    kind, _, number = device.partition(":")
    if kind == "cuda" and number:
        visible = os.environ.get(VISIBLE, "")
        os.environ[VISIBLE] = visible.split(",")[int(number)] if visible else number
    elif kind == "cpu" and number:
        pin_to(cores_of(device))


def cores_of(device: str) -> range:
    """The cores that cpu:0-3, or cpu:0, names.

    Raises:
        ValueError: it names none.
    """
    first, _, last = device.removeprefix("cpu:").partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
        raise ValueError(f"a device is cuda:N, or cpu:FIRST-LAST for these cores: got {device!r}")
    return range(int(first), int(last or first) + 1)


def waves(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """The tasks in their order, in waves: each cell comes after the one that it is compared with."""
    left = list(tasks)
    while left:
        ids = {task.item.cell.id for task in left}
        yield [task for task in left if task.reference not in ids]
        left = [task for task in left if task.reference in ids]


def carry_out(
    job: CellJob, tasks: Sequence[Task], workers: Workers, say: Callable[[str], None], begin: Callable[[Task], None]
) -> Iterator[tuple[Task, list[Record]]]:
    """Try all tasks; those of a worker or node that dies go to another. A task whose time is up has no records.

    Args:
        job: the run.
        tasks: references before what is compared with them.
        workers: who does them.
        say: prints a line.
        begin: is called before this process does a task.

    Raises:
        ValueError: workers keep dying, a machine is of another kind, or Ray is asked for and not installed.
    """
    if not (workers.ray or len(workers.devices) > 1):
        tries = job.tries()
        for task in tasks:
            begin(task)
            yield task, tries(task)
        return
    for task in tasks:
        job.forget(task)
    for wave in waves(tasks):
        if workers.ray:
            done: Iterator[Task] = _on_ray(job, wave, alone=workers.alone)
        else:
            there = replace(job, side_by_side=len(workers.devices))
            pool = Pool(len(workers.devices), workers.devices, pieces="cells", advice="name fewer devices")
            done = (finished.piece for finished in run_locally(there, wave, pool, say))
        for task in done:
            yield task, job.records(task) if job.is_done(task) else []


def _on_ray(job: CellJob, tasks: Sequence[Task], *, alone: bool) -> Iterator[Task]:
    """The tasks as they are done by a Ray cluster: one at a time on each GPU; on each node if `alone`, or without.

    Raises:
        ValueError: no node can do them, or one is of another kind, or the workers of a cell keep dying.
    """
    ray = connect(None)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fit = [each for each in nodes if each.get("CPU", 0) >= 1 and (not job.on_gpu or each.get("GPU", 0) >= 1)]
    if not fit:
        raise ValueError(
            f"no node of the Ray cluster has {'a GPU' if job.on_gpu else 'a core'}: {len(nodes)} are alive"
        )
    beside = int(min(each["GPU"] for each in fit)) if job.on_gpu and not alone else 1
    cores = min(int(each["CPU"]) for each in fit) // beside or 1
    do = ray.remote(num_cpus=cores, num_gpus=int(job.on_gpu), max_retries=RESTARTS)(_do_on_node)
    there = ray.put(replace(job, side_by_side=beside))
    running = {do.remote(there, task): task for task in tasks}
    try:
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            ray.get(done)
            yield running.pop(done)
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    except ray.exceptions.RayError as error:
        raise ValueError(f"a cell's workers died {RESTARTS} times: {str(error).splitlines()[0]}") from error
    finally:
        for left in running:
            ray.cancel(left, force=True)


_opened: tuple[tuple[Path, float], Callable[[Task], None]] | None = None


def _do_on_node(job: CellJob, task: Task) -> None:
    """Do a cell in a process of Ray's, which keeps what it opened for the next one of its run."""
    global _opened  # noqa: PLW0603 - one per process
    if _opened is None or _opened[0] != (job.folder, job.began):
        _opened = (job.folder, job.began), job.open("cuda" if job.on_gpu else "cpu")
    if not job.is_done(task):
        _opened[1](task)
