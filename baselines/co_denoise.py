"""Overlapping windows denoised together: at every step each window is denoised separately and the outputs are fused.

By its options this is Gen-L-Video (arXiv 2305.18264) and MultiDiffusion (arXiv 2302.08113) in time, the static context
windows of AnimateDiff-Evolved (its uniform ones move by another rule), StreamingT2V's randomised blending (arXiv
2403.14773), with rescheduled noise FreeNoise without its hook in the network, SyncTweedies' choices of what is fused
(arXiv 2403.14370), and, as presets, FlowLong, VideoMerge, Diff-VF and SynCoS.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from baselines.distillation import distill
from baselines.fusion import answer_of, clean_of, cut_shares, fuse, overwritten_shares, renewed
from baselines.priors import TiedNoise, hybrid, reschedule
from baselines.windows import (
    WEIGHTS,
    Weights,
    changes,
    cover,
    floor_cover,
    moving_cover,
    profile,
    shares,
    strided_cover,
)
from vidrd.denoiser import Denoiser, answers
from vidrd.noise import Noise, video_noise
from vidrd.sampler_contract import UNSEEN, Announce, OnEvent, Origin, Plan, Request, Result, Seam, check_fits, noise_for
from vidrd.schedule import Schedule, Solver

Blend = Literal["mean", "cut"]
Windows = Literal["static", "moving", "strided"]
Fuse = Literal["answer", "clean", "state"]
Start = Literal["iid", "rescheduled", "hybrid", "own"]
Compat = Literal["paper", "genl", "streamingt2v"]


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler.

    Raises:
        ValueError: a parameter out of its range, or one that another leaves without effect.
    """

    overlap: int | None = None  # frames that neighboring windows share, below the clip length; None: half a clip
    weights: Weights | None = None  # of a window's frames in the mean; None: pyramid, under "genl" flat
    # "moving": their places change from step to step; "strided": in every second step, counted from the last, which is
    # none, a window's frames are spread over the whole video
    windows: Windows = "static"
    blend: Blend = "mean"  # "cut": at every step and seam a random hard cut in the overlap instead of a mean
    # "rescheduled": FreeNoise's initial noise, in chunks of the stride; "hybrid": half of every clip's is the first
    # one's; "own": every window starts from noise of its own and keeps a state of its own
    noise: Start = "iid"
    # "genl": windows that leave a tail unseen, each stepped by itself, states averaged flatly; "streamingt2v": likewise
    # stepped, cuts by the law of that code: even over the overlap's frames, and later windows overwrite earlier ones
    compat: Compat = "paper"
    # what of the windows becomes one: the network's answers, the clean frames that these mean, or the states after the
    # step, each with fresh noise of its own; None: answers, under another `compat` than "paper" states
    fuse: Fuse | None = None
    # share of noise in a state (the time of a flow: 1 is noise only) from which up a step keeps the clean frames alone
    # and draws all noise anew, in a video of several windows where the request asks for no eta; None: never
    renew: float | None = None
    refine: int = 0  # passes of score distillation across windows in every step, each as dear as the step

    def __post_init__(self) -> None:
        if self.overlap is not None and self.overlap < 0:
            raise ValueError(f"overlap is a count of frames from 0 to below the clip length: got {self.overlap}")
        if self.renew is not None and not 0 < self.renew <= 1:
            raise ValueError(f"renew is a share of noise in (0, 1], or None: got {self.renew}")
        if self.refine < 0:
            raise ValueError(f"refine is a count of passes from 0 upwards: got {self.refine}")
        for name, allowed in (
            ("weights", (*WEIGHTS, None)),
            ("windows", get_args(Windows)),
            ("blend", get_args(Blend)),
            ("noise", get_args(Start)),
            ("fuse", (*get_args(Fuse), None)),
            ("compat", get_args(Compat)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(map(str, allowed))}: got {getattr(self, name)!r}")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse options that another one leaves without effect."""
        released = self.compat != "paper"
        conflicts = {
            f"compat='streamingt2v' is a law of cuts: got blend={self.blend!r}, use blend='cut'": (
                self.compat == "streamingt2v" and self.blend != "cut"
            ),
            f"windows of compat={self.compat!r} do not move: use windows='static' or compat='paper'": (
                released and self.windows != "static"
            ),
            f"compat={self.compat!r} fuses states: got fuse={self.fuse!r}, leave it out": (
                released and self.fuse not in (None, "state")
            ),
            f"compat={self.compat!r} never renews its noise: got renew={self.renew}, leave it out": (
                released and self.renew is not None
            ),
            f"compat={self.compat!r} distills nothing: got refine={self.refine}, leave it out": (
                released and self.refine > 0
            ),
            f"a cut has no weights: got {self.weights!r}, leave them out or use blend='mean'": (
                self.blend == "cut" and self.weights is not None
            ),
            "cuts are between neighbors, strided windows have none: use blend='mean'": (
                self.blend == "cut" and self.windows == "strided"
            ),
            f"compat='genl' averages flatly: got weights={self.weights!r}, leave them out": (
                self.compat == "genl" and self.weights not in (None, "flat")
            ),
            f"a window keeps a state of its own only in its place: got windows={self.windows!r}, use 'static'": (
                self.noise == "own" and self.windows != "static"
            ),
            "the clean frames of windows that share their states are fused by fusing answers: use fuse='answer', or "
            "noise='own'": self.fuse == "clean" and self.noise != "own",
        }
        for message, holds in conflicts.items():
            if holds:
                raise ValueError(message)

    @property
    def fused(self) -> Fuse:
        """What of the windows becomes one."""
        return self.fuse or ("answer" if self.compat == "paper" else "state")

    def stride(self, clip: int) -> int:
        """Frames from one window to the next.

        Raises:
            ValueError: the overlap is a whole clip or more.
        """
        overlap = clip // 2 if self.overlap is None else self.overlap
        if overlap >= clip:
            raise ValueError(f"windows of {clip} frames overlap by less than that: got {overlap}, try {clip // 2}")
        return clip - overlap


def flowlong(overlap: int | None = None) -> Options:
    """FlowLong (arXiv 2605.20910): clean frames cross-faded linearly; above a level all noise is new, below it is kept.

    The paper leaves that level open; 0.6 is a third party's.
    """
    return Options(overlap=overlap, weights="ramp", renew=0.6)


def videomerge(overlap: int | None = None) -> Options:
    """VideoMerge (arXiv 2503.09926): states fused under half a sine wave, from noise that clips share in part."""
    return Options(overlap=overlap, weights="sine", noise="hybrid", fuse="state")


def diffvf(overlap: int | None = None) -> Options:
    """Diff-VF (arXiv 2608.05976): central weights, strided windows, and noise that clips share in part."""
    return Options(overlap=overlap, weights="pyramid", windows="strided", noise="hybrid")


def syncos(overlap: int | None = None) -> Options:
    """SynCoS (arXiv 2503.08605): at every step two passes of score distillation across windows."""
    return Options(overlap=overlap, refine=2)


def starts_at(step: int, request: Request, options: Options) -> tuple[int, ...]:
    """First frames of the windows of one step in which they are not strided."""
    stride = options.stride(request.clip)
    if options.compat != "paper":
        return floor_cover(request.frames, request.clip, stride)
    if options.windows == "moving":
        return moving_cover(request.frames, request.clip, stride, step)
    return cover(request.frames, request.clip, stride)


def windows_at(step: int, steps: int, request: Request, options: Options) -> list[slice | Tensor]:
    """The frames of the windows of one step."""
    if options.windows == "strided" and (steps - step) % 2 == 0:
        return list(strided_cover(max(request.frames, request.clip), request.clip))
    return [slice(start, start + request.clip) for start in starts_at(step, request, options)]


def plan(request: Request, steps: int, options: Options) -> Plan:
    """At every step as many windows as cover the video: with a stride of S frames 1 + ceil(max(0, N - F) / S).

    With R passes that refine, 1 + R times as many. Moving windows may be one more in a step; strided ones are
    ceil(N / F), and not in the plan's list. Under "genl" there are 1 + floor((N - F) / S), and the rest is UNSEEN.

    Raises:
        ValueError: the overlap does not fit the clip, or `compat` cannot make that length.
    """
    clip, frames, stride = request.clip, request.frames, options.stride(request.clip)
    different = range(steps) if options.windows == "moving" else range(min(steps, 2))  # others alternate or stay
    counts = [len(windows_at(step, steps, request, options)) for step in different]
    counts = [counts[step % len(counts)] for step in range(steps)]
    windows = sorted({start for step in different for start in starts_at(step, request, options)})
    if options.compat == "streamingt2v" and (frames - clip) % stride:
        raise ValueError(
            f"the released code needs {clip} frames and whole strides of {stride}: got {frames}, "
            f"try {frames - (frames - clip) % stride}"
        )
    still = (0,) if options.windows == "moving" else starts_at(0, request, options)
    joints = changes(still, clip)
    covered = frames if options.windows == "moving" else min(frames, still[-1] + clip)
    origins = [
        Origin(number, frame - still[number])
        for number, (first, last) in enumerate(pairwise([0, *joints, covered]))
        for frame in range(first, last)
    ]
    apart = [later - start >= clip for start, later in pairwise(still)]
    passes = 1 + (options.refine if request.frames > clip else 0)
    return Plan(
        calls=passes * sum(math.ceil(count / request.together) for count in counts),
        fe=passes * sum(counts) * clip,
        windows=tuple((start, start + clip) for start in windows),
        seams=tuple(Seam(joint, "hard" if alone else "soft") for joint, alone in zip(joints, apart, strict=True)),
        frames=(*origins, *(Origin(UNSEEN, beyond) for beyond in range(frames - covered))),
        drawn=tuple((first, first + clip) for first in (still if options.noise == "own" else range(0, frames, clip))),
        mixes=_mixes(request, options),
    )


def _mixes(request: Request, options: Options) -> str:
    if request.frames <= request.clip:
        return ""
    if options.renew is not None and request.eta is None:
        return "draws it anew on the way"
    return {
        "rescheduled": "repeats the first clip's in its place",
        "hybrid": "mixes it with the first clip's",
    }.get(options.noise, "")


class Fusion:
    """The state of a video between its steps: one for all windows, or one for each."""

    def __init__(self, schedule: Schedule, request: Request, options: Options, noise: Noise):
        self.schedule, self.request, self.options, self.noise = schedule, request, options, noise
        self.frames = max(request.frames, request.clip)
        self.places: list[slice | Tensor] = [slice(0, self.frames)]  # frames of each state
        self.states: list[Tensor] = []

    def start(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Draw the initial noise."""
        options, clip, (C, H, W) = self.options, self.request.clip, self.request.shape
        if options.noise == "own":
            self.places = windows_at(0, self.schedule.steps, self.request, options)
            drawn = [self.noise("initial", number, (C, clip, H, W)) for number in range(len(self.places))]
        else:
            ties = {"rescheduled": reschedule(options.stride(clip)), "hybrid": hybrid()}
            tied = TiedNoise(self.noise, ties[options.noise]) if options.noise in ties else self.noise
            drawn = [video_noise(tied, self.frames, clip, self.request.shape)]
        self.states = [x.to(device, dtype) for x in drawn]
        self.solvers: list[Solver] = [self.schedule.fresh() for _ in drawn]

    @property
    def apart(self) -> bool:
        """Whether every window has a state of its own."""
        return len(self.states) > 1

    def seen(self, windows: Sequence[slice | Tensor]) -> list[Tensor]:
        """What each window sees."""
        return self.states if self.apart else [self.states[0][:, :, window] for window in windows]

    def step(
        self,
        answers: Sequence[Float[Tensor, "B C F H W"]],
        windows: Sequence[slice | Tensor],
        share: Float[Tensor, "..."],  # as of `fuse`
        level: int,
    ) -> Float[Tensor, "B C T H W"]:
        """Fuse, take the step, and return the video.

        Noise is drawn once for the whole video, unless states are fused: then for every window.
        """
        seen, dtype = self.seen(windows), self.states[0].dtype
        if self.options.fused == "state":  # a frame that no window sees becomes 0
            stepped = [
                self._step(self.schedule, x, answer, level, self._fresh(number, x.shape[2], level))
                for number, (x, answer) in enumerate(zip(seen, answers, strict=True))
            ]
            self.states = [fuse(stepped, windows, share, self.frames).to(dtype)]
            self.places = [slice(0, self.frames)]
            return self.states[0]
        clean = self.options.fused == "clean" and self.apart
        if clean:
            answers = [clean_of(self.schedule, x, answer, level) for x, answer in zip(seen, answers, strict=True)]
        common = fuse(answers, windows, share, self.frames) if len(windows) > 1 else answers[0]
        fresh, states = self._fresh(0, self.frames, level), []
        for x, place, solver in zip(self.states, self.places, self.solvers, strict=True):
            part = common[:, :, place]
            answer = answer_of(self.schedule, x, part, level) if clean else part
            states.append(self._step(solver, x, answer, level, None if fresh is None else fresh[:, :, place]))
        self.states = states
        return fuse(states, windows, share, self.frames).to(dtype) if self.apart else states[0]

    def _renews(self, level: int) -> bool:
        """Whether the step from this level draws all noise anew."""
        if self.options.renew is None or self.request.eta is not None or self.request.frames <= self.request.clip:
            return False
        signal, spread = self.schedule.mix(level)
        return round(spread / (signal + spread), 6) >= self.options.renew  # rounded: 0.4 comes back a little less

    def _fresh(self, number: int, frames: int, level: int) -> Tensor | None:
        """The noise that a step adds, if it does."""
        C, H, W = self.request.shape
        adds = self.request.eta_or() > 0 or self._renews(level)
        return self.noise("step", number, (C, frames, H, W), level) if adds else None

    def _step(self, solver: Solver, x: Tensor, answer: Tensor, level: int, fresh: Tensor | None) -> Tensor:
        if fresh is not None and self._renews(level):
            return self.schedule.step(*renewed(self.schedule, x, answer, level, fresh), level)  # no solver remembers it
        return solver.step(x, answer, level, self.request.eta_or(), fresh)


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
    memory, and with eta above 0 the mean of independently noised states has too little noise. `fuse="state"` and the
    options of `compat` do it the other way round, as the published codes do.

    Raises:
        ValueError: the overlap does not fit the clip, or the clip is too long for the network.
    """
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip)
    announce = Announce(on_event, todo.calls)
    noise, clip, stride = noise_for(request, noise), request.clip, options.stride(request.clip)
    timesteps = torch.tensor(schedule.timesteps, device=device)
    weights = profile(options.weights or ("flat" if options.compat == "genl" else "pyramid"), clip, clip - stride)
    cuts = overwritten_shares if options.compat == "streamingt2v" else cut_shares

    fusion, (C, H, W) = Fusion(schedule, request, options, noise), request.shape
    fusion.start(device, dtype)
    refined = options.refine > 0 and request.frames > request.clip
    baseline = noise("baseline", 0, (C, fusion.frames, H, W)).to(device) if refined else None
    for step in range(schedule.steps):
        windows = windows_at(step, schedule.steps, request, options)
        if options.blend == "cut":
            share = cuts(starts_at(step, request, options), clip, fusion.frames, noise, step)
        else:
            index = torch.stack([torch.arange(fusion.frames)[window] for window in windows])
            share = shares(index, weights, fusion.frames)
        ask = partial(_ask, denoise, request, windows, timesteps[step], partial(announce, "call", 0, step))
        seen = fusion.seen(windows)
        predictions = ask(seen)
        if baseline is not None:
            predictions = distill(schedule, seen, predictions, ask, windows, share, baseline, step, options.refine)
        x = fusion.step(predictions, windows, share, step)
        announce("step", 0, step, x)
    announce("clip", 0, schedule.steps - 1, x)
    x = x[:, :, : request.frames]
    announce("frames", 0, schedule.steps - 1, x)
    return Result(x, todo)


def _ask(
    denoise: Denoiser,
    request: Request,
    windows: Sequence[slice | Tensor],
    timestep: Tensor,
    announce: Callable[[Tensor], None],  # a call's last answer
    states: Sequence[Float[Tensor, "B C F H W"]],  # of all windows
) -> list[Float[Tensor, "B C F H W"]]:
    """The network's answers to all windows."""
    predictions: list[Tensor] = []
    for call in answers(denoise, states, [timestep] * len(states), windows, request.together):
        predictions += call
        announce(call[-1])
    return predictions
