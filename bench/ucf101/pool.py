"""Who does the blocks of a job: this process, processes of this machine, or a Ray cluster. All make the same bits.

A block is a fixed stretch of a list, so the networks see the same batch whoever does it. The number of threads may
change last bits and is part of the plan.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vidrd.resumable_pool import FinishedPiece, Pool, run_locally, run_on_ray

PRELOAD = ("bench.ucf101.features", "bench.ucf101.generate", "metrics.networks.c3d", "metrics.networks.i3d")


@runtime_checkable
class BlockJob(Protocol):
    """Work in numbered blocks: a frozen record that travels to workers."""

    def open(self, device: str) -> Callable[[int], None]:
        """Load what is needed; the returned function does one block, which is done when its last file appears."""
        ...

    def is_done(self, block: int) -> bool:
        """Whether all files of the block exist and are whole."""
        ...


@dataclass(frozen=True)
class WorkerPool:
    """How many workers there are, on which devices, and on how many threads each.

    Raises:
        ValueError: fewer than one worker or thread.
    """

    workers: int = 1
    devices: tuple[str, ...] = ("cpu",)  # assigned to the workers in turn
    threads: int = 1  # of each worker on a CPU; other counts may change last bits
    ray: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1 or self.threads < 1:
            raise ValueError(f"at least one worker on one thread: got {self.workers} workers, {self.threads} threads")


def run_blocks(
    job: BlockJob,
    blocks: Sequence[int],
    pool: WorkerPool,
    say: Callable[[str], None],
    tell: Callable[[int, int], None] | None = None,  # called with how many blocks were done, and are to be in all
) -> list[FinishedPiece]:
    """Do those blocks that are not done, in any order. Finding them reads all their files: callers need not ask first.

    Raises:
        ValueError: what the job raises, workers keep dying, or Ray is asked for and not installed.
    """
    todo = [block for block in blocks if not job.is_done(block)]
    done: list[FinishedPiece] = []
    if not todo:
        return done
    with nullcontext() if pool.ray or pool.workers > 1 else _threads_kept():
        for each in _finished(job, todo, pool, say):
            done.append(each)
            if tell is not None:
                tell(len(done), len(todo))
    left = [block for block in todo if not job.is_done(block)]
    if left:
        raise ValueError(f"{len(left)} blocks are not done though their workers ended well, the first is {left[0]}")
    return done


def _finished(
    job: BlockJob, blocks: Sequence[int], pool: WorkerPool, say: Callable[[str], None]
) -> Iterator[FinishedPiece]:
    threaded = _Threaded(job, pool.threads)
    on_gpu = pool.devices[0].startswith("cuda")
    settings = Pool(
        pool.workers,
        pool.devices,
        PRELOAD,
        pieces="blocks",
        advice="take fewer workers or a smaller --batch if memory runs out",
        cpus=1 if on_gpu else pool.threads,
        gpus=1 if on_gpu else None,
    )
    return run_on_ray(threaded, blocks, settings) if pool.ray else run_locally(threaded, blocks, settings, say)


@dataclass(frozen=True)
class _Threaded:
    """A job whose worker computes on a number of threads."""

    job: BlockJob
    threads: int

    def open(self, device: str) -> Callable[[int], None]:
        import torch  # noqa: PLC0415 - slow, and a process that only waits for workers needs none

        torch.set_num_threads(self.threads)
        return self.job.open(device)

    def is_done(self, block: int) -> bool:
        return self.job.is_done(block)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Restore the number of threads of this process, which is itself the worker."""
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
