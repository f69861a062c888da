"""Prompts in, frames out: the pipeline as a diffusers user meets it, on small untrained networks."""

import json
import logging
import socket
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from vidrd import checkpoints
from vidrd.__main__ import main
from vidrd.checkpoints import PRESETS, load_pipeline, sha256
from vidrd.decoding import ClipDecoder
from vidrd.models.blocks import frames_of
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.noise import KeyedNoise
from vidrd.pipeline import VidRDPipeline
from vidrd.pocket.train import scheduler
from vidrd.sampling import Options
from vidrd.text import embed, encode, readable, small_text_encoder, word_tokenizer
from vidrd.video import read_video, to_uint8

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # tests/test_docs.py runs the pipeline with them checked

WORDS = ("a", "ball", "blue", "falling", "red")


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    tokenizer = word_tokenizer(WORDS, 8)
    unet = UNet3DConditionModel(
        sample_size=4,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=4,
    )
    vae = AutoencoderKLTemporal(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
    for network in (unet, vae):  # awake the temporal layers, which start as the identity
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    pipe = VidRDPipeline(
        vae=vae.eval(),
        text_encoder=small_text_encoder(tokenizer, 16, layers=1, heads=2).eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=scheduler(),
        clip=4,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "saved"
    pipe.save_pretrained(str(path))
    return path


def make(pipe, prompt="a red ball", **changes):
    asked = {"num_frames": 6, "num_inference_steps": 3, "guidance_scale": 2.0, "options": Options(overlap=2)}
    return pipe(prompt, **asked | {"output_type": "uint8"} | changes)


@pytest.fixture(scope="module")
def made(pipe):
    """What `make` makes of requests that tests share, each of them made once."""
    return cache(lambda *prompt, **changes: make(pipe, *prompt, **changes))


def test_frames_are_videos_of_the_asked_length(pipe, made):
    out = made()
    assert out.frames.shape == (1, 6, 8, 8, 3)
    assert out.frames.dtype == np.uint8
    assert [seam.frame for seam in out.result.seams] == [4]
    assert len(make(pipe, output_type="pil").frames[0]) == 6
    assert make(pipe, output_type="latent").frames.shape == (1, 4, 6, 4, 4)


def test_a_saved_folder_makes_the_same_video(pipe, made, folder):
    again = load_pipeline(folder)
    assert again.config.clip == 4
    assert np.array_equal(make(again).frames, made().frames)


def test_a_video_does_not_depend_on_its_batch(pipe):
    both = make(pipe, ["a red ball", "a blue ball"], seed=[5, 9], output_type="latent").frames
    alone = make(pipe, "a blue ball", seed=9, output_type="latent").frames
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-5)


def test_another_seed_or_prompt_is_another_video(pipe, made):
    assert not np.array_equal(make(pipe, seed=1).frames, made().frames)
    assert not np.array_equal(make(pipe, "a blue ball").frames, made().frames)


def test_equal_seeds_of_any_kind_are_one_video_and_what_is_no_integer_is_refused(pipe):
    want = make(pipe, seed=3, num_frames=4).frames
    for three in (np.int64(3), np.array(3), torch.tensor(3), np.array([3], dtype=np.int32), torch.tensor([3])):
        assert np.array_equal(make(pipe, seed=three, num_frames=4).frames, want)
    for wrong in (3.0, [3.0], np.array([3.0]), True, None):
        with pytest.raises(ValueError, match="a seed is one integer: got"):
            make(pipe, seed=wrong)
    with pytest.raises(ValueError, match="64 bits"):
        make(pipe, seed=2**64, options=Options(compat="released"))


def test_the_callback_sees_every_step(pipe):
    steps = []
    make(pipe, callback_on_step_end=lambda pipe, step, timestep, tensors: steps.append((step, timestep, tensors)))
    assert [step for step, _, _ in steps] == [0, 1, 2, 0, 1, 2]
    assert steps[0][1] > steps[1][1] > steps[2][1]
    assert steps[0][2]["latents"].shape == (1, 4, 4, 4, 4)
    with pytest.raises(ValueError, match="may look at the latents, not replace them"):
        make(pipe, callback_on_step_end=lambda *_: {"latents": torch.zeros(1)})


def test_clips_are_decoded_each_by_itself_and_chunks_change_nothing(pipe):
    latents = torch.randn(2, 4, 10, 4, 4)
    whole = pipe.decode(latents)
    for first in (0, 4, 8):
        part = latents[:, :, first : first + 4]
        z = frames_of(part) / pipe.vae.config.scaling_factor
        with torch.no_grad():
            pixels = pipe.vae.decode(z, num_frames=part.shape[2]).sample
        want = to_uint8(pixels.unflatten(0, (2, -1)).transpose(1, 2))
        assert np.abs(whole[:, first : first + 4].astype(int) - want).max() <= 1
    assert np.abs(pipe.decode(latents, chunk=1).astype(int) - whole).max() <= 1


def test_released_decoding_sees_single_frames(pipe):
    latents = torch.randn(1, 4, 4, 4, 4)
    assert not np.array_equal(pipe.decode(latents, clip=1), pipe.decode(latents))
    assert np.array_equal(pipe.decode(latents, clip=1)[:, :1], pipe.decode(latents[:, :, :1]))


@pytest.mark.precision
def test_bf16_runs_and_stays_near(pipe, made, folder):
    half = load_pipeline(folder, dtype=torch.bfloat16)
    out = make(half)
    assert out.result.latents.dtype == torch.bfloat16
    assert np.abs(out.frames.astype(int) - made().frames).mean() < 20


WAYS = {  # faster, and the same video
    "clips side by side": {"batch_clips": 2},
    "all clips at once": {"batch_clips": 100},
    "decoded at the end": {"decode_aside": False},
    "cast to what it is": {"dtype": torch.float32},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [Options(overlap=2), Options(overlap=3, join="drop_duplicate", guide="blend")])
def test_a_faster_way_makes_the_same_video(pipe, made, way, options):
    asked = {"num_frames": 11, "options": options, "seed": 4}
    plain, fast = made(**asked), make(pipe, **asked, **WAYS[way])
    torch.testing.assert_close(fast.result.latents, plain.result.latents, rtol=0, atol=1e-5)
    assert np.abs(fast.frames.astype(int) - plain.frames).max() <= 1
    assert fast.result.seams == plain.result.seams


def test_clips_side_by_side_share_calls(pipe):
    assert make(pipe, num_frames=12).result.plan.calls == 9
    together = make(pipe, num_frames=12, batch_clips=2).result.plan
    assert together.calls == 6
    assert together.fe == 36
    released = Options(overlap=2, compat="released")
    assert make(pipe, num_frames=12, batch_clips=2, options=released, eta=1.0).result.plan.calls == 9


def test_a_compiled_network_makes_the_same_video_until_its_weights_change(pipe, made, monkeypatch):
    networks = []

    def stand_in(unet):
        networks.append(unet)
        return unet

    monkeypatch.setattr("vidrd.pipeline.compiled", stand_in)
    assert np.array_equal(make(pipe, compile=True).frames, made().frames)
    make(pipe, compile=True)
    assert len(networks) == 1
    with torch.no_grad():
        pipe.unet.conv_in.bias.mul_(1)
    make(pipe, compile=True)
    assert len(networks) == 2


@pytest.mark.parametrize("change", [{"solver": "dpmsolver++"}, {"solver": "unipc"}, {"reuse_every": 2}])
def test_an_approximation_makes_another_video_near_it(pipe, made, change):
    plain = made(num_inference_steps=6).result.latents
    other = make(pipe, num_inference_steps=6, **change).result.latents
    assert 1e-4 < float((other - plain).norm() / plain.norm()) < 0.5
    again = make(pipe, num_inference_steps=6, batch_clips=2, **change).result.latents
    torch.testing.assert_close(again, other, rtol=0, atol=1e-4)


def test_frames_that_come_in_pieces_are_decoded_as_whole_clips(pipe):
    latents = torch.randn(2, 4, 10, 4, 4, generator=torch.Generator().manual_seed(0))
    decoder = ClipDecoder(pipe.vae, clip=4)
    for piece in latents.split([4, 3, 3], dim=2):
        decoder.add(piece)
    assert np.abs(decoder.finish().astype(int) - pipe.decode(latents)).max() <= 1


def test_outputs_are_those_of_diffusers(pipe, made, tmp_path):
    """float in [0, 1] by "np" and "pt", which diffusers' own writer turns into the pixels of "uint8"."""
    pixels, shares = made().frames, make(pipe, output_type="np").frames
    assert pixels.dtype == np.uint8
    assert shares.dtype == np.float32
    assert shares.shape == (1, 6, 8, 8, 3)
    assert np.array_equal((shares * 255).astype(np.uint8), pixels)  # as diffusers' export_to_video does
    assert np.array_equal(pipe("a red ball", num_frames=4, num_inference_steps=1, guidance_scale=1.0).frames,
                          make(pipe, num_frames=4, num_inference_steps=1, guidance_scale=1.0, output_type="np",
                               options=Options()).frames)  # fmt: skip
    tensors = make(pipe, output_type="pt").frames
    assert torch.equal(tensors, torch.from_numpy(shares).permute(0, 1, 4, 2, 3))
    assert np.array_equal(np.asarray(make(pipe, output_type="pil").frames[0][5]), pixels[0, 5])
    alone = make(pipe, return_dict=False)
    assert isinstance(alone, tuple)
    assert np.array_equal(alone[0], pixels)


def test_a_generator_draws_the_seeds(pipe):
    def generator(number):
        return torch.Generator().manual_seed(number)

    prompts = ["a red ball", "a blue ball"]
    one, again, other = (make(pipe, prompts, num_frames=4, generator=generator(n)).frames for n in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])
    each = make(pipe, prompts, num_frames=4, generator=[generator(8), generator(9)]).frames
    alone = make(pipe, prompts[1], num_frames=4, generator=generator(9))
    assert np.abs(each[1].astype(int) - alone.frames[0]).max() <= 1


