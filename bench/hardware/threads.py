"""How the threads of a process use its cores."""

import os
from collections.abc import Sequence
from pathlib import Path

SPINS = 10_000  # turns of an OpenMP thread at a barrier before it sleeps; libgomp's own default is 300,000
SCHEDSTAT = Path("/proc/self/schedstat")


def sleep_at_barriers() -> None:
    """Let OpenMP's threads sleep soon where they wait for one another, unless GOMP_SPINCOUNT is set.

    Call it before torch is loaded. On idle cores it changes no time. Where other work shares the cores, a waiting
    thread would burn the very time that the other one needs: small operations then take some five times as long.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def usable_cores() -> list[int]:
    """The cores that this process may use, in order."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def pin(threads: int) -> None:
    """Keep this process and all it starts on the first `threads` cores it may use, with as many threads.

    Call it before torch is loaded.

    Raises:
        ValueError: there are not so many cores.
    """
    may = usable_cores()
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


def seconds_without_core() -> float:
    """Seconds for which the first thread of this process was ready to run and waited for a core, since it began.

    Linux counts them (/proc/self/schedstat, second field); 0 where nothing does. The rest of the clock's time is the
    process's own: computing, and waiting for what it asked for. Host cores that a virtual machine does not get are not
    counted.
    """
    try:
        return int(SCHEDSTAT.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
