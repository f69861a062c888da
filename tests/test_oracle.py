"""Samplers against a network that is exactly right: what remains is what the sampler does.

Frames are a stationary Gaussian AR(1) process, so the best denoiser of a window is a matrix, whatever level each of its
frames has. Truth: variance 1, a jump at a seam as large as any other, correlation rho^16 = .61 between frames 16 apart.
(Fifty DDIM steps alone bring the variance of a clip to about .86.)
"""

import zlib
from functools import lru_cache
from typing import NamedTuple

import pytest
import torch

from baselines import co_denoise, fifo, freenoise, replace
from bench.methods import METHODS
from vidrd.sampler_contract import Request
from vidrd.sampling import Options
from vidrd.schedule import Schedule

RHO, CLIP, FRAMES, VIDEOS = 0.97, 16, 64, 4000
CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
SCHEDULE = Schedule.ddim(CONFIG, 50)


class PosteriorMean:
    """The noise that the exact posterior mean of the clean frames leaves; every frame may have its own level."""

    clip, longest, branches = CLIP, None, 1

    def __init__(self, schedule):
        self.alphas = dict(zip(schedule.timesteps, schedule.alphas, strict=True))
        self.matrix = lru_cache(self.matrix)

    def __call__(self, latents, timesteps):
        noise = self.matrix(tuple(timesteps.expand(latents.shape[2]).tolist()))
        return torch.einsum("st,bcthw->bcshw", noise, latents)

    def matrix(self, timesteps):
        alpha = torch.tensor([self.alphas[timestep] for timestep in timesteps], dtype=torch.float64)
        signal, spread = alpha.sqrt().diag(), (1 - alpha).sqrt().diag()
        frame = torch.arange(len(alpha), dtype=torch.float64)
        prior = RHO ** (frame[:, None] - frame).abs()
        clean = prior @ signal @ torch.linalg.inv(signal @ prior @ signal + spread @ spread)
        return (torch.linalg.inv(spread) @ (torch.eye(len(alpha), dtype=torch.float64) - signal @ clean)).float()


def noise(purpose, clip, shape, step=0):
    """One generator for all videos of a key: faster than one for each, and no two draws are alike."""
    generator = torch.Generator().manual_seed(zlib.crc32(repr((purpose, clip, step)).encode()))
    return torch.randn((VIDEOS, *shape), generator=generator)


class Seen(NamedTuple):
    variance: float
    seam_correlation: float
    jump: float  # mean square difference at seams over that inside clips
    recall: float  # correlation of frames one clip apart


def videos(method, options, schedule=SCHEDULE):
    """N T, and the frames that begin a clip."""
    asked = Request(frames=FRAMES, clip=CLIP, shape=(1, 1, 1), seeds=tuple(range(VIDEOS)))
    result = METHODS[method].sample(PosteriorMean(schedule), schedule, asked, options, noise=noise)
    return result.latents[:, 0, :, 0, 0].double(), [seam.frame for seam in result.seams]


def see(method, options, schedule=SCHEDULE):
    return look(*videos(method, options, schedule))


def look(video, seams):
    seams = seams or list(range(CLIP, FRAMES, CLIP))  # where there are none, the places where clips would meet

    def correlation(a, b):
        return float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt())

    change = video.diff(dim=1).square().mean(dim=0)
    at_seam = torch.isin(torch.arange(1, len(change) + 1), torch.tensor(seams))
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


@pytest.mark.parametrize(
    ("options", "variance", "recall"),
    [
        (co_denoise.Options(overlap=8, weights="flat"), 0.71, 0.17),
        (co_denoise.Options(overlap=12, weights="flat"), 0.67, 0.22),
        (co_denoise.Options(overlap=12), 0.71, 0.19),
        (co_denoise.Options(overlap=12, noise="rescheduled"), 0.88, 0.96),
    ],
    ids=["S=8", "S=4", "S=4 pyramid", "S=4 rescheduled noise"],
)
def test_windows_lose_contrast_and_remember_little_unless_their_noise_repeats(options, variance, recall):
    seen = see("codenoise", options)
    assert (seen.variance, seen.recall) == pytest.approx((variance, recall), abs=0.03)


