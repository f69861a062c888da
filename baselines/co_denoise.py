"""Overlapping windows denoised together: at every step each window is denoised separately and the outputs are fused.

By its options this is Gen-L-Video (arXiv 2305.18264) and MultiDiffusion (arXiv 2302.08113) in time, the static context
windows of AnimateDiff-Evolved (its uniform ones move by another rule), StreamingT2V's randomised blending (arXiv
2403.14773), and, with rescheduled noise, FreeNoise without its hook in the network.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from baselines.priors import Tied, reschedule
from baselines.windows import (
    WEIGHTS,
    Weights,
    changes,
    cover,
    floor_cover,
    moving_cover,
    places,
    profile,
    shares,
)
from vidrd.denoiser import Denoiser, answers
from vidrd.noise import Noise, video_noise
from vidrd.sampler_contract import UNSEEN, Announce, OnEvent, Origin, Plan, Request, Result, Seam, check_fits, noise_for
from vidrd.schedule import Schedule

Blend = Literal["mean", "cut"]
Windows = Literal["static", "moving"]
Compat = Literal["paper", "genl", "streamingt2v"]


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler.

    Raises:
        ValueError: a parameter out of its range, or one that another leaves without effect.
    """

    overlap: int | None = None  # frames that neighboring windows share, below the clip length; None: half a clip
    weights: Weights | None = None  # of a window's frames in the mean; None: pyramid, under "genl" flat
    windows: Windows = "static"  # "moving": their places change from step to step
    blend: Blend = "mean"  # "cut": at every step and seam a random hard cut in the overlap instead of a mean
    noise: Literal["iid", "rescheduled"] = "iid"  # "rescheduled": FreeNoise's initial noise, in chunks of the stride
    # "genl": windows that leave a tail unseen, each stepped by itself, states averaged flatly; "streamingt2v": likewise
    # stepped, cuts by the law of that code: even over the overlap's frames, and later windows overwrite earlier ones
    compat: Compat = "paper"

    def __post_init__(self) -> None:
        if self.overlap is not None and self.overlap < 0:
            raise ValueError(f"overlap is a count of frames from 0 to below the clip length: got {self.overlap}")
        for name, allowed in (
            ("weights", (*WEIGHTS, None)),
            ("windows", get_args(Windows)),
            ("blend", get_args(Blend)),
            ("noise", ("iid", "rescheduled")),
            ("compat", get_args(Compat)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(map(str, allowed))}: got {getattr(self, name)!r}")
        if self.compat == "streamingt2v" and self.blend != "cut":
            raise ValueError(f"compat='streamingt2v' is a law of cuts: got blend={self.blend!r}, use blend='cut'")
        if self.compat != "paper" and self.windows == "moving":
            raise ValueError(f"windows of compat={self.compat!r} do not move: use windows='static' or compat='paper'")
        if self.blend == "cut" and self.weights is not None:
            raise ValueError(f"a cut has no weights: got {self.weights!r}, leave them out or use blend='mean'")
        if self.compat == "genl" and self.weights not in (None, "flat"):
            raise ValueError(f"compat='genl' averages flatly: got weights={self.weights!r}, leave them out")

    def stride(self, clip: int) -> int:
        """Frames from one window to the next.

        Raises:
            ValueError: the overlap is a whole clip or more.
        """
        overlap = clip // 2 if self.overlap is None else self.overlap
        if overlap >= clip:
            raise ValueError(f"windows of {clip} frames overlap by less than that: got {overlap}, try {clip // 2}")
        return clip - overlap


def starts_at(step: int, request: Request, options: Options) -> tuple[int, ...]:
    """First frames of the windows of one step."""
    stride = options.stride(request.clip)
    if options.compat != "paper":
        return floor_cover(request.frames, request.clip, stride)
    if options.windows == "moving":
        return moving_cover(request.frames, request.clip, stride, step)
    return cover(request.frames, request.clip, stride)


def plan(request: Request, steps: int, options: Options) -> Plan:
    """At every step as many windows as cover the video: with a stride of S frames 1 + ceil(max(0, N - F) / S).

    Moving windows may be one more in a step. Under "genl" there are 1 + floor((N - F) / S), and the rest is UNSEEN.

    Raises:
        ValueError: the overlap does not fit the clip, or `compat` cannot make that length.
    """
    clip, frames, stride = request.clip, request.frames, options.stride(request.clip)
    by_step = [starts_at(step, request, options) for step in range(steps)]
    windows = sorted({start for starts in by_step for start in starts})
    if options.compat == "streamingt2v" and (frames - clip) % stride:
        raise ValueError(
            f"the released code needs {clip} frames and whole strides of {stride}: got {frames}, "
            f"try {frames - (frames - clip) % stride}"
        )
    still = starts_at(0, request, options) if options.windows == "static" else (0,)
    joints = changes(still, clip)
    covered = frames if options.windows == "moving" else min(frames, still[-1] + clip)
    origins = [
        Origin(number, frame - still[number])
        for number, (first, last) in enumerate(pairwise([0, *joints, covered]))
        for frame in range(first, last)
    ]
    apart = [later - start >= clip for start, later in pairwise(still)]
    return Plan(
        calls=sum(math.ceil(len(starts) / request.together) for starts in by_step),
        fe=sum(len(starts) for starts in by_step) * clip,
        windows=tuple((start, start + clip) for start in windows),
        seams=tuple(Seam(joint, "hard" if alone else "soft") for joint, alone in zip(joints, apart, strict=True)),
        frames=(*origins, *(Origin(UNSEEN, beyond) for beyond in range(frames - covered))),
        drawn=tuple((first, first + clip) for first in range(0, frames, clip)),
        mixes="repeats the first clip's in its place" if options.noise == "rescheduled" and frames > clip else "",
    )


def fuse(
    parts: Sequence[Float[Tensor, "B C F H W"]],  # what each window says of its frames
    starts: Sequence[int],
    share: Float[Tensor, "..."],  # W F, or W B F where videos differ; the shares of a frame add up to 1
    frames: int,
) -> Float[Tensor, "B C T H W"]:
    """The mean of the windows, frame by frame, in float32."""
    B, C, F, H, W = parts[0].shape
    whole = torch.zeros(B, C, frames, H, W, dtype=torch.promote_types(parts[0].dtype, torch.float32))
    whole = whole.to(parts[0].device)
    for part, start, weight in zip(parts, starts, share.to(whole), strict=True):
        whole[:, :, start : start + F] += part * weight.reshape(-1, 1, F, 1, 1)
    return whole


def cut_shares(starts: Sequence[int], clip: int, frames: int, noise: Noise, step: int) -> Float[Tensor, "W B F"]:
    """All or nothing: between neighbors a hard cut at a random frame of what they share, for every video and seam."""
    begins, cuts = torch.zeros(1, dtype=torch.long), []
    for seam, start in enumerate(starts):
        if seam + 1 < len(starts):
            normal = noise("cut", seam, (1, 1, 1, 1), step).flatten()
            uniform = torch.special.ndtr(normal.double()).clamp(max=1 - 1e-12)
            first = begins.clamp(min=starts[seam + 1])  # a cut before the last one would turn a window inside out
            ends = first + (uniform * (start + clip - first + 1)).long()
        else:
            ends = torch.tensor([frames])
        place = start + torch.arange(clip)
        begins, ends = torch.broadcast_tensors(begins, ends)
        cuts.append(((place >= begins[:, None]) & (place < ends[:, None])).double())
        begins = ends
    videos = max(len(share) for share in cuts)
    return torch.stack([share.expand(videos, -1) for share in cuts])


def overwritten_shares(
    starts: Sequence[int], clip: int, frames: int, noise: Noise, step: int
) -> Float[Tensor, "W B F"]:
    """StreamingT2V's cuts: a window begins at a frame drawn uniformly from those that it shares with the previous one.

    It is never used from the frame after these on, and overwrites what earlier windows say.
    """
    begins = [torch.zeros(1, dtype=torch.long)]
    for seam, (before, start) in enumerate(pairwise(starts)):
        normal = noise("cut", seam, (1, 1, 1, 1), step).flatten()
        uniform = torch.special.ndtr(normal.double()).clamp(max=1 - 1e-12)
        begins.append(start + (uniform * (before + clip - start)).long())
    begin = torch.stack(torch.broadcast_tensors(*begins))  # W B
    following = begin.flip(0).cummin(dim=0).values.flip(0)  # of a window and all later ones
    end = torch.cat([following[1:], torch.full_like(begin[:1], frames)])
    place = places(tuple(starts), clip)[:, None]
    return ((place >= begin[..., None]) & (place < end[..., None])).double()


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
    """Denoise the whole video at once; the network's output for it is fused from its outputs for windows.

    Answers are fused, not states, and the schedule steps once: two steps of one level are no step of a scheduler with a
    memory, and with eta above 0 the mean of independently noised states has too little noise. Options of `compat` do it
    the other way round, as the published codes do.

    Raises:
        ValueError: the overlap does not fit the clip, or the clip is too long for the network.
    """
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise), request.eta_or()
    C, H, W = request.shape
    clip, length, stride = request.clip, max(request.frames, request.clip), options.stride(request.clip)
    timesteps = torch.tensor(schedule.timesteps, device=device)
    by_itself = options.compat != "paper"  # every window is stepped, and states are put together
    weights = profile(options.weights or ("flat" if options.compat == "genl" else "pyramid"), clip, clip - stride)
    cuts = overwritten_shares if options.compat == "streamingt2v" else cut_shares

    drawn = Tied(noise, reschedule(stride)) if options.noise == "rescheduled" else noise
    x, solver = video_noise(drawn, length, clip, request.shape).to(device, dtype), schedule.fresh()
    for step in range(schedule.steps):
        starts = starts_at(step, request, options)
        windows = [x[:, :, start : start + clip] for start in starts]
        predictions: list[Tensor] = []
        for call in answers(denoise, windows, [timesteps[step]] * len(windows), request.together):
            predictions += call
            announce("call", 0, step, call[-1])
        share = shares(places(starts, clip), weights, length)
        if options.blend == "cut":
            share = cuts(starts, clip, length, noise, step)
        if by_itself:  # a frame that no window sees becomes 0
            shape = (C, clip, H, W)
            fresh = [noise("step", number, shape, step) if eta > 0 else None for number in range(len(starts))]
            pairs = zip(windows, predictions, fresh, strict=True)
            stepped = [schedule.step(window, answer, step, eta, new) for window, answer, new in pairs]
            x = fuse(stepped, starts, share, length).to(x.dtype)
        else:
            answer = fuse(predictions, starts, share, length) if len(starts) > 1 else predictions[0]
            new = noise("step", 0, (C, length, H, W), step) if eta > 0 else None
            x = solver.step(x, answer, step, eta, new)
        announce("step", 0, step, x)
    announce("clip", 0, schedule.steps - 1, x)
    x = x[:, :, : request.frames]
    announce("frames", 0, schedule.steps - 1, x)
    return Result(x, todo)
