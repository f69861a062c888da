"""`python -m bench list | run | show`: see `--help` of each."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import tyro
from tabulate import tabulate

from bench.progress import time_left
from bench.record import FINAL, Journal, Record, read, write_atomic
from bench.run import done_before, identify, pace, run
from bench.suite import Planned, Suite, did_you_mean, label, override, plan, select

CRASHED = 2
USAGE = 3  # what the caller wrote cannot be done
STOPPED = 130  # by Ctrl-C, as shells count it


def main() -> int:
    """Parse, do, and turn a user's mistake into one line and exit code 3."""
    try:
        return tyro.extras.subcommand_cli_from_dict(
            {"list": list_, "run": run_, "show": show}, prog="python -m bench", description=__doc__
        )
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("bench: stopped; the same command goes on with the cells that are missing", file=sys.stderr)
        return STOPPED
    except SystemExit as stop:
        return USAGE if stop.code == 2 else int(stop.code or 0)


def list_() -> int:
    """Print the suites with their axes, the methods and the metrics."""
    from bench.methods import METHODS  # noqa: PLC0415  (loads torch, which --help need not)
    from bench.suites import SUITES  # noqa: PLC0415
    from metrics import METRICS  # noqa: PLC0415

    for name, suite in SUITES.items():
        print(f"{name}, {len(plan(suite, {}))} cells: {suite.question}")
        settings = [(axis, ", ".join(map(str, values))) for axis, values in suite.axes.items()]
        settings += [(axis, str(value)) for axis, value in suite.fixed.items()]
        print(tabulate(settings, headers=("--set", "values"), disable_numparse=True) + "\n")
    print(
        tabulate(
            [(name, method.paper, method.summary) for name, method in METHODS.items()], headers=("method", "paper", "")
        )
    )
    print()
    print(
        tabulate(
            [(name, metric.unit, metric.better, metric.meaning) for name, metric in METRICS.items()],
            headers=("metric", "unit", "better", ""),
        )
    )
    return 0


def run_(
    suite: str = "pocket",
    set_: Annotated[
        tuple[str, ...], tyro.conf.arg(name="set", metavar="AXIS=VALUE,..."), tyro.conf.UseAppendAction
    ] = (),
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID|AXIS=VALUE"), tyro.conf.UseAppendAction] = (),
    skip: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID|AXIS=VALUE"), tyro.conf.UseAppendAction] = (),
    out: Path | None = None,
    max_minutes: float | None = None,
    timeout: float = 600.0,
    dry_run: bool = False,
    json_: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """Measure a suite: each cell in a process of its own. The same command again does what is missing.

    Exit codes: 0 all cells have their row, 2 a cell crashed, ran out of time or is invalid, 3 usage, 4 time was up.

    Args:
        suite: Which sweep; `python -m bench list` names them.
        set_: Replace the values of an axis; may be given for several.
        only: Only these cells; may be given several times (either-or within an axis, all axes must hold).
        skip: Not these cells; may be given several times.
        out: The run's folder; runs/SUITE if not given.
        max_minutes: Start no cell after so many minutes.
        timeout: Seconds that one cell may take.
        dry_run: Print the cells and do nothing.
        json_: Also write manifest and records into this file.
    """
    from bench.suites import SUITES  # noqa: PLC0415  (loads torch, which --help need not)

    if suite not in SUITES:
        raise ValueError(f"there is no suite {suite!r}{did_you_mean(suite, list(SUITES))}")
    for name, file in (("--out", out), ("--json", json_)):
        if file is not None and not file.absolute().parent.is_dir():
            raise ValueError(f"{name} {file}: the folder {file.parent} does not exist, make it first")
    folder = out or Path("runs") / suite
    sweep = override(SUITES[suite], set_)
    identity = identify(sweep)
    chosen = select(plan(sweep, identity.basis), sweep, only, skip)
    if dry_run:
        print(_describe(chosen, sweep, folder))
        return 0
    if all(item.skip is not None for item in chosen if not item.reference):
        raise ValueError(f"no cell can run: {next(item.skip for item in chosen if item.skip is not None)}")
    _say(f"{suite}: {len(chosen)} cells, {len(done_before(folder, chosen))} of them done before; folder {folder}")
    outcome = run(suite, sweep, identity, chosen, folder, timeout=timeout, max_minutes=max_minutes, say=_say)
    if json_ is not None:
        write_atomic(json_, _as_json(folder))
    told = ", ".join(f"{count} {status}" for status, count in sorted(outcome.counts.items()))
    report = _report(folder, "--out", str(folder / "report"))
    _say(
        f"{told} ({outcome.reused} of them from before)"
        + (f"; {outcome.left} not tried: time was up" if outcome.left else "")
    )
    return outcome.exit_code or (CRASHED if report else 0)


def show(run_folder: Annotated[Path, tyro.conf.Positional], cell: str | None = None) -> int:
    """Print the answer and the tables of a run, with sparklines, or all that is known of one cell.

    Args:
        run_folder: For example runs/pocket.
        cell: The id of a cell, or its first digits.
    """
    if not (run_folder / "records.jsonl").exists():
        raise ValueError(f"{run_folder} is no run: it has no records.jsonl")
    if cell is None:
        return _report(run_folder, "--view", "rich")
    journal = read(run_folder / "records.jsonl")
    if journal.torn:
        _say(f"the last line of {run_folder / 'records.jsonl'} is unfinished; the next run there repairs it")
    print(_all_of(cell, journal))
    return 0


def _all_of(cell: str, journal: Journal) -> str:
    found: list[Record] = [record for record in journal.records if record.cell.id.startswith(cell)]
    if not found:
        raise ValueError(f"no record of a cell {cell!r}: `python -m bench run --dry-run` prints the ids")
    return "\n".join(json.dumps(json.loads(record.to_json()), indent=1, ensure_ascii=False) for record in found)


def _describe(chosen: list[Planned], suite: Suite, folder: Path) -> str:
    before = read(folder / "records.jsonl").latest()
    rows = []
    for item in chosen:
        record = before.get(item.cell.id)
        state: str = record.attempt.status if record else "skipped" if item.skip else "to do"
        state += ", to do again" if record and record.attempt.status not in FINAL else ""
        rows.append(
            (item.cell.id, label(item.cell.values, list(suite.axes)), f"{item.cost:.0f}", state, item.skip or "")
        )
    table = tabulate(rows, headers=("id", "cell", "cost", "state", "reason"), disable_numparse=True)
    done = done_before(folder, chosen)
    ahead = sum(item.cost for item in chosen if item.cell.id not in done and item.skip is None)
    left = time_left(ahead, pace(folder, suite))
    left = f", {left} by the cells measured here" if left else ""
    return f"{table}\n{len(chosen)} cells, {len(chosen) - len(done)} to do{left}; folder {folder}"


def _as_json(folder: Path) -> str:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    planned = {cell["id"] for cell in manifest["cells"]}
    latest = read(folder / "records.jsonl").latest()
    records = [json.loads(record.to_json()) for key, record in latest.items() if key in planned]
    return json.dumps({"manifest": manifest, "records": records}, indent=1, allow_nan=False, ensure_ascii=False)


def _report(folder: Path, *options: str) -> int:
    """The tables come from what is on the disk, in a process that loads no torch."""
    return subprocess.run([sys.executable, "-m", "reports", str(folder), *options], check=False).returncode


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
