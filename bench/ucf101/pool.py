"""Who does the blocks of a job: this process, processes of this machine, or a Ray cluster. All make the same bits.

A block is a fixed stretch of a list and is done or not, by what lies on the disk; whoever does it, on however many
threads it was planned for, the networks see the same batch. So workers may come, go and be killed.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.queues import SimpleQueue
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from bench.hardware.machine import ROOT

RESTARTS = 8  # of the pool, after a worker died


@runtime_checkable
class BlockJob(Protocol):
    """Work in blocks: a frozen record that travels to workers."""

    def open(self, device: str) -> Callable[[int], None]:
        """Load what is needed; what comes back does one block, which is done when its last file appears."""
        ...

    def is_done(self, block: int) -> bool:
        """Whether all that the block makes is there and whole."""
        ...


@dataclass(frozen=True)
class WorkerPool:
    """Who works: how many, where, on how many threads each."""

    workers: int = 1
    devices: tuple[str, ...] = ("cpu",)  # dealt out in turn
    threads: int = 1  # of each worker on a CPU; other counts may change last bits
    ray: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1 or self.threads < 1:
            raise ValueError(f"at least one worker on one thread: {self.workers} workers, {self.threads} threads came")


class FinishedBlock(NamedTuple):
    """A block that was done."""

    block: int
    seconds: float
    worker: str  # which
    load_seconds: float  # that this worker took before its first block


def run_blocks(
    job: BlockJob,
    blocks: Sequence[int],
    pool: WorkerPool,
    say: Callable[[str], None],
    tell: Callable[[FinishedBlock, int], None] | None = None,  # of a block, and of how many that were not done
) -> list[FinishedBlock]:
    """Do those blocks that are not done, in any order. To ask which are reads all their files: callers need not.

    Raises:
        ValueError: what the job raises, workers that keep dying, or no Ray where it is asked for.
    """
    todo = [block for block in blocks if not job.is_done(block)]
    done: list[FinishedBlock] = []
    if not todo:
        return done
    engine = _on_ray if pool.ray else _here if pool.workers == 1 else _in_processes
    for each in engine(job, todo, pool, say):
        done.append(each)
        if tell is not None:
            tell(each, len(todo))
    left = [block for block in todo if not job.is_done(block)]
    if left:
        raise ValueError(f"{len(left)} blocks are not done though their workers ended well, the first is {left[0]}")
    return done


class Worker:
    """A job, opened on a device."""

    def __init__(self, job: BlockJob, device: str, threads: int):
        import torch  # noqa: PLC0415 - slow, and a driver of other machines needs none

        torch.set_num_threads(threads)
        began = time.perf_counter()
        self.job, self.work = job, job.open(device)
        self.load_seconds = time.perf_counter() - began

    def do(self, block: int) -> FinishedBlock:
        """Do a block, if nobody else did."""
        began = time.perf_counter()
        if not self.job.is_done(block):
            self.work(block)
        return FinishedBlock(
            block, time.perf_counter() - began, f"{os.uname().nodename}:{os.getpid()}", self.load_seconds
        )


def _here(
    job: BlockJob, blocks: Sequence[int], pool: WorkerPool, say: Callable[[str], None]
) -> Iterator[FinishedBlock]:
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    try:
        worker = Worker(job, pool.devices[0], pool.threads)
        for block in blocks:
            yield worker.do(block)
    finally:
        torch.set_num_threads(before)


def _in_processes(
    job: BlockJob, blocks: Sequence[int], pool: WorkerPool, say: Callable[[str], None]
) -> Iterator[FinishedBlock]:
    """A worker that dies (killed, out of memory) takes the pool with it: a new one does what was not done."""
    context = _context(pool.devices[0])
    left = list(blocks)
    with _Importable():
        for _ in range(RESTARTS):
            devices = context.SimpleQueue()
            for number in range(pool.workers):
                devices.put(pool.devices[number % len(pool.devices)])
            try:
                with ProcessPoolExecutor(
                    min(pool.workers, len(left)), context, initializer=_begin, initargs=(job, devices, pool.threads)
                ) as executor:
                    yield from _finished(executor, left, pool.workers)
                return
            except BrokenProcessPool:
                left = [block for block in left if not job.is_done(block)]
                say(f"a worker died; {len(left)} blocks are left for new ones")
                if not left:
                    return
    raise ValueError(
        f"workers died {RESTARTS} times, {len(left)} blocks are not done: take fewer workers or a smaller --batch if "
        "memory runs out"
    )


def _context(device: str) -> ForkServerContext | SpawnContext:
    """A server that has loaded the modules, to be forked: a worker then starts at once. CUDA does not survive that."""
    if device.startswith("cuda") or "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["bench.ucf101.features", "bench.ucf101.generate", "metrics.networks.c3d", "metrics.networks.i3d"]
    )
    return context


_worker: Worker | Exception | None = None


def _begin(job: BlockJob, devices: "SimpleQueue[str]", threads: int) -> None:
    """Open the job; what that raises is kept for the first block, as a pool says nothing of it."""
    global _worker  # noqa: PLW0603 - the one of this process
    try:
        _worker = Worker(job, devices.get(), threads)
    except Exception as error:
        _worker = error


def _do(block: int) -> FinishedBlock:
    if isinstance(_worker, Exception):
        raise _worker
    assert _worker is not None
    return _worker.do(block)


def _finished(executor: ProcessPoolExecutor, blocks: Sequence[int], workers: int) -> Iterator[FinishedBlock]:
    """Blocks as they are done, with few of them in the queue at a time."""
    coming, running = iter(blocks), set[Future[FinishedBlock]]()
    while True:
        running |= {executor.submit(_do, block) for block in islice(coming, 2 * workers - len(running))}
        if not running:
            return
        finished = wait(running, return_when=FIRST_COMPLETED).done
        running -= finished
        yield from (future.result() for future in finished)


def _on_ray(
    job: BlockJob, blocks: Sequence[int], pool: WorkerPool, say: Callable[[str], None]
) -> Iterator[FinishedBlock]:
    """Actors on the running cluster, or one of this machine; all of them must see the folders of the job.

    The blocks of actors and nodes that die go to others.
    """
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError("--ray needs Ray Data: pip install 'vidrd-bench[ray]'") from error
    if not ray.is_initialized():
        cores = None if os.environ.get("RAY_ADDRESS") else max(1, pool.workers * pool.threads)
        ray.init(num_cpus=cores, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": _path()}})
    device = pool.devices[0].partition(":")[0]
    needs = {"num_gpus": 1, "num_cpus": 1} if device == "cuda" else {"num_cpus": pool.threads}
    rows = [{"block": block} for block in blocks]
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    made = data.map_batches(
        _RayWorker, fn_constructor_args=(job, device, pool.threads), batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=pool.workers),
        max_restarts=-1, max_task_retries=-1, **needs,
    )  # fmt: skip
    for row in made.iter_rows():
        yield FinishedBlock(int(row["block"]), float(row["seconds"]), str(row["worker"]), float(row["load_seconds"]))


class _RayWorker:
    """An actor; Ray shows it one device."""

    def __init__(self, job: BlockJob, device: str, threads: int):
        self.worker = Worker(job, device, threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        done = [self.worker.do(int(block)) for block in batch["block"]]
        return {name: np.array([getattr(each, name) for each in done]) for name in FinishedBlock._fields}


class _Importable:
    """While this is open, processes that are begun find this project, wherever they begin."""

    def __enter__(self) -> None:
        self.before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = _path()

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = self.before


def _path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