def test_given_latents_are_the_initial_noise_of_the_clips(pipe, made):
    shape = (4, 4, 4, 4)
    whole = torch.cat([KeyedNoise([7])("initial", clip, shape) for clip in range(2)], dim=2)
    given = make(pipe, latents=whole).frames
    assert np.array_equal(given, make(pipe, seed=7).frames)
    assert not np.array_equal(given, made().frames)


def test_embeddings_and_none_stand_for_prompts(pipe, made):
    plain = make(pipe, negative_prompt="blue").frames
    words = {name: encode([text], pipe.tokenizer, pipe.text_encoder) for name, text in
             (("prompt_embeds", "a red ball"), ("negative_prompt_embeds", "blue"))}  # fmt: skip
    assert np.array_equal(make(pipe, None, **words).frames, plain)
    assert np.array_equal(make(pipe, negative_prompt=None).frames, made().frames)
    assert not np.array_equal(made().frames, plain)
    both = make(pipe, ["a red ball"] * 2, negative_prompt=["", "blue"], seed=[0, 0]).frames.astype(int)
    assert np.abs(both[1] - plain[0]).max() <= 1 < np.abs(both[0] - plain[0]).max()


def test_the_pipelines_scheduler_is_used_or_refused(pipe, made):
    with_other = VidRDPipeline(**{**pipe.components, "clip": 4})
    with_other.set_progress_bar_config(disable=True)
    plain = made().frames
    for kind, name in ((DPMSolverMultistepScheduler, "dpmsolver++"), (UniPCMultistepScheduler, "unipc")):
        with_other.scheduler = kind.from_config(pipe.scheduler.config)
        want = make(pipe, solver=name).frames
        assert not np.array_equal(want, plain)
        assert np.array_equal(make(with_other).frames, want)
        assert np.array_equal(make(with_other, solver="ddim").frames, plain)
    with_other.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match=r"the scheduler is one of DDIMScheduler.*: got EulerDiscreteScheduler"):
        make(with_other)
    with_other.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, solver_order=3)
    with pytest.raises(ValueError, match="got solver_order=3, set these back"):
        make(with_other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": [1, 2]}, "every video has a prompt and a seed: got 1 prompts and 2 seeds"),
        ({"generator": torch.Generator(), "seed": 1}, "noise comes from `seed` or from `generator`: got both"),
        ({"generator": [torch.Generator()] * 2}, "one for all videos or one for each: got 2 for 1"),
        ({"latents": torch.zeros(1, 4, 4, 4, 4)}, r"of shape \(1, 4, 8, 4, 4\): got \(1, 4, 4, 4, 4\)"),
        ({"prompt_embeds": torch.zeros(1, 8, 16)}, "prompt and prompt_embeds stand for each other: got both"),
        ({"prompt": None}, "got neither"),
        ({"negative_prompt": ["a", "b", "c"]}, "one for all videos or one for each: got 3 for 1 videos"),
        ({"prompt": 7}, "a prompt is a text, and prompts are a list of texts: got 7"),
        ({"prompt": ["a red ball", None]}, r"a list of texts: got \['a red ball', None\]"),
        ({"prompt": b"a red ball"}, "a list of texts: got b'a red ball'"),
        ({"prompt": []}, r"a list of texts: got \[\]"),
        ({"negative_prompt": 3}, "a list of texts: got 3"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt is a count from 1 upwards: got 0"),
        ({"num_videos_per_prompt": 2, "negative_prompt": 3}, "a list of texts: got 3"),
        ({"num_videos_per_prompt": "2"}, "is a count from 1 upwards: got '2'"),
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 8, 15)}, r"tokens x 16: got \(1, 8, 15\)"),
        ({"height": 0}, "height and width must be multiples of 2 pixels: got 0 x 8, try 2"),
        ({"output_type": "jpg"}, "output_type is one of np, pt, pil, uint8, latent: got 'jpg'"),
        ({"height": 9}, "height and width must be multiples of 2 pixels: got 9 x 8, try 8"),
        ({"options": Options(overlap=5)}, "an overlap is at most the clip: got 5 frames of clips of 4"),
        ({"num_frames": 0}, "at least 1 frame"),
        ({"batch_clips": 0}, "batch_clips is a count of clips from 1 upwards: got 0"),
        ({"reuse_every": 0}, r"run every 1, 2, \.\.\. calls: got 0"),
        ({"solver": "euler"}, "solver is one of ddim"),
        ({"solver": "unipc", "eta": 1.0}, "unipc is deterministic: eta is 1"),
        ({"video": np.zeros((4, 8, 8, 3), np.uint8)}, r"a uint8 array, B M h w 3, .* got uint8 \(4, 8, 8, 3\)"),
        ({"video": np.zeros((1, 4, 8, 8, 3))}, r"a uint8 array, B M h w 3, .* got float64 \(1, 4, 8, 8, 3\)"),
        ({"video": [np.zeros((4, 8, 8, 3), np.uint8)]}, r"a uint8 array, B M h w 3, .* got list"),
    ],
)
def test_requests_that_cannot_be_met_say_why(pipe, changes, message):
    with pytest.raises(ValueError, match=message):
        make(pipe, **changes)


