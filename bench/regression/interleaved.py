"""Measure base and head in one run, alternately; the results are findings (`bench.results.verdicts`).

    for each of several pairs of fresh processes:     imports, weights and warm-up once each
        for each cell:                                blocks of A B B A, or B A A B, at random
            one process works while the other waits

Drift and other load on the machine affect both processes alike and cancel in the ratio. An offset that a process keeps
for life is averaged over the pairs of processes. Everything that has no noise is read once, in the first pair of
processes that gets so far.
"""

import json
import math
import os
import random
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bench.hardware.nvml import SAME_CLOCK
from bench.harness.suite_spec import Values
from bench.regression.worktrees import Side
from bench.results.verdicts import ALPHA, Finding, Pair, Verdict, confirm, count, equal_output, hold, same_recipe, speed

SERVER = Path(__file__).with_name("revision_server.py")
# Less is better in all of them. The share that a number may grow by without being called a regression.
COUNTS: dict[str, tuple[float, str]] = {
    "flops": (0.001, "FLOP"),
    "operators": (0.01, ""),
    "kernels": (0.01, ""),
    "graph_breaks": (0.0, ""),
    "peak_bytes": (0.01, "bytes"),
    "held_bytes": (0.0, "bytes"),
    "allocated_peak": (0.01, "bytes"),
}
# Largest error that rounding alone may leave in latents, as a share of their largest value.
ROUNDING = {"fp32": 1e-4, "bf16-weights": 1e-4, "bf16": 3e-2, "fp16": 4e-3}


@dataclass(frozen=True)
class Settings:
    """How a gate measures.

    Raises:
        ValueError: too few pairs for a verdict.
    """

    processes: int = 5  # pairs of fresh processes
    pairs: int = 6  # timed pairs of each cell in each pair of processes; even: blocks of A B B A
    threads: int | None = 1  # of either process; None: as many as PyTorch takes
    margin: float = 0.03  # a slow-down up to this share is allowed
    alpha: float = ALPHA
    may_change: bool = False  # another output is intended, and judged by its quality
    timeout: float | int = 300  # seconds a process may take for one answer
    max_minutes: float | int | None = None  # begin no further pair of processes after this
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs < 2 or self.pairs % 2 or self.processes < 1:
            raise ValueError(f"blocks of A B B A have an even number of pairs, at least 2; got {self.pairs}")
        if self.processes * self.pairs < 6:
            raise ValueError(
                f"a verdict needs 6 pairs; got {self.processes} x {self.pairs}: raise --processes or --pairs"
            )


@dataclass
class MeasuredCell:
    """A cell while it is measured: its label, its settings, and the results so far."""

    label: str
    values: Values
    pairs: list[Pair] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)  # process -> set-up times
    uncounted: dict[str, str] = field(default_factory=dict)  # counts that neither side could give -> why
    compared: bool = False  # recipe, counts and output, which have no noise
    broken: bool = False  # nothing more can be measured


class RevisionError(Exception):
    """A process could not fulfil a request; the message says which process and why."""


