"""What every sampler keeps to: a request goes in, a plan says beforehand what it costs, a result comes out.

A sampler is a module with an options dataclass, `plan(request, steps, options)` and `sample(denoise, schedule,
request, options, ...)`; `vidrd.sampling` is VidRD's, `baselines` holds the others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from vidrd.denoiser import Denoiser
from vidrd.noise import as_seeds


@dataclass(frozen=True)
class Request:
    """The videos that are wanted, whatever the sampler.

    Raises:
        ValueError: no frames, clip, shape or seeds, a seed that is no integer, eta outside [0, 1], or a budget of no
            frame.
    """

    frames: int  # of each video
    clip: int  # frames one network call sees
    shape: tuple[int, int, int]  # C H W of the latents
    seeds: tuple[int, ...] | Any  # one per video, integers of any kind; the videos of a batch do not touch each other
    eta: float | None = None  # of the DDIM step: 0 deterministic, 1 ancestral; None: the method's own, most often 0
    budget: int | None = None  # frames, of all videos, that one call may hold; None: one window of every video

    def __post_init__(self) -> None:
        if self.frames < 1 or self.clip < 1 or min(self.shape) < 1:
            raise ValueError(
                "a video and a clip have at least 1 frame, and each frame at least 1 value: got "
                f"{self.frames} frames in clips of {self.clip}, each frame {self.shape}"
            )
        object.__setattr__(self, "seeds", as_seeds(self.seeds))  # equal integers are one seed, whatever their kind
        if not self.seeds:
            raise ValueError("every video has its seed: got no seeds, pass one for each video")
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise ValueError(f"eta lies between 0 (DDIM) and 1 (DDPM): got {self.eta}")
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"a budget is a count of frames from 1 upwards, or None: got {self.budget}")

    def eta_or(self, own: float = 0.0) -> float:
        """The eta that is asked for; where none is, the method's own."""
        return own if self.eta is None else self.eta

    @property
    def together(self) -> int:
        """How many clips of all the videos share a network call, where a sampler can join them: at least one."""
        return max(1, (self.budget or 0) // (self.clip * len(self.seeds)))


@dataclass(frozen=True)
class Seam:
    """The joint of two clips."""

    frame: int  # first frame of the video after it
    kind: Literal["hard", "soft", "mirror"]  # unrelated clips; ones with common frames; the later goes back in time
    dropped: int = 0  # frames that the later clip lost at its start, as they repeat what stands before the seam


@dataclass(frozen=True)
class Origin:
    """Where a frame of the video comes from."""

    clip: int  # UNSEEN: from none, no window holds the frame, which is 0
    index: int  # frame of that clip; of an unseen one, how far it lies behind the last window
    duplicate_of: int | None = None  # frame of the video that this one repeats


@dataclass(frozen=True)
class Plan:
    """What a request costs and how the video is put together; known before anything runs."""

    calls: int  # network calls (a call under guidance counts once, see Denoiser.branches)
    fe: int  # frame evaluations: frames summed over the calls, per video of the batch
    windows: tuple[tuple[int, int], ...]  # [first, last) frame of each stretch denoised together, before the crop
    seams: tuple[Seam, ...]
    frames: tuple[Origin, ...]  # one per frame of the video
    drawn: tuple[tuple[int, int], ...] | None = None  # frames that each piece of initial noise is for; None: windows
    mixes: str = ""  # what a sampler does to noise that it draws before it starts from it; "": nothing


@dataclass(frozen=True)
class Result:
    """The latents of finished videos, and how they were put together."""

    latents: Float[Tensor, "B C T H W"]
    plan: Plan

    @property
    def seams(self) -> tuple[Seam, ...]:
        """The joints of the clips."""
        return self.plan.seams

    @property
    def origin(self) -> tuple[Origin, ...]:
        """Where each frame comes from."""
        return self.plan.frames


@dataclass(frozen=True)
class Event:
    """Progress of a sampler: after each network call, denoising step and clip, and when frames are final."""

    kind: Literal["call", "step", "clip", "frames"]
    clip: int
    step: int  # denoising steps of this clip begun before it: 0-based
    progress: float  # share of the calls done, [0, 1]
    latents: (
        Tensor  # B C T H W: the call's answer, the clip after the step, the clip, the video's next frames; read only
    )


OnEvent = Callable[[Event], None]


class Cancelled(Exception):  # noqa: N818 - a wish, not an error
    """What `on_event` may raise to stop a sampler; it comes out of `sample`, and nothing stays behind."""


class Announce:
    """Tells `on_event` how far a sampler has come."""

    def __init__(self, on_event: OnEvent | None, calls: int):
        self.on_event, self.calls, self.done = on_event, calls, 0

    def __call__(self, kind: Literal["call", "step", "clip", "frames"], clip: int, step: int, latents: Tensor) -> None:
        """Pass the event on, its progress counted in calls."""
        self.done += kind == "call"
        if self.on_event is not None:
            self.on_event(Event(kind, clip, step, self.done / self.calls, latents))


def check_fits(denoise: Denoiser, frames: int) -> None:
    """Raise ValueError when one call of the network cannot take so many frames."""
    if denoise.longest is not None and frames > denoise.longest:
        raise ValueError(f"this network takes at most {denoise.longest} frames a call: got {frames}, ask for fewer")
