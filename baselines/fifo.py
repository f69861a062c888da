"""FIFO-Diffusion (arXiv 2405.11473): frames wait in a queue, each a step cleaner than the next, and leave one by one.

The network sees a clip of the queue at a time, so its frames form a diagonal of noise levels. The queue begins with a
clip that was sampled plainly and noised again. Any number of steps works here: where the windows do not fill the
queue, the cleanest one also sees frames that have left it.

Options are MIGA's zigzag (arXiv 2605.18233), a queue whose level changes after several frames, its clean frames before
every window, and Ouroboros-Diffusion's tail (arXiv 2501.09019), where frames enter with low frequencies of a neighbor.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baselines.direct import denoise_together
from baselines.priors import FreeInit, cross_over, low_pass
from vidrd.denoiser import Denoiser, answers, at
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
from vidrd.schedule import Mix, Schedule

Compat = Literal["paper", "official"]
Tail = Literal["noise", "neighbor"]


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler.

    Raises:
        ValueError: an unknown word, a width or prefix out of its range, or one that the official code does not have.
    """

    lookahead: bool = True  # each window renews its noisier half only, so that no frame lacks cleaner neighbors
    compat: Compat = "paper"  # "official": eta 1 where none is asked, whole clips of steps, context frames noised
    width: int = 1  # frames of the queue that share a level, and leave together
    prefix: float = 0.0  # share of a call, [0, 1), that is the first clip's clean head before frames of the queue
    tail: Tail = "noise"  # what enters: "neighbor" has the low frequencies of the last frame that waits

    def __post_init__(self) -> None:
        if self.compat not in ("paper", "official"):
            raise ValueError(f"compat is paper or official: got {self.compat!r}")
        if self.tail not in ("noise", "neighbor"):
            raise ValueError(f"tail is noise or neighbor: got {self.tail!r}")
        if self.width < 1:
            raise ValueError(f"at least 1 frame of the queue has a level: got a width of {self.width}")
        if not 0 <= self.prefix < 1:
            raise ValueError(f"prefix is a share of a call in [0, 1): got {self.prefix}")
        if self.compat == "official" and (self.width, self.prefix, self.tail) != (1, 0.0, "noise"):
            raise ValueError(
                "the official queue has a frame a level, no prefix and a tail of noise: got width "
                f"{self.width}, prefix {self.prefix} and tail {self.tail!r}, use compat='paper'"
            )

    def head(self, clip: int) -> int:
        """Clean frames before every window."""
        return min(clip - 1, int(round(self.prefix * clip, 6)))  # rounded: 0.29 * 100 is a little less than 29


def miga() -> Options:
    """MIGA's queue (arXiv 2605.18233): two frames a level, a quarter of a call is the clean head."""
    return Options(width=2, prefix=0.25)


class Queue(NamedTuple):
    """How windows cover the queue; places count from the oldest finished frame that a window still sees."""

    front: int  # finished frames before the queue
    windows: tuple[int, ...]  # first places
    renewed: int  # last frames of a window that take its answer
    levels: Int[Tensor, " Q"]  # of each place: the queue's cleanest level first; finished frames pass for the cleanest
    width: int  # frames that share a level and leave together


