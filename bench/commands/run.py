"""`python -m bench run`: measure a suite, resume it, or profile a cell."""

import json
import sys
from pathlib import Path
from typing import Annotated

import tyro
from tabulate import tabulate

from bench.commands.show import print_report
from bench.hardware.threads import pin
from bench.harness.progress import clock, say, seconds_left
from bench.harness.runner import TIMEOUT, done_before, identify, pace, run
from bench.harness.suite_spec import (
    Planned,
    Prediction,
    Suite,
    did_you_mean,
    label,
    override,
    plan,
    select,
    with_emulated,
)
from bench.results.entry import CRASHED
from bench.results.manifest import read_manifest
from bench.results.option_types import Count, Minutes, Place, Seconds, TargetFile, TargetFolder, check_place
from bench.results.records import FINAL, read, write_atomic


def run_(
    suite: str = "pocket",
    set_: Annotated[
        tuple[str, ...], tyro.conf.arg(name="set", metavar="AXIS=VALUE,..."), tyro.conf.UseAppendAction
    ] = (),
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID|AXIS=VALUE"), tyro.conf.UseAppendAction] = (),
    skip: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID|AXIS=VALUE"), tyro.conf.UseAppendAction] = (),
    out: TargetFolder | None = None,
    max_minutes: Minutes | None = None,
    timeout: Seconds | None = None,
    threads: Count | None = None,
    profile: str | None = None,
    emulated: bool = False,
    dry_run: bool = False,
    json_: Annotated[TargetFile | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """Measure a suite: each cell in a process of its own. The same command again does what is missing.

    Axes are options too: --frames 16 32 --overlap 0 4 is --set frames=16,32 --set overlap=0,4.

    Exit codes: 0 all cells have their row, 2 a cell crashed, ran out of time or is invalid, 3 usage, 4 time was up.

    Args:
        suite: Which sweep; `python -m bench list` names them.
        set_: Replace the values of an axis; may be given for several.
        only: Only these cells; may be given several times (either-or within an axis, all axes must hold).
        skip: Not these cells; may be given several times.
        out: The run's folder; runs/SUITE if not given.
        max_minutes: Start no cell after so many minutes.
        timeout: Seconds that one cell may take (if not given: what the suite says, 600 where it says nothing).
        threads: Pin every cell to so many cores, with as many threads; all cores, unpinned, if not given.
        profile: Measure nothing; profile one batch of this cell (its id or first digits) into RUN/profile/ID.
        emulated: Also measure precisions that this machine only emulates: very slow; their times are marked and never
            compared.
        dry_run: Print the cells with their predicted bound and memory, and do nothing.
        json_: Also write manifest and records into this file.
    """
    if threads is not None:
        pin(threads)
    from bench.suites import SUITES  # noqa: PLC0415  (loads torch, which --help need not)

    if suite not in SUITES:
        raise ValueError(f"there is no suite {suite!r}{did_you_mean(suite, list(SUITES))}")
    folder = out or Path("runs") / suite
    if out is None and not dry_run:
        check_place("--out", folder, Place("target folder"), parents=True)
    sweep = override(SUITES[suite], set_)
    if emulated:
        sweep = with_emulated(sweep)
    identity = identify(sweep)
    chosen = select(plan(sweep, identity.basis), sweep, only, skip)
    if dry_run:
        print(_describe(chosen, sweep, folder))
        return 0
    if profile is not None:
        return _profile(profile, chosen, folder)
    if all(item.skip is not None for item in chosen if not item.reference):
        raise ValueError(f"no cell can run: {next(item.skip for item in chosen if item.skip is not None)}")
    say(f"{suite}: {len(chosen)} cells, {len(done_before(folder, chosen))} of them done before; folder {folder}")
    seconds = timeout or sweep.timeout or TIMEOUT
    command = ["python", "-m", "bench", *sys.argv[1:]]
    outcome = run(
        suite, sweep, identity, chosen, folder, timeout=seconds, max_minutes=max_minutes, say=say, command=command
    )
    if json_ is not None:
        write_atomic(json_, _as_json(folder))
    told = ", ".join(f"{count} {status}" for status, count in sorted(outcome.counts.items()))
    report = print_report(folder, "--out", str(folder / "report"))
    say(
        f"{told} ({outcome.reused} of them from before)"
        + (f"; {outcome.left} not tried: time was up" if outcome.left else "")
    )
    return outcome.exit_code or (CRASHED if report else 0)


def _describe(chosen: list[Planned], suite: Suite, folder: Path) -> str:
    before = read(folder / "records.jsonl").latest()
    foreseen = [None if item.reference or item.skip else suite.predict(item.cell.values) for item in chosen]
    rows = []
    for item, prediction in zip(chosen, foreseen, strict=True):
        record = before.get(item.cell.id)
        state: str = record.attempt.status if record else "skipped" if item.skip else "to do"
        state += ", to do again" if record and record.attempt.status not in FINAL else ""
        rows.append(
            (
                item.cell.id,
                label(item.cell.values, list(suite.axes)),
                f"{item.cost:.0f}",
                *_told(prediction),
                state,
                item.skip or "",
            )
        )
    headers = ("id", "cell", "cost", "TFLOP", "bound", "tensors", "state", "reason")
    table = tabulate(rows, headers=headers, disable_numparse=True)
    done = done_before(folder, chosen)
    ahead = [item.cost for item in chosen if item.cell.id not in done and item.skip is None]
    seconds = seconds_left(ahead, pace(folder, suite))
    bounds = [found.seconds for item, found in zip(chosen, foreseen, strict=True) if found and item.cell.id not in done]
    known = [seconds for seconds in bounds if seconds is not None]
    left = ""
    if seconds is not None:
        left = f", about {clock(seconds)} left by the cells measured here"
    elif known:
        left = f", {sum(known):.2g} s at least: {len(known)} of them at this machine's peaks, start and judges left out"
    return f"{table}\n{len(chosen)} cells, {len(chosen) - len(done)} to do{left}; folder {folder}"


def _told(found: Prediction | None) -> tuple[str, str, str]:
    """FLOPs, least seconds and memory of a cell, as far as they can be known before it runs."""
    if found is None:
        return "", "", ""
    seconds = "no peaks yet" if found.seconds is None else f"{found.seconds:.2g} s"
    return f"{found.flops / 1e12:.3g}", seconds, f"{found.peak_bytes / 2**20:.0f} MiB"


def _profile(wanted: str, chosen: list[Planned], folder: Path) -> int:
    """Profile the one cell whose id begins so."""
    from bench.videos.trace import trace  # noqa: PLC0415  (loads the pipeline)

    found = [item for item in chosen if item.cell.id.startswith(wanted) and not item.reference]
    if len(found) != 1:
        what = "no cell" if not found else f"{len(found)} cells"
        raise ValueError(f"--profile takes one cell; {wanted!r} fits {what} of the plan: see --dry-run for the ids")
    if found[0].skip is not None:
        raise ValueError(f"this cell cannot run: {found[0].skip}")
    place = folder / "profile" / found[0].cell.id
    print(trace(found[0].cell, place))
    say(f"written: {place / 'trace.json.gz'} (open it in Perfetto or chrome://tracing), {place / 'kernels.md'}")
    return 0


def _as_json(folder: Path) -> str:
    manifest = read_manifest(folder)
    planned = {cell["id"] for cell in manifest["cells"]}
    latest = read(folder / "records.jsonl").latest()
    records = [json.loads(record.to_json()) for key, record in latest.items() if key in planned]
    return json.dumps({"manifest": manifest, "records": records}, indent=1, allow_nan=False, ensure_ascii=False)
