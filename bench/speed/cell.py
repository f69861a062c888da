"""One cell of the suite `speed`: the cell of the reference measures the whole ladder; the others read their variant.

Times are comparable only if they were measured in turns in one process (DECISIONS 121), so each ladder has one process.
A variant that failed there fails in its own cell, with its own reason.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.harness.job import Job
from bench.results.records import CellResults, InvalidError, Number, canonical, write_atomic
from bench.speed.models import MODELS
from bench.speed.round_robin import Rounds, VariantResult, time_variants
from bench.speed.variants import REFERENCE, VARIANTS, cannot

LADDER = "ladder.json"  # the cell of the reference writes it for the others


def run(job: Job) -> CellResults:
    """Measure a ladder, or read one variant from a measured ladder.

    Raises:
        InvalidError: the variant's output or its speed cannot be believed.
        MemoryError: the variant had too little memory.
        RuntimeError: the variant failed.
    """
    values = job.values
    if values["rung"] != REFERENCE:
        if job.reference is None:
            raise ValueError("a variant is timed with its whole ladder, and this job names none")
        return _believed(load(job.reference / LADDER)[str(values["rung"])])
    device = str(values["device"])
    compiled = bool(values["compiled"])
    names = [name for name, variant in VARIANTS.items() if cannot(variant, device, compiled=compiled) is None]
    rounds = Rounds(int(values["rounds"]), float(values["seconds"]))
    ladder = job.folder / LADDER  # written after every round, so that a kill loses one

    def keep(results: dict[str, VariantResult]) -> None:
        save(ladder, results)

    results = time_variants(MODELS[str(values["model"])], device, names, rounds, seed=int(values["seed"]), keep=keep)
    save(ladder, results)
    return _believed(results[REFERENCE])


def save(path: Path, results: dict[str, VariantResult]) -> None:
    """Write the results of a ladder: name of a variant -> result."""
    write_atomic(path, canonical({name: asdict(result) for name, result in results.items()}))


def load(path: Path) -> dict[str, VariantResult]:
    """Read the results of a ladder."""
    content: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return {name: _result(each) for name, each in content.items()}


def _result(each: dict[str, Any]) -> VariantResult:
    numbers = {name: Number(**number) for name, number in each["numbers"].items()}
    samples = {name: tuple(values) for name, values in each["samples"].items()}
    return VariantResult(**{**each, "numbers": numbers, "samples": samples})


def _believed(result: VariantResult) -> CellResults:
    if result.status == "invalid":
        raise InvalidError(result.reason)
    if result.status == "oom":
        raise MemoryError(result.reason)
    if result.status == "failed":
        raise RuntimeError(result.reason)
    return CellResults(result.numbers, result.samples, result.absent, result.facts)
