"""FIFO-Diffusion (arXiv 2405.11473): frames wait in a queue, each a step cleaner than the next, and leave one by one.

The network sees a clip of the queue at a time, so its frames form a diagonal of noise levels. The queue begins with a
clip that was sampled plainly and noised again. Any number of steps works here: where the windows do not fill the
queue, the cleanest one also sees frames that have left it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidrd.denoiser import Denoiser, answers
from vidrd.noise import Noise
from vidrd.sampler_contract import Announce, OnEvent, Origin, Plan, Request, Result, Seam, check_fits, noise_for
from vidrd.schedule import Mix, Schedule

Compat = Literal["paper", "official"]


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler.

    Raises:
        ValueError: an unknown word.
    """

    lookahead: bool = True  # each window renews its noisier half only, so that no frame lacks cleaner neighbors
    compat: Compat = "paper"  # "official": eta 1 where none is asked, whole clips of steps, context frames noised

    def __post_init__(self) -> None:
        if self.compat not in ("paper", "official"):
            raise ValueError(f"compat is paper or official: got {self.compat!r}")


class Queue(NamedTuple):
    """How windows cover the queue; places count from the oldest finished frame that a window still sees."""

    front: int  # finished frames before the queue
    windows: tuple[int, ...]  # first places
    renewed: int  # last frames of a window that take its answer
    levels: Int[Tensor, " Q"]  # of each place: the queue's cleanest level first; finished frames pass for the cleanest


def queue_of(clip: int, steps: int, options: Options) -> Queue:
    """As many windows as renew every place of a queue of `steps` frames."""
    renewed = max(1, clip // 2) if options.lookahead else clip
    windows = tuple(range(0, math.ceil(steps / renewed) * renewed, renewed))
    front = windows[-1] + clip - steps
    levels = torch.cat([torch.full((front,), steps - 1), torch.arange(steps - 1, -1, -1)])
    return Queue(front, windows, renewed, levels)


def plan(request: Request, steps: int, options: Options) -> Plan:
    """One plain clip; then, if the video is longer, N + T - F turns of the queue, each through all its windows.

    Raises:
        ValueError: under compat="official" the steps are no whole clips.
    """
    clip, frames = request.clip, request.frames
    if options.compat == "official" and steps % clip:
        raise ValueError(
            f"the official queue is whole clips of {clip} frames, as many as steps: got {steps}, "
            f"try {max(clip, steps - steps % clip)}"
        )
    turns = frames + steps - clip if frames > clip else 0
    windows = len(queue_of(clip, steps, options).windows)
    return Plan(
        calls=steps + turns * math.ceil(windows / request.together),
        fe=(steps + turns * windows) * clip,
        windows=tuple((start, start + clip) for start in range(max(1, frames - clip + 1))),
        seams=(Seam(clip, "soft"),) if frames > clip else (),
        frames=tuple(Origin(*((0, frame) if frame < clip else (1, frame - clip))) for frame in range(frames)),
        drawn=tuple((first, first + clip) for first in range(0, frames, clip)),
    )


def turn(
    frames: Float[Tensor, "B C Q H W"],
    queue: Queue,
    answer: Callable[[list[Tensor]], list[Tensor]],  # windows -> them after a step
) -> Float[Tensor, "B C Q H W"]:
    """One step of every frame of the queue (algorithms 1 and 2): all windows see the frames as they were.

    That is the order of the paper, from the noisy end to the clean one; the other order would show a window neighbors
    that are a step further.
    """
    clip = frames.shape[2] - queue.windows[-1]
    stepped = answer([frames[:, :, first : first + clip] for first in queue.windows])
    renewed = frames.clone()
    for first, window in zip(queue.windows, stepped, strict=True):
        begin = max(queue.front, first + clip - queue.renewed)  # finished frames stay as they are
        renewed[:, :, begin : first + clip] = window[:, :, begin - first :]
    return renewed


def fill(
    clip: Float[Tensor, "B C T H W"],
    queue: Queue,
    schedule: Schedule,
    noise: Float[Tensor, "B C Q H W"],
    compat: Compat,
) -> Float[Tensor, "B C Q H W"]:
    """The first queue: the clip's frames noised to their places' levels, after repeats of its first frame."""
    places = len(queue.levels)
    source = (torch.arange(places) - places + clip.shape[2]).clamp(min=0)
    mixes = torch.tensor([schedule.mix(level) for level in queue.levels.tolist()], dtype=torch.float64)
    if compat == "paper":
        mixes[: queue.front] = torch.tensor(Mix(1, 0))
    exact = torch.promote_types(clip.dtype, torch.float32)
    signal, spread = mixes.to(clip.device, exact).T[..., None, None]
    return (signal * clip[:, :, source] + spread * noise.to(clip.device, exact)).to(clip.dtype)


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
    """Sample one clip, fill the queue with it, and turn the queue until N frames have left it.

    A video of at most one clip is that clip. Frames that leave before the clip's own first one are repeats of it and
    are left out; with fewer steps than frames of a clip its first frames are done before the queue begins.

    Raises:
        ValueError: the clip is too long for the network, or the steps do not suit compat="official".
    """
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip, per_frame=request.frames > request.clip)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise), request.eta_or(1.0 if options.compat == "official" else 0.0)
    C, H, W = request.shape
    clip, steps, shape = request.clip, schedule.steps, (C, request.clip, H, W)
    timesteps = torch.tensor(schedule.timesteps, device=device)

    x = noise("initial", 0, shape).to(device, dtype)
    for step in range(steps):
        prediction = denoise(x, timesteps[step])
        announce("call", 0, step, prediction)
        x = schedule.step(x, prediction, step, eta, noise("step", 0, shape, step) if eta > 0 else None)
        announce("step", 0, step, x)
    announce("clip", 0, steps - 1, x)
    video: list[Tensor] = []
    done = clip if request.frames <= clip else max(0, clip - steps)
    if done:
        video.append(x[:, :, : min(done, request.frames)])
        announce("frames", 0, steps - 1, video[-1])
    if request.frames <= clip:
        return Result(video[0], todo)

    queue = queue_of(clip, steps, options)
    waiting = fill(x, queue, schedule, noise("queue", 0, (C, len(queue.levels), H, W)), options.compat)
    levels = [queue.levels[first : first + clip] for first in queue.windows]
    times = [timesteps[level.to(timesteps.device)] for level in levels]
    turns = request.frames + steps - clip
    for number in range(turns):

        def answer(windows: list[Tensor], number: int = number) -> list[Tensor]:
            predictions: list[Tensor] = []
            for call in answers(denoise, windows, times, request.together):
                predictions += call
                announce("call", 1 + number, len(predictions) - 1, call[-1])
            fresh = [noise("step", 1 + number, shape, place) if eta > 0 else None for place in range(len(windows))]
            parts = zip(windows, predictions, levels, fresh, strict=True)
            return [schedule.step(window, prediction, level, eta, new) for window, prediction, level, new in parts]

        waiting = turn(waiting, queue, answer)
        announce("step", 1 + number, len(levels) - 1, waiting)
        if number >= steps - clip:  # before it, the queue lets out repeats of its first frame
            video.append(waiting[:, :, queue.front : queue.front + 1])
            announce("frames", 1 + number, len(levels) - 1, video[-1])
        piece, place = divmod(number, clip)
        if place == 0:
            arriving = noise("initial", 1 + piece, shape)
        waiting = torch.cat([waiting[:, :, 1:], arriving[:, :, place : place + 1].to(waiting)], dim=2)
    return Result(torch.cat(video, dim=2), todo)
