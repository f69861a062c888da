"""Several runs of one suite as one run, such as parts of a long sweep that different machines made."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from bench.results.records import Record, short_revision
from reports.run_table import Run

SAME = ("suite", "workload", "group", "apart")  # entries of a plan in which the runs agree, next to all fixed settings
BASIS = ("machine", "software", "source")  # with any of them different, times and memory do not compare
Offer: TypeAlias = tuple[Run, Mapping[str, Any]]  # a run and the cell in its plan


def pool(runs: Sequence[Run]) -> Run:
    """One run with the cells of all: each from the first run that has its numbers, the run of the largest plan first.

    An axis that has one value in all runs becomes a fixed setting. Measures are those that all runs have in common,
    without times and memory if machine, software or source differ.

    Raises:
        ValueError: the runs are not of one suite, or their settings or weights differ.
    """
    if len(runs) == 1:
        return runs[0]
    first, *others = runs = sorted(runs, key=lambda run: -len(run.manifest["cells"]))
    for other in others:
        _check_alike(first, other)
    values = {axis: list(dict.fromkeys(value for run in runs for value in run.manifest["axes"].get(axis, ())))
              for axis in first.manifest["axes"]}  # fmt: skip
    axes = {axis: several for axis, several in values.items() if len(several) > 1 or axis == first.group}
    constant = {axis: several[0] for axis, several in values.items() if axis not in axes}
    offers: dict[tuple[Any, ...], list[Offer]] = {}
    for run in runs:
        for cell in run.manifest["cells"]:
            key = (cell["reference"], *(cell["values"][axis] for axis in axes))
            offers.setdefault(key, []).append((run, cell))
    chosen = [max(several, key=_progress) for several in offers.values()]
    comparable = all(len({run.manifest["basis"].get(name) for run in runs}) == 1 for name in BASIS)
    manifest = {
        **first.manifest,
        "axes": axes,
        "fixed": {**first.manifest["fixed"], **constant},
        "measures": {
            name: about
            for name, about in first.measures.items()
            if all(name in run.measures for run in runs) and (comparable or about["table"] != "cost")
        },
        "machine": {**first.manifest["machine"], "cpu": ", ".join(dict.fromkeys(map(_cpu, runs)))},
        "revision": first.manifest["revision"] if comparable else "several",
        "runs": [f"{run.folder}: {short_revision(run.manifest['revision'])} on {_cpu(run)}" for run in runs],
        "cells": [cell for _, cell in chosen],
    }
    records = {cell["id"]: run.records[cell["id"]] for run, cell in chosen if cell["id"] in run.records}
    if not comparable:
        records = {key: _untimed(record) for key, record in records.items()}
    folders = {cell["id"]: run.folder for run, cell in chosen}
    return replace(first, manifest=manifest, records=records, folders=folders, others=0, journal=())


def _check_alike(first: Run, other: Run) -> None:
    for name in (*SAME, *sorted({*first.manifest["fixed"], *other.manifest["fixed"]})):
        if (there := _setting(first, name)) != (here := _setting(other, name)):
            raise ValueError(
                f"{other.folder}: runs of one table agree in {name}: got {here}, and {there} in {first.folder}"
            )
    if first.manifest["basis"]["weights"] != other.manifest["basis"]["weights"]:
        raise ValueError(f"{other.folder}: runs of one table use the same weights: those of {first.folder} differ")


def _setting(run: Run, name: str) -> Any:
    """An entry of the plan, or what is set for all cells, even if as an axis of one value."""
    axis = run.manifest["axes"].get(name, ())
    return axis[0] if len(axis) == 1 else run.manifest["fixed"].get(name, run.manifest.get(name, "several"))


def _progress(offer: Offer) -> int:
    """0 without a record of the cell, 1 with one that is not ok, 2 with its numbers."""
    run, cell = offer
    record = run.records.get(cell["id"])
    return 0 if record is None else 1 + (record.attempt.status == "ok")


def _cpu(run: Run) -> str:
    return str(run.manifest["machine"]["cpu"])


def _untimed(record: Record) -> Record:
    """The record without the seconds of its calls."""
    kept = {name: values for name, values in record.samples.items() if not name.endswith("_seconds")}
    return replace(record, samples=kept)
