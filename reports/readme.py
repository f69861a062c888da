"""The picture and the main table of a README, made from a run: frames, x-t slice and numbers of each method."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.results.records import short_revision, write_atomic
from reports.filmstrip import strip_picture
from reports.format import escape
from reports.run_table import Run, check_known, headlines
from reports.saved_videos import Scene, scenes
from reports.significance import best_rows
from reports.text_tables import INTERVAL, MARKED, footnote, table_markdown, table_of, tables

BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"
PICTURE = Path("docs") / "result.png"


def write_readme(
    run: Run, rows: pd.DataFrame, readme: Path, measures: Sequence[str] = (), methods: Sequence[str] = ()
) -> list[Path]:
    """Put picture and table between the marks of a Markdown file; the picture file goes into docs/ next to it.

    Shown are the last group (the longest videos, in a suite of lengths) and the row of each series that is best by the
    first measure, so that every method appears with its best setting.

    Args:
        measures: the table's columns; by default all of the first kind.
        methods: values of the first axis, in the order of the picture's rows; the table also has the reference, above
            them. By default every series, and the reference in the picture too.

    Raises:
        ValueError: the run lacks a measure or a method, there is no such file, it has no marks, or the run left no
            videos of the group.
    """
    check_known("--measures", measures, run.measures, run)
    check_known("--methods", methods, _series(run, rows), run)
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
        raise ValueError(f"{run.folder} has no videos at {run.group} = {rows[run.group].iloc[-1]}")
    picture = readme.parent / PICTURE
    picture.parent.mkdir(exist_ok=True)
    names = {row["id"]: run.name(row) for row in drawn.to_dict("records")}
    write_atomic(picture, strip_picture(first[0], [names[video.id] for video in first[0].videos]))
    options = [*(["--methods", *methods] if methods else []), *(["--measures", *measures] if measures else [])]
    section = "\n".join([BEGIN, *_lines(run, part, first[0], measures, options, several=several), END])
    write_atomic(readme, re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: section, text, flags=re.DOTALL))
    return [readme, picture]


def _series(run: Run, rows: pd.DataFrame) -> list[str]:
    """The values of the first axis; empty if the run has no axis within a table."""
    return list(dict.fromkeys(rows[~rows["reference"].astype(bool)][run.axes[0]])) if run.axes else []


def _lines(
    run: Run, part: pd.DataFrame, scene: Scene, measures: Sequence[str], options: Sequence[str], *, several: bool
) -> list[str]:
    machine: Mapping[str, Any] = run.manifest["machine"]
    cores = machine.get("cores", "")
    gpu = "no GPU" if str(machine.get("gpu", "none")).startswith("none") else f"GPU: {machine['gpu']}"
    table = table_of(run, part, "chosen", "", measures) if measures else tables(run, part)[0]
    at = f"{run.group} = {part[run.group].iloc[-1]}"
    best = next(map(run.title, headlines(run, part)), "no measure")
    chosen = f", at its best setting by {best}" if several else ""
    command = shlex.join(["python", "-m", "reports", str(run.folder), *options, "--readme", "README.md"])
    return [
        f"![Videos of one prompt, one row per method, each with its x-t slice]({PICTURE.as_posix()})",
        "",
        f"*{escape(scene.caption)}*: one row per method{chosen}. On the right, the x-t slice: one row of pixels over "
        "time, where a seam is a vertical edge and reversed motion a symmetry.",
        "",
        table_markdown(table),
        "",
        f"`{run.manifest['workload']}`, {escape(at)}. {INTERVAL} **Bold**: {MARKED}. Made by `{command}` from revision "
        f"{short_revision(run.manifest['revision'])} on "
        + escape(f"{machine.get('cpu', '')}, {cores} core{'' if cores == 1 else 's'}, {gpu}."),
        *(text for line in footnote(run, part) for text in ("", line)),
    ]
