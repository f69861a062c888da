"""`python -m reports RUN-FOLDER [--out FOLDER]`: the answer of a run, and a page, Markdown, CSV and pictures of it."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from bench.results.manifest import read_manifest
from bench.results.option_types import CountOrNone, ExistingFile, TargetFolder
from bench.results.records import write_atomic
from reports.chart_style import png, printed
from reports.charts import charts
from reports.cli import run_command
from reports.filmstrip import group_strips
from reports.markdown import as_markdown, as_text
from reports.page import page
from reports.readme import write_readme
from reports.run_table import Run, load, rows
from reports.terminal import show, show_tables
from reports.ucf101 import report as ucf101
from reports.video_players import Place
from reports.videos import scenes


def report(
    run_folder: Annotated[Path, tyro.conf.Positional],
    out: TargetFolder | None = None,
    folder: bool = False,
    videos: CountOrNone = 60,
    readme: ExistingFile | None = None,
    measures: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    view: Literal["auto", "plain", "rich"] = "auto",
    tables: bool = False,
) -> int:
    """Print the answer of a run and its headlines; write the report if a folder is given.

    Args:
        run_folder: For example runs/pocket.
        out: Gets report.html, report.md, cells.csv and charts; made if its parent is there.
        folder: Put films into a folder beside report.html, without limit, and not into the page.
        videos: How many videos the page shows at most, whole prompts first.
        readme: A Markdown file whose part between two `report` marks gets the picture and the main table.
        measures: Columns of the README's table; none: the first kind of measures, whole.
        methods: Rows of the README's picture and table; none: every method.
        view: With colours (rich), as plain text, or as the terminal can (auto).
        tables: Print every table instead of the headlines.
    """
    options = (["--folder"] if folder else []) + ([] if videos == 60 else ["--videos", str(videos)])
    command = ["python", "-m", "reports", str(run_folder), "--out", str(out), *options]
    if ucf101.is_run(run_folder):
        place = beside(out) if out is not None and folder else None
        written = ucf101.report(run_folder, out, command, place=place, videos=videos)
        print("\nwritten: " + ", ".join(map(str, written)))
        return 0
    read_manifest(run_folder)
    run = load(run_folder)
    table = rows(run)
    if readme is not None:
        print(f"written: {', '.join(map(str, write_readme(run, table, readme, measures, methods)))}")
        return 0
    plain = view == "plain" or (view == "auto" and not sys.stdout.isatty())
    if tables and plain:
        print(as_text(run, table))
    elif tables:
        show_tables(run, table)
    else:
        console = Console(highlight=False, color_system=None) if plain else Console(highlight=False)
        show(run, table, console, reserved=0 if out is None else 1)
    if out is not None:
        out.mkdir(exist_ok=True)
        write_report(run, out, command, folder=folder, videos=videos)
        print(f"page: {out / 'report.html'}", flush=True)
    return 0


def beside(out: Path) -> Place:
    """What puts a film into the folder beside the page, and says where the page finds it."""

    def place(name: str, film: bytes) -> str:
        (out / "films").mkdir(exist_ok=True)
        write_atomic(out / "films" / name, film)
        return f"films/{name}"

    return place


def write_report(run: Run, out: Path, command: list[str], *, folder: bool = False, videos: int = 60) -> list[str]:
    """Write the page, the Markdown and what belongs to them; returns the names of the files, films counted as one."""
    table = rows(run)
    drawn = charts(run, table)
    shown = scenes(run, table, videos)
    write_atomic(out / "report.html", page(run, table, drawn, shown, command, beside(out) if folder else None))
    pictures = group_strips(run, table, shown.scenes)
    for name, (picture, _) in pictures.items():
        write_atomic(out / name, picture)
    for chart in drawn:
        write_atomic(out / f"{chart.name}.svg", printed(chart.svg))
        write_atomic(out / f"{chart.name}.png", png(chart.svg))
    write_atomic(out / "cells.csv", table.to_csv(index=False))
    told = {name: said for name, (_, said) in pictures.items()} | {f"{c.name}.svg": c.title for c in drawn}
    write_atomic(out / "report.md", as_markdown(run, table, told))
    films = [f"films ({sum(len(scene.films) for scene in shown.scenes)})"] if folder else []
    return ["report.html", "report.md", "cells.csv", *told, *(f"{chart.name}.png" for chart in drawn), *films]


def main() -> int:
    """The command."""
    return run_command(report, "python -m reports", __doc__)


if __name__ == "__main__":
    sys.exit(main())
