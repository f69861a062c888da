"""One cell of the kernels suite: a kernel on a backend, timed by pytest-benchmark, checked against the first one."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import nn

from bench.hardware.device import emulation_facts, keep_float32
from bench.hardware.peaks import PROBED, fastest, peaks, raised
from bench.hardware.roofline import Peaks, Probe, Work
from bench.harness.job import Job
from bench.kernels.flops_and_bytes import counted, least_seconds, size_of, weights
from bench.kernels.implementations import Run
from bench.kernels.kernel_suite import MEASURES
from bench.kernels.model_calls import described
from bench.results.records import CellResults, InvalidError, Number
from bench.results.statistics import median_number
from vidrd.precision import DTYPES

# Largest error against the first backend, as a share of its largest value, that rounding explains.
TOLERANCES = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}
TIMING = Path(__file__).with_name("timing.py")


class TimingPlugin:
    """A pytest plug-in that hands the work to the timing function."""

    def __init__(self, work: Run) -> None:
        self._work = work

    @pytest.fixture
    def work(self) -> Run:
        """What is to be timed, without arguments."""
        return self._work


def run(job: Job) -> CellResults:
    """Time, check and bound one kernel.

    Raises:
        InvalidError: the output is another than the first backend's, or the GPU's clock did not wait.
    """
    values = job.values
    keep_float32()
    device, precision = str(values["device"]), str(values["precision"])
    kernel = described(str(values["kernel"]))
    size, backend = str(values["size"]), str(values["backend"])
    inputs = tuple(x.to(device, DTYPES[precision]) for x in kernel.inputs(size, torch.Generator().manual_seed(0)))
    first = _built(kernel.backends[next(iter(kernel.backends))], size, device, precision)
    function = _built(kernel.backends[backend], size, device, precision)
    with torch.inference_mode():
        began = perf_counter()
        output = function(*inputs)
        float(output.flatten()[0])  # waits for the GPU
        cold, compiling = perf_counter() - began, _compiling()
        error = _error(first(*inputs), output)
        if not error <= TOLERANCES[precision]:
            raise InvalidError(f"the output differs from that of the first backend by {error:.2g} of its largest value")
        function(*inputs)
        graphs = _graphs()
        seconds = _timed(lambda: function(*inputs), job, int(values["rounds"]), float(values["seconds"]))
        if _graphs() != graphs:
            raise InvalidError("torch.compile compiled again while the kernel was timed")
    work = counted(first, inputs)
    numbers = {
        "call_seconds": median_number(seconds, "s", "lower"),
        "cold_seconds": Number(cold, "s", "lower"),
        "error": Number(error, "", "lower"),
    }
    if work is not None:
        moved = size_of([*inputs, output, *weights(first)])
        numbers |= _bounded(work, moved, seconds, device, precision, lambda: first(*inputs))
    why = "it does none that PyTorch counts" if work else "done by numpy: its work is not counted"
    absent = {name: why for name in MEASURES if name not in numbers}
    if work is not None and "share" in absent:
        absent["share"] = "a call is faster than the peaks measured on this machine allow: they are too low"
    if compiling:
        numbers["compile_seconds"] = Number(compiling, "s", "lower")
        del absent["compile_seconds"]
    else:
        absent["compile_seconds"] = "nothing is compiled"
    return CellResults(
        numbers=numbers,
        samples={"call_seconds": tuple(seconds)},
        absent=absent,
        facts={
            **emulation_facts(precision, device),
            "threads": str(torch.get_num_threads()),
            "inputs": ", ".join(str(tuple(x.shape)) for x in inputs),
        },
    )


def _compiling() -> float:
    """Seconds that torch.compile has taken in this process so far, by its own clock."""
    return float(torch._dynamo.utils.calculate_time_spent()["total_wall_time"])


def _graphs() -> int:
    """How many graphs torch.compile has made in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _built(build: Any, size: str, device: str, precision: str) -> Run:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        function: Run = build(size)
    module = getattr(function, "_orig_mod", function)
    if isinstance(module, nn.Module):
        module.to(device, DTYPES[precision]).eval()
    return function


def _error(expected: torch.Tensor, found: torch.Tensor) -> float:
    scale = float(expected.float().abs().max()) or 1.0
    return float((expected.float() - found.float()).abs().max()) / scale


def _timed(work: Run, job: Job, rounds: int, seconds: float) -> list[float]:
    """Seconds of a call in every round that pytest-benchmark chose to do."""
    result = job.folder / "timing.json"
    timer = "bench.kernels.timing.synchronised" if job.values["device"] == "cuda" else "time.perf_counter"
    code = pytest.main(
        [
            str(TIMING), "-q", "-c", os.devnull, "--rootdir", str(job.folder), "-p", "no:cacheprovider",
            "--benchmark-warmup=on", "--benchmark-warmup-iterations=3", f"--benchmark-min-rounds={rounds}",
            f"--benchmark-max-time={seconds}", f"--benchmark-timer={timer}", f"--benchmark-json={result}",
        ],
        plugins=[TimingPlugin(work)],
    )  # fmt: skip
    if code:
        raise RuntimeError(f"pytest ended with {code}: see the log of this cell")
    (found,) = json.loads(result.read_text(encoding="utf-8"))["benchmarks"]
    calls: list[float] = found["stats"]["data"]
    return calls


def _bounded(
    work: Work, moved: int, seconds: list[float], device: str, precision: str, first: Callable[[], object]
) -> dict[str, Number]:
    """Work, speed, and the share of the time that arithmetic or the bytes of inputs and outputs would take at least.

    A round that was faster than the peaks allow makes them doubtful: they are measured once more, and then lifted to
    what the operators of the first backend reach, one by one. Where they stay too low the share is left out.

    Raises:
        InvalidError: a round was faster than that on a GPU, for which its clock then did not wait.
    """
    dtype = str(DTYPES[precision]).removeprefix("torch.")

    def by_its_operators(device: str) -> Peaks:
        probe = Probe(lambda: "", lambda call: fastest(call, device, PROBED))
        probe.run(first)
        return raised(device, probe.rates)

    for best in (look(device) for look in (peaks, partial(peaks, again=True), by_its_operators)):
        least = least_seconds(work.flops, moved, best, dtype)
        if least <= min(seconds):
            break
    usual = median(seconds)
    numbers = {"bandwidth": Number(moved / usual / 1e9, "GB/s", "higher", n=len(seconds))}
    if least <= min(seconds):
        numbers["share"] = Number(100 * least / usual, "%", "higher", n=len(seconds))
    elif device != "cpu":
        raise InvalidError(f"a call took {min(seconds):.3g} s where this machine's peaks allow {least:.3g} s")
    if work.flops:
        numbers["gflop"] = Number(work.flops / 1e9, "GFLOP")
        numbers["gflops"] = Number(work.flops / usual / 1e9, "GFLOP/s", "higher", n=len(seconds))
    return numbers
