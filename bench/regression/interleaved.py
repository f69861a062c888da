"""Measure base and head in one run, alternately; the results are findings (`bench.results.verdicts`).

    for each of several pairs of fresh processes:     imports, weights and warm-up once each
        for each cell that is undecided:              blocks of A B B A, or B A A B, at random
            one process works while the other waits
        look at the speeds: is a cell decided?        bench/regression/speed_test.py

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
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bench.hardware.nvml import SAME_CLOCK
from bench.harness.job import QUOTED, last_line
from bench.harness.suite_spec import Values
from bench.regression.base_videos import KeptVideos, kept_videos
from bench.regression.counts import counted, uncounted
from bench.regression.speed_test import SpeedTest, look
from bench.regression.videos_needed import MOST_VIDEOS, videos_needed
from bench.regression.worktrees import Side
from bench.results.verdicts import ALPHA, Finding, Pair, Verdict, equal_output, same_recipe
from vidrd.entry import one_line

SERVER = Path(__file__).with_name("revision_server.py")
# Largest error that rounding alone may leave in latents, as a share of their largest value.
ROUNDING = {"fp32": 1e-4, "bf16-weights": 1e-4, "bf16": 3e-2, "fp16": 4e-3}


@dataclass(frozen=True)
class Settings:
    """How a gate measures.

    Raises:
        ValueError: too few pairs for a verdict.
    """

    processes: int = 60  # pairs of fresh processes, at most
    pairs: int = 6  # timed pairs of each cell in each pair of processes; even: blocks of A B B A
    threads: int | None = 1  # of either process; None: as many as PyTorch takes
    margin: float = 0.03  # a slow-down up to this share is allowed
    alpha: float = ALPHA
    may_change: bool = False  # another output is intended, and judged by its quality
    timeout: float | int = 300  # seconds a process may take for one answer
    max_minutes: float | int | None = 20  # begin no pair of processes that would last longer
    seed: int = 0
    detect: Mapping[str, float] = field(default_factory=dict)  # difference in quality -> share, see `videos_needed`
    margins: Mapping[str, Mapping[str, float | int]] = field(default_factory=dict)  # cell -> measure -> share

    def margin_of(self, cell: str) -> float | int:
        """The slow-down that is allowed in a cell."""
        return self.margins.get(cell, {}).get("speed", self.margin)

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
    speed: SpeedTest
    findings: list[Finding] = field(default_factory=list)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)  # process -> set-up times
    uncounted: dict[str, str] = field(default_factory=dict)  # counts that neither side could give -> why
    end: float = math.inf  # of the gate's minutes, by the monotonic clock
    compared: bool = False  # recipe, counts and output, which have no noise
    broken: bool = False  # nothing more can be measured

    @property
    def undecided(self) -> bool:
        """Whether more pairs are wanted."""
        return not self.broken and not self.speed.decided


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

    def answer(self, within: float | None = None) -> dict[str, Any]:
        """The answer to the request sent first; it may take `within` seconds, or as the settings say.

        Raises:
            RevisionError: the process failed, died, or took too long.
        """
        assert self._process.stdout is not None
        patience = within or self._timeout
        ready, _, _ = select.select([self._process.stdout], [], [], patience)
        if not ready:
            self._process.kill()
            raise RevisionError(f"the {self.side.name} gave no answer within {patience:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise RevisionError(self._how_it_ended())
        content: dict[str, Any] = json.loads(line)
        if "failed" in content:
            raise RevisionError(f"the {self.side.name} failed: {one_line(content['failed'])[:QUOTED]}")
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
        last = last_line(self.log, self.log.name)
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
    folder = folder.absolute()  # the processes work in their own trees
    measured = [MeasuredCell(label, values, SpeedTest(label, settings.margin_of(label))) for label, values in cells]
    software = _measure(measured, base, head, settings, folder, say)
    findings = []
    for cell in measured:
        speed = cell.speed.finding
        findings += [*cell.findings, *([speed] if speed is not None and not cell.broken else [])]
    return findings, {
        "software": software,
        "set_up": {cell.label: cell.notes for cell in measured},
        "uncounted": {cell.label: cell.uncounted for cell in measured if cell.uncounted},
        "pairs": {cell.label: [list(pair) for pair in cell.speed.pairs] for cell in measured},
        "looks": {cell.label: [list(each) for each in cell.speed.looks] for cell in measured},
    }


def _measure(
    cells: Sequence[MeasuredCell], base: Side, head: Side, settings: Settings, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure until every cell is decided, or the processes or the minutes are used up. Returns the software."""
    began = time.monotonic()
    limit = math.inf if settings.max_minutes is None else settings.max_minutes * 60
    for cell in cells:
        cell.end = began + limit
    lot = random.Random(settings.seed)
    software: dict[str, Any] = {}
    for group in range(settings.processes):
        start = time.monotonic()
        undecided = [cell for cell in cells if cell.undecided]
        software = _pair_of_processes(undecided, base, head, settings, folder, say, group, lot) or software
        used = time.monotonic() - began
        following = time.monotonic() - start if group else 0.0  # the first one counts and judges, too
        last = group + 1 == settings.processes or used + following > limit
        fraction = 1.0 if last else max((group + 1) / settings.processes, used / limit)
        look([cell.speed for cell in cells if not cell.broken], fraction, among=len(cells), alpha=settings.alpha)
        left = sum(cell.undecided for cell in cells)
        say(f"pair of processes {group + 1} of at most {settings.processes}: {used:.0f} s, {left} cells undecided")
        if last or not left:
            break
    return software


