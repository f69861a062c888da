"""What the commands of this package do alike."""

import sys
from collections.abc import Callable

import tyro

USAGE = 3


def obey(do: Callable[..., int], program: str, description: str | None) -> int:
    """Parse the words after the program's name, do, and turn a user's mistake into one line and exit code 3."""
    try:
        return tyro.cli(do, prog=program, description=description)
    except ValueError as error:
        print(f"reports: {error}", file=sys.stderr)
        return USAGE
    except SystemExit as stop:
        return USAGE if stop.code == 2 else int(stop.code or 0)
