"""Processes end with the process that started them, however it ends: nothing is left to disturb the next run."""

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading

RUN = "VIDRD_BENCH_RUN"  # environment variable: the process whose fork server this is; see `bench.harness.fork_server`
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def follow(parent: int) -> None:
    """Have the system kill this process when its parent ends. Linux only; elsewhere nothing happens.

    Args:
        parent: the process that should be the parent: if it is not, it has ended already, and so does this one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def follow_run() -> None:
    """End this cell's process at once when its run, or the fork server between them, has ended."""
    run = multiprocessing.parent_process()
    if run is None:
        return
    follow(os.getppid())

    def wait() -> None:
        multiprocessing.connection.wait([run.sentinel])
        os._exit(1)

    threading.Thread(target=wait, name="follow-run", daemon=True).start()