def test_several_videos_per_prompt_are_the_prompt_repeated(pipe):
    negative = ["blue", "falling"]
    prompts = ["a red ball", "a blue ball"]
    twice = [text for text in prompts for _ in range(2)]
    made = make(pipe, prompt=prompts, negative_prompt=negative, num_videos_per_prompt=2).frames
    negatives = [text for text in negative for _ in range(2)]
    assert np.array_equal(made, make(pipe, prompt=twice, negative_prompt=negatives).frames)
    for shared in ("blue", ["blue"]):
        made = make(pipe, prompt=prompts, negative_prompt=shared, num_videos_per_prompt=2).frames
        assert np.array_equal(made, make(pipe, prompt=twice, negative_prompt="blue").frames)
    embeds = encode(prompts, pipe.tokenizer, pipe.text_encoder)
    assert np.array_equal(make(pipe, prompt=None, prompt_embeds=embeds, num_videos_per_prompt=2).frames,
                          make(pipe, prompt=twice).frames)  # fmt: skip


def test_given_frames_are_repeated_with_their_prompts(pipe):
    prompts = ["a red ball", "a blue ball"]
    given = np.random.default_rng(0).integers(0, 256, (2, 4, 8, 8, 3), np.uint8)
    made = make(pipe, prompt=prompts, video=given, num_videos_per_prompt=2, num_frames=8).frames
    twice = [text for text in prompts for _ in range(2)]
    assert np.array_equal(made, make(pipe, prompt=twice, video=given[[0, 0, 1, 1]], num_frames=8).frames)
    assert np.array_equal(made[:, :4], given[[0, 0, 1, 1]])


