"""`python -m bench run`: measure a suite, resume it, or profile a cell."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from tabulate import tabulate

from bench.commands.device_options import fitted, workers_of
from bench.commands.show import print_report
from bench.harness.cell_pool import Workers
from bench.harness.identity import identify
from bench.harness.progress import clock, say, seconds_left
from bench.harness.runner import TIMEOUT, conclude, done_before, latest, pace, run
from bench.harness.suite_spec import (
    PlannedCell,
    Prediction,
    Suite,
    did_you_mean,
    is_emulated,
    label,
    override,
    plan,
    select,
    with_emulated,
)
from bench.results.entry import CRASHED
from bench.results.option_types import Count, Minutes, Place, Seconds, TargetFile, TargetFolder, check_place
from bench.results.records import FINAL, Cell, read, write_atomic
from bench.results.run_folder import load_run


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
    devices: str | None = None,
    ray: bool = False,
    profile: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="CELL [CELL]")] = None,
    emulated: bool = False,
    fetch: bool = False,
    dry_run: bool = False,
    json_: Annotated[TargetFile | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """Measure a suite, each cell in its own process. The same command again measures only what is missing.

    Axes are options too: --frames 16 32 --overlap 0 4 means --set frames=16,32 --set overlap=0,4.

    Exit codes: 0 every cell has its row, 2 a cell crashed, ran out of time or is invalid, 3 wrong usage, 4 time was up.

    Args:
        suite: Suite to measure; `python -m bench list` describes them.
        set_: Replace the values of an axis; may be given once for each axis.
        only: Only these cells; may be given several times (values of one axis are alternatives; all axes must match).
        skip: Not these cells; may be given several times.
        out: The run's folder; runs/SUITE if not given.
        max_minutes: Start no cell after so many minutes.
        timeout: Seconds that one cell may take; the suite's own limit, or 600, if not given.
        threads: Pin every cell to this many cores, with as many threads; all cores, unpinned, if not given.
        devices: Run one cell at a time on each of these: all (GPUs), cuda:0,cuda:1, or cores: cpu:0-3,cpu:4-7.
        ray: Run one cell at a time on each GPU (or each node, if there are no GPUs) of the Ray cluster that RAY_ADDRESS
            names, or of a local one. All nodes must be equal to this machine and see the run's folder.
        profile: Measure nothing, but profile one batch of this cell (its id, or the first digits) into RUN/profile/ID.
            Two cells are compared, as before and after.
        emulated: Also measure precisions that this machine only emulates. This is very slow; the times are marked and
            never compared.
        fetch: First download the suite's model, a repository at its --revision; nothing else uses the network.
        dry_run: Print the cells with their predicted work, least time and memory, and measure nothing.
        json_: Also write manifest and records to this file.
    """
    workers = workers_of(devices, threads, ray=ray)
    from bench.suites import SUITES  # noqa: PLC0415  (loads torch, which --help need not)

    if suite not in SUITES:
        raise ValueError(f"there is no suite {suite!r}{did_you_mean(suite, list(SUITES))}")
    folder = out or Path("runs") / suite
    if out is None and not dry_run:
        check_place("--out", folder, Place("target folder"), parents=True)
    sweep = override(SUITES[suite], set_)
    if emulated:
        sweep = with_emulated(sweep)
    if fetch:
        _fetch(sweep)
    identity = identify(sweep.files)
    chosen = select(plan(sweep, identity.basis), sweep, only, skip)
    workers = fitted(workers, sweep, chosen)
    if dry_run:
        print(_describe(chosen, sweep, folder, workers))
        return 0
    if profile is not None:
        return _profile(profile, chosen, folder)
    asked = [item for item in chosen if not item.reference] or chosen  # a reference may be asked for alone
    if all(item.skip is not None for item in asked):
        why = next((item.skip for item in asked), "--only and --skip leave none")
        raise ValueError(f"no cell can run: {why}")
    say(f"{suite}: {len(chosen)} cells, {len(done_before(folder, chosen))} of them done before; folder {folder}")
    seconds = timeout or sweep.timeout or TIMEOUT
    command = ["python", "-m", "bench", *sys.argv[1:]]
    end = None if max_minutes is None else time.time() + 60 * max_minutes
    measure = partial(
        run, suite, identity=identity, folder=folder, timeout=seconds, end=end, workers=workers, say=say,
        command=command,
    )  # fmt: skip
    outcome = measure(sweep, chosen=chosen)
    while not (outcome.untried or only) and (grown := sweep.grow(sweep, latest(folder, chosen))) is not None:
        sweep, known = grown, {item.cell.id for item in chosen}
        more = [item for item in select(plan(sweep, identity.basis), sweep, (), skip) if item.cell.id not in known]
        chosen += more
        outcome = outcome.joined(measure(sweep, chosen=more))
    conclude(folder, suite, sweep, identity, command)
    if json_ is not None:
        write_atomic(json_, _as_json(folder))
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(outcome.counts.items()))
    report_code = print_report(folder, "--out", str(folder / "report"))
    say(
        f"{statuses} ({outcome.reused} of them from before)"
        + (f"; {outcome.untried} not tried: time was up" if outcome.untried else "")
    )
    left_out = sum(is_emulated(sweep, item.cell.values) for item in chosen if not item.reference)
    if left_out:
        cells = "1 cell was" if left_out == 1 else f"{left_out} cells were"
        it = "its precision; --emulated measures it" if left_out == 1 else "their precision; --emulated measures them"
        say(f"{cells} left out because this machine only emulates {it}")
    return outcome.exit_code or (CRASHED if report_code else 0)


def _fetch(suite: Suite) -> None:
    """Download the models of a suite that are repositories.

    Raises:
        ValueError: the suite has no model, or a repository cannot be had.
    """
    from vidrd.checkpoints import locate  # noqa: PLC0415  (loads torch, which --help need not)

    values = {**{name: (value,) for name, value in suite.fixed.items()}, **suite.axes}
    names = [str(name) for name in values.get("model", ()) if "/" in str(name) and not Path(str(name)).exists()]
    if not names:
        raise ValueError("--fetch downloads a suite's model: name a repository, --suite lengths --model OWNER/NAME")
    for name in names:
        for revision in values["revision"]:
            say(f"{name}: {locate(name, revision=str(revision) or None, fetch=True)}")


def _describe(chosen: list[PlannedCell], suite: Suite, folder: Path, workers: Workers) -> str:
    before = read(folder / "records.jsonl").latest()
    predictions = [None if item.reference or item.skip else suite.predict(item.cell.values) for item in chosen]
    rows = []
    for item, prediction in zip(chosen, predictions, strict=True):
        record = before.get(item.cell.id)
        state: str = record.attempt.status if record else "skipped" if item.skip else "to do"
        state += ", to do again" if record and record.attempt.status not in FINAL else ""
        rows.append(
            (
                item.cell.id,
                label(item.cell.values, list(suite.axes)),
                f"{item.cost:.0f}",
                *_prediction_columns(prediction),
                state,
                item.skip or "",
            )
        )
    headers = ("id", "cell", "relative cost", "TFLOP", "at least", "tensors", "state", "reason")
    table = tabulate(rows, headers=headers, disable_numparse=True)
    done = done_before(folder, chosen)
    to_do = [item for item in chosen if item.cell.id not in done and item.skip is None]
    ahead = [item.cost for item in to_do]
    seconds = seconds_left(ahead, pace(folder, suite), at_a_time=workers.at_a_time)
    bounds = [
        prediction.seconds
        for item, prediction in zip(chosen, predictions, strict=True)
        if prediction and prediction.seconds is not None and item.cell.id not in done
    ]
    estimate = ""
    if seconds is not None:
        estimate = f", about {clock(seconds)} left by the cells measured here"
    elif bounds:
        least = f"{sum(bounds) / workers.at_a_time:.2g} s at least"
        estimate = f", {least}: {len(bounds)} of them at this machine's peaks, start and scores left out"
    elif to_do:
        estimate = ", in a time that is not known before a run has measured this machine's peaks"
    skipped = sum(item.skip is not None for item in chosen)
    counts = f"{len(chosen)} cells, {len(to_do)} to do" + (f", {skipped} cannot run" if skipped else "")
    return f"{table}\n{counts}{estimate}; folder {folder}"


def _prediction_columns(prediction: Prediction | None) -> tuple[str, str, str]:
    """TFLOP, least seconds and MiB of a cell, as far as they can be known before it runs."""
    if prediction is None:
        return "", "", ""
    seconds = "" if prediction.seconds is None else f"{prediction.seconds:.2g} s"
    return f"{prediction.flops / 1e12:.3g}", seconds, f"{prediction.peak_bytes / 2**20:.0f} MiB"


def _profile(prefixes: Sequence[str], chosen: list[PlannedCell], folder: Path) -> int:
    """Profile one batch of each cell whose id begins with one of one or two prefixes."""
    if not 1 <= len(prefixes) <= 2:
        raise ValueError(f"--profile takes a cell, or two to compare; got {len(prefixes)}")
    cells = [_cell_of(prefix, chosen) for prefix in prefixes]
    from bench.videos.trace import trace  # noqa: PLC0415  (loads the pipeline)

    places = [folder / "profile" / cell.id for cell in cells]
    for cell, place in zip(cells, places, strict=True):
        print(trace(cell, place))
        say(f"written: {place / 'trace.json.gz'} (open it in Perfetto or chrome://tracing), {place / 'kernels.md'}")
    page = [str(places[0]), *(word for place in places[1:] for word in ("--after", str(place)))]
    return subprocess.run([sys.executable, "-m", "reports.profile_page", *page], check=False).returncode


def _cell_of(prefix: str, chosen: list[PlannedCell]) -> Cell:
    """The one cell whose id begins with the prefix."""
    matches = [item for item in chosen if item.cell.id.startswith(prefix) and not item.reference]
    if len(matches) != 1:
        what = "no cell" if not matches else f"{len(matches)} cells"
        raise ValueError(f"--profile takes one cell; {prefix!r} fits {what} of the plan: see --dry-run for the ids")
    (item,) = matches
    if item.skip is not None:
        raise ValueError(f"this cell cannot run: {item.skip}")
    return item.cell


def _as_json(folder: Path) -> str:
    loaded = load_run(folder)
    records = [json.loads(record.to_json()) for record in loaded.records.values()]
    return json.dumps({"manifest": loaded.manifest, "records": records}, indent=1, allow_nan=False, ensure_ascii=False)
