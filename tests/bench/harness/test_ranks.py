"""Ranks of one cell: they are one group, the first failure ends all of them, and none is left."""

import os
import signal
import time
from functools import partial

import pytest
import torch
import torch.distributed as dist

from bench.harness.ranks import RankError, on_ranks
from bench.results.records import InvalidError


def total():
    """The sum of all ranks' numbers, which each of them adds to."""
    number = torch.tensor([float(dist.get_rank() + 1)])
    dist.all_reduce(number)
    return float(number), dist.get_world_size(), torch.get_num_threads()


def wait():
    """Wait for ranks that never come."""
    dist.barrier()
    dist.barrier()


def fail(pids, error=None):
    """Say which process this is, then die, or fail, at the second meeting."""
    (pids / str(dist.get_rank())).write_text(str(os.getpid()))
    dist.barrier()
    if error is None:
        os.kill(os.getpid(), signal.SIGKILL)
    raise error


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_rank_0_has_the_result_of_all():
    assert on_ranks(3, total, total, on_gpu=False) == (6.0, 3, 1)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (None, RankError, "rank 1 of 2 was killed by SIGKILL"),
        (ValueError("no such thing\nmore"), RankError, "rank 1 of 2: ValueError: no such thing$"),
        (InvalidError("other latents"), InvalidError, "rank 1 of 2: other latents"),
        (MemoryError("64 TiB"), MemoryError, "rank 1 of 2: MemoryError: 64 TiB"),
    ],
)
def test_a_rank_that_fails_ends_the_others_which_wait_for_it(error, kind, message, tmp_path):
    began = time.monotonic()
    with pytest.raises(kind, match=message):
        on_ranks(2, wait, partial(fail, tmp_path, error), on_gpu=False)
    assert time.monotonic() - began < 20
    assert is_gone(int((tmp_path / "1").read_text()))


def test_rank_0_fails_alone(tmp_path):
    with pytest.raises(RankError, match="rank 0 of 2: KeyError: 'lost'"):
        on_ranks(2, partial(fail, tmp_path, KeyError("lost")), wait, on_gpu=False)
