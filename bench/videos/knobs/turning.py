"""Turns the knobs of a cell on a loaded model, through diffusers, torch and torchao alone."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench.results.records import Value
from bench.videos.knobs.context_parallel import share
from bench.videos.knobs.settings import split, turned
from bench.videos.knobs.step_cache import StepCache

if TYPE_CHECKING:
    from baselines.model_contract import Model


def turn(model: "Model", values: Mapping[str, Value]) -> StepCache | None:
    """Turn every knob of the values, for good; returns the step cache, if there is one.

    Hooks come before compilation, and 8-bit weights before both, so that each sees what it shall act on.
    """
    knobs = turned(values)
    networks = [getattr(model.pipe, name) for name in model.denoisers]
    cache = None
    if "layout" in knobs:
        for network in model.networks().values():
            _channels_last(network)
    for network in networks:
        if "quantize" in knobs:
            _quantize(network, knobs["quantize"])
        if "attention" in knobs:
            _attend_by(network, knobs["attention"])
        if "gpus" in knobs:
            share(network, model, values)
    if "vae" in knobs:
        _tile(model.pipe.vae, split(knobs["vae"])[1])
    if "offload" in knobs:
        _offload(model.pipe, knobs["offload"], str(values["device"]))
    if "cache" in knobs:
        cache = StepCache(model, knobs["cache"])
    if "compile" in knobs:
        for network in networks:
            _compile(network, knobs["compile"])
    return cache


def _channels_last(network: nn.Module) -> None:
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in network.parameters():
        if weight.ndim in layouts:
            weight.data = weight.data.contiguous(memory_format=layouts[weight.ndim])


def _quantize(network: nn.Module, kind: str) -> None:
    from torchao.quantization import (  # noqa: PLC0415  (optional)
        Float8WeightOnlyConfig,
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    configs = {
        "int8": Int8WeightOnlyConfig, "int8-dynamic": Int8DynamicActivationInt8WeightConfig,
        "fp8": Float8WeightOnlyConfig,
    }  # fmt: skip
    quantize_(network, configs[kind]())


def _attend_by(network: Any, backend: str) -> None:
    """The backend of this network alone: diffusers also makes it the one of all others that name none."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry  # noqa: PLC0415

    usual, _ = _AttentionBackendRegistry.get_active_backend()
    network.set_attention_backend(backend)
    _AttentionBackendRegistry.set_active_backend(usual)


def _tile(vae: Any, pixels: float | None) -> None:
    if pixels is None:
        vae.enable_tiling()
        return
    size, stride = int(pixels), int(0.75 * pixels)
    sizes = {
        "tile_sample_min_height": size, "tile_sample_min_width": size,
        "tile_sample_stride_height": stride, "tile_sample_stride_width": stride,
    }  # fmt: skip
    known = inspect.signature(vae.enable_tiling).parameters
    vae.enable_tiling(**{name: value for name, value in sizes.items() if name in known})


def _offload(pipe: Any, kind: str, device: str) -> None:
    if kind == "group":
        pipe.enable_group_offload(torch.device(device), offload_type="leaf_level", use_stream=True)
    elif kind == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.enable_model_cpu_offload(device=device)


def _compile(network: Any, kind: str) -> None:
    """The whole is compiled below what records its calls, so that recording stays outside of the graph."""
    if kind == "blocks":
        network.compile_repeated_blocks(dynamic=False)
    else:
        network.forward = torch.compile(network.forward, dynamic=False)
