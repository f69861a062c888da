"""What a cell of videos will ask for, known before anything runs: for `--dry-run`.

Networks are counted on the meta device, so models of any size and family take seconds and no memory.
"""

import math
from functools import cache
from typing import NamedTuple

import torch

from baselines.model_contract import Model
from baselines.models.families import outline
from bench.hardware.peaks import stored
from bench.hardware.roofline import Work, bound, count
from bench.harness.suite_spec import Prediction, Values
from bench.methods import METHODS
from bench.videos.knobs.settings import devices_of
from bench.videos.plan import GIVEN, plan_of, request_of
from vidrd.exact_loading import quiet
from vidrd.precision import PRECISIONS

Size = tuple[int, int, int]  # C H W of the latents


class Chosen(NamedTuple):
    """A model in a precision."""

    name: str
    revision: str
    precision: str


class NetworkCall(NamedTuple):
    """One call of a network."""

    rows: int  # videos, of all branches
    frames: int
    size: Size
    per_frame: bool = False  # every frame has a level of its own


def predict(values: Values) -> Prediction | None:
    """FLOPs of all videos of the cell, bytes of tensors and weights at most, and seconds at the machine's peaks.

    Every call is taken to see as many frames as the average one. Text encoders are left out: they run once a video.
    None for cells that no network makes, and for models that do not say which text they take.
    """
    if values["method"] in GIVEN:
        return None
    chosen = Chosen(str(values.get("model", "pocket")), str(values.get("revision", "")), str(values["precision"]))
    model = without_weights(chosen)
    if not model.text_shapes():
        return None
    plan, batch, frames = plan_of(values), int(values["batch"]), request_of(values).frames
    size = model.latent_shape(*(int(values.get(side, 0)) or None for side in ("height", "width")))
    rows = batch * model.branches(float(values["guidance"]))
    levels = METHODS[str(values["method"])].per_frame and model.levels == "frame"
    step = denoising(chosen, NetworkCall(rows, math.ceil(plan.fe / plan.calls), size, levels))
    clip = min(model.rule.latents(int(values["clip"])), frames)
    whole = frames - model.rule.dropped
    decodes, decoded = (math.ceil(frames / clip), (batch, clip)) if model.decodes_clips else (batch, (1, whole))
    calls = [(plan.calls, step, devices_of(values)), (decodes, decoding(chosen, NetworkCall(*decoded, size)), 1)]
    batches, peaks = int(values["videos"]) // batch, stored(str(values["device"]))
    dtype = str(PRECISIONS[chosen.precision].compute).removeprefix("torch.")
    return Prediction(
        flops=float(batches * sum(times * work.flops for times, work, _ in calls)),
        peak_bytes=float(_weights(model) + max(work.peak_bytes for _, work, _ in calls)),
        seconds=None
        if peaks is None or dtype not in peaks.flops
        else batches * sum(times * bound(work, peaks, dtype).ideal / devices for times, work, devices in calls),
    )


@cache
def without_weights(chosen: Chosen) -> Model:
    """The model on the meta device, in its precision."""
    model = outline.__wrapped__(chosen.name, chosen.revision or None)
    with quiet():  # diffusers warns of layers to be kept in float32 where there are none
        for network in model.networks().values():
            network.to("meta", PRECISIONS[chosen.precision].compute)
    return model


@cache
def denoising(chosen: Chosen, call: NetworkCall) -> Work:
    """The work of one call of the network that denoises."""
    return count(lambda: call_network(chosen, call))


@cache
def decoding(chosen: Chosen, call: NetworkCall) -> Work:
    """The work of the VAE over some videos."""
    return count(lambda: call_vae(chosen, call))


def call_network(chosen: Chosen, call: NetworkCall) -> None:
    """One call of the network that denoises, on the meta device."""
    model = without_weights(chosen)
    with torch.device("meta"), torch.no_grad():
        dtype = PRECISIONS[chosen.precision].compute
        latents = _latents(call, model.dtype)
        timestep = torch.empty((call.rows, call.frames) if call.per_frame else (), dtype=torch.int64)
        text = {name: torch.empty(call.rows, *shape, dtype=dtype) for name, shape in model.text_shapes().items()}
        model.call(latents, timestep, **text)


def call_vae(chosen: Chosen, call: NetworkCall) -> None:
    """The VAE over some videos, on the meta device."""
    with torch.device("meta"), torch.no_grad():
        without_weights(chosen).pixels(_latents(call, PRECISIONS[chosen.precision].compute))


def call_clip(name: str, revision: str = "") -> None:
    """All networks once over a clip of a model, guided, on the meta device.

    Raises:
        ValueError: there is no such model, or it does not say which text it takes.
    """
    chosen = Chosen(name, revision, "fp32")
    model = without_weights(chosen)
    if not model.text_shapes():
        raise ValueError(f"{type(model).__name__} does not say which text it takes, so that its calls are not known")
    size = model.latent_shape()
    call_network(chosen, NetworkCall(model.branches(model.guidance), model.clip, size))
    call_vae(chosen, NetworkCall(1, model.clip - model.rule.dropped, size))


def _latents(call: NetworkCall, dtype: torch.dtype) -> torch.Tensor:
    channels, height, width = call.size
    return torch.empty(call.rows, channels, call.frames, height, width, dtype=dtype)


def _weights(model: Model) -> int:
    networks = {name: part for name, part in model.networks().items() if name in (*model.denoisers, "vae")}
    return sum(p.numel() * p.element_size() for network in networks.values() for p in network.parameters())
