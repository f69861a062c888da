"""What a cell of the pocket world will ask for, known before anything runs: for `--dry-run`."""

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from diffusers import ModelMixin

from bench.hardware.machine import ROOT
from bench.hardware.peaks import stored
from bench.hardware.roofline import Work, bound, count
from bench.harness.suite_spec import Prediction, Values
from bench.videos.plan import GIVEN, plan_of
from vidrd.exact_loading import quiet
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.precision import DTYPES

FOLDER = ROOT / "weights" / "pocket"


class NetworkCall(NamedTuple):
    """One call of a network."""

    batch: int
    frames: int
    precision: str


def predict(values: Values) -> Prediction | None:
    """FLOPs of all videos of the cell, bytes of tensors and weights at most, and seconds at the machine's peaks.

    Every call is taken to see as many frames as the average one. None for cells that no network makes.
    """
    if values["method"] in GIVEN:
        return None
    plan, batch = plan_of(values), int(values["batch"])
    branches = 1 if values["guidance"] == 1 else 2
    precision, clip = str(values["precision"]), int(values["clip"])
    step = _unet(NetworkCall(batch * branches, math.ceil(plan.fe / plan.calls), precision))
    frames = _vae(NetworkCall(batch, min(clip, int(values["frames"])), precision))
    batches = int(values["videos"]) // batch
    calls = [(plan.calls, step), (math.ceil(int(values["frames"]) / clip), frames)]
    peaks = stored(str(values["device"]))
    dtype = str(DTYPES[precision]).removeprefix("torch.")
    return Prediction(
        flops=float(batches * sum(times * work.flops for times, work in calls)),
        peak_bytes=float(_weights(precision) + max(work.peak_bytes for _, work in calls)),
        seconds=None
        if peaks is None or dtype not in peaks.flops
        else batches * sum(times * bound(work, peaks, dtype).ideal for times, work in calls),
    )


@cache
def _network(kind: type[ModelMixin], part: str, precision: str) -> Any:
    with torch.device("meta"), quiet():
        config = kind.load_config(str(FOLDER / part))
        return kind.from_config(config).to(DTYPES[precision]).eval()


@cache
def _weights(precision: str) -> int:
    networks = [_network(UNet3DConditionModel, "unet", precision), _network(AutoencoderKLTemporal, "vae", precision)]
    return sum(p.numel() * p.element_size() for network in networks for p in network.parameters())


@cache
def _unet(call: NetworkCall) -> Work:
    network = _network(UNet3DConditionModel, "unet", call.precision)
    config = network.config
    with torch.device("meta"):
        size, dtype = config.sample_size, DTYPES[call.precision]
        latents = torch.empty(call.batch, config.in_channels, call.frames, size, size, dtype=dtype)
        context = torch.empty(call.batch, 16, config.cross_attention_dim, dtype=dtype)
        timestep = torch.empty((), dtype=torch.int64)
    return count(lambda: network(latents, timestep, encoder_hidden_states=context))


@cache
def _vae(call: NetworkCall) -> Work:
    network = _network(AutoencoderKLTemporal, "vae", call.precision)
    unet = _network(UNet3DConditionModel, "unet", call.precision).config
    shape = (call.batch * call.frames, unet.in_channels, unet.sample_size, unet.sample_size)
    latents = torch.empty(shape, dtype=DTYPES[call.precision], device="meta")
    return count(lambda: network.decode(latents, num_frames=call.frames))