def test_an_interrupt_ends_with_a_sentence_and_holds_for_one_call(pipe, made):
    seen = []

    def stop(pipeline, step, timestep, held):
        seen.append(step)
        pipeline._interrupt = step == 1

    with pytest.raises(ValueError, match="videos are made whole or not at all: got _interrupt"):
        make(pipe, callback_on_step_end=stop)
    assert seen == [0, 1]
    assert np.array_equal(make(pipe).frames, made().frames)


def test_the_released_mode_reads_one_stream_for_the_batch(pipe):
    options = Options(overlap=2, compat="released")
    one = make(pipe, options=options, generator=torch.Generator().manual_seed(3)).frames
    two = make(pipe, options=options, seed=3).frames
    assert np.array_equal(one, two)


def test_unknown_words_are_left_out_and_named(pipe, caplog):
    with caplog.at_level(logging.WARNING):
        assert readable("a RED fluffy ball, glowing", pipe.tokenizer) == "a red ball"
    assert "does not know 'fluffy', 'glowing'; left out" in caplog.text


def test_punctuation_is_no_word_to_warn_of(pipe, caplog):
    with caplog.at_level(logging.WARNING):
        assert readable("a red, RED ball...", pipe.tokenizer) == "a red red ball"
    assert not caplog.text


def test_a_prompt_that_is_too_long_is_used_as_far_as_it_goes(pipe, caplog):
    with caplog.at_level(logging.WARNING):
        long = embed(["a red ball falling a blue ball falling"], pipe.tokenizer, pipe.text_encoder)
    assert torch.equal(long, embed(["a red ball falling a blue"], pipe.tokenizer, pipe.text_encoder))
    assert "reads 6 tokens; left out from there: 'ball falling'" in caplog.text