@pytest.mark.parametrize(
    ("preset", "want"),
    [
        ("flowlong", (0.43, 0.945, 0.94, 0.22)),
        ("videomerge", (0.82, 0.97, 0.94, 0.69)),
        ("diffvf", (0.70, 0.80, 1.01, 0.91)),
    ],
)
def test_renewed_noise_loses_contrast_shared_noise_recalls_and_strided_windows_liken_far_frames(preset, want):
    """A posterior mean has too little variance, which noise drawn anew at every step never lets grow. Strided windows
    show the network far frames as neighbors, which it makes them, and so neighbors less alike (0.8 instead of 0.97).
    """
    assert see(preset, METHODS[preset].options(8)) == pytest.approx(want, abs=0.04)


def test_free_noise_repeats_itself_from_clip_to_clip():
    """Its attention has no part in this network; the repeated noise alone does it."""
    assert see("freenoise", freenoise.Options()).recall > 0.9


@pytest.mark.parametrize(
    ("options", "want"),
    [
        (replace.Options(overlap=4), (0.72, 0.72, 7.8, 0.14)),
        (replace.Options(overlap=8), (0.66, 0.75, 6.5, 0.20)),
        (replace.Options(overlap=8, resample=5), (0.71, 0.94, 2.0, 0.51)),
    ],
    ids=["O=4", "O=8", "O=8 R=5"],
)
def test_replacement_steps_at_the_seam_and_resampling_repairs_it(options, want):
    assert see("replace", options) == pytest.approx(want, abs=0.04, rel=0.08)


def test_vidrd_holds_a_frame_at_the_seam_and_recalls_too_much():
    seen = see("vidrd", Options(overlap=4, alpha=4.0, beta=0.4))
    assert seen == pytest.approx((0.87, 0.994, 0.23, 0.76), abs=0.03)


def test_past_noise_carries_the_continuity():
    seen = see("vidrd", Options(overlap=4, alpha=0.0, beta=0.4))
    assert seen == pytest.approx((0.84, 0.79, 7.3, 0.22), abs=0.04, rel=0.08)


def test_guidance_adds_little_to_it():
    seen = see("vidrd", Options(overlap=4, alpha=4.0, beta=0.0))
    assert seen == pytest.approx((0.87, 0.99, 0.35, 0.76), abs=0.03)


@pytest.mark.parametrize(
    ("lookahead", "want", "drift"), [(True, (0.66, 0.28), (0.79, 0.62)), (False, (0.65, 0.19), (0.73, 0.62))]
)
def test_fifo_loses_contrast_along_the_video(lookahead, want, drift):
    schedule = Schedule.ddim(CONFIG, 64)
    video, seams = videos("fifo", fifo.Options(lookahead=lookahead), schedule)
    seen = look(video, seams)
    assert (seen.variance, seen.recall) == pytest.approx(want, abs=0.04)
    by_quarter = video.square().mean(dim=0).reshape(4, CLIP).mean(dim=1)
    assert (float(by_quarter[0]), float(by_quarter[-1])) == pytest.approx(drift, abs=0.04)


@pytest.mark.parametrize(
    ("method", "want", "drift"),
    [
        ("fifo-zigzag", (0.68, 0.94, 1.29, 0.51), (0.80, 0.64)),
        ("fifo-neighbor", (5.1, 0.98, 1.24, 0.54), (0.87, 8.2)),
        ("forcing", (0.76, 0.97, 1.0, 0.51), (0.90, 0.69)),
    ],
)
def test_fifos_family_loses_contrast_too_and_a_tail_of_low_frequencies_gains_much(method, want, drift):
    """All of a single pixel is low frequency: noise that is alike from frame to frame is amplified as one."""
    video, seams = videos(method, METHODS[method].options(0))
    assert look(video, seams) == pytest.approx(want, abs=0.04, rel=0.05)
    by_quarter = video.square().mean(dim=0).reshape(4, CLIP).mean(dim=1)
    assert (float(by_quarter[0]), float(by_quarter[-1])) == pytest.approx(drift, abs=0.04, rel=0.05)


def test_the_oracle_sees_noise_that_was_not_reversed(monkeypatch):
    """The fault that this test exists for: the same frames in their old order put a cut at the seam."""
    monkeypatch.setattr("vidrd.sampling.reverse_noise", lambda past: past)
    assert see("vidrd", Options(overlap=4, alpha=4.0, beta=0.0)).jump > 10
