import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from bench.hardware.machine import ROOT
from bench.results.statistics import ratio
from bench.speed import round_robin
from bench.speed.models import MODELS
from bench.speed.peak_memory import allocations
from bench.speed.round_robin import MatrixProduct, Rounds, errors, time_variants
from bench.speed.speed_suites import MEASURES
from bench.speed.variants import REFERENCE, VARIANTS, BuiltVariant, Variant, bytes_of, cannot

QUICK = Rounds(most=2, seconds=1, least=2)
EAGER = [name for name, variant in VARIANTS.items() if cannot(variant, "cpu") is None and not variant.compiled]
pytestmark = pytest.mark.usefixtures("shapes_unchecked")
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
    assert not {work["modelscope"], work["animatediff"]} & {work["reference"], work["layout"]}


def test_shares_and_times_agree_with_each_other(climbed):
    for result in climbed.values():
        n = {name: number.value for name, number in result.numbers.items()}
        assert n["gflops"] == pytest.approx(n["gflop"] / n["step_seconds"])
        assert n["share"] == pytest.approx(100 * n["gflops"] / n["rate"])
        assert n["tflop_seconds"] == pytest.approx(1000 / n["gflops"])
        assert 0 < n["layer_share"] < n["share"] < 100


def test_peers_have_no_speed_up_over_other_mathematics(climbed):
    for name in ("modelscope", "animatediff"):
        assert "speedup" not in climbed[name].numbers
        assert climbed[name].numbers["flop_speedup"].value > 0


def test_the_reference_is_one_times_as_fast_as_itself(climbed):
    assert climbed["reference"].numbers["speedup"].value == 1
    assert climbed["reference"].numbers["flop_speedup"].value == pytest.approx(1)
    assert climbed["sdpa"].numbers["gain"] == climbed["sdpa"].numbers["speedup"]


@needs_bf16
def test_half_the_bytes_in_bf16(climbed):
    assert climbed["bf16"].numbers["weights"].value * 2 == climbed["guidance"].numbers["weights"].value


def test_the_bytes_of_weights_are_counted(climbed):
    unet = MODELS["tiny"].unet("cpu")
    assert climbed["guidance"].numbers["weights"].value == bytes_of(unet)
    assert climbed["guidance"].numbers["activations"].value > 0


def climb_with(steps, **options):
    """The reference, and a rung for every `step`: what that makes of our own network's, compared with the reference."""

    def rung(change):
        def make(bench, variant):
            built = VARIANTS["guidance"].make(bench, VARIANTS["guidance"])
            return BuiltVariant(lambda: change(built.step), built.weights)

        return Variant("planted", make, after=REFERENCE)

    variants = VARIANTS | {name: rung(change) for name, change in steps.items()}
    options = {"say": lambda line: None} | options
    return time_variants(MODELS["tiny"], "cpu", [REFERENCE, *steps], QUICK, variants=variants, **options)


def fail(step):
    raise RuntimeError("no such kernel\nand more")


PLANTED = {
    "another": lambda step: step() * 1.001,
    "not finite": lambda step: step() * math.nan,
    "fails": fail,
    "too much memory": lambda step: torch.empty(2**62),
    "slower": lambda step: [step() for _ in range(24)][-1],  # some six times as long as the reference
}


def test_planted_faults_are_named_take_no_other_rung_with_them_and_what_is_known_is_kept():
    kept = []
    results = climb_with(PLANTED, keep=kept.append)
    assert results["another"].status == results["not finite"].status == "invalid"
    assert "differs from the reference by 0.001" in results["another"].reason
    assert (results["fails"].status, results["fails"].reason) == ("failed", "RuntimeError: no such kernel")
    assert results["too much memory"].status in ("oom", "failed")
    assert results["slower"].numbers["gain"].value < 0.8
    assert [len(each["slower"].samples["step_seconds"]) for each in kept] == list(range(1, QUICK.most + 1))
    assert kept[-1] == results


@pytest.mark.slow
def test_a_rung_that_fails_later_loses_its_row_and_no_more():
    messages = []

    def later(step):
        if "round 1" in messages:
            raise RuntimeError("worn out")
        return step()

    assert climb_with({"later": later}, say=messages.append)["later"].reason == "RuntimeError: worn out"


