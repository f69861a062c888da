import pytest
import torch

from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.methods import METHODS
from bench.speed.memory_cell import PeakTracker, held, planned, run
from bench.speed.speed_suites import MEMORY_SUITE


def cells(*assignments, model="tiny"):
    return plan(override(MEMORY_SUITE, ["device=cpu", f"model={model}", "steps=1", *assignments]), {})


def measured(tmp_path, **values):
    found = cells(*(f"{name}={value}" for name, value in values.items()))
    return run(Job(found[0].cell.values, tmp_path, None)).numbers


def test_vidrd_holds_one_clip_at_any_length_and_the_direct_window_holds_them_all(tmp_path):
    short, long = (measured(tmp_path, method="vidrd", overlap=1, frames=n) for n in (6, 16))
    growth = long["sample_peak"].value - short["sample_peak"].value
    assert growth <= 3 * (long["latents"].value - short["latents"].value)  # the video itself, and no activations
    direct = measured(tmp_path, method="direct", frames=16)
    assert direct["clips_held"].value > 4  # clips of 2 frames: 8 of them in one call


PLANS = ("vidrd", "direct", "codenoise", "freenoise", "replace", "fifo", "forcing")  # of each kind one


@pytest.mark.parametrize(
    "method", [name if name in PLANS else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_the_plan_predicts_what_is_held(tmp_path, method):
    numbers = measured(tmp_path, method=method, overlap=1, frames=8)
    assert 0.7 < numbers["of_plan"].value < 1.5
    assert numbers["of_plan"].value == pytest.approx(numbers["sample_peak"].value / numbers["planned_peak"].value)


def test_models_of_any_family_are_planned_and_measured(tmp_path):
    wan = "tiny:WanPipeline:2.1-euler"
    (item,) = cells("method=codenoise", "overlap=4", "frames=17", model=wan)
    numbers = run(Job(item.cell.values, tmp_path, None)).numbers
    assert 0.6 < numbers["of_plan"].value < 1.5
    assert numbers["latents"].value == 5 * 16 * 4 * 6 * 4
    (other,) = cells("method=direct", "frames=16", model=wan)
    assert other.skip == "this model's videos have 4k+1 frames: got 16, try 13 or 17"
    (queue,) = cells("method=fifo", "frames=33", model="tiny:CogVideoXPipeline")
    assert "one noise level for all frames" in queue.skip
    with pytest.raises(ValueError, match="models are of the families"):
        cells("method=direct", model="tiny:FluxPipeline")


def test_a_sampler_that_keeps_every_answer_is_seen():
    kept = []

    def leak():
        for _ in range(10):
            kept.append(torch.ones(1000) + 1)

    def no_leak():
        for _ in range(10):
            torch.ones(1000) + 1

    assert held(no_leak, "cpu")[0] == 8000
    assert held(leak, "cpu")[0] == 44_000


def test_views_and_inputs_are_no_new_memory():
    x = torch.ones(1000)
    with PeakTracker() as tracker:
        y = x.view(10, 100).t() + 1
        y.add_(x.view(10, 100).t())
    assert tracker.peak == 4000


def test_what_cannot_run_says_why():
    reasons = {str(item.skip) for item in plan(override(MEMORY_SUITE, ["model=full", "device=cpu"]), {})}
    assert reasons == {"hundreds of TFLOP are hours on a CPU: take a GPU, or model=pocket"}
    (item,) = cells("method=vidrd", "overlap=9", "frames=16")
    assert item.skip.startswith("an overlap is at most the clip")


def test_planned_memory_needs_no_run():
    (item,) = plan(override(MEMORY_SUITE, ["model=full", "method=vidrd", "frames=256", "precision=bf16"]), {})
    total, clip = planned(item.cell.values)
    assert 0 < clip < total < 1.1 * clip
