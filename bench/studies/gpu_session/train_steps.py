"""Steps of training the U-Net as `vidrd train` does them: forwards, backwards and the optimizer, timed one by one.

The loop is the project's own (vidrd/training/loop.py) with averaged weights, gradient checkpointing and what the
paper's figure trains on video. Latents and texts are drawn, no file is read: network and optimizer are what is timed.
"""

import statistics
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.hardware.peaks import nominal, peaks
from bench.speed.memory_cell import SCHEDULER
from bench.speed.models import MODELS, Model, unet_class
from vidrd.training.hyperparameters import Recipe
from vidrd.training.log import peak_bytes
from vidrd.training.loop import fit
from vidrd.training.losses import denoising_error, diffusion_target, draw_timesteps
from vidrd.training.stages import ATTENTION_KERNELS, learns_from_video, trainable

WARM = 2  # steps before those that are timed


@dataclass(frozen=True)
class TrainTime:
    """The time of training steps.

    Args:
        batch: clips of a step.
        seconds: of each timed step.
        trained: parameters that learn, of `parameters`.
        flops: of a step: forwards and backwards; the second forward pass that checkpointing takes is left out.
        peak_bytes: most memory of the process so far; of the GPU where there is one.
        share: of the rate of a matrix product, measured on this machine, that `flops` reach.
        nominal_share: of the data sheet's; None where none is known.
        verdict: "ok", or "invalid": at the product's rate `flops` take longer than a step took.
    """

    model: str
    precision: str
    batch: int
    frames: int
    seconds: tuple[float, ...]
    steps_per_second: float
    trained: int
    parameters: int
    flops: int
    peak_bytes: int
    share: float
    nominal_share: float | None
    verdict: str


class _EnoughError(Exception):
    """Raised when all steps are timed, to leave the loop before it writes its results."""


def train_time(name: str, device: str, batch: int, folder: Path, *, steps: int = 5) -> TrainTime:
    """Time steps on one model; a folder is needed for the loop's log. In bfloat16 on a GPU, float32 on a CPU.

    Raises:
        torch.OutOfMemoryError: the batch does not fit.
    """
    model, precision = MODELS[name], "bf16" if device == "cuda" else "fp32"
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    unet = model.unet(device)
    trainable(unet, learns_from_video)
    alphas = DDIMScheduler.from_config(SCHEDULER).alphas_cumprod
    inputs = model.inputs(device, batch)
    marks: list[float] = []

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        if device == "cuda":
            torch.cuda.synchronize()
        marks.append(perf_counter())
        if step == WARM + steps:
            raise _EnoughError
        timesteps = draw_timesteps(batch, len(alphas), generator)
        noise = torch.randn(inputs.latents.shape, generator=generator).to(device)
        noisy, target = diffusion_target(inputs.latents, noise, alphas[timesteps].to(device), "epsilon")
        prediction = unet(noisy, timesteps.to(device), inputs.context).sample
        return denoising_error(prediction, target), {}

    recipe = Recipe(WARM + steps + 1, batch, 1e-5, 1, precision="bf16" if device == "cuda" else "no")
    unet.enable_gradient_checkpointing()
    with sdpa_kernel(ATTENTION_KERNELS), suppress(_EnoughError):
        fit({"unet": unet}, loss, recipe, folder)
    taken = [b - a for a, b in zip(marks[WARM:-1], marks[WARM + 1 :], strict=True)]
    usual, kind = statistics.median(taken), "bfloat16" if precision == "bf16" else "float32"
    rate, flops = peaks(device).flops[kind], batch * _flops(model)
    sheet = nominal(torch.cuda.get_device_name()).get(kind) if device == "cuda" else None
    return TrainTime(
        model=name,
        precision=precision,
        batch=batch,
        frames=model.frames,
        seconds=tuple(taken),
        steps_per_second=1 / usual,
        trained=sum(p.numel() for p in unet.parameters() if p.requires_grad),
        parameters=sum(p.numel() for p in unet.parameters()),
        flops=flops,
        peak_bytes=peak_bytes(),
        share=flops / usual / rate,
        nominal_share=flops / usual / sheet if sheet else None,
        verdict="invalid" if flops / min(taken) > rate else "ok",
    )


def _flops(model: Model) -> int:
    """Of a step for one clip, counted on the meta device, where nothing is computed."""
    with torch.device("meta"):
        unet = unet_class().from_config(model.all_config)
    trainable(unet, learns_from_video)
    inputs = model.inputs("cpu")
    latents, timestep, context = (each.to("meta") for each in (inputs.latents, inputs.timestep, inputs.context))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        unet(latents, timestep, context).sample.square().mean().backward()
    return int(counter.get_total_flops())
