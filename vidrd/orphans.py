"""Processes that end with the process that started them, however that one ends: none outlives a killed run."""

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def follow(parent: int) -> None:
    """Have the system kill this process when its parent ends. Linux only; elsewhere nothing happens.

    Args:
        parent: id of the process that should be the parent. If it is not, it has ended already, and this process exits.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def follow_starter() -> None:
    """End this process of `multiprocessing` with the one that started it, or with the fork server between them."""
    starter = multiprocessing.parent_process()
    if starter is None:
        return
    follow(os.getppid())

    def wait() -> None:
        multiprocessing.connection.wait([starter.sentinel])
        os._exit(1)

    threading.Thread(target=wait, name="follow-starter", daemon=True).start()
