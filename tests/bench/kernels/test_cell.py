import json
import os
import re
import subprocess
import sys

import pytest
import torch

from bench.hardware.machine import ROOT
from bench.hardware.roofline import Peaks
from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.kernels import cell as module
from bench.kernels.cell import run
from bench.kernels.implementations import BACKENDS, KERNELS, conv2d
from bench.kernels.kernel_suite import KERNEL_SUITE, MEASURES, predict
from bench.results.records import InvalidError
from vidrd.models.blocks import TemporalConv, attend_in_time

FAST = Peaks({"float32": 1e15, "bfloat16": 1e15}, 1e15, 1e15)


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Does a pocket-size cell: kernel, backend -> CellResults."""
    monkeypatch.setattr(module, "peaks", lambda device, again=False: FAST)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # in which pytest-benchmark times nothing

    def do(kernel, backend, precision="fp32", rounds=7, seconds=0.1):
        values = {"kernel": kernel, "backend": backend, "size": "pocket", "precision": precision, "device": "cpu"}
        return run(Job({**values, "rounds": rounds, "seconds": seconds}, tmp_path, None))

    return do


@pytest.mark.parametrize("kernel", [name for name in KERNELS if name != "frechet"])
def test_all_backends_that_a_cpu_has_compute_the_same(kernel):
    inputs = KERNELS[kernel].inputs("pocket", torch.Generator().manual_seed(0))
    outputs = []
    for name, build in KERNELS[kernel].backends.items():
        if name not in ("efficient", "cudnn", "compile"):
            with torch.no_grad():
                outputs.append(module._built(build, "pocket", "cpu", "fp32")(*inputs))
    assert all(module._error(outputs[0], output) < 1e-5 for output in outputs)
    assert outputs[0].abs().max() > 0


def test_convolutions_in_float32_are_no_tf32_on_a_gpu(measure, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default
    seen = []

    def conv(*inputs):
        seen.append(torch.backends.cudnn.allow_tf32)
        return conv2d(*inputs)

    kernel = KERNELS["temporal-conv"]
    monkeypatch.setitem(KERNELS, "temporal-conv", kernel._replace(backends={"conv2d": lambda size: conv}))
    measure("temporal-conv", "conv2d", rounds=3, seconds=0.01)
    assert set(seen) == {False}


def test_the_temporal_convolution_is_the_networks_own():
    torch.manual_seed(0)
    layer = TemporalConv(8, layers=1, groups=2).eval()
    x = torch.randn(2, 4, 9, 8)
    conv = layer.convs[3]
    torch.nn.init.normal_(conv.weight)
    frames = x.reshape(8, 3, 3, 8).permute(0, 3, 1, 2)
    h = torch.nn.functional.silu(torch.nn.functional.group_norm(x.permute(0, 3, 1, 2), 2))
    expected = layer(frames, 4) - frames
    output = conv2d(h.permute(0, 2, 3, 1), conv.weight[..., 0, 0], conv.bias)
    assert torch.allclose(output.reshape(8, 3, 3, 8).permute(0, 3, 1, 2), expected, atol=1e-5)


@pytest.mark.precision
def test_a_cell_is_timed_by_pytest_benchmark_checked_and_bounded(measure):
    measured = measure("temporal-conv", "matmul")
    assert set(measured.numbers) == set(MEASURES) - {"compile_seconds"}
    assert measured.absent == {"compile_seconds": "nothing is compiled"}
    assert measured.numbers["call_seconds"].n == len(measured.samples["call_seconds"]) >= 7
    flop = 2 * (2 * 8 * 64) * 48 * 48 * 3
    assert measured.numbers["gflop"].value == pytest.approx(flop / 1e9)
    assert 0 < measured.numbers["share"].value < 100
    assert measured.numbers["error"].value < 1e-5


def test_what_leaves_torch_has_no_bound_and_says_so(measure):
    measured = measure("frechet", "eigenvalues")
    assert measured.numbers["call_seconds"].value > 0
    uncounted = dict.fromkeys(("share", "gflop", "gflops", "bandwidth"), "done by numpy: its work is not counted")
    assert measured.absent == {**uncounted, "compile_seconds": "nothing is compiled"}


def test_a_kernel_without_products_is_bounded_by_its_bytes(measure):
    measured = measure("norm-silu", "eager")
    assert measured.numbers["share"].value > 0
    assert {measured.absent[name] for name in ("gflop", "gflops")} == {"it does none that PyTorch counts"}


def test_rounds_and_seconds_are_the_suites(measure):
    for rounds, holds in ((300, lambda count: count >= 300), (3, lambda count: 3 <= count < 300)):
        assert holds(len(measure("norm-silu", "eager", rounds=rounds, seconds=1e-4).samples["call_seconds"]))
    suite = override(KERNEL_SUITE, ["rounds=9", "seconds=0.5", "device=cpu"])
    assert {(item.cell.values["rounds"], item.cell.values["seconds"]) for item in plan(suite, {})} == {(9, 0.5)}


def test_attention_in_time_is_measured_as_the_network_does_it(measure):
    inputs = KERNELS["temporal-attention"].inputs("pocket", torch.Generator().manual_seed(0))
    output = module._built(KERNELS["temporal-attention"].backends["network"], "pocket", "cpu", "fp32")(*inputs)
    assert torch.equal(output, attend_in_time(*inputs))
    assert measure("temporal-attention", "network", rounds=3, seconds=0.05).numbers["error"].value < 1e-5


def test_a_dry_run_predicts_what_the_cell_will_count(measure, monkeypatch):
    monkeypatch.setattr("bench.hardware.peaks.stored", lambda device: FAST)
    values = {"backend": "eager", "precision": "fp32", "device": "cpu"}
    prediction = predict({**values, "kernel": "temporal-conv", "size": "pocket"})
    assert prediction.flops == 2 * (2 * 8 * 64) * 48 * 48 * 3
    assert prediction.seconds == max(prediction.flops, 4 * (2 * 8 * 64 * 48 + 48 * 48 * 3 + 48)) / 1e15
    assert prediction.peak_bytes > 2 * 2 * 8 * 64 * 48 * 4  # what goes in and what comes out
    full = predict({**values, "kernel": "spatial-attention", "size": "full", "precision": "bf16"})
    assert full.flops == 4 * (2 * 16 * 5) * 1024**2 * 64
    assert predict({**values, "kernel": "frechet", "size": "pocket"}) is None
    assert predict({**values, "kernel": "vae-decode", "size": "full"}) is None  # skipped on a CPU
    monkeypatch.setattr("bench.hardware.peaks.stored", lambda device: None)
    assert predict({**values, "kernel": "norm-silu", "size": "pocket"}).seconds is None


@pytest.mark.slow
def test_the_compilers_seconds_stand_apart_from_the_first_call(tmp_path):
    values = {"kernel": "norm-silu", "backend": "compile", "size": "pocket", "precision": "fp32", "device": "cpu"}
    job = {"cell": {"values": {**values, "rounds": 3, "seconds": 0.05}}, "reference": None}
    (tmp_path / "job.json").write_text(json.dumps(job))
    code = (
        "import sys; from pathlib import Path; from bench.harness.worker import WORKLOADS, run_cell; "
        "run_cell(WORKLOADS['kernel'].run, Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "job.json")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ.pop("PYTEST_XDIST_WORKER", None)
    subprocess.run(command, cwd=tmp_path, env=environ, check=True)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "ok", result["reason"]
    seconds = {name: result["numbers"][name]["value"] for name in ("compile_seconds", "cold_seconds", "call_seconds")}
    assert seconds["call_seconds"] < seconds["compile_seconds"] < seconds["cold_seconds"]


def test_another_output_is_invalid(measure, monkeypatch):
    wrong = {**KERNELS["temporal-conv"].backends, "conv1d": lambda size: lambda *inputs: conv2d(*inputs) + 1}
    monkeypatch.setitem(KERNELS, "temporal-conv", KERNELS["temporal-conv"]._replace(backends=wrong))
    with pytest.raises(InvalidError, match="differs from that of the first backend by"):
        measure("temporal-conv", "conv1d")


def test_faster_than_the_peaks_is_doubted_and_has_no_share_where_they_stay_too_low(measure, monkeypatch):
    slow = Peaks({"float32": 1.0}, 1.0, 1.0)
    lifted = []
    monkeypatch.setattr(module, "peaks", lambda device, again=False: slow)
    monkeypatch.setattr(module, "raised", lambda device, seen: lifted.append(seen) or slow)
    measured = measure("temporal-conv", "conv2d")
    assert measured.absent["share"].endswith("faster than the peaks measured on this machine allow: they are too low")
    assert lifted[0].flops["float32"] > 1e6

    def fast(device, seen):
        return Peaks({name: 4 * rate for name, rate in seen.flops.items()}, 1e15, 1e15)

    monkeypatch.setattr(module, "raised", fast)
    assert 0 < measure("temporal-conv", "conv2d").numbers["share"].value < 100
    monkeypatch.setattr(module, "peaks", lambda device, again=False: FAST if again else slow)
    assert measure("temporal-conv", "conv2d").numbers["share"].value < 100


def test_the_suite_has_each_combination_once_and_says_what_it_skips():
    planned = plan(override(KERNEL_SUITE, ["device=cpu"]), {})
    cells = [tuple(item.cell.values[name] for name in ("kernel", "size", "backend")) for item in planned]
    assert len(cells) == len(set(cells)) == 2 * sum(len(kernel.backends) for kernel in KERNELS.values())
    reasons = {cell: item.skip for cell, item in zip(cells, planned, strict=True)}
    assert reasons["vae-decode", "full", "eager"] == "some 13 TFLOP a call: minutes on a CPU, try CUDA"
    assert reasons["temporal-attention", "pocket", "cudnn"] == "cudnn attention runs on CUDA only"
    assert reasons["temporal-attention", "full", "flash"] is None
    assert {"conv1d", "matmul", "math", "compile"} <= set(BACKENDS)


@pytest.mark.gpu
def test_on_a_gpu_the_timer_waits_for_the_kernels(tmp_path):
    values = {"kernel": "spatial-attention", "backend": "auto", "size": "full", "precision": "bf16", "device": "cuda"}
    measured = run(Job({**values, "rounds": 7, "seconds": 1.5}, tmp_path, None))
    assert 0 < measured.numbers["share"].value < 100


def test_only_a_cell_of_this_suite_loads_pytest():
    """The engine is imported in one module, and that module by no other: a cell resolves its name where it runs."""
    loads = re.compile(r"^\s*(?:import|from) (pytest\w*|bench\.kernels\.cell)\b", re.MULTILINE)
    files = [
        path
        for package in ("vidrd", "baselines", "metrics", "bench", "reports")
        for path in (ROOT / package).rglob("*.py")
    ]
    matches = {(path.relative_to(ROOT).as_posix(), name) for path in files for name in loads.findall(path.read_text())}
    assert matches == {("bench/kernels/cell.py", "pytest")}
