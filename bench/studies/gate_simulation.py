"""How often would the gate err? Simulated machines, on which the truth is known.

    python -m bench.studies.gate_simulation --comparisons 2000 --out docs/gate-simulation.md

A run's time is exp(drift + jitter + tail + process): an AR(1) drift that neighbours share, independent jitter, now and
then a much slower run, and an offset that a process keeps as long as it lives. The gate sees blocks of A B B A in
several pairs of fresh processes; the three usual rules see two sessions, one after the other, as with a stored
baseline, between which the machine has changed a little. All answer the same question: is B slower than A?
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from scipy.stats import mannwhitneyu, ttest_ind
from tabulate import tabulate

from bench.results.records import write_atomic
from bench.results.verdicts import Pair, confirm, speed
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
    pairs: int
    margin: float
    effects: tuple[float, ...]  # true slow-downs, as shares


MACHINES = (
    Machine("dedicated", 0.002, 0.9, 0.002, 0.01, 0.02, 0.0, 0.002, 20, 0.01, (0.0, 0.01, 0.02, 0.03)),
    Machine("dedicated, offsets", 0.002, 0.9, 0.002, 0.01, 0.02, 0.003, 0.002, 20, 0.01, (0.0, 0.01, 0.02, 0.03)),
    Machine("shared", 0.05, 0.8, 0.03, 0.10, 0.10, 0.0, 0.05, 30, 0.03, (0.0, 0.03, 0.05, 0.10, 0.15)),
    Machine("shared, offsets", 0.05, 0.8, 0.03, 0.10, 0.10, 0.02, 0.05, 30, 0.03, (0.0, 0.03, 0.05, 0.10, 0.15)),
    Machine("badly shared", 0.10, 0.9, 0.06, 0.20, 0.15, 0.0, 0.08, 30, 0.03, (0.0, 0.03, 0.05, 0.10, 0.15)),
)  # fmt: skip
PROCESSES = 5  # pairs of processes in one gate

Times = Float[np.ndarray, " N"]


def noise(machine: Machine, runs: int, random: np.random.Generator) -> Times:
    """ln(seconds) of consecutive runs of the same work in one process."""
    shocks = random.normal(0, machine.drift * np.sqrt(1 - machine.memory**2), runs)
    drift = np.empty(runs)
    level = random.normal(0, machine.drift)
    for i, shock in enumerate(shocks):
        level = machine.memory * level + shock
        drift[i] = level
    tail = random.exponential(machine.tail, runs) * (random.random(runs) < machine.slow)
    return drift + random.normal(0, machine.jitter, runs) + tail


def paired(machine: Machine, effect: float, random: np.random.Generator) -> list[Pair]:
    """A gate's measurement: A B B A blocks in pairs of processes, each block starting with a random side."""
    pairs = []
    for group in range(PROCESSES):
        offset = random.normal([0.0, np.log1p(effect)], machine.process)
        count = machine.pairs // PROCESSES
        times = noise(machine, 2 * count, random).reshape(count, 2)
        swapped = np.resize([False, True], count) ^ (random.random() < 0.5)
        for two, swap in zip(times, swapped, strict=True):
            a, b = two[::-1] if swap else two
            pairs.append(Pair(float(np.exp(a + offset[0])), float(np.exp(b + offset[1])), group))
    return pairs


def sessions(machine: Machine, effect: float, random: np.random.Generator) -> tuple[Times, Times]:
    """Seconds of two sessions, the second with the slower revision."""
    arms = []
    for slower in (0.0, np.log1p(effect)):
        offset = random.normal(0, machine.session) + random.normal(0, machine.process) + slower
        arms.append(np.exp(noise(machine, machine.pairs, random) + offset))
    return arms[0], arms[1]


def flat(a: Times, b: Times) -> bool:
    """The medians differ by more than 7 %."""
    return bool(np.median(b) > 1.07 * np.median(a))


def mann_whitney(a: Times, b: Times) -> bool:
    """Mann-Whitney's test at .002, and the medians differ by more than 10 %."""
    return bool(np.median(b) > 1.1 * np.median(a) and mannwhitneyu(b, a, alternative="two-sided").pvalue < 0.002)


def t_test(a: Times, b: Times) -> bool:
    """Student's test at .05, one-sided."""
    return bool(ttest_ind(b, a, alternative="greater").pvalue < 0.05)


RULES: dict[str, Callable[[Times, Times], bool]] = {
    "flat 7 %": flat,
    "Mann-Whitney .002 and 10 %": mann_whitney,
    "t test .05": t_test,
}


def study(comparisons: int, seed: int) -> Iterator[dict[str, object]]:
    """One row for each machine and effect: the share of comparisons that every rule calls slower."""
    for machine in MACHINES:
        for effect in machine.effects:
            random = np.random.default_rng([seed, round(effect * 1000), MACHINES.index(machine)])
            called = dict.fromkeys([*RULES, "gate, one session", "gate", "gate: PASS"], 0)
            for _ in range(comparisons):
                a, b = sessions(machine, effect, random)
                for name, rule in RULES.items():
                    called[name] += rule(a, b)
                first = speed("", paired(machine, effect, random), margin=machine.margin)
                called["gate: PASS"] += first.verdict == "PASS"
                if first.verdict == "FAIL":
                    called["gate, one session"] += 1
                    again = speed("", paired(machine, effect, random), margin=machine.margin)
                    called["gate"] += confirm(first, again).verdict == "FAIL"
            yield {
                "machine": f"{machine.name}, {machine.pairs} pairs, margin {machine.margin:.0%}",
                "slower by": f"{effect:.0%}",
                **{name: f"{100 * times / comparisons:.1f} %" for name, times in called.items()},
            }


def main(comparisons: int = 2000, seed: int = 0, out: Path | None = None) -> None:
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
            f"`python -m bench.studies.gate_simulation --comparisons {comparisons} --seed {seed}`: each row "
            f"{comparisons} simulated comparisons of two revisions, the second slower by what the second column says. "
            f"Every other column: the share that a rule calls slower.\n\n{table}\n\n"
            "* The gate: A B B A blocks in five pairs of processes, one run; `gate` asks a second session to confirm, "
            "as `python -m bench gate` does. At no effect, and up to the margin, a call is a false alarm.\n"
            "* offsets: every process is slower or faster by something of its own as long as it lives.\n"
            "* The other three rules see two sessions one after the other, as a stored baseline and a later run are.\n"
            "* What is neither called slower nor `gate: PASS` is INCONCLUSIVE.\n\n"
            f"Noise, as standard deviations of ln(seconds):\n\n{models}\n",
        )


if __name__ == "__main__":
    sys.exit(obey("bench.studies.gate_simulation", lambda: tyro.cli(main)))
