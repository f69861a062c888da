"""The plan in a run's folder, checked as it is read: a file that was edited by hand is one line and no traceback.

Only the standard library is needed.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.results.records import SCHEMA, is_number, is_value, refuse_constant

ID = re.compile(r"[0-9a-f]{12}")
TEXTS = ("suite", "hash", "workload", "question", "revision", "written", "group")
WORDS = ("headlines", "apart", "command", "conclusions")  # lists of texts that a manifest may lack
TABLES = ("fixed", "machine")  # of texts and numbers
NAMES = ("software", "basis")  # tables of texts
NEEDED = {"machine": ("system", "cpu", "cores", "memory_bytes", "gpu", "driver"), "basis": ("weights",)}
MEASURE: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("title", "unit", "table", "definition"), str),
    "better": (str, type(None)),
}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run's folder.

    Raises:
        ValueError: there is none, or it is not what `bench.harness.runner` writes; the message names the file and the
        field.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no run: it has no manifest.json; `python -m bench run` makes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
        fault = fault_of(content)
    except (ValueError, RecursionError) as error:
        fault = str(error) or "nested too deeply"
    if fault:
        raise ValueError(f"{path} is no manifest of a run ({fault}): move the folder away to start anew")
    manifest: dict[str, Any] = content
    return manifest


def fault_of(content: object) -> str:
    """The first thing that is wrong with a manifest; "" if nothing is."""
    if not isinstance(content, dict):
        return "it is no object"
    schema = content.get("schema", SCHEMA)
    faults = (
        *([] if schema == SCHEMA else [f"schema {schema!r:.40}; this version reads {SCHEMA}"]),
        *(f"{name} is no text" for name in TEXTS if not isinstance(content.get(name), str)),
        *(f"{name} is no list of texts" for name in WORDS if not _are_texts(content.get(name, []), list)),
        *(f"{name} is no table of texts and numbers" for name in TABLES if not _is_mapping(content.get(name))),
        *(f"{name} is no table of texts" for name in NAMES if not _are_texts(content.get(name), dict)),
        *(f"{name} is not as it was written" for name in ("axes", "cells") if not content.get(name)),
        *(["measures is no table"] if not isinstance(content.get("measures"), dict) else []),
    )
    return next(iter(faults), "") or next(_faults_inside(content), "")


def _faults_inside(manifest: Mapping[str, Any]) -> Iterator[str]:
    axes, measures, cells = manifest["axes"], manifest["measures"], manifest["cells"]
    inexact = manifest.get("approximations") or {}
    if not (isinstance(axes, dict) and isinstance(cells, list) and isinstance(inexact, dict)):
        yield "axes, approximations or cells are not as they were written"
        return
    for axis, values in [*axes.items(), *inexact.items()]:
        if not values or not isinstance(values, list) or not all(map(is_value, values)):
            yield f"the axis {axis!r} is no list of values"
    for table, names in NEEDED.items():
        yield from (f"{table} lacks {name}" for name in names if name not in manifest[table])
    if not is_number(manifest["machine"].get("memory_bytes")):
        yield "memory_bytes is no number"
    for name, measure in measures.items():
        if not isinstance(measure, dict) or not all(
            key in measure and isinstance(measure[key], kind) for key, kind in MEASURE.items()
        ):
            yield f"the measure {name!r} lacks one of {', '.join(MEASURE)}"
    for position, cell in enumerate(cells):
        key = cell.get("id") if isinstance(cell, dict) else None
        if not isinstance(key, str) or not ID.fullmatch(key):
            yield f"the id of cell {position} is not twelve hexadecimal digits"
        elif not isinstance(cell.get("reference"), bool) or not _is_mapping(cell.get("values")):
            yield f"cell {key} lacks its values, or whether it is a reference"
        elif missing := [name for name in (*axes, manifest["group"]) if name not in cell["values"]]:
            yield f"cell {key} has no {missing[0]}"


def _are_texts(content: object, kind: type) -> bool:
    if not isinstance(content, kind):
        return False
    values: Iterable[object] = content.values() if isinstance(content, dict) else content  # type: ignore[assignment]
    return all(isinstance(value, str) for value in values)


def _is_mapping(content: object) -> bool:
    """A table whose values are texts or numbers."""
    return isinstance(content, Mapping) and all(map(is_value, content.values()))
