from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from bench.hardware.layer_profile import HOST, Layers, Needs, OperatorCost, RowKey, explain, uncompiled
from bench.hardware.roofline import Peaks

PEAKS = Peaks({"float32": 1e9}, memory=1e9, cache=2e9)


class Block(nn.Module):
    """A linear layer, and a product of its own."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(64, 128)

    def forward(self, x):
        y = self.project(x)
        return y @ y.transpose(0, 1)


@pytest.fixture
def profiled():
    """Two calls of a block in the stage `denoise`: their rows and flame graph, joined with what was counted."""
    network = nn.Sequential(Block())
    layers, stage = Layers([network]), ["denoise"]

    def run():
        for _ in range(2):
            network(torch.ones(32, 64))

    with torch.no_grad(), layers.ranges():
        with profile(activities=[ProfilerActivity.CPU]) as recording, record_function("denoise"):
            run()
        needs = Needs(lambda: stage[0], layers, PEAKS)
        needs.run(run)
    assert layers.path == []
    assert not network[0]._forward_hooks
    return explain(recording, needs.rows, cuda=False, call_seconds=1e-9, stages=("denoise",))


@pytest.mark.filterwarnings("ignore:.*CUDA:UserWarning")
def test_operators_are_told_apart_by_layer_and_have_their_own_work(profiled):
    rows, _ = profiled
    linear = rows[RowKey("denoise", "Block › Linear", "addmm")]
    assert linear.calls == 2
    assert linear.flops == 2 * 2 * 32 * 64 * 128
    assert linear.arithmetic == pytest.approx(linear.flops / 1e9)
    own = rows[RowKey("denoise", "Sequential › Block", "mm")]
    assert own.flops == 2 * 2 * 32 * 128 * 32
    assert own.bytes == 2 * 4 * (2 * 32 * 128 + 32 * 32)
    assert own.memory == pytest.approx(own.bytes / 2e9)
    assert rows[RowKey("denoise", "", HOST)].limit == "launch gaps"


def test_the_flame_graph_holds_all_time_under_the_modules_that_took_it(profiled):
    rows, flame = profiled

    def own(node):
        seconds, below = node
        assert seconds >= sum(each[0] for each in below.values()) - 1e-12
        return seconds

    assert sum(map(own, flame.values())) == pytest.approx(sum(row.seconds for row in rows.values()))
    block = flame["denoise"][1]["Sequential"][1]["Block"][1]
    assert block["Linear"][1]["addmm"][0] == pytest.approx(rows[RowKey("denoise", "Block › Linear", "addmm")].seconds)


@pytest.mark.parametrize(
    ("cost", "limit", "share"),
    [
        (OperatorCost(seconds=1.0, arithmetic=0.5, memory=0.1), "arithmetic", 0.5),
        (OperatorCost(seconds=1.0, arithmetic=0.1, memory=0.8), "memory", 0.8),
        (OperatorCost(seconds=1.0, arithmetic=0.1, memory=0.2, launch=0.6), "launch gaps", 0.2),
        (OperatorCost(seconds=1.0, arithmetic=0.01, memory=0.02), "latency", 0.02),
        (OperatorCost(seconds=1.0), "", None),  # a compiled kernel, whose work is not known
    ],
)
def test_what_limits_an_operator(cost, limit, share):
    assert (cost.limit, cost.share) == (limit, share)


def event(name, parent=None, *, kernels=(), took=0.0):
    """One of the profiler's events on the host, with the kernels that it launched: (name, seconds)."""
    launched = [SimpleNamespace(name=kernel, duration=1e6 * seconds) for kernel, seconds in kernels]
    return SimpleNamespace(
        name=name, cpu_parent=parent, kernels=launched, device_type=SimpleNamespace(name="CPU"),
        cpu_time_total=1e6 * took, self_cpu_time_total=1e6 * took,
    )  # fmt: skip


def test_on_a_gpu_the_kernels_take_the_time_and_a_slow_host_leaves_gaps():
    stage = event("denoise", took=0.1)
    layer = event("layer: Linear", stage)
    fast, slow = (event("aten::linear", layer, took=took) for took in (0.001, 0.5))
    inner = event("aten::addmm", fast, kernels=[("gemm", 0.2), ("split", 0.05)], took=0.001)
    norm = event("aten::native_layer_norm", slow, kernels=[("norm", 0.1)], took=0.5)
    device = SimpleNamespace(name="gemm", cpu_parent=None, device_type=SimpleNamespace(name="CUDA"))
    events = [stage, layer, fast, slow, inner, norm, device]
    needs = {
        RowKey("denoise", "Linear", "addmm"): OperatorCost(flops=10, arithmetic=0.1),
        RowKey("denoise", "Linear", "native_layer_norm"): OperatorCost(bytes=10, memory=0.1),
    }
    rows, flame = explain(
        SimpleNamespace(events=lambda: events), needs, cuda=True, call_seconds=9.0, stages=("denoise",)
    )
    product = rows[RowKey("denoise", "Linear", "addmm")]
    assert product.seconds == pytest.approx(0.25)
    assert product.kernels == Counter(gemm=pytest.approx(0.2), split=pytest.approx(0.05))
    assert (product.limit, product.share) == ("arithmetic", pytest.approx(0.4))
    assert rows[RowKey("denoise", "Linear", "native_layer_norm")].limit == "launch gaps"
    assert flame["denoise"][0] == pytest.approx(0.35)


def test_what_is_compiled_gets_no_range():
    network = nn.Sequential(Block(), Block())
    network[0]._compiled_call_impl = lambda x: x
    assert [name for name, _ in uncompiled(network, "Sequential")] == ["Sequential", "Block", "Linear"]
    network.forward = torch.compile(network.forward)
    assert list(uncompiled(network, "Sequential")) == []
