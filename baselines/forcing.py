"""The matrix of diffusion forcing (SkyReels-V2, arXiv 2504.13074): every block of frames is denoised some steps behind
the one before it.

Blocks are denoised by solvers of their own, so those with a memory keep it.

One number leads from `direct` (no step behind: all frames share their level) over FIFO's diagonal (one) to block after
block (all steps: what is seen of earlier blocks is clean). A call sees a clip that ends with the last block that began,
or more, where more frames than a clip are under way.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from vidrd.denoiser import Denoiser, at
from vidrd.noise import Noise, video_noise
from vidrd.sampler_contract import Announce, OnEvent, Plan, Request, Result, check_fits, noise_for, undivided
from vidrd.schedule import Schedule

PUBLISHED = 5  # steps from a block to the next, in the published code unless told otherwise


@dataclass(frozen=True)
class Options:
    """Parameters of the sampler.

    Raises:
        ValueError: a step or a block out of its range, or no such code.
    """

    # denoising steps from a block to the next: 0 none is behind, all steps: block after block; None: the fewest with
    # which a clip holds all frames under way
    ar_step: int | None = None
    block: int = 1  # frames that share their level
    # "diffusers" as SkyReels-V2's pipeline: blocks of a single clip are apart, too, by at least `PUBLISHED` steps where
    # ar_step is None, and done frames are told time 0 instead of that of the cleanest level
    compat: Literal["paper", "diffusers"] = "paper"

    def __post_init__(self) -> None:
        if self.ar_step is not None and self.ar_step < 0:
            raise ValueError(f"ar_step is a count of steps from 0 upwards, or None: got {self.ar_step}")
        if self.block < 1:
            raise ValueError(f"a block has at least 1 frame: got {self.block}")
        if self.compat not in ("paper", "diffusers"):
            raise ValueError(f"compat is paper or diffusers: got {self.compat!r}")

    def lag(self, request: Request, steps: int) -> int:
        """Steps from a block to the next; 0 for a video of one clip, which needs no order, unless a code gives it one.

        Raises:
            ValueError: a block that is longer than a clip.
        """
        if self.block > request.clip:
            raise ValueError(f"a block is at most a clip of {request.clip} frames: got {self.block}")
        if request.frames <= request.clip and self.compat == "paper":
            return 0
        fewest = math.ceil(steps / (request.clip // self.block))
        if self.compat == "diffusers":
            fewest = max(fewest, PUBLISHED)
        return min(steps, fewest if self.ar_step is None else self.ar_step)


class Row(NamedTuple):
    """One call: the frames that it sees, and those of them that take a step."""

    first: int
    last: int  # exclusive, as all ends here
    begin: int  # frames before it are done
    end: int  # frames from it on wait
    done: int  # frames that are done after it


def rows_of(request: Request, steps: int, options: Options) -> Iterator[Row]:
    """The rows of the matrix, which a call each works off."""
    lag, frames = options.lag(request, steps), max(request.frames, request.clip)
    for row in range(steps + lag * ((frames - 1) // options.block)):
        if lag == 0:
            yield Row(0, frames, 0, frames, frames if row == steps - 1 else 0)
            continue
        begin, done = (options.block * max(0, (number - steps) // lag + 1) for number in (row, row + 1))
        end = min(frames, options.block * (row // lag + 1))
        last = max(request.clip, end)
        yield Row(min(begin, last - request.clip), last, begin, end, min(frames, done))


def plan(request: Request, steps: int, options: Options) -> Plan:
    """T rows and as many more as the last block is behind the first.

    Raises:
        ValueError: a block that is longer than a clip.
    """
    rows = list(rows_of(request, steps, options))
    return Plan(
        calls=len(rows),
        fe=sum(row.last - row.first for row in rows),
        windows=tuple(sorted({(row.first, row.last) for row in rows})),
        seams=(),
        frames=undivided(request.frames),
        drawn=request.pieces,
    )


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
    """Work off the matrix row by row. Done frames are told the cleanest level, and waiting ones the noisiest.

    Every block has a solver of its own, which starts with it.

    Raises:
        ValueError: more frames are under way than the network takes, or a block is longer than a clip.
    """
    todo, steps = plan(request, schedule.steps, options), schedule.steps
    lag = options.lag(request, steps)
    check_fits(denoise, max(last - first for first, last in todo.windows), per_frame=lag > 0)
    announce = Announce(on_event, todo.calls)
    noise, eta = noise_for(request, noise), request.eta_or()
    (C, H, W), length = request.shape, max(request.frames, request.clip)
    timesteps = torch.tensor(schedule.timesteps, device=device)
    behind = lag * (torch.arange(length) // options.block)

    x, final = video_noise(noise, length, request.clip, request.shape).to(device, dtype), 0
    solvers = [schedule.fresh() for _ in range(0, length, options.block)] if lag else [schedule.fresh()]
    for number, row in enumerate(rows_of(request, steps, options)):
        seen, moved = x[:, :, row.first : row.last], slice(row.begin, row.end)
        levels = (number - behind).clamp(0, steps - 1)
        told = timesteps[levels[row.first : row.last].to(timesteps.device)] if lag else timesteps[number]
        if lag and options.compat == "diffusers":
            told[: row.begin - row.first] = 0
        answer = at(denoise, slice(row.first, row.last))(seen, told)
        announce("call", 0, number, answer)
        answer = answer[:, :, row.begin - row.first : row.end - row.first]
        fresh = noise("step", 0, (C, row.end - row.begin, H, W), number) if eta > 0 else None
        if not lag:
            x = solvers[0].step(x, answer, number, eta, fresh)
        elif schedule.fresh() is schedule:  # without a memory one step serves all blocks
            x[:, :, moved] = schedule.step(x[:, :, moved], answer, levels[moved], eta, fresh)
        else:
            parts = answer.split(options.block, dim=2)
            for first, part in zip(range(row.begin, row.end, options.block), parts, strict=True):
                block = x[:, :, first : first + part.shape[2]]
                block.copy_(solvers[first // options.block].step(block.clone(), part, int(levels[first]), eta))
        announce("step", 0, number, x[:, :, row.first : row.last])
        done = min(row.done, request.frames)
        if done > final:
            announce("clip", 0, number, x[:, :, final:done])
            announce("frames", 0, number, x[:, :, final:done])
            final = done
    return Result(x[:, :, : request.frames], todo)
