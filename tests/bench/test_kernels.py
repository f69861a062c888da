import pytest
import torch

from bench.kernels import cell as module
from bench.kernels.cell import run
from bench.kernels.suite import KERNEL_SUITE, MEASURES
from bench.kernels.table import BACKENDS, KERNELS, conv2d
from bench.measure.physics import Peaks
from bench.suite import override, plan
from bench.worker import InvalidError, Job
from vidrd.models.blocks import TemporalConv

FAST = Peaks({"float32": 1e15, "bfloat16": 1e15}, 1e15, 1e15)


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Does a pocket-size cell: kernel, backend -> Measured."""
    monkeypatch.setattr(module, "peaks", lambda device, again: FAST)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # in which pytest-benchmark times nothing

    def do(kernel, backend, precision="fp32"):
        values = {"kernel": kernel, "backend": backend, "size": "pocket", "precision": precision, "device": "cpu"}
        return run(Job(values, tmp_path, None))

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


def test_the_temporal_convolution_is_the_networks_own():
    torch.manual_seed(0)
    layer = TemporalConv(8, layers=1, groups=2).eval()
    x = torch.randn(2, 4, 9, 8)
    conv = layer.convs[3]
    torch.nn.init.normal_(conv.weight)
    frames = x.reshape(8, 3, 3, 8).permute(0, 3, 1, 2)
    h = torch.nn.functional.silu(torch.nn.functional.group_norm(x.permute(0, 3, 1, 2), 2))
    expected = layer(frames, 4) - frames
    found = conv2d(h.permute(0, 2, 3, 1), conv.weight[..., 0, 0], conv.bias)
    assert torch.allclose(found.reshape(8, 3, 3, 8).permute(0, 3, 1, 2), expected, atol=1e-5)


def test_a_cell_is_timed_by_pytest_benchmark_checked_and_bounded(measure):
    measured = measure("temporal-conv", "matmul")
    assert set(measured.numbers) == set(MEASURES)
    assert measured.numbers["call_seconds"].n == len(measured.samples["call_seconds"]) >= 7
    flop = 2 * (2 * 8 * 64) * 48 * 48 * 3
    assert measured.numbers["gflop"].value == pytest.approx(flop / 1e9)
    assert 0 < measured.numbers["share"].value < 100
    assert measured.numbers["error"].value < 1e-5


def test_what_leaves_torch_has_no_bound_and_says_so(measure):
    measured = measure("frechet", "eigenvalues")
    assert measured.numbers["call_seconds"].value > 0
    assert measured.absent == dict.fromkeys(
        ("share", "gflop", "gflops", "bandwidth"), "done by numpy: its work is not counted"
    )


def test_a_kernel_without_products_is_bounded_by_its_bytes(measure):
    measured = measure("norm-silu", "eager")
    assert measured.numbers["share"].value > 0
    assert measured.absent == dict.fromkeys(("gflop", "gflops"), "it does none that PyTorch counts")


def test_another_output_is_invalid(measure, monkeypatch):
    wrong = {**KERNELS["temporal-conv"].backends, "conv1d": lambda size: lambda *inputs: conv2d(*inputs) + 1}
    monkeypatch.setitem(KERNELS, "temporal-conv", KERNELS["temporal-conv"]._replace(backends=wrong))
    with pytest.raises(InvalidError, match="differs from that of the first backend by"):
        measure("temporal-conv", "conv1d")


def test_faster_than_the_machine_can_be_is_invalid(measure, monkeypatch):
    slow = Peaks({"float32": 1.0}, 1.0, 1.0)
    monkeypatch.setattr(module, "peaks", lambda device, again: slow)
    with pytest.raises(InvalidError, match="where this machine's peaks allow"):
        measure("temporal-conv", "conv2d")
    monkeypatch.setattr(module, "peaks", lambda device, again: FAST if again else slow)
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
    measured = run(Job(values, tmp_path, None))
    assert 0 < measured.numbers["share"].value < 100
