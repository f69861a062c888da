"""How often would the gate err? Simulated machines, on which the truth is known.

    python -m bench.studies.gate_simulation --out docs/gate-simulation.md

A run's time is exp(drift + jitter + tail + process): an AR(1) drift that neighbours share, independent jitter, now and
then a much slower run, and an offset that a process keeps as long as it lives. The gate sees blocks of A B B A in
pairs of fresh processes, as many as it takes to decide; the usual rules see two sessions, one after the other, as with
a stored baseline, between which the machine has changed a little. All answer the same question: is B slower than A?
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from scipy.signal import lfilter
from scipy.stats import mannwhitneyu
from tabulate import tabulate

from bench.regression.interleaved import Settings
from bench.regression.speed_test import SpeedTest, look
from bench.results.records import write_atomic
from bench.results.verdicts import ALPHA, MISS, Pair, speed
from vidrd.entry import obey


@dataclass(frozen=True)
class Machine:
    """A noise model; all spreads are standard deviations of ln(seconds)."""

    name: str
    drift: float  # of the AR(1) part
    memory: float  # correlation of the drift from one run to the next
    jitter: float
    tail: float  # mean of the exponential slow-down of a slow run
    slow: float  # share of slow runs
    process: float  # offset of a process
    session: float  # offset of a session, which stored baselines meet and paired runs do not
    pairs: int  # that a session of the usual rules measures
    margin: float
    effects: tuple[float, ...]  # true slow-downs, as shares


MACHINES = (
    Machine("dedicated", 0.002, 0.9, 0.002, 0.01, 0.02, 0.0, 0.002, 20, 0.01, (0.0, 0.01, 0.02, 0.03)),
    Machine("dedicated, offsets", 0.002, 0.9, 0.002, 0.01, 0.02, 0.003, 0.002, 20, 0.01, (0.0, 0.01, 0.02, 0.03)),
    Machine("shared", 0.05, 0.8, 0.03, 0.10, 0.10, 0.0, 0.05, 30, 0.03, (0.0, 0.03, 0.05, 0.10, 0.15)),
    Machine("shared, offsets", 0.05, 0.8, 0.03, 0.10, 0.10, 0.02, 0.05, 30, 0.03, (0.0, 0.03, 0.05, 0.10, 0.15)),
    Machine("badly shared", 0.10, 0.9, 0.06, 0.20, 0.15, 0.0, 0.08, 30, 0.03, (0.0, 0.03, 0.05, 0.10, 0.15)),
)  # fmt: skip
MOST, PAIRS = Settings.processes, Settings.pairs  # pairs of processes in a gate, and timed pairs in each
FIXED = 5  # pairs of processes of the fixed design
TRIES = 3  # sessions that must all be slower before the rule with retries calls it
SECONDS = 20  # of a pair of processes of one cell, on two cores (docs/gate-trials.md)

Times = Float[np.ndarray, " N"]


def noise(machine: Machine, runs: int, random: np.random.Generator) -> Times:
    """ln(seconds) of consecutive runs of the same work in one process."""
    shocks = random.normal(0, machine.drift * np.sqrt(1 - machine.memory**2), runs)
    shocks[0] = random.normal(0, machine.drift)
    drift = lfilter([1.0], [1.0, -machine.memory], shocks)
    tail = random.exponential(machine.tail, runs) * (random.random(runs) < machine.slow)
    return drift + random.normal(0, machine.jitter, runs) + tail


def paired(machine: Machine, effect: float, random: np.random.Generator, group: int = 0) -> list[Pair]:
    """What one pair of processes of a gate measures: A B B A blocks, the first with a random side first."""
    offset = random.normal([0.0, np.log1p(effect)], machine.process)
    times = noise(machine, 2 * PAIRS, random).reshape(PAIRS, 2)
    swapped = np.resize([False, True], PAIRS) ^ (random.random() < 0.5)
    times[swapped] = times[swapped, ::-1]
    return [Pair(a, b, group) for a, b in np.exp(times + offset).tolist()]


def fixed(machine: Machine, effect: float, random: np.random.Generator) -> str:
    """The verdict of a gate that always measures as much: one look, and a FAIL must come again in a second session."""

    def session() -> str:
        pairs = [pair for group in range(FIXED) for pair in paired(machine, effect, random, group)]
        return speed("", pairs, margin=machine.margin).verdict

    first = session()
    return "INCONCLUSIVE" if first == "FAIL" and session() != "FAIL" else first


def sequential(machine: Machine, effect: float, random: np.random.Generator) -> tuple[str, int]:
    """The verdict of the gate, and the pairs of processes that it took."""
    test = SpeedTest("", machine.margin)
    for group in range(MOST):
        test.pairs += paired(machine, effect, random, group)
        look([test], (group + 1) / MOST, among=1)
        if test.decided:
            break
    assert test.finding is not None
    return test.finding.verdict, group + 1


def sessions(machine: Machine, effect: float, random: np.random.Generator) -> list[Times]:
    """Seconds of the base's session, and of several later ones with the slower revision."""
    arms = []
    for slower in (0.0, *(TRIES * [np.log1p(effect)])):
        offset = random.normal(0, machine.session) + random.normal(0, machine.process) + slower
        arms.append(np.exp(noise(machine, machine.pairs, random) + offset))
    return arms


