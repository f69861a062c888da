"""The history of a gate: an append-only journal, and the chain of revisions that its ratios compose to.

Ratios are measured between the two sides of one gate and add up, as logarithms, along base -> head -> next head;
seconds of two gates are never compared. Gates of one machine, software and recipe whose revisions join make a segment.
A gate whose two sides differ in software joins nothing: what it measured is the software's, or both's, and no
revision's.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtrit

from bench.results.records import CHANGES, append_line, canonical, digest, refuse_constant
from bench.results.verdicts import Finding, Verdict

SCHEMA = 1
FOUND = {"tree", "threads"}  # what a side says of itself that is no software
VARIES = {"memory_bytes"}  # what differs between equal machines


class Entry(NamedTuple):
    """One gate: its sides, what it ran on, and its findings.

    Args:
        machine: digest of the machine.
        software: of base and head.
        recipes: cell -> digest of its settings.
        log_ratios: cell -> [pair of processes, ln(head / base)] of every pair that counts.
    """

    base: str
    head: str
    machine: str
    software: tuple[Mapping[str, str], Mapping[str, str]]
    recipes: Mapping[str, str]
    findings: tuple[Finding, ...]
    log_ratios: Mapping[str, Sequence[Sequence[float]]]


class Edge(NamedTuple):
    """How a measure changed from base to head: a logarithm of a ratio for speeds, above 0 where the head is worse."""

    base: str
    head: str
    worse: float
    error: float
    margin: float
    verdict: Verdict


class Segment(NamedTuple):
    """A chain of revisions that are comparable in one measure of one cell.

    Args:
        revisions: in the order of the chain.
        levels: how much worse each is than the first.
        covariance: of the levels.
        verdicts: the last gate's on each revision; "" for the first.
    """

    cell: str
    measure: str
    revisions: tuple[str, ...]
    levels: Float[np.ndarray, " N"]
    covariance: Float[np.ndarray, "N N"]
    margin: float
    verdicts: tuple[str, ...]
    software: Mapping[str, str]
    machine: str

    def rise(self, first: int, last: int) -> tuple[float, float]:
        """How much worse the last revision is than the first, and its standard error."""
        v = self.covariance
        variance = v[first, first] + v[last, last] - 2 * v[first, last]
        return float(self.levels[last] - self.levels[first]), math.sqrt(max(float(variance), 0.0))


class Upgrade(NamedTuple):
    """A gate whose sides differ in software, and what it measured."""

    cell: str
    measure: str
    edge: Edge
    software: str


def append(path: Path, verdict: Mapping[str, Any], recipes: Mapping[str, str]) -> None:
    """Add the content of a verdict.json to a journal.

    A last line that a killed writer left unfinished is ended and stays.
    """
    kept = ("verdict", "suite", "base", "head", "findings", "machine", "settings", "software", "uncounted", "written")
    ratios = {
        cell: [[pair[2], round(math.log(pair[1] / pair[0]), 6)] for pair in pairs if not pair[3]]
        for cell, pairs in verdict.get("pairs", {}).items()
    }
    content = {name: verdict[name] for name in kept if name in verdict}
    text = canonical({"schema": SCHEMA, **content, "recipes": dict(recipes), "log_ratios": ratios})
    torn = path.is_file() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    append_line(path, f"\n{text}" if torn else text)


def load(path: Path) -> tuple[list[Entry], int]:
    """The entries of a journal in order, each once, and how many lines were never finished.

    Raises:
        ValueError: there is no such file, or a finished line is no entry; the message names the line.
    """
    if not path.is_file():
        raise ValueError(
            f"a history is read from a journal; got {path}, which is no file: `python -m bench gate` adds to one"
        )
    entries, torn, seen = [], 0, set[bytes]()
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip() or line in seen:
            continue
        seen.add(line)
        try:
            content = json.loads(line, parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            torn += 1
            continue
        try:
            entries.append(_entry(content))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path}, line {number}, is no entry of a history ({error!r}): remove the line") from None
    return entries, torn


def _entry(content: Mapping[str, Any]) -> Entry:
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']}; this version reads {SCHEMA}")
    sides = [
        {name: str(value) for name, value in content["software"].get(side, {}).items() if name not in FOUND}
        for side in ("base", "head")
    ]
    return Entry(
        str(content["base"]), str(content["head"]),
        digest({name: value for name, value in content["machine"].items() if name not in VARIES}),
        (sides[0], sides[1]), {cell: str(recipe) for cell, recipe in content["recipes"].items()},
        tuple(Finding.from_dict(finding) for finding in content["findings"]),
        {cell: [(int(group), float(log)) for group, log in pairs] for cell, pairs in content["log_ratios"].items()},
    )  # fmt: skip


def segments(entries: Sequence[Entry]) -> tuple[list[Segment], list[Upgrade]]:
    """The chains of all measures with an interval, and the changes of software between two sides."""
    measures = {(f.cell, f.measure) for entry in entries for f in entry.findings if f.error is not None}
    chains: dict[tuple[str, ...], list[Edge]] = {}
    upgrades, software = [], {}
    for entry in entries:
        changed = CHANGES in entry.head or CHANGES in entry.base or entry.base == entry.head
        for cell, measure in sorted(measures):
            edge = _edge(entry, cell, measure)
            if edge is None or changed:
                continue
            if entry.software[0] != entry.software[1]:
                upgrades.append(Upgrade(cell, measure, edge, _difference(*entry.software)))
                continue
            software[digest(dict(entry.software[1]))] = entry.software[1]
            key = (cell, measure, entry.machine, digest(dict(entry.software[1])), entry.recipes.get(cell, ""))
            chains.setdefault(key, []).append(edge)
    joined = [
        _segment(cell, measure, part, software[using], machine)
        for (cell, measure, machine, using, _), edges in chains.items()
        for part in _components(edges)
    ]
    return joined, upgrades


def _difference(base: Mapping[str, str], head: Mapping[str, str]) -> str:
    names = [name for name in sorted({*base, *head}) if base.get(name) != head.get(name)]
    return ", ".join(f"{name} {base.get(name, 'none')} -> {head.get(name, 'none')}" for name in names)


def _edge(entry: Entry, cell: str, measure: str) -> Edge | None:
    """What this gate measured of it; no change at all where the output is the same, which quality needs not to see."""
    found = {finding.measure: finding for finding in entry.findings if finding.cell == cell}
    finding, output = found.get(measure), found.get("output")
    if finding is None or finding.change is None or finding.error is None or finding.margin is None:
        same = output is not None and output.head is not None and output.head <= (output.margin or 0.0)
        return Edge(entry.base, entry.head, 0.0, 0.0, 0.0, "PASS") if same and measure != "speed" else None
    if measure != "speed":
        sign = 1.0 if finding.better == "lower" else -1.0
        df = max(finding.n - 1, 1)
        return Edge(
            entry.base, entry.head, sign * finding.change, _wide(finding.error, df), finding.margin, finding.verdict
        )
    df = max(len({group for group, _ in entry.log_ratios.get(cell, ())}) - 1, 1)
    return Edge(
        entry.base, entry.head, math.log1p(finding.change), _wide(finding.error, df), math.log1p(finding.margin),
        finding.verdict,
    )  # fmt: skip


def _wide(error: float, df: int) -> float:
    """The error of a normal variable whose 95 % interval is as wide as Student's."""
    return error * float(stdtrit(df, 0.975) / ndtri(0.975))


