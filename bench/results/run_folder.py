"""A run's folder as it is on the disk: its plan and the last record of every planned cell. The only loader of both.

Only the standard library is needed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.results.manifest import read_manifest
from bench.results.records import Journal, Record, read


class RunFolder(NamedTuple):
    """What a run's folder holds.

    Args:
        manifest: the plan of the last command (`bench.harness.runner`).
        records: cell id -> last record, of the planned cells that have one, in the order of the plan.
        journal: every record of the file, in order, of this plan or another.
    """

    folder: Path
    manifest: Mapping[str, Any]
    records: Mapping[str, Record]
    journal: Journal


def load_run(folder: Path) -> RunFolder:
    """Read a run.

    Raises:
        ValueError: the folder holds no run, or its manifest or a record is damaged; the message names the file.
    """
    manifest = read_manifest(folder)
    journal = read(folder / "records.jsonl")
    latest = journal.latest()
    planned = [cell["id"] for cell in manifest["cells"]]
    return RunFolder(folder, manifest, {key: latest[key] for key in planned if key in latest}, journal)
