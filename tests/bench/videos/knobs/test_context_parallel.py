"""One video on several CPU processes through diffusers' own context parallelism: the same video as on one."""

import os
import signal
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist

from bench.commands.device_options import fitted
from bench.hardware.roofline import Peaks
from bench.harness.cell_pool import Workers
from bench.harness.cell_process import task_of
from bench.harness.job import Job
from bench.harness.ranks import RankError, on_ranks
from bench.harness.runner import by_need
from bench.harness.suite_spec import override, plan, select
from bench.results.records import InvalidError
from bench.videos import length_cell
from bench.videos.generator import Generator
from bench.videos.knobs.context_parallel import Ensemble, on_devices
from bench.videos.knobs.losses import SCALING
from bench.videos.length_suite import LENGTHS
from bench.videos.predict import predict
from bench.videos.trace import trace

WAN = "tiny:WanPipeline:2.1-euler"
FEW = ("precision=fp32", "device=cpu", "videos=3", "steps=2", "frames=17", "method=independent")


def planned(*assignments, model=WAN):
    named = {word.partition("=")[0] for word in assignments}
    few = [word for word in FEW if word.partition("=")[0] not in named]
    return plan(override(LENGTHS, [f"model={model}", *few, *assignments]), {})


pytestmark = pytest.mark.filterwarnings("ignore:.*all_gather_tensor:FutureWarning")


def made(values):
    """The latents of one batch on this rank, the tokens that its last block saw, and the work that was counted."""
    generator, tokens = Generator(values), set()
    block = generator.pipe.transformer.blocks[-1]
    block.register_forward_pre_hook(lambda _, args: tokens.add(args[0].shape[1]))
    generator.kept = []
    generator.make(["a dog runs"], 0, int(values["steps"]))
    work = [(times, one.flops) for times, one in generator.recorder.work()["denoise"]]
    return generator.kept[0], tokens, work


@pytest.mark.parametrize(
    ("assignments", "model"),
    [
        ((), WAN),
        pytest.param(("method=fifo",), WAN, marks=pytest.mark.slow),  # a level for each frame
        pytest.param((), "tiny:WanPipeline:2.2-A14B", marks=pytest.mark.slow),
        pytest.param((), "tiny:WanPipeline:2.2-TI2V-5B", marks=pytest.mark.slow),
    ],
)
def test_two_ranks_make_the_video_of_one_and_half_of_it_each(assignments, model):
    *_, item = planned("gpus=2", *assignments, model=model)
    assert item.skip is None, item.skip
    one, whole, work = made({**item.cell.values, "gpus": "1"})
    both, half, counted = on_devices(item.cell.values, partial(made, item.cell.values), Generator)
    assert half == {tokens // 2 for tokens in whole}
    np.testing.assert_allclose(both, one, atol=1e-4, rtol=1e-4)
    assert counted == work
    assert work[0][1] > 0


def test_latents_that_differ_between_ranks_are_refused():
    with pytest.raises(InvalidError, match="all ranks make the same latents: rank 1 made others than rank 0"):
        on_ranks(2, differ, differ, on_gpu=False)


def differ():
    """Latents of this rank alone."""
    Ensemble.check_equal(torch.full((1, 1, 1, 1, 1), float(dist.get_rank())))


@pytest.mark.parametrize(
    ("assignment", "model", "why"),
    [
        ("gpus=2", "tiny:CogVideoXPipeline", "CogVideoXTransformer3DModel has no plan for context parallelism"),
        ("gpus=2", "tiny:LTXPipeline", "but not the mask that LTX gives each of them"),
        ("gpus=8", WAN, "one video on 8 devices needs 8 cores: 4 are here"),
        ("gpus=3", WAN, "2 heads of attention are too few for 3 devices"),
        ("gpus=ring:2", WAN, "which on a CPU no backend returns"),
    ],
)
def test_who_cannot_share_a_video_says_why(assignment, model, why, monkeypatch):
    monkeypatch.setattr("bench.videos.knobs.settings.usable_cores", lambda: range(4))
    frames = "frames=33" if "Cog" in model else "frames=17"
    assert why in planned(assignment, frames, model=model)[-1].skip


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ("cache=first-block", "use cache=none"),
        ("attention=_native_math", "does not compute in parts"),
        ("equal=seconds", "use equal=steps"),
        ("height=48", "2 do not divide its tokens"),  # 3 x 3 x 3 of them
    ],
)
def test_what_ranks_cannot_do_together_is_refused(other, why):
    assert why in planned("gpus=2", other)[-1].skip


