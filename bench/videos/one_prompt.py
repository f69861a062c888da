"""Videos of one prompt by several methods from the same noise: what `python -m bench sample` makes, without scores."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from baselines.latent_frames import plan_in_frames
from baselines.model_contract import Model
from bench.methods import METHODS, Method, unsuited
from bench.videos.equal_cost import steps_at_equal_fe
from vidrd.denoiser import GuidedDenoiser
from vidrd.sampler_contract import Event, Plan, Request


class PlannedMethod(NamedTuple):
    """A method that can make the video, and how."""

    name: str
    method: Method
    options: Any
    steps: int
    plan: Plan


class MethodVideo(NamedTuple):
    """A finished video with its cost."""

    name: str
    frames: UInt8[np.ndarray, "T H W 3"]
    seams: list[int]  # first frames of new clips
    steps: int
    fe_per_frame: float  # frame evaluations, both branches of guidance counted, per latent frame
    seconds: float  # of sampling and decoding


def request_one(
    model: Model,
    shape: tuple[int, int, int],  # C H W of a latent frame
    seed: int,
    frames: int | None = None,  # of the video; None: of two clips beyond the given frames
    given: UInt8[np.ndarray, "T H W 3"] | None = None,
) -> Request:
    """The request for one video, which may begin with given frames of its size.

    Raises:
        ValueError: the model cannot encode given frames, makes no video of that length, or nothing is left to make.
    """
    past = None
    if given is not None:
        if not hasattr(model.pipe, "encode"):
            raise ValueError("given frames are encoded one by one, which VidRD's models do: leave out --from")
        past = model.pipe.encode(given[None], shape)
    before = 0 if past is None else past.shape[2]
    usual = model.rule.enough(2 * model.rule.frames(model.clip) + before)
    return Request(model.rule.latents(frames) if frames else usual, model.clip, shape, (seed,), past=past)


def plan_methods(
    names: Sequence[str],
    model: Model,
    request: Request,
    steps: int,
    *,
    overlap: int | None = None,  # frames of the video; None: half a clip
    equal_fe: bool = False,  # as many steps as cost what independent clips of `steps` steps cost
) -> list[PlannedMethod]:
    """The methods with their options and plans.

    Raises:
        ValueError: a method does not exist, or cannot make this video with this model.
    """
    shared = model.clip // 2 if overlap is None else model.rule.overlap(overlap)
    planned = []
    for name in names:
        if name not in METHODS:
            raise ValueError(f"methods are {', '.join(METHODS)}: got {name}")
        method = METHODS[name]
        if request.past is not None and not method.goes_on:
            able = ", ".join(other for other, each in METHODS.items() if each.goes_on)
            raise ValueError(f"{name} cannot go on from given frames: take {able}")
        if (reason := unsuited(method, model, longer=request.frames > request.clip)) is not None:
            raise ValueError(f"{name}: {reason}")
        options = method.options(shared)
        count = steps_at_equal_fe(method.plan, request, options, steps) if equal_fe else steps
        planned.append(PlannedMethod(name, method, options, count, method.plan(request, count, options)))
    return planned


def make_videos(
    planned: Sequence[PlannedMethod],
    model: Model,
    denoise: GuidedDenoiser,
    request: Request,
    given: UInt8[np.ndarray, "T H W 3"] | None = None,  # stand in the video as they are
) -> Iterator[MethodVideo]:
    """One video after the other, each with a progress bar of its network calls."""
    for name, method, options, steps, plan in planned:
        began = time.perf_counter()
        call = max(stop - start for start, stop in plan.windows), *request.shape[1:]
        model.pipe.set_progress_bar_config(desc=name)
        with model.pipe.progress_bar(total=plan.calls) as bar:

            def follow(event: Event, bar: Any = bar) -> None:
                if event.kind == "call":
                    bar.update()

            schedule = model.schedule(steps, shape=call)
            result = method.sample(
                denoise, schedule, request, options, on_event=follow, device=model.device, dtype=model.dtype
            )
        video = model.decode(result.latents, clip=model.clip)[0]
        if given is not None:
            video[: len(given)] = given
        seams = [seam.frame for seam in plan_in_frames(plan, model.rule).seams if seam.frame < len(video)]
        fe = plan.fe * denoise.branches / request.frames
        yield MethodVideo(name, video, seams, steps, fe, time.perf_counter() - began)


def side_by_side(videos: Sequence[UInt8[np.ndarray, "T H W 3"]], gap: int = 2) -> UInt8[np.ndarray, "T gridH gridW 3"]:
    """All videos in one, from left to right and from top to bottom, about as many columns as rows, on white.

    Args:
        gap: pixels between two videos; even, so that files that halve the color can hold the grid where they hold one.
    """
    count, height, width, _ = videos[0].shape
    columns = math.ceil(math.sqrt(len(videos)))
    rows = math.ceil(len(videos) / columns)
    grid = np.full((count, rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, video in enumerate(videos):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        grid[:, top : top + height, left : left + width] = video
    return grid
