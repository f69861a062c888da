"""A run in a terminal: the answer and the headlines on one screen, or all tables with sparklines."""

import itertools
import textwrap
import zipfile
from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports import saved_videos
from reports.format import plain_list, printable
from reports.run_table import Run, headlines, reported
from reports.significance import best_ids as marks
from reports.significance import best_rows
from reports.summary import sentences, summary
from reports.text_tables import INTERVAL, MARKED, cell, footnote, tables

TICKS = "▁▂▃▄▅▆▇█"
LINES = 40  # of the short form, at most
HEAD = 5  # of these, around its table: an empty line, two of headings, up to two that say which rows it has
ROWS = 18  # of a table, at most; if there are more, the best of each series
COLUMNS = 7  # of numbers, at most
GAP = 2
LONGEST = 32  # characters of a sparkline
WIDE = 220  # characters of a line without a terminal
MANY = 200  # rows of a table, at most, whose videos are opened for a sparkline
STYLES = {"oom": "red", "timeout": "red", "failed": "red", "invalid": "red", "skipped": "dim", "not run": "dim"}


def show(run: Run, rows: pd.DataFrame, console: Console | None = None, *, reserved: int = 0) -> None:
    """Print the answer and one table of headlines in at most `LINES` - `reserved` lines."""
    console = console or Console(highlight=False)
    question = textwrap.wrap(printable(run.manifest["question"]), console.width)
    answer = [line for sentence in sentences(run, rows)
            for line in textwrap.wrap(printable(sentence), console.width,
                                      initial_indent="• ", subsequent_indent="  ")]  # fmt: skip
    mark = "Green" if console.color_system else "*"
    notes = [f"± is half of the 95 % interval. {mark}: no row is better beyond noise.", *footnote(run, rows)]
    height = sum(len(textwrap.wrap(note, console.width)) for note in notes)
    left = LINES - reserved - len(question) - len(answer) - height - HEAD
    drawn, chosen = _headline_table(run, rows, max(1, left), console)
    console.print(Text("\n".join(question), style="bold"))
    console.print(Text("\n".join(answer)), "", sep="\n")
    if drawn.columns[1:]:
        console.print(drawn)
        for note in [chosen, *notes]:
            console.print(Text(note, style="dim"))


def _headline_table(run: Run, rows: pd.DataFrame, most: int, console: Console) -> tuple[Table, str]:
    """The table with the rows and columns that fit, and a sentence that says which rows these are."""
    shown, which = rows, f"All {len(rows)} cells" if len(rows) > 1 else "The one cell"
    if len(rows) > min(most, ROWS):
        groups = [best_rows(run, part) for _, part in rows.groupby(run.group, sort=False)]
        series = run.axes[0] if run.axes else run.group
        best = next(map(run.title, headlines(run, rows)), "")
        shown, which = pd.concat(groups), f"The best of {len(rows)} cells by {best}, for each {series} and {run.group}"
    if len(shown) > most:
        best_of = len(shown) < len(rows)
        which = f"{which}, the first {most}" if best_of else f"The first {most} of {len(rows)} cells"
        shown = shown.head(most)
    records = shown.to_dict("records")
    axes = [axis for axis in (run.group, *run.axes) if rows[axis].nunique() > 1] or [run.group]
    widths = [max(len(printable(str(row[axis]))) for row in records) if records else 0 for axis in axes]
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    names = [" ".join(printable(str(row[axis])).ljust(width) for axis, width in zip(axes, widths, strict=True))
             + ("" if row["status"] == "ok" else f" {row['status']}") for row in records]  # fmt: skip
    columns: list[list[str]] = [names]
    measures: list[tuple[str, set[str]]] = []
    room = console.width - max(map(len, names), default=0)
    drawn.add_column("", no_wrap=True)
    for name in reported(run, rows):
        best_ids = marks(run, rows, name)
        star = "" if console.color_system else "*"
        texts = [cell(run, row, name).replace(" ±", "±") + star * (row["id"] in best_ids) for row in records]
        width = GAP + max(map(len, [run.title(name), *texts]))
        if width > room or len(measures) == COLUMNS:
            continue
        room -= width
        measures.append((name, best_ids))
        columns.append(texts)
        drawn.add_column(Text(run.title(name)), justify="right", no_wrap=True)
    for row, name_, *texts in zip(records, *columns, strict=True):
        cells = [Text(text, style="bold green" if row["id"] in best_ids else "")
                 for text, (_, best_ids) in zip(texts, measures, strict=True)]  # fmt: skip
        drawn.add_row(Text(name_, style=STYLES.get(row["status"], "")), *cells)
    return drawn, f"{which}; rows are named by {plain_list(axes)}. --tables prints every cell and measure."


def show_tables(run: Run, rows: pd.DataFrame, console: Console | None = None, measures: Sequence[str] = ()) -> None:
    """Print the answer and all tables; marked values are bold and green."""
    console = console or _console()
    console.print(Text(printable(run.manifest["question"]), style="bold"))
    console.print(Text(printable(summary(run, rows))), "")
    for table in tables(run, rows, measures):
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
            console.print(Padding(Text(printable(str(note)), style="dim"), (0, 0, 0, 2)))
        console.print()
    for line in (f"{INTERVAL} Green: {MARKED}.", *footnote(run, rows)):
        console.print(Text(line, style="dim"))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def sparkline(values: Sequence[float], most: int = LONGEST) -> str:
    """Values as bars scaled from the smallest to the largest; above `most` values, means of neighbors."""
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
    """Heading -> a sparkline for each row: seconds call by call for costs, else the change over time of video 1."""
    if kind == "cost":
        columns = {"seconds, call by call": [sparkline(_seconds(run, key)) for key in ids]}
    else:
        columns = {"change over time, video 1": [sparkline(_change(run, key)) for key in ids[:MANY]]}
    return {name: lines + [""] * (len(ids) - len(lines)) for name, lines in columns.items() if any(lines)}


def _seconds(run: Run, key: str) -> Sequence[float]:
    record = run.records.get(key)
    samples = {} if record is None else record.samples
    timed = (values for name, values in samples.items() if name.endswith("_seconds") and len(values) > 1)
    return samples.get("total_seconds") or next(timed, ())


def _change(run: Run, key: str) -> Sequence[float]:
    try:
        kept = saved_videos.read_videos(run.cell_folder(key), key)
    except (OSError, ValueError, zipfile.BadZipFile):
        return ()
    return saved_videos.change(kept[0])[0] if kept else ()
