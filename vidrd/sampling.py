"""VidRD's iterative denoising: long videos from a network that sees one clip ("Reuse and Diffuse", arXiv 2309.03549).

START HERE, at `sample`. Each clip starts from the previous clip's initial noise, reversed in time (`reverse_noise`) and
renewed outside the overlap (`reuse_past`); early in denoising its first frames follow the previous clip's states
(`guide_reversed`). `sample_side_by_side` makes the same videos with several clips in one network call. The contract of
every sampler is in `vidrd.sampler_contract`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vidrd.denoiser import Denoiser, answers, at
from vidrd.noise import Compat, Noise, check_alpha
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


@dataclass(frozen=True)
class Options:
    """VidRD's parameters; the defaults are those of the released example.

    Raises:
        ValueError: a parameter is out of its range, or join='drop_duplicate' has no overlap to drop from.
    """

    overlap: int = 4  # frames that a clip shares, reversed, with the previous one (M, the prompt frames); 0 to the clip
    alpha: float = 4.0  # [0, inf): weight of the previous clip's noise outside the overlap; 0 is fresh noise
    beta: float = 0.4  # [0, 1]: share of the steps in which the first overlapping frame follows the previous clip
    join: Literal["keep", "drop_duplicate"] = "keep"  # the first frame of a later clip repeats the last one before it
    compat: Compat = "paper"  # "released": an overlap of the whole clip renews every frame, as the released code does
    # Not in the paper, remedies for its cycling content:
    reverse: bool = True  # False: a clip continues forwards, and its whole overlap repeats the previous clip's end
    stages: Literal["linear", "constant"] = "linear"  # guidance ends earlier away from the seam, or everywhere at once
    guide: Literal["hard", "blend"] = "hard"  # guided frames take the previous clip's states, or fade to their own

    def __post_init__(self) -> None:
        if self.overlap < 0:
            raise ValueError(f"overlap is a count of frames from 0 to the clip length: got {self.overlap}")
        check_alpha(self.alpha)
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta is a share of the steps in [0, 1]: got {self.beta}, the released example has 0.4")
        if self.join not in ("keep", "drop_duplicate"):
            raise ValueError(f"join is keep or drop_duplicate: got {self.join!r}")
        if self.compat not in ("paper", "released"):
            raise ValueError(f"compat is paper or released: got {self.compat!r}")
        if self.join == "drop_duplicate" and self.overlap == 0:
            raise ValueError("only a frame of the overlap can be dropped: got overlap 0, use join='keep'")
        if self.stages not in ("linear", "constant"):
            raise ValueError(f"stages is linear or constant: got {self.stages!r}")
        if self.guide not in ("hard", "blend"):
            raise ValueError(f"guide is hard or blend: got {self.guide!r}")

    @property
    def repeated(self) -> int:
        """How many first frames of a later clip repeat frames of the previous one."""
        return min(1, self.overlap) if self.reverse else self.overlap

    @property
    def dropped(self) -> int:
        """How many first frames of a later clip are left out of the video."""
        return self.repeated if self.join == "drop_duplicate" else 0


def forwards(overlap: int) -> Options:
    """Options under which content neither runs backwards nor repeats; a clip then adds F - overlap frames, not F.

    docs/samplers.md compares them with the paper's.
    """
    join: Literal["keep", "drop_duplicate"] = "drop_duplicate" if overlap else "keep"
    return Options(overlap, alpha=0.0, beta=0.8, join=join, reverse=False, stages="constant")


def reverse_noise(past: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
    """Frame-level noise reversion (FNR, section 4.3): z_T[i+1, k] = z_T[i, N-1-k]."""
    return past.flip(2)


def continue_noise(past: Float[Tensor, "B C T H W"], overlap: int) -> Float[Tensor, "B C T H W"]:
    """Instead of `reverse_noise`: the overlap takes the last frames' noise in their own order, then earlier noise."""
    return past.roll(overlap, dims=2)


def reuse_past(
    reversed_past: Float[Tensor, "B C T H W"], fresh: Float[Tensor, "B C T H W"], kept: int, alpha: float
) -> Float[Tensor, "B C T H W"]:
    """Past-dependent noise sampling (PNS, section 4.3): frames from `kept` on mix past and fresh noise.

    z_T[i+1, k] = alpha / sqrt(1 + alpha^2) z_T[i, N-1-k] + e, with e of variance 1 / (1 + alpha^2): the sum keeps
    variance 1. Frames before `kept` keep the reversed noise.
    """
    scale = math.sqrt(1 / (1 + alpha**2))
    renewed = alpha * scale * reversed_past[:, :, kept:] + scale * fresh[:, :, kept:]
    return torch.cat([reversed_past[:, :, :kept], renewed], dim=2)


