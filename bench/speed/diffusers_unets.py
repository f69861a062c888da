"""diffusers' video U-Nets at our widths, on the same latents: how fast are they for the work that they do?

They compute something else, so neither their outputs nor their seconds are comparable with ours, but their seconds per
floating-point operation are, and their share of what the machine can do.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.speed.models import Model, network
from vidrd.precision import DTYPES


def modelscope(model: Model) -> dict[str, Any]:
    """Configuration of diffusers' UNet3DConditionModel as ModelScope uses it: width of a head where ours has heads."""
    config = model.all_config
    return {
        **_common(config),
        "attention_head_dim": _head_width(config),
        "up_block_types": tuple(name.replace("Down", "Up") for name in reversed(config["down_block_types"])),
    }


def animatediff(model: Model) -> dict[str, Any]:
    """Configuration of UNetMotionModel as AnimateDiff uses it: motion modules of 8 heads at every resolution."""
    config = model.all_config
    names = [name.replace("3D", "Motion") for name in config["down_block_types"]]
    heads = config["attention_head_dim"]
    return {
        **_common(config),
        "down_block_types": tuple(names),
        "up_block_types": tuple(name.replace("Down", "Up") for name in reversed(names)),
        "num_attention_heads": heads if isinstance(heads, int) else tuple(heads),
        "use_linear_projection": config["use_linear_projection"],
    }


def _common(config: dict[str, Any]) -> dict[str, Any]:
    same = ("in_channels", "out_channels", "layers_per_block", "cross_attention_dim", "norm_num_groups")
    kept = {name: config[name] for name in same}
    return {
        **kept,
        "block_out_channels": tuple(config["block_out_channels"]),
        "down_block_types": tuple(config["down_block_types"]),
    }


def _head_width(config: dict[str, Any]) -> int:
    heads, widths = config["attention_head_dim"], config["block_out_channels"]
    return int(widths[0] // (heads if isinstance(heads, int) else heads[0]))


def peer(name: str, model: Model, device: str, precision: str) -> tuple[Any, Callable[[Any], Tensor]]:
    """A network with drawn weights, and a step of it: both branches of guidance in one call, as its pipeline does.

    The step takes the network as it is to be called, compiled or not.
    """
    from diffusers import UNet3DConditionModel, UNetMotionModel  # noqa: PLC0415  (seconds: see `unet_class`)

    kinds = {"modelscope": (UNet3DConditionModel, modelscope), "animatediff": (UNetMotionModel, animatediff)}
    kind, config = kinds[name]
    unet = network(kind, config(model), seed=0, device=device).to(DTYPES[precision])
    given = model.inputs(device).to(DTYPES[precision])
    latents = torch.cat([given.latents, given.latents])
    text = torch.cat([given.negative, given.context])
    if name == "animatediff":  # it takes one text a frame
        text = text.repeat_interleave(model.frames, dim=0)

    def step(call: Any) -> Tensor:
        away, towards = call(latents, given.timestep, encoder_hidden_states=text).sample.chunk(2)
        return away + model.guidance * (towards - away)

    return unet, step
