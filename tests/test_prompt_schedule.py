"""Prompts that change along a video: how they are read, and that every sampler gives each frame its own."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from baselines.models.families import load_model
from bench.methods import METHODS
from vidrd.denoiser import answers, at
from vidrd.pipeline import VidRDPipeline
from vidrd.prompt_schedule import PromptSchedule, read_prompt, read_prompts
from vidrd.sampler_contract import Request
from vidrd.schedule import Schedule

CLIP, STEPS = 4, 5
CONFIG = {"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
SCHEDULE = Schedule.ddim(CONFIG, STEPS)
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@pytest.mark.parametrize(
    ("prompt", "texts", "starts"),
    [
        ("a red star", ("a red star",), (0,)),
        ("0: a red star moving left | 40: a blue star", ("a red star moving left", "a blue star"), (0, 40)),
        (" 0 :a|7:b| 12: c: d ", ("a", "b", "c: d"), (0, 7, 12)),
        ("0: a red star", ("a red star",), (0,)),
        ("0: 0: a", ("0: a",), (0,)),
        ("16:9, a red | star", ("16:9, a red | star",), (0,)),
        ("", ("",), (0,)),
    ],
)
def test_a_schedule_is_read_and_all_else_is_plain(prompt, texts, starts):
    assert read_prompt(prompt) == PromptSchedule(texts, starts)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a | 40: b", "the first '0: text': got 'a'"),
        ("0: a | b", "'FRAME: text', the first '0: text': got 'b'"),
        ("5: a | 40: b", "begins at frame 0: got 5"),
        ("0: a | 40: b | 40: c", "rise: got 0, 40, 40"),
        ("0: a | 40: ", "got no text from frame 40 on"),
    ],
)
def test_what_is_half_a_schedule_is_refused(prompt, message):
    with pytest.raises(ValueError, match=message):
        read_prompt(prompt)


def test_a_text_that_never_shows_is_refused():
    assert read_prompts(["0: a | 15: b"], 16)[0].starts == (0, 15)
    with pytest.raises(ValueError, match="got frame 16 of 16 frames"):
        read_prompts(["plain", "0: a | 16: b"], 16)


def test_texts_cross_over_around_the_change():
    schedule = PromptSchedule(("a", "b", "c"), (0, 6, 20))
    frames = torch.arange(-3, 30)
    hard, soft = schedule.shares(frames, 0), schedule.shares(frames, 4)
    assert torch.equal(hard[:, 1], ((frames >= 6) & (frames < 20)).float())
    assert torch.equal(schedule.shares(frames, 1), hard)
    assert torch.equal(soft[6:13, 1], torch.tensor([0, 0.125, 0.375, 0.625, 0.875, 1, 1]))  # frames 3 to 9
    assert torch.equal(soft.sum(dim=1), torch.ones(33))
    assert torch.equal(soft[[0, -1]], torch.tensor([[1.0, 0, 0], [0, 0, 1]]))


class Numbered:
    """A network whose clean estimate of a frame is a number that only the frame's place in the video tells."""

    clip, longest, branches = CLIP, None, 1

    def __init__(self, shift=0):
        self.shift, self.spans = shift, []

    def __call__(self, latents, timesteps):
        raise AssertionError("a call that does not say which frames it sees")

    def at(self, spans):
        frames = [torch.arange(span.start, span.stop) if isinstance(span, slice) else span for span in spans]
        self.spans += frames

        def call(latents, timesteps):
            number = torch.stack(frames).clamp(min=0).double() + self.shift  # windows T
            number = number.repeat_interleave(len(latents) // len(frames), dim=0)
            assert number.shape == (len(latents), latents.shape[2])
            mixes = {time: SCHEDULE.mix(level) for level, time in enumerate(SCHEDULE.timesteps)}
            times = timesteps.expand(number.shape)
            signal = times.clone().double().apply_(lambda time: mixes[int(time)].signal)
            spread = times.clone().double().apply_(lambda time: mixes[int(time)].spread)
            as_latents = (number * signal)[:, None, :, None, None], spread[:, None, :, None, None]
            return (latents - as_latents[0]) / as_latents[1]

        return call


def make(method, denoise, frames, budget=None):
    asked = Request(frames, CLIP, (1, 1, 2), seeds=(3, 8), budget=budget)
    return method.sample(denoise, SCHEDULE, asked, method.options(2), dtype=torch.float64).latents


@every_method
@pytest.mark.parametrize(("frames", "budget"), [(CLIP - 1, None), (3 * CLIP + 1, None), (2 * CLIP + 1, 6 * CLIP)])
def test_every_frame_gets_its_own_text(method, frames, budget):
    video = make(method, Numbered(), frames, budget)
    end = SCHEDULE.alphas_prev[-1] ** 0.5
    want = torch.arange(frames).double().reshape(-1, 1, 1).expand(2, 1, -1, 1, 2)
    assert (video / end - want).abs().max() < 0.2  # what the last level keeps of noise
    with pytest.raises(AssertionError):
        assert (make(method, Numbered(shift=1), frames, budget) / end - want).abs().max() < 0.2


def words(text):
    """Embedded text of a toy: the letters' codes."""
    return torch.tensor([[ord(letter) / 128] for letter in f"{text:4.4}"])


class Telling:
    """A network that adds what it is told of each frame to what it sees of all."""

    def __call__(self, latents, timestep, encoder_hidden_states):
        told = encoder_hidden_states.mean(dim=(-2, -1)).reshape(len(latents), 1, -1, 1, 1)
        return SimpleNamespace(sample=0.6 * torch.tanh(latents) + 0.2 * latents.mean(dim=2, keepdim=True) + told)

    def attend_in(self, windows):
        return nullcontext()


def toy(prompts, blend=4):
    """Its denoiser, made as the pipeline makes that of the U-Net."""

    pipe = SimpleNamespace(
        unet=Telling(),
        config=SimpleNamespace(clip=CLIP),
        _context=lambda name, texts, embeds, videos: embedded(texts, videos),
    )
    pipe._changing = lambda schedules, blend: VidRDPipeline._changing(pipe, schedules, blend)
    return VidRDPipeline.denoiser(pipe, prompts, negative_prompt="none", guidance=2.0, blend=blend)


def embedded(texts, videos):
    listed = [texts] * videos if isinstance(texts, str) else texts
    return torch.stack([words(text) for text in listed])


def toys(method, prompts, frames=3 * CLIP - 1, **more):
    asked = Request(frames, CLIP, (1, 1, 2), tuple(range(len(prompts))), **more)
    return method.sample(toy(prompts), SCHEDULE, asked, method.options(2)).latents


@every_method
def test_one_entry_and_equal_entries_are_the_plain_prompt_to_the_bit(method):
    plain = toys(method, ["abcd"])
    assert torch.equal(toys(method, ["0: abcd"]), plain)
    assert torch.equal(toys(method, ["0: abcd | 4: abcd"]), plain)


@every_method
def test_a_change_alters_its_video_and_joined_calls_do_not(method):
    prompts = ["0: abcd | 4: wxyz", "klmn"]
    alone, together = toys(method, prompts), toys(method, prompts, budget=60)
    assert torch.allclose(alone, together, atol=1e-5)
    plain = toys(method, ["abcd", "klmn"])
    assert not torch.allclose(alone[0], plain[0], atol=1e-2)
    assert torch.allclose(alone[1], plain[1], atol=1e-5)


@pytest.fixture(scope="module")
def model():
    return load_model("tiny:VidRDPipeline")


def videos(model, method, prompts, frames=9):
    denoise = model.denoiser(prompts, guidance=1.0)
    asked = Request(frames, model.clip, model.latent_shape(), tuple(range(len(prompts))))
    return method.sample(denoise, model.schedule(1), asked, method.options(1)).latents


def test_clips_that_lie_in_one_text_are_those_of_that_prompt(model):
    method = METHODS["independent"]
    first, second = (videos(model, method, [text]) for text in ("a dog runs", "the red ball rolls right"))
    changed = videos(model, method, ["0: a dog runs | 5: the red ball rolls right"])  # clips of 3; blends in 3 to 6
    assert torch.equal(changed[:, :, :3], first[:, :, :3])
    assert not torch.equal(changed[:, :, 3:6], first[:, :, 3:6])
    assert not torch.equal(changed[:, :, 6:], first[:, :, 6:])
    later = videos(model, method, ["0: a dog runs | 4: the red ball rolls right"])
    assert torch.equal(later[:, :, 6:], second[:, :, 6:])


def test_the_network_gives_each_frame_its_text(model):
    unet, x = model.pipe.unet, torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    text = model.text(["a dog runs", "the red ball rolls right"])["encoder_hidden_states"]
    same = unet(x, 500, text[:1, None].expand(-1, 3, -1, -1)).sample
    assert torch.allclose(same, unet(x, 500, text[:1]).sample, atol=1e-5)
    attention, tokens = unet.mid_block.attentions[0].transformer_blocks[0].attn2, torch.randn(3, 4, 32)
    per_frame = torch.stack([text[0], text[1], text[0]])
    each = [attention.cross(tokens[i : i + 1], per_frame[i : i + 1]) for i in range(3)]
    assert torch.allclose(attention.cross(tokens, per_frame), torch.cat(each), atol=1e-5)


def test_a_sampler_that_does_not_say_its_frames_is_refused(model):
    denoise = model.denoiser(["0: a dog runs | 4: the red ball"], guidance=1.0)
    with pytest.raises(ValueError, match="samplers that say which frames"):
        denoise(torch.zeros(1, 4, 3, 4, 4), torch.tensor(500))
    assert at(replace(denoise, budget=3), slice(0, 3)).budget == 3
    assert (
        len(list(answers(denoise, [torch.zeros(1, 4, 3, 4, 4)] * 2, [torch.tensor(5)] * 2, [slice(0, 3)] * 2, 2))) == 1
    )


def test_a_network_of_one_text_a_call_refuses_changes():
    with pytest.raises(ValueError, match="takes one text a call"):
        load_model("tiny:WanPipeline").denoiser(["0: a dog runs | 4: a red ball"])


def test_prompts_that_the_pipeline_refuses(model):
    pipe = model.pipe
    with pytest.raises(ValueError, match="got frame 4 of 4 frames"):
        pipe("0: a dog | 4: a red ball", num_frames=4, num_inference_steps=1)
    with pytest.raises(ValueError, match="a negative prompt holds for the whole video"):
        pipe.denoiser("a dog", negative_prompt="0: a dog | 4: a red ball")
    with pytest.raises(ValueError, match="prompts blend over a count of frames from 0 upwards: got -1"):
        pipe.denoiser("a dog", blend=-1)
