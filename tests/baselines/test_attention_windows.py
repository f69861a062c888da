"""Temporal attention of diffusers' U-Nets in windows: each window is a call of its own, and nothing is left behind."""

from dataclasses import replace

import pytest
import torch

from baselines import freenoise
from baselines.freenoise import Options, attention_windows
from baselines.models.attention_windows import attend_in, temporal_blocks
from baselines.models.families import tiny_model
from vidrd.models.blocks import TimeWindows
from vidrd.sampler_contract import Request

CLIP = 4
APART = TimeWindows(torch.arange(8).reshape(2, CLIP), torch.ones(2, CLIP), 8)


@pytest.fixture(scope="module", params=["AnimateDiffPipeline", "TextToVideoSDPipeline"])
def model(request):
    return tiny_model(f"tiny:{request.param}", clip=CLIP)


def blocks(model):
    return temporal_blocks(model.pipe.unet)


def hooks(model):
    return [name for name, part in model.pipe.unet.named_modules() if "forward" in part.__dict__]


@torch.no_grad()
def test_each_window_is_attended_alone_and_from_its_own_first_position(model):
    tokens = torch.randn(3, 8, blocks(model)[0].norm1.normalized_shape[0], generator=torch.Generator().manual_seed(0))
    for block in (block for block in blocks(model) if block.norm1.normalized_shape[0] == tokens.shape[2]):
        alone = torch.cat([block(part) for part in tokens.split(CLIP, dim=1)], dim=1)
        together = block(tokens)
        with attend_in(model.pipe.unet, APART):
            cut = block(tokens)
        torch.testing.assert_close(cut, alone, rtol=1e-5, atol=1e-6)
        assert (cut - together).abs().max() > 1e-4
        assert torch.equal(block(tokens), together)
    assert hooks(model) == []


def test_the_hook_keeps_what_others_hooked_and_leaves_after_an_error(model):
    attention = blocks(model)[0].attn1
    attention.forward = own = attention.forward
    with pytest.raises(ValueError, match="these windows are of 8 frames"), attend_in(model.pipe.unet, APART):
        attention(torch.zeros(1, 7, 8))
    assert attention.forward is own
    del attention.forward
    assert hooks(model) == []


def test_freenoise_makes_videos_longer_than_the_positions(model):
    C, H, W = model.latent_shape()
    denoise = model.denoiser(["a red ball"], guidance=1.0)
    asked = Request(40, CLIP, (C, H, W), (0,))
    schedule = model.schedule(1)
    video = freenoise.sample(denoise, schedule, asked, Options()).latents
    assert video.shape == (1, C, 40, H, W)
    assert hooks(model) == []
    if model.longest is not None:
        with pytest.raises(ValueError, match="at most 32 frames a call: got 40"):
            freenoise.sample(denoise, schedule, asked, Options(attention="full"))
    short = Request(CLIP, CLIP, (C, H, W), (0,))
    one, whole = (
        freenoise.sample(denoise, schedule, short, Options(attention=kind)).latents for kind in ("windows", "full")
    )
    assert attention_windows(CLIP, CLIP, Options()).seen.shape == (1, CLIP)
    torch.testing.assert_close(one, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [freenoise.freelong(), freenoise.freepca()], ids=["freelong", "freepca"])
def test_branches_see_places_one_by_one(model, options):
    """Another video than in windows, of the same shape, and nothing left behind."""
    C, H, W = model.latent_shape()
    asked, videos = Request(2 * CLIP, CLIP, (C, H, W), (0,)), []
    for attention in (options.attention, "windows"):
        chosen = replace(options, attention=attention)
        videos.append(freenoise.sample(model.denoiser(["a red ball"], guidance=1.0), model.schedule(2), asked, chosen))
    one, other = (each.latents for each in videos)
    assert one.shape == (1, C, 2 * CLIP, H, W)
    assert (one - other).abs().max() > 1e-5
    assert hooks(model) == []
