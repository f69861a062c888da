"""Frames of the video and latent frames, and models as they are loaded."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import baselines.co_denoise
import baselines.independent
import vidrd.sampling
from baselines.latent_frames import FrameRule, plan_in_frames
from baselines.models.families import FAMILIES, family, load_model, tiny_model
from bench.hardware.roofline import count
from bench.methods import METHODS
from vidrd.checkpoints import load_pipeline
from vidrd.sampler_contract import UNSEEN, Request


@pytest.mark.parametrize(
    ("every", "frames", "latents"), [(1, 7, 7), (4, 1, 1), (4, 81, 21), (8, 161, 21), (6, 85, 15), (4, 49, 13)]
)
def test_latent_frames_and_frames_of_the_video(every, frames, latents):
    rule = FrameRule(every)
    assert rule.latents(frames) == latents
    assert rule.frames(latents) == frames


@pytest.mark.parametrize(
    ("rule", "frames", "message"),
    [
        (FrameRule(4), 82, r"4k\+1 frames: got 82, try 81 or 85"),
        (FrameRule(4), 84, r"got 84, try 81 or 85"),
        (FrameRule(8), 160, r"8k\+1 frames: got 160, try 153 or 161"),
        (FrameRule(6), 2, r"6k\+1 frames: got 2, try 1 or 7"),
        (FrameRule(4), 0, r"got 0, try 1"),
        (FrameRule(1), -3, r"k frames: got -3, try 1"),
        (FrameRule(4, 2), 45, r"8k\+1 frames: got 45, try 41 or 49"),
        (FrameRule(4, 2, 1), 85, r"8k\+1 frames: got 85, try 81 or 89"),
    ],
)
def test_lengths_that_do_not_fit_are_answered_with_the_nearest(rule, frames, message):
    with pytest.raises(ValueError, match=message):
        rule.latents(frames)


def test_every_length_fits_or_is_answered_with_lengths_that_fit():
    for rule in (FrameRule(1), FrameRule(4), FrameRule(6), FrameRule(8), FrameRule(4, 2), FrameRule(4, 2, 1)):
        fit = [rule.frames(number) for number in range(1 + rule.dropped, 40, rule.step)]
        for frames in range(1, max(fit)):
            if frames in fit:
                assert rule.frames(rule.latents(frames)) == frames
                continue
            with pytest.raises(ValueError, match="try ") as refused:
                rule.latents(frames)
            offered = [int(word) for word in str(refused.value).split("try ")[1].split(" or ")]
            below, above = [max((n for n in fit if n < frames), default=None), min(n for n in fit if n > frames)]
            assert offered == [n for n in (below, above) if n is not None]


def test_overlaps_are_whole_latent_frames():
    assert FrameRule(4).overlap(20) == 5
    assert FrameRule(1).overlap(3) == 3
    with pytest.raises(ValueError, match="got 18, try 16 or 20"):
        FrameRule(4).overlap(18)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", [FrameRule(1), FrameRule(4), FrameRule(6), FrameRule(4, 2, 1)])
def test_a_plan_is_told_in_frames_of_the_video(method, rule):
    latent = METHODS[method].plan(Request(11, 4, (1, 1, 1), (0,)), 5, METHODS[method].options(2))
    plan = plan_in_frames(latent, rule)
    assert (plan.calls, plan.fe) == (latent.calls, latent.fe)
    assert len(plan.frames) == rule.frames(11)
    assert [seam.frame for seam in plan.seams] == [rule.first(seam.frame) for seam in latent.seams]
    clip_of = [origin.clip for origin in plan.frames]
    for seam in plan.seams:
        assert clip_of[seam.frame] != clip_of[seam.frame - 1]
    for (start, stop), (first, last) in zip(plan.windows, latent.windows, strict=True):
        assert stop - start == rule.first(last) - rule.first(first)
        assert start == rule.first(first)
    for number, origin in enumerate(plan.frames):
        assert origin.duplicate_of is None or origin.duplicate_of < number
    for before, after in pairwise(plan.frames):
        if before.clip == after.clip and rule.every > 1:
            assert after.index == before.index + 1


def test_frames_that_no_window_sees_stay_unseen():
    options = baselines.co_denoise.Options(overlap=1, compat="genl")
    plan = plan_in_frames(baselines.co_denoise.plan(Request(6, 4, (1, 1, 1), (0,)), 2, options), FrameRule(4))
    assert {origin.clip for origin in plan.frames[FrameRule(4).first(4) :]} == {UNSEEN}


def test_the_table_of_families_names_what_there_is():
    for name in FAMILIES:
        assert issubclass(family(name), family("WanPipeline").__mro__[1])
    with pytest.raises(ValueError, match=r"models are of the families .*WanPipeline.*: got a FluxPipeline"):
        family("FluxPipeline")
    with pytest.raises(ValueError, match=r"variants of WanPipeline are 2.1, .*: got '3.0'"):
        tiny_model("tiny:WanPipeline:3.0")


def test_tiny_models_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    one, other = (tiny_model("tiny:WanPipeline") for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for left, right in zip(one.pipe.transformer.parameters(), other.pipe.transformer.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_clip_that_a_family_does_not_take_is_refused_of_tiny_models_too():
    assert tiny_model("tiny:CogVideoXPipeline:1.5-5B", clip=8).clip == 8
    with pytest.raises(ValueError, match="a clip is whole groups of 2 latent frames: got 5"):
        tiny_model("tiny:CogVideoXPipeline:1.5-5B", clip=5)
    for name in ("CogVideoXPipeline", "VidRDPipeline", "WanPipeline"):
        with pytest.raises(ValueError, match="a clip is whole groups of 1 latent frames: got 0"):
            tiny_model(f"tiny:{name}", clip=0)


@pytest.mark.parametrize("name", ["tiny:WanPipeline:2.2-A14B", "tiny:CogVideoXPipeline:5B", "tiny:VidRDPipeline"])
def test_a_saved_pipeline_is_loaded_from_its_folder(name, tmp_path):
    model = tiny_model(name)
    model.pipe.save_pretrained(str(tmp_path / "saved"))
    loaded = load_model(str(tmp_path / "saved"), clip=model.clip)
    assert type(loaded) is type(model)
    latents = torch.randn(1, *model.latent_shape()[:1], model.clip, *model.latent_shape()[1:])
    timestep = torch.tensor(model.schedule(4, shape=(model.clip, *model.latent_shape()[1:])).timesteps[0])
    want, got = (each.denoiser(["a red ball"], guidance=2.0)(latents, timestep) for each in (model, loaded))
    torch.testing.assert_close(got, want)


def save_changed(folder, network, change):
    tiny_model("tiny:WanPipeline").pipe.save_pretrained(str(folder))
    path = next((folder / network).glob("*.safetensors"))
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize("network", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(max(state)), "lacks "),
        (lambda state: state.update({max(state): torch.zeros(3, 5, 7)}), "has tensors of another shape: "),
    ],
)
def test_networks_of_other_families_load_whole_or_not_at_all(tmp_path, network, change, message):
    save_changed(tmp_path, network, change)
    with pytest.raises(ValueError, match=f"cannot be loaded as a WanPipeline: .*/{network} {message}"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("network", ["transformer", "text_encoder"])
def test_leftovers_in_the_files_of_other_families_are_named(tmp_path, network, caplog):
    save_changed(tmp_path, network, lambda state: state.update(more=torch.zeros(1)))
    load_model(str(tmp_path))
    assert f"{tmp_path / network} has unknown more; left out" in caplog.messages


def test_what_cannot_be_loaded_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="is no folder; the id of a repository needs a revision"):
        load_model("someone/wan")
    with pytest.raises(ValueError, match=r"is not here .*--fetch"):
        load_model("someone/wan", revision="0" * 40)
    with pytest.raises(ValueError, match="a model is a folder with a"):
        load_model(str(tmp_path))
    for broken in ("{", "[1]"):
        (tmp_path / "model_index.json").write_text(broken)
        with pytest.raises(ValueError, match=r"model_index\.json (cannot be read as JSON|must hold a JSON object)"):
            load_model(str(tmp_path))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(ValueError, match="got a FluxPipeline"):
        load_model(str(tmp_path))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    with pytest.raises(ValueError, match="cannot be loaded as a WanPipeline: "):
        load_model(str(tmp_path))


def test_the_pocket_preset_is_a_model_like_all_others():
    model = load_model("pocket")
    pipe = load_pipeline("pocket")
    assert (model.clip, model.latent_shape()) == (pipe.config.clip, pipe.latent_shape)
    request = Request(model.clip, model.clip, model.latent_shape(), (5,))
    prompt = ["a red ball"]
    latents = vidrd.sampling.sample(model.denoiser(prompt, guidance=2.0), model.schedule(2), request).latents
    want = pipe(
        prompt[0], num_frames=model.clip, num_inference_steps=2, guidance_scale=2.0, seed=5, output_type="uint8"
    )
    assert np.array_equal(model.decode(latents), want.frames)
    with pytest.raises(ValueError, match="multiples of 4 pixels"):
        model.latent_shape(30, 32)


def test_decoding_windows_apart_changes_the_frames_at_their_seams():
    """A causal VAE that begins anew at a seam forgets: why videos are decoded in one pass."""
    model = tiny_model("tiny:WanPipeline")
    C, H, W = model.latent_shape()
    latents = torch.randn(1, C, 4, H, W, generator=torch.Generator().manual_seed(3))
    whole = model.decode(latents).astype(int)
    apart = np.concatenate([model.decode(part) for part in latents.split(2, dim=2)], axis=1).astype(int)
    assert whole.shape[1] == model.rule.frames(4)
    assert apart.shape[1] == 2 * model.rule.frames(2)  # and it loses frames
    first = model.rule.frames(2)
    assert np.array_equal(whole[:, :first], apart[:, :first])  # causal: what follows changes nothing before it
    after = model.rule.first(3)
    assert np.abs(whole[:, after:] - apart[:, first + 1 :]).max() > 1
    batch = torch.cat([latents, latents.flip(2)])
    assert np.array_equal(model.decode(batch)[:1], whole)


def test_the_experts_of_wan_share_the_steps_at_their_boundary():
    model = tiny_model("tiny:WanPipeline:2.2-A14B")
    seen = []
    for name in ("transformer", "transformer_2"):
        network = getattr(model.pipe, name)
        network.register_forward_pre_hook(lambda *_, name=name: seen.append(name))
    schedule = model.schedule(6)
    request = Request(1, 1, model.latent_shape(), (0,))
    baselines.independent.sample(model.denoiser(["a cat"], guidance=1.0), schedule, request)
    want = ["transformer" if time >= 875 else "transformer_2" for time in schedule.timesteps]
    assert seen == want
    assert set(want) == {"transformer", "transformer_2"}


def test_the_low_noise_expert_may_have_a_guidance_of_its_own():
    model = tiny_model("tiny:WanPipeline:2.2-A14B")
    C, H, W = model.latent_shape()
    noise = torch.randn(1, C, 2, H, W, generator=torch.Generator().manual_seed(3))
    prompt, away = ["a red ball rolls"], ["blurry"]
    want = model.pipe(
        prompt=prompt,
        negative_prompt=away,
        num_frames=5,
        height=model.size[0],
        width=model.size[1],
        num_inference_steps=6,
        guidance_scale=4.0,
        guidance_scale_2=2.0,
        latents=noise.clone(),
        output_type="latent",
    ).frames
    model.late_guidance = 2.0
    got = baselines.independent.sample(
        model.denoiser(prompt, negative=away[0], guidance=4.0),
        model.schedule(6),
        Request(2, 2, (C, H, W), (0,)),
        noise=lambda *_, **__: noise,
    ).latents
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    model.late_guidance = None
    same = model.denoiser(prompt, negative=away[0], guidance=4.0)
    assert same.late is None


@pytest.mark.parametrize("name", ["tiny:WanPipeline:2.1-euler", "tiny:CogVideoXPipeline"])
@pytest.mark.parametrize("method", ["independent", "vidrd"])
def test_a_video_of_three_windows_holds_little_more_than_one_call_and_its_latents(name, method):
    model = tiny_model(name)
    shape = model.latent_shape()
    latents = torch.zeros(1, shape[0], model.clip, *shape[1:])
    denoise, schedule = model.denoiser(["a ball"], guidance=1.0), model.schedule(2)
    timestep = torch.tensor(schedule.timesteps)[0]
    asked, options = Request(3 * model.clip, model.clip, shape, (0,)), METHODS[method].options(1)
    with torch.no_grad():
        one = count(lambda: denoise(latents, timestep)).peak_bytes
        whole = count(lambda: METHODS[method].sample(denoise, schedule, asked, options)).peak_bytes
    assert whole <= 1.1 * (one + 3 * latents.numel() * latents.element_size())
