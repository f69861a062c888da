"""What turning a knob does to a model, and that its work is still counted."""

import numpy as np
import pytest
import torch

from baselines.models.families import tiny_model
from bench.hardware.network_calls import CallRecorder
from bench.results.records import InvalidError
from bench.videos.knobs.losses import SettingVideos, check_exact, latent_error, latent_shift, losses
from bench.videos.knobs.turning import turn

RNG = np.random.default_rng(0)


def answer(model):
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(1, model.channels, 3, *model.latent_shape()[1:], generator=draw)
    with torch.no_grad():
        return model.denoiser(["a dog runs"], guidance=4.0)(latents, torch.tensor(500.0))


def work_of(model):
    recorder = CallRecorder(model.pipe, dict.fromkeys(model.denoisers, "denoise"))
    made = answer(model)
    return made, [(times, one.flops) for times, one in recorder.work()["denoise"]]


@pytest.mark.parametrize(
    "values",
    [
        {"cache": "first-block:0.1", "attention": "_native_math", "layout": "channels-last"},
        pytest.param({"cache": "taylorseer"}, marks=pytest.mark.slow),
    ],
)
def test_a_knob_leaves_the_answer_and_the_count_of_its_work(values):
    plain, work = work_of(tiny_model("tiny:WanPipeline:2.1-euler"))
    model = tiny_model("tiny:WanPipeline:2.1-euler")
    turn(model, {"device": "cpu", **values})
    made, counted = work_of(model)
    torch.testing.assert_close(made, plain, atol=1e-5, rtol=1e-5)  # one call: a cache has nothing to go on from
    assert counted == work
    assert work[0][1] > 0


def test_a_backend_is_that_of_one_model():
    """diffusers' own setter makes it the backend of every model that names none."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry.get_active_backend()
    turn(tiny_model("tiny:WanPipeline"), {"device": "cpu", "attention": "_native_math"})
    assert _AttentionBackendRegistry.get_active_backend() == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blocks", "whole"])
def test_compiled_networks_answer_alike(kind):
    plain, work = work_of(tiny_model("tiny:WanPipeline:2.1-euler"))
    model = tiny_model("tiny:WanPipeline:2.1-euler")
    turn(model, {"device": "cpu", "compile": kind})
    made, counted = work_of(model)
    torch.testing.assert_close(made, plain, atol=1e-4, rtol=1e-4)
    assert counted == work


@pytest.mark.parametrize("kind", ["int8", "int8-dynamic", "fp8"])
def test_eight_bits_are_near(kind):
    pytest.importorskip("torchao", reason="8-bit layers need torchao")
    model = tiny_model("tiny:WanPipeline:2.1-euler")
    plain = answer(model)
    turn(model, {"device": "cpu", "quantize": kind})
    assert 0 < float((answer(model) - plain).norm() / plain.norm()) < 0.1


def test_losses_have_their_values():
    videos = RNG.integers(60, 200, (3, 8, 16, 16, 3), dtype=np.uint8)
    latents = RNG.standard_normal((3, 4, 2, 2, 2)).astype(np.float32)
    numbers, samples = losses(SettingVideos(videos, latents), SettingVideos(videos + 10, 1.1 * latents))
    assert numbers["psnr"].value == pytest.approx(20 * np.log10(25.5))
    assert numbers["latent_error"].value == pytest.approx(0.1, rel=1e-5)
    assert numbers["error_growth"].value == pytest.approx(0, abs=1e-9)
    assert len(samples["psnr"]) == 3
    same, _ = losses(SettingVideos(videos, latents), SettingVideos(videos, latents))
    assert (same["psnr"].value, same["ssim"].high, same["latent_error"].value) == (100, 1, 0)


def test_other_videos_of_the_same_distribution_have_no_shift():
    one, two = (RNG.standard_normal((8, 4, 8, 8, 8)) for _ in range(2))
    assert latent_error(one, two) > 1.3
    assert latent_shift(one, two) < 0.06
    assert latent_shift(one, two + 0.5) == pytest.approx(0.5, abs=0.06)


def test_an_exact_setting_that_is_not_is_invalid():
    videos = RNG.integers(0, 255, (2, 8, 16, 16, 3), dtype=np.uint8)
    latents = RNG.standard_normal((2, 4, 2, 2, 2))
    near, _ = losses(SettingVideos(videos, latents), SettingVideos(videos, latents * (1 + 1e-5)))
    check_exact(near, ["compile=whole"], "fp32")
    far, _ = losses(SettingVideos(videos, latents), SettingVideos(videos, latents * 1.01))
    with pytest.raises(InvalidError, match="compile=whole should compute the same as the plain model"):
        check_exact(far, ["compile=whole"], "fp32")
