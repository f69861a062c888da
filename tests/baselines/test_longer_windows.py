"""RIFLEx and UltraViCo: the authors' formulas and numbers, for the families that they name; nothing is left behind."""

import math

import pytest
import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoRotaryPosEmbed
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch.nn.functional import scaled_dot_product_attention
from toys import SCHEDULE, Coupled

from baselines import direct
from baselines.direct import Options
from baselines.models.families import tiny_model
from baselines.models.longer_windows import Decay, Rotary, _Decayed, slowed
from vidrd.sampler_contract import Request


class Cog:
    """The positions of CogVideoX-5B."""

    def forward(self, frames):
        return get_3d_rotary_pos_embed(64, ((0, 0), (2, 3)), (2, 3), frames)


ROPES = {  # table of so many frames of 2 x 3 places, channels of time, k, base, frames of a period (N_k)
    "wan": (WanRotaryPosEmbed(128, (1, 2, 2), 1024), 44, 6, 1e4, 50),
    "hunyuan": (HunyuanVideoRotaryPosEmbed(2, 1, [16, 56, 56], 256.0), 16, 4, 256.0, 50),
    "cogvideox": (Cog(), 16, 2, 1e4, 19),
}


def table(rope, frames):
    return rope.forward(frames) if isinstance(rope, Cog) else rope.forward(torch.zeros(1, 16, frames, 4, 6))


@pytest.mark.parametrize("name", ROPES)
def test_one_frequency_stays_within_a_period_as_the_authors_have_it(name):
    rope, dim, k, base, period = ROPES[name]
    rotary = Rotary([(rope, "forward")], dim, k)
    with slowed(rotary, period):  # one period holds them
        assert torch.equal(table(rope, period)[0], table(ROPES[name][0], period)[0])
    frames = period + 2
    plain = table(rope, frames)
    with slowed(rotary, frames):
        slow = table(rope, frames)
    freqs = 1 / base ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    assert freqs[k - 1] * (period + 1) > 2 * math.pi >= freqs[k - 1] * period
    freqs[k - 1] = 0.9 * 2 * math.pi / frames
    angles = torch.outer(torch.arange(frames, dtype=torch.float64), freqs).repeat_interleave(2, dim=1)
    for got, was, want in zip(slow, plain, (angles.cos(), angles.sin()), strict=True):
        by_frame = got.reshape(frames, 6, -1)
        assert (by_frame[..., :dim] - want[:, None]).abs().max() < 1e-4
        assert torch.equal(by_frame[..., dim:], was.reshape(frames, 6, -1)[..., dim:])
    assert "forward" not in vars(rope)
    assert torch.equal(table(rope, frames)[0], plain[0])


def naive(q, k, v, decay, frames, tokens, mask):
    """Attention as a reader of the paper would write it, logit by logit."""
    frame, out = tokens // frames, torch.zeros_like(q)
    for row in range(q.shape[-2]):
        logits = (k @ q[0, 0, row])[0, 0] / math.sqrt(q.shape[-1])
        for column in range(len(logits)):
            apart, video = abs(row - column) / frame, max(row, column) < tokens
            factor = decay.far if video and apart > decay.window / 2 else 1.0
            if decay.harmonic and video and any(abs(apart - decay.period * n) <= decay.around for n in range(1, 9)):
                factor = decay.harmonic
            if logits[column] > 0:
                logits[column] *= factor
            if decay.cut_first and video and row < frame and column >= decay.window * frame:
                logits[column] = -math.inf
        logits[~mask] = -math.inf
        out[0, 0, row] = logits.softmax(dim=0) @ v[0, 0]
    return out


@pytest.mark.parametrize(
    "decay", [Decay((), 3, cut_first=True), Decay((), 3, 0.5, harmonic=0.1, period=4, around=1)], ids=["wan", "hunyuan"]
)
def test_far_positive_logits_decay(decay, monkeypatch):
    monkeypatch.setattr("baselines.models.longer_windows.ROWS", 5)
    frames, tokens, text = 10, 20, 3
    q, k, v = torch.randn(3, 1, 1, tokens + text, 4, generator=torch.Generator().manual_seed(1)).double()
    mask = torch.ones(tokens + text, dtype=torch.bool)
    mask[-1] = False
    with _Decayed(decay, frames, tokens):
        got = scaled_dot_product_attention(q, k, v, attn_mask=mask[None, None, None])
    torch.testing.assert_close(got, naive(q, k, v, decay, frames, tokens, mask), rtol=1e-5, atol=1e-6)
    assert (got - scaled_dot_product_attention(q, k, v, attn_mask=mask[None, None, None])).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("WanPipeline:2.2-A14B", "ultravico"),
        ("CogVideoXPipeline:5B", "riflex"),
        pytest.param("HunyuanVideoPipeline", "ultravico", marks=pytest.mark.slow),
        pytest.param("WanPipeline:2.1-euler", "riflex", marks=pytest.mark.slow),
    ],
)
def test_direct_opens_it_for_videos_longer_than_the_training_and_leaves_nothing(name, way):
    model = tiny_model(f"tiny:{name}")
    model.clip_frames = 9  # of the decay
    if way == "riflex":  # tiny networks have one or two frequencies of time, of which the first turns in 6.3 frames
        given = model.rotary()
        model.rotary = lambda: given._replace(intrinsic=1)
    C, H, W = model.latent_shape()
    denoise, schedule = model.denoiser(["a red ball"], guidance=1.0), model.schedule(2)

    def video(frames, positions):
        asked = Request(frames, frames, (C, H, W), (0,))
        return direct.sample(denoise, schedule, asked, Options(positions), dtype=model.dtype).latents

    assert torch.equal(video(3, way), video(3, "trained"))
    plain = video(9, "trained")
    assert (video(9, way) - plain).abs().max() > 1e-4
    assert torch.equal(video(9, "trained"), plain)


def test_families_without_published_numbers_say_so():
    for name in ("SkyReelsV2DiffusionForcingPipeline", "LTXPipeline", "CogVideoXPipeline:2B"):
        model = tiny_model(f"tiny:{name}")
        for way in ("riflex", "ultravico"):
            with pytest.raises(ValueError, match=f"the authors of {way} name no numbers for {type(model).__name__}"):
                model.extend(way, 9)
    with pytest.raises(ValueError, match="riflex slows frequency 6 of time, and this network has 2"):
        tiny_model("tiny:WanPipeline").extend("riflex", 60).__enter__()
    with pytest.raises(ValueError, match="riflex is for networks with rotary positions"):
        direct.sample(Coupled(), SCHEDULE, Request(2, 2, (1, 1, 1), (0,)), Options("riflex"))
