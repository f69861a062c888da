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
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from bench.results.records import InvalidError
from vidrd.orphans import follow_starter

T = TypeVar("T")
GRACE = 1.0  # seconds after a rank's error in which one that died, and so caused it, is still noticed


class RankError(RuntimeError):
    """Raised where a rank died, or failed in a way that is neither invalid nor want of memory."""


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
        answer.send(error)


def _result(started: Mapping[Connection, tuple[int, Any]]) -> Any:
    """The result of rank 0; the error of the rank that failed first, or died."""
    error: tuple[int, Exception] | None = None
    left = list(started)
    while left:
        ready = multiprocessing.connection.wait(left, timeout=None if error is None else GRACE)
        for reader in ready:
            assert isinstance(reader, Connection)
            left.remove(reader)
            rank, process = started[reader]
            try:
                answer = reader.recv()
            except EOFError:
                process.join()
                raise RankError(f"rank {rank} of {len(started)} died: its exit code is {process.exitcode}") from None
            if not isinstance(answer, Exception):
                if rank == 0 and error is None:
                    return answer
            elif error is None:
                error = rank, answer
        if error is not None and not ready:
            break
    assert error is not None
    raise _of_rank(*error, len(started)) from error[1]


def _of_rank(rank: int, error: Exception, ranks: int) -> Exception:
    """The error with the rank that raised it, as what it means for the cell."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    said = f"rank {rank} of {ranks}: {line}"
    if isinstance(error, InvalidError):
        return InvalidError(said)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return MemoryError(said)
    return RankError(f"rank {rank} of {ranks}: {type(error).__name__}: {line}")
