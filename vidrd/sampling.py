"""VidRD's iterative denoising: long videos from a network that sees one clip ("Reuse and Diffuse", arXiv 2309.03549).

START HERE, at `sample`. Each clip begins from the last one's initial noise turned round in time (`reverse_noise`),
renewed where the clips do not overlap (`reuse_past`), and its first frames follow the last clip's states for a while
(`guide_by_stage`). What every sampler of this project keeps to stands in `vidrd.sampler_contract`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vidrd.denoiser import Denoiser, answers
from vidrd.noise import Compat, KeyedNoise, Noise, check_alpha
from vidrd.sampler_contract import Announce, OnEvent, Origin, Plan, Request, Result, Seam, check_fits
from vidrd.schedule import Schedule

UNSEEN = -1  # for the number of a clip


def noise_for(request: Request, noise: Noise | None) -> Noise:
    """The noise that a sampler reads: the given one, held to the request's videos at every draw, or the seeds' own.

    Raises:
        ValueError: when called, where the noise is of more or fewer videos than the request, or of another shape.
    """
    if noise is None:
        return KeyedNoise(request.seeds)
    given, videos = noise, len(request.seeds)

    def held(purpose: str, clip: int, shape: tuple[int, int, int, int], step: int = 0) -> Tensor:
        drawn = given(purpose, clip, shape, step)
        if tuple(drawn.shape) != (videos, *shape):
            raise ValueError(
                f"noise has the request's videos and shape (B C T H W), here {(videos, *shape)}: got "
                f"{tuple(drawn.shape)}; make noise of the request's seeds, and new noise for each request"
            )
        return drawn

    return held


@dataclass(frozen=True)
class Options:
    """VidRD's parameters; the defaults are those of the released example.

    Raises:
        ValueError: a parameter out of its range, or a frame to be dropped where none is held.
    """

    overlap: int = 4  # frames (the paper's M) that a clip shares, reversed, with the one before; 0 to the clip length
    alpha: float = 4.0  # [0, inf): weight of the old noise beyond the overlap; 0 is fresh noise
    beta: float = 0.4  # [0, 1]: share of the steps in which the first overlapping frame follows the old clip
    join: Literal["keep", "drop_duplicate"] = "keep"  # the first frame of a later clip repeats the last one before it
    compat: Compat = "paper"  # "released": an overlap of the whole clip renews every frame, as the released code does
    # Not in the paper, remedies for its cycling content:
    reverse: bool = True  # False: a clip goes on forwards, its whole overlap repeats the end of the one before
    stages: Literal["linear", "constant"] = "linear"  # guidance ends earlier away from the seam, or everywhere at once
    guide: Literal["hard", "blend"] = "hard"  # guided frames are the old states, or pass from them to their own

    def __post_init__(self) -> None:
        if self.overlap < 0:
            raise ValueError(f"overlap is a count of frames from 0 to the clip length: got {self.overlap}")
        check_alpha(self.alpha)
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta is a share of the steps and lies in [0, 1]: got {self.beta}, the paper's is 0.4")
        if self.join not in ("keep", "drop_duplicate"):
            raise ValueError(f"join is keep or drop_duplicate: got {self.join!r}")
        if self.compat not in ("paper", "released"):
            raise ValueError(f"compat is paper or released: got {self.compat!r}")
        if self.join == "drop_duplicate" and self.overlap == 0:
            raise ValueError("only an overlap holds a frame that could be dropped: overlap is 0, use join='keep'")
        if self.stages not in ("linear", "constant"):
            raise ValueError(f"stages is linear or constant: got {self.stages!r}")
        if self.guide not in ("hard", "blend"):
            raise ValueError(f"guide is hard or blend: got {self.guide!r}")

    @property
    def repeated(self) -> int:
        """First frames of a later clip that repeat frames before them."""
        return min(1, self.overlap) if self.reverse else self.overlap

    @property
    def dropped(self) -> int:
        """First frames of a later clip that are left out of the video."""
        return self.repeated if self.join == "drop_duplicate" else 0


def forwards(overlap: int) -> Options:
    """Settings that neither turn back nor repeat, at the price of S/F of the steps: docs/samplers.md compares them."""
    join: Literal["keep", "drop_duplicate"] = "drop_duplicate" if overlap else "keep"
    return Options(overlap, alpha=0.0, beta=0.8, join=join, reverse=False, stages="constant")


def reverse_noise(past: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
    """Frame-level noise reversion (FNR, section 4.3): z_T[i+1, k] = z_T[i, N-1-k]."""
    return past.flip(2)


def continue_noise(past: Float[Tensor, "B C T H W"], overlap: int) -> Float[Tensor, "B C T H W"]:
    """In the place of `reverse_noise`: the overlap takes the last frames' noise in their order, the rest follows on."""
    return past.roll(overlap, dims=2)


