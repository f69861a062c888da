"""Does the gate detect regressions, and nothing else? Revisions with planted faults are compared with this one.

    python -m bench.studies.gate_fault_injection --out docs/gate-trials.md

Every trial is a whole gate on the machine as it is. Faults are planted in copies of the
revision by replacing lines of the product, not of the bench.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from tabulate import tabulate

from bench.hardware.machine import machine
from bench.harness.suite_spec import label, override, plan
from bench.regression.interleaved import Settings, measure_interleaved
from bench.regression.worktrees import Side, checkout
from bench.results.records import write_atomic
from bench.results.verdicts import FEWEST_PAIRS, Finding, Pair, overall, speed
from bench.suites import SUITES
from vidrd.entry import obey


class Fault(NamedTuple):
    """A fault to plant.

    Args:
        changes: file -> pairs of a text that it holds once and the text that replaces it.
        expected: the verdicts that are right about it.
    """

    name: str
    changes: dict[str, tuple[tuple[str, str], ...]]
    expected: tuple[str, ...]


PIPELINE = "vidrd/pipeline.py"
DENOISER = "vidrd/denoiser.py"


def slower(percent: int, expected: tuple[str, ...]) -> Fault:
    """Every video waits, busily, for this share of the time that it took."""
    return Fault(
        f"{percent} % slower: every video waits, busily, for {percent} % of the time it took",
        {
            PIPELINE: (
                ("import torch\n", "import time\n\nimport torch\n"),
                (
                    "        videos = _count(prompts, prompt_embeds)\n",
                    "        self.began = time.perf_counter()\n        videos = _count(prompts, prompt_embeds)\n",
                ),
                (
                    "        return decoder.finish()",
                    "        frames = decoder.finish()\n"
                    "        took = time.perf_counter() - self.began\n"
                    f"        while time.perf_counter() - self.began < {1 + percent / 100:g} * took:\n"
                    "            pass\n"
                    "        return frames",
                ),
            )
        },
        expected,
    )


NONE = Fault("none: the revision against itself", {}, ("PASS", "INCONCLUSIVE"))
FAULTS = {
    "slow": slower(10, ("FAIL", "INCONCLUSIVE")),
    "slow5": slower(5, ("FAIL", "INCONCLUSIVE")),
    "guidance": Fault(
        "guidance one step late: the first step of every clip is not guided",
        {
            DENOISER: (
                (
                    "        return away + self._weight(timesteps) * (towards - away)",
                    "        first = int(timesteps.max()) >= {first}\n"
                    "        return away + (1.0 if first else self._weight(timesteps)) * (towards - away)",
                ),
            )
        },
        ("FAIL",),
    ),
    "memory": Fault(
        "memory grows: the latents of every video are kept",
        {
            PIPELINE: (
                (
                    "        decoder.add(latents)\n",
                    "        decoder.add(latents)\n        self.kept = [*getattr(self, 'kept', []), latents.clone()]\n",
                ),
            )
        },
        ("FAIL",),
    ),
    "recipe": Fault(
        "the recipe changes silently: one denoising step less than asked for",
        {
            PIPELINE: (
                (
                    "return schedule_of(name, config, steps)",
                    "return schedule_of(name, config, steps - 1)",
                ),
            )
        },
        ("INVALID",),
    ),
}


def plant(fault: Fault, tree: Path, copy: Path, first: int) -> Path:
    """A copy of the tree with the fault in it.

    Args:
        first: timestep of the first denoising step, which a fault may name.

    Raises:
        ValueError: a file does not hold the text that is to be replaced exactly once.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(tree, copy, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    for name, changes in fault.changes.items():
        text = (copy / name).read_text(encoding="utf-8")
        for before, after in changes:
            if text.count(before) != 1:
                raise ValueError(
                    f"{name} has {before!r} {text.count(before)} times and not once: fix the fault in {__file__}"
                )
            text = text.replace(before, after.replace("{first}", str(first)))
        (copy / name).write_text(text, encoding="utf-8")
    return copy


def trials(
    base: Side, folder: Path, settings: Settings, counts: dict[str, int], cells: list[tuple[str, dict[str, Any]]]
) -> Iterator[dict[str, object]]:
    """One row per trial. All faults are planted before the first trial."""
    first = _first_timestep(int(cells[0][1]["steps"]))
    faults = {name: FAULTS.get(name, NONE) for name in counts}
    trees = {
        name: plant(fault, base.tree, folder / name, first) if fault.changes else base.tree
        for name, fault in faults.items()
    }
    turns = [name for turn in range(max(counts.values())) for name, times in counts.items() if turn < times]
    for number, name in enumerate(turns, 1):  # one of each kind in turn, so that an interruption loses the last of all
        fault, head = faults[name], base._replace(name="head", tree=trees[name])
        began = time.monotonic()
        findings, observed = measure_interleaved(
            cells, base, head, replace(settings, seed=1000 * number), folder, lambda line: None
        )
        verdict = overall(findings)
        row = {
            "planted": fault.name,
            "verdict": verdict,
            "as hoped": "yes" if verdict in fault.expected else "NO",
            "by": _because(findings),
            "speed": _speed(findings),
            "error": _errors(observed["pairs"]),
            "n": ", ".join(str(finding.n) for finding in findings if finding.measure == "speed"),
            "s": round(time.monotonic() - began),
        }
        print(row, *(f.reason for f in findings if f.verdict == verdict != "PASS"), sep="\n    ", flush=True)
        yield row


def _because(findings: list[Finding]) -> str:
    worst = overall(findings)
    return "" if worst == "PASS" else ", ".join(dict.fromkeys(f.measure for f in findings if f.verdict == worst))


def _speed(findings: list[Finding]) -> str:
    speeds = [f for f in findings if f.measure == "speed" and f.change is not None]
    return "; ".join(f"{f.change:+.1%} ({f.low:+.1%} to {f.high:+.1%})" for f in speeds)


def _errors(pairs: dict[str, list[list[Any]]]) -> str:
    """Standard error of each cell's ratio, and what it would be if waiting for a core counted."""
    texts = []
    for each in pairs.values():
        own = [Pair(*values) for values in each]
        clock = [pair.by_the_clock for pair in own]
        errors = (speed("", timed).error for timed in (own, clock) if len(timed) >= FEWEST_PAIRS)
        texts.append(" / ".join(f"{error:.2%}" for error in errors if error is not None))
    return "; ".join(texts)


def _first_timestep(steps: int) -> int:
    from vidrd.checkpoints import load_pipeline  # noqa: PLC0415

    return int(max(load_pipeline("pocket").schedule(steps).timesteps))


def main(
    self_gates: int = 12,
    slow: int = 12,
    slow5: int = 12,
    processes: int = Settings.processes,
    pairs: int = Settings.pairs,
    max_minutes: float = 20,
    revision: str = "HEAD",
    folder: Path = Path("runs") / "trials",
    out: Path | None = None,
    only: tuple[str, ...] = ("self", "slow", "slow5", "guidance", "memory", "recipe"),
) -> None:
    """Run the trials and print their table.

    Args:
        self_gates: Gates of the revision against itself.
        slow: Gates against a revision that is 10 % slower.
        slow5: Gates against a revision that is 5 % slower.
        processes: Pairs of processes of each gate, at most.
        pairs: Timed pairs in each.
        max_minutes: Of each gate.
        revision: The revision that is copied and measured.
        folder: Of trees and logs.
        out: Also append the table to this file.
        only: Kinds of trials.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    commit, tree = checkout(revision, folder / "trees")
    base = Side("base", commit, tree, Path(sys.executable))
    suite = override(SUITES["gate"], ["method=vidrd", "precision=fp32"])
    cells = [
        (label(item.cell.values, list(suite.axes)), dict(item.cell.values))
        for item in plan(suite, {})
        if not item.reference
    ]
    settings = Settings(processes, pairs, max_minutes=max_minutes)
    every = {"self": self_gates, "slow": slow, "slow5": slow5, "guidance": 1, "memory": 1, "recipe": 1}
    here = machine()
    how = (
        f"{datetime.now(UTC).date()}, revision {commit[:12]}, {here['cpu']}, {here['cores']} cores, load "
        f"{os.getloadavg()[2]:.1f} over the 15 minutes before; cell {cells[0][0]}, at most {processes} pairs of "
        f"processes and {max_minutes:g} minutes, {pairs} timed pairs in each, one thread, margin "
        f"{settings.margin:.0%}. speed: head against base with the interval of the last look; error: standard "
        "error of the ratio, and by the clock, which counts waiting for a core; n: timed pairs."
    )
    before = out.read_text(encoding="utf-8") + "\n" if out is not None and out.exists() else "# Trials of the gate\n\n"
    rows: list[dict[str, object]] = []
    for row in trials(base, folder, settings, {name: every[name] for name in only}, cells):
        rows.append(row)
        table = tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)
        if out is not None:  # after every row, so that an interruption loses none
            write_atomic(out, f"{before}{how}\n\n{table}\n")
    print(table)


if __name__ == "__main__":
    sys.exit(obey("bench.studies.gate_fault_injection", lambda: tyro.cli(main)))
