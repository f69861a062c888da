"""`python -m bench show`: the tables of a run, or all of one cell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import tyro

from bench.harness.progress import say
from bench.results.records import Journal, Record, read


def show(run_folder: Annotated[Path, tyro.conf.Positional], cell: str | None = None, tables: bool = False) -> int:
    """Print the answer and the headlines of a run, or every record of one cell.

    Args:
        run_folder: For example runs/pocket.
        cell: Id of a cell, or its first digits: print all its records.
        tables: Print every table instead of the headlines, with sparklines.
    """
    if not (run_folder / "records.jsonl").exists():
        raise ValueError(f"{run_folder} is no run: it has no records.jsonl")
    if cell is None:
        return print_report(run_folder, "--view", "rich", *(["--tables"] if tables else []))
    journal = read(run_folder / "records.jsonl")
    if journal.torn:
        say(f"the last line of {run_folder / 'records.jsonl'} is unfinished; the next run there repairs it")
    print(_all_of(cell, journal))
    return 0


def _all_of(cell: str, journal: Journal) -> str:
    records: list[Record] = [record for record in journal.records if record.cell.id.startswith(cell)]
    if not records:
        raise ValueError(f"no record of a cell {cell!r}: `python -m bench run --dry-run` prints the ids")
    return "\n".join(json.dumps(json.loads(record.to_json()), indent=1, ensure_ascii=False) for record in records)


def print_report(folder: Path, *options: str) -> int:
    """Print the report of a run, with options of `python -m reports`, in a process without torch; its exit code."""
    return subprocess.run([sys.executable, "-m", "reports", str(folder), *options], check=False).returncode
