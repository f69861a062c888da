"""Approximations of a call of the network: faster, with other results, which are never mixed with exact ones.

Fewer steps are the other kind of approximation (`vidrd/solvers.py`).
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn


class ReusingUNet:
    """A U-Net that runs its lower stages only every so many calls and reuses their last output in between.

    The stages of the highest resolution see every step, the others change slowly from step to step (DeepCache, arXiv
    2312.00858). Calls are counted, `steps` of them a clip, so that no clip sees features of another.

    Args:
        unet: `unet(latents, timestep, encoder_hidden_states=..., deep=...)`, as this project's.
        every: every how many calls of a clip all stages run; 1 is exact.
        steps: calls a clip, or clips that keep step.

    Raises:
        ValueError: `every` is no count; or frames have timesteps of their own, which name no step.
    """

    def __init__(self, unet: Callable[..., Any], every: int, steps: int):
        if every < 1:
            raise ValueError(f"the lower stages run every 1, 2, ... calls: got {every}, 1 is exact")
        self._unet, self._every, self._steps = unet, every, steps
        self._calls = 0
        self._deep: Tensor | None = None

    def __call__(
        self,
        latents: Float[Tensor, "B C T H W"],
        timestep: Num[Tensor, "..."] | float,
        encoder_hidden_states: Float[Tensor, "B *t L D"],
    ) -> Any:
        """The output of the network for the next step; its sample is B C T H W."""
        if isinstance(timestep, Tensor) and timestep.ndim:
            raise ValueError("reused features belong to one step: these frames have timesteps of their own, use 1")
        if self._calls % self._steps % self._every == 0:
            self._deep = None
        self._calls += 1
        out = self._unet(latents, timestep, encoder_hidden_states=encoder_hidden_states, deep=self._deep)
        self._deep = out.deep
        return out


LEAST_FP8 = (8, 9)  # compute capability of the first GPUs that multiply 8-bit floats
FP8 = torch.float8_e4m3fn


class Fp8Linear(nn.Module):
    """A linear layer that multiplies 8-bit floats, every row of input and weight on a scale of its own.

    Built from a layer whose weight it keeps in 8 bits only; output and bias are bfloat16.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear):
        super().__init__()
        weight, scale = to_fp8(layer.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The layer's output for rows of any leading shape, in the dtype of `x`."""
        rows, scale = to_fp8(x.flatten(0, -2))
        bias = None if self.bias is None else self.bias.to(torch.bfloat16)
        y = torch._scaled_mm(rows, self.weight.T, scale, self.scale.T, bias=bias, out_dtype=torch.bfloat16)
        return y.unflatten(0, x.shape[:-1]).to(x.dtype)


def to_fp8(x: Float[Tensor, "N D"]) -> tuple[Tensor, Float[Tensor, "N 1"]]:
    """8-bit rows and their float32 scales: x is about their product."""
    largest = torch.finfo(FP8).max
    scale = x.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / largest
    return (x.float() / scale).clamp(-largest, largest).to(FP8), scale


def fp8_linears(unet: nn.Module) -> int:
    """Let the network's linear layers of bfloat16 multiply 8-bit floats, for good; returns how many there are.

    Text keys, time embeddings, the projections around the blocks and layers whose sides are no multiples of 16 stay.

    Raises:
        ValueError: the network is not in bfloat16 on a CUDA device of compute capability 8.9 or more.
    """
    place = next(unet.parameters())
    if not place.is_cuda or place.dtype != torch.bfloat16 or torch.cuda.get_device_capability(place.device) < LEAST_FP8:
        raise ValueError(
            f"8-bit products need a network in bfloat16 on a CUDA device of compute capability 8.9 or more: this is "
            f"{str(place.dtype).removeprefix('torch.')} on {place.device.type}"
        )
    return _replace_linears(unet)


KEPT = ("time_embedding", "time_emb_proj", "attn2.to_k", "attn2.to_v", "proj_in", "proj_out")  # of few rows or F.linear


def _replace_linears(unet: nn.Module) -> int:
    chosen = [
        (name, layer)
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Linear)
        and not any(word in name for word in KEPT)
        and layer.in_features % 16 == layer.out_features % 16 == 0
    ]
    for name, layer in chosen:
        unet.set_submodule(name, Fp8Linear(layer))
    return len(chosen)
