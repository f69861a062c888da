"""The HTML page of a run: one file that opens from disk, offline, with or without JavaScript. Needs no torch."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from bench.results.records import LEFT_OUT, short_revision
from reports.chart_style import Chart
from reports.format import BETTER, MISSING, plain_list, printable
from reports.html_templates import render
from reports.missing import NAMED, Note, notes
from reports.paired_difference import EXPLANATION, paired_tables
from reports.run_table import Run, comparable, unmarked
from reports.saved_videos import Scene, VideoGallery
from reports.significance import best_ids
from reports.summary import sentences
from reports.text_tables import MARKED, cell, definitions, footnote
from reports.video_players import Place, colour_of, players, row_label

WITH_BARS = 200  # rows up to which numbers have a bar that shows their interval
KEPT = 256  # raw samples per name that the page holds; the file of records holds all
SELECTED = 12  # values up to which an axis gets a list to choose from
ARROWS = {"lower": "↓", "higher": "↑", "real": "≈"}
SHOWN_KEYS = {"schema", "suite", "question", "hash", "workload", "axes", "fixed", "group", "measures", "machine",
              "software", "revision", "basis", "written", "cells", "apart", "headlines", "command"}  # fmt: skip


def page(
    run: Run,
    rows: pd.DataFrame,
    drawn: Sequence[Chart],
    shown: VideoGallery,
    command: Sequence[str],
    place: Place | None = None,
) -> str:
    """The page as HTML.

    Args:
        drawn: charts of the run.
        shown: videos of the run.
        command: the command that makes this page, as words.
        place: writes videos next to the page; None keeps them in the page, as many as fit into `PICTURE_BYTES`.
    """
    records = rows.to_dict("records")

    def titled(scene: Scene) -> str:
        return f"{run.group} = {scene.group} · prompt {scene.prompt + 1}"

    played = players(shown, row_label(run, rows, records), titled, place, "; --videos N shows more")
    return render(
        "page.html",
        ("base", "table", "players"),
        title=f"{run.manifest['suite']}: {printable(run.manifest['question'])}",
        suite=run.manifest["suite"],
        question=printable(run.manifest["question"]),
        badges=_badges(run, rows),
        answer=[printable(sentence) for sentence in sentences(run, rows)],
        marked=MARKED,
        only_within=_only_within(run, rows),
        **_table(run, rows, records),
        notes=[_noted(note) for note in notes(run, records, list(run.measures), group=rows[run.group].nunique() > 1)],
        footnotes=footnote(run, rows),
        definitions=definitions(run, rows),
        pairs=[{**table._asdict(), "title": printable(table.title)} for table in paired_tables(run, rows)],
        pairs_explained=EXPLANATION,
        charts=[{**chart._asdict(), "svg": Markup(chart.svg)} for chart in drawn],
        scenes=played.scenes,
        video_note=played.note,
        seam_kinds=played.kinds,
        seams_known=played.seams_known,
        cards=_cards(run, command),
        records=_behind(run, records),
    )


def _noted(note: Note) -> dict[str, Any]:
    """One line per reason, and the full lists where the line only gives their length."""
    lists = [note.what, [] if note.all else note.cells]
    return {
        "line": printable(note.line).removeprefix(f"{MISSING} "),
        "more": [printable(", ".join(names)) for names in lists if len(names) > NAMED],
    }


def _only_within(run: Run, rows: pd.DataFrame) -> str:
    names = [axis for axis in run.apart if rows[axis].nunique() > 1]
    return f"Do not compare rows that differ in {plain_list(names)}." if names else ""


def _badges(run: Run, rows: pd.DataFrame) -> list[str]:
    counts = rows["status"].value_counts()
    return [str(run.manifest["workload"]), *(f"{count} {status}" for status, count in counts.items()),
            f"revision {short_revision(run.manifest['revision'])}", str(run.manifest["written"])[:10]]  # fmt: skip


def _table(run: Run, rows: pd.DataFrame, records: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    """The template's values for the table: columns by kind, rows in the order of the plan."""
    measures = [name for name in run.measures if bool(rows[name].notna().any())]
    names = list(dict.fromkeys(run.measures[name]["table"] for name in measures))
    measures.sort(key=lambda name: names.index(run.measures[name]["table"]))
    kinds = [{"name": kind, "columns": sum(run.measures[m]["table"] == kind for m in measures)} for kind in names]
    bars = len(records) <= WITH_BARS
    status = any(row["status"] != "ok" for row in records)
    best = {(name, key) for name in measures for key in best_ids(run, rows, name)}
    clocked = {row["id"]: comparable(run, row) for row in records}
    ranges = {name: _range(clocked.values(), name) for name in measures}
    real = {
        (row[run.group], name): row[name]
        for row in records
        if row["reference"]
        for name in measures
        if row[name] is not None
    }
    heads = [*run.axes, run.group]
    body = []
    before = None
    for row in records:
        cells = []
        for name in measures:
            text, _, half = cell(run, row, name).partition(" ±")
            alone = not bars or clocked[row["id"]][name] is None  # an emulated time is on no scale with others
            style = "" if alone else _bar(row, name, ranges[name], real.get((row[run.group], name)))
            cells.append({"text": text, "half": half and f"±{half}", "best": (name, row["id"]) in best, "style": style})
        texts = [str(row[axis]) for axis in heads]
        body.append({
            "id": row["id"], "reference": row["reference"], "first": row[run.group] != before, "name_at": 0,
            "status": row["status"], "reason": printable(row["reason"]), "heads": texts,
            "colour": colour_of(run, row), "cells": cells,
        })  # fmt: skip
        before = row[run.group]
    choices = [(axis, list(dict.fromkeys(str(row[axis]) for row in records if row[axis] != ""))) for axis in heads]
    return {
        "kinds": kinds,
        "bars": bars,
        "status": status,
        "heads": [*heads, *(["status"] if status else [])],
        "columns": [{"key": name, "title": run.title(name), "kind": run.measures[name]["table"],
                     "meaning": run.measures[name]["definition"], "arrow": ARROWS.get(run.measures[name]["better"], ""),
                     "better": BETTER.get(run.measures[name]["better"], "")} for name in measures],
        "selects": [{"name": axis, "column": position, "values": values}
                    for position, (axis, values) in enumerate(choices) if 1 < len(values) <= SELECTED],
        "body": body,
    }  # fmt: skip