def test_a_prompt_that_ends_within_a_word_has_the_tokens_of_its_beginning():
    pieces = ("a", "a</w>", "b", "b</w>", "<|startoftext|>", "<|endoftext|>")
    tokenizer = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=5)
    assert readable("ab baab", tokenizer) == "ab baab"  # cut after "ab ba", and no word ends there


def test_a_prompt_within_bounds_raises_no_warning(pipe, caplog):
    assert readable("a red ball", pipe.tokenizer) == "a red ball"
    assert not caplog.text


def corrupt(folder, tmp_path, change):
    copy = tmp_path / "copy"
    for path in folder.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    change(copy)
    return copy


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    "change",
    [
        lambda copy: (copy / WEIGHTS).unlink(),
        lambda copy: (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-1000]),
        lambda copy: (copy / WEIGHTS).write_bytes(b"not safetensors"),
        lambda copy: (copy / "unet" / "config.json").write_text("{"),
    ],
)
def test_broken_weights_are_one_clear_error(folder, tmp_path, change):
    with pytest.raises(ValueError, match=r"copy cannot be loaded as a VidRD pipeline: .+"):
        load_pipeline(corrupt(folder, tmp_path, change))


def change_tensors(copy, name, change):
    path = next((copy / name).glob("*.safetensors"))
    state = load_file(path)
    change(state)
    save_file(state, path)


