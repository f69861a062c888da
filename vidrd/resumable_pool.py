"""Work in pieces that several processes, or a Ray cluster, carry out; what is done is known by the files that it left.

A job says for each piece whether it is done. So workers may be killed at any time: others do what is not done, and a
new run continues. The outcome depends on the job alone, not on the number of workers.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import active_children, get_all_start_methods, get_context
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from vidrd.orphans import follow_starter

RESTARTS = 8  # pools, each started after a worker of the one before died
ROOT = Path(__file__).resolve().parents[1]


@runtime_checkable
class Job(Protocol):
    """Work in pieces, picklable; a piece is any picklable object."""

    def open(self, device: str) -> Callable[[Any], int | None]:
        """Load what the work needs; the returned function does one piece and may return how many results it made."""
        ...

    def is_done(self, piece: Any) -> bool:
        """Whether all files of the piece exist and are whole."""
        ...


@dataclass(frozen=True)
class Pool:
    """How many workers there are and where they run."""

    workers: int = 1
    devices: tuple[str, ...] = ("cpu",)  # assigned to the workers in turn
    preload: tuple[str, ...] = ()  # modules that a fork server loads, so that workers start at once; (): none, "spawn"
    pieces: str = "pieces"  # what messages call the pieces
    advice: str = "take fewer workers if memory runs out"  # when workers keep dying
    ray: str = "--ray"  # what messages call the option that asks for Ray
    cpus: int = 1  # of Ray, for each worker
    gpus: int | None = None  # of Ray, for each worker


class FinishedPiece(NamedTuple):
    """A piece that is done."""

    piece: Any
    results: int  # how many it made; 0 if it had been done before
    seconds: float
    worker: str  # node and process id
    load_seconds: float  # that this worker took to open the job


class Worker:
    """A job, opened on a device."""

    def __init__(self, job: Job, device: str):
        began = time.perf_counter()
        self.job, self.work = job, job.open(device)
        self.load_seconds = time.perf_counter() - began

    def do(self, piece: Any) -> FinishedPiece:
        """Do a piece, unless it is done."""
        began = time.perf_counter()
        results = 0 if self.job.is_done(piece) else self.work(piece) or 0
        worker = f"{os.uname().nodename}:{os.getpid()}"
        return FinishedPiece(piece, results, time.perf_counter() - began, worker, self.load_seconds)


def run_locally(job: Job, pieces: Sequence[Any], pool: Pool, say: Callable[[str], None]) -> Iterator[FinishedPiece]:
    """Do the pieces in processes of this machine, in any order; one worker: in this process.

    A worker that dies (out of memory, killed) breaks its pool: a new pool does what is not done. Workers end when this
    process ends.

    Raises:
        ValueError: workers keep dying.
        Exception: whatever the job raises.
    """
    if pool.workers == 1:
        worker = Worker(job, pool.devices[0])
        yield from map(worker.do, pieces)
        return
    context, left = _context(pool), list(pieces)
    with _ImportPath():
        for _ in range(RESTARTS):
            if not left:
                return
            devices = context.SimpleQueue()
            for number in range(pool.workers):
                devices.put(pool.devices[number % len(pool.devices)])
            try:
                with _executor(min(pool.workers, len(left)), context, (job, devices)) as executor:
                    yield from _finished(executor, left, pool.workers)
                return
            except BrokenProcessPool:
                left = [piece for piece in left if not job.is_done(piece)]
                say(f"a worker died; {len(left)} {pool.pieces} are left for new ones")
    if left:
        raise ValueError(f"workers died {RESTARTS} times, {len(left)} {pool.pieces} are not done: {pool.advice}")


@contextmanager
def _executor(
    workers: int, context: ForkServerContext | SpawnContext, given: tuple[Any, ...]
) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers are killed where its work is broken off: they would finish what nobody waits for."""
    others = set(active_children())
    executor = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=given)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        workers_left = set(active_children()) - others
        for worker in workers_left:
            worker.kill()
        for worker in workers_left:
            worker.join()
        raise
    finally:
        executor.shutdown()


