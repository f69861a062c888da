"""The operations that make up the cost of a video, each with all its implementations (backends).

A kernel is a shape and a dict of backends; the first backend is the one that the others' outputs are compared with.
`network` is the way this project's network takes at that shape; it equals one of the others.
Inputs are drawn from a seed, so every backend gets the same numbers. `size` is "pocket" or "full": the layer of that
network in which the operation costs most, under guidance (two branches), for one clip.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.hardware.machine import ROOT
from metrics.distribution.frechet import Gaussian, frechet_distance
from metrics.networks.i3d import I3D
from metrics.networks.pocket import NETWORKS
from vidrd.models.blocks import attend_in_time
from vidrd.pocket.world import ATTRIBUTES

Inputs = tuple[Tensor, ...]
Run = Callable[..., Any]

BRANCHES = 2  # of guidance


class Size(NamedTuple):
    """The widest layer of a network: where its tokens are most."""

    frames: int
    channels: int
    heads: int
    side: int  # latent cells
    groups: int


SIZES = {"pocket": Size(8, 48, 2, 8, 16), "full": Size(16, 320, 5, 32, 32)}
FEATURES = {"pocket": (256, 64), "full": (2048, 400)}  # videos, features of a Fréchet distance


class Kernel(NamedTuple):
    """One operation.

    Args:
        inputs: (size, generator) -> its inputs, float32 on the CPU.
        backends: name -> (size -> function of these inputs). A module's weights are drawn from the global generator.
    """

    inputs: Callable[[str, torch.Generator], Inputs]
    backends: dict[str, Callable[[str], Run]]


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    """Normal numbers, float32 on the CPU."""
    return torch.randn(*shape, generator=generator)


def _tokens_in_time(size: str, generator: torch.Generator) -> Inputs:
    s = SIZES[size]
    shape = (BRANCHES, s.side * s.side * s.heads, s.frames, s.channels // s.heads)
    return tuple(draw(generator, *shape) for _ in range(3))


def _tokens_in_space(size: str, generator: torch.Generator) -> Inputs:
    s = SIZES[size]
    shape = (BRANCHES * s.frames, s.heads, s.side * s.side, s.channels // s.heads)
    return tuple(draw(generator, *shape) for _ in range(3))


def _attention(kind: SDPBackend | None, _: str) -> Run:
    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if kind is None:
            return F.scaled_dot_product_attention(query, key, value)
        with sdpa_kernel(kind):
            return F.scaled_dot_product_attention(query, key, value)

    return run


ATTENTION: dict[str, Callable[[str], Run]] = {
    "auto": partial(_attention, None),
    "math": partial(_attention, SDPBackend.MATH),
    "flash": partial(_attention, SDPBackend.FLASH_ATTENTION),
    "efficient": partial(_attention, SDPBackend.EFFICIENT_ATTENTION),
    "cudnn": partial(_attention, SDPBackend.CUDNN_ATTENTION),
}


def _clip(size: str, generator: torch.Generator) -> Inputs:
    """A clip in the layout of the network, B T (H W) C, and the weight and bias of a 3 x 1 x 1 convolution."""
    s = SIZES[size]
    x = draw(generator, BRANCHES, s.frames, s.side * s.side, s.channels)
    weight = draw(generator, s.channels, s.channels, 3) / (3 * s.channels) ** 0.5
    return x, weight, draw(generator, s.channels)


Clip = Float[Tensor, "B T S C"]


def conv2d(x: Clip, weight: Float[Tensor, "C C 3"], bias: Float[Tensor, " C"]) -> Clip:
    """A 2-D convolution of 3 x 1 over the view B C T (H W): what the networks do."""
    y = F.conv2d(x.permute(0, 3, 1, 2), weight[..., None], bias, padding=(1, 0))
    return y.permute(0, 2, 3, 1)


def conv3d(x: Clip, weight: Float[Tensor, "C C 3"], bias: Float[Tensor, " C"]) -> Clip:
    """The 3-D convolution of 3 x 1 x 1 that it is on paper."""
    y = F.conv3d(x.permute(0, 3, 1, 2)[..., None], weight[..., None, None], bias, padding=(1, 0, 0))
    return y[..., 0].permute(0, 2, 3, 1)


def conv1d(x: Clip, weight: Float[Tensor, "C C 3"], bias: Float[Tensor, " C"]) -> Clip:
    """A 1-D convolution of every pixel's frames, copied next to each other."""
    B, T, S, C = x.shape
    y = F.conv1d(x.permute(0, 2, 3, 1).reshape(B * S, C, T), weight, bias, padding=1)
    return y.reshape(B, S, C, T).permute(0, 3, 1, 2)