@pytest.mark.slow
def test_skipped_work_is_faster_than_the_machine_and_invalid(monkeypatch):
    monkeypatch.setattr(MatrixProduct, "time", lambda self: setattr(self, "rate", 1.0))
    result = climb_with({"same": lambda step: step()})["same"]
    assert result.status == "invalid"
    assert "work was skipped, or the clock did not wait" in result.reason


def test_a_ladder_without_its_lower_rungs_does_not_stand():
    with pytest.raises(ValueError, match="add reference"):
        time_variants(MODELS["tiny"], "cpu", ["sdpa"], QUICK)
    with pytest.raises(ValueError, match="add layout"):
        time_variants(MODELS["tiny"], "cpu", ["reference", "guidance"], QUICK)


def test_what_two_have_in_common_leaves_with_the_ratio():
    noise = [1.0, 3.0, 1.5, 9.0, 1.2, 2.0]
    speedup = ratio([2 * x for x in noise], noise)
    assert (speedup.unit, speedup.better, speedup.n) == ("x", "higher", 6)
    assert [speedup.value, speedup.low, speedup.high] == pytest.approx([2, 2, 2])


def test_the_interval_of_a_ratio_holds_it():
    speedup = ratio([2.0, 2.2, 1.9, 2.1, 2.0, 2.05], [1.0, 1.05, 1.0, 0.95, 1.02, 1.0])
    assert speedup.low < speedup.value < speedup.high
    assert speedup.low < 2.04 < speedup.high


def test_errors_are_relative_to_the_expected_tensor():
    largest, rms = errors(torch.tensor([1.0, -4.0, 2.0]), torch.tensor([1.0, -4.0, 4.0]))
    assert largest == pytest.approx(0.5)
    assert rms == pytest.approx((4 / 33) ** 0.5)


def test_allocations_are_the_most_at_one_time():
    def two_and_then_one():
        a = torch.ones(1000, 1000)  # 4 MB
        b = a + 1
        del a
        return b * 2

    assert 8_000_000 <= allocations(two_and_then_one) < 8_100_000


def test_of_the_106_million_configuration_the_size_and_the_work_are_the_stated_ones():
    from bench.hardware.roofline import count
    from bench.speed.models import shell
    from vidrd.models.unet import UNet3DConditionModel

    model = MODELS["sd-106m"]
    unet = shell(UNet3DConditionModel, model.config)
    assert sum(p.numel() for p in unet.parameters()) == 106_189_444
    inputs = (torch.empty(2, 4, model.frames, model.side, model.side, device="meta"), torch.empty((), device="meta"))
    text = torch.empty(2, model.tokens, 256, device="meta")
    work = count(lambda: unet(*inputs, encoder_hidden_states=text))
    outside = sum(op.flops for op in work.ops if not op.name.startswith(round_robin.ATTENTION))
    assert work.flops / 1e12 == pytest.approx(0.364, abs=1e-3)
    assert outside / 1e12 == pytest.approx(0.323, abs=1e-3)


COMPILED = """
from bench.speed.round_robin import Rounds, time_variants
from bench.speed.models import MODELS

names = ["reference", "sdpa", "layout", "guidance", "compile", "modelscope-compile", "animatediff-compile"]
results = time_variants(MODELS["tiny"], "cpu", names, Rounds(2, 1, 2), say=lambda line: None)
assert {each.status for each in results.values()} == {"ok"}, results
assert results["compile"].numbers["error"].value < 1e-5
"""


@pytest.mark.slow
def test_compiled_rungs_are_equal_too_and_compile_once():
    """In a process whose shapes nobody checks: the checks would break the graph."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=ROOT)


@pytest.mark.gpu
def test_the_ladder_of_a_gpu():
    names = [name for name, variant in VARIANTS.items() if cannot(variant, "cuda") is None]
    results = time_variants(MODELS["pocket"], "cuda", names, QUICK)
    assert {result.status for name, result in results.items() if not VARIANTS[name].peer} == {"ok"}
    assert isinstance(MODELS["pocket"].unet("cuda"), nn.Module)
