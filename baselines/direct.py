"""The whole video in one window, longer than the network was trained on: no seams, and no promise of quality."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from vidrd.denoiser import Denoiser, at
from vidrd.noise import Noise, video_noise
from vidrd.sampler_contract import Announce, OnEvent, Origin, Plan, Request, Result, check_fits, noise_for
from vidrd.schedule import Schedule


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler."""

    # how a network with rotary positions bears windows longer than its training's (baselines/models/longer_windows.py)
    positions: Literal["trained", "riflex", "ultravico"] = "trained"


def plan(request: Request, steps: int, options: Options) -> Plan:
    """One window of N frames; the clip's length only says how the initial noise is drawn."""
    return Plan(
        calls=steps,
        fe=steps * request.frames,
        windows=((0, request.frames),),
        seams=(),
        frames=tuple(Origin(0, frame) for frame in range(request.frames)),
        drawn=tuple((first, first + request.clip) for first in range(0, request.frames, request.clip)),
    )


@torch.no_grad()
def sample(
    denoise: Denoiser,
    schedule: Schedule,
    request: Request,
    options: Options = Options(),
    *,
    noise: Noise | None = None,  # None: KeyedNoise(request.seeds)
    on_event: OnEvent | None = None,  # called after every call and step; may raise Cancelled
    device: torch.device | str | None = None,  # of the latents, where the network is; None: the CPU
    dtype: torch.dtype | None = None,  # of the latents; None: float32
) -> Result:
    """Sample all frames together by plain DDIM.

    Raises:
        ValueError: the video is too long for the network, or its positions are not those that `positions` is for.
    """
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.frames)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise), request.eta_or()
    C, H, W = request.shape
    shape = (C, request.frames, H, W)
    timesteps = torch.tensor(schedule.timesteps, device=device)

    x, solver = video_noise(noise, request.frames, request.clip, request.shape).to(device, dtype), schedule.fresh()
    with _longer(denoise, options, request.frames):
        for step in range(schedule.steps):
            prediction = at(denoise, slice(0, request.frames))(x, timesteps[step])
            announce("call", 0, step, prediction)
            fresh = noise("step", 0, shape, step) if eta > 0 else None
            x = solver.step(x, prediction, step, eta, fresh)
            announce("step", 0, step, x)
    announce("clip", 0, schedule.steps - 1, x)
    announce("frames", 0, schedule.steps - 1, x)
    return Result(x, todo)


def _longer(denoise: Denoiser, options: Options, frames: int) -> AbstractContextManager[None]:
    if options.positions == "trained":
        return nullcontext()
    extend = getattr(denoise, "extend", None)
    if extend is None:
        raise ValueError(f"{options.positions} is for networks with rotary positions: use positions='trained'")
    context: AbstractContextManager[None] = extend(options.positions, frames)
    return context
