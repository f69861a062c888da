"""Small networks whose answers are known, and plain DDIM to compare samplers with."""

import torch

from vidrd.noise import KeyedNoise, video_noise
from vidrd.sampler_contract import Request
from vidrd.schedule import Schedule

CLIP, STEPS, SHAPE, SEEDS = 4, 8, (2, 3, 3), (3, 8)
CONFIG = {"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
SCHEDULE = Schedule.ddim(CONFIG, STEPS)


def over_frames(timesteps):
    """Timesteps of all frames, of each frame, or of each frame of each video, shaped to go with B C T H W."""
    times = timesteps.double() / 1000
    return times if times.ndim == 0 else times.reshape(-1, 1, times.shape[-1], 1, 1)


class Separable:
    """Sees each frame alone; keeps what it was given."""

    clip, longest, branches = CLIP, None, 1

    def __init__(self):
        self.calls = []

    def __call__(self, latents, timesteps):
        self.calls.append((latents.clone(), timesteps))
        return ((0.6 + 0.3 * over_frames(timesteps)) * torch.tanh(latents)).to(latents.dtype)


class Coupled(Separable):
    """Answers by the other frames too, and by the frame's place in the call."""

    def __call__(self, latents, timesteps):
        place = torch.linspace(0.1, 0.4, latents.shape[2]).reshape(-1, 1, 1)
        answer = super().__call__(latents, timesteps) + place * latents.mean(dim=2, keepdim=True)
        return answer.to(latents.dtype)


def request(frames, **changes):
    return Request(**{"frames": frames, "clip": CLIP, "shape": SHAPE, "seeds": SEEDS} | changes)


def run(module, frames, denoise=None, schedule=SCHEDULE, noise=None, dtype=torch.float64, asked=None, **options):
    asked = asked or request(frames)
    chosen = module.Options(**options)
    return module.sample(denoise or Coupled(), schedule, asked, chosen, noise=noise, dtype=dtype).latents


def ddim(x, denoise=None, schedule=SCHEDULE):
    """Plain DDIM of a whole tensor, as a reader would write it."""
    denoise = denoise or Separable()
    for step, timestep in enumerate(schedule.timesteps):
        x = schedule.step(x, denoise(x, torch.tensor(timestep)), step)
    return x


def initial(frames, noise=None):
    return video_noise(noise or KeyedNoise(SEEDS), frames, CLIP, SHAPE).double()


def close(a, b, tolerance=1e-12):
    return a.shape == b.shape and float((a - b).abs().max()) < tolerance
