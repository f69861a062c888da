"""Initial noise whose frames or clips are correlated: a prior for any sampler, which needs no change.

    sample(..., noise=TiedNoise(KeyedNoise(seeds), progress(alpha=2.0)))

ties the frames of a video by PYoCo's progressive prior, whatever the sampler. A tie is a function that makes each
clip's noise out of the last one's; PRIORS names those that there are. FreeInit is no tie but more passes: it wraps a
sampler (`again`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidrd.noise import Compat, Noise, check_alpha, mixed, progressive
from vidrd.sampler_contract import Event, OnEvent, Plan, Request, Result, noise_for
from vidrd.schedule import Schedule

Shape = tuple[int, int, int, int]  # C T H W
# (source, number of the clip, shape, tied noise of the clip before or None) -> tied noise of the clip
Tie = Callable[[Noise, int, Shape, Tensor | None], Tensor]


class TiedNoise:
    """Noise whose initial draws are tied, clip to clip and frame to frame; the noise that steps add is unchanged.

    It keeps the draws, since a clip's noise may depend on those of all before it, and so serves one request.

    Raises:
        ValueError: when called for frames of another shape than before.
    """

    def __init__(self, noise: Noise, tie: Tie):
        self.noise, self.tie = noise, tie
        self._drawn: list[Tensor] = []

    def __call__(self, purpose: str, clip: int, shape: Shape, step: int = 0) -> Float[Tensor, "B C T H W"]:
        """float32 on the CPU."""
        if purpose != "initial":
            return self.noise(purpose, clip, shape, step)
        if self._drawn and self._drawn[0].shape[1:] != shape:
            raise ValueError(
                f"tied noise serves one request: its clips are {tuple(self._drawn[0].shape[1:])} (C T H W), got a call "
                f"for {tuple(shape)}; make a new TiedNoise for each request"
            )
        while len(self._drawn) <= clip:
            before = self._drawn[-1] if self._drawn else None
            self._drawn.append(self.tie(self.noise, len(self._drawn), shape, before))
        return self._drawn[clip]


def share() -> Tie:
    """Every clip from the first one's noise."""
    return lambda noise, clip, shape, before: noise("initial", 0, shape) if before is None else before


def mix(alpha: float = 1.0, compat: Compat = "paper") -> Tie:
    """PYoCo's mixed prior (arXiv 2305.10474) over the whole video: all its frames share alpha^2/(1+alpha^2).

    Raises:
        ValueError: alpha is below 0 or not finite.
    """
    check_alpha(alpha)

    def tie(noise: Noise, clip: int, shape: Shape, before: Tensor | None) -> Tensor:
        C, _, H, W = shape
        return mixed(noise("shared", 0, (C, 1, H, W)), noise("initial", clip, shape), alpha, compat)

    return tie


def progress(alpha: float = 2.0, compat: Compat = "paper") -> Tie:
    """PYoCo's progressive prior (arXiv 2305.10474), over seams too: a frame takes alpha^2/(1+alpha^2) of the last.

    Raises:
        ValueError: alpha is below 0 or not finite.
    """
    check_alpha(alpha)

    def tie(noise: Noise, clip: int, shape: Shape, before: Tensor | None) -> Tensor:
        own = noise("initial", clip, shape)
        if before is None:
            return progressive(own, alpha, compat)
        return progressive(torch.cat([before[:, :, -1:], own], dim=2), alpha, compat)[:, :, 1:]

    return tie


