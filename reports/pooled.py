"""Several runs of one suite as one run, such as parts of a long sweep that different machines made."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.results.records import short_revision
from reports.run_table import Run

SAME = ("suite", "workload", "group", "apart")  # entries of a plan in which the runs agree, next to all fixed settings
BASIS = ("machine", "software", "source")  # with any of them different, times and memory do not compare


def pool(runs: Sequence[Run]) -> Run:
    """One run with the cells of all: of each cell the first record with numbers, the largest run's before others.

    Measures are those that all runs have in common, without those of cost if machine, software or source differ.

    Raises:
        ValueError: the runs are not of one suite, or their settings or weights differ.
    """
    if len(runs) == 1:
        return runs[0]
    largest = max(runs, key=lambda run: len(run.manifest["cells"]))
    for run in runs:
        for name in (*SAME, *sorted({*run.manifest["fixed"], *largest.manifest["fixed"]})):
            if (here := _setting(run, name)) != (there := _setting(largest, name)):
                raise ValueError(
                    f"{run.folder}: runs of one table agree in {name}: got {here}, and {there} in {largest.folder}"
                )
        if run.manifest["basis"].get("weights") != largest.manifest["basis"].get("weights"):
            raise ValueError(f"{run.folder}: runs of one table use the same weights: those of {largest.folder} differ")
    axes = {axis: list(dict.fromkeys(value for run in (largest, *runs) for value in run.manifest["axes"].get(axis, ())))
            for axis in largest.manifest["axes"]}  # fmt: skip
    constant = {axis: values[0] for axis, values in axes.items() if len(values) == 1 and axis != largest.group}
    axes = {axis: values for axis, values in axes.items() if axis not in constant}
    offers: dict[tuple[Any, ...], list[tuple[Run, Mapping[str, Any]]]] = {}
    for run in (largest, *(run for run in runs if run is not largest)):
        for cell in run.manifest["cells"]:
            key = (cell["reference"], *(cell["values"][axis] for axis in axes))
            offers.setdefault(key, []).append((run, cell))
    chosen = [max(several, key=_done) for several in offers.values()]
    return replace(
        largest,
        manifest={
            **largest.manifest,
            **_shared(runs, largest),
            "axes": axes,
            "fixed": {**largest.manifest["fixed"], **constant},
            "cells": [cell for _, cell in chosen],
        },
        records={cell["id"]: run.records[cell["id"]] for run, cell in chosen if cell["id"] in run.records},
        folders={cell["id"]: run.folder for run, cell in chosen},
        others=0,
        torn=any(run.torn for run in runs),
        journal=[record for run in runs for record in run.journal],
    )


def _setting(run: Run, name: str) -> Any:
    """An entry of the plan, or what is set for all cells, even if as an axis of one value."""
    axis = run.manifest["axes"].get(name, ())
    return axis[0] if len(axis) == 1 else run.manifest["fixed"].get(name, run.manifest.get(name, "several"))


def _done(offer: tuple[Run, Mapping[str, Any]]) -> int:
    """0 without a record of the cell, 1 with one that is not ok, 2 with its numbers."""
    run, cell = offer
    record = run.records.get(cell["id"])
    return 0 if record is None else 1 + (record.attempt.status == "ok")


def _shared(runs: Sequence[Run], largest: Run) -> dict[str, Any]:
    """The entries of the plan that tell where numbers come from, and the measures that still compare."""
    plans = [largest.manifest, *(run.manifest for run in runs)]
    alike = all(len({plan["basis"].get(name) for plan in plans}) == 1 for name in BASIS)
    cpus = dict.fromkeys(str(plan["machine"]["cpu"]) for plan in plans[1:])
    return {
        "measures": {
            name: about
            for name, about in largest.measures.items()
            if all(name in plan["measures"] for plan in plans) and (alike or about["table"] != "cost")
        },
        "machine": {**largest.manifest["machine"], "cpu": ", ".join(cpus)},
        "revision": largest.manifest["revision"] if alike else "several",
        "written": max(plan["written"] for plan in plans),
        "runs": [f"{run.folder}: {short_revision(run.manifest['revision'])} on {run.manifest['machine']['cpu']}"
                 for run in runs],
    }  # fmt: skip
