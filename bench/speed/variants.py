"""The ladder: implementations of one guided denoising step of a clip, from the plainest code to the fastest.

A variant adds one thing to the variant named by its `after`. `exact` variants compute the same numbers as the reference
up to the rounding of float32; the rows of the others give their error. Peers do other work and are not on the ladder.
"""

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.speed.diffusers_unets import peer
from bench.speed.models import Model
from bench.speed.reference_unet import Attend, plain, textbook
from vidrd.denoiser import GuidedDenoiser
from vidrd.precision import DTYPES, why_emulated

Step = Callable[[], Tensor]  # one guided step of every clip: B C T H W


class ModelOnDevice:
    """A model on a device; its weights are made once for each precision and lent to all variants."""

    def __init__(self, model: Model, device: str) -> None:
        self.model, self.device = model, device
        self._unets: dict[str, Any] = {}

    def unet(self, precision: str) -> Any:
        """The network; variants may call it and compile it, not change it."""
        if precision not in self._unets:
            self._unets[precision] = self.model.unet(self.device, DTYPES[precision])
        return self._unets[precision]


class BuiltVariant(NamedTuple):
    """A variant, ready to be timed.

    Args:
        step: does the work of `clips` clips.
        weights: bytes of the network's weights.
    """

    step: Step
    weights: int


class Variant(NamedTuple):
    """One way to do it.

    Args:
        says: what it adds, one line.
        make: (bench, variant) -> what is timed.
        after: the variant it adds to; None for the reference and for peers.
        precision: of weights and activations, a key of DTYPES.
        compiled: by torch.compile.
        clips: that one step denoises; its time is given for one.
        peer: other mathematics.
        on: devices it can run on.
    """

    says: str
    make: Callable[[ModelOnDevice, "Variant"], BuiltVariant]
    after: str | None = None
    precision: str = "fp32"
    compiled: bool = False
    clips: int = 1
    peer: bool = False
    on: tuple[str, ...] = ("cpu", "cuda")

    @property
    def exact(self) -> bool:
        """Whether only float32's rounding may tell it from the reference."""
        return self.precision == "fp32" and not self.peer


def bytes_of(network: Any) -> int:
    """Bytes of a network's weights."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


def _plain(attend: Attend, bench: ModelOnDevice, variant: Variant) -> BuiltVariant:
    unet, given = bench.unet(variant.precision), bench.model.inputs(bench.device)
    weights, config, guidance = unet.state_dict(), unet.config, bench.model.guidance

    def step() -> Tensor:
        away = plain(weights, config, given.latents, given.timestep, given.negative, attend=attend)
        towards = plain(weights, config, given.latents, given.timestep, given.context, attend=attend)
        return away + guidance * (towards - away)

    return BuiltVariant(step, bytes_of(unet))


def _branches(bench: ModelOnDevice, variant: Variant) -> BuiltVariant:
    """Our network, called once for each branch."""
    unet, given, guidance = bench.unet(variant.precision), bench.model.inputs(bench.device), bench.model.guidance

    def step() -> Tensor:
        away = unet(given.latents, given.timestep, encoder_hidden_states=given.negative).sample
        towards = unet(given.latents, given.timestep, encoder_hidden_states=given.context).sample
        return away + guidance * (towards - away)

    return BuiltVariant(step, bytes_of(unet))


def _guided(bench: ModelOnDevice, variant: Variant) -> BuiltVariant:
    """Our network as the samplers call it."""
    from vidrd.compiled_unet import compiled  # noqa: PLC0415  (loads torch's compiler and diffusers: see `unet_class`)

    unet = bench.unet(variant.precision)
    given = bench.model.inputs(bench.device, variant.clips).to(DTYPES[variant.precision])
    call = compiled(unet) if variant.compiled else unet
    denoise = GuidedDenoiser(call, given.context, given.negative, bench.model.guidance, bench.model.frames)
    return BuiltVariant(lambda: denoise(given.latents, given.timestep), bytes_of(unet))


def _peer(name: str, bench: ModelOnDevice, variant: Variant) -> BuiltVariant:
    network, step = peer(name, bench.model, bench.device, variant.precision)
    call = torch.compile(network, dynamic=False, mode=_mode(bench)) if variant.compiled else network
    return BuiltVariant(lambda: step(call), bytes_of(network))


def _mode(bench: ModelOnDevice) -> str | None:
    """CUDA graphs where there is a GPU: a step is many short kernels."""
    return "reduce-overhead" if bench.device == "cuda" else None


REFERENCE = "reference"
VARIANTS: dict[str, Variant] = {
    REFERENCE: Variant("float32, textbook attention, transposes, one call for each branch", partial(_plain, textbook)),
    "sdpa": Variant(
        "attention by scaled_dot_product_attention", partial(_plain, F.scaled_dot_product_attention), after=REFERENCE
    ),
    "layout": Variant(
        "our network: frames never move in memory, a clip's text is read once, short attention is written out; a call "
        "for each branch", _branches, after="sdpa",
    ),
    "guidance": Variant("both branches of guidance in one call", _guided, after="layout"),
    "compile": Variant(
        "torch.compile: the whole network with its weights frozen in on a CPU, its blocks and a CUDA graph around the "
        "step on a GPU", _guided, after="guidance", compiled=True,
    ),
    "bf16": Variant("weights and activations in bfloat16, not compiled", _guided, after="guidance", precision="bf16"),
    "bf16-compile": Variant("bfloat16, compiled", _guided, after="bf16", precision="bf16", compiled=True),
    "bf16-4-clips": Variant(
        "four clips in one call", _guided, after="bf16-compile", precision="bf16", compiled=True, clips=4,
        on=("cuda",),
    ),
    **{
        f"{name}{suffix}{ending}": Variant(
            f"{said}, {precision}{', compiled' * compiled}", partial(_peer, name), precision=precision,
            compiled=compiled, peer=True, on=on,
        )
        for name, said in (
            ("modelscope", "diffusers' UNet3DConditionModel as in ModelScope"),
            ("animatediff", "diffusers' UNetMotionModel as in AnimateDiff"),
        )
        for precision, suffix, on in (("fp32", "", ("cpu",)), ("bf16", "-bf16", ("cuda",)))
        for compiled, ending in ((False, ""), (True, "-compile"))
    },
}  # fmt: skip


def cannot(variant: Variant, device: str, *, compiled: bool = True) -> str | None:
    """Why the variant is not measured on the device, or None; without `compiled` nothing is compiled."""
    if device not in variant.on:
        return f"it is meant for {' and '.join(variant.on)}"
    if (reason := why_emulated(variant.precision, device)) is not None:
        return reason
    if variant.compiled and not compiled:
        return "nothing is compiled here: compiled=True does"
    if variant.compiled and device == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return "no C++ compiler was found, which torch.compile needs on a CPU"
    return None