class RevisionProcess:
    """The process of one side, a `RevisionServer`, as its parent sees it.

    Requests may be sent ahead of their answers, so that both processes can get ready at the same time.
    """

    def __init__(self, side: Side, log: Path, settings: Settings) -> None:
        self.side, self._timeout = side, settings.timeout
        environ = {**os.environ, "PYTHONPATH": str(side.tree), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": ""}
        if settings.threads is not None:
            environ |= {"OMP_NUM_THREADS": str(settings.threads), "MKL_NUM_THREADS": str(settings.threads)}
        with log.open("a") as file:
            self._process = subprocess.Popen(
                [str(side.python), str(SERVER)],
                cwd=side.tree, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
            )  # fmt: skip
        self.log = log

    def __enter__(self) -> "RevisionProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, do: str, **request: object) -> None:
        """Send a request: the name of a method of `RevisionServer` and its arguments.

        Raises:
            RevisionError: the process has ended.
        """
        if self._process.stdin is None or self._process.poll() is not None:
            raise RevisionError(self._how_it_ended())
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RevisionError(self._how_it_ended()) from None

    def answer(self) -> dict[str, Any]:
        """The answer to the request sent first.

        Raises:
            RevisionError: the process failed, died, or took too long.
        """
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], self._timeout)
        if not ready:
            self._process.kill()
            raise RevisionError(f"the {self.side.name} gave no answer within {self._timeout:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise RevisionError(self._how_it_ended())
        content: dict[str, Any] = json.loads(line)
        if "failed" in content:
            raise RevisionError(f"the {self.side.name} failed: {content['failed']}")
        return content

    def ask(self, do: str, **request: object) -> dict[str, Any]:
        """Send a request and wait for its answer; raises as `tell` and `answer` do."""
        self.tell(do, **request)
        return self.answer()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def _how_it_ended(self) -> str:
        self._process.wait(10)
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        last = f"; last line of {self.log.name}: {lines[-1]}" if lines else ""
        return f"the process of the {self.side.name} ended with {self._process.returncode}{last}"


def measure_interleaved(
    cells: Sequence[tuple[str, Values]],
    base: Side,
    head: Side,
    settings: Settings,
    folder: Path,
    say: Callable[[str], None] = print,
) -> tuple[list[Finding], dict[str, Any]]:
    """Compare two revisions in all cells.

    Returns:
        the findings, and the other observations: software of either side, set-up times, counts that neither side could
            give, raw pairs.
    """
    began = time.monotonic()
    folder = folder.absolute()  # the processes work in their own trees
    first = [MeasuredCell(label, values) for label, values in cells]
    software = _session(first, base, head, settings, folder, say, began, facts=True)
    speeds = _speeds(first, settings)
    raw = {cell.label: [list(pair) for pair in cell.pairs] for cell in first}
    flagged = [cell for cell in first if speeds.get(cell.label) and speeds[cell.label].verdict == "FAIL"]
    if flagged:
        say(f"{len(flagged)} cells look slower: once more, in fresh processes")
        second = [MeasuredCell(cell.label, cell.values) for cell in flagged]
        again = replace(settings, seed=settings.seed + 1, max_minutes=None)
        _session(second, base, head, again, folder, say, time.monotonic(), facts=False)
        for cell in second:
            finding = speed(cell.label, cell.pairs, margin=settings.margin, alpha=settings.alpha)
            speeds[cell.label] = confirm(speeds[cell.label], finding)
            raw[f"{cell.label} (again)"] = [list(pair) for pair in cell.pairs]
    findings = []
    for cell in first:
        findings += [*cell.findings, *([speeds[cell.label]] if cell.label in speeds else [])]
    notes = {cell.label: cell.notes for cell in first}
    missing = {cell.label: cell.uncounted for cell in first if cell.uncounted}
    return findings, {"software": software, "set_up": notes, "uncounted": missing, "pairs": raw}


def _speeds(cells: Sequence[MeasuredCell], settings: Settings) -> dict[str, Finding]:
    timed = [cell for cell in cells if not cell.broken]
    findings = [speed(cell.label, cell.pairs, margin=settings.margin, alpha=settings.alpha) for cell in timed]
    return dict(zip((cell.label for cell in timed), hold(findings, settings.alpha), strict=True))


def _session(
    cells: Sequence[MeasuredCell],
    base: Side,
    head: Side,
    settings: Settings,
    folder: Path,
    say: Callable[[str], None],
    began: float,
    *,
    facts: bool,
) -> dict[str, Any]:
    """Fill the cells with pairs; with `facts`, also with findings on what has no noise. Returns the software."""
    lot = random.Random(settings.seed)
    software: dict[str, Any] = {}
    for group in range(settings.processes):
        if settings.max_minutes is not None and group and time.monotonic() - began > settings.max_minutes * 60:
            say(f"time is up after {group} of {settings.processes} pairs of processes")
            break
        with ExitStack() as stack:
            servers = [
                stack.enter_context(RevisionProcess(side, folder / f"{side.name}.log", settings))
                for side in (base, head)
            ]
            try:
                software = _both(servers, "hello", threads=settings.threads)
            except RevisionError as error:
                for cell in cells:
                    _break(cell, str(error))
                return software
            for cell in lot.sample(cells, len(cells)):
                if cell.broken:
                    continue
                try:
                    cell.notes = _both(servers, "open", values=dict(cell.values))
                    if facts and not cell.compared:
                        _compare_facts(cell, servers, settings, folder, say)
                        cell.compared = True
                    if not cell.broken:
                        cell.pairs += _pairs(servers, settings.pairs, group, lot)
                except RevisionError as error:
                    _break(cell, str(error))
                    if "gave no answer" in str(error) or "ended with" in str(error):
                        break  # this pair of processes is lost; the next begins afresh
        say(f"pair of processes {group + 1} of {settings.processes}: {time.monotonic() - began:.0f} s")
    return software


def _both(servers: Sequence[RevisionProcess], do: str, **request: object) -> dict[str, Any]:
    """Send both processes the same request at the same time; side -> answer. For requests that are not timed."""
    for server in servers:
        server.tell(do, **request)
    return _answers(servers)


def _answers(servers: Sequence[RevisionProcess]) -> dict[str, Any]:
    """Side -> answer. Both are read even if one failed: an unread answer would be taken for the next one."""
    answers, errors = {}, []
    for server in servers:
        try:
            answers[server.side.name] = server.answer()
        except RevisionError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return answers


def _pairs(servers: Sequence[RevisionProcess], pairs: int, group: int, lot: random.Random) -> list[Pair]:
    measured = []
    for _ in range(pairs // 2):
        block = list(servers) if lot.random() < 0.5 else list(servers[::-1])
        for order in (block, block[::-1]):
            answers = {server.side.name: server.ask("run", pids=[each.pid for each in servers]) for server in order}
            base, head = answers["base"], answers["head"]
            spoiled = base["spoiled"] or head["spoiled"] or _clocks_apart(base["looks"], head["looks"])
            measured.append(Pair(base["seconds"], head["seconds"], group, spoiled))
    return measured


def _clocks_apart(one: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]]) -> str:
    """Why two samples do not compare: different SM clocks. A look is a `bench.hardware.nvml.Snapshot`."""
    clocks = [[look[1] for look in looks if look[1]] for looks in (one, other)]
    if not all(clocks):
        return ""
    a, b = (sum(each) / len(each) for each in clocks)
    return f"SM clocks {a:.0f} and {b:.0f} MHz" if max(a, b) > (1 + SAME_CLOCK) * min(a, b) else ""


