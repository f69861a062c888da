"""How the threads of a process use its cores. All functions act on processes that load torch after the call."""

import os
from collections.abc import Sequence

SPINS = 10_000  # turns of an OpenMP thread at a barrier before it sleeps; libgomp's own default is 300,000


def sleep_at_barriers() -> None:
    """Let OpenMP's threads sleep soon where they wait for one another, unless GOMP_SPINCOUNT is set.

    On idle cores it changes no time. Where other work shares the cores, a waiting thread would burn the very time that
    the other one needs: small operations then take some five times as long.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def pin(threads: int) -> None:
    """Keep this process and all it starts on the first `threads` cores it may use, with as many threads.

    Raises:
        ValueError: there are not so many cores.
    """
    may = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if not 1 <= threads <= len(may):
        raise ValueError(
            f"each thread needs a core and this process may use {len(may)}: got {threads} threads, try {len(may)}"
        )
    pin_to(may[:threads])


def pin_to(cores: Sequence[int]) -> None:
    """Keep this process and all it starts on these cores, with a thread on each."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    name_threads(str(len(cores)))


def name_threads(threads: str) -> None:
    """Set the variables by which libraries choose their number of threads; "" removes them."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if threads:
            os.environ[name] = threads
        else:
            os.environ.pop(name, None)
