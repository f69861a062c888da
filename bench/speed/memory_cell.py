"""What a video of any length holds in memory while it is made: the suite `memory`.

    plan -> what the largest network call will hold + the video's latents      (predicted, nothing runs)
    sample -> the most that its tensors held at one time                       (measured)

Weights are left out: they do not grow. Steps are few, since what a sampler holds hardly depends on them.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.hardware.memory import process_peak
from bench.hardware.roofline import LiveStorages, count
from bench.harness.job import Job
from bench.harness.suite_spec import Measure, Values
from bench.methods import METHODS, Method
from bench.results.records import CellResults, Number
from bench.speed.models import MODELS, Model, shell, unet_class
from bench.videos.length_suite import PROMPTS
from vidrd.denoiser import GuidedDenoiser
from vidrd.precision import DTYPES
from vidrd.sampler_contract import Plan, Request
from vidrd.schedule import Schedule

if TYPE_CHECKING:
    from baselines.model_contract import Model as AnyModel

SCHEDULER = {  # Stable Diffusion's
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
BRANCHES = 2  # of guidance
ENDS = 2  # copies of the finished latents: the clips, and the joined video


class PeakTracker(TorchDispatchMode):
    """The peak of bytes in tensors that are made while it is open, without inputs and weights."""

    def __init__(self) -> None:
        super().__init__()
        self._storages = LiveStorages()

    @property
    def peak(self) -> int:
        """Bytes."""
        return self._storages.peak

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        inputs, outputs = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in ((args, kwargs), out)
        )
        self._storages.follow(inputs, outputs)
        return out


MEMORY_MEASURES: dict[str, Measure] = {
    "sample_peak": Measure(
        "peak", "bytes", "lower", "cost",
        "Peak of the tensors while the latents of one video were made, without weights.",
    ),
    "clips_held": Measure(
        "in clips", "x", "lower", "cost",
        "That, in network calls for one clip: 1 at any length if memory does not grow with the video.",
    ),
    "planned_peak": Measure(
        "planned", "bytes", "lower", "cost",
        "What the plan predicts: the network's call for the longest stretch that is denoised together, counted on the "
        "meta device, and the video's latents twice.",
    ),
    "of_plan": Measure("of plan", "x", None, "cost", "The measured peak by the planned one."),
    "latents": Measure("latents", "bytes", None, "cost", "Of the finished video: what no method can do without."),
    "process_peak": Measure(
        "RSS", "bytes", "lower", "cost", "Largest resident memory of the process: Python, libraries, weights and all."
    ),
}  # fmt: skip


def family_of(values: Values) -> "AnyModel | None":
    """The cell's model of docs/models.md without its weights; None: it is one of this suite's U-Nets.

    Raises:
        ValueError: it is neither.
    """
    if values["model"] in MODELS:
        return None
    from bench.videos.predict import Chosen, without_weights  # noqa: PLC0415  (loads diffusers)

    return without_weights(Chosen(str(values["model"]), str(values["revision"]), str(values["precision"])))


def request_of(values: Values) -> Request:
    """One video of the cell, in latent frames."""
    family = family_of(values)
    if family is not None:
        return Request(family.rule.latents(int(values["frames"])), family.clip, family.latent_shape(), seeds=(0,))
    model = MODELS[str(values["model"])]
    channels = int(model.all_config["in_channels"])
    return Request(int(values["frames"]), model.frames, (channels, model.side, model.side), seeds=(0,))


def plan_of(values: Values) -> Plan:
    """What the cell's method will do.

    Raises:
        ValueError: the method cannot make such a video.
    """
    return METHODS[str(values["method"])].plan(request_of(values), int(values["steps"]), _options(values))


def _options(values: Values) -> Any:
    family, overlap = family_of(values), int(values["overlap"])
    return METHODS[str(values["method"])].options(overlap if family is None else family.rule.overlap(overlap))


def planned(values: Values) -> tuple[float, float]:
    """Bytes that the plan of the cell predicts, and those that the network's call for one clip holds.

    The first is the call for the longest stretch that is denoised together, and the video's latents twice.
    """
    plan, request = plan_of(values), request_of(values)
    longest = max(stop - start for start, stop in plan.windows)
    return (
        float(_held(values, longest) + ENDS * request.frames * _latents(values)),
        float(_held(values, request.clip)),
    )


def _latents(values: Values) -> int:
    """Bytes of the latents of one frame."""
    (C, H, W), family = request_of(values).shape, family_of(values)
    dtype = DTYPES[str(values["precision"])] if family is None else family.dtype
    return C * H * W * dtype.itemsize


def _held(values: Values, frames: int) -> int:
    """Peak bytes of a guided call over `frames` frames, without its inputs."""
    family = family_of(values)
    if family is None:
        return _call(str(values["model"]), frames, str(values["precision"]))
    from bench.videos.predict import Chosen, NetworkCall, denoising  # noqa: PLC0415  (loads diffusers)

    chosen = Chosen(str(values["model"]), str(values["revision"]), str(values["precision"]))
    call = NetworkCall(family.branches(family.guidance), frames, family.latent_shape())
    return denoising(chosen, call).peak_bytes


@cache
def _call(name: str, frames: int, precision: str) -> int:
    """Peak bytes of a guided call over `frames` frames, without its inputs."""
    model, dtype = MODELS[name], DTYPES[precision]
    config = model.all_config
    unet = shell(unet_class(), config).to(dtype)
    with torch.device("meta"):
        latents = torch.empty(BRANCHES, config["in_channels"], frames, model.side, model.side, dtype=dtype)
        text = torch.empty(BRANCHES, model.tokens, config["cross_attention_dim"], dtype=dtype)
        timestep = torch.empty((), dtype=torch.int64)
    return count(lambda: unet(latents, timestep, encoder_hidden_states=text)).peak_bytes


def run(job: Job) -> CellResults:
    """Make the latents of one video and measure the memory that this takes."""
    values = job.values
    device, dtype = str(values["device"]), DTYPES[str(values["precision"])]
    method, request = METHODS[str(values["method"])], request_of(values)
    if family_of(values) is None:
        sample = sampler(method, MODELS[str(values["model"])], values, device, dtype)
    else:
        sample = _family_sampler(method, values, device, dtype)
    predicted, clip = planned(values)
    peak, by = held(sample, device)
    rss = process_peak()
    numbers = {
        "sample_peak": Number(float(peak), "bytes", "lower"),
        "planned_peak": Number(predicted, "bytes", "lower"),
        "of_plan": Number(peak / predicted, "x"),
        "clips_held": Number(peak / clip, "x", "lower"),
        "latents": Number(float(request.frames * _latents(values)), "bytes"),
    }
    absent = {}
    if rss.bytes is None:
        absent["process_peak"] = rss.source
    else:
        numbers["process_peak"] = Number(float(rss.bytes), "bytes", "lower")
    return CellResults(numbers, absent=absent, facts={"sample_peak_by": by})


def sampler(method: Method, model: Model, values: Values, device: str, dtype: torch.dtype) -> Callable[[], Any]:
    """The sampling of one video, ready to run."""
    unet, given = model.unet(device, dtype), model.inputs(device).to(dtype)
    denoise = GuidedDenoiser(unet, given.context, given.negative, model.guidance, clip=model.frames)
    schedule = Schedule.ddim(SCHEDULER, int(values["steps"]))
    options, request = method.options(int(values["overlap"])), request_of(values)
    return lambda: method.sample(denoise, schedule, request, options, device=device, dtype=dtype)


def _family_sampler(method: Method, values: Values, device: str, dtype: torch.dtype) -> Callable[[], Any]:
    """The same of a model of docs/models.md."""
    from baselines.models.families import load_model  # noqa: PLC0415  (loads diffusers)

    name, revision = str(values["model"]), str(values["revision"]) or None
    model, request = load_model(name, revision=revision, dtype=dtype, device=device), request_of(values)
    longest = max(stop - start for start, stop in plan_of(values).windows)
    denoise = model.denoiser(PROMPTS[:1])
    schedule = model.schedule(int(values["steps"]), shape=(longest, *request.shape[1:]))
    return lambda: method.sample(denoise, schedule, request, _options(values), device=device, dtype=model.dtype)


def held(work: Callable[[], Any], device: str) -> tuple[int, str]:
    """The peak of bytes in tensors made by the work, and the name of what counted them."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before, "torch.cuda.max_memory_allocated"
    with PeakTracker() as tracker:
        work()
    return tracker.peak, "every operator's tensors, followed until they were freed"