def linear_guided_frames(step: int, steps: int, overlap: int, beta: float, compat: Compat = "paper") -> int:
    """How many frames follow the previous clip before `step`: those k < M with step < (1 - k/M) beta T.

    `released` multiplies floats in the released code's order, which may guide a frame one step longer.
    """
    if compat == "released":
        return sum(step < (overlap - frame) * (steps / overlap) * beta for frame in range(overlap))
    spans = [beta * steps * (overlap - frame) / overlap for frame in range(overlap)]
    return sum(step < round(span, 6) for span in spans)  # rounded: 0.29 * 100 is a little less than 29


def guide_reversed(latents: Float[Tensor, "B C T H W"], past: Float[Tensor, "B C G H W"]) -> Float[Tensor, "B C T H W"]:
    """Denoising with staged guidance (DSG, section 4.3): z_s[i+1, k] <- z_s[i, N-1-k] for the G guided frames.

    `past` is the previous clip's last G frames as they entered this step, in their own order.
    """
    return torch.cat([past.flip(2), latents[:, :, past.shape[2] :]], dim=2)


def guide_forwards(
    latents: Float[Tensor, "B C T H W"], past: Float[Tensor, "B C G H W"], overlap: int
) -> Float[Tensor, "B C T H W"]:
    """Staged guidance without reversal: the last G frames of the overlap take the previous clip's last G frames."""
    return torch.cat([latents[:, :, : overlap - past.shape[2]], past, latents[:, :, overlap:]], dim=2)


def guided_frames(step: int, steps: int, options: Options) -> int:
    """How many frames follow the previous clip before `step`: `linear_guided_frames`, or all of the overlap at once."""
    if options.stages == "linear":
        return linear_guided_frames(step, steps, options.overlap, options.beta, options.compat)
    return options.overlap * linear_guided_frames(step, steps, 1, options.beta, options.compat)


def blend_weights(step: int, steps: int, options: Options, clip: int) -> list[float]:
    """Weight in [0, 1] of the previous clip's state in each frame when guidance blends: falls to 0 over its span."""
    weights = [0.0] * clip
    for distance in range(options.overlap):  # from the seam
        share = 1.0 if options.stages == "constant" else 1 - distance / options.overlap
        span = share * options.beta * steps
        frame = distance if options.reverse else options.overlap - 1 - distance
        weights[frame] = max(0.0, 1 - step / span) if span > 0 else 0.0
    return weights


def next_noise(
    past: Float[Tensor, "B C T H W"], fresh: Float[Tensor, "B C T H W"], options: Options
) -> Float[Tensor, "B C T H W"]:
    """Initial noise of a clip after the first: FNR, then PNS; `past` is the previous clip's, `fresh` is newly drawn."""
    overlap, clip = options.overlap, past.shape[2]
    reused = reverse_noise(past) if options.reverse else continue_noise(past, overlap)
    # at M = N the released slice [M - N:] is the whole clip, and at beta 0 no guidance restores the overlap
    renews_all = options.compat == "released" and overlap == clip and options.beta == 0
    return reuse_past(reused, fresh, 0 if renews_all else overlap, options.alpha)


def guide_frames(
    x: Float[Tensor, "B C T H W"], past: Float[Tensor, "B C G H W"], step: int, steps: int, options: Options
) -> Float[Tensor, "B C T H W"]:
    """A clip's states before `step` under DSG; `past` is the previous clip's last G frames as they entered this step.

    With guide="blend" a guided frame mixes the previous clip's state and its own, by `blend_weights`.
    """
    guided = guide_reversed(x, past) if options.reverse else guide_forwards(x, past, options.overlap)
    if options.guide == "hard":
        return guided
    weights = torch.tensor(blend_weights(step, steps, options, x.shape[2]), device=x.device, dtype=x.dtype)
    return torch.lerp(x, guided, weights[:, None, None])


