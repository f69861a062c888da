"""FreeNoise (arXiv 2310.15169): one pass over all frames, from shuffled repeats of one clip's noise.

The network sees the whole video, but its temporal attention sees it in overlapping windows of the length that it was
trained on; all other layers run once. FreeLong, FreeLong++ and FreePCA, as presets, mix what attention says in windows
with what it says of all frames (baselines/attention_branches.py).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from baselines.attention_branches import PrincipalBranches, SpectralBranches, whole
from baselines.direct import denoise_together
from baselines.priors import TiedNoise, average, reschedule, spectral
from baselines.windows import WEIGHTS, Weights, cover, floor_cover, places, profile, shares
from vidrd.denoiser import Denoiser, WindowedDenoiser, at
from vidrd.models.blocks import OverTime, TimeWindows
from vidrd.noise import Noise, video_noise
from vidrd.sampler_contract import Announce, OnEvent, Plan, Request, Result, check_fits, noise_for, undivided
from vidrd.schedule import Schedule

Compat = Literal["paper", "official", "diffusers"]
Start = Literal["rescheduled", "iid", "spectral", "average"]
Attention = Literal["windows", "full", "spectral", "principal"]
PRINCIPAL_STEPS = 0.75  # share of the steps in which principal components are mixed; after them, windows


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler; the defaults are the paper's.

    Raises:
        ValueError: a parameter out of its range, or one that another leaves without effect.
    """

    stride: int | None = None  # frames from window to window, and a chunk of the shuffle; None: a quarter of a clip
    weights: Weights | None = (
        None  # of a window's frames in the mean of the windows; None: pyramid, flat for "principal"
    )
    # how later clips' noise follows from the first one's: shuffled, not at all, or its low frequencies or its means
    noise: Start = "rescheduled"
    # "full": of all frames; "spectral": low frequencies of that, high ones of windows; "principal": some components
    attention: Attention = "windows"
    bands: int = 2  # of "spectral" attention: more of them are of windows of 2, 4, ... clips
    # "official": all videos have the noise of the first seed; "diffusers": its mixin's last window; both: chunks of the
    # shuffle run on where a clip ends, the paper's end with it
    compat: Compat = "paper"

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"windows move on by at least 1 frame: got a stride of {self.stride}")
        for name, allowed in (
            ("weights", (*WEIGHTS, None)),
            ("noise", get_args(Start)),
            ("attention", get_args(Attention)),
            ("compat", get_args(Compat)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(map(str, allowed))}: got {getattr(self, name)!r}")
        if self.bands < 2 or (self.bands > 2 and self.attention != "spectral"):
            raise ValueError(f"spectral attention has 2 bands or more, other attention 2: got {self.bands}")
        if self.attention in ("spectral", "principal") and self.compat != "paper":
            raise ValueError(
                f"compat={self.compat!r} is FreeNoise's code: got {self.attention} attention, leave it out"
            )
        if self.attention == "full":
            unused = {
                "weights": self.weights is not None,
                "compat": self.compat == "diffusers",
                "stride": self.stride is not None and self.noise != "rescheduled",
            }
            for name in (name for name, set_in_vain in unused.items() if set_in_vain):
                raise ValueError(
                    f"full attention has no windows, so {name}={getattr(self, name)!r} would change nothing: leave it "
                    "out, or use attention='windows'"
                )


def freelong(bands: int = 2) -> Options:
    """FreeLong (arXiv 2407.19918); with more bands FreeLong++ (arXiv 2507.00162), which has noise of its own."""
    return Options(noise="iid" if bands == 2 else "spectral", attention="spectral", bands=bands)


def freepca() -> Options:
    """FreePCA (arXiv 2505.01172)."""
    return Options(noise="average", attention="principal")


def stride_of(clip: int, options: Options) -> int:
    """The stride for clips of so many frames.

    Raises:
        ValueError: it is longer than a clip, and would leave frames out.
    """
    stride = max(1, clip // 4) if options.stride is None else options.stride
    if stride > clip:
        raise ValueError(f"windows of {clip} frames move on by at most that: got {stride}, try {max(1, clip // 4)}")
    return stride


def plan(request: Request, steps: int, options: Options) -> Plan:
    """One window of all N frames (of a clip at least): fe per frame = steps; windowed attention is not counted.

    Raises:
        ValueError: the stride is longer than a clip, or `compat` cannot make that length.
    """
    clip, frames = request.clip, request.frames
    stride = stride_of(clip, options)
    if options.compat != "paper":
        floor_cover(frames, clip, stride)  # says so if the video is shorter than a clip
    if options.compat == "official" and (frames - clip) % stride:
        raise ValueError(
            f"the official code needs {clip} frames and whole strides of {stride}: got {frames}, "
            f"try {frames - (frames - clip) % stride}"
        )
    length = max(frames, clip)
    return Plan(
        calls=steps,
        fe=steps * length,
        windows=((0, length),),
        seams=(),
        frames=undivided(frames),
        drawn=request.pieces,
        mixes=_mixes(request, options),
    )


def _mixes(request: Request, options: Options) -> str:
    if options.noise != "iid" and request.frames > request.clip:
        return {
            "rescheduled": "repeats the first clip's in its place",
            "spectral": "gives it the low frequencies of the first clip's",
            "average": "gives it the means of the first clip's",
        }[options.noise]
    return "gives every video the first one's" if options.compat == "official" and len(request.seeds) > 1 else ""


def run_on(
    noise: Noise,
    frames: int,
    clip: int,
    shape: tuple[int, int, int],  # C H W
    stride: int,
) -> Float[Tensor, "B C T H W"]:
    """The rescheduled noise of a video as the published codes make it: chunks run on across the ends of clips.

    Where the stride divides the clip, this is `reschedule`.
    """
    C, H, W = shape
    x = noise("initial", 0, (C, clip, H, W))
    for first in range(clip, frames, stride):
        rank = noise("shuffle", first // clip, (1, stride, 1, 1), first % clip).flatten(1).argsort(dim=1)
        index = (first - clip + rank)[:, None, :, None, None].expand(-1, C, -1, H, W)
        x = torch.cat([x, x.gather(2, index)], dim=2)
    return x[:, :, :frames]


def attention_windows(frames: int, clip: int, options: Options) -> TimeWindows:
    """Windows that see every frame, the last one shifted back; the shares of each frame add up to 1.

    compat="diffusers": where the last window is shifted back, that mixin counts it for the last frames alone, and
    divides these by the weight of one of them, so that the very last ones are scaled down.
    """
    stride = stride_of(clip, options)
    starts = cover(frames, clip, stride)
    own: Weights = "flat" if options.attention == "principal" else "pyramid"
    index, weights = places(starts, clip), profile(options.weights or own, clip, clip - stride)
    share = shares(index, weights, frames)
    tail = (frames - clip) % stride
    if options.compat == "diffusers" and tail:
        share[:-1] = shares(index[:-1], weights, frames)
        share[-1] = 0
        share[-1, -tail:] = weights[-tail:] / weights[-tail]
    return TimeWindows(index, share, frames)


def attention_of(request: Request, length: int, options: Options) -> OverTime | None:
    """How temporal attention sees a video of that many frames; None: as it is."""
    if options.attention == "full" or (options.attention != "windows" and length <= request.clip):
        return None
    windows = attention_windows(length, request.clip, options)
    if options.attention == "windows":
        return windows
    if options.attention == "principal":
        return PrincipalBranches(windows)
    stride, branches = stride_of(request.clip, options), [windows]
    for longer in (2**number for number in range(1, options.bands - 1)):
        if longer * request.clip < length:
            wider = replace(options, stride=longer * stride)
            branches.append(attention_windows(length, longer * request.clip, wider))
    return SpectralBranches([*branches, whole(length)], request.shape[1:])


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
    """Plain DDIM on tied noise, temporal attention in windows (section 4.2 of FreeNoise's paper) or in branches.

    A `WindowedDenoiser` is asked to cut its attention; one that is none has no temporal attention to cut.

    Raises:
        ValueError: the video is too long for the network, its attention cannot be cut, options of windows meet a
            network that has none, or the stride does not fit.
    """
    todo = plan(request, schedule.steps, options)
    length = todo.windows[0][1]
    hooked = isinstance(denoise, WindowedDenoiser)
    check_fits(denoise, request.clip if hooked and options.attention == "windows" else length)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise), request.eta_or()
    if not hooked and (options.weights is not None or options.compat == "diffusers"):
        raise ValueError(
            "weights and compat='diffusers' are about windows of temporal attention, and this network offers none "
            "(attend_in): leave them out, or pass a denoiser that does"
        )
    x = initial_noise(noise, length, request, options).to(device, dtype)
    opened = _openings(denoise, schedule.steps, request, length, options)
    call = at(denoise, slice(0, length))
    x = denoise_together(call, schedule, schedule.fresh(), x, eta, noise, announce, opened)[:, :, : request.frames]
    announce("frames", 0, schedule.steps - 1, x)
    return Result(x, todo)


def initial_noise(noise: Noise, length: int, request: Request, options: Options) -> Float[Tensor, "B C T H W"]:
    """That of the video, tied as the options say."""
    stride = stride_of(request.clip, options)
    if options.noise == "rescheduled" and options.compat != "paper":
        x = run_on(noise, length, request.clip, request.shape, stride)
    else:
        ties = {"rescheduled": reschedule(stride), "spectral": spectral(), "average": average()}
        tied = TiedNoise(noise, ties[options.noise]) if options.noise in ties else noise
        x = video_noise(tied, length, request.clip, request.shape)
    return x[:1].expand_as(x) if options.compat == "official" else x


def _openings(
    denoise: Denoiser, steps: int, request: Request, length: int, options: Options
) -> Callable[[int], AbstractContextManager[Any]]:
    """The context of each step."""
    over_time = attention_of(request, length, options)
    if over_time is None or not isinstance(denoise, WindowedDenoiser):
        return lambda step: nullcontext()
    late = over_time.windows if isinstance(over_time, PrincipalBranches) else over_time
    return lambda step: denoise.attend_in(over_time if step < PRINCIPAL_STEPS * steps else late)
