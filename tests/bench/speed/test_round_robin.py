import math
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from bench.hardware.machine import ROOT
from bench.speed import round_robin
from bench.speed.models import MODELS
from bench.speed.peak_memory import allocations
from bench.speed.round_robin import MatrixProduct, Rounds, errors, ratio, time_variants
from bench.speed.speed_suites import MEASURES
from bench.speed.variants import REFERENCE, VARIANTS, BuiltVariant, Variant, bytes_of, cannot

QUICK = Rounds(most=2, seconds=1, least=2)
EAGER = [name for name, variant in VARIANTS.items() if cannot(variant, "cpu") is None and not variant.compiled]
needs_bf16 = pytest.mark.skipif("bf16" not in EAGER, reason="bf16 is emulated on this CPU")


@pytest.fixture(scope="module")
def climbed():
    """A whole ladder of the tiny network, without what takes a compiler."""
    return time_variants(MODELS["tiny"], "cpu", EAGER, QUICK, say=lambda line: None)


def test_every_rung_is_measured_and_has_each_number_or_says_why_not(climbed):
    assert set(climbed) == set(EAGER) >= {"reference", "sdpa", "layout", "guidance", "modelscope", "animatediff"}
    for name, result in climbed.items():
        assert result.status == "ok", (name, result.reason)
        assert set(result.numbers) | set(result.absent) == set(MEASURES)
        assert not set(result.numbers) & set(result.absent)
        assert len(result.samples["step_seconds"]) == 2


def test_exact_rungs_are_equal_to_rounding(climbed):
    for name, result in climbed.items():
        if VARIANTS[name].exact:
            assert result.numbers["error"].value < 1e-5
    assert climbed["reference"].numbers["error"].value == 0


@needs_bf16
def test_bf16_is_not_equal_but_near(climbed):
    assert 1e-4 < climbed["bf16"].numbers["error"].value < round_robin.TOLERANCES["bf16"]
    assert 1e-4 < climbed["bf16"].numbers["error_rms"].value < round_robin.TOLERANCES["bf16"]


def test_each_rung_counts_what_it_does_itself(climbed):
    work = {name: result.numbers["gflop"].value for name, result in climbed.items()}
    assert work["reference"] == work["sdpa"]
    assert work["layout"] == work["guidance"] == work.get("bf16", work["guidance"])
    assert work["guidance"] <= work["reference"]  # the network may save some
