"""The tables of a run in a terminal, with sparklines of what lies behind the numbers."""

import itertools
import zipfile
from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports import films
from reports.answer import answer
from reports.format import printable
from reports.markdown import INTERVAL, MARKED, tables
from reports.table import Run

TICKS = "▁▂▃▄▅▆▇█"
LONGEST = 32  # characters of a sparkline
WIDE = 220  # characters of a line where there is no terminal to ask
MANY = 200  # rows of a table whose videos are opened for their sparkline
STYLES = {"oom": "red", "timeout": "red", "failed": "red", "invalid": "red", "skipped": "dim", "not run": "dim"}


def show(run: Run, rows: pd.DataFrame, console: Console | None = None) -> None:
    """Print the answer and every table; marked values are bold and green."""
    console = console or _console()
    console.print(Text(printable(run.manifest["question"]), style="bold"))
    console.print(Text(printable(answer(run, rows))), "")
    for table in tables(run, rows):
        title = Text(printable(table.title), style="bold")
        drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for position, column in enumerate(table.columns):
            drawn.add_column(Text(column), justify="left" if position < table.named else "right", no_wrap=True)
        lines = _sparklines(run, table.kind, table.ids)
        for name in lines:
            drawn.add_column(Text(name, style="dim"), no_wrap=True)
        for i, row in enumerate(table.rows):
            cells = [Text(printable(text), style="bold green" if (i, j) in table.marked else STYLES.get(text, ""))
                     for j, text in enumerate(row)]  # fmt: skip
            drawn.add_row(*cells, *(Text(line[i], style="cyan") for line in lines.values()))
        console.print(drawn)
        for note in table.notes:
            console.print(Padding(Text(printable(note), style="dim"), (0, 0, 0, 2)))
        console.print()
    console.print(Text(f"{INTERVAL} Green: {MARKED}.", style="dim"))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def sparkline(values: Sequence[float], most: int = LONGEST) -> str:
    """Values as bars from the smallest to the largest; means of neighbours where there are more than `most`."""
    if not values:
        return ""
    count = min(most, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    if high <= low:
        return TICKS[0] * count
    return "".join(TICKS[round((value - low) / (high - low) * (len(TICKS) - 1))] for value in means)


def _sparklines(run: Run, kind: str, ids: Sequence[str]) -> dict[str, list[str]]:
    """Heading -> a sparkline for each row: raw seconds beside costs, the first video's change in time elsewhere."""
    if kind == "cost":
        found = {"seconds, call by call": [sparkline(_seconds(run, key)) for key in ids]}
    else:
        found = {"change in time, video 1": [sparkline(_change(run, key)) for key in ids[:MANY]]}
    return {name: lines + [""] * (len(ids) - len(lines)) for name, lines in found.items() if any(lines)}


def _seconds(run: Run, key: str) -> Sequence[float]:
    record = run.records.get(key)
    samples = {} if record is None else record.samples
    timed = (values for name, values in samples.items() if name.endswith("_seconds") and len(values) > 1)
    return samples.get("total_seconds") or next(timed, ())


def _change(run: Run, key: str) -> Sequence[float]:
    try:
        kept = films.read_films(run.folder / "cells" / key, key)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return ()
    return films.change(kept[0])[0] if kept else ()
