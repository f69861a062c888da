"""Where and with what a run measures, and whether another machine may measure cells of the same run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.hardware.machine import ROOT, files_hash, machine, revision, software, source_hash
from bench.results.records import Value, digest

MEMORY_MAY_DIFFER = 0.01  # of machines of one kind: the kernel keeps a little for itself, not everywhere the same

DIGESTS = ("machine", "software")  # of the basis, whose parts are compared one by one


class Identity(NamedTuple):
    """Where and with what a run measures; `basis` is the part that goes into every cell's id."""

    machine: dict[str, Value]
    software: dict[str, str]
    revision: str
    basis: dict[str, str]


def identify(files: Sequence[str] = (), root: Path = ROOT) -> Identity:
    """Machine, software, revision and hashes, as they are now.

    Args:
        files: files and folders of weights that the results depend on.
        root: of the project.

    Raises:
        ValueError: weights are missing or broken.
    """
    on, using = machine(), software()
    basis = {
        "weights": files_hash(files, root),
        "source": source_hash(root),
        "machine": digest(on),
        "software": digest(using),
    }
    return Identity(on, using, str(revision(root)), basis)


def check_alike(here: Identity, run: Identity) -> None:
    """Refuse to measure cells of a run on a machine of another kind than the one that planned them.

    Raises:
        ValueError: hardware, software, source or weights differ; the message names what.
    """
    ours, theirs = ({**each.machine, **each.software, **each.basis} for each in (run, here))
    differing = [
        f"{name} {theirs.get(name)!r} and not {value!r}"
        for name, value in ours.items()
        if name not in DIGESTS and not _alike(name, theirs.get(name), value)
    ]
    if differing:
        raise ValueError(
            f"the cells of a run are measured on machines of one kind: {os.uname().nodename} has "
            f"{', '.join(differing)}; use nodes like the one of this command, and another --out for each kind"
        )


def _alike(name: str, one: Value | None, other: Value) -> bool:
    if name == "memory_bytes" and isinstance(one, int) and isinstance(other, int):
        return abs(one - other) <= MEMORY_MAY_DIFFER * other
    return one == other
