"""Rows to text: tables for the terminal and for Markdown, with a note for every column. Needs no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from tabulate import tabulate

from reports.table import Run

MISSING = "–"
BETTER = {"lower": "lower is better", "higher": "higher is better", "real": "best where real video's is"}


@dataclass(frozen=True)
class Table:
    """One table, all cells text; `notes` say what is missing from it and why."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


def tables(run: Run, rows: pd.DataFrame) -> list[Table]:
    """Of each group one table a kind of measure, the reference's row first."""
    group = run.manifest["group"]
    kinds = list(dict.fromkeys(measure["table"] for measure in run.manifest["measures"].values()))
    found = []
    for value, part in rows.groupby(group, sort=False):
        for kind in kinds:
            measures = [name for name, measure in run.manifest["measures"].items() if measure["table"] == kind]
            title = f"{run.manifest['workload']}: {kind} at {group} = {value}"
            found.append(_table(run, part, title, measures))
    return found


def _table(run: Run, rows: pd.DataFrame, title: str, measures: Sequence[str]) -> Table:
    shown = [name for name in measures if rows[name].notna().any()]
    costless = rows["reference"] & (rows["status"] == "ok") & rows[shown].isna().all(axis=1)
    rows = rows[~costless]  # real video is not generated, so it has no row where all is about generating
    ok = bool((rows["status"] == "ok").all())
    columns = [*run.axes, *([] if ok else ["status"]), *(_title(run, name) for name in shown)]
    lines = []
    for _, row in rows.iterrows():
        status = [] if ok else [row["status"]]
        lines.append([*(str(row[axis]) for axis in run.axes), *status, *(_cell(run, row, name) for name in shown)])
    return Table(title, columns, lines, list(_notes(run, rows, measures)))


def _cell(run: Run, row: pd.Series, name: str) -> str:
    if pd.isna(row[name]):
        return MISSING
    half = None if pd.isna(row[f"{name}_low"]) else max(row[name] - row[f"{name}_low"], row[f"{name}_high"] - row[name])
    return number(row[name], run.manifest["measures"][name]["unit"], half)


def number(value: float, unit: str, half: float | None = None) -> str:
    """Three digits, or as many as the half width of the interval leaves meaning: "12.3 ±1.4". Bytes become MiB."""
    if unit == "bytes":
        value, half = value / 2**20, None if half is None else half / 2**20
    if half:
        places = max(0, 1 - math.floor(math.log10(half)))
        return f"{value:.{places}f} ±{half:.{places}f}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _notes(run: Run, rows: pd.DataFrame, measures: Sequence[str]) -> list[str]:
    """Why cells are missing and why numbers are, each reason once with what and whom it concerns."""
    about: dict[tuple[str, str], list[str]] = {}  # (what, reason) -> whom
    for _, row in rows.iterrows():
        name = " ".join(str(row[axis]) for axis in run.axes if row[axis] != "")
        if row["status"] != "ok":
            about.setdefault((row["status"], row["reason"]), []).append(name)
            continue
        absent = run.records[row["id"]].absent
        for reason in dict.fromkeys(absent[measure] for measure in measures if measure in absent):
            titles = [_title(run, measure) for measure in measures if absent.get(measure) == reason]
            about.setdefault((f"{MISSING} {', '.join(titles)}", reason), []).append(name)
    return [
        f"{what}: {reason} ({'all' if len(names) == len(rows) else ', '.join(names)})"
        for (what, reason), names in about.items()
    ]


def _title(run: Run, name: str) -> str:
    measure = run.manifest["measures"][name]
    return f"{measure['title']} MiB" if measure["unit"] == "bytes" else measure["title"]


