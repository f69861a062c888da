"""How far a run is and how long it will take: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from bench.record import Attempt


class Progress:
    """Counts cells and guesses the time left from the cost of those that are done.

    Args:
        cost: of all cells to come, in any unit.
        cells: how many cells are to come, skipped ones too.
        known: (cost, seconds) of cells that were measured before.
        say: prints a line.
    """

    def __init__(
        self, cost: float, cells: int, known: Sequence[tuple[float, float]], say: Callable[[str], None]
    ) -> None:
        self._cost, self._cells, self._say = cost, cells, say
        self._known = list(known)
        self._done = 0
        self._label = ""
        console = Console(file=sys.stderr)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=cells, left="")
        self._began = time.monotonic()

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, name: str) -> None:
        """A cell begins."""
        self._label = name
        self._bar.update(self._task, description=name, left=self.left())

    def end(self, attempt: Attempt, cost: float) -> None:
        """The cell has ended; `cost` is what it was expected to cost."""
        self._done += 1
        self._cost -= cost
        if attempt.status == "ok":
            self._known.append((cost, attempt.seconds))
        self._bar.update(self._task, completed=self._done, left=self.left())
        how = f"{attempt.seconds:.1f} s" if attempt.status == "ok" else f"{attempt.status}: {attempt.reason}"
        line = f"[{self._done:>{len(str(self._cells))}}/{self._cells}] {self._label}: {how}"
        if self._bar.disable:
            left = self.left() if self._done < self._cells else ""
            self._say(f"{line}; {left}" if left else line)
        elif attempt.status != "ok":
            self._bar.console.print(line, markup=False, highlight=False)

    def left(self) -> str:
        """See `time_left`."""
        return time_left(self._cost, self._known)


def time_left(cost: float, known: Sequence[tuple[float, float]]) -> str:
    """ "about 3 min left" for so much cost ahead, at the seconds per cost of what is `known`; "" if nothing is."""
    spent = sum(cost for cost, _ in known)
    if not spent:
        return ""
    seconds = max(0.0, cost) * sum(seconds for _, seconds in known) / spent  # a sum of floats may end below 0
    return "about " + (f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s") + " left"
