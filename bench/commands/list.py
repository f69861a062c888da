"""`python -m bench list`: the suites, methods and metrics that exist."""

import shutil
from collections.abc import Sequence

from tabulate import tabulate

from bench.harness.suite_spec import number_of_cells

GAP = 2  # spaces between columns, and those that tabulate leaves after a heading
NARROWEST = 24  # of the last column


def list_() -> int:
    """Print the suites with their axes, the methods and the metrics, no wider than the terminal."""
    from bench.methods import METHODS  # noqa: PLC0415  (loads torch, which --help need not)
    from bench.suites import SUITES  # noqa: PLC0415
    from metrics import METRICS  # noqa: PLC0415

    for name, suite in SUITES.items():
        count = number_of_cells(suite)
        print(_table([(name, f"{count} cell{'s' * (count != 1)}: {suite.question}")], ("suite", "")))
        settings = [(axis, ", ".join(map(str, values))) for axis, values in suite.axes.items()]
        settings += [(axis, str(value)) for axis, value in suite.fixed.items()]
        print("\n" + _table(settings, ("--set", "values")) + "\n")
    print(_table([(name, f"{each.summary} ({each.paper})") for name, each in METHODS.items()], ("method", "")) + "\n")
    rows = [(name, each.unit, each.better or "", each.meaning) for name, each in METRICS.items()]
    print(_table(rows, ("metric", "unit", "better", "")))
    return 0


def _table(rows: Sequence[tuple[str, ...]], headers: tuple[str, ...]) -> str:
    """A table whose last column is wrapped where the terminal ends."""
    columns = zip((header + " " * GAP for header in headers), *rows, strict=True)
    taken = [max(map(len, column)) + GAP for column in columns][:-1]
    room = max(NARROWEST, shutil.get_terminal_size().columns - sum(taken))
    return tabulate(rows, headers, disable_numparse=True, maxcolwidths=[*(None for _ in taken), room])