def definitions(run: Run, rows: pd.DataFrame) -> list[tuple[str, str]]:
    """(title, meaning) of every column that has a number, with its unit, direction and sample counts."""
    found = []
    for name, measure in run.manifest["measures"].items():
        counts = sorted({int(n) for n in rows[f"{name}_n"].dropna()})
        if not counts:
            continue
        n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        unit = "" if measure["unit"] == "bytes" else measure["unit"]
        said = [part for part in (unit, BETTER.get(measure["better"] or ""), n) if part]
        found.append((_title(run, name), f"({', '.join(said)}) {measure['definition']}"))
    return found


def facts(run: Run) -> list[tuple[str, str]]:
    """(name, value): protocol, machine, software, revision: what a number means nothing without."""
    manifest = run.manifest
    machine = manifest["machine"]
    done = sum(record.attempt.status == "ok" for record in run.records.values())
    return [
        ("suite", f"{manifest['suite']} ({manifest['hash']}): {manifest['question']}"),
        ("label", f"`{manifest['workload']}`: numbers of this world only; never beside published ones"),
        ("protocol", ", ".join(f"{name} {value}" for name, value in manifest["fixed"].items())),
        ("cells", f"{len(manifest['cells'])} planned, {done} ok, {len(run.records) - done} with a reason, "
                  f"{len(manifest['cells']) - len(run.records)} not run"),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
                    f"{machine['system']}; GPU: {machine['gpu']} {machine['driver']}".strip()),
        ("software", ", ".join(f"{name} {version}" for name, version in manifest["software"].items())),
        ("revision", manifest["revision"]),
        ("weights", manifest["basis"]["weights"]),
        ("written", manifest["written"]),
        *([("unused", f"{run.others} other cells of other settings, source, weights or machine are in records.jsonl")]
          if run.others else []),
        *([("torn", "records.jsonl ends in an unfinished line; the next run repairs it")] if run.torn else []),
    ]  # fmt: skip


def as_text(run: Run, rows: pd.DataFrame) -> str:
    """For a terminal."""
    parts = []
    for table in tables(run, rows):
        body = [[printable(cell) for cell in line] for line in table.rows]
        parts.append(f"{table.title}\n" + tabulate(body, headers=table.columns, disable_numparse=True))
        parts.append("".join(f"  {printable(note)}\n" for note in table.notes))
    parts.append("± is half the 95 % interval (its longer side); none where n is too small for one.")
    return "\n".join(parts)


def as_markdown(run: Run, rows: pd.DataFrame, pictures: Sequence[str] = ()) -> str:
    """A page: tables, what is missing and why, what every column means, how it was made.

    Args:
        pictures: files beside the page, of contact sheets.
    """
    lines = [f"# {escape(run.manifest['question'])}", ""]
    for table in tables(run, rows):
        body = [[escape(cell) for cell in line] for line in table.rows]
        lines += [f"## {escape(table.title)}", ""]
        lines += [
            tabulate(body, headers=[escape(c) for c in table.columns], tablefmt="pipe", disable_numparse=True),
            "",
        ]
        lines += [f"- {escape(note)}" for note in table.notes] + [""] * bool(table.notes)
    if pictures:
        lines += ["## The videos", "", "The first video of each cell, its frames from left to right.", ""]
        lines += [f"![{escape(name)}]({name})\n" for name in pictures]
    lines += ["## What the columns mean", ""]
    lines += [
        "± is half the 95 % interval (its longer side); no ± where n is too small for one. cells.csv has both ends."
    ]
    lines += ["", *(f"- **{escape(title)}** {escape(meaning)}" for title, meaning in definitions(run, rows)), ""]
    lines += ["## How it was made", "", *(f"- {name}: {escape(value)}" for name, value in facts(run)), ""]
    prompts = next((record.facts["prompts"] for record in run.records.values() if "prompts" in record.facts), "")
    if prompts:
        lines += ["## Prompts", "", *(f"1. {escape(prompt)}" for prompt in prompts.splitlines()), ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text as text: nothing in it is read as Markdown or HTML, and it stays on its line."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{sign}" if sign in "\\|`*_[]#~" else sign for sign in plain)


def printable(text: str) -> str:
    """The text without line ends and control characters, which would move a terminal's cursor."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