def _range(rows: Iterable[Mapping[Any, Any]], name: str) -> tuple[float, float]:
    values = [row[part] for row in rows if row[name] is not None for part in (name, f"{name}_low", f"{name}_high")
              if row[part] is not None]  # fmt: skip
    return min(values, default=0.0), max(values, default=0.0)


def _bar(row: Mapping[Any, Any], name: str, ends: tuple[float, float], real: float | None) -> str:
    """CSS variables of the bar: the ends of the interval and real video's value, in [0, 1] of the column's range."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or ends[1] <= ends[0]:
        return ""
    places = {"a": low, "b": high, **({} if real is None or row["reference"] else {"r": real})}
    return ";".join(f"--{key}:{(value - ends[0]) / (ends[1] - ends[0]):.3f}" for key, value in places.items())


def _cards(run: Run, command: Sequence[str]) -> list[dict[str, Any]]:
    """Cards with what is needed to interpret and to repeat the numbers; each can be copied."""
    manifest = run.manifest
    grid = [word for name, values in manifest["axes"].items() for word in ("--set", f"{name}={_spelled(values)}")]
    grid += [word for name, value in manifest["fixed"].items() for word in ("--set", f"{name}={value}")]
    whole = ["python", "-m", "bench", "run", "--suite", str(manifest["suite"]), *grid, "--out", str(run.folder)]
    again = manifest.get("command") or whole  # as the user gave it; older manifests do not have it
    cards = [
        ("Make this page again", shlex.join(command), True),
        ("Run the cells again", shlex.join(again), True),
        ("Machine", _lines(manifest["machine"]), False),
        ("Software", _lines(manifest["software"]), False),
        ("Revision and hashes", _lines({"revision": manifest["revision"], **manifest["basis"],
                                        "suite": manifest["hash"], "written": manifest["written"]}), False),
        ("Protocol", _lines({**manifest["fixed"],
                             **{name: _spelled(values) for name, values in manifest["axes"].items()},
                             "workload": manifest["workload"], "group": manifest["group"],
                             **({"apart": _spelled(manifest["apart"])} if manifest.get("apart") else {})}), False),
        *((name, json.dumps(value, indent=1, ensure_ascii=False), False)
          for name, value in manifest.items() if name not in SHOWN_KEYS),
    ]  # fmt: skip
    state = [f"{len(run.records)} of {len(manifest['cells'])} planned cells have a record"]
    if run.others:
        state.append(f"the file has {run.others} more cells, of other settings, source, weights, machine or software")
    if run.torn:
        state.append("the file ends in an unfinished line, which the next run repairs")
    cards.append(("Raw records", f"{run.folder / 'records.jsonl'}\n" + "\n".join(state), False))
    prompts = next((record.facts["prompts"] for record in run.records.values() if "prompts" in record.facts), "")
    if prompts:
        cards.append(("Prompts", prompts, True))
    return [{"title": title, "text": _clean(text), "wide": wide} for title, text, wide in cards]


def _clean(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def _spelled(values: Sequence[object]) -> str:
    return ",".join(map(unmarked, values))


def _lines(facts: Mapping[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in facts.items())


def _behind(run: Run, records: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    """Everything known about each cell, unrounded, for the tooltip and the dialog."""
    cells = {}
    for row in records:
        record = run.records.get(row["id"])
        planned: dict[str, Any] = {"name": run.name(row, group=True), "status": row["status"], "reason": row["reason"]}
        empty: dict[str, Any] = {"numbers": {}, "samples": {}, "counts": {}, "absent": {}, "facts": {}, "machine": {},
                                 "values": {}, "started": "", "seconds": 0, "revision": ""}  # fmt: skip
        if record is None:
            cells[row["id"]] = empty | planned
            continue
        cells[row["id"]] = planned | {
            "numbers": {name: {key: value for key, value in (("value", n.value), ("low", n.low), ("high", n.high),
                                                             ("n", n.n), ("unit", n.unit)) if value not in (None, "")}
                        for name, n in record.numbers.items()},
            "samples": {name: list(values[:KEPT]) for name, values in record.samples.items() if LEFT_OUT not in name},
            "counts": {name: len(values) for name, values in record.samples.items() if len(values) > KEPT},
            "absent": dict(record.absent),
            "facts": {name: text for name, text in record.facts.items() if name != "prompts"},
            "machine": {k: v for k, v in record.machine.items() if run.manifest["machine"].get(k) != v},
            "values": dict(record.cell.values),
            "started": record.attempt.started,
            "seconds": record.attempt.seconds,
            "revision": record.revision,
        }  # fmt: skip
    return {
        "cells": cells,
        "made": ", ".join([*(f"{name} {value}" for name, value in run.manifest["fixed"].items()),
                           f"weights {run.manifest['basis']['weights'][:12]}"]),
        "titles": {name: measure["title"] for name, measure in run.measures.items()},
        "kinds": {name: measure["table"] for name, measure in run.measures.items()},
    }  # fmt: skip
