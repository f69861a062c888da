"""Autoregressive replacement: each clip is forced to match the previous clip's last frames while it is denoised.

Replacement and reconstruction guidance are Ho et al. 2022 (arXiv 2204.03458, section 3.1), resampling is RePaint
(arXiv 2201.09865) in time. By default every step is done again, the last one too; compat="repaint" has the schedule of
its code, but for the first call: that code gives it no known frames, here it always sees them. Known frames that follow
the last clip's own states (`known="trajectory"`) are VidRD without the mirror. CoNo's look-back (arXiv 2406.05082) lets
known and new frames go on together in the middle of the steps.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vidrd.denoiser import Call, Denoiser, at
from vidrd.noise import Noise
from vidrd.sampler_contract import (
    GOES_ON,
    Announce,
    OnEvent,
    Origin,
    Plan,
    Request,
    Result,
    Seam,
    check_fits,
    noise_for,
)
from vidrd.schedule import Schedule

Known = Literal["fresh", "fixed", "trajectory"]
Compat = Literal["paper", "repaint"]


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler.

    Raises:
        ValueError: a parameter out of its range, or a jump where nothing is resampled.
    """

    overlap: int | None = None  # known frames of a later clip, below the clip length; None: half a clip
    resample: int = 1  # times that each step of a later clip is done, renoised in between (RePaint's r); 1: once
    known: Known = "fresh"  # their noise: new in each step, one of the clip, or the last clip's own states
    floor: float = 0.0  # [0, 1): share of the steps, the last ones, in which known frames keep some noise
    guidance: float = 0.0  # weight of the gradient that pulls new frames towards the known ones; 0: none is taken
    jump: int | None = None  # steps that are done again together (RePaint's jump length); None: 1, under "repaint" 10
    internal: float = 0.0  # [0, 1): share of the steps, those in the middle, in which no known frames are put in
    compat: Compat = "paper"  # "repaint": its code's schedule, the last steps are done once; eta 1 where none is asked

    def __post_init__(self) -> None:
        if self.overlap is not None and self.overlap < 0:
            raise ValueError(f"overlap is a count of frames from 0 to below the clip length: got {self.overlap}")
        if self.resample < 1:
            raise ValueError(f"each step is done at least once: got resample {self.resample}")
        if self.known not in get_args(Known):
            raise ValueError(f"known is one of {', '.join(get_args(Known))}: got {self.known!r}")
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor is a share of the steps in [0, 1): got {self.floor}")
        if not 0 <= self.internal < 1:
            raise ValueError(f"internal is a share of the steps in [0, 1): got {self.internal}")
        if self.internal > 0 and self.floor > 0:
            raise ValueError(f"in internal steps all frames share a level: got a floor of {self.floor}, use 0")
        if not 0 <= self.guidance < math.inf:
            raise ValueError(f"guidance is a weight from 0 upwards: got {self.guidance}")
        if self.jump is not None and self.jump < 1:
            raise ValueError(f"a jump goes back by at least 1 step: got {self.jump}")
        if self.jump is not None and self.resample == 1:
            raise ValueError(f"no step is done again at resample 1: got a jump of {self.jump}, use resample 2 or more")
        if self.compat not in get_args(Compat):
            raise ValueError(f"compat is one of {', '.join(get_args(Compat))}: got {self.compat!r}")

    def internal_steps(self, steps: int) -> range:
        """Those in the middle."""
        count = math.floor(round(self.internal * steps, 6))
        return range((steps - count) // 2, (steps + count) // 2)


def cono(overlap: int | None = None) -> Options:
    """CoNo's three parts (arXiv 2406.05082), a third of the steps each: extending, internal prediction, extending."""
    return Options(overlap=overlap, internal=1 / 3)


def overlap_of(clip: int, options: Options) -> int:
    """Number of known frames in a clip.

    Raises:
        ValueError: they leave nothing of a clip to make.
    """
    overlap = clip // 2 if options.overlap is None else options.overlap
    if overlap >= clip:
        raise ValueError(f"a clip of {clip} frames has fewer known ones: got {overlap}, try {clip // 2}")
    return overlap


def step_order(steps: int, options: Options) -> list[int]:
    """The steps of a later clip in their order; one that goes back starts with renoising.

    With a jump of J each stretch of J steps, counted from the end, is done `resample` times. RePaint's code counts from
    the last step but one, and never does the last one again; steps before the first whole stretch are done once.
    """
    jump = options.jump or (10 if options.compat == "repaint" else 1)
    end = 1 if options.compat == "repaint" else 0
    left = {steps - 1 - back: options.resample - 1 for back in range(end, steps - jump + 1, jump)}
    order, step = [], 0
    while step < steps:
        order.append(step)
        if left.get(step):
            left[step] -= 1
            step -= jump
        step += 1
    return order


def plan(request: Request, steps: int, options: Options) -> Plan:
    """K = 1 + ceil(max(0, N - F) / (F - O)) clips, cropped to N; a later one is done in the order of `step_order`.

    Raises:
        ValueError: the overlap leaves nothing of a clip to make, or a jump is longer than the run.
    """
    clip, overlap = request.clip, overlap_of(request.clip, options)
    if request.given and not 0 < overlap <= request.given:
        raise ValueError(
            f"the known frames are the last given ones, as many as the overlap: got {request.given} frames and overlap "
            f"{overlap}, use an overlap from 1 to {min(request.given, clip - 1)}"
        )
    if options.compat == "paper" and (options.jump or 1) > steps:
        raise ValueError(f"a jump goes back by at most all {steps} steps: got {options.jump}")
    head = request.given or clip  # frames before the first clip that has known ones
    later = max(0, math.ceil((request.frames - head) / (clip - overlap)))
    calls = (0 if request.given else steps) + later * (len(step_order(steps, options)) if overlap else steps)
    follows = [head - overlap + number * (clip - overlap) for number in range(later)]
    starts = follows if request.given else [0, *follows]
    origins = [Origin(0, index) for index in range(head)]
    origins += [Origin(number, index) for number in range(1, 1 + later) for index in range(overlap, clip)]
    return Plan(
        calls=calls,
        fe=calls * clip,
        windows=tuple((start, start + clip) for start in starts),
        seams=tuple(Seam(start + overlap, "soft" if overlap else "hard") for start in follows),
        frames=tuple(origins[: request.frames]),
        mixes=GOES_ON if request.given else "",
    )


def put_known(
    x: Float[Tensor, "B C T H W"],
    clean: Float[Tensor, "B C O H W"],
    noise: Float[Tensor, "B C O H W"],
    schedule: Schedule,
    level: int,
) -> Float[Tensor, "B C T H W"]:
    """Replace the first frames with the known ones, noised to a level."""
    return torch.cat([schedule.noised(clean, noise, level).to(x.dtype), x[:, :, clean.shape[2] :]], dim=2)


def states_of(clean: Float[Tensor, "B C O H W"], noise: Float[Tensor, "B C O H W"], schedule: Schedule) -> list[Tensor]:
    """Given frames at every level by one noise: what stands for the states of the clip that they were."""
    return [schedule.noised(clean, noise, level).to(clean) for level in range(schedule.steps)]


def renoise(
    x: Float[Tensor, "B C T H W"], schedule: Schedule, levels: Iterable[int], noise: Iterable[Tensor]
) -> Float[Tensor, "B C T H W"]:
    """Back to the noise before these levels, one after the other (RePaint, equation 8b)."""
    for level, drawn in zip(levels, noise, strict=True):
        x = schedule.renoised(x, drawn.to(x.device), level)
    return x


def guided(
    denoise: Call,
    schedule: Schedule,
    x: Float[Tensor, "B C T H W"],
    timesteps: Tensor,
    level: int,
    clean: Float[Tensor, "B C O H W"],
    weight: float,
    known_level: int | None = None,  # where the known frames keep more noise than the new ones; None: the same
) -> Float[Tensor, "B C T H W"]:
    """The network's output under reconstruction guidance (arXiv 2204.03458, equation 7).

    The new frames' clean estimate moves by -weight * signal / 2 times the gradient, by the new frames, of the squared
    distance between known frames and their estimate; the signal is that of the level.

    Raises:
        ValueError: the network's answer has no gradient.
    """
    overlap = clean.shape[2]
    of_x, of_prediction = schedule.clean_coefficients(level if known_level is None else known_level)
    with torch.enable_grad():
        new = x[:, :, overlap:].detach().requires_grad_()
        whole = torch.cat([x[:, :, :overlap], new], dim=2)
        prediction = denoise(whole, timesteps)
        if not prediction.requires_grad:
            raise ValueError("reconstruction guidance needs a differentiable network: use guidance 0, or one with grad")
        estimate = of_x * whole[:, :, :overlap] + of_prediction * prediction[:, :, :overlap]
        (gradient,) = torch.autograd.grad((clean.to(estimate) - estimate).square().sum(), new)
    moved = -weight * schedule.mix(level).signal / 2 * gradient / schedule.clean_coefficients(level)[1]
    prediction = prediction.detach()
    return torch.cat([prediction[:, :, :overlap], prediction[:, :, overlap:] + moved.to(prediction.dtype)], dim=2)


@dataclass(frozen=True)
class ClipSteps:
    """The steps of one clip, whose first frames may be known."""

    schedule: Schedule
    options: Options
    overlap: int
    eta: float
    noise: Noise
    announce: Announce

    def __call__(
        self,
        call: Call,
        clip: int,
        initial: Float[Tensor, "B C T H W"],  # noise, as it was drawn
        x: Float[Tensor, "B C T H W"],  # the same on the network's device, in its type
        clean: Float[Tensor, "B C O H W"] | None,  # the known frames; None: there are none
        past: list[Tensor],  # the last clip's last frames as they entered each step
    ) -> tuple[Float[Tensor, "B C T H W"], list[Tensor]]:
        """The clip after its last step, and its own last frames as they entered each step."""
        schedule, options, steps = self.schedule, self.options, self.schedule.steps
        _, C, T, H, W = x.shape
        kept = round(options.floor * steps, 6)  # rounded: 0.29 * 100 is a little less than 29
        noisiest_end = steps - 1 - math.floor(kept)  # known frames get no cleaner level
        timesteps, internal = torch.tensor(schedule.timesteps, device=x.device), options.internal_steps(steps)
        entered: list[Tensor] = []
        order = list(range(steps)) if clean is None else step_order(steps, options)
        for key, (step, following) in enumerate(pairwise([*order, steps])):
            level = min(step, noisiest_end)
            times, put = timesteps[step], None if step in internal else clean
            if clean is not None and level < step:
                times = torch.cat([timesteps[level].expand(self.overlap), times.expand(T - self.overlap)])
            if put is not None:
                x = self._put(x, put, clip, key, level, initial, past)
            if step == len(entered):
                entered.append(x[:, :, T - self.overlap :].clone())
            prediction = (
                guided(call, schedule, x, times, step, put, options.guidance, level)
                if put is not None and options.guidance > 0
                else call(x, times)
            )
            self.announce("call", clip, len(entered) - 1, prediction)
            fresh = self.noise("step", clip, (C, T, H, W), key) if self.eta > 0 else None
            x = schedule.step(x, prediction, step, self.eta, fresh)
            back = range(step, following - 1, -1)  # up again, through every level
            draws = (self.noise("resample", clip, (C, T, H, W), key * len(back) + place) for place in range(len(back)))
            x = renoise(x, schedule, back, draws)
            if following == len(entered):
                self.announce("step", clip, step, x)
        return x, entered

    def _put(
        self, x: Tensor, clean: Tensor, clip: int, key: int, level: int, initial: Tensor, past: list[Tensor]
    ) -> Tensor:
        """The known frames at a level in the place of the clip's first ones."""
        if self.options.known == "trajectory":
            return torch.cat([past[level], x[:, :, self.overlap :]], dim=2)
        _, C, O, H, W = clean.shape  # noqa: E741
        fixed = self.options.known == "fixed"
        drawn = initial[:, :, :O] if fixed else self.noise("known", clip, (C, O, H, W), key)
        return put_known(x, clean, drawn.to(x.device), self.schedule, level)


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
    """Sample clip by clip; before every call a later clip's first frames become the noised end of the previous one.

    After the last step they are that end itself, so the video holds each frame once.

    Raises:
        ValueError: the overlap does not fit the clip, the clip is too long for the network, or guidance meets a network
            without gradient.
    """
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip, per_frame=options.floor > 0 and len(todo.seams) > 0)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise, goes_on=True), request.eta_or(1.0 if options.compat == "repaint" else 0.0)
    C, H, W = request.shape
    overlap = overlap_of(request.clip, options)
    denoise_clip = ClipSteps(schedule, options, overlap, eta, noise, announce)

    past: list[Tensor] = []  # the last clip's last frames as they entered each step
    video: list[Tensor] = []
    clean: Tensor | None = None  # and as they ended; None in the first clip, and where nothing is known
    if request.past is not None:  # in the place of the first clip
        given = request.past.to(device, dtype or torch.float32)
        video, clean = [given], given[:, :, -overlap:].clone()
        past = states_of(clean, noise("known", 0, (C, overlap, H, W)).to(device), schedule)
        announce("frames", 0, 0, given)
    for clip, (start, stop) in enumerate(todo.windows, len(video)):
        initial = noise("initial", clip, (C, request.clip, H, W))
        call = at(denoise, slice(start, stop))
        x, past = denoise_clip(call, clip, initial, initial.to(device, dtype), clean, past)
        if clean is not None:
            x = torch.cat([clean, x[:, :, overlap:]], dim=2)
        announce("clip", clip, schedule.steps - 1, x)
        video.append(x[:, :, overlap if clip > 0 else 0 : request.frames - start].clone())  # a view would keep all of x
        clean = x[:, :, request.clip - overlap :].clone() if overlap else None
        announce("frames", clip, schedule.steps - 1, video[-1])
    return Result(torch.cat(video, dim=2), todo)
