"""`python -m bench gate`: base against head in one run, or head against baselines that were stored."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from bench.hardware.machine import ROOT, machine, revision, software, source_hash
from bench.harness.progress import say
from bench.harness.suite_spec import PlannedCell, Suite, did_you_mean, label, override, plan, select
from bench.regression import baselines as store
from bench.regression import videos_needed
from bench.regression.counts import COUNTS
from bench.regression.interleaved import RevisionError, RevisionProcess, Settings, measure_interleaved
from bench.regression.thresholds import load as load_thresholds
from bench.regression.worktrees import Side, checkout, commit_of, environment
from bench.results import history
from bench.results.option_types import Count, CountOrNone, Margin, Minutes, Seed, TargetFile, TargetFolder
from bench.results.records import Value, digest, short_revision, write_atomic
from bench.results.verdicts import EXIT_CODES, Finding, overall
from vidrd.files import locked

FOLDER = Path("runs") / "gate"


def gate(
    base: str | None = None,
    head: str | None = None,
    stored: TargetFile | None = None,
    calibrate: bool = False,
    suite: str = "gate",
    set_: Annotated[
        tuple[str, ...], tyro.conf.arg(name="set", metavar="AXIS=VALUE,..."), tyro.conf.UseAppendAction
    ] = (),
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID|AXIS=VALUE"), tyro.conf.UseAppendAction] = (),
    skip: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID|AXIS=VALUE"), tyro.conf.UseAppendAction] = (),
    margin: Margin = 0.03,
    thresholds: Path | None = None,
    processes: Count = 60,
    pairs: Count = 6,
    threads: CountOrNone = 1,
    outputs: Literal["equal", "may-change"] = "equal",
    detect: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MEASURE=SHARE"), tyro.conf.UseAppendAction] = (),
    environments: Literal["separate", "shared"] = "separate",
    max_minutes: Minutes | None = 20.0,
    seed: Seed = 0,
    out: TargetFolder = FOLDER,
    journal: TargetFile | None = None,
    junit: TargetFile | None = None,
    json_: Annotated[TargetFile | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """Is the head as fast, as small and as good as the base? Both are measured alternately in one run.

    Exit codes: 0 PASS, 1 FAIL (a regression is shown), 2 INVALID (the numbers cannot be trusted), 3 wrong usage,
    4 INCONCLUSIVE or CALIBRATION_NEEDED. With GITHUB_STEP_SUMMARY set, the verdict is appended to that file.

    Args:
        base: Revision to compare with, for example origin/main.
        head: Revision that is judged; the checkout as it is, uncommitted changes included, if not given.
        stored: Compare the head's counts (no times) with the baselines in this file instead of a base.
        calibrate: With --stored: store the counts as the baselines of this machine. Refused in CI: a person decides.
        suite: Suite whose cells are measured; `python -m bench list` shows all.
        set_: Replace the values of an axis; may be given once for each axis.
        only: Only these cells; may be given several times.
        skip: Not these cells; may be given several times.
        margin: A slow-down up to this share is allowed: 0.03 for shared machines, 0.01 for a dedicated GPU.
        thresholds: TOML file of other margins, for measures and cells: speed = 0.03, [cells."vidrd fp32"].
        processes: Most pairs of fresh processes; a cell is measured until its speed is decided.
        pairs: Timed pairs of each cell in each pair of processes; an even number.
        threads: CPU threads of each side; 0: PyTorch's default.
        outputs: "equal": different videos for the same noise are a regression. "may-change": their quality decides.
        detect: Smallest change of quality to detect, fvd=10% or caption=0.03; also the margin of that measure. A
            pilot with the cell's videos tells how many are needed, and the gate makes them if --max-minutes allows.
        environments: "separate": the base gets an environment with its own pinned dependencies. "shared": both run in
            this one.
        max_minutes: Start no pair of processes that would end later than this many minutes after the start.
        seed: Seed of the order in which the two sides are timed.
        out: Folder of the verdict, the logs, the worktrees and the environments.
        journal: With --base: append the verdict to this history; OUT/history.jsonl if not given.
        junit: Also write the verdict as JUnit XML.
        json_: Also write the verdict as JSON.
    """
    from bench.suites import SUITES  # noqa: PLC0415  (loads torch, which --help need not)

    _check_request(base, stored, suite, calibrate=calibrate)
    settings = Settings(
        processes,
        pairs,
        threads or None,
        margin,
        may_change=outputs == "may-change",
        max_minutes=max_minutes,
        seed=seed,
        detect=videos_needed.parse(detect),
    )
    sweep = override(SUITES[suite], set_)
    cells = _cells(sweep, only, skip)
    if thresholds is not None:
        labels = [name for name, _ in cells]
        read = load_thresholds(thresholds, ("speed", *COUNTS, *videos_needed.QUALITY), labels)
        settings = replace(settings, margins={name: read.of(name) for name in labels})
    for name in (base, head):
        if name is not None:
            commit_of(name)
    if stored is not None:
        store.load(stored)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with locked(out):
        head_side = _side("head", head, out, environments)
        before = source_hash(head_side.tree)
        if base is not None:
            base_side = _side("base", base, out, environments)
            revisions = ", ".join(f"{side.name} {short_revision(side.revision)}" for side in (base_side, head_side))
            say(f"{suite}: {len(cells)} cells, {revisions}")
            for side in (base_side, head_side):
                (out / f"{side.name}.log").unlink(missing_ok=True)
            findings, observations = measure_interleaved(cells, base_side, head_side, settings, out, say)
            against = base_side.revision
        else:
            assert stored is not None
            findings, observations = _against_stored(cells, head_side, settings, out, stored, calibrate=calibrate)
            against = str(stored)
        if source_hash(head_side.tree) != before:
            why = "the head's source changed while it was measured: nobody knows which was, run the gate again"
            findings.append(Finding("every cell", "source", "INVALID", why))
        verdict = {
            "verdict": overall(findings),
            "suite": suite,
            "base": against,
            "head": head_side.revision,
            "findings": [finding.to_dict() for finding in findings],
            "machine": machine(),
            "settings": {**vars(settings), "environments": environments},
            "seconds": round(time.monotonic() - began, 1),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            **observations,
        }
        text = json.dumps(verdict, indent=1, allow_nan=False, ensure_ascii=False)
        write_atomic(out / "verdict.json", text)
        if base is not None:
            recipes = {name: digest({**values, "threads": settings.threads or 0}) for name, values in cells}
            history.append(journal or out / "history.jsonl", verdict, recipes)
    if json_ is not None:
        write_atomic(json_, text)
    report_code = show_verdict(out / "verdict.json", junit)
    return EXIT_CODES[overall(findings)] if report_code == 0 else report_code


def _check_request(base: str | None, stored: Path | None, suite: str, *, calibrate: bool) -> None:
    """Raise ValueError for options that make no gate."""
    from bench.suites import SUITES  # noqa: PLC0415

    if (base is None) == (stored is None):
        raise ValueError("a gate compares with a revision or with stored baselines: give --base REV or --stored FILE")
    if calibrate and stored is None:
        raise ValueError("--calibrate writes stored baselines: say where with --stored FILE")
    if calibrate:
        store.check_person()
    if suite not in SUITES:
        raise ValueError(f"there is no suite {suite!r}{did_you_mean(suite, list(SUITES))}")
    if SUITES[suite].workload not in ("pocket", "lengths"):
        raise ValueError(f"the gate measures cells that make videos; {suite} measures {SUITES[suite].workload}s")


def show_verdict(file: Path, junit: Path | None) -> int:
    """Print a verdict and write it as Markdown, and as JUnit XML if asked, in a process that loads no torch."""
    targets = {"markdown": file.with_suffix(".md"), "comment": file.with_name("comment.md"), "junit": junit}
    options = [word for name, target in targets.items() if target for word in (f"--{name}", str(target))]
    return subprocess.run([sys.executable, "-m", "reports.gate_report", str(file), *options], check=False).returncode


def _cells(sweep: Suite, only: Sequence[str], skip: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    chosen: list[PlannedCell] = [item for item in select(plan(sweep, {}), sweep, only, skip) if not item.reference]
    impossible = next((item.skip for item in chosen if item.skip is not None), None)
    if not chosen or impossible:
        raise ValueError(f"a gate measures all its cells: {impossible or 'none was chosen'}")
    return [(label(item.cell.values, list(sweep.axes)), _anywhere(item.cell.values)) for item in chosen]


def _anywhere(values: Mapping[str, Value]) -> dict[str, Value]:
    """The values with files by their full names: either side works in a tree of its own."""
    files = {name: str(values[name]) for name in ("model", "prompts") if values.get(name)}
    return {**values, **{name: str(Path(file).resolve()) for name, file in files.items() if Path(file).exists()}}


def _side(name: str, commitish: str | None, out: Path, environments: str) -> Side:
    here = Path(sys.executable)
    if commitish is None:
        return Side(name, str(revision(ROOT)), ROOT, here)
    commit, tree = checkout(commitish, (out / "trees").absolute())
    if environments == "shared":
        return Side(name, commit, tree, here)
    say(f"{name}: environment of {commit[:12]}")
    return Side(name, commit, tree, environment(tree, (out / "environments").absolute()))


def _against_stored(
    cells: Sequence[tuple[str, dict[str, Any]]],
    head: Side,
    settings: Settings,
    out: Path,
    file: Path,
    *,
    calibrate: bool,
) -> tuple[list[Finding], dict[str, Any]]:
    """Count in each cell and compare with the file; with `calibrate`, write it."""
    entries, hardware, using = store.load(file), machine(), software()
    findings: list[Finding] = []
    fresh: dict[str, dict[str, Any]] = {}
    place = (out / "outputs" / "head").absolute()
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        process = stack.enter_context(RevisionProcess(head, out / "head.log", settings))
        try:
            greeting = process.ask("hello", threads=settings.threads)
        except RevisionError as error:
            return [Finding(name, "run", "INVALID", str(error)) for name, _ in cells], {"software": {}}
        for name, values in cells:
            try:
                warm = process.ask("open", values=values)
                facts = process.ask("facts", folder=str(place))
            except RevisionError as error:
                findings.append(Finding(name, "run", "INVALID", str(error)))
                continue
            key = store.key_of(values, hardware, using)
            findings += store.check_baseline(name, key, entries, facts)
            fresh[str(key)] = {
                "cell": name,
                **facts,
                "seconds": min(warm["warm_up_seconds"]),
                "revision": head.revision,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            }
    if calibrate:
        store.calibrate(file, fresh)
        say(f"{len(fresh)} baselines written into {file}: commit it")
        written = [Finding(entry["cell"], "baseline", "PASS", "written by --calibrate") for entry in fresh.values()]
        findings = [*(finding for finding in findings if finding.measure == "run"), *written]
    return findings, {"software": {"head": greeting}}
