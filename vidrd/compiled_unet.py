"""The same U-Net, faster: compiled, and on CUDA replayed as one graph per step. Results differ by rounding alone.

    CPU    one graph of the whole network, weights frozen into it in the layout that the kernels read
    CUDA   the blocks that repeat, each shape compiled once, and a CUDA graph around the whole step

`compiled` gives a function that is called as the network is; see docs/speed.md for what each part buys.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._dynamo
import torch._inductor.config
from jaxtyping import Float, Num
from torch import Tensor, nn

from vidrd.models.blocks import ResnetBlock, TemporalConv, Transformer
from vidrd.models.unet import UNet3DConditionModel, UNetOutput

BLOCKS = (ResnetBlock, TemporalConv, Transformer)  # what repeats
SHAPES = 64  # of one block that may be compiled: full-size networks have some twenty
GRAPHS = 4  # of CUDA that are kept, each with its memory
WARM_UP = 3  # calls before a capture, in which kernels are compiled and chosen

Call = Callable[..., UNetOutput]


def fingerprint(unet: nn.Module) -> tuple[tuple[Any, ...], ...]:
    """Changes whenever weights are loaded, trained, moved or cast: a frozen graph is then out of date."""
    return tuple((p.data_ptr(), p._version, p.dtype, p.device) for p in unet.parameters())


def compiled(unet: UNet3DConditionModel, *, backend: str = "inductor") -> Call:
    """The network as a compiled function of (latents, timestep, encoder_hidden_states, deep).

    Every shape is compiled once, on its first call: minutes for a full-size network. No graph breaks: what cannot be
    compiled is an error.

    Args:
        unet: in eval mode. Its weights as they are now are part of the result on a CPU: see `fingerprint`.
        backend: of torch.compile.

    Raises:
        ValueError: the network is in training mode, offloaded, or on a CPU without a C++ compiler.
    """
    device = next(unet.parameters()).device.type
    if unet.training:
        raise ValueError("a network is compiled for its answers, and this one is in training mode: call eval() first")
    if hasattr(unet, "_hf_hook"):
        raise ValueError("a compiled network stays where it is, this one is offloaded: use to(device)")
    if device == "cpu" and backend == "inductor" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise ValueError("compiling on a CPU takes a C++ compiler: got none, install g++, or compile=False")
    if device == "cuda":
        return CudaGraphCall(with_compiled_blocks(unet, backend=backend))
    whole = torch.compile(unet.forward, fullgraph=True, dynamic=False, backend=backend)

    def call(
        latents: Float[Tensor, "B C T H W"],
        timestep: Num[Tensor, "..."] | float,
        encoder_hidden_states: Float[Tensor, "B *t L D"],
        deep: Tensor | None = None,
    ) -> UNetOutput:
        time = torch.as_tensor(timestep)  # a number would be compiled in
        with torch.no_grad(), _frozen():
            return UNetOutput(*whole(latents, time, encoder_hidden_states, return_dict=False, deep=deep))

    return call


@contextmanager
def _frozen() -> Iterator[None]:
    """Graphs that are compiled in here hold the weights as constants; dynamo reads this setting itself."""
    with torch._inductor.config.patch(freezing=True), torch._dynamo.config.patch(recompile_limit=SHAPES):
        yield


def with_compiled_blocks(unet: UNet3DConditionModel, *, backend: str = "inductor") -> Call:
    """The network itself, but its repeating blocks compiled: blocks of one shape share their code.

    The network is changed only while the function runs.
    """
    blocks = [
        (block, torch.compile(block._call_impl, fullgraph=True, dynamic=False, backend=backend))
        for block in unet.modules()
        if isinstance(block, BLOCKS)
    ]

    def call(*args: Any, **kwargs: Any) -> UNetOutput:
        try:
            for block, fast in blocks:
                block._compiled_call_impl = fast  # what nn.Module.compile sets, for good
            with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=SHAPES):
                return unet(*args, **kwargs)
        finally:
            for block, _ in blocks:
                block._compiled_call_impl = None

    return call


class CudaGraphCall:
    """A function of tensors on CUDA, captured once per shape and replayed: the host issues one launch per step."""

    def __init__(self, function: Call):
        self._function = function
        self._captured: dict[tuple[Any, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], UNetOutput]] = {}

    def __call__(
        self,
        latents: Float[Tensor, "B C T H W"],
        timestep: Num[Tensor, "..."] | float,
        encoder_hidden_states: Float[Tensor, "B *t L D"],
        deep: Tensor | None = None,
    ) -> UNetOutput:
        """The function's output, in tensors that the caller may keep."""
        time = torch.as_tensor(timestep, device=latents.device)
        given = [latents, time, encoder_hidden_states] + ([] if deep is None else [deep])
        key = tuple((tuple(x.shape), x.stride(), x.dtype) for x in given)
        if key not in self._captured:
            if len(self._captured) == GRAPHS:
                self._captured.pop(next(iter(self._captured)))
            self._captured[key] = self._capture(given)
        graph, inputs, out = self._captured[key]
        for place, x in zip(inputs, given, strict=True):
            place.copy_(x)
        graph.replay()
        return UNetOutput(sample=out.sample.clone(), deep=out.deep.clone())

    def _capture(self, given: list[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], UNetOutput]:
        inputs = [x.clone() for x in given]

        def call() -> UNetOutput:
            return self._function(*inputs[:3], deep=inputs[3] if len(inputs) == 4 else None)

        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                call()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = call()
        return graph, inputs, out