def clips_together(request: Request, options: Options) -> int:
    """How many clips share each network call: `request.together`, and 1 where noise must be drawn clip by clip.

    A clip needs two things of the previous one: its initial noise, which does not depend on the network, and its
    states as they enter the same step. So several clips can be denoised in lockstep, with the same result. The
    released code, however, draws a clip's noise of all steps before the next clip's.
    """
    return 1 if options.compat == "released" and request.eta_or() > 0 else request.together


def plan(request: Request, steps: int, options: Options) -> Plan:
    """What `sample` will do: 1 + ceil((frames - clip) / (clip - dropped)) clips, cropped to the frames of the request.

    Raises:
        ValueError: the overlap is longer than a clip, or whole clips would be dropped.
    """
    clip, frames, dropped = request.clip, request.frames, options.dropped
    if options.overlap > clip:
        raise ValueError(
            f"an overlap is at most the clip: got {options.overlap} frames of clips of {clip}, try {clip // 2}"
        )
    if clip == dropped:
        held = "held frame" if options.reverse else "overlap"
        raise ValueError(
            f"dropping the {held} leaves nothing of clips of {clip} frame{'s' * (clip > 1)}: use join='keep'"
        )
    if request.given:
        check_start(request, steps, options)
    head = request.given or clip  # frames before the first clip that follows one
    later = max(0, math.ceil((frames - head) / (clip - dropped)))
    origin = [Origin(0, index) for index in range(head)]
    for number in range(1, 1 + later):
        first, repeated = len(origin), options.repeated
        for index in range(dropped, clip):
            origin.append(Origin(number, index, first - repeated + index if index < repeated else None))
    follows = [head - dropped + number * (clip - dropped) for number in range(later)]
    starts = follows if request.given else [0, *follows]
    clips = len(starts)
    kind: Literal["hard", "soft", "mirror"] = "soft" if dropped else "hard"
    if options.reverse:
        kind = "mirror" if options.overlap > 0 or options.alpha > 0 else "hard"
    return Plan(
        calls=math.ceil(clips / clips_together(request, options)) * steps,
        fe=clips * steps * clip,
        windows=tuple((start, start + clip) for start in starts),
        seams=tuple(Seam(start + dropped, kind, dropped) for start in follows),
        frames=tuple(origin[:frames]),
        mixes=GOES_ON if request.given else _mixes(options) if clips > 1 else "",
    )


def check_start(request: Request, steps: int, options: Options) -> None:
    """Raise ValueError if clips do not follow the given frames, or there are too few of them."""
    if guided_frames(0, steps, options) == 0:
        raise ValueError(
            f"a clip follows given frames in its overlap by guidance: got overlap {options.overlap} and beta "
            f"{options.beta}, use an overlap of 1 or more and a beta above 0"
        )
    if request.given < options.overlap:
        raise ValueError(
            f"going on takes as many frames as the overlap: got {request.given}, give {options.overlap} or more, or a "
            "smaller overlap"
        )


def states_of_past(
    past: Float[Tensor, "B C M H W"], noise: Float[Tensor, "B C T H W"], schedule: Schedule, guided: list[int]
) -> dict[int, Tensor]:
    """By guided step the last given frames, noised to its level by one noise: the states that a clip would have had."""
    return {
        step: schedule.noised(past[:, :, -count:], noise[:, :, -count:].to(past.device), step).to(past)
        for step, count in enumerate(guided)
        if count > 0
    }


