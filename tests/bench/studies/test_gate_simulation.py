"""The study itself is run by hand (bench/studies/gate_simulation.py); here only that it tells truth from noise."""

from dataclasses import replace

import numpy as np
import pytest

from bench.studies.gate_simulation import MACHINES, fixed, flat, noise, retried, sequential, sessions

SHARED = next(machine for machine in MACHINES if machine.name == "shared")


def gates(effect, comparisons=60):
    random = np.random.default_rng(5)
    verdicts, lengths = zip(*(sequential(SHARED, effect, random) for _ in range(comparisons)), strict=True)
    return verdicts.count("FAIL") / comparisons, verdicts.count("PASS") / comparisons, np.median(lengths)


def test_the_gate_passes_what_is_no_slower_and_fails_what_is_a_tenth_slower():
    fail, passed, length = gates(0.0)
    assert (fail, passed >= 0.95) == (0.0, True)
    assert length < 20
    fail, passed, length = gates(0.10)
    assert (fail >= 0.95, passed) == (True, 0.0)
    assert length < 12


def test_the_fixed_design_cannot_tell_as_often():
    random = np.random.default_rng(5)
    verdicts = [fixed(SHARED, 0.0, random) for _ in range(60)]
    assert verdicts.count("INCONCLUSIVE") > 15


def test_a_flat_rule_between_sessions_cries_wolf_and_retries_miss_what_is_there():
    random = np.random.default_rng(5)
    assert sum(flat(*sessions(SHARED, 0.0, random)) for _ in range(300)) > 20
    slower = [sessions(SHARED, 0.10, random) for _ in range(300)]
    assert sum(retried(*arms) for arms in slower) < sum(flat(*arms) for arms in slower) - 20


def test_the_noise_has_the_spread_and_memory_that_the_model_says():
    calm = replace(SHARED, slow=0.0, jitter=0.0)
    series = noise(calm, 40_000, np.random.default_rng(0))
    assert series.std() == pytest.approx(calm.drift, rel=0.05)
    assert np.corrcoef(series[1:], series[:-1])[0, 1] == pytest.approx(calm.memory, abs=0.02)