def _context(pool: Pool) -> ForkServerContext | SpawnContext:
    """CUDA does not survive a fork, so its workers start on their own."""
    on_gpu = any(device.startswith("cuda") for device in pool.devices)
    if not pool.preload or on_gpu or "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(list(pool.preload))
    return context


_worker: Worker | Exception | None = None


def _begin(job: Job, devices: "SimpleQueue[str]") -> None:
    """Open the job in a worker; an error is kept for the first piece, because a pool does not report it."""
    global _worker  # noqa: PLW0603 - one per process
    follow_starter()
    try:
        _worker = Worker(job, devices.get())
    except Exception as error:
        _worker = error


def _do(piece: Any) -> FinishedPiece:
    if isinstance(_worker, Exception):
        raise _worker
    assert _worker is not None
    return _worker.do(piece)


def _finished(executor: ProcessPoolExecutor, pieces: Sequence[Any], workers: int) -> Iterator[FinishedPiece]:
    """Pieces as they are done, with few of them in the queue at a time."""
    coming, running = iter(pieces), set[Future[FinishedPiece]]()
    while True:
        running |= {executor.submit(_do, piece) for piece in islice(coming, 2 * workers - len(running))}
        if not running:
            return
        finished = wait(running, return_when=FIRST_COMPLETED).done
        running -= finished
        yield from (future.result() for future in finished)


def run_on_ray(job: Job, pieces: Sequence[Any], pool: Pool) -> Iterator[FinishedPiece]:
    """Do the pieces on the running Ray cluster, or on one of this machine; all nodes must see the job's folders.

    The pieces of actors and nodes that die go to others.

    Raises:
        ValueError: Ray is not installed.
    """
    if not pieces:
        return
    ray = connect(max(1, pool.workers * pool.cpus), pool.ray)
    work = ray.put((job, list(pieces), pool.devices[0].partition(":")[0]))  # an actor sees its own devices only
    data = ray.data.from_items([{"number": n} for n in range(len(pieces))], override_num_blocks=len(pieces))
    finished = data.map_batches(
        _RayWorker, fn_constructor_args=([work],), batch_size=1, num_cpus=pool.cpus, num_gpus=pool.gpus,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=pool.workers),  # restarts actors, gives pieces again
    )  # fmt: skip
    for row in finished.iter_rows():
        yield FinishedPiece(
            pieces[int(row["number"])], int(row["results"]), float(row["seconds"]), str(row["worker"]),
            float(row["load_seconds"]),
        )  # fmt: skip


def connect(cores: int | None, option: str = "--ray") -> Any:
    """Ray, connected to the cluster that RAY_ADDRESS names, or to one of this machine.

    Args:
        cores: of a cluster of this machine; None: all.
        option: what messages call the option that asks for Ray.

    Raises:
        ValueError: Ray is not installed.
    """
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError(f"{option} needs Ray Data: pip install 'vidrd-bench[ray]'") from error
    if not ray.is_initialized():
        given = None if os.environ.get("RAY_ADDRESS") else cores
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own is 15, which would be a part of every time
        ray.init(num_cpus=given, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": _import_path()}})
    return ray


class _RayWorker:
    """An actor that does pieces; what it loaded stays loaded."""

    def __init__(self, work: list[Any]):
        import ray  # noqa: PLC0415

        job, self.pieces, device = ray.get(work[0])
        self.worker = Worker(job, device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        finished = [self.worker.do(self.pieces[int(number)]) for number in batch["number"]]
        columns = ("results", "seconds", "worker", "load_seconds")
        return {"number": batch["number"], **{name: np.array([getattr(f, name) for f in finished]) for name in columns}}


class _ImportPath:
    """While this is open, new processes find this project, whatever their working folder."""

    def __enter__(self) -> None:
        self.before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = _import_path()

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = self.before


def _import_path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