def _mixes(options: Options) -> str:
    """What a later clip does to the noise that it draws, for `Plan.mixes`; "" where it starts from it unchanged."""
    if options.alpha > 0:
        return f"mixes it with the old clip's (alpha {options.alpha:g})"
    # a dropped overlap is the old clip's frames, from their own noise
    return "starts the overlap from the old clip's" if options.overlap > options.dropped else ""


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
    """Sample videos clip by clip, each from the reversed noise and the first states of the previous one (section 4.3).

    Raises:
        ValueError: the options do not fit the request (see `plan`), or the clip is too long for the network.
    """
    if clips_together(request, options) > 1:
        return sample_side_by_side(
            denoise, schedule, request, options, noise=noise, on_event=on_event, device=device, dtype=dtype
        )
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip)
    announce, eta = Announce(on_event, todo.calls), request.eta_or()
    noise = noise_for(request, noise, goes_on=True)
    shape = (request.shape[0], request.clip, *request.shape[1:])
    timesteps = torch.tensor(schedule.timesteps, device=device)
    guided = [guided_frames(step, schedule.steps, options) for step in range(schedule.steps)]

    initial = noise("initial", 0, shape)
    previous: dict[int, Tensor] = {}  # by guided step: the last frames of the previous clip as they entered the step
    video: list[Tensor] = []
    if request.past is not None:  # in the place of the first clip
        video.append(request.past.to(device, dtype or torch.float32))
        previous = states_of_past(video[0], initial, schedule, guided)
        announce("frames", 0, 0, video[0])
    for clip, (start, stop) in enumerate(todo.windows, len(video)):
        if clip > 0:
            initial = next_noise(initial, noise("initial", clip, shape), options)  # reverse_noise, then reuse_past
        x, solver = initial.to(device, dtype), schedule.fresh()
        for step, count in enumerate(guided):
            if count > 0 and clip > 0:
                x = guide_frames(x, previous[step], step, schedule.steps, options)  # guide_reversed
            if count > 0 and stop < todo.windows[-1][1]:
                previous[step] = x[:, :, -count:].clone()
            prediction = at(denoise, slice(start, stop))(x, timesteps[step])
            announce("call", clip, step, prediction)
            x = solver.step(x, prediction, step, eta, noise("step", clip, shape, step) if eta > 0 else None)
            announce("step", clip, step, x)
        announce("clip", clip, schedule.steps - 1, x)
        video.append(x[:, :, options.dropped * (clip > 0) : request.frames - start].clone())  # not a view of all of x
        announce("frames", clip, schedule.steps - 1, video[-1])
    return Result(torch.cat(video, dim=2), todo)


@torch.no_grad()
def sample_side_by_side(
    denoise: Denoiser,
    schedule: Schedule,
    request: Request,
    options: Options = Options(),
    *,
    noise: Noise | None = None,
    on_event: OnEvent | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Result:
    """The videos of `sample`, `clips_together` clips of them at a time: one network call is a step of all these clips.

    A clip follows the previous one's states as they enter the same step, so neighbors are denoised in lockstep.
    Arguments and errors are those of `sample`.
    """
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip)
    announce, eta = Announce(on_event, todo.calls), request.eta_or()
    noise = noise_for(request, noise, goes_on=True)
    shape = (request.shape[0], request.clip, *request.shape[1:])
    timesteps = torch.tensor(schedule.timesteps, device=device)
    guided = [guided_frames(step, schedule.steps, options) for step in range(schedule.steps)]

    initial = noise("initial", 0, shape)
    previous: dict[int, Tensor] = {}  # by guided step: the last frames of the clip before the group as they entered it
    video: list[Tensor] = []
    if request.past is not None:
        video.append(request.past.to(device, dtype or torch.float32))
        previous = states_of_past(video[0], initial, schedule, guided)
        announce("frames", 0, 0, video[0])
    windows = dict(enumerate(todo.windows, len(video)))  # by the number of the clip
    together = clips_together(request, options)
    for first in list(windows)[::together]:
        group = range(first, min(first + together, 1 + max(windows)))
        states, solvers = [], [schedule.fresh() for _ in group]
        for clip in group:
            if clip > 0:
                initial = next_noise(initial, noise("initial", clip, shape), options)
            states.append(initial.to(device, dtype))
        for step, count in enumerate(guided):
            for place, clip in enumerate(group):  # in order: the previous clip has followed its own past already
                if count > 0 and clip > 0:
                    before = states[place - 1][:, :, -count:] if place else previous[step]
                    states[place] = guide_frames(states[place], before, step, schedule.steps, options)
            if count > 0 and group.stop in windows:
                previous[step] = states[-1][:, :, -count:].clone()
            spans = [slice(*windows[clip]) for clip in group]
            (predictions,) = answers(denoise, states, [timesteps[step]] * len(group), spans, len(group))
            announce("call", group.start, step, predictions[0])
            for place, clip in enumerate(group):
                fresh = noise("step", clip, shape, step) if eta > 0 else None
                states[place] = solvers[place].step(states[place], predictions[place], step, eta, fresh)
                announce("step", clip, step, states[place])
        for clip, x in zip(group, states, strict=True):
            announce("clip", clip, schedule.steps - 1, x)
            video.append(x[:, :, options.dropped * (clip > 0) : request.frames - windows[clip][0]].clone())
            announce("frames", clip, schedule.steps - 1, video[-1])
    return Result(torch.cat(video, dim=2), todo)
