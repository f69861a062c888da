"""Threads that stay on their cores. Call it before torch is loaded."""

import os


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
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(may[:threads]))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