def reuse_past(
    reversed_past: Float[Tensor, "B C T H W"], fresh: Float[Tensor, "B C T H W"], kept: int, alpha: float
) -> Float[Tensor, "B C T H W"]:
    """Past-dependent noise sampling (PNS, section 4.3): frames from `kept` on take part of their noise from the past.

    z_T[i+1, k] = alpha / sqrt(1 + alpha^2) z_T[i, N-1-k] + e, with e of variance 1 / (1 + alpha^2): the sum keeps
    variance 1. Frames before `kept` stay the reversed noise.
    """
    scale = math.sqrt(1 / (1 + alpha**2))
    renewed = alpha * scale * reversed_past[:, :, kept:] + scale * fresh[:, :, kept:]
    return torch.cat([reversed_past[:, :, :kept], renewed], dim=2)


def guided_frames(step: int, steps: int, overlap: int, beta: float, compat: Compat = "paper") -> int:
    """How many frames follow the old clip before `step`: those k < M with step < (1 - k/M) beta T.

    `released`: by the released code's order of operations in floats, where a frame may be guided a step longer.
    """
    if compat == "released":
        return sum(step < (overlap - frame) * (steps / overlap) * beta for frame in range(overlap))
    spans = [beta * steps * (overlap - frame) / overlap for frame in range(overlap)]
    return sum(step < round(span, 6) for span in spans)  # rounded: 0.29 * 100 is a little less than 29


def guide_by_stage(latents: Float[Tensor, "B C T H W"], past: Float[Tensor, "B C G H W"]) -> Float[Tensor, "B C T H W"]:
    """Denoising with staged guidance (DSG, section 4.3): z_s[i+1, k] <- z_s[i, N-1-k] for the G guided frames.

    `past`: the old clip's last G frames as they entered this step, in their own order.
    """
    return torch.cat([past.flip(2), latents[:, :, past.shape[2] :]], dim=2)


def guide_forwards(
    latents: Float[Tensor, "B C T H W"], past: Float[Tensor, "B C G H W"], overlap: int
) -> Float[Tensor, "B C T H W"]:
    """The same without reversal: the last G frames of the overlap take the old clip's last G frames."""
    return torch.cat([latents[:, :, : overlap - past.shape[2]], past, latents[:, :, overlap:]], dim=2)


def held_frames(step: int, steps: int, options: Options) -> int:
    """How many frames follow the old clip before `step`, by the options' stages."""
    if options.stages == "linear":
        return guided_frames(step, steps, options.overlap, options.beta, options.compat)
    return options.overlap * guided_frames(step, steps, 1, options.beta, options.compat)


def fading(step: int, steps: int, options: Options, clip: int) -> list[float]:
    """Weight of the old states in each frame of a clip when guidance blends: from 1 down to 0 over its span."""
    weights = [0.0] * clip
    for distance in range(options.overlap):  # from the seam
        share = 1.0 if options.stages == "constant" else 1 - distance / options.overlap
        span = share * options.beta * steps
        frame = distance if options.reverse else options.overlap - 1 - distance
        weights[frame] = max(0.0, 1 - step / span) if span > 0 else 0.0
    return weights


def clips_together(request: Request, options: Options) -> int:
    """How many clips of a video go through their steps side by side, in one network call a step.

    A clip needs of the one before its initial noise, which is drawn, and its states as they enter the same step: so
    neighbours can keep step, and the video is the same. Only the released stream of noise is read clip by clip.
    """
    return 1 if options.compat == "released" and request.eta_or() > 0 else request.together


