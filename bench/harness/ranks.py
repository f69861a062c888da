"""One cell on several devices: a process ("rank") for each, of which rank 0 does the cell and the others join in.

    the cell's process --starts--> rank 0, rank 1, ... --torch.distributed--> one another

The cell ends as soon as rank 0 has a result or any rank fails; no rank outlives it.
"""

import multiprocessing
import multiprocessing.connection
import tempfile
import traceback
from collections.abc import Callable, Mapping
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist

from bench.hardware.memory import memory_kills
from bench.harness.job import death, verdict
from bench.results.records import InvalidError, Status
from vidrd.orphans import follow_starter

T = TypeVar("T")
GRACE = 1.0  # seconds after a rank's error in which one that died, and so caused it, is still noticed


class RankError(RuntimeError):
    """Raised where a rank died, or failed in a way that is neither invalid nor want of memory."""


KINDS: Mapping[str, type[Exception]] = {"invalid": InvalidError, "oom": MemoryError, "failed": RankError}


class Failure(NamedTuple):
    """What a rank sends back instead of an error, which not all of them survive: its `bench.harness.job.verdict`."""

    status: Status
    reason: str


def on_ranks(ranks: int, lead: Callable[[], T], follow: Callable[[], object], *, on_gpu: bool) -> T:
    """What `lead` returns on rank 0, while `follow` runs on all others, with a process group around them.

    On GPUs rank r computes on device r, by NCCL; else each has one thread and they talk by gloo. Where there is no GPU
    the processes are forked, so this is called before the process has computed anything.

    Raises:
        InvalidError, MemoryError: a rank raised it.
        RankError: a rank failed in another way, or died.
    """
    context = multiprocessing.get_context("spawn" if on_gpu else "fork")
    started: dict[Connection, tuple[int, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for rank in range(ranks):
                reader, writer = context.Pipe(duplex=False)
                given = (rank, ranks, str(Path(folder) / "store"), lead if rank == 0 else follow, writer, on_gpu)
                process = context.Process(target=_rank, args=given)  # type: ignore[attr-defined]
                process.start()
                writer.close()  # so that the end of the rank is the end of the pipe
                started[reader] = rank, process
            result: T = _result(started)
            return result
        finally:
            for _, process in started.values():
                process.kill()
                process.join()


def _rank(rank: int, ranks: int, store: str, work: Callable[[], object], answer: Connection, on_gpu: bool) -> None:
    """The process of a rank: what its work returns, or the error that it raised, goes back."""
    follow_starter()
    try:
        if on_gpu:
            torch.cuda.set_device(rank)
        else:
            torch.set_num_threads(1)
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "cpu:gloo"
        dist.init_process_group(
            backend, init_method=f"file://{store}", rank=rank, world_size=ranks, timeout=timedelta(days=1)
        )  # rank 0 may be at work alone for long; who runs the cell ends it in time
        answer.send(work())
    except Exception as error:  # every way to fail is the cell's reason
        traceback.print_exc()
        answer.send(Failure(*verdict(error)))


def _result(started: Mapping[Connection, tuple[int, Any]]) -> Any:
    """The result of rank 0; the error of the rank that failed first, or died."""
    failed: tuple[int, Failure] | None = None
    left, kills = list(started), memory_kills()
    while left:
        ready = multiprocessing.connection.wait(left, timeout=None if failed is None else GRACE)
        for reader in ready:
            assert isinstance(reader, Connection)
            left.remove(reader)
            rank, process = started[reader]
            try:
                answer = reader.recv()
            except EOFError:
                process.join()
                status, how = death(process.exitcode, memory_kills() - kills)
                raise KINDS[status](f"rank {rank} of {len(started)} {how}") from None
            if not isinstance(answer, Failure):
                if rank == 0 and failed is None:
                    return answer
            elif failed is None:
                failed = rank, answer
        if failed is not None and not ready:
            break
    assert failed is not None
    rank, failure = failed
    raise KINDS[failure.status](f"rank {rank} of {len(started)}: {failure.reason}")
