"""What the commands of this package do alike."""

import sys
from collections.abc import Callable

from bench.entry import obey as end_well
from bench.entry import parse


def obey(do: Callable[..., int], program: str, description: str | None) -> int:
    """Parse the words after the program's name, check them and do; a user's mistake is one line and exit code 3."""

    def parse_and_do() -> int:
        return parse(do, sys.argv[1:], program, description)()

    return end_well("reports", parse_and_do)
