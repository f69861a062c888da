import numpy as np
import pytest

from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.results.records import InvalidError
from bench.speed import approximation_cell
from bench.speed.approximations import APPROXIMATION_SUITE, APPROXIMATIONS, MEASURES
from vidrd.precision import why_emulated

SMALL = ["videos=4", "batch=2", "frames=8", "window=8"]


def cell(name, tmp_path, steps=4):
    suite = override(APPROXIMATION_SUITE, [*SMALL, f"steps={steps}", f"approximation={name}"])
    (item,) = plan(suite, {})
    return Job(item.cell.values, tmp_path, None)


def test_the_exact_way_loses_nothing_against_itself(tmp_path):
    numbers = approximation_cell.run(cell("exact", tmp_path, steps=2)).numbers
    assert set(numbers) == set(MEASURES)
    assert numbers["pixel_change"].value == numbers["caption_loss"].value == 0
    assert abs(numbers["fvd_loss"].value) < 1e-9
    assert numbers["steps"].value == 2


def test_fewer_steps_are_faster_and_other_videos(tmp_path):
    measured = approximation_cell.run(cell("fifth-steps", tmp_path))
    assert measured.numbers["steps"].value == 1
    assert measured.numbers["speedup"].value > 1
    assert measured.numbers["pixel_change"].value > 0
    assert measured.numbers["fvd_loss"].low < measured.numbers["fvd_loss"].value < measured.numbers["fvd_loss"].high
    assert {len(times) for times in measured.samples.values()} == {2}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("dpmsolver-2/5", marks=pytest.mark.slow),
        pytest.param("unipc-2/5", marks=pytest.mark.slow),
        pytest.param("bf16", marks=pytest.mark.precision),
    ],
)
def test_every_kind_changes_the_videos_and_no_two_alike(name, tmp_path):
    steps = 2 if name == "bf16" else 4  # which a CPU may emulate
    changed = approximation_cell.run(cell(name, tmp_path, steps)).numbers["pixel_change"].value
    assert 0 < changed < 0.2


def test_reuse_does_less_of_the_network_in_the_same_steps(tmp_path):
    values = cell("reuse-2", tmp_path, steps=2).values
    flops, frames = {}, {}
    for name in ("exact", "reuse-2"):
        generator, steps = approximation_cell.generator(name, values)
        frames[name], _ = generator.make(["a red star"], 0, steps)
        flops[name] = sum(times * work.flops for times, work in generator.recorder.work()["denoise"])
        assert sum(generator.recorder.calls["denoise"].values()) == steps  # of one clip
    assert flops["reuse-2"] < 0.9 * flops["exact"]
    assert 0 < approximation_cell._change(frames["exact"], frames["reuse-2"]) < 0.2


def test_an_exact_way_that_changes_is_no_yardstick(tmp_path, monkeypatch):
    numbers = iter(range(100))
    real = approximation_cell.Generator.make

    def unsteady(self, *args):
        frames, cost = real(self, *args)
        return frames + np.uint8(next(numbers)), cost

    monkeypatch.setattr(approximation_cell.Generator, "make", unsteady)
    with pytest.raises(InvalidError, match="made other videos the second time"):
        approximation_cell.run(cell("exact", tmp_path, steps=2))


def test_a_loss_has_the_sign_that_its_name_says():
    worse = approximation_cell._number(approximation_cell.Estimate(-0.2, 0.01, 9, 10), -1)  # less probable than before
    assert worse.value == pytest.approx(0.2)
    assert worse.low < 0.2 < worse.high


def test_every_name_says_what_it_does_and_none_is_exact_but_one():
    for name, each in APPROXIMATIONS.items():
        assert each.says
        assert (name == "exact") == (each._replace(says="") == APPROXIMATIONS["exact"]._replace(says=""))


def test_what_cannot_run_says_why():
    reasons = {item.cell.values["approximation"]: item.skip for item in plan(APPROXIMATION_SUITE, {})}
    assert reasons.pop("fp8") == "8-bit products need a CUDA device of compute capability 8.9 or more"
    emulated = {name: why_emulated(APPROXIMATIONS[name].precision, "cpu") for name in reasons}
    assert all((reasons[name] or "").startswith(emulated[name] or "") for name in reasons)
    assert [name for name in reasons if reasons[name]] == [name for name in reasons if emulated[name]]
    assert None in reasons.values()
    for assignment, start in (
        ("batch=7", "24 videos do not come in batches of 7"),
        ("frames=15", "the classifier sees 16 frames: got videos of 15"),
        ("overlap=9", "an overlap is at most the clip: got 9 frames of clips of 8"),
    ):
        (reason,) = {item.skip for item in plan(override(APPROXIMATION_SUITE, [assignment, "approximation=exact"]), {})}
        assert reason.startswith(start)


@pytest.mark.slow
def test_other_models_are_timed_and_compared_without_a_judge(tmp_path):
    few = ["model=tiny:WanPipeline:2.1-euler", "frames=17", "clip=9", "videos=3", "batch=1", "steps=5"]
    names = ["approximation=unipc-2/5,reuse-2"]
    solver, reuse = plan(override(APPROXIMATION_SUITE, few + names), {})
    measured = approximation_cell.run(Job(solver.cell.values, tmp_path, None))
    assert measured.numbers["steps"].value == 2
    assert measured.numbers["pixel_change"].value > 0
    assert set(measured.absent.values()) == {"no judge knows the videos of this model"}
    assert set(measured.numbers) | set(measured.absent) == set(APPROXIMATION_SUITE.measures)
    assert "VidRD's U-Net" in reuse.skip
    odd = plan(override(APPROXIMATION_SUITE, [*few[:1], *names]), {})
    assert odd[0].skip == "this model's videos have 4k+1 frames: got 16, try 13 or 17"
