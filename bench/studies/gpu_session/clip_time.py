"""Whole clips: all denoising steps and the decoding, timed together, and the least time that the machine could take."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.hardware.machine import ROOT
from bench.hardware.peaks import nominal, peaks
from bench.hardware.roofline import count
from bench.hardware.stopwatch import Stopwatch
from bench.speed.memory_cell import SCHEDULER
from bench.speed.models import MODELS, network
from vidrd.compiled_unet import compiled as compile_unet
from vidrd.denoiser import GuidedDenoiser
from vidrd.models.blocks import frames_of
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.precision import DTYPES
from vidrd.sampler_contract import Request
from vidrd.sampling import Options, sample
from vidrd.schedule import Schedule

TINY_VAE = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1}


@dataclass(frozen=True)
class ClipTime:
    """The time of whole clips.

    Args:
        seconds: of one clip, one value per repeat: from noise to frames, text left out.
        denoise: how many of these seconds the denoising steps took.
        flops: of one clip, steps and decoding.
        least: seconds at the rate of a matrix product measured on this machine.
        least_nominal: seconds at the data sheet's rate; None where none is known.
        verdict: "ok"; "suspicious": faster than the measured rate allows; "invalid": than the data sheet does.
    """

    model: str
    precision: str
    compiled: bool
    clips: int
    steps: int
    frames: int
    seconds: tuple[float, ...]
    denoise: tuple[float, ...]
    flops: float
    least: float
    least_nominal: float | None
    verdict: str


def clip_time(
    name: str, device: str, precision: str, *, compiled: bool, clips: int = 1, steps: int = 50, repeats: int = 3
) -> ClipTime:
    """Time clips of a model: all steps of DDIM with guidance, nothing kept or left out, then all frames decoded."""
    model, dtype = MODELS[name], DTYPES[precision]
    unet, inputs = model.unet(device, dtype), model.inputs(device, clips).to(dtype)
    vae = vae_of(name, device).to(dtype)
    denoise = GuidedDenoiser(
        compile_unet(unet) if compiled else unet, inputs.context, inputs.negative, model.guidance, model.frames
    )
    shape = tuple(inputs.latents.shape)
    request = Request(model.frames, model.frames, (shape[1], shape[3], shape[4]), seeds=tuple(range(clips)))
    schedule = Schedule.ddim(SCHEDULER, steps)
    stopwatch = Stopwatch(device)

    def once(levels: Schedule) -> dict[str, float]:
        with stopwatch.stage("denoise"):
            latents = sample(denoise, levels, request, Options(overlap=0), device=device, dtype=dtype).latents
        with stopwatch.stage("decode"):
            vae.decode(frames_of(latents) / vae.config.scaling_factor, num_frames=model.frames)
        return stopwatch.read()

    with torch.no_grad():
        for _ in range(2):
            once(Schedule.ddim(SCHEDULER, 2))
        times = [once(schedule) for _ in range(repeats)]
        work = steps * _flops(lambda: _guided(unet, inputs, model.guidance))
        work += _flops(lambda: vae.decode(frames_of(inputs.latents), num_frames=model.frames))
    kind = str(dtype).removeprefix("torch.")
    rate = peaks(device).flops[kind]
    sheet = nominal(torch.cuda.get_device_name()) if device == "cuda" else {}
    flops = work / clips
    seconds = tuple(each["total"] / clips for each in times)
    least, least_nominal = flops / rate, flops / sheet[kind] if kind in sheet else None
    return ClipTime(
        model=name,
        precision=precision,
        compiled=compiled,
        clips=clips,
        steps=steps,
        frames=model.frames,
        seconds=seconds,
        denoise=tuple(each["denoise"] / clips for each in times),
        flops=flops,
        least=least,
        least_nominal=least_nominal,
        verdict=verdict(min(seconds), least, least_nominal),
    )


def verdict(seconds: float, least: float, least_nominal: float | None) -> str:
    """Whether a time can be true."""
    if least_nominal is not None and seconds < least_nominal:
        return "invalid"
    return "suspicious" if seconds < least else "ok"


def _guided(unet: Any, inputs: Any, guidance: float) -> Tensor:
    denoise = GuidedDenoiser(unet, inputs.context, inputs.negative, guidance)
    return denoise(inputs.latents, inputs.timestep)


def _flops(work: Callable[[], Any]) -> int:
    return count(work).flops


def vae_of(name: str, device: str) -> Any:
    """The decoder that belongs to a model: the pocket one as trained, others with drawn weights."""
    if name == "pocket":
        folder = str(ROOT / "weights" / "pocket" / "vae")
        return AutoencoderKLTemporal.from_pretrained(folder, local_files_only=True).to(device).eval()
    return network(AutoencoderKLTemporal, TINY_VAE if name == "tiny" else {}, seed=1, device=device)
