"""How every command ends: what a user or the machine can cause is one line and an exit code that says whose turn it is.

    0 done    2 the machine or this code failed    3 usage    130 Ctrl-C    143 SIGTERM

1 is left to shown regressions, which no failure may be taken for.
"""

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

CRASHED, USAGE, STOPPED, TERMINATED = 2, 3, 130, 143
MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}  # not usage


def obey(program: str, do: Callable[[], int | None], stopped: str = "stopped") -> int:
    """Do a command's work and return its exit code.

    Args:
        program: its name, which begins the line on stderr.
        do: parses and works; returns the exit code, None for 0. ValueError and OSError are what a user can mend,
            SystemExit(2) is what parsers of command lines raise.
        stopped: what to say after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no such character shows its number
    code, line = _ended(do, stopped)
    if line:
        with contextlib.suppress(OSError):
            print(f"{program}: {line}", file=sys.stderr, flush=True)
    _let_go_of(sys.stdout)
    _let_go_of(sys.stderr)
    return code


def _ended(do: Callable[[], int | None], stopped: str) -> tuple[int, str]:
    """The exit code, and the line that says why; "" if nothing is to be said."""
    code, line = CRASHED, ""
    try:
        with _sigterm_as_exit():
            done = do() or 0
            sys.stdout.flush()
            code = done
    except SystemExit as stop:
        code, line = _exit_code(stop)
    except KeyboardInterrupt:
        code, line = STOPPED, stopped
    except BrokenPipeError:
        line = "nobody reads the output any more"
    except OSError as error:
        code, line = CRASHED if error.errno in MACHINE else USAGE, _told(error)
    except ValueError as error:
        code, line = USAGE, one_line(str(error))
    except Exception as error:
        if is_out_of_memory(error):
            line = f"out of memory: {one_line(str(error)) or 'ask for less at one time'}"
        else:  # a fault of this code: its traceback is what helps
            traceback.print_exc()
    return code, line


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means want of memory: PyTorch has a class of its own on a GPU, a plain RuntimeError on a CPU."""
    texts = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(text in str(error) for text in texts)


def one_line(text: str) -> str:
    """Text without line breaks, escapes and other characters that move a terminal's cursor."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _exit_code(stop: SystemExit) -> tuple[int, str]:
    if isinstance(stop.code, str):
        return USAGE, one_line(stop.code)
    if stop.code == TERMINATED:
        return TERMINATED, "ended by SIGTERM"
    code = int(stop.code or 0)
    return (USAGE if code == 2 else CRASHED if code == 1 else code), ""


def _told(error: OSError) -> str:
    try:
        os.getcwd()
    except OSError:
        return "the current folder does not exist any more: cd into one that does"
    named = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return one_line(f"{' and '.join(named)}: {error.strerror}" if named else str(error))


def _let_go_of(stream: Any) -> None:
    """What cannot be written now shall not fail once more when the interpreter ends."""
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """SIGTERM ends the work as an exception does, so that what was begun is taken down."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
