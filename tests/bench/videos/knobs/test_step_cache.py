"""Step caches under samplers that call the network for several clips and windows."""

import pytest
import torch

from baselines.models.families import tiny_model
from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.results.records import InvalidError
from bench.videos import length_cell
from bench.videos.knobs.losses import firing_numbers
from bench.videos.knobs.step_cache import StepCache
from bench.videos.knobs.turning import turn
from bench.videos.length_suite import LENGTHS

LEVELS = [torch.tensor(float(level)) for level in (900, 800, 700, 600, 500)]


def cached(setting, pipeline="WanPipeline:2.1-euler"):
    model = tiny_model(f"tiny:{pipeline}")
    return model, turn(model, {"cache": setting, "device": "cpu"})


def states(model, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(1, model.channels, 3, *model.latent_shape()[1:], generator=draw)


@torch.no_grad()
def answers(model, windows, levels=LEVELS):
    """The network's answers for each of the windows, all of them called at every level."""
    denoise = model.denoiser(["a dog runs"], guidance=4.0)
    made = [[] for _ in windows]
    for number, level in enumerate(levels):
        for answer, latents in zip(made, windows, strict=True):
            answer.append(denoise(latents * (1 - 0.1 * number), level))
    return [torch.stack(each) for each in made]


@pytest.mark.parametrize(
    "setting", ["first-block:0.2", pytest.param("taylorseer:2", marks=pytest.mark.slow), "mag:0.5"]
)
def test_windows_have_states_of_their_own(setting):
    model, cache = cached(setting)
    one, two = states(model, 1), states(model, 2)
    if not cache.calibrated:
        cache.calibrate(lambda: answers(model, [one, two]))
    alone = [answers(model, [window])[0] for window in (one, two)]
    together = answers(model, [one, two])
    firing = cache.count(lambda: answers(model, [one, two]))
    assert firing.calls == 2 * len(LEVELS)
    assert 0 < firing.fired < firing.calls
    assert 0 < firing.skipped < 1
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b)


def test_a_clip_begins_with_nothing_remembered():
    model, _ = cached("taylorseer:2")
    first = answers(model, [states(model, 1)])[0]
    answers(model, [states(model, 2)])  # another clip, from the highest level again
    torch.testing.assert_close(answers(model, [states(model, 1)])[0], first)


def test_parts_of_a_divided_call_have_states_of_their_own():
    """SkyReels gets both branches of guidance one after the other: neither may go on from the other."""
    model, _ = cached("taylorseer:2", "SkyReelsV2DiffusionForcingPipeline")
    latents = states(model, 1)
    guided = answers(model, [latents])[0]
    branches = []
    for prompt in ("", "a dog runs"):
        denoise = model.denoiser([prompt], guidance=1.0)
        with torch.no_grad():
            branches.append(torch.stack([denoise(latents * (1 - 0.1 * n), level) for n, level in enumerate(LEVELS)]))
    away, towards = branches
    torch.testing.assert_close(guided, away + 4.0 * (towards - away), atol=1e-4, rtol=1e-4)


def test_a_cache_of_one_state_refuses_several_calls_a_step():
    model, _ = cached("pab")
    with pytest.raises(ValueError, match="keeps the state of one call a step, here are several"):
        answers(model, [states(model, 1), states(model, 2)])
    with pytest.raises(ValueError, match="needs one level for all frames"):
        model.call(states(model, 1), torch.full((1, 3), 500.0))


def test_a_threshold_that_never_fires_is_invalid():
    model, cache = cached("first-block:0.000001")
    firing = cache.count(lambda: answers(model, [states(model, 1)]))
    assert (firing.calls, firing.fired, firing.skipped) == (5, 0, 0.0)
    with pytest.raises(InvalidError, match="fired in none of 5 calls"):
        firing_numbers(firing, "first-block:0.000001")
    plain = answers(tiny_model("tiny:WanPipeline:2.1-euler"), [states(model, 1)])[0]
    torch.testing.assert_close(answers(model, [states(model, 1)])[0], plain)


def test_numbers_of_a_setting_reach_diffusers():
    model = tiny_model("tiny:CogVideoXPipeline")
    cache = StepCache(model, "faster:3")
    config = cache._config(model.pipe.transformer)
    assert (config.unconditional_batch_skip_range, config.tensor_format) == (3, "BFCHW")
    assert StepCache(tiny_model("tiny:WanPipeline"), "first-block")._config(model.pipe.transformer).threshold == 0.05


def test_the_batch_that_counts_how_often_a_cache_fires_is_no_work_of_the_timed_ones(tmp_path, monkeypatch):
    few = ("frames=9", "method=direct", "precision=fp32", "device=cpu", "videos=3", "steps=4", "cache=first-block:0.5")
    plain, cached_ = plan(override(LENGTHS, ["model=tiny:WanPipeline:2.1-euler", *few]), {})
    decoded = []

    def count(recorder, seconds, **more):
        decoded.append((sum(recorder.calls["decode"].values()), more["batches"]))
        return {}, {}

    monkeypatch.setattr("bench.videos.cell.roofline_shares", count)
    names = (*LENGTHS.measures, *LENGTHS.extra)
    for item, reference in ((plain, None), (cached_, tmp_path / plain.cell.id)):
        (tmp_path / item.cell.id).mkdir()
        measured = length_cell.run(Job(item.cell.values, tmp_path / item.cell.id, reference, names))
        assert set(names) == set(measured.numbers) | set(measured.absent)
    assert decoded == [(3, 3), (3, 3)]
    assert measured.numbers["fired"].value > 0
    assert measured.absent["cold_seconds"].startswith("a step cache takes all steps to fire")
