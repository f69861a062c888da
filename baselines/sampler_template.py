"""Copy this file to begin a new sampler: it works, and does as little as a sampler can.

Three things make a method: `Options` (its parameters, checked), `plan` (its cost and its frames, without a network)
and `sample`. Then add one line to METHODS in bench/methods.py and one row to docs/methods.md; the conformance tests
pick it up by themselves. This one ties its clips together in the simplest way: each begins from a blend of the first
clip's noise and its own.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vidrd.denoiser import Denoiser, at
from vidrd.noise import Noise
from vidrd.sampler_contract import Announce, OnEvent, Origin, Plan, Request, Result, Seam, check_fits, noise_for
from vidrd.schedule import Schedule


@dataclass(frozen=True)
class Options:
    """Your parameters: one per line, with unit, range and what the default means.

    Raises:
        ValueError: a parameter out of its range; say the rule, what it got and what to do.
    """

    shared: float = 0.5  # [0, 1]: share of the initial noise's variance that all clips have in common

    def __post_init__(self) -> None:
        if not 0 <= self.shared <= 1:
            raise ValueError(f"shared is a share of the variance in [0, 1]: got {self.shared}")


def plan(request: Request, steps: int, options: Options) -> Plan:
    """Pure arithmetic, which tests compare with the calls and the result of `sample`."""
    clip = request.clip
    clips = math.ceil(request.frames / clip)
    return Plan(
        calls=clips * steps,
        fe=clips * steps * clip,
        windows=tuple((number * clip, (number + 1) * clip) for number in range(clips)),
        seams=tuple(Seam(number * clip, "hard") for number in range(1, clips)),
        frames=tuple(Origin(*divmod(frame, clip)) for frame in range(request.frames)),
        mixes="mixes it with the first clip's" if options.shared > 0 and clips > 1 else "",  # FreeInit asks
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
    """Say here what the method does, where it is published, and what it raises."""
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise), request.eta_or()
    C, H, W = request.shape
    shape = (C, request.clip, H, W)
    timesteps = torch.tensor(schedule.timesteps, device=device)

    first = noise("initial", 0, shape)  # drawn and mixed in float32 on the CPU: every device starts from the same
    video: list[Tensor] = []
    for clip, (start, stop) in enumerate(todo.windows):
        x = first
        if clip > 0:  # the idea: write yours as a named function
            x = math.sqrt(options.shared) * first + math.sqrt(1 - options.shared) * noise("initial", clip, shape)
        x, solver = x.to(device, dtype), schedule.fresh()
        for step in range(schedule.steps):
            prediction = at(denoise, slice(start, stop))(x, timesteps[step])  # prompts may change by frame
            announce("call", clip, step, prediction)
            fresh = noise("step", clip, shape, step) if eta > 0 else None
            x = solver.step(x, prediction, step, eta, fresh)
            announce("step", clip, step, x)
        announce("clip", clip, schedule.steps - 1, x)
        video.append(x[:, :, : request.frames - start])
        announce("frames", clip, schedule.steps - 1, video[-1])
    return Result(torch.cat(video, dim=2), todo)
