"""The micro-benchmarks as a suite: `python -m bench run --suite kernels`."""

from functools import cache

import torch

from bench.kernels.cell import DTYPES, MEASURES, skip
from bench.kernels.table import BACKENDS, KERNELS, SIZES
from bench.record import Value
from bench.suite import Suite, Values


@cache
def _cuda() -> bool:
    return torch.cuda.is_available()


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device; a backend that the kernel does not have falls together with its first one."""
    device = values["device"] if values["device"] != "auto" else "cuda" if _cuda() else "cpu"
    own = KERNELS[str(values["kernel"])].backends
    return {**values, "device": device, "backend": values["backend"] if values["backend"] in own else next(iter(own))}


def why_not(values: Values) -> str | None:
    """Why this machine or this kernel cannot do it."""
    return skip(values, cuda=_cuda())


KERNEL_SUITE = Suite(
    question="How near does every operation come to what the machine can do, by shape and backend?",
    workload="kernel",
    axes={"kernel": tuple(KERNELS), "size": tuple(SIZES), "backend": BACKENDS, "precision": ("fp32",)},
    fixed={"device": "auto"},
    measures=MEASURES,
    group="size",
    allowed={
        "kernel": tuple(KERNELS),
        "size": tuple(SIZES),
        "backend": BACKENDS,
        "precision": tuple(DTYPES),
        "device": ("auto", "cpu", "cuda"),
    },
    settle=settle,
    skip=why_not,
)
