"""Training: resumed runs are uninterrupted runs, losses have known values, the stages change what they should."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from vidrd.inflate import inflate_unet
from vidrd.models.unet import is_temporal
from vidrd.pocket import train
from vidrd.pocket.world import ATTRIBUTES
from vidrd.text import embed
from vidrd.training.hyperparameters import Recipe
from vidrd.training.loop import fit, keyed_generator
from vidrd.training.losses import (
    Discriminator,
    adversarial,
    detail_weights,
    diffusion_target,
    draw_timesteps,
    kl,
)
from vidrd.training.stages import (
    cached,
    encode_clips,
    learns_from_video,
    train_decoder,
    train_denoiser,
    train_text_encoder,
    trainable,
)

RECIPE = Recipe(steps=20, batch=4, warmup=2, save_every=10, precision="no")


def regression():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def mistakes(model):
    def loss(step, generator):
        x = torch.randn(16, 3, generator=generator)
        return ((model(x) - x.sum(1, keepdim=True)) ** 2).mean(), {}

    return loss


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole = regression()
    fit({"m": whole}, mistakes(whole), RECIPE, tmp_path / "whole")

    class CutOffError(Exception):
        pass

    def until(step_of_cut, model):
        inner = mistakes(model)

        def loss(step, generator):
            if step == step_of_cut:
                raise CutOffError
            return inner(step, generator)

        return loss

    first = regression()
    with pytest.raises(CutOffError):
        fit({"m": first}, until(13, first), RECIPE, tmp_path / "cut")
    again = regression()
    fit({"m": again}, mistakes(again), RECIPE, tmp_path / "cut")
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_recipe_does_not_resume(tmp_path):
    model = regression()
    fit({"m": model}, mistakes(model), RECIPE, tmp_path)
    with pytest.raises(ValueError, match=r"holds a run of another recipe .* name another folder"):
        fit({"m": model}, mistakes(model), replace(RECIPE, batch=5), tmp_path)
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        fit({"m": model}, mistakes(model), replace(RECIPE, steps=19), tmp_path)


def test_frozen_parameters_stay(tmp_path):
    model = regression()
    trainable(model, lambda key: key.startswith("2."))
    before = {key: p.clone() for key, p in model.named_parameters()}
    fit({"m": model}, mistakes(model), RECIPE, tmp_path)
    changed = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    assert changed == {"2.weight", "2.bias"}


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    model = regression()
    with pytest.raises(ValueError, match="the loss must stay finite"):
        fit({"m": model}, lambda step, g: (model(torch.ones(1, 3)).sum() * float("nan"), {}), RECIPE, tmp_path)


def test_the_log_is_lines_of_json(tmp_path):
    model = regression()
    fit({"m": model}, mistakes(model), RECIPE, tmp_path, log_every=5)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_target_gives_the_latents_back(kind):
    x, e = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    a = torch.tensor([0.3, 0.9])
    noisy, target = diffusion_target(x, e, a, kind)
    s, n = a.sqrt().view(-1, 1, 1, 1, 1), (1 - a).sqrt().view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(noisy, s * x + n * e)
    clean = (noisy - n * target) / s if kind == "epsilon" else s * noisy - n * target
    torch.testing.assert_close(clean, x, rtol=1e-4, atol=1e-5)


def test_timesteps_cover_the_schedule_evenly():
    t = draw_timesteps(10, 1000, torch.Generator().manual_seed(0))
    assert sorted((t // 100).tolist()) == list(range(10))


def test_shifted_timesteps_are_the_noisy_ones_at_the_stated_rate():
    t = draw_timesteps(10_000, 1000, torch.Generator().manual_seed(0), shift=4.0)
    u = 0.7 / (4 - 3 * 0.7)  # the inverse of the shift: the share of draws below timestep 700
    assert float((t < 700).float().mean()) == pytest.approx(u, abs=2e-3)
    assert 0 <= int(t.min()) <= int(t.max()) == 999


def test_kl_of_a_standard_normal_is_zero_and_grows():
    zeros = torch.zeros(1, 2, 3, 3)
    assert float(kl(zeros, zeros)) == 0
    assert float(kl(zeros + 2, zeros)) == pytest.approx(2.0)


def test_detail_weighs_more_than_sky():
    frame = torch.zeros(1, 3, 16, 16)
    frame[..., 8:, 8:] = torch.randn(1, 3, 8, 8)
    weights = detail_weights(frame)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-4)
    assert float(weights[..., 10:, 10:].mean()) > 5 * float(weights[..., :6, :6].mean())


def test_each_adversary_learns_from_its_own_loss_alone():
    judge = Discriminator(8)
    real, fake = torch.randn(1, 3, 4, 16, 16), torch.randn(1, 3, 4, 16, 16, requires_grad=True)
    fool, loss = adversarial(judge, real, fake)
    assert all(
        g is None for g in torch.autograd.grad(fool, list(judge.parameters()), allow_unused=True, retain_graph=True)
    )
    assert torch.autograd.grad(loss, fake, allow_unused=True)[0] is None
    assert float(torch.autograd.grad(fool, fake)[0].abs().sum()) > 0


def test_keyed_generators_differ_by_key_alone():
    a, b, c = (torch.randn(3, generator=keyed_generator(*key)) for key in ((0, 1), (0, 1), (1, 0)))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def tiny_source():
    latents = torch.randn(6, 8, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    return cached(latents.half(), ["a red plain circle moving left on a navy background"] * 6, 1.0)


def test_cached_clips_are_windows_of_the_stored_ones():
    latents = torch.arange(2 * 5).view(2, 1, 5, 1, 1).float()
    batch = cached(latents, ["first", "second"], 0.5)(8, 3, torch.Generator().manual_seed(0))
    for clip, text in zip(batch.clips, batch.captions, strict=True):
        values = (clip.flatten() * 2).tolist()
        assert values == [values[0], values[0] + 1, values[0] + 2]
        assert (values[0] >= 5) == (text == "second")


def test_what_weighs_more_is_drawn_more_often():
    latents = torch.zeros(3, 1, 1, 1, 1)
    source = cached(latents, ["never", "seldom", "often"], 1.0, torch.tensor([0.0, 1.0, 3.0]))
    drawn = source(4000, 1, torch.Generator().manual_seed(0)).captions
    assert "never" not in drawn
    assert drawn.count("often") / len(drawn) == pytest.approx(0.75, abs=0.03)


def test_the_text_stage_separates_captions_that_no_single_image_tells_apart(tmp_path):
    torch.manual_seed(0)
    tokenizer = train.word_tokenizer(train.VOCABULARY, train.TEXT_LENGTH)
    text_encoder = train.small_text_encoder(tokenizer, train.TEXT_WIDTH, layers=1, heads=2).eval()

    def distance():
        captions = [f"a red plain star moving {way} on a navy background" for way in ("left", "right")]
        left, right = embed(captions, tokenizer, text_encoder).flatten(1)
        return float((left - right).norm() / left.norm())

    before = distance()
    classes = {name: len(values) for name, values in ATTRIBUTES.items()}
    recipe = replace(RECIPE, steps=30, batch=32, learning_rate=3e-3)
    train_text_encoder(text_encoder, tokenizer, train.sentences, classes, recipe, tmp_path)
    assert distance() > max(0.5, 2 * before)


def test_the_stages_of_the_pocket_world_run_and_change_what_they_should(tmp_path):
    torch.manual_seed(0)
    tokenizer = train.word_tokenizer(train.VOCABULARY, train.TEXT_LENGTH)
    text_encoder = train.small_text_encoder(tokenizer, train.TEXT_WIDTH, layers=1, heads=2)
    recipe = replace(RECIPE, steps=3, batch=2)
    image_unet = train.new_image_unet()
    train_denoiser(
        image_unet, text_encoder, tokenizer, train.scheduler(), tiny_source(), recipe, tmp_path / "image", frames=1
    )
    unet = inflate_unet(image_unet, temp_conv_dropout=0.0)
    trainable(unet, learns_from_video)
    text_before = {key: value.clone() for key, value in text_encoder.state_dict().items()}
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    train_denoiser(
        unet, text_encoder, tokenizer, train.scheduler(), tiny_source(), recipe, tmp_path / "video", frames=4
    )
    changed = {key for key, value in unet.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(learns_from_video(key) for key in changed)
    assert any(is_temporal(key) for key in changed)
    assert any(".attn2." in key for key in changed)
    assert all(torch.equal(value, text_before[key]) for key, value in text_encoder.state_dict().items())


def test_the_decoder_stage_changes_the_temporal_layers_alone(tmp_path):
    torch.manual_seed(0)
    vae = train.new_vae()
    before = {key: value.clone() for key, value in vae.state_dict().items()}
    train_decoder(vae, train.world, replace(RECIPE, steps=2, batch=1), tmp_path, frames=3)
    changed = {key for key, value in vae.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(is_temporal(key) for key in changed)


@torch.no_grad()
def test_encoding_in_chunks_is_encoding_at_once():
    vae = train.new_vae().eval()
    clips = train.world(3, 2, torch.Generator().manual_seed(0)).clips
    torch.testing.assert_close(encode_clips(vae, clips, chunk=2), encode_clips(vae, clips), rtol=0, atol=1e-5)
