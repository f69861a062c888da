"""One cell of the suite `speed`: the reference's cell measures the whole ladder, the others take their rung from it.

Only what was timed in one process in turns compares (DECISIONS 121), so there is one process a ladder. A rung that
failed there fails in its own cell, with its own reason.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.record import Number, canonical, write_atomic
from bench.speed.ladder import Result, Rounds, climb
from bench.speed.models import MODELS
from bench.speed.rungs import REFERENCE, RUNGS, cannot
from bench.worker import InvalidError, Job, Measured

LADDER = "ladder.json"  # what the reference's cell leaves for the others


def run(job: Job) -> Measured:
    """Measure a ladder, or read a rung of one.

    Raises:
        InvalidError: the rung's output or its speed cannot be believed.
        MemoryError: the rung had too little memory.
        RuntimeError: the rung failed.
    """
    values = job.values
    if values["rung"] != REFERENCE:
        if job.reference is None:
            raise ValueError("a rung is timed with its whole ladder, and this job names none")
        return _believed(load(job.reference / LADDER)[str(values["rung"])])
    device = str(values["device"])
    compiled = bool(values["compiled"])
    names = [name for name, rung in RUNGS.items() if cannot(rung, device, compiled=compiled) is None]
    rounds = Rounds(int(values["rounds"]), float(values["seconds"]))
    ladder = job.folder / LADDER  # written after every round, so that a kill loses one

    def keep(found: dict[str, Result]) -> None:
        save(ladder, found)

    results = climb(MODELS[str(values["model"])], device, names, rounds, seed=int(values["seed"]), keep=keep)
    save(ladder, results)
    return _believed(results[REFERENCE])


def save(path: Path, results: dict[str, Result]) -> None:
    """Write the results of a ladder."""
    write_atomic(path, canonical({name: asdict(result) for name, result in results.items()}))


def load(path: Path) -> dict[str, Result]:
    """Read them."""
    content: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return {name: _result(each) for name, each in content.items()}


def _result(each: dict[str, Any]) -> Result:
    numbers = {name: Number(**number) for name, number in each["numbers"].items()}
    samples = {name: tuple(values) for name, values in each["samples"].items()}
    return Result(**{**each, "numbers": numbers, "samples": samples})


def _believed(result: Result) -> Measured:
    if result.status == "invalid":
        raise InvalidError(result.reason)
    if result.status == "oom":
        raise MemoryError(result.reason)
    if result.status == "failed":
        raise RuntimeError(result.reason)
    return Measured(result.numbers, result.samples, result.absent, result.facts)
