"""Several processes of one machine that train together and end together; without torch.

`accelerate launch` does the same on several machines, but ends with code 1 when it is asked to stop, and kills its
processes thirty seconds later, finished with saving or not.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import FrameType

from vidrd.orphans import follow

LAUNCHER = "VIDRD_LAUNCHER"  # process id, in the environment of those that it started
GRACE = 60.0  # seconds that the others have once one has ended with an error


def launch(count: int, words: Sequence[str], more: Mapping[str, str]) -> int:
    """Run Python with these words in processes that find each other as torch.distributed's do; returns the exit code.

    SIGTERM and SIGINT go on to all of them. If one fails the others are killed after a while. The code is that of the
    first one that failed.

    Args:
        count: number of processes.
        words: the command line after the interpreter's name.
        more: variables to add to their environment.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        LAUNCHER: str(os.getpid()), **more,
    }  # fmt: skip
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, _forward(processes)))
        for rank in range(count):
            ranked = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(  # in a session of its own: Ctrl-C in a terminal would reach it twice
                subprocess.Popen([sys.executable, *words], env=os.environ | shared | ranked, start_new_session=True)
            )
        try:
            return _wait(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def follow_launcher() -> None:
    """End this process with the launcher that started it, if one did."""
    if LAUNCHER in os.environ:
        follow(int(os.environ[LAUNCHER]))


def _forward(processes: Sequence["subprocess.Popen[bytes]"]) -> Callable[[int, FrameType | None], None]:
    def forward(number: int, frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(number)

    return forward


def _wait(processes: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Wait until all have ended, or until GRACE after one has failed; the exit code of the first one that failed."""
    first, until = 0, float("inf")
    while time.monotonic() < until:
        codes = [process.poll() for process in processes]
        failed = [code for code in codes if code]
        if failed and not first:
            first, until = failed[0], time.monotonic() + GRACE
        if None not in codes:
            break
        time.sleep(0.05)
    return first if first >= 0 else 128 - first
