"""The study itself is run by hand (bench/studies/gate_simulation.py); here only that it tells truth from noise."""

from dataclasses import replace

import numpy as np
import pytest

from bench.results.verdicts import speed
from bench.studies.gate_simulation import MACHINES, flat, noise, paired, sessions

SHARED = next(machine for machine in MACHINES if machine.name == "shared")


def rate(effect, comparisons=150):
    random = np.random.default_rng(5)
    verdicts = [speed("", paired(SHARED, effect, random)).verdict for _ in range(comparisons)]
    return verdicts.count("FAIL") / comparisons


def test_the_gate_is_quiet_without_an_effect_and_sees_a_tenth():
    assert rate(0.0) <= 0.01
    assert rate(0.10) >= 0.9


def test_a_flat_rule_between_sessions_cries_wolf():
    random = np.random.default_rng(5)
    assert sum(flat(*sessions(SHARED, 0.0, random)) for _ in range(300)) > 20


def test_the_noise_has_the_spread_and_memory_that_the_model_says():
    calm = replace(SHARED, slow=0.0, jitter=0.0)
    series = noise(calm, 40_000, np.random.default_rng(0))
    assert series.std() == pytest.approx(calm.drift, rel=0.05)
    assert np.corrcoef(series[1:], series[:-1])[0, 1] == pytest.approx(calm.memory, abs=0.02)
