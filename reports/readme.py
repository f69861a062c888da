"""The picture and the main table of a README, made from a run: a strip with an x-t slice a method, and the numbers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.record import write_atomic
from reports.films import Scene, scenes
from reports.format import escape
from reports.markdown import INTERVAL, MARKED, footnote, table_markdown, table_of, tables
from reports.standing import best_rows
from reports.strip import strip_picture
from reports.table import Run, headlines

BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"
PICTURE = Path("docs") / "result.png"


def write_readme(run: Run, rows: pd.DataFrame, readme: Path, measures: Sequence[str] = ()) -> list[Path]:
    """Put picture and table between the marks of a Markdown file, the picture into docs/ beside it.

    The last group is shown (the longest videos, in a suite of lengths); of each series its best row by the first
    measure, so that a method speaks by its best setting. Columns are `measures`; none: all of the first kind.

    Raises:
        ValueError: a measure that the run does not have, no such file, it has no marks, or the run left no videos of
            the group.
    """
    unknown = [name for name in measures if name not in run.measures]
    if unknown:
        raise ValueError(f"--measures {' '.join(unknown)}: {run.folder} has {', '.join(run.measures)}")
    if not readme.is_file():
        raise ValueError(f"--readme {readme}: there is no such file")
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"--readme {readme}: give it one line {BEGIN} and below it one line {END}")
    part = best_rows(run, rows[rows[run.group] == rows[run.group].iloc[-1]])
    found = [scene for scene in scenes(run, part, most=len(part)).scenes if scene.prompt == 0]
    if not found:
        raise ValueError(f"{run.folder} kept no videos at {run.group} = {rows[run.group].iloc[-1]}")
    picture = readme.parent / PICTURE
    picture.parent.mkdir(exist_ok=True)
    names = {row["id"]: run.name(row) for row in part.to_dict("records")}
    write_atomic(picture, strip_picture(found[0], [names[film.id] for film in found[0].films]))
    made = "\n".join([BEGIN, *_lines(run, rows, part, found[0], measures), END])
    write_atomic(readme, re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: made, text, flags=re.DOTALL))
    return [readme, picture]


def _lines(run: Run, rows: pd.DataFrame, part: pd.DataFrame, scene: Scene, measures: Sequence[str]) -> list[str]:
    machine: Mapping[str, Any] = run.manifest["machine"]
    table = table_of(run, part, "chosen", "", measures) if measures else tables(run, part)[0]
    at = f"{run.group} = {part[run.group].iloc[-1]}"
    best = next(map(run.title, headlines(run, part)), "no measure")
    chosen = f"--measures {' '.join(measures)} " if measures else ""
    return [
        f"![Videos of one prompt, a row a method, and the x-t slice through each]({PICTURE.as_posix()})",
        "",
        f"*{escape(scene.caption)}*: a row a method, at its best setting by {best}. In the slices, one row of pixels "
        "over time, a seam is a vertical edge and mirrored time a symmetry.",
        "",
        table_markdown(table),
        "",
        f"`{run.manifest['workload']}`, {escape(at)}, best setting of each of {len(rows)} cells' methods. {INTERVAL} "
        f"**Bold**: {MARKED}. Made by `python -m reports {run.folder} {chosen}--readme README.md` from revision "
        f"{run.manifest['revision'][:12]} on {escape(str(machine.get('cpu', '')))}, {machine.get('cores', '')} cores, "
        f"GPU: {escape(str(machine.get('gpu', '')))}.",
        *(said for line in footnote(run, part) for said in ("", line)),
    ]