@pytest.mark.parametrize("network", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [s.pop(key) for key in list(s)[1:]], "lacks .* and [0-9]+ more"),
        (lambda s: s.pop(max(s)), "lacks "),
        (lambda s: s.update(more=torch.zeros(1)), "has unknown more"),
        (lambda s: s.update({f"x.{key}": s.pop(key) for key in list(s)}), "lacks .* and has unknown x"),
        (lambda s: s.update({max(s): torch.zeros(3, 5, 7)}), "shape|size mismatch"),
    ],
)
def test_a_network_loads_exactly_or_not_at_all(folder, tmp_path, network, change, message):
    copy = corrupt(folder, tmp_path, lambda copy: change_tensors(copy, network, change))
    with pytest.raises(ValueError, match=f"cannot be loaded as a VidRD pipeline: .*{network}.*{message}"):
        load_pipeline(copy)
    with pytest.raises((ValueError, RuntimeError), match=message):
        VidRDPipeline.from_pretrained(copy)


def test_a_text_encoder_in_the_old_naming_is_the_same(pipe, made, folder, tmp_path):
    def rename(state):
        prefix = "" if any(key.startswith("text_model.") for key in state) else "text_model."
        state |= {f"{prefix}{key.removeprefix('' if prefix else 'text_model.')}": state.pop(key) for key in list(state)}

    copy = corrupt(folder, tmp_path, lambda copy: change_tensors(copy, "text_encoder", rename))
    assert np.array_equal(make(load_pipeline(copy)).frames, made().frames)


@pytest.mark.parametrize("safe", [True, False])
def test_networks_in_several_files_are_the_same(pipe, made, tmp_path, safe):
    pipe.save_pretrained(str(tmp_path), max_shard_size="20KB", safe_serialization=safe)
    assert len(list((tmp_path / "unet").glob(f"*-of-*.{'safetensors' if safe else 'bin'}"))) > 2
    assert np.array_equal(make(load_pipeline(tmp_path)).frames, made().frames)


def test_what_was_hashed_is_what_is_loaded(folder, tmp_path, monkeypatch):
    """A file that changes between the check of its hash and the load is refused."""

    def write_card(copy):
        (copy / "card.json").write_text(json.dumps({"sha256": {WEIGHTS: sha256(copy / WEIGHTS)}}))

    copy = corrupt(folder, tmp_path, write_card)
    check = checkpoints.verify

    def check_and_change(folder):
        hashes = check(folder)
        change_tensors(copy, "unet", lambda state: state.update({"conv_in.bias": state["conv_in.bias"] + 1}))
        return hashes

    monkeypatch.setattr(checkpoints, "verify", check_and_change)
    with pytest.raises(ValueError, match=r"unet.*is not the file whose hash was expected"):
        load_pipeline(copy)