def flat(base: Times, head: Times, *more: Times) -> bool:
    """The medians differ by more than 7 %."""
    return bool(np.median(head) > 1.07 * np.median(base))


def retried(base: Times, *heads: Times) -> bool:
    """Every session of the head is more than 7 % slower: a job that fails is started again, and may pass."""
    return all(flat(base, head) for head in heads)


def mann_whitney(base: Times, head: Times, *more: Times) -> bool:
    """Mann-Whitney's test at .002, and the medians differ by more than 10 %."""
    slower = np.median(head) > 1.1 * np.median(base)
    return bool(slower and mannwhitneyu(head, base, alternative="two-sided").pvalue < 0.002)


RULES: dict[str, Callable[..., bool]] = {
    "flat 7 %": flat,
    f"flat 7 %, {TRIES} tries": retried,
    "Mann-Whitney .002 and 10 %": mann_whitney,
}


def study(comparisons: int, seed: int) -> Iterator[dict[str, object]]:
    """One row for each machine and effect: the share of comparisons that every rule calls slower."""
    for machine in MACHINES:
        for effect in machine.effects:
            random = np.random.default_rng([seed, round(effect * 1000), MACHINES.index(machine)])
            called: Counter[str] = Counter()
            lengths = []
            for _ in range(comparisons):
                arms = sessions(machine, effect, random)
                called.update(name for name, rule in RULES.items() if rule(*arms))
                verdict, length = sequential(machine, effect, random)
                called.update([f"fixed: {fixed(machine, effect, random)}", f"gate: {verdict}"])
                lengths.append(length)
            columns = [*RULES, "fixed: FAIL", "fixed: PASS", "gate: FAIL", "gate: PASS"]
            long = np.quantile(lengths, 0.9)
            yield {
                "machine": f"{machine.name}, margin {machine.margin:.0%}",
                "slower by": f"{effect:.0%}",
                **{name: f"{100 * called[name] / comparisons:.1f} %" for name in columns},
                "processes": f"{np.mean(lengths):.1f}, {long:.0f}",
                "minutes": f"{np.mean(lengths) * SECONDS / 60:.1f}, {long * SECONDS / 60:.0f}",
            }


def main(comparisons: int = 500, seed: int = 0, out: Path | None = None) -> None:
    """Print the study's table.

    Args:
        comparisons: Simulated for each row.
        seed: Of all noise.
        out: Also write the table, with its words of explanation, into this file.
    """
    rows = list(study(comparisons, seed))
    table = tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)
    print(table)
    if out is not None:
        models = tabulate(
            [(m.name, m.drift, m.memory, m.jitter, m.tail, m.slow, m.process, m.session) for m in MACHINES],
            headers=("machine", "drift", "its memory", "jitter", "tail", "share slow", "process", "session"),
            tablefmt="pipe",
        )
        write_atomic(
            out,
            "# How often the gate errs\n\n"
            "On simulated machines the truth is known, so this page can say how often the gate calls an unchanged "
            "revision slower or misses a slow-down, and how often the usual rules do. Each row has "
            f"{comparisons} simulated comparisons of two revisions, the second slower by `slower by`. The other "
            "columns are the share that a rule calls slower, the verdicts of two gates, and what the gate needs for "
            f"them. Made by `python -m bench.studies.gate_simulation --comparisons {comparisons} --seed {seed}`."
            f"\n\n{table}\n\n"
            "* What is neither FAIL nor PASS is INCONCLUSIVE. Up to the margin, FAIL is a false alarm; above the "
            "margin, PASS is a miss.\n"
            f"* gate: A B B A blocks, {PAIRS} timed pairs in a pair of processes; a look after each pair of processes "
            f"from the third on, {MOST} at most, as `python -m bench gate` does. Over all looks together, a FAIL at "
            f"the margin is meant to come in {ALPHA:.0%}, a PASS at the margin in {MISS:.0%}; few "
            "processes make it a little more.\n"
            f"* processes, minutes: pairs of processes until the verdict, mean and 90 % quantile, and the minutes that "
            f"they take at {SECONDS} s each, as one cell on two cores.\n"
            f"* fixed: {FIXED} pairs of processes and one look at 1 %; a FAIL must come again in {FIXED} more.\n"
            "* flat, Mann-Whitney: these three rules see two sessions one after the other, as a stored baseline and a "
            f"later run are; with {TRIES} tries the later one is repeated while it is too slow, as a failed job is "
            "started again.\n"
            "* offsets: every process is faster or slower than others by a constant of its own.\n\n"
            f"The noise of each machine, as standard deviations of ln(seconds):\n\n{models}\n",
        )


if __name__ == "__main__":
    sys.exit(obey("bench.studies.gate_simulation", lambda: tyro.cli(main)))