def matmul(x: Clip, weight: Float[Tensor, "C C 3"], bias: Float[Tensor, " C"]) -> Clip:
    """One matrix product over three neighboring frames side by side."""
    padded = F.pad(x, (0, 0, 0, 0, 1, 1))
    three = torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], dim=-1)
    return F.linear(three, weight.permute(0, 2, 1).flatten(1), bias)


def _norm_input(size: str, generator: torch.Generator) -> Inputs:
    s = SIZES[size]
    x = draw(generator, BRANCHES, s.frames * s.side, s.side, s.channels).permute(0, 3, 1, 2)
    return x, draw(generator, s.channels), draw(generator, s.channels)


def norm_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Group norm over a whole clip, then SiLU."""
    groups = next(s.groups for s in SIZES.values() if s.channels == x.shape[1])
    return F.silu(F.group_norm(x, groups, weight, bias))


class VaeDecode(nn.Module):
    """Latents of a clip to frames."""

    def __init__(self, size: str):
        from vidrd.models.vae import AutoencoderKLTemporal  # noqa: PLC0415  (seconds, which `bench list` need not pay)

        super().__init__()
        if size == "pocket":
            config = AutoencoderKLTemporal.load_config(str(ROOT / "weights" / "pocket" / "vae"))
            self.vae: Any = AutoencoderKLTemporal.from_config(config)
        else:
            self.vae = AutoencoderKLTemporal()
        self.frames = SIZES[size].frames

    def forward(self, latents: Tensor) -> Tensor:
        """Frames of one clip."""
        return self.vae.decode(latents, num_frames=self.frames).sample


class ClassifierForward(nn.Module):
    """The network behind FVD, its weights drawn: the pocket classifier, or I3D itself."""

    def __init__(self, size: str):
        super().__init__()
        classes = {name: len(values) for name, values in ATTRIBUTES.items()}
        self.network = NETWORKS["pocket-i3d"](classes) if size == "pocket" else I3D()

    def forward(self, videos: Tensor) -> Tensor:
        """Embeddings of the pocket classifier, logits of I3D."""
        outputs = self.network(videos)
        return outputs[0] if isinstance(outputs, tuple) else outputs


def _latents(size: str, generator: torch.Generator) -> Inputs:
    s = SIZES[size]
    return (draw(generator, s.frames, 8 if size == "pocket" else 4, s.side, s.side),)


def _videos(size: str, generator: torch.Generator) -> Inputs:
    count, side = (16, 32) if size == "pocket" else (2, 224)
    return (torch.rand(count, 3, 16, side, side, generator=generator) * 2 - 1,)


def _features(size: str, generator: torch.Generator) -> Inputs:
    count, width = FEATURES[size]
    return draw(generator, count, width), draw(generator, count, width) + 0.1


def frechet(real: Tensor, fake: Tensor) -> Tensor:
    """Statistics of two sets of features, and their distance."""
    sides = [Gaussian.of(rows.float().cpu().numpy()) for rows in (real, fake)]
    return torch.tensor([frechet_distance(*sides)])


def plain(run: Run) -> Callable[[str], Run]:
    """A backend that is the same function at every size."""
    return lambda size: run


def eager(build: Callable[[str], Run]) -> dict[str, Callable[[str], Run]]:
    """The backends of what torch.compile may compile."""
    return {"eager": build, "compile": lambda size: torch.compile(build(size), dynamic=False)}


KERNELS: dict[str, Kernel] = {
    "temporal-attention": Kernel(_tokens_in_time, {**ATTENTION, "network": plain(attend_in_time)}),
    "spatial-attention": Kernel(_tokens_in_space, ATTENTION),
    "temporal-conv": Kernel(_clip, {run.__name__: plain(run) for run in (conv2d, conv3d, conv1d, matmul)}),
    "norm-silu": Kernel(_norm_input, eager(plain(norm_silu))),
    "vae-decode": Kernel(_latents, eager(VaeDecode)),
    "i3d-forward": Kernel(_videos, eager(ClassifierForward)),
    "frechet": Kernel(_features, {"eigenvalues": plain(frechet)}),
}
BACKENDS = tuple(dict.fromkeys(name for kernel in KERNELS.values() for name in kernel.backends))
