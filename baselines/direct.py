"""The whole video in one window, longer than the network was trained on: no seams, and no promise of quality."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vidrd.denoiser import Call, Denoiser, at
from vidrd.noise import Noise, video_noise
from vidrd.sampler_contract import Announce, OnEvent, Plan, Request, Result, check_fits, noise_for, undivided
from vidrd.schedule import Schedule, Solver


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
        frames=undivided(request.frames),
        drawn=request.pieces,
    )


def denoise_together(
    call: Call,
    schedule: Schedule,
    solver: Solver,
    x: Float[Tensor, "B C T H W"],
    eta: float,
    noise: Noise,
    announce: Callable[..., None],
    opened: Callable[[int], AbstractContextManager[Any]] = lambda step: nullcontext(),  # around every step
) -> Float[Tensor, "B C T H W"]:
    """All steps of clip 0, whose frames share their level."""
    C, T, H, W = x.shape[1:]
    timesteps = torch.tensor(schedule.timesteps, device=x.device)
    for step in range(schedule.steps):
        with opened(step):
            prediction = call(x, timesteps[step])
            announce("call", 0, step, prediction)
            x = solver.step(x, prediction, step, eta, noise("step", 0, (C, T, H, W), step) if eta > 0 else None)
            announce("step", 0, step, x)
    announce("clip", 0, schedule.steps - 1, x)
    return x


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
    x = video_noise(noise, request.frames, request.clip, request.shape).to(device, dtype)
    call = at(denoise, slice(0, request.frames))
    with _longer(denoise, options, request.frames):
        x = denoise_together(call, schedule, schedule.fresh(), x, eta, noise, announce)
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
