"""FreeNoise (arXiv 2310.15169): one pass over all frames, from shuffled repeats of one clip's noise.

The network sees the whole video, but its temporal attention sees it in overlapping windows of the length that it was
trained on; all other layers run once.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from baselines.priors import Tied, reschedule
from baselines.windows import WEIGHTS, Weights, cover, floor_cover, places, profile, shares
from vidrd.denoiser import Denoiser, WindowedDenoiser, at
from vidrd.models.blocks import TimeWindows
from vidrd.noise import Noise, video_noise
from vidrd.sampler_contract import Announce, OnEvent, Origin, Plan, Request, Result, check_fits, noise_for
from vidrd.schedule import Schedule

Compat = Literal["paper", "official", "diffusers"]


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler; the defaults are the paper's.

    Raises:
        ValueError: a parameter out of its range, or one that another leaves without effect.
    """

    stride: int | None = None  # frames from window to window, and a chunk of the shuffle; None: a quarter of a clip
    weights: Weights | None = None  # of a window's frames in the mean of the windows; None: pyramid
    noise: Literal["rescheduled", "iid"] = "rescheduled"
    attention: Literal["windows", "full"] = "windows"
    # "official": all videos have the noise of the first seed; "diffusers": its mixin's last window; both: chunks of the
    # shuffle run on where a clip ends, the paper's end with it
    compat: Compat = "paper"

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"windows move on by at least 1 frame: got a stride of {self.stride}")
        for name, allowed in (
            ("weights", (*WEIGHTS, None)),
            ("noise", ("rescheduled", "iid")),
            ("attention", ("windows", "full")),
            ("compat", get_args(Compat)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(map(str, allowed))}: got {getattr(self, name)!r}")
        if self.attention == "full":
            unused = {
                "weights": self.weights is not None,
                "compat": self.compat == "diffusers",
                "stride": self.stride is not None and self.noise == "iid",
            }
            for name in (name for name, set_in_vain in unused.items() if set_in_vain):
                raise ValueError(
                    f"full attention has no windows, so {name}={getattr(self, name)!r} would change nothing: leave it "
                    "out, or use attention='windows'"
                )


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
        frames=tuple(Origin(0, frame) for frame in range(frames)),
        drawn=tuple((first, first + clip) for first in range(0, frames, clip)),
        mixes=_mixes(request, options),
    )


def _mixes(request: Request, options: Options) -> str:
    if options.noise == "rescheduled" and request.frames > request.clip:
        return "repeats the first clip's in its place"
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
    index, weights = places(starts, clip), profile(options.weights or "pyramid", clip, clip - stride)
    share = shares(index, weights, frames)
    tail = (frames - clip) % stride
    if options.compat == "diffusers" and tail:
        share[:-1] = shares(index[:-1], weights, frames)
        share[-1] = 0
        share[-1, -tail:] = weights[-tail:] / weights[-tail]
    return TimeWindows(index, share, frames)


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
    """Plain DDIM on rescheduled noise, temporal attention in windows (section 4.2 of the paper).

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
    C, H, W = request.shape
    timesteps = torch.tensor(schedule.timesteps, device=device)

    if not hooked and (options.weights is not None or options.compat == "diffusers"):
        raise ValueError(
            "weights and compat='diffusers' are about windows of temporal attention, and this network offers none "
            "(attend_in): leave them out, or pass a denoiser that does"
        )
    stride = stride_of(request.clip, options)
    if options.noise == "rescheduled" and options.compat != "paper":
        x = run_on(noise, length, request.clip, request.shape, stride)
    else:
        tied = Tied(noise, reschedule(stride)) if options.noise == "rescheduled" else noise
        x = video_noise(tied, length, request.clip, request.shape)
    if options.compat == "official":
        x = x[:1].expand_as(x)
    x, solver = x.to(device, dtype), schedule.fresh()
    windowed: AbstractContextManager[None] = nullcontext()
    if options.attention == "windows" and isinstance(denoise, WindowedDenoiser):
        windowed = denoise.attend_in(attention_windows(length, request.clip, options))
    with windowed:
        for step in range(schedule.steps):
            prediction = at(denoise, slice(0, length))(x, timesteps[step])
            announce("call", 0, step, prediction)
            fresh = noise("step", 0, (C, length, H, W), step) if eta > 0 else None
            x = solver.step(x, prediction, step, eta, fresh)
            announce("step", 0, step, x)
    announce("clip", 0, schedule.steps - 1, x)
    x = x[:, :, : request.frames]
    announce("frames", 0, schedule.steps - 1, x)
    return Result(x, todo)
