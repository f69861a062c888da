"""`python -m bench list | sample | run | show | compare | gate | history | doctor | ucf101 | weights`: see --help.

`serve-load` is `run --suite load`.
"""

import sys
from collections.abc import Callable

from bench.commands.axis_options import axes_to_set
from bench.commands.compare import compare_
from bench.commands.doctor import doctor
from bench.commands.gate import gate
from bench.commands.history import history
from bench.commands.list import list_
from bench.commands.run import run_
from bench.commands.sample import sample
from bench.commands.show import show
from bench.commands.ucf101 import ucf101
from bench.commands.weights import weights
from bench.hardware.threads import sleep_at_barriers
from bench.results.entry import obey, parse_verb

STOPPED = "stopped; the same command goes on with the cells that are missing"


def main() -> int:
    """Parse the command line, check it, run the command; see `vidrd.entry` for the exit codes."""
    sleep_at_barriers()
    return obey("bench", _do, STOPPED)


def _do() -> int:
    words = sys.argv[1:]
    if words[:1] == ["serve-load"]:  # a suite with a name of its own
        words = ["run", "--suite", "load", *words[1:]]
    if words and words[0] in ("run", "gate"):
        words[1:] = axes_to_set(words[1:], COMMANDS[words[0]])
    return parse_verb(COMMANDS, words, "python -m bench", __doc__)()


COMMANDS: dict[str, Callable[..., int]] = {
    "list": list_, "sample": sample, "run": run_, "show": show, "compare": compare_, "gate": gate, "history": history,
    "doctor": doctor, "ucf101": ucf101, "weights": weights,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