def plan(request: Request, steps: int, options: Options) -> Plan:
    """What `sample` will do: K = 1 + ceil((N - F) / (F - D)) clips cropped to N, all but the first without D frames.

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
    clips = 1 + max(0, math.ceil((frames - clip) / (clip - dropped)))
    origin: list[Origin] = []
    for number in range(clips):
        first, repeated = len(origin), options.repeated if number else 0
        for index in range(dropped if number else 0, clip):
            origin.append(Origin(number, index, first - repeated + index if index < repeated else None))
    starts = [number * (clip - dropped) for number in range(clips)]
    kind: Literal["hard", "soft", "mirror"] = "soft" if dropped else "hard"
    if options.reverse:
        kind = "mirror" if options.overlap > 0 or options.alpha > 0 else "hard"
    return Plan(
        calls=math.ceil(clips / clips_together(request, options)) * steps,
        fe=clips * steps * clip,
        windows=tuple((start, start + clip) for start in starts),
        seams=tuple(Seam(start + dropped, kind, dropped) for start in starts[1:]),
        frames=tuple(origin[:frames]),
        mixes=_mixes(options) if clips > 1 else "",
    )


def _mixes(options: Options) -> str:
    """What becomes of the noise that a later clip draws; nothing where its new frames start from it."""
    if options.alpha > 0:
        return f"mixes it with the old clip's (alpha {options.alpha:g})"
    return "starts the overlap from the old clip's" if options.reverse and options.overlap > 0 else ""


@torch.no_grad()
def sample(
    denoise: Denoiser,
    schedule: Schedule,
    request: Request,
    options: Options = Options(),
    *,
    noise: Noise | None = None,  # None: KeyedNoise(request.seeds)
    on_event: OnEvent | None = None,  # told of every call, step and clip; may raise Cancelled
    device: torch.device | str | None = None,  # of the latents, where the network is; None: the CPU
    dtype: torch.dtype | None = None,  # of the latents; None: float32
) -> Result:
    """Sample videos clip by clip, each from the reversed noise and the first states of the one before.

    Raises:
        ValueError: the options do not fit the request (see `plan`), or the clip is too long for the network.
    """
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise), request.eta_or()
    C, H, W = request.shape
    shape = (C, request.clip, H, W)
    timesteps = torch.tensor(schedule.timesteps, device=device)
    guided = [held_frames(step, schedule.steps, options) for step in range(schedule.steps)]
    kept = options.overlap
    if options.compat == "released" and options.overlap == request.clip and options.beta == 0:
        kept = 0  # the released slice [M - N:] is then the whole clip, and no guidance puts the frames back

    initial = noise("initial", 0, shape)
    past: list[Tensor] = []  # for each guided step, the frames of the clip before the group, as they entered the step
    video: list[Tensor] = []
    together = clips_together(request, options)
    for first in range(0, len(todo.windows), together):
        group = range(first, min(first + together, len(todo.windows)))
        states, solvers = [], [schedule.fresh() for _ in group]
        for clip in group:
            if clip > 0:
                old = reverse_noise(initial) if options.reverse else continue_noise(initial, options.overlap)
                initial = reuse_past(old, noise("initial", clip, shape), kept, options.alpha)
            states.append(initial.to(device, dtype))
        entered: list[Tensor] = []
        for step, held in enumerate(guided):
            for place, clip in enumerate(group):  # in order: a clip follows the one before as that enters this step
                if clip > 0 and held > 0:
                    before = states[place - 1][:, :, -held:] if place else past[step]
                    states[place] = _guided(states[place], before, step, schedule.steps, options)
            if held > 0 and group.stop < len(todo.windows):
                entered.append(states[-1][:, :, -held:].clone())
            (predictions,) = answers(denoise, states, [timesteps[step]] * len(group), len(group))
            announce("call", group.start, step, predictions[0])
            for place, clip in enumerate(group):
                fresh = noise("step", clip, shape, step) if eta > 0 else None
                states[place] = solvers[place].step(states[place], predictions[place], step, eta, fresh)
                announce("step", clip, step, states[place])
        past = entered
        for clip, x in zip(group, states, strict=True):
            announce("clip", clip, schedule.steps - 1, x)
            video.append(x[:, :, options.dropped * (clip > 0) : request.frames - todo.windows[clip][0]])
            announce("frames", clip, schedule.steps - 1, video[-1])
    return Result(torch.cat(video, dim=2), todo)


def _guided(
    x: Float[Tensor, "B C T H W"], past: Float[Tensor, "B C G H W"], step: int, steps: int, options: Options
) -> Float[Tensor, "B C T H W"]:
    followed = guide_by_stage(x, past) if options.reverse else guide_forwards(x, past, options.overlap)
    if options.guide == "hard":
        return followed
    weights = torch.tensor(fading(step, steps, options, x.shape[2]), device=x.device, dtype=x.dtype)
    return torch.lerp(x, followed, weights[:, None, None])
