"""`python -m reports RUN-FOLDERS [--out FOLDER]`: print a run's answer; write its page, Markdown, CSV and charts."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from bench.results.option_types import CountOrNone, ExistingFile, TargetFolder
from bench.results.records import write_atomic
from reports.chart_style import png, printed
from reports.charts import charts
from reports.cli import run_command
from reports.filmstrip import group_strips
from reports.html_page import page
from reports.pooled import pool
from reports.readme import write_readme
from reports.run_table import Run, check_known, load, rows, with_base
from reports.saved_videos import scenes
from reports.terminal import show, show_tables
from reports.text_tables import as_markdown, as_text, tables_markdown
from reports.ucf101 import report as ucf101
from reports.video_players import Place


def report(
    run_folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN-FOLDER ...")],
    out: TargetFolder | None = None,
    folder: bool = False,
    videos: CountOrNone = 60,
    readme: ExistingFile | None = None,
    measures: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    base: str | None = None,
    view: Literal["auto", "plain", "rich", "markdown"] = "auto",
    tables: bool = False,
) -> int:
    """Print the answer of a run and its headlines; with --out, write the report.

    Args:
        run_folders: For example runs/pocket. Several runs of one suite, such as parts that different machines made, are
            reported as one, without times and memory if machine or code differ.
        out: Folder for report.html, report.md, cells.csv and charts; it is created if its parent exists.
        folder: Put the videos into files next to report.html, without limit, instead of into the page.
        videos: Most videos that the page shows; those of one prompt stay together.
        readme: Markdown file, in which picture and main table replace the part between the two `report` marks.
        measures: Columns of the README's table, by default all measures of the first kind; or of the --tables.
        methods: Rows of the README's picture and table; by default every method.
        base: Method, or other value of the first axis, that the others are compared with; by default the first one.
        view: Print in color (rich), as plain text, or as the terminal allows (auto); --tables also as markdown.
        tables: Print every table instead of the headlines.
    """
    options = (["--folder"] if folder else []) + ([] if videos == 60 else ["--videos", str(videos)])
    options += [] if base is None else ["--base", base]
    command = ["python", "-m", "reports", *map(str, run_folders), "--out", str(out), *options]
    if not run_folders:
        raise ValueError("name the folder of a run, such as runs/pocket: got none")
    if (measures and not (tables or readme)) or (view == "markdown" and not tables):
        raise ValueError("--measures and --view markdown choose what --tables prints: add --tables")
    if any(map(ucf101.is_run, run_folders)):
        if len(run_folders) > 1:
            raise ValueError("a UCF-101 run has a report of its own: name it alone")
        place = files_next_to_page(out) if out is not None and folder else None
        written = ucf101.report(run_folders[0], out, command, place=place, videos=videos)
        print("\nwritten: " + ", ".join(map(str, written)))
        return 0
    run = pool([load(folder) for folder in run_folders])
    run = run if base is None else with_base(run, base)
    table = rows(run)
    if readme is not None:
        print(f"written: {', '.join(map(str, write_readme(run, table, readme, measures, methods)))}")
        return 0
    plain = view == "plain" or (view == "auto" and not sys.stdout.isatty())
    check_known("--measures", measures, run.measures, run)
    if tables and view == "markdown":
        print(tables_markdown(run, table, measures))
    elif tables and plain:
        print(as_text(run, table, measures))
    elif tables:
        show_tables(run, table, measures=measures)
    else:
        console = Console(highlight=False, color_system=None) if plain else Console(highlight=False)
        show(run, table, console, reserved=0 if out is None else 1)
    if out is not None:
        out.mkdir(exist_ok=True)
        write_report(run, out, command, folder=folder, videos=videos)
        print(f"page: {out / 'report.html'}", flush=True)
    return 0


def files_next_to_page(out: Path) -> Place:
    """A function that writes a picture into `out`/videos and returns its address for the page in `out`."""

    def place(name: str, picture: bytes) -> str:
        (out / "videos").mkdir(exist_ok=True)
        write_atomic(out / "videos" / name, picture)
        return f"videos/{name}"

    return place


def write_report(run: Run, out: Path, command: list[str], *, folder: bool = False, videos: int = 60) -> None:
    """Write page, Markdown, CSV, charts and pictures."""
    table = rows(run)
    drawn = charts(run, table)
    shown = scenes(run, table, videos)
    place = files_next_to_page(out) if folder else None
    write_atomic(out / "report.html", page(run, table, drawn, shown, command, place))
    pictures = group_strips(run, table, shown.scenes)
    for name, (picture, _) in pictures.items():
        write_atomic(out / name, picture)
    for chart in drawn:
        write_atomic(out / f"{chart.name}.svg", printed(chart.svg))
        write_atomic(out / f"{chart.name}.png", png(chart.svg))
    write_atomic(out / "cells.csv", table.to_csv(index=False))
    captions = {name: caption for name, (_, caption) in pictures.items()} | {f"{c.name}.svg": c.title for c in drawn}
    write_atomic(out / "report.md", as_markdown(run, table, captions))


def main() -> int:
    """Run the command; returns its exit code."""
    return run_command(report, "python -m reports", __doc__)


if __name__ == "__main__":
    sys.exit(main())