def _components(edges: Sequence[Edge]) -> list[list[Edge]]:
    """Edges that join, in their order."""
    parts: list[list[Edge]] = []
    for edge in edges:
        joins = [part for part in parts if any({edge.base, edge.head} & {other.base, other.head} for other in part)]
        parts = [part for part in parts if part not in joins] + [[*(each for part in joins for each in part), edge]]
    return parts


def _segment(cell: str, measure: str, edges: Sequence[Edge], software: Mapping[str, str], machine: str) -> Segment:
    """Least squares over all gates of the segment: several gates of one step, and one over many steps, all count."""
    order = _order(edges)
    number = {revision: i for i, revision in enumerate(order)}
    errors = [edge.error for edge in edges if edge.error > 0] or [1e-3]
    least = max(1e-3 * min(errors), 1e-4 * max(errors))  # of equal outputs, too, whose quality is equal
    design = np.zeros((len(edges), len(order)))
    for row, edge in zip(design, edges, strict=True):
        row[number[edge.head]], row[number[edge.base]] = 1.0, -1.0
    weights = np.array([max(edge.error, least) ** -2 for edge in edges])
    normal = (design.T * weights) @ design
    covariance = np.zeros_like(normal)
    covariance[1:, 1:] = np.linalg.inv(normal[1:, 1:])
    levels = covariance @ (design.T @ (weights * [edge.worse for edge in edges]))
    verdicts = dict.fromkeys(order, "") | {edge.head: edge.verdict for edge in edges}
    margin = next((edge.margin for edge in reversed(edges) if edge.margin > 0), 0.0)
    return Segment(
        cell, measure, tuple(order), levels, covariance, margin, tuple(verdicts[name] for name in order), software,
        machine,
    )  # fmt: skip


def _order(edges: Iterable[Edge]) -> list[str]:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    seen: dict[str, None] = {}
    for edge in edges:
        sorter.add(edge.head, edge.base)
        seen |= {edge.base: None, edge.head: None}
    try:
        return list(sorter.static_order())
    except CycleError:  # a revert that was gated against what it reverts
        return list(seen)
