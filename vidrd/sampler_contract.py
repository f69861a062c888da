"""The contract of every sampler: a request goes in, a plan predicts the cost, a result comes out.

A sampler is a module with an options dataclass, `plan(request, steps, options)` and `sample(denoise, schedule,
request, options, ...)`. VidRD's is `vidrd.sampling`; the others are in `baselines`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from vidrd.denoiser import ONE_LEVEL, Denoiser
from vidrd.noise import KeyedNoise, Noise, as_seeds

UNSEEN = -1  # clip number of frames that no window holds


@dataclass(frozen=True)
class Request:
    """The videos to make, by any sampler.

    Raises:
        ValueError: frames, clip, a dimension or the budget is below 1, there are no seeds, a seed is no integer, eta is
            outside [0, 1], or the given frames are those of other videos, or leave nothing to make.
    """

    frames: int  # of each video
    clip: int  # frames one network call sees
    shape: tuple[int, int, int]  # C H W of the latents
    seeds: tuple[int, ...] | Any  # one per video, integers of any kind; the videos of a batch are independent
    eta: float | None = None  # of the DDIM step: 0 deterministic, 1 ancestral; None: the method's own, most often 0
    budget: int | None = None  # most frames of all videos in one call; None: one window of every video
    # clean latents of the frames that the videos begin with, which count in `frames`; for samplers that can go on
    past: Float[Tensor, "B C M H W"] | None = field(default=None, compare=False, repr=False)

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
            raise ValueError(f"eta is between 0 (DDIM) and 1 (DDPM): got {self.eta}")
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"a budget is a count of frames from 1 upwards, or None: got {self.budget}")
        if self.past is not None:
            self._check_past(self.past)

    def _check_past(self, past: Tensor) -> None:
        C, H, W = self.shape
        if past.shape[2] < 1 or tuple(past.shape) != (len(self.seeds), C, past.shape[2], H, W):
            wanted = f"{(len(self.seeds), C)} and {(H, W)}"
            raise ValueError(
                f"given frames are those of each video, B C and H W {wanted}: got B C M H W {tuple(past.shape)}"
            )
        if past.shape[2] >= self.frames:
            raise ValueError(
                f"given frames count in the video's, which has more: got {past.shape[2]} of {self.frames}, ask for more"
            )

    @property
    def given(self) -> int:
        """Frames that the video begins with; 0: it is made from noise alone."""
        return 0 if self.past is None else self.past.shape[2]

    @property
    def pieces(self) -> tuple[tuple[int, int], ...]:
        """[first, last) frame of each piece of the video's initial noise: clip after clip."""
        return tuple((first, first + self.clip) for first in range(0, self.frames, self.clip))

    def eta_or(self, own: float = 0.0) -> float:
        """The requested eta, or the method's `own`."""
        return own if self.eta is None else self.eta

    @property
    def together(self) -> int:
        """How many clips per video fit into one network call, for samplers that can join them: at least 1."""
        return max(1, (self.budget or 0) // (self.clip * len(self.seeds)))


@dataclass(frozen=True)
class Seam:
    """The joint of two clips."""

    frame: int  # first frame of the video after it
    kind: Literal["hard", "soft", "mirror"]  # unrelated clips; clips with common frames; the later goes back in time
    dropped: int = 0  # frames that the later clip lost at its start because they repeat those before the seam


@dataclass(frozen=True)
class Origin:
    """Where a frame of the video comes from."""

    clip: int  # UNSEEN: no window holds the frame, and its latents are 0
    index: int  # frame of that clip; for UNSEEN, its distance from the end of the last window
    duplicate_of: int | None = None  # frame of the video that this one repeats


def undivided(frames: int) -> tuple[Origin, ...]:
    """The origins of a video that is one clip."""
    return tuple(Origin(0, frame) for frame in range(frames))


@dataclass(frozen=True)
class Plan:
    """What a request costs and how the video is put together, known before anything runs."""

    calls: int  # network calls (a call under guidance counts once, see Denoiser.branches)
    fe: int  # frame evaluations: frames summed over the calls, per video of the batch
    windows: tuple[tuple[int, int], ...]  # [first, last) frame of each stretch denoised together, before the crop
    seams: tuple[Seam, ...]
    frames: tuple[Origin, ...]  # one per frame of the video
    drawn: tuple[tuple[int, int], ...] | None = None  # frames that each piece of initial noise is for; None: windows
    mixes: str = ""  # what a sampler does to the noise of a clip before it starts from it; "": nothing


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
        Tensor  # B C T H W: the call's output, the clip after the step, the clip, or the video's next frames; read only
    )


OnEvent = Callable[[Event], None]


class Cancelled(Exception):  # noqa: N818 - a request, not an error
    """Raised by `on_event` to stop a sampler: `sample` lets it pass and leaves nothing behind."""


class Announce:
    """Calls `on_event` with a sampler's progress."""

    def __init__(self, on_event: OnEvent | None, calls: int):
        self.on_event, self.calls, self.done = on_event, calls, 0

    def __call__(self, kind: Literal["call", "step", "clip", "frames"], clip: int, step: int, latents: Tensor) -> None:
        """Report one event; `latents` is B C T H W, and progress is the share of the plan's calls that are done."""
        self.done += kind == "call"
        if self.on_event is not None:
            self.on_event(Event(kind, clip, step, self.done / self.calls, latents))


ALONE = (
    "this method makes whole videos from noise: got frames to go on from, use vidrd, replace, fifo or one of their kin"
)
GOES_ON = "goes on from given frames"  # `Plan.mixes` of samplers that do


def noise_for(request: Request, noise: Noise | None, *, goes_on: bool = False) -> Noise:
    """The noise that a sampler draws from: `noise`, its shape checked at every draw, or `KeyedNoise(request.seeds)`.

    Raises:
        ValueError: the request has given frames and the sampler cannot go on from any (`goes_on`); at a draw, if
            `noise` is for more or fewer videos than the request, or has another shape.
    """
    if request.past is not None and not goes_on:
        raise ValueError(ALONE)
    if noise is None:
        return KeyedNoise(request.seeds)
    given, videos = noise, len(request.seeds)

    def checked(purpose: str, clip: int, shape: tuple[int, int, int, int], step: int = 0) -> Tensor:
        drawn = given(purpose, clip, shape, step)
        if tuple(drawn.shape) != (videos, *shape):
            raise ValueError(
                f"noise has the request's videos and shape (B C T H W), here {(videos, *shape)}: got "
                f"{tuple(drawn.shape)}; make noise of the request's seeds, and new noise for each request"
            )
        return drawn

    return checked


def check_fits(denoise: Denoiser, frames: int, *, per_frame: bool = False) -> None:
    """Raise ValueError if `frames` is more than the network takes in one call, or if it takes no level per frame."""
    if per_frame and not getattr(denoise, "per_frame", True):
        raise ValueError(ONE_LEVEL)
    if denoise.longest is not None and frames > denoise.longest:
        raise ValueError(f"this network takes at most {denoise.longest} frames a call: got {frames}, ask for fewer")
