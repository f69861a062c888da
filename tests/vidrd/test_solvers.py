"""Multistep solvers: diffusers' numbers, one memory a clip, and nearer to the truth than DDIM in as few steps."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

import baselines.replace
from baselines import co_denoise
from vidrd.noise import KeyedNoise
from vidrd.sampler_contract import Request
from vidrd.sampling import Options, sample
from vidrd.schedule import Schedule
from vidrd.solvers import MULTISTEP, schedule

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
CONFIG |= {"set_alpha_to_one": True, "steps_offset": 1, "timestep_spacing": "trailing"}
CLIP, SPREAD = 4, 0.5
every_solver = pytest.mark.parametrize("name", MULTISTEP)


class Exact:
    """The noise in clean frames of spread 0.5, as the best network would say it."""

    clip, longest, branches = CLIP, None, 1

    def __init__(self, levels):
        self.alphas = dict(zip(levels.timesteps, levels.alphas, strict=True))

    def __call__(self, latents, timesteps):
        alpha = self.alphas[int(timesteps)]
        return latents * (1 - alpha) ** 0.5 / (alpha * SPREAD**2 + 1 - alpha)


def request(frames, **changes):
    return Request(frames, CLIP, (2, 3, 3), (0, 1), **changes)


def solved(name, steps, frames=CLIP, **changes):
    levels = schedule(name, CONFIG, steps)
    return sample(Exact(levels), levels, request(frames, **changes), Options(overlap=2)).latents


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers' own loop
@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("dpmsolver++", DPMSolverMultistepScheduler(**{k: v for k, v in CONFIG.items() if k not in ("clip_sample",
            "set_alpha_to_one")}, solver_order=2)),
        ("unipc", UniPCMultistepScheduler(**{k: v for k, v in CONFIG.items() if k not in ("clip_sample",
            "set_alpha_to_one")}, solver_order=2)),
    ],
)  # fmt: skip
def test_a_clip_is_what_diffusers_own_loop_makes(name, scheduler):
    denoise = Exact(schedule(name, CONFIG, 7))
    scheduler.set_timesteps(7)
    x = KeyedNoise((0, 1))("initial", 0, (2, CLIP, 3, 3))
    for timestep in scheduler.timesteps:
        x = scheduler.step(denoise(x, timestep), timestep, x).prev_sample
    torch.testing.assert_close(solved(name, 7), x)


@every_solver
def test_every_clip_has_a_memory_of_its_own(name):
    video = solved(name, 5, frames=3 * CLIP)
    torch.testing.assert_close(video[:, :, :CLIP], solved(name, 5))
    side_by_side = solved(name, 5, frames=3 * CLIP, budget=1000)
    torch.testing.assert_close(side_by_side, video)


@every_solver
def test_twenty_steps_come_nearer_to_the_truth_than_thirty_of_ddim(name):
    truth = SPREAD * KeyedNoise((0, 1))("initial", 0, (2, CLIP, 3, 3))  # noise of variance 1 flows to clean frames
    distance = {each: float((solved(each, steps) - truth).norm()) for each, steps in (("ddim", 30), (name, 20))}
    assert distance[name] < distance["ddim"], distance


@every_solver
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_levels_fall_from_noise_to_the_clean_frames(name, prediction):
    zero = {"rescale_betas_zero_snr": prediction == "v_prediction", "prediction_type": prediction}
    levels = schedule(name, CONFIG | zero, 10)
    assert levels.steps == 10
    assert list(levels.alphas) == sorted(levels.alphas)
    assert levels.alphas[1:] == levels.alphas_prev[:-1]
    assert levels.alphas_prev[-1] == 1


def test_ddim_stays_what_it_was():
    assert schedule("ddim", CONFIG, 10) == Schedule.ddim(CONFIG, 10)
    exact = schedule("ddim", CONFIG, 10)
    assert exact.fresh() is exact


@every_solver
def test_what_a_multistep_solver_cannot_do_is_said(name):
    levels = schedule(name, CONFIG, 5)
    x = torch.zeros(1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="is deterministic: eta is 1"):
        levels.fresh().step(x, x, 0, eta=1.0)
    with pytest.raises(ValueError, match="in order: got 2, next is 0"):
        levels.fresh().step(x, x, 2)
    with pytest.raises(ValueError, match="remembers the steps of one clip"):
        baselines.replace.sample(Exact(levels), levels, request(CLIP), baselines.replace.Options())
    with pytest.raises(ValueError, match="remembers the steps of one clip"):
        co_denoise.sample(Exact(levels), levels, request(2 * CLIP), co_denoise.flowlong())


def test_an_unknown_solver_is_named():
    with pytest.raises(ValueError, match=r"solver is one of ddim, dpmsolver\+\+, unipc: got 'euler'"):
        schedule("euler", CONFIG, 5)