def queue_of(clip: int, steps: int, options: Options) -> Queue:
    """As many windows as renew every place of a queue of `steps` levels."""
    seen, places = clip - options.head(clip), steps * options.width
    renewed = max(1, seen // 2) if options.lookahead else seen
    windows = tuple(range(0, math.ceil(places / renewed) * renewed, renewed))
    front = windows[-1] + seen - places
    queue = torch.arange(steps - 1, -1, -1).repeat_interleave(options.width)
    levels = torch.cat([torch.full((front,), steps - 1), queue])
    return Queue(front, windows, renewed, levels, options.width)


def turns_of(request: Request, steps: int, options: Options) -> int:
    """Turns until the video's last frame has left; the first clip's end stands last in the first queue."""
    begun = request.given or request.clip  # frames that the first queue begins with
    waiting = request.frames + steps * options.width - begun
    return math.ceil(waiting / options.width) if request.frames > begun else 0


def plan(request: Request, steps: int, options: Options) -> Plan:
    """One plain clip; then, if the video is longer, N + T - F turns of the queue, each through all its windows.

    With L frames a level there are ceil((N + T L - F) / L) turns. Given frames take the place of the first clip.

    Raises:
        ValueError: under compat="official" the steps are no whole clips.
    """
    clip, frames = request.clip, request.frames
    if options.compat == "official" and steps % clip:
        raise ValueError(
            f"the official queue is whole clips of {clip} frames, as many as steps: got {steps}, "
            f"try {max(clip, steps - steps % clip)}"
        )
    if 0 < request.given < options.head(clip):
        raise ValueError(
            f"the clean head is the first given frames: got {request.given}, give {options.head(clip)} or more"
        )
    turns, begun = turns_of(request, steps, options), request.given or clip
    windows, first = len(queue_of(clip, steps, options).windows), 0 if request.given else steps
    return Plan(
        calls=first + turns * math.ceil(windows / request.together),
        fe=(first + turns * windows) * clip,
        windows=tuple((start, start + clip) for start in range(max(1, frames - clip + 1))),
        seams=(Seam(begun, "soft"),) if frames > begun else (),
        frames=tuple(Origin(*((0, frame) if frame < begun else (1, frame - begun))) for frame in range(frames)),
        drawn=request.pieces,
        mixes=_mixes(request, options) if turns else "",
    )


def _mixes(request: Request, options: Options) -> str:
    if request.given:
        return GOES_ON
    return "gives it the low frequencies of the frame before" if options.tail == "neighbor" else ""


def turn(
    frames: Float[Tensor, "B C Q H W"],
    queue: Queue,
    answer: Callable[[list[Tensor]], list[Tensor]],  # windows -> them after a step
) -> Float[Tensor, "B C Q H W"]:
    """One step of every frame of the queue (algorithms 1 and 2): all windows see the frames as they were.

    That is the order of the paper, from the noisy end to the clean one; the other order would show a window neighbors
    that are a step further.
    """
    clip = frames.shape[2] - queue.windows[-1]
    stepped = answer([frames[:, :, first : first + clip] for first in queue.windows])
    renewed = frames.clone()
    for first, window in zip(queue.windows, stepped, strict=True):
        begin = max(queue.front, first + clip - queue.renewed)  # finished frames stay as they are
        renewed[:, :, begin : first + clip] = window[:, :, begin - first :]
    return renewed


def fill(
    clip: Float[Tensor, "B C T H W"],
    queue: Queue,
    schedule: Schedule,
    noise: Float[Tensor, "B C Q H W"],
    compat: Compat,
) -> Float[Tensor, "B C Q H W"]:
    """The first queue: the clip's frames noised to their places' levels, after repeats of its first frame."""
    places = len(queue.levels)
    source = (torch.arange(places) - places + clip.shape[2]).clamp(min=0)
    mixes = torch.tensor([schedule.mix(level) for level in queue.levels.tolist()], dtype=torch.float64)
    if compat == "paper":
        mixes[: queue.front] = torch.tensor(Mix(1, 0))
    exact = torch.promote_types(clip.dtype, torch.float32)
    signal, spread = mixes.to(clip.device, exact).T[..., None, None]
    return (signal * clip[:, :, source] + spread * noise.to(clip.device, exact)).to(clip.dtype)


def arrivals(noise: Noise, shape: tuple[int, int, int, int], count: int) -> Iterator[Float[Tensor, "B C L H W"]]:
    """The initial noise of the frames after the first clip, `count` at a time, without end."""
    piece, drawn = 1, noise("initial", 1, shape)
    while True:
        while drawn.shape[2] < count:
            piece += 1
            drawn = torch.cat([drawn, noise("initial", piece, shape)], dim=2)
        yield drawn[:, :, :count]
        drawn = drawn[:, :, count:]


def enter(
    waiting: Float[Tensor, "B C Q H W"],
    arriving: Float[Tensor, "B C L H W"],
    schedule: Schedule,
    fresh: Float[Tensor, "B C L H W"] | None,  # noise for the neighbor's frequencies; None: they are not taken
) -> Float[Tensor, "B C Q H W"]:
    """The queue after as many frames have left it as enter it.

    The last frame that waits has taken its first step. The forward process brings it back to the noisiest level before
    what enters takes its low frequencies; taken as it stands it is amplified anew by every frame that enters.
    """
    arriving = arriving.to(waiting)
    if fresh is not None:
        neighbor = schedule.renoised(waiting[:, :, -1:].expand_as(arriving), fresh.to(waiting), 0)
        keep = low_pass(1, waiting.shape[3], waiting.shape[4], FreeInit()).to(waiting.device)
        arriving = cross_over(neighbor, arriving, keep, over=(-2, -1))
    return torch.cat([waiting[:, :, arriving.shape[2] :], arriving], dim=2)


class QueueCalls:
    """Takes the windows of a turn a step on: the network's answers, and the schedule's steps."""

    def __init__(
        self,
        denoise: Denoiser,
        schedule: Schedule,
        request: Request,
        queue: Queue,
        head: Float[Tensor, "B C M H W"],  # clean frames before every window
        eta: float,
        noise: Noise,
        announce: Callable[..., None],
    ):
        self.denoise, self.schedule, self.request, self.head = denoise, schedule, request, head
        self.eta, self.noise, self.announce = eta, noise, announce
        self.queue = queue
        timesteps, clean = torch.tensor(schedule.timesteps, device=head.device), head.shape[2]
        self.levels = [queue.levels[first : first + request.clip - clean] for first in queue.windows]
        before = torch.full((clean,), schedule.steps - 1)
        self.times = [timesteps[torch.cat([before, level]).to(timesteps.device)] for level in self.levels]

    def __call__(self, windows: list[Tensor], number: int) -> list[Tensor]:
        """The windows after the step of this turn."""
        clean, predictions = self.head.shape[2], list[Tensor]()
        seen = [torch.cat([self.head, window], dim=2) for window in windows] if clean else windows
        for call in answers(self.denoise, seen, self.times, self._spans(number), self.request.together):
            predictions += [answer[:, :, clean:] for answer in call]
            self.announce("call", 1 + number, len(predictions) - 1, call[-1])
        stepped = []
        for place, (window, answer, level) in enumerate(zip(windows, predictions, self.levels, strict=True)):
            size = (window.shape[1], window.shape[2], window.shape[3], window.shape[4])
            fresh = self.noise("step", 1 + number, size, place) if self.eta > 0 else None
            stepped.append(self.schedule.step(window, answer, level, self.eta, fresh))
        return stepped

    def _spans(self, number: int) -> list[Tensor]:
        """Frames of the video in the windows of a turn, after the head; those before frame 0 are repeats of it."""
        clean, queue = self.head.shape[2], self.queue
        leaving = (number - self.schedule.steps) * queue.width + (self.request.given or self.request.clip)
        places = torch.arange(self.request.clip - clean) + leaving - queue.front
        return [torch.cat([torch.arange(clean), first + places]) for first in queue.windows]


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
    """Sample one clip, fill the queue with it, and turn the queue until N frames have left it.

    A video of at most one clip is that clip. Frames that leave before the clip's own first one are repeats of it and
    are left out; with fewer steps than frames of a clip its first frames are done before the queue begins. Given
    frames take the place of the clip: they stand in the first queue, noised, and leave it as they were given.

    Raises:
        ValueError: the clip is too long for the network, or the steps do not suit compat="official".
    """
    todo = plan(request, schedule.steps, options)
    check_fits(denoise, request.clip, per_frame=len(todo.seams) > 0)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise, goes_on=True), request.eta_or(1.0 if options.compat == "official" else 0.0)
    C, H, W = request.shape
    clip, steps, shape = request.clip, schedule.steps, (C, request.clip, H, W)

    if request.past is None:
        x = noise("initial", 0, shape).to(device, dtype)
        x = denoise_together(at(denoise, slice(0, clip)), schedule, schedule, x, eta, noise, announce)
    else:
        x = request.past.to(device, dtype or torch.float32)
    video: list[Tensor] = []
    width, repeats = options.width, steps * options.width - x.shape[2]  # of its first frame, which leave first
    done = x.shape[2] if request.given or request.frames <= clip else max(0, -repeats)
    if done:
        video.append(x[:, :, : min(done, request.frames)])
        announce("frames", 0, steps - 1, video[-1])
    if request.frames <= x.shape[2]:
        return Result(video[0], todo)

    queue, head = queue_of(clip, steps, options), x[:, :, : options.head(clip)]
    waiting = fill(x, queue, schedule, noise("queue", 0, (C, len(queue.levels), H, W)), options.compat)
    arriving = arrivals(noise, shape, width)
    ask = QueueCalls(denoise, schedule, request, queue, head, eta, noise, announce)
    for number in range(turns_of(request, steps, options)):
        waiting = turn(waiting, queue, lambda windows, number=number: ask(windows, number))
        announce("step", 1 + number, len(queue.windows) - 1, waiting)
        leaving = number * width - repeats  # frame of the video
        first, last = max(0, done - leaving), min(width, request.frames - leaving)
        if request.given:  # frames that leave as they are
            start, stop = min(width, max(0, -leaving)), min(width, first)
            waiting[:, :, queue.front + start : queue.front + stop] = x[:, :, leaving + start : leaving + stop]
        if first < last:
            # a copy: as a view it would keep the whole queue of every turn
            video.append(waiting[:, :, queue.front + first : queue.front + last].clone())
            announce("frames", 1 + number, len(queue.windows) - 1, video[-1])
        fresh = noise("tail", number, (C, width, H, W)) if options.tail == "neighbor" else None
        waiting = enter(waiting, next(arriving), schedule, fresh)
    return Result(torch.cat(video, dim=2), todo)
