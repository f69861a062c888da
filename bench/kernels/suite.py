"""The micro-benchmarks as a suite: `python -m bench run --suite kernels`."""

import shutil

import torch

from bench.kernels.table import BACKENDS, KERNELS, SIZES
from bench.measure.device import NO_CUDA, has_cuda, named_device
from bench.record import Value
from bench.suite import Measure, Suite, Values

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEASURES: dict[str, Measure] = {
    "call_seconds": Measure(
        "s/call", "s", "lower", "cost", "Median of the rounds of pytest-benchmark, the GPU's work included."
    ),
    "cold_seconds": Measure("cold s", "s", "lower", "cost", "The very first call, torch.compile's work included."),
    "share": Measure(
        "% of bound", "%", "higher", "cost",
        "Share of that time that this machine needs at its measured peaks: for the FLOPs of the first backend at the "
        "speed of a matrix product, or for reading inputs and weights and writing the output at the speed of a copy, "
        "whichever takes longer. Above 100 % the cell is invalid.",
    ),
    "gflop": Measure("GFLOP", "GFLOP", None, "cost", "Work of the first backend, counted on the meta device."),
    "gflops": Measure("GFLOP/s", "GFLOP/s", "higher", "cost", "That work by the time of a call."),
    "bandwidth": Measure("GB/s", "GB/s", "higher", "cost", "Bytes of inputs, weights and output, likewise."),
    "error": Measure(
        "error", "", "lower", "cost", "Largest difference to the first backend's output, of its largest value."
    ),
}  # fmt: skip


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device; a backend that the kernel does not have falls together with its first one."""
    device = named_device(values["device"])
    own = KERNELS[str(values["kernel"])].backends
    return {**values, "device": device, "backend": values["backend"] if values["backend"] in own else next(iter(own))}


def skip(values: Values) -> str | None:
    """Why this machine or this kernel cannot do it."""
    backend, on_gpu = str(values["backend"]), values["device"] == "cuda"
    reasons = {
        NO_CUDA: on_gpu and not has_cuda(),
        f"{backend} attention runs on CUDA only": not on_gpu and backend in ("efficient", "cudnn"),
        "fp16 is measured on CUDA only, a CPU computes it by way of fp32: try bf16": (
            values["precision"] == "fp16" and not on_gpu
        ),
        "some 13 TFLOP a call: minutes on a CPU, try CUDA": (
            not on_gpu and values["kernel"] == "vae-decode" and values["size"] == "full"
        ),
        "no C++ compiler was found, which torch.compile needs on a CPU": (
            not on_gpu and backend == "compile" and not any(map(shutil.which, ("c++", "g++", "clang++")))
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


KERNEL_SUITE = Suite(
    question="How near does every operation come to what the machine can do, by shape and backend?",
    workload="kernel",
    axes={"kernel": tuple(KERNELS), "size": tuple(SIZES), "backend": BACKENDS, "precision": ("fp32",)},
    fixed={"device": "auto"},
    measures=MEASURES,
    group="size",
    apart=("kernel",),
    allowed={
        "kernel": tuple(KERNELS),
        "size": tuple(SIZES),
        "backend": BACKENDS,
        "precision": tuple(DTYPES),
        "device": ("auto", "cpu", "cuda"),
    },
    settle=settle,
    skip=skip,
)
