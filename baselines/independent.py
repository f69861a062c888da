"""Unrelated clips, one after the other: the null model of every seam.

With shared noise every clip begins alike: VidRD's reuse without the reversal, the mixing and the guidance.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vidrd.denoiser import Denoiser, answers
from vidrd.noise import Noise
from vidrd.sampler_contract import Announce, OnEvent, Origin, Plan, Request, Result, Seam, check_fits, noise_for
from vidrd.schedule import Schedule


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler."""

    shared_noise: bool = False  # every clip starts from the first one's noise


def plan(request: Request, steps: int, options: Options) -> Plan:
    """K = ceil(N / F) clips, cropped to N frames."""
    clip = request.clip
    clips = math.ceil(request.frames / clip)
    starts = [number * clip for number in range(clips)]
    return Plan(
        calls=math.ceil(clips / request.together) * steps,
        fe=clips * steps * clip,
        windows=tuple((start, start + clip) for start in starts),
        seams=tuple(Seam(start, "hard") for start in starts[1:]),
        frames=tuple(Origin(*divmod(frame, clip)) for frame in range(request.frames)),
        mixes="starts every clip from the first one's" if options.shared_noise and clips > 1 else "",
    )


@torch.no_grad()
def sample(
    denoise: Denoiser,
    schedule: Schedule,
    request: Request,
    options: Options = Options(),
    *,
    noise: Noise | None = None,  # None: KeyedNoise(request.seeds)
    on_event: OnEvent | None = None,  # called after every call, step and clip; may raise Cancelled
    device: torch.device | str | None = None,  # of the latents, where the network is; None: the CPU
    dtype: torch.dtype | None = None,  # of the latents; None: float32
) -> Result:
    """Sample every clip by plain DDIM from its own noise, or all from the same.

    Raises:
        ValueError: the clip is too long for the network.
    """
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise), request.eta_or()
    C, H, W = request.shape
    shape = (C, request.clip, H, W)
    timesteps = torch.tensor(schedule.timesteps, device=device)
    shared = noise("initial", 0, shape) if options.shared_noise else None

    video: list[Tensor] = []
    clips = range(len(todo.windows))
    for first in clips[:: request.together]:
        joined = clips[first : first + request.together]  # clips that share the network's calls
        states = [(noise("initial", clip, shape) if shared is None else shared).to(device, dtype) for clip in joined]
        solvers = [schedule.fresh() for _ in joined]
        for step in range(schedule.steps):
            spans = [slice(*todo.windows[clip]) for clip in joined]
            (predictions,) = answers(denoise, states, [timesteps[step]] * len(states), spans, request.together)
            announce("call", first, step, predictions[-1])
            for place, (clip, prediction) in enumerate(zip(joined, predictions, strict=True)):
                fresh = noise("step", clip, shape, step) if eta > 0 else None
                states[place] = solvers[place].step(states[place], prediction, step, eta, fresh)
            announce("step", first, step, states[-1])
        for clip, x in zip(joined, states, strict=True):
            announce("clip", clip, schedule.steps - 1, x)
            video.append(x[:, :, : request.frames - clip * request.clip])
            announce("frames", clip, schedule.steps - 1, video[-1])
    return Result(torch.cat(video, dim=2), todo)
