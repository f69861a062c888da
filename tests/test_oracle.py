"""Samplers against a network that is exactly right: what remains is what the sampler does.

Frames are a stationary Gaussian AR(1) process, so the best denoiser of a window is a matrix. Truth: variance 1, a jump
at a seam as large as any other, correlation rho^16 = .61 between frames 16 apart. (Fifty DDIM steps alone bring the
variance to about .86.)
"""

from typing import NamedTuple

import pytest
import torch

from bench.methods import METHODS
from vidrd.sampling import Options, Request
from vidrd.schedule import Schedule

RHO, CLIP, VIDEOS = 0.97, 16, 1500
SCHEDULE = Schedule.ddim(
    {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    },
    50,
)


class PosteriorMean:
    """The noise that the exact posterior mean of the clean frames leaves."""

    clip, longest, branches = CLIP, None, 1

    def __call__(self, latents, timesteps):
        alpha = SCHEDULE.alphas[SCHEDULE.timesteps.index(int(timesteps))]
        frame = torch.arange(latents.shape[2], dtype=torch.float64)
        prior, identity = RHO ** (frame[:, None] - frame).abs(), torch.eye(len(frame), dtype=torch.float64)
        clean = alpha**0.5 * prior @ torch.linalg.inv(alpha * prior + (1 - alpha) * identity)
        noise = (identity - alpha**0.5 * clean) / (1 - alpha) ** 0.5
        return torch.einsum("st,bcthw->bcshw", noise.float(), latents)


class Seen(NamedTuple):
    variance: float
    seam_correlation: float
    jump: float  # mean square difference at seams over that inside clips
    recall: float  # correlation of frames one clip apart


def see(method, options):
    asked = Request(frames=4 * CLIP, clip=CLIP, shape=(1, 1, 1), seeds=tuple(range(VIDEOS)))
    video = METHODS[method].sample(PosteriorMean(), SCHEDULE, asked, options).latents[:, 0, :, 0, 0].double()

    def correlation(a, b):
        return float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt())

    change = video.diff(dim=1).square().mean(dim=0)
    at_seam = torch.arange(1, len(change) + 1) % CLIP == 0
    return Seen(
        variance=float(video.square().mean()),
        seam_correlation=correlation(video[:, :-1][:, at_seam], video[:, 1:][:, at_seam]),
        jump=float(change[at_seam].mean() / change[~at_seam].mean()),
        recall=correlation(video[:, :-CLIP], video[:, CLIP:]),
    )


def test_independent_clips_cut_hard_and_remember_nothing():
    seen = see("independent", METHODS["independent"].options(0))
    assert seen == pytest.approx((0.88, 0.0, 36.5, 0.0), abs=0.05, rel=0.05)


def test_shared_noise_repeats_the_clip():
    assert see("independent-shared", METHODS["independent-shared"].options(0)).recall == pytest.approx(1)


def test_one_long_window_of_a_perfect_network_is_right():
    seen = see("direct", METHODS["direct"].options(0))
    assert seen == pytest.approx((0.83, 0.97, 0.97, 0.58), abs=0.04)


def test_vidrd_holds_a_frame_at_the_seam_and_recalls_too_much():
    seen = see("vidrd", Options(overlap=4, alpha=4.0, beta=0.4))
    assert seen == pytest.approx((0.87, 0.994, 0.23, 0.76), abs=0.03)


def test_past_noise_carries_the_continuity():
    seen = see("vidrd", Options(overlap=4, alpha=0.0, beta=0.4))
    assert seen == pytest.approx((0.84, 0.79, 7.3, 0.22), abs=0.04, rel=0.08)


def test_guidance_adds_little_to_it():
    seen = see("vidrd", Options(overlap=4, alpha=4.0, beta=0.0))
    assert seen == pytest.approx((0.87, 0.99, 0.35, 0.76), abs=0.03)


def test_the_oracle_sees_noise_that_was_not_reversed(monkeypatch):
    """The fault that this test exists for: the same frames in their old order put a cut at the seam."""
    monkeypatch.setattr("vidrd.sampling.reverse_noise", lambda past: past)
    assert see("vidrd", Options(overlap=4, alpha=4.0, beta=0.0)).jump > 10
