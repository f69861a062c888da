"""What pytest-benchmark runs: one function, whose work a plug-in gives it (bench/kernels/cell.py)."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch


def synchronised() -> float:
    """Seconds, once the GPU has done all that it was told: with this timer a round ends when its kernels do."""
    torch.cuda.synchronize()
    return perf_counter()


def test_kernel(benchmark: Any, work: Callable[[], Any]) -> None:
    """Time the work."""
    with torch.inference_mode():
        benchmark(work)