def hybrid(share: float = 0.5) -> Tie:
    """VideoMerge's and Diff-VF's idea (arXiv 2503.09926, 2608.05976): of every later clip's noise, a share is the first
    clip's and the rest its own, as shares of variance.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the first clip's noise is in [0, 1]: got {share}")

    def tie(noise: Noise, clip: int, shape: Shape, before: Tensor | None) -> Tensor:
        first = noise("initial", 0, shape)
        if before is None:
            return first
        return math.sqrt(share) * first + math.sqrt(1 - share) * noise("initial", clip, shape)

    return tie


def spectral(options: "FreeInit | None" = None) -> Tie:
    """FreeLong++'s SpecMix (arXiv 2507.00162): later clips have low frequencies of the first one's noise, over frames,
    height and width, and high ones of their own. The filter is FreeInit's, with shares of variance.
    """

    def tie(noise: Noise, clip: int, shape: Shape, before: Tensor | None) -> Tensor:
        first = noise("initial", 0, shape)
        if before is None:
            return first
        keep = low_pass(shape[1], shape[2], shape[3], options or FreeInit())
        return cross_over(first, noise("initial", clip, shape), keep, over=(-3, -2, -1))

    return tie


def average() -> Tie:
    """FreePCA's noise (arXiv 2505.01172): of every clip, the mean over its frames is the first one's."""

    def tie(noise: Noise, clip: int, shape: Shape, before: Tensor | None) -> Tensor:
        first, own = noise("initial", 0, shape), noise("initial", clip, shape)
        return first if before is None else own + (first - own).mean(dim=2, keepdim=True)

    return tie


def reschedule(stride: int) -> Tie:
    """FreeNoise's rescheduling (arXiv 2310.15169, section 4.1): the last clip's noise, shuffled in chunks of `stride`.

    Every video has its own shuffle, and chunks end with a clip; the released code draws one noise for all prompts,
    which makes them alike, and its chunks run on (baselines/freenoise.py).

    Raises:
        ValueError: a chunk of no frame.
    """
    if stride < 1:
        raise ValueError(f"chunks hold at least 1 frame: got a stride of {stride}")

    def tie(noise: Noise, clip: int, shape: Shape, before: Tensor | None) -> Tensor:
        if before is None:
            return noise("initial", 0, shape)
        order = []
        for first in range(0, shape[1], stride):
            length = min(stride, shape[1] - first)
            rank = noise("shuffle", clip, (1, length, 1, 1), first).flatten(1).argsort(dim=1)
            order.append(first + rank)
        index = torch.cat(order, dim=1)[:, None, :, None, None]
        return before.gather(2, index.expand_as(before))

    return tie


PRIORS: dict[str, Callable[[], Tie] | None] = {
    "iid": None,  # as the noise comes
    "shared": share,
    "mixed": mix,
    "progressive": progress,
    "rescheduled": lambda: reschedule(2),
    "hybrid": hybrid,
    "spectral": spectral,
    "average": average,
}


@dataclass(frozen=True)
class FreeInit:
    """What FreeInit (arXiv 2312.07537) keeps of the previous pass; the filter's defaults are the authors'.

    Raises:
        ValueError: fewer than one pass, a cut-off frequency outside (0, 1], or a filter of an order below 1.
    """

    passes: int = 3  # times the sampler runs; 1: once, as without; diffusers runs 3, the authors' code 5
    space: float = 0.25  # (0, 1]: cut-off frequency over height and width, of half a cycle a latent cell
    time: float = 0.25  # (0, 1]: and over frames
    order: int = 4  # of the Butterworth filter, from 1 upwards: the larger, the steeper

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise ValueError(f"FreeInit runs the sampler at least once: got {self.passes} passes")
        if not (0 < self.space <= 1 and 0 < self.time <= 1):
            raise ValueError(
                f"cut-off frequencies are in (0, 1]: got {self.space} and {self.time}, the paper's are 0.25"
            )
        if not 1 <= self.order < math.inf or self.order % 1:
            raise ValueError(f"the filter's order is an integer from 1 upwards: got {self.order}, the paper's is 4")


def low_pass(frames: int, height: int, width: int, options: FreeInit) -> Float[Tensor, "T H W"]:
    """Share of each frequency that is kept: 1 for the mean, falling to 0 (Butterworth, in torch.fft's order).

    At even sizes this is the authors' and diffusers'; at odd ones theirs is off center and loses part of the mean.
    """
    return 1 / (1 + _scaled(frames, height, width, options.space, options.time) ** options.order)


def gaussian_pass(frames: int, height: int, width: int, space: float, time: float) -> Float[Tensor, "T H W"]:
    """The same of FreeLong (arXiv 2407.19918): a Gaussian, whose deviations are the cut-off frequencies."""
    return (-_scaled(frames, height, width, space, time) / 2).exp()


def _scaled(frames: int, height: int, width: int, space: float, time: float) -> Float[Tensor, "T H W"]:
    """Square of each frequency over its cut-off."""
    t, h, w = (2 * torch.fft.fftfreq(size) for size in (frames, height, width))
    return (t / time)[:, None, None] ** 2 + (h / space)[:, None] ** 2 + (w / space) ** 2


def cross_over(
    low: Float[Tensor, "*S"], high: Float[Tensor, "*S"], keep: Float[Tensor, "T H W"], over: tuple[int, ...]
) -> Float[Tensor, "*S"]:
    """Frequencies of `low` by the share kept, the rest of `high`; standard normal if both are, and independent.

    The shares of variance add up to 1. FreeInit's own mixing, whose amplitudes do, loses noise where both are heard.
    """
    exact = torch.promote_types(low.dtype, torch.float32)
    spectra = [torch.fft.fftn(part.to(exact), dim=over) for part in (low, high)]
    return torch.fft.ifftn(spectra[0] * keep + spectra[1] * (1 - keep**2).sqrt(), dim=over).real.to(low.dtype)


def again_plan(todo: Plan, options: FreeInit) -> Plan:
    """The plan of a sampler that runs several times.

    Raises:
        ValueError: the sampler does not start from the noise that it draws, so that nothing would come back.
    """
    if todo.mixes and options.passes > 1:
        raise ValueError(
            "FreeInit hands a pass the last video in the place of its initial noise, but this sampler draws that noise "
            f"and {todo.mixes}: use another sampler or option, or 1 pass"
        )
    return replace(todo, calls=todo.calls * options.passes, fe=todo.fe * options.passes)


def again(
    sample: Callable[..., Result],  # a sampler, as every file here has one
    denoise: Any,
    schedule: Schedule,
    request: Request,
    options: Any,
    freeinit: FreeInit = FreeInit(),
    *,
    plan: Callable[..., Plan] | None = None,  # the sampler's: what cannot work is then refused before anything runs
    noise: Noise | None = None,
    on_event: OnEvent | None = None,
    **where: Any,
) -> Result:
    """FreeInit (arXiv 2312.07537) around a sampler: the next pass starts from the last one's low frequencies.

    The finished video is noised back to the schedule's noisiest level (the authors': to the training's last timestep),
    always with the first pass's noise; of that the low frequencies stay, the high ones are drawn anew. Each piece of
    initial noise is filtered by itself, and takes the frames of the video that it was for (frames beyond the video's
    end: its last one's).

    Raises:
        ValueError: the sampler does not start from the noise that it draws (`Plan.mixes`), or refuses the request.
    """
    if plan is not None:
        again_plan(plan(request, schedule.steps, options), freeinit)
    first = TiedNoise(noise_for(request, noise), lambda given, clip, shape, before: given("initial", clip, shape))
    current = first
    for number in range(freeinit.passes):
        final = number == freeinit.passes - 1
        tell = None if on_event is None else _part(on_event, number, freeinit.passes)
        result = sample(denoise, schedule, request, options, noise=current, on_event=tell, **where)
        todo = again_plan(result.plan, freeinit)
        if not final:
            current = TiedNoise(first, _low_frequencies_of(result, schedule, number, freeinit))
    return replace(result, plan=todo)


def _low_frequencies_of(result: Result, schedule: Schedule, number: int, options: FreeInit) -> Tie:
    pieces = result.plan.drawn or result.plan.windows
    video = result.latents.cpu().float()

    def tie(noise: Noise, clip: int, shape: Shape, before: Tensor | None) -> Tensor:
        old = noise("initial", clip, shape)  # the first pass's
        if clip >= len(pieces) or pieces[clip][0] >= video.shape[2]:
            return old  # never became frames of this video
        place = torch.arange(pieces[clip][0], pieces[clip][0] + shape[1]).clamp(max=video.shape[2] - 1)
        noised = schedule.noised(video[:, :, place], old, 0)
        fresh = noise("freeinit", clip, shape, number)
        keep = low_pass(*shape[1:], options)
        over = (-3, -2, -1)
        return torch.fft.ifftn(
            torch.fft.fftn(noised, dim=over) * keep + torch.fft.fftn(fresh, dim=over) * (1 - keep), dim=over
        ).real

    return tie


def _part(on_event: OnEvent, number: int, passes: int) -> OnEvent:
    """Events of one pass, with the progress of all; frames are final in the last pass only."""

    def tell(event: Event) -> None:
        if event.kind != "frames" or number == passes - 1:
            on_event(replace(event, progress=(number + event.progress) / passes))

    return tell
