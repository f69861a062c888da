"""Videos by a cell's values, batch by batch, with the seconds of each stage."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8

from baselines.latent_frames import plan_in_frames
from baselines.models.families import load_model
from bench.hardware.device import keep_float32
from bench.hardware.network_calls import CallRecorder
from bench.hardware.stopwatch import Stopwatch
from bench.methods import METHODS, options_of, with_noise
from bench.results.records import InvalidError, Value
from bench.videos.equal_cost import most_steps, seconds_line
from bench.videos.knobs.context_parallel import Ensemble
from bench.videos.knobs.settings import approximations, devices_of, turned
from bench.videos.knobs.turning import turn
from bench.videos.plan import in_latent_frames
from vidrd.denoiser import Call, Denoiser, GuidedDenoiser, Span, WindowedDenoiser, at
from vidrd.pocket.world import TEST_SEEDS, draw_scene, render
from vidrd.precision import PRECISIONS, why_emulated
from vidrd.sampler_contract import Event, Request, Seam

WARM_UP_STEPS = 2


class CountingDenoiser:
    """A denoiser that counts what is asked of it; its attention can be cut in windows where the other's can."""

    def __init__(self, denoise: Denoiser, videos: int) -> None:
        self._denoise, self._videos = denoise, videos
        self.clip, self.longest, self.branches = denoise.clip, denoise.longest, denoise.branches
        self.per_frame = getattr(denoise, "per_frame", True)
        self.calls = self.fe = 0
        if isinstance(denoise, WindowedDenoiser):
            self.attend_in = denoise.attend_in
        if isinstance(denoise, GuidedDenoiser):
            self.extend = denoise.extend

    def at(self, spans: Sequence[Span]) -> Call:
        """Count the calls for these frames."""
        return partial(self._count, at(self._denoise, *spans))

    def __call__(
        self, latents: Float[torch.Tensor, "B C T H W"], timesteps: Num[torch.Tensor, "*T"]
    ) -> Float[torch.Tensor, "B C T H W"]:
        """Pass the call on."""
        return self._count(self._denoise, latents, timesteps)

    def _count(self, call: Call, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.fe += latents.shape[2] * latents.shape[0] // self._videos
        return call(latents, timesteps)


class BatchCost(NamedTuple):
    """What a batch took, by stage; what the method's plan asks of the network; where its clips meet."""

    seconds: dict[str, float]
    fe_per_frame: float
    seams: tuple[Seam, ...]


class Generator:
    """Makes batches of videos as a cell's values say, and times their stages.

    The gate runs the generators of two revisions side by side (bench/regression/revision_server.py): keep `make`
    callable as it is, and `pipe` the pipeline that does the work. Lengths are counted in latent frames in here.
    """

    def __init__(self, values: Mapping[str, Value], *, ranges: bool = False) -> None:
        self.method = with_noise(METHODS[str(values["method"])], str(values["noise"]))
        precision = PRECISIONS[str(values["precision"])]
        self.device, self.dtype = str(values["device"]), precision.compute
        keep_float32()
        self.knobs, self.devices = turned(values), devices_of(values)
        self.ensemble = Ensemble(values) if self.devices > 1 else None  # the others load while this one does
        self.model = load_model(
            str(values.get("model", "pocket")),
            revision=str(values["revision"]) if values.get("revision") else None,
            dtype=precision.weights,
            device="cpu" if values.get("offload", "none") != "none" else self.device,
        )
        if precision.weights != precision.compute:
            self.model.to(precision.compute)
        self.pipe = self.model.pipe
        self.cache = turn(self.model, values)
        self.kept: list[np.ndarray] | None = None  # latents of every batch, where the caller puts an empty list
        self.length = int(values["frames"])  # of the video
        values = in_latent_frames(values, self.model.rule)
        self.options = options_of(values)
        self.solver = str(values.get("solver", "ddim"))
        self.budget = int(values["budget"])
        self.frames, self.clip, self.batch = (int(values[name]) for name in ("frames", "clip", "batch"))
        self.guidance, self.negative = float(values["guidance"]), str(values.get("negative", ""))
        self.told: dict[str, Any] = {"blend": int(values["blend"])} if "blend" in values else {}
        self.shape = self.model.latent_shape(*(int(values.get(side, 0)) or None for side in ("height", "width")))
        self.first_seed = int(values["seed"]) * 10**6
        # frames of real video that every video of the pocket world begins with
        self.given = int(values.get("given", 0))
        self.emulated = why_emulated(str(values["precision"]), self.device)
        self.stopwatch = Stopwatch(self.device, ranges=ranges)
        self.recorder = CallRecorder(self.pipe, dict.fromkeys(self.model.denoisers, "denoise"))

    def make(self, prompts: list[str], first: int, steps: int) -> tuple[UInt8[np.ndarray, "B T H W C"], BatchCost]:
        """A batch: the videos `first`, `first` + 1, ... of the cell.

        Raises:
            InvalidError: the calls were not those of the plan, or the latents are not finite, or not those of the other
                devices.
        """
        if self.ensemble is not None:
            self.ensemble.make(prompts, first, steps)
        if self.cache is not None:
            self.cache.begin()
        given = self.source(first, len(prompts))  # before the clock starts
        with self.stopwatch.stage("text"):
            bound = self.model.denoiser(prompts, negative=self.negative, guidance=self.guidance, **self.told)
        if self.budget and isinstance(bound, GuidedDenoiser):
            bound = replace(bound, budget=self.budget)
        denoise = CountingDenoiser(bound, len(prompts))
        request = self.request(first, len(prompts), denoise.branches, given)
        planned = self.method.plan(request, steps, self.options)
        call = max(stop - start for start, stop in planned.windows), *self.shape[1:]
        schedule = self.model.schedule(steps, self.solver, shape=call)
        with self.stopwatch.stage("denoise"):
            result = self.method.sample(
                denoise, schedule, request, self.options, on_event=self._lap, device=self.device, dtype=self.model.dtype
            )
        if self.ensemble is not None:
            self.ensemble.check_equal(result.latents)
        if self.kept is not None:
            self.kept.append(result.latents.float().cpu().numpy())
        plan = result.plan
        if (denoise.calls, denoise.fe) != (plan.calls, plan.fe):
            made = f"{denoise.calls} calls over {denoise.fe} frames"
            raise InvalidError(f"{made} were made where the plan says {plan.calls} over {plan.fe}")
        with self.stopwatch.stage("decode"):
            try:
                videos = self.model.decode(result.latents, clip=self.decoded)
            except ValueError as error:
                bad = int((~torch.isfinite(result.latents)).sum())
                raise InvalidError(f"{bad} latents are NaN or infinite") if bad else error from error
        if given is not None:
            videos[:, : self.given] = given
        seams = plan_in_frames(plan, self.model.rule).seams
        return videos, BatchCost(self.stopwatch.read(), plan.fe * denoise.branches / self.frames, seams)

    @property
    def other_work(self) -> list[str]:
        """The knobs by which the network does other arithmetic than its own."""
        network = ("cache", "quantize", "attention")
        return [each for each in approximations(self.knobs) if each.partition("=")[0] in network]

    @property
    def decoded(self) -> int:
        """Frames that a VAE of clips sees at once, counted from frame 0, wherever the sampler's seams are."""
        return 1 if getattr(self.options, "compat", "paper") == "released" else self.clip

    def request(self, first: int, videos: int, branches: int, given: UInt8[np.ndarray, "B M H W C"] | None) -> Request:
        """The videos `first`, `first` + 1, ... of the cell, which go on from the given frames."""
        seeds = tuple(range(self.first_seed + first, self.first_seed + first + videos))
        budget = max(1, self.budget // branches) if self.budget else None
        past = None if given is None else self.pipe.encode(given, self.shape)
        return Request(self.frames, self.clip, self.shape, seeds, budget=budget, past=past)

    def source(self, first: int, videos: int) -> UInt8[np.ndarray, "B M H W C"] | None:
        """The real frames that these videos go on from, those of their captions' own scenes; None: from none."""
        if not self.given:
            return None
        return render([draw_scene(seed) for seed in TEST_SEEDS[first : first + videos]], self.given)

    def with_method(self, name: str) -> "Generator":
        """The same with another method and its defaults."""
        other = copy.copy(self)
        other.method, other.options = METHODS[name], METHODS[name].options(0)
        return other

    def few_steps(self, steps: int) -> int:
        """The least steps, from `WARM_UP_STEPS` to `steps`, that the method can do: not all of them take any number."""
        request = self.request(0, 1, 1, self.source(0, 1))
        for few in range(min(WARM_UP_STEPS, steps), steps):
            try:
                self.method.plan(request, few, self.options)
            except ValueError:
                continue
            return few
        return steps

    def seconds(self, prompts: list[str]) -> Callable[[int], float]:
        """Seconds of a batch by steps, from short runs; one more goes ahead to warm up."""
        self.make(prompts, 0, WARM_UP_STEPS)
        request = self.request(0, len(prompts), 1, self.source(0, len(prompts)))
        return seconds_line(
            self.method.plan, request, self.options, lambda steps: self.make(prompts, 0, steps)[1].seconds["total"]
        )

    def steps_as_long_as(self, method: str, steps: int, prompts: list[str]) -> int:
        """How many steps fit the time that another method takes for `steps`."""
        allowed = self.with_method(method).seconds(prompts)(steps)
        return most_steps(self.seconds(prompts), allowed, "seconds")

    def _lap(self, event: Event) -> None:
        if event.kind == "step":
            self.stopwatch.lap()
