"""Tables as text, for a terminal and for Markdown, with a definition of every column. Needs no torch."""

from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tabulate import tabulate

from bench.results.records import half_width
from reports.format import BETTER, MISSING, escape, number, printable
from reports.missing import DAGGER, EMULATED, SIDE_BY_SIDE, Note, has_emulated, notes
from reports.paired_difference import EXPLANATION, paired_tables
from reports.run_table import APPROXIMATE, Run, emulated_time
from reports.significance import best_ids
from reports.summary import sentences, summary

MARKED = "significantly worse than no row and better than some (95 %, corrected for all comparisons of a table)"
APPROXIMATION = f"{APPROXIMATE} an approximation: it computes something else, and its loss is what it costs."
INTERVAL = "±: the longer half of the 95 % interval; absent where n is too small."


@dataclass(frozen=True)
class Table:
    """One table, all cells text; `notes` say what is missing and why."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    marked: set[tuple[int, int]]  # (row, column): no row is better beyond noise, and some are worse
    notes: list[Note]
    kind: str  # of the measures, such as "quality" or "cost"
    ids: list[str]  # of the cells, row by row
    named: int  # how many columns name the row; the others are numbers


def tables(run: Run, rows: pd.DataFrame, measures: Sequence[str] = ()) -> list[Table]:
    """For each group, one table per kind of measure, with the row of the reference first.

    Args:
        measures: one table of these for each group instead, of the rows that have any of them.
    """
    if measures:
        rows = rows[rows[list(measures)].notna().any(axis=1)]
        return [
            table_of(run, part, "chosen", f"{run.manifest['workload']} at {run.group} = {value}", measures)
            for value, part in rows.groupby(run.group, sort=False)
        ]
    kinds = list(dict.fromkeys(measure["table"] for measure in run.measures.values()))
    parts = []
    for value, part in rows.groupby(run.group, sort=False):
        for kind in kinds:
            measures = [name for name, measure in run.measures.items() if measure["table"] == kind]
            title = f"{run.manifest['workload']}: {kind} at {run.group} = {value}"
            parts.append(table_of(run, part, kind, title, measures))
    return parts


def table_of(run: Run, part: pd.DataFrame, kind: str, title: str, measures: Sequence[str]) -> Table:
    """The table of those of the measures that have numbers; `kind` and `title` only label it."""
    shown = [name for name in measures if part[name].notna().any()]
    costless = part["reference"].astype(bool) & (part["status"] == "ok") & part[shown].isna().all(axis=1)
    part = part[~costless]  # real video is not generated, so it has no row in a table about generating
    ok = bool((part["status"] == "ok").all())
    columns = [*run.axes, *([] if ok else ["status"]), *(run.title(name) for name in shown)]
    best = {name: best_ids(run, part, name) for name in shown}
    rows = part.to_dict("records")
    body = [
        [
            *(str(row[axis]) for axis in run.axes),
            *([] if ok else [row["status"]]),
            *(cell(run, row, name) for name in shown),
        ]
        for row in rows
    ]
    first = len(columns) - len(shown)
    marked = {(i, first + j) for i, row in enumerate(rows) for j, name in enumerate(shown) if row["id"] in best[name]}
    ids = [str(row["id"]) for row in rows]
    return Table(title, columns, body, marked, notes(run, rows, measures), kind, ids, first)


def cell(run: Run, row: Mapping[Hashable, Any], name: str) -> str:
    """A number with half of its interval, or a dash; times of an emulated precision have a dagger."""
    if row[name] is None:
        return MISSING
    half = half_width(row[name], row[f"{name}_low"], row[f"{name}_high"])
    return number(row[name], run.measures[name]["unit"], half) + f" {DAGGER}" * emulated_time(
        run.records[row["id"]], name
    )


def definitions(run: Run, rows: pd.DataFrame) -> list[tuple[str, str]]:
    """(title, meaning) of every column that has numbers, with unit, direction and sample counts."""
    entries = []
    for name, measure in run.measures.items():
        counts = sorted({int(n) for n in rows[f"{name}_n"].dropna()})
        if not counts:
            continue
        n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        unit = "" if measure["unit"] == "bytes" else measure["unit"]
        traits = [part for part in (unit, BETTER.get(measure["better"] or ""), n) if part]
        entries.append((run.title(name), f"({', '.join(traits)}) {measure['definition']}"))
    return entries


def facts(run: Run) -> list[tuple[str, str]]:
    """(name, value) of what is needed to interpret the numbers: protocol, machine, software, revision and so on."""
    manifest = run.manifest
    machine = manifest["machine"]
    done = sum(record.attempt.status == "ok" for record in run.records.values())
    return [
        ("suite", f"{manifest['suite']} ({manifest['hash']}): {manifest['question']}"),
        ("label", f"`{manifest['workload']}`: do not compare its numbers with published ones"),
        ("protocol", ", ".join(f"{name} {value}" for name, value in manifest["fixed"].items())),
        ("cells", f"{len(manifest['cells'])} planned, {done} ok, {len(run.records) - done} with a reason, "
                  f"{len(manifest['cells']) - len(run.records)} not run"),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
                    f"{machine['system']}; GPU: {machine['gpu']} {machine['driver']}".strip()),
        ("software", ", ".join(f"{name} {version}" for name, version in manifest["software"].items())),
        ("revision", manifest["revision"]),
        ("weights", manifest["basis"]["weights"]),
        ("written", manifest["written"]),
        *(("from", text) for text in manifest.get("runs", ())),
        *([("unused", f"{run.others} more cells in records.jsonl have other settings, source, weights or machine")]
          if run.others else []),
        *([("torn", "records.jsonl ends in an unfinished line; the next run repairs it")] if run.torn else []),
    ]  # fmt: skip


def as_text(run: Run, rows: pd.DataFrame, measures: Sequence[str] = ()) -> str:
    """All tables and the answer as plain text, for a terminal or a log."""
    parts = []
    for table in tables(run, rows, measures):
        body = [
            [printable(text) + " *" * ((i, j) in table.marked) for j, text in enumerate(line)]
            for i, line in enumerate(table.rows)
        ]
        parts.append(f"{table.title}\n" + tabulate(body, headers=table.columns, disable_numparse=True))
        parts.append("".join(f"  {printable(str(note))}\n" for note in table.notes))
    parts += [f"{INTERVAL} * {MARKED}.", *footnote(run, rows), "", printable(summary(run, rows))]
    return "\n".join(parts)


def footnote(run: Run, rows: pd.DataFrame) -> list[str]:
    """The lines that explain daggers, cells side by side and approximations, if there are any."""
    emulated = [EMULATED] if has_emulated(run, rows.to_dict("records"), list(run.measures)) else []
    beside = [SIDE_BY_SIDE] * any("side_by_side" in record.facts for record in run.records.values())
    return emulated + beside + [APPROXIMATION] * bool(run.manifest.get("approximations"))


def tables_markdown(run: Run, rows: pd.DataFrame, measures: Sequence[str] = ()) -> str:
    """The tables alone as Markdown, each below its title."""
    parts = [f"**{escape(table.title)}**\n\n{table_markdown(table)}" for table in tables(run, rows, measures)]
    return "\n\n".join([*parts, f"{INTERVAL} **Bold**: {MARKED}."])


def as_markdown(run: Run, rows: pd.DataFrame, pictures: Mapping[str, str] | None = None) -> str:
    """A Markdown page: the answer, tables, what is missing and why, pictures, definitions, how it was made.

    Args:
        pictures: file next to the page -> its caption.
    """
    lines = [
        f"# {escape(run.manifest['question'])}",
        "",
        *(f"- {escape(sentence)}" for sentence in sentences(run, rows)),
        "",
    ]
    for table in tables(run, rows):
        lines += [f"## {escape(table.title)}", "", table_markdown(table), ""]
        lines += [f"- {escape(str(note))}" for note in table.notes] + [""] * bool(table.notes)
    for pairs in paired_tables(run, rows):
        lines += [f"## Paired differences at {escape(pairs.title)}", "", EXPLANATION, ""]
        lines += [_pipes(pairs.columns, pairs.rows, pairs.marked), ""]
    lines += [f"{INTERVAL} **Bold**: {MARKED}. cells.csv has both ends of every interval.", ""]
    lines += [text for line in footnote(run, rows) for text in (line, "")]
    for name, shown in (pictures or {}).items():
        lines += [f"## {escape(shown)}", "", f"![{escape(shown)}]({name})", ""]
    lines += ["## What the columns mean", ""]
    lines += [*(f"- **{escape(title)}** {escape(meaning)}" for title, meaning in definitions(run, rows)), ""]
    lines += ["## How it was made", "", *(f"- {name}: {escape(value)}" for name, value in facts(run)), ""]
    prompts = next((record.facts["prompts"] for record in run.records.values() if "prompts" in record.facts), "")
    if prompts:
        lines += ["## Prompts", "", *(f"1. {escape(prompt)}" for prompt in prompts.splitlines()), ""]
    return "\n".join(lines)


def table_markdown(table: Table) -> str:
    """One table as Markdown, marked values in bold."""
    return _pipes(table.columns, table.rows, table.marked)


def _pipes(columns: Sequence[str], rows: Sequence[Sequence[str]], marked: Container[tuple[int, int]]) -> str:
    body = [
        [f"**{escape(text)}**" if (i, j) in marked else escape(text) for j, text in enumerate(line)]
        for i, line in enumerate(rows)
    ]
    return tabulate(body, headers=[escape(c) for c in columns], tablefmt="pipe", disable_numparse=True)
