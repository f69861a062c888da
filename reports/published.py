"""Rows of the literature beside measured ones. Only where a run's plan asks for them, and never beside pocket numbers.

`published.csv` holds what others reported on UCF-101: every row with its source, how sure the reading is, and what its
protocol is known to be.
"""

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from reports.markdown import cell
from reports.table import Run

TABLES = {"ucf101": Path(__file__).parent / "published.csv"}
OWN_WORLDS = ("pocket",)  # workloads whose numbers stand beside no others
HEADS = (
    "",
    "IS ↑",
    "FVD ↓",
    "training videos",
    "generated",
    "prompts",
    "resolution",
    "frames",
    "confidence",
    "source",
    "note",
)
COLUMNS = ("method", "is", "fvd", "train_videos", "n_generated", "prompts", "resolution", "frames", "confidence",
           "source", "note")  # fmt: skip
SETTINGS = {"n_generated": "videos", "prompts": "prompts", "frames": "frames", "resolution": "resolution"}
CONFIDENCE = {
    "primary": "read in the authors' own text, table or site",
    "secondary": "read in another paper's table",
    "conflict": "printed differently in different places; the note says where",
    "unverified": "not checked against a text",
}
FINE_PRINT = (
    "(assumed), (inferred): not stated where the row was read; what fits its numbers and the usual judges",
    "an empty cell: not stated where the row was read",
)


@cache
def published_rows(table: str) -> tuple[dict[str, str], ...]:
    """The rows of a table, as text, as they were printed."""
    with TABLES[table].open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def published_table(run: Run, rows: Sequence[Mapping[Any, Any]]) -> dict[str, Any] | None:
    """Heads, rows and notes, measured rows first; None where the plan names no table.

    Raises:
        ValueError: the plan asks for published rows beside pocket numbers, or for a table that is not there.
    """
    wanted = run.manifest.get("published")
    if not wanted:
        return None
    if run.manifest["workload"] in OWN_WORLDS:
        raise ValueError(f"{run.manifest['workload']} numbers never stand beside published ones: take `published` away")
    if wanted not in TABLES:
        raise ValueError(f"there is no table of published rows {wanted!r}: there is {', '.join(TABLES)}")
    measured = [_measured(run, row) for row in rows if row["status"] == "ok" and not row["reference"]]
    known = published_rows(wanted)
    return {
        "heads": HEADS,
        "rows": [
            *({"kind": "measured", "cells": cells} for cells in measured),
            *({"kind": row["confidence"], "cells": [row[name] for name in COLUMNS]} for row in known),
        ],
        "notes": [
            *(
                f"{word}: {meaning}"
                for word, meaning in CONFIDENCE.items()
                if any(r["confidence"] == word for r in known)
            ),
            *FINE_PRINT,
        ],
    }


def _measured(run: Run, row: Mapping[Any, Any]) -> list[str]:
    """One of our rows in the columns of the literature; a measure's protocol is part of its name and of the note."""
    found: dict[str, str] = {}
    protocols = []
    for name in run.measures:
        kind, _, protocol = name.partition(":")
        if kind in {"is", "fvd"} and kind not in found and row[name] is not None:
            found[kind] = cell(run, row, name)
            protocols += [f"{name}, n = {row[f'{name}_n']}"] if protocol else [f"{kind} n = {row[f'{name}_n']}"]
    values = {**run.manifest["fixed"], **{axis: row[axis] for axis in (run.group, *run.axes)}}
    said = {
        "method": f"{run.name(row)} (measured here)",
        **found,
        **{name: str(values[key]) for name, key in SETTINGS.items() if key in values},
        "confidence": "measured",
        "source": f"revision {run.manifest['revision'][:8]}",
        "note": "; ".join(protocols),
    }  # fmt: skip
    return [said.get(name, "") for name in COLUMNS]