def _compare_facts(
    cell: MeasuredCell, servers: Sequence[RevisionProcess], settings: Settings, folder: Path, say: Callable[[str], None]
) -> None:
    """Add the findings on recipe, counts and output to the cell, and on quality if the outputs differ."""
    places = {server.side.name: folder / "outputs" / server.side.name for server in servers}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    for server in servers:
        server.tell("facts", folder=str(places[server.side.name]))
    answers = _answers(servers)
    base, head = answers["base"], answers["head"]
    recipe = same_recipe(cell.label, base["recipe"], head["recipe"])
    cell.findings.append(recipe)
    if recipe.verdict != "PASS":
        cell.broken = True
        return
    cell.findings += counted(cell.label, base["counts"], head["counts"])
    cell.uncounted = uncounted(base["counts"], head["counts"])
    for name, why in cell.uncounted.items():
        say(f"{cell.label}: {name} could not be counted on either side, and is not judged: {why}")
    error = _error(*(np.load(places[name] / "latents.npy") for name in ("base", "head")))
    if base["sha256"] != head["sha256"] and error == 0:
        error = _error(*(np.load(places[name] / "videos.npy").astype(np.float32) for name in ("base", "head")))
    tolerance = ROUNDING[str(cell.values["precision"])]
    cell.findings.append(equal_output(cell.label, error, tolerance=tolerance, may_change=settings.may_change))
    if error is not None and not error <= tolerance:
        say(f"{cell.label}: another output, so {cell.values['videos']} videos of each side are compared")
        for server in servers:
            server.tell("videos", folder=str(places[server.side.name]))
        _answers(servers)
        from bench.videos.paired_quality import compare_videos  # noqa: PLC0415  (loads torch)

        videos = [np.load(places[name] / "all.npy") for name in ("base", "head")]
        cell.findings += compare_videos(cell.label, *videos, window=int(cell.values["window"]))


def counted(label: str, base: dict[str, Any], head: dict[str, Any]) -> list[Finding]:
    """A finding for each count that either side has. A text in place of a number says why there is none."""
    findings = []
    for name, (tolerance, unit) in COUNTS.items():
        sides = [counts.get(name) for counts in (base, head)]
        texts = [side for side in sides if isinstance(side, str)]
        if all(side is None for side in sides) or len(texts) == 2:
            continue  # neither side has it: nothing went missing, see `uncounted`
        numbers = [None if isinstance(side, str) else side for side in sides]
        finding = count(label, name, *numbers, tolerance=tolerance, unit=unit)
        findings.append(replace(finding, reason=f"{finding.reason} ({texts[0]})") if texts else finding)
    return findings


def uncounted(base: dict[str, Any], head: dict[str, Any]) -> dict[str, str]:
    """Counts for which both sides have a text in place of a number, and the head's text."""
    both = [name for name in COUNTS if isinstance(base.get(name), str) and isinstance(head.get(name), str)]
    return {name: head[name] for name in both}


def _error(base: np.ndarray, head: np.ndarray) -> float | None:
    """Largest difference as a share of the base's largest value; None for different shapes, NaN if not finite."""
    if base.shape != head.shape:
        return None
    if not (np.isfinite(base).all() and np.isfinite(head).all()):
        return math.nan
    scale = float(np.abs(base).max()) or 1.0
    return float(np.abs(base - head).max()) / scale


def _break(cell: MeasuredCell, why: str) -> None:
    """Add a finding that says why nothing more can be measured in this cell."""
    if not cell.broken:
        verdict: Verdict = "CALIBRATION_NEEDED" if "the base failed: KeyError" in why else "INVALID"
        cell.findings.append(Finding(cell.label, "run", verdict, why))  # a KeyError: the base has no such method
        cell.broken = True
