"""What makes the gate's times less noisy? The same revision on both sides, measured in several ways in turn.

    python -m bench.studies.gate_noise --minutes 30 --out docs/gate-trials.md

Every way is a setting of the process that starts both sides, so they inherit it. From the spread of the pairs of
processes follows how wide the gate's interval would be after the same minutes.
"""

import ctypes
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import tyro
from scipy.stats import t as student
from tabulate import tabulate

from bench.hardware.machine import machine
from bench.hardware.threads import usable_cores
from bench.harness.suite_spec import override, plan
from bench.regression.interleaved import RevisionProcess, Settings, ask_both, timed_pairs
from bench.regression.worktrees import Side, checkout
from bench.results.records import write_atomic
from bench.results.statistics import trimmed_mean
from bench.results.verdicts import Pair
from bench.suites import SUITES
from vidrd.entry import obey

FIXED_LAYOUT = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)
MINUTES = 10  # for which the width of an interval is given


@contextmanager
def one_core() -> Iterator[None]:
    """Both sides on the last core that may be used."""
    cores = usable_cores()
    os.sched_setaffinity(0, cores[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def fixed_layout() -> Iterator[None]:
    """Memory at the same addresses in every process.

    Raises:
        OSError: the system refuses, as containers may.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = libc.personality(0xFFFFFFFF)
    if libc.personality(before | FIXED_LAYOUT) == -1:
        raise OSError(ctypes.get_errno(), "this system lets no process fix its memory layout")
    try:
        yield
    finally:
        libc.personality(before)


WAYS: Mapping[str, Callable[[], AbstractContextManager[object]]] = {
    "as the gate does it": nullcontext,
    "both sides on one core": one_core,
    "fixed memory layout": fixed_layout,
    "huge pages": lambda: mock.patch.dict(os.environ, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),  # of 2 MB
}


def noise(
    side: Side, values: dict[str, Any], settings: Settings, folder: Path, minutes: float
) -> dict[str, list[tuple[float, list[Pair]]]]:
    """Way -> of each pair of processes its seconds, start and warm-up included, and its timed pairs."""
    lot, began = random.Random(settings.seed), time.monotonic()
    results: dict[str, list[tuple[float, list[Pair]]]] = {way: [] for way in WAYS}
    for turn in range(10**6):
        for way in lot.sample(list(WAYS), len(WAYS)):
            if time.monotonic() - began > minutes * 60:
                return results
            start = time.monotonic()
            with WAYS[way](), ExitStack() as stack:
                servers = [
                    stack.enter_context(RevisionProcess(each, folder / "noise.log", settings))
                    for each in (side._replace(name="base"), side._replace(name="head"))
                ]
                ask_both(servers, "hello", threads=settings.threads)
                ask_both(servers, "open", values=values)
                pairs = timed_pairs(servers, settings.pairs, turn, lot)
            results[way].append((time.monotonic() - start, pairs))
            print(f"{time.monotonic() - began:5.0f} s: {way}", flush=True)
    return results


def rows(results: Mapping[str, Sequence[tuple[float, list[Pair]]]]) -> list[dict[str, object]]:
    """A row for each way, first the clock's times of what the gate does."""
    (first, *_) = results
    clock = [(seconds, [pair.by_the_clock for pair in pairs]) for seconds, pairs in results[first]]
    return [_row(f"{first}, by the clock", clock), *(_row(way, each) for way, each in results.items())]


def _row(way: str, groups: Sequence[tuple[float, list[Pair]]]) -> dict[str, object]:
    """Spread of the pairs of processes, and the interval that as many as fit into `MINUTES` would have."""
    ratios = [[math.log(pair.head / pair.base) for pair in pairs if not pair.spoiled] for _, pairs in groups]
    ratios = [each for each in ratios if len(each) > 1]
    row: dict[str, object] = {"": way, "pairs of processes": len(ratios)}
    if len(ratios) < 3:
        return row
    spread = statistics.stdev(trimmed_mean(each).mean for each in ratios)
    seconds, among = statistics.median(seconds for seconds, _ in groups), map(statistics.stdev, ratios)
    fit = max(3, math.floor(MINUTES * 60 / seconds))
    half = student.ppf(0.975, fit - 1) * spread / math.sqrt(fit)
    return {
        **row,
        "s of each": f"{seconds:.0f}",
        "spread of its pairs": f"{statistics.median(among):.1%}",
        "spread of pairs of processes": f"{spread:.2%}",
        f"interval after {MINUTES} min": f"±{half:.2%} ({fit})",
    }


def main(
    minutes: float = 30,
    pairs: int = Settings.pairs,
    revision: str = "HEAD",
    folder: Path = Path("runs") / "noise",
    out: Path | None = None,
) -> None:
    """Measure and print the table.

    Args:
        minutes: In all.
        pairs: Timed pairs of each pair of processes.
        revision: The revision that is measured against itself.
        folder: Of tree and log.
        out: Also append the table to this file.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    commit, tree = checkout(revision, folder / "trees")
    side = Side("base", commit, tree, Path(sys.executable))
    suite = override(SUITES["gate"], ["method=vidrd", "precision=fp32"])
    (values,) = (dict(item.cell.values) for item in plan(suite, {}) if not item.reference)
    table = tabulate(rows(noise(side, values, Settings(pairs=pairs), folder, minutes)), headers="keys", tablefmt="pipe")
    here = machine()
    how = (
        f"{datetime.now(UTC).date()}, revision {commit[:12]}, {here['cpu']}, {here['cores']} cores, load "
        f"{os.getloadavg()[2]:.1f} over the last 15 minutes; cell vidrd fp32, {pairs} timed pairs in each pair of "
        f"processes, one thread, {minutes:g} minutes in all, the ways in turn. Spreads are standard deviations of "
        "ln(head / base); the number of pairs of processes that fit stands in brackets."
    )
    print(table)
    if out is not None:
        before = out.read_text(encoding="utf-8") + "\n" if out.exists() else "# Noise of the gate\n\n"
        write_atomic(out, f"{before}{how}\n\n{table}\n")


if __name__ == "__main__":
    sys.exit(obey("bench.studies.gate_noise", lambda: tyro.cli(main)))