def _pair_of_processes(
    cells: Sequence[MeasuredCell],
    base: Side,
    head: Side,
    settings: Settings,
    folder: Path,
    say: Callable[[str], None],
    group: int,
    lot: random.Random,
) -> dict[str, Any]:
    """Add a pair of processes' pairs to each cell, and findings on what has no noise. Returns the software."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(RevisionProcess(side, folder / f"{side.name}.log", settings)) for side in (base, head)
        ]
        try:
            software = ask_both(servers, "hello", threads=settings.threads)
        except RevisionError as error:
            for cell in cells:
                _break(cell, str(error))
            return {}
        for cell in lot.sample(cells, len(cells)):
            try:
                cell.notes = ask_both(servers, "open", values=dict(cell.values))
                if not cell.compared:
                    _compare_facts(cell, servers, settings, folder, say)
                    cell.compared = True
                if not cell.broken:
                    cell.speed.pairs += timed_pairs(servers, settings.pairs, group, lot)
            except RevisionError as error:
                _break(cell, str(error))
                if "gave no answer" in str(error) or "ended with" in str(error):
                    break  # this pair of processes is lost; the next begins afresh
    return software


def ask_both(servers: Sequence[RevisionProcess], do: str, **request: object) -> dict[str, Any]:
    """Send both processes the same request at the same time; side -> answer. For requests that are not timed."""
    for server in servers:
        server.tell(do, **request)
    return _answers(servers)


def _answers(servers: Sequence[RevisionProcess], within: float | None = None) -> dict[str, Any]:
    """Side -> answer. Both are read even if one failed: an unread answer would be taken for the next one."""
    answers, errors = {}, []
    for server in servers:
        try:
            answers[server.side.name] = server.answer(within) if within else server.answer()
        except RevisionError as error:
            errors.append(error)
    if errors:
        raise RevisionError("; ".join(map(str, errors)))
    return answers


def timed_pairs(servers: Sequence[RevisionProcess], pairs: int, group: int, lot: random.Random) -> list[Pair]:
    """Time the open cell in blocks of A B B A or B A A B, which of them by lot; `group` numbers the processes."""
    measured = []
    for _ in range(pairs // 2):
        block = list(servers) if lot.random() < 0.5 else list(servers[::-1])
        for order in (block, block[::-1]):
            answers = {server.side.name: server.ask("run", pids=[each.pid for each in servers]) for server in order}
            base, head = answers["base"], answers["head"]
            spoiled = base["spoiled"] or head["spoiled"] or _clocks_apart(base["looks"], head["looks"])
            waited = base["waited"], head["waited"]
            measured.append(Pair(base["seconds"], head["seconds"], group, spoiled, *waited))
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
    cell.findings += counted(cell.label, base["counts"], head["counts"], settings.margins.get(cell.label, {}))
    cell.uncounted = uncounted(base["counts"], head["counts"])
    for name, why in cell.uncounted.items():
        say(f"{cell.label}: {name} could not be counted on either side, and is not judged: {why}")
    error = _error(*(np.load(places[name] / "latents.npy") for name in ("base", "head")))
    tolerance = ROUNDING[str(cell.values["precision"])]
    if base["sha256"] != head["sha256"] and error is not None and error <= tolerance:
        videos = [np.load(places[name] / "videos.npy").astype(np.float32) for name in ("base", "head")]
        error = max(error, _frame_error(*videos)) if error else _error(*videos)
    cell.findings.append(equal_output(cell.label, error, tolerance=tolerance, may_change=settings.may_change))
    if error is not None and not error <= tolerance and "window" not in cell.values:
        why = f"another output, and nothing judges videos of any model: compare those in {folder / 'outputs'}"
        cell.findings.append(Finding(cell.label, "quality", "INCONCLUSIVE", why))
    elif error is not None and not error <= tolerance:
        say(f"{cell.label}: another output, so {cell.values['videos']} videos of each side are compared")
        began = time.monotonic()
        kept = kept_videos(folder / "videos", servers[0].side.revision, cell.values, base["sha256"])
        sides = 1 if kept.load(int(cell.values["videos"])) is None else 2  # of more videos, which one device may make
        try:
            judged = _judge_videos(cell, servers, places, settings, kept)
            seconds = sides * (time.monotonic() - began)
            cell.findings += _more_videos(cell, judged, seconds, servers, places, settings, kept, say)
        except ValueError as error:  # too few videos, or none that can be judged
            cell.findings.append(Finding(cell.label, "quality", "INVALID", str(error)))


def _judge_videos(
    cell: MeasuredCell,
    servers: Sequence[RevisionProcess],
    places: Mapping[str, Path],
    settings: Settings,
    kept: KeptVideos,
    videos: int | None = None,  # of each side; None: as many as the cell has
    within: float | None = None,
) -> list[Finding]:
    """Findings on the quality of the videos of the cell that is open in both processes."""
    from bench.videos.paired_quality import compare_videos  # noqa: PLC0415  (loads torch)

    base = kept.load(videos or int(cell.values["videos"]))
    asked = servers if base is None else servers[1:]
    for server in asked:
        server.tell("videos", folder=str(places[server.side.name]))
    _answers(asked, within)
    if base is None:
        base = np.load(places["base"] / "all.npy")
        kept.save(base)
    head = np.load(places["head"] / "all.npy")
    margins = {**settings.margins.get(cell.label, {}), **settings.detect}
    return compare_videos(cell.label, base, head, window=int(cell.values["window"]), margins=margins)


def _more_videos(
    cell: MeasuredCell,
    pilot: list[Finding],
    seconds: float,
    servers: Sequence[RevisionProcess],
    places: Mapping[str, Path],
    settings: Settings,
    kept: KeptVideos,
    say: Callable[[str], None],
) -> list[Finding]:
    """The pilot's findings, or those of as many videos as the differences to detect take, if there is time for them."""
    made = int(cell.values["videos"])
    wanted = videos_needed(pilot, settings.detect, int(cell.values["batch"]))
    if wanted <= made:
        return pilot
    needs = seconds * wanted / made
    differences = ", ".join(f"{name}={share:.3g}" for name, share in settings.detect.items())
    say(f"{cell.label}: to detect {differences} takes {wanted} videos of each side, some {needs / 60:.1f} minutes")
    if wanted > MOST_VIDEOS or time.monotonic() + needs > cell.end:
        say(f"{cell.label}: that is more than {MOST_VIDEOS} videos or --max-minutes; the {made} videos have to do")
        return pilot
    ask_both(servers, "open", values={**cell.values, "videos": wanted})
    return _judge_videos(cell, servers, places, settings, kept, wanted, within=settings.timeout + 3 * needs)


def _error(base: np.ndarray, head: np.ndarray) -> float | None:
    """Largest difference as a share of the base's largest value; None for different shapes, NaN if not finite."""
    if base.shape != head.shape:
        return None
    if not (np.isfinite(base).all() and np.isfinite(head).all()):
        return math.nan
    scale = float(np.abs(base).max()) or 1.0
    return float(np.abs(base - head).max()) / scale


def _frame_error(base: np.ndarray, head: np.ndarray) -> float:
    """Mean difference of the frame that differs most, as a share of 255.

    Rounding in latents tips few pixels by few levels, and so no frame's mean; what decodes otherwise does.
    """
    return float(np.abs(base - head).mean(axis=(2, 3, 4)).max()) / 255


def _break(cell: MeasuredCell, why: str) -> None:
    """Add a finding that says why nothing more can be measured in this cell."""
    if not cell.broken:
        unknown = "the base failed: KeyError" in why and "the head" not in why  # a base without this method
        verdict: Verdict = "CALIBRATION_NEEDED" if unknown else "INVALID"
        cell.findings.append(Finding(cell.label, "run", verdict, why))
        cell.broken = True
