"""How the commands of this package parse their arguments and fail."""

import sys
from collections.abc import Callable

from bench.results.entry import obey as end_well
from bench.results.entry import parse


def run_command(do: Callable[..., int], program: str, description: str | None) -> int:
    """Parse and check the arguments and call `do`; a user's mistake gives one line and exit code 3."""

    def parse_and_do() -> int:
        return parse(do, sys.argv[1:], program, description)()

    return end_well("reports", parse_and_do)
