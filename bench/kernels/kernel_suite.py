"""The micro-benchmarks as a suite: `python -m bench run --suite kernels`."""

import shutil
from dataclasses import replace

from bench.hardware.device import NO_CUDA, emulated, has_cuda, named_device
from bench.harness.suite_spec import Measure, Prediction, Suite, Values
from bench.kernels.implementations import BACKENDS, KERNELS, SIZES
from bench.kernels.model_calls import described, flops, names_of
from bench.results.records import Value
from vidrd.precision import DTYPES

MOST_ON_CPU = 0.2  # TFLOP of a call
MEASURES: dict[str, Measure] = {
    "call_seconds": Measure(
        "s/call", "s", "lower", "cost", "Median of the rounds of pytest-benchmark, the GPU's work included."
    ),
    "cold_seconds": Measure("cold s", "s", "lower", "cost", "The very first call, torch.compile's work included."),
    "compile_seconds": Measure(
        "compile s", "s", "lower", "cost", "The part of it that torch.compile took, by its own clock."
    ),
    "share": Measure(
        "% of bound", "%", "higher", "cost",
        "Share of that time that this machine needs at its measured peaks: for the FLOPs of the first backend at the "
        "speed of a matrix product, or for reading inputs and weights and writing the output at the speed of a copy, "
        "whichever takes longer. Left out where the call is faster than that.",
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
    own = described(str(values["kernel"])).backends
    return {**values, "device": device, "backend": values["backend"] if values["backend"] in own else next(iter(own))}


def of_model(suite: Suite) -> Suite:
    """With a model named, the kernels and shapes are those of its own calls."""
    if "model" not in suite.axes:
        return suite
    named = {name: suite.axes.get(name, ("",)) for name in ("model", "revision")}
    if any(len(each) > 1 for each in named.values()):
        raise ValueError(f"the kernels are those of one model: got {', '.join(map(str, suite.axes['model']))}")
    (model,), (revision,) = named.values()
    axes = {name: values for name, values in suite.axes.items() if name not in named}
    axes |= {"kernel": names_of(str(model), str(revision)), "size": (model,)}
    return replace(suite, axes=axes, fixed={**suite.fixed, "model": model, "revision": revision})


def skip(values: Values) -> str | None:
    """Why this machine or this kernel cannot do it."""
    backend, on_gpu = str(values["backend"]), values["device"] == "cuda"
    named = str(values["kernel"]) not in KERNELS
    work = flops(str(values["kernel"])) / 1e12 if named and not on_gpu else 0.0
    reasons = {
        f"{work:.1f} TFLOP a call: seconds or minutes on a CPU, try CUDA": work > MOST_ON_CPU,
        NO_CUDA: on_gpu and not has_cuda(),
        f"{backend} attention runs on CUDA only": not on_gpu and backend in ("efficient", "cudnn"),
        "some 13 TFLOP a call: minutes on a CPU, try CUDA": (
            not on_gpu and values["kernel"] == "vae-decode" and values["size"] == "full"
        ),
        "no C++ compiler was found, which torch.compile needs on a CPU": (
            not on_gpu and backend == "compile" and not any(map(shutil.which, ("c++", "g++", "clang++")))
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def predict(values: Values) -> Prediction | None:
    """Work of one call, as the first backend does it, and its least time where the peaks were measured."""
    from bench.hardware.peaks import stored  # noqa: PLC0415
    from bench.kernels.flops_and_bytes import least_seconds, predicted_work  # noqa: PLC0415  (builds networks, for a dry run only)

    dtype = DTYPES[str(values["precision"])]
    prediction = predicted_work(str(values["kernel"]), str(values["size"]), dtype) if skip(values) is None else None
    if prediction is None:
        return None
    work, given = prediction
    peaks, name = stored(str(values["device"])), str(dtype).removeprefix("torch.")
    return Prediction(
        flops=float(work.flops),
        peak_bytes=float(given + work.peak_bytes),
        seconds=None if peaks is None or name not in peaks.flops else least_seconds(work.flops, given, peaks, name),
    )


KERNEL_SUITE = Suite(
    question="How close does every operation come to what the machine can do, by shape and backend?",
    workload="kernel",
    axes={"kernel": tuple(KERNELS), "size": tuple(SIZES), "backend": BACKENDS, "precision": ("fp32",)},
    fixed={
        "device": "auto",
        "rounds": 7,  # at least; pytest-benchmark does more while there is time
        "seconds": 1.5,  # for the rounds of a cell
    },
    measures=MEASURES,
    group="size",
    headlines=("call_seconds", "share", "error"),
    apart=("kernel",),
    allowed={
        "kernel": tuple(KERNELS),
        "size": tuple(SIZES),
        "backend": BACKENDS,
        "precision": tuple(DTYPES),
        "device": ("auto", "cpu", "cuda"),
    },
    least={"rounds": 3, "seconds": 0.01},
    optional={"model": "", "revision": ""},  # whose calls are measured: docs/models.md names them
    refine=of_model,
    settle=settle,
    skip=skip,
    emulated=emulated,
    predict=predict,
    alone=True,
)
