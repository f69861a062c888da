"""Which device a cell runs on."""

from functools import cache

import torch

from bench.record import Value

NO_CUDA = "no CUDA device was found"  # why a cell that asks for one is skipped


@cache
def has_cuda() -> bool:
    """Whether this machine has a CUDA device; asked once, as plans have many cells."""
    return torch.cuda.is_available()


def named_device(device: Value) -> Value:
    """The device of a cell, "auto" settled to what is there."""
    return device if device != "auto" else "cuda" if has_cuda() else "cpu"
