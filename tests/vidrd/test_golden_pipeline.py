"""The released pipeline, step by step: its noise, its clips and its decoding."""

import numpy as np
import pytest
import torch

from tests.vidrd.released_goldens import NUMBERS, RELEASED, fill, rng
from vidrd.denoiser import GuidedDenoiser
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.noise import StreamNoise, mixed, progressive
from vidrd.sampler_contract import Request
from vidrd.sampling import Options, sample
from vidrd.schedule import Schedule


def golden(key):
    return torch.from_numpy(NUMBERS[key])


def assert_near(got, want, share):
    """Equal to a share of the largest absolute value."""
    assert float((got - want).abs().max()) <= share * float(want.abs().max())


@pytest.fixture(scope="module")
def unet():
    return fill(UNet3DConditionModel(**RELEASED["unet"]["sd21"]["config"]))


@pytest.fixture(scope="module")
def vae():
    return fill(AutoencoderKLTemporal.from_config(RELEASED["vae"]["config"]))


@pytest.mark.parametrize("run", RELEASED["pipeline"])
def test_every_step_and_the_video_equal_the_released_pipeline(run, unet, vae):
    given = RELEASED["pipeline"][run]
    B, clip, clips, steps = (
        given[key] for key in ("batch", "num_frames", "num_generated_clips", "num_inference_steps")
    )
    context, negative = (
        torch.from_numpy(rng(name).standard_normal((B, 7, 24)).astype(np.float32))
        for name in ("pipeline.prompt", "pipeline.negative")
    )
    denoise = GuidedDenoiser(unet, context, negative, guidance=given["guidance_scale"], clip=clip)
    schedule = Schedule.ddim(RELEASED["scheduler"], steps)
    assert list(schedule.timesteps) == golden(f"pipeline/{run}/timesteps").tolist()

    trace = {}

    def on_event(event):
        if event.kind == "step":
            trace[event.clip, event.step] = event.latents

    result = sample(
        denoise,
        schedule,
        Request(frames=clips * clip, clip=clip, shape=(4, given["height"] // 2, given["width"] // 2), seeds=(0,) * B),
        Options(
            overlap=given["extend_overlap_frames"],
            alpha=given["extend_noise_recycle"],
            beta=given["extend_denoise_guidance"],
            compat="released",
        ),
        noise=StreamNoise(torch.Generator().manual_seed(given["seed"]), batch=B),
        on_event=on_event,
    )
    for number in range(clips):
        for step, want in enumerate(golden(f"pipeline/{run}/clip_{number}/latents_by_step")):
            assert_near(trace[number, step], want, 1e-4)
        frames = result.latents[:, :, number * clip : (number + 1) * clip]
        assert_near(frames, golden(f"pipeline/{run}/clip_{number}/final_latents"), 1e-4)

    scaled = result.latents / RELEASED["vae"]["config"]["scaling_factor"]
    with torch.no_grad():
        images = vae.decode(scaled.transpose(1, 2).flatten(0, 1), num_frames=1).sample
    video = (images / 2 + 0.5).clamp(0, 1).unflatten(0, (B, -1)).transpose(1, 2)
    assert_near(video, golden(f"pipeline/{run}/video"), 1e-4)


@pytest.mark.parametrize("run", RELEASED["pipeline"])
def test_the_stream_draws_the_released_noise_to_the_bit(run):
    given = RELEASED["pipeline"][run]
    noise = StreamNoise(torch.Generator().manual_seed(given["seed"]), batch=given["batch"])
    shape = (4, given["num_frames"], given["height"] // 2, given["width"] // 2)
    assert torch.equal(noise("initial", 0, shape), golden(f"pipeline/{run}/initial_noise_draws"))
    scale = (1 / (1 + given["extend_noise_recycle"] ** 2)) ** 0.5
    for clip in range(1, given["num_generated_clips"]):
        assert torch.equal(noise("initial", clip, shape) * scale, golden(f"pipeline/{run}/fresh_noise_{clip}"))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_the_released_priors_to_the_bit(alpha):
    shape = (2, 3, 4, 2, 2)
    generator = torch.Generator().manual_seed(7)
    shared = torch.randn((2, 3, 1, 2, 2), generator=generator)
    own = torch.randn(shape, generator=generator)
    assert torch.equal(mixed(shared, own, alpha, "released"), golden(f"noise/randn_mixed/alpha_{alpha}"))

    stream = StreamNoise(torch.Generator().manual_seed(7), batch=2, noise_alpha=alpha)
    assert torch.equal(stream("initial", 0, shape[1:]), golden(f"noise/randn_progressive/alpha_{alpha}"))
    generator = torch.Generator().manual_seed(7)
    frames = torch.cat([torch.randn((2, 3, 1, 2, 2), generator=generator) for _ in range(4)], dim=2)
    assert torch.equal(progressive(frames, alpha, "released"), golden(f"noise/randn_progressive/alpha_{alpha}"))
