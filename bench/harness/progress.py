"""How far a run is and how long it will take: a bar on a terminal, plain lines elsewhere.

A cell takes a + b cost seconds: a start that every cell has, and work in proportion to what was asked. The law is
fitted to all cells that ended well here, in this run and earlier ones; its level follows this run, whose machine may be
busier.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from bench.results.records import Attempt

REPORT = 8.0  # seconds that tables and page take on two cores, once all is measured


class CellTime(NamedTuple):
    """How long a finished cell took.

    Args:
        cost: what the suite expected it to cost, in any unit.
        seconds: from the start of its process to the end.
        work: how many of these seconds its record accounts for (loading, warm-up, batches); 0 where it says nothing.
    """

    cost: float | int
    seconds: float | int
    work: float | int = 0.0


class CostModel(NamedTuple):
    """How long a cell takes by its cost."""

    start: float | int
    rate: float | int

    def seconds(self, cost: float | int) -> float | int:
        """Seconds of a cell of that cost."""
        return self.start + self.rate * cost


class Progress:
    """Counts cells and estimates the time left.

    Args:
        ahead: costs of all cells to come, 0 for those that are skipped.
        known: times of cells that were measured before.
        say: prints a line.
        at_a_time: cells that are measured side by side.
    """

    def __init__(
        self,
        ahead: Sequence[float | int],
        known: Sequence[CellTime],
        say: Callable[[str], None],
        at_a_time: int = 1,
    ) -> None:
        self._ahead, self._say, self._at_a_time = list(ahead), say, at_a_time
        self._earlier, self._here = list(known), list[CellTime]()
        self._cells, self._done, self._label = len(self._ahead), 0, ""
        console = Console(file=sys.stderr)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[whole]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=self._cells, whole="")
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
        self._bar.update(self._task, description=name, whole=self._of_about())

    def end(self, attempt: Attempt, cost: float | int, work: float | int = 0.0, found: str = "") -> None:
        """The cell has ended; `cost` and `work` as in `CellTime`, `found` is what to say of its results."""
        self._done += 1
        if cost in self._ahead:
            self._ahead.remove(cost)
        if attempt.status == "ok":
            self._here.append(CellTime(cost, attempt.seconds, work))
        self._bar.update(self._task, completed=self._done, whole=self._of_about())
        how = f"{attempt.seconds:.1f} s" if attempt.status == "ok" else f"{attempt.status}: {attempt.reason}"
        line = f"[{self._done:>{len(str(self._cells))}}/{self._cells}] {self._label}: {how}"
        line += f"; {found}" if found else ""
        if self._bar.disable:
            whole = self._of_about() if self._done < self._cells else ""
            self._say(f"{line}; {clock(time.monotonic() - self._began)} {whole}" if whole else line)
        elif found or attempt.status != "ok":
            self._bar.console.print(line, markup=False, highlight=False)

    def left(self) -> float | int | None:
        """Seconds until the report is written; None while nothing is known."""
        seconds = seconds_left(self._ahead, self._earlier, self._here, self._at_a_time)
        return None if seconds is None else seconds + REPORT

    def _of_about(self) -> str:
        left = self.left()
        return "" if left is None else f"of about {clock(time.monotonic() - self._began + left)}"


def seconds_left(
    ahead: Sequence[float | int], earlier: Sequence[CellTime], here: Sequence[CellTime] = (), at_a_time: int = 1
) -> float | int | None:
    """Seconds that cells of these costs take; None if no cell is known.

    Args:
        ahead: costs; those of 0 take no time.
        earlier: cells of earlier runs, perhaps on a quieter machine.
        here: cells of this run.
        at_a_time: how many run side by side.
    """
    if not earlier and not here:
        return None
    before, now = without_once(earlier), without_once(here)
    law, level = fit(before or now), 1.0
    for _ in range(2 if before and now else 0):
        one = sum(map(law.seconds, (each.cost for each in before))) / len(before)  # earlier runs count as one cell
        predicted = sum(law.seconds(each.cost) for each in now)
        level = (sum(each.seconds for each in now) + one) / (predicted + one) if predicted + one else 1.0
        law = fit([*before, *(each._replace(seconds=each.seconds / (level or 1.0)) for each in now)])
    seconds = [level * law.seconds(cost) for cost in ahead if cost]
    return max(sum(seconds) / at_a_time, max(seconds, default=0.0))


def without_once(known: Sequence[CellTime]) -> list[CellTime]:
    """The cells without what only one of them had to do, such as measuring the peaks of the machine.

    What a record does not account for, starting and judging, is much the same for all cells of a suite; where one has
    more than twice the median of it, the rest happened once.
    """
    rests = [each.seconds - each.work for each in known]
    if not rests:
        return []
    most = 2 * statistics.median_low(rests)
    return [
        each._replace(seconds=each.work + min(rest, most)) if each.work else each
        for each, rest in zip(known, rests, strict=True)
    ]


def fit(known: Sequence[CellTime]) -> CostModel:
    """The law, nothing in it below 0, with the least sum of squared errors; where all costs are equal, no start."""
    costs, seconds = [each.cost for each in known], [each.seconds for each in known]
    mean_cost, mean_seconds = statistics.fmean(costs), statistics.fmean(seconds)
    spread = sum((cost - mean_cost) ** 2 for cost in costs)
    together = sum((c - mean_cost) * (s - mean_seconds) for c, s in zip(costs, seconds, strict=True))
    if not spread:
        return CostModel(0.0, mean_seconds / mean_cost) if mean_cost else CostModel(mean_seconds, 0.0)
    rate = max(0.0, together / spread)
    if mean_seconds >= rate * mean_cost:
        return CostModel(mean_seconds - rate * mean_cost, rate)
    return CostModel(0.0, sum(c * s for c, s in zip(costs, seconds, strict=True)) / sum(cost**2 for cost in costs))


def clock(seconds: float | int) -> str:
    """Seconds as people read them: 45 s, 3:05, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def say(line: str) -> None:
    """A line for people, on standard error."""
    print(line, file=sys.stderr, flush=True)