def test_a_ring_has_a_number():
    with pytest.raises(ValueError, match="two devices or more: got gpus=ring, write gpus=ring:2"):
        planned("gpus=ring")


def test_a_cell_is_compared_with_its_settings_on_one_device_and_that_with_the_plain_model():
    items = planned("gpus=2", "layout=channels-last")
    chain = [("1", "own"), ("1", "channels-last"), ("2", "channels-last")]
    suite = override(LENGTHS, ["gpus=2", "layout=channels-last"])
    for ordered in (items, by_need(items[::-1], suite), select(items, suite, ["gpus=2"], ())):
        assert [(item.cell.values["gpus"], item.cell.values["layout"]) for item in ordered] == chain
    tasks = [task_of(item, suite) for item in items]
    assert [task.reference for task in tasks] == [None, *(item.cell.id for item in items[:2])]


def test_cells_of_several_devices_take_those_of_one_machine():
    for workers in (Workers(("cpu:0", "cpu:1")), Workers(ray=True)):
        with pytest.raises(ValueError, match="leave --devices and --ray out"):
            fitted(workers, LENGTHS, planned("gpus=2"))
    assert fitted(Workers(ray=True), LENGTHS, planned("gpus=1")) == Workers(ray=True)


@pytest.fixture(scope="module")
def on_one(tmp_path_factory):
    """The cell of one device."""
    folder = tmp_path_factory.mktemp("one")
    item = planned("gpus=1")[-1]
    return folder, run_cell(item.cell.values, folder, None)


def run_cell(values, folder, reference):
    """A cell on ranks; the process that starts them computes nothing."""
    suite = override(LENGTHS, ["gpus=1"])
    return length_cell.run(Job(dict(values), folder, reference, tuple(suite.measures)))


@pytest.mark.slow
def test_a_cell_on_two_devices_has_every_measure_and_says_how_it_scales(on_one, tmp_path):
    folder, one = on_one
    assert one.facts["threads"] == "1"
    values = planned("gpus=2")[-1].cell.values
    measured = run_cell(values, tmp_path, folder)
    suite = override(LENGTHS, ["gpus=1"])
    assert set(suite.measures) == set(measured.numbers) | set(measured.absent)
    assert set(SCALING) <= set(one.absent)
    gain, efficiency = (measured.numbers[name] for name in SCALING)
    assert efficiency.value == pytest.approx(50 * gain.value)
    assert gain.n == 3
    assert measured.numbers["latent_error"].value < 1e-5
    assert measured.facts["threads"] == "1"


def test_a_rank_that_dies_ends_the_cell_with_its_error(tmp_path, monkeypatch):
    def die(self, latents):
        if dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()

    monkeypatch.setattr(Ensemble, "check_equal", die)
    with pytest.raises(RankError, match="rank 1 of 2 was killed by SIGKILL"):
        run_cell(planned("gpus=2")[-1].cell.values, tmp_path, None)


def test_devices_share_the_least_time_of_a_call_and_a_profile_is_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.videos.predict.stored", lambda device: Peaks({"float32": 1e9}, 1e9, 1e9))
    one, two = (predict(planned(f"gpus={devices}")[-1].cell.values) for devices in (1, 2))
    assert two.flops == one.flops
    assert one.seconds / 2 < two.seconds < one.seconds  # decoding is each one's own
    with pytest.raises(ValueError, match="a profile is of one device: got gpus=2"):
        trace(planned("gpus=2")[-1].cell, tmp_path)