def test_loading_asks_no_hub(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nothing may be looked up")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load_pipeline(folder)


def test_a_file_that_differs_from_its_card_is_refused(folder, tmp_path):
    def write_card(copy):
        hashes = {WEIGHTS: sha256(copy / WEIGHTS)}
        (copy / "card.json").write_text(json.dumps({"sha256": hashes}))

    good = corrupt(folder, tmp_path / "good", write_card)
    load_pipeline(good)
    data = bytearray((good / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (good / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"is not the file that card.json describes \(cut short or altered\)"):
        load_pipeline(good)
    (good / WEIGHTS).unlink()
    with pytest.raises(ValueError, match="is missing: restore it"):
        load_pipeline(good)


def command(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["vidrd", *map(str, words)])
    return main()


def sampling(folder, out, *more):
    return ["sample", "--model", folder, "--prompt", "a red ball", "--steps", 2, "--overlap", 2, "--out", out, *more]


def test_the_command_writes_a_video_and_its_account(folder, tmp_path, monkeypatch, capsys):
    out, account = tmp_path / "video.gif", tmp_path / "video.json"
    assert command(monkeypatch, *sampling(folder, out, "--frames", 6, "--json", account)) == 0
    assert read_video(out).shape == (6, 8, 8, 3)
    assert json.loads(account.read_text())["seams"] == [4]
    assert "6 frames, seams at [4]" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["video.gif", "video.json"]


def test_the_command_writes_the_pipelines_own_pixels(pipe, folder, tmp_path, monkeypatch):
    assert (
        command(monkeypatch, *sampling(folder, tmp_path / "frames", "--frames", 6, "--seed", 3, "--guidance", 2)) == 0
    )
    want = make(pipe, num_inference_steps=2, seed=3).frames[0]
    assert np.array_equal(read_video(tmp_path / "frames"), want)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--frames", 41, "--overlap", 9], "an overlap is at most the clip: got 9 frames of clips of 4"),
        (["--beta", 2], "--beta is a share, from 0 to 1; got 2.0"),
        (["--out", "nowhere/video.mp4"], "the folder nowhere does not exist"),
        (["--out", "video.webm"], "unknown suffix '.webm'"),
        (["--model", "nothing"], "neither a preset (pocket) nor a folder with a model_index.json"),
        (["--frames", 0], "--frames is a count from 1; got 0"),
        (["--steps", 0], "--steps is a count from 1; got 0"),
        (["--steps", 1001], "steps are between 1 and the 1000 of the training: got 1001"),
        (["--fps", 0], "--fps is frames per second, from 1 to 1000; got 0"),
        (["--fps", 60], "a GIF shows at most 50 frames per second: got 60"),
        (["--scale", 0], "--scale is a count from 1 to 64; got 0"),
        (["--guidance", "nan"], "--guidance is a finite number"),
        (["--json", "no/where.json"], "--json no/where.json: the folder no does not exist"),
        (["--json", "."], "--json .: this is a folder, name a file"),
        (["--device", "cuda:99"], "CUDA devices that PyTorch can use: got cuda:99"),
        (["--device", "gpu"], "--device is auto, cpu, cuda, cuda:1, ...: got 'gpu'"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_3(folder, tmp_path, monkeypatch, capsys, more, message):
    def call(*args, **options):
        raise AssertionError("what can be known before the network is called is said before")

    monkeypatch.setattr(UNet3DConditionModel, "forward", call)
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, *sampling(folder, "video.gif"), *more) == 3
    errors = capsys.readouterr().err.strip()
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda copy: (copy / WEIGHTS).unlink(), f"{WEIGHTS} is missing: restore it, or make it again"),
        (lambda copy: (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-1]), "(cut short or altered)"),
        (lambda copy: (copy / "model_index.json").unlink(), "They come with a clone of the repository"),
    ],
)
def test_a_preset_with_broken_weights_is_one_line_and_exit_code_3(tmp_path, monkeypatch, capsys, harm, message):
    shipped = PRESETS["pocket"]
    monkeypatch.setitem(PRESETS, "pocket", replace(shipped, folder=corrupt(shipped.folder, tmp_path, harm)))
    out = tmp_path / "video.gif"
    assert command(monkeypatch, "sample", "--prompt", "a red plain star", "--out", out) == 3
    errors = capsys.readouterr().err.strip()
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not out.exists()


def test_without_cuda_a_cuda_device_is_a_users_mistake(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert command(monkeypatch, *sampling(folder, tmp_path / "v.gif", "--device", "cuda")) == 3
    assert capsys.readouterr().err == "vidrd: this machine has 0 CUDA devices that PyTorch can use: got cuda\n"


def test_an_unknown_option_is_a_users_mistake(monkeypatch, capsys):
    assert command(monkeypatch, "sample", "--nonsense") == 3
    assert capsys.readouterr().err


def test_an_unknown_preset_is_a_users_mistake(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "sample", "--preset", "x", "--prompt", "y", "--out", tmp_path / "v.gif") == 3
    assert "'x' is no preset: take pocket" in capsys.readouterr().err


def test_the_world_is_exported_with_its_captions(tmp_path, monkeypatch):
    out = tmp_path / "world"
    assert command(monkeypatch, "world", "--out", out, "--count", 2, "--frames", 5, "--format", "gif") == 0
    rows = [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]
    assert [read_video(out / row["file"]).shape for row in rows] == [(5, 128, 128, 3)] * 2
    assert all(row["caption"].endswith("background") for row in rows)
    assert command(monkeypatch, "world", "--out", out) == 3
