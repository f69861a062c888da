"""What a kernel asks of a machine, counted on the meta device, and the least time for it."""

import copy
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.hardware.roofline import Peaks, Work, bandwidth, count
from bench.kernels.implementations import Inputs, Run
from bench.kernels.model_calls import described


def weights(function: Run) -> list[Tensor]:
    """Of a module; of a function none."""
    return list(function.parameters()) if isinstance(function, nn.Module) else []


def counted(function: Run, inputs: Inputs) -> Work | None:
    """What the function asks for; None if it leaves torch."""
    twin = copy.deepcopy(function).to("meta") if isinstance(function, nn.Module) else function
    try:
        return count(lambda: twin(*(x.to("meta") for x in inputs)))
    except (NotImplementedError, RuntimeError):
        return None


def size_of(tensors: Sequence[Tensor]) -> int:
    """Bytes of these tensors."""
    return sum(x.numel() * x.element_size() for x in tensors)


def least_seconds(flops: float | int, moved: float | int, best: Peaks, dtype: str) -> float:
    """Seconds that the FLOPs take at the speed of a matrix product, or the bytes at that of a copy: the longer."""
    return max(flops / best.flops[dtype], moved / bandwidth(int(moved), best))


@cache
def predicted_work(kernel: str, size: str, dtype: torch.dtype) -> tuple[Work, int] | None:
    """The work of a call of the first backend, and the bytes of its inputs and weights; None if it leaves torch."""
    known = described(kernel)
    with FakeTensorMode():  # nothing is drawn: the inputs of large models take gigabytes
        given = known.inputs(size, torch.Generator())
    inputs = tuple(torch.empty(x.shape, dtype=dtype, device="meta") for x in given)
    with torch.device("meta"):
        function = next(iter(known.backends.values()))(size)
    if isinstance(function, nn.Module):
        function.to(dtype).eval()
    work = counted(function, inputs)
    return None if work is None else (work, size_of([*inputs, *weights(function)]))
