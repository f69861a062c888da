"""The picture and the main table of a README, made from a run: per method a strip and an x-t slice, and its numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.results.records import write_atomic
from reports.filmstrip import strip_picture
from reports.format import escape
from reports.markdown import INTERVAL, MARKED, footnote, table_markdown, table_of, tables
from reports.run_table import Run, headlines
from reports.significance import best_rows
from reports.videos import Scene, scenes

BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"
PICTURE = Path("docs") / "result.png"


def write_readme(
    run: Run, rows: pd.DataFrame, readme: Path, measures: Sequence[str] = (), methods: Sequence[str] = ()
) -> list[Path]:
    """Put picture and table between the marks of a Markdown file, and the picture into docs/ next to it.

    The last group is shown (the longest videos, in a suite of lengths), and of each series its best row by the first
    measure, so that a method speaks by its best setting.

    Args:
        measures: the table's columns; none: all of the first kind.
        methods: values of the first axis, the picture's rows from top to bottom; the table has the reference above
            them. None: every series, and the reference in the picture too.

    Raises:
        ValueError: the run lacks a measure or a method, there is no such file, it has no marks, or the run left no
            videos of the group.
    """
    _known("--measures", measures, run.measures, run)
    _known("--methods", methods, _series(run, rows), run)
    if not readme.is_file():
        raise ValueError(f"--readme {readme}: there is no such file")
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"--readme {readme}: give it one line {BEGIN} and below it one line {END}")
    last = rows[rows[run.group] == rows[run.group].iloc[-1]]
    part = best_rows(run, last)
    several = len(part) < len(last)
    if methods:
        place = {method: position for position, method in enumerate(methods)}
        position = part[run.axes[0]].map(place).where(~part["reference"].astype(bool), -1)
        part = part.assign(position=position).dropna(subset=["position"]).sort_values("position")
    drawn = part[~part["reference"].astype(bool)] if methods else part
    first = [scene for scene in scenes(run, drawn, most=len(drawn)).scenes if scene.prompt == 0]
    if not first:
        raise ValueError(f"{run.folder} kept no videos at {run.group} = {rows[run.group].iloc[-1]}")
    picture = readme.parent / PICTURE
    picture.parent.mkdir(exist_ok=True)
    names = {row["id"]: run.name(row) for row in drawn.to_dict("records")}
    write_atomic(picture, strip_picture(first[0], [names[film.id] for film in first[0].films]))
    options = [*(["--methods", *methods] if methods else []), *(["--measures", *measures] if measures else [])]
    made = "\n".join([BEGIN, *_lines(run, part, first[0], measures, options, several=several), END])
    write_atomic(readme, re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: made, text, flags=re.DOTALL))
    return [readme, picture]


def _known(option: str, names: Sequence[str], known: Iterable[str], run: Run) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{option} {' '.join(unknown)}: {run.folder} has {', '.join(known)}")


def _series(run: Run, rows: pd.DataFrame) -> list[str]:
    """The values of the first axis; none where a run has only one series."""
    return list(dict.fromkeys(rows[~rows["reference"].astype(bool)][run.axes[0]])) if run.axes else []


def _lines(
    run: Run, part: pd.DataFrame, scene: Scene, measures: Sequence[str], options: Sequence[str], *, several: bool
) -> list[str]:
    machine: Mapping[str, Any] = run.manifest["machine"]
    table = table_of(run, part, "chosen", "", measures) if measures else tables(run, part)[0]
    at = f"{run.group} = {part[run.group].iloc[-1]}"
    best = next(map(run.title, headlines(run, part)), "no measure")
    chosen = f", at its best setting by {best}" if several else ""
    command = " ".join(["python -m reports", str(run.folder), *options, "--readme README.md"])
    return [
        f"![Videos of one prompt, one row per method, each with its x-t slice]({PICTURE.as_posix()})",
        "",
        f"*{escape(scene.caption)}*: one row per method{chosen}. On the right, the x-t slice: one row of pixels over "
        "time, in which a seam is a vertical edge and mirrored time a symmetry.",
        "",
        table_markdown(table),
        "",
        f"`{run.manifest['workload']}`, {escape(at)}. {INTERVAL} **Bold**: {MARKED}. Made by `{command}` from revision "
        f"{run.manifest['revision'][:12]} on {escape(str(machine.get('cpu', '')))}, {machine.get('cores', '')} cores, "
        f"GPU: {escape(str(machine.get('gpu', '')))}.",
        *(said for line in footnote(run, part) for said in ("", line)),
    ]
