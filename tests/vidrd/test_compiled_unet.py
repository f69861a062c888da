"""What makes the network faster changes no result beyond float32 rounding, and compiles once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vidrd.compiled_unet import CudaGraphCall, compiled, fingerprint, with_compiled_blocks
from vidrd.models import blocks
from vidrd.models.blocks import Attention, attend_in_time
from vidrd.models.unet import UNet3DConditionModel

SMALL = {
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 16,
    "norm_num_groups": 4,
}


@pytest.fixture
def unet():
    torch.manual_seed(0)
    network = UNet3DConditionModel(**SMALL).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def asked(timestep):
    generator = torch.Generator().manual_seed(timestep)
    return torch.randn(2, 4, 4, 8, 8, generator=generator), torch.tensor(timestep), torch.ones(2, 5, 16)


def check_compiling(way, backend):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_once.py")), way, backend],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    account = json.loads(done.stdout.splitlines()[-1])
    assert max(account["errors"]) < 1e-5
    assert account["breaks"] == account["left"] == 0
    assert len(set(account["graphs"])) == 1, "a later step was compiled again"
    if way == "whole":
        assert account["graphs"][0] == 1
    else:
        assert 3 <= account["graphs"][0] < account["blocks"]  # blocks of one shape share their code


@pytest.mark.precision
@pytest.mark.parametrize("way", ["blocks", pytest.param("whole", marks=pytest.mark.slow)])
def test_a_compiled_network_says_the_same_and_compiles_once(way):
    check_compiling(way, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["whole", "blocks"])
def test_so_it_does_with_weights_frozen_in(way):
    check_compiling(way, "inductor")


def test_a_fingerprint_tells_that_weights_changed(unet):
    before = fingerprint(unet)
    assert fingerprint(unet) == before
    unet.load_state_dict({key: value + 1 for key, value in unet.state_dict().items()})
    loaded = fingerprint(unet)
    assert loaded != before
    assert fingerprint(unet.to(torch.bfloat16)) != loaded


def test_what_cannot_be_compiled_is_said(unet, monkeypatch):
    with pytest.raises(ValueError, match="this one is in training mode"):
        compiled(unet.train())
    unet.eval()
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=r"takes a C\+\+ compiler: got none"):
        compiled(unet)
    unet._hf_hook = object()
    with pytest.raises(ValueError, match="this one is offloaded"):
        compiled(unet)


class Operators(TorchDispatchMode):
    """Notes every operator that is called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("size", "grad", "kept"), [(8, False, True), (7, False, False), (8, True, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiler_leaves_the_large_norms_of_an_answer(size, grad, kept, dtype, monkeypatch):
    monkeypatch.setattr(blocks, "LARGE", 2 * 8 * 8 * 8)
    norm = torch.nn.GroupNorm(4, 8, dtype=dtype)
    x = blocks.channels_last(torch.randn(2, 8, 8, size, generator=torch.Generator().manual_seed(0)).to(dtype))
    expected = blocks.normalise(x, norm)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    with torch.set_grad_enabled(grad), Operators() as called:
        answer = blocks.normalise(x, norm)
    assert ("vidrd::group_norm" in called.names) == kept
    assert torch.equal(answer, expected)
    assert answer.stride() == expected.stride()


def test_the_norm_that_a_compiler_calls_is_a_proper_operator():
    x = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    for each in (x, blocks.channels_last(x)):
        checks = torch.library.opcheck(
            blocks.kept_group_norm, (each, 4, torch.ones(8), torch.zeros(8), 1e-5),
            test_utils=("test_schema", "test_faketensor"),
        )  # fmt: skip
        assert set(checks.values()) == {"SUCCESS"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_norms_are_exact_to_their_type(dtype):
    x = 100 + torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    norm = torch.nn.GroupNorm(4, 8)
    expected = norm.double()(x.to(dtype).double()).to(dtype)
    answer = blocks.normalise(x.to(dtype), norm.to(dtype))
    assert torch.allclose(answer, expected, rtol=0, atol=4 * torch.finfo(dtype).eps)


def attention(q, k, v):
    return torch.softmax(q.double() @ k.double().transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1) @ v.double()


@pytest.mark.precision
@pytest.mark.parametrize("frames", [1, 2, 8, 33])
@pytest.mark.parametrize("compiling", [False, True])
def test_attention_in_time_is_attention(frames, compiling, monkeypatch):
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: compiling)
    generator = torch.Generator().manual_seed(frames)
    q, k, v = (torch.randn(2, 6, frames, 8, generator=generator) for _ in range(3))
    torch.testing.assert_close(attend_in_time(q, k, v).double(), attention(q, k, v), rtol=1e-5, atol=1e-6)
    half = attend_in_time(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), attention(q, k, v), rtol=0, atol=0.05)


class OnCuda(torch.Tensor):
    """A tensor that says it lies on CUDA."""

    is_cuda = True
    device = torch.device("cuda")


@pytest.mark.parametrize(("most", "calls"), [(12, 1), (11, 2), (4, 3), (1, 6)])
def test_launches_stay_within_the_grid(most, calls, monkeypatch):
    monkeypatch.setattr(blocks, "MOST_IN_A_LAUNCH", most)
    sizes = []

    def one(q, k, v):
        sizes.append(q.shape[0] * q.shape[1])
        return attention(*(x.as_subclass(torch.Tensor) for x in (q, k, v))).float()

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", one)
    q, k, v = torch.randn(3, 2, 6, 4, 8)
    got = attend_in_time(*(x.as_subclass(OnCuda) for x in (q, k, v))).as_subclass(torch.Tensor)
    torch.testing.assert_close(got.double(), attention(q, k, v), rtol=1e-5, atol=1e-6)
    assert len(sizes) == calls
    assert max(sizes) <= max(most, 2)


def test_a_clips_text_is_read_once(monkeypatch):
    layer = Attention(16, 2, 12)
    rows = []
    layer.to_k.register_forward_hook(lambda module, given, out: rows.append(len(given[0])))
    x, context = torch.randn(6, 5, 16), torch.randn(2, 7, 12)
    with torch.no_grad():
        got = layer.cross(x, context)
        frame_by_frame = [layer.cross(x[i : i + 1], context[i // 3 : i // 3 + 1]) for i in range(6)]
    assert rows == [2] + [1] * 6
    torch.testing.assert_close(got, torch.cat(frame_by_frame), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
def test_a_replayed_graph_says_the_same_and_waits_for_nobody(unet):
    unet = unet.cuda()
    fast = CudaGraphCall(with_compiled_blocks(unet))
    for timestep in (900, 500, 20):
        given = [x.cuda() for x in asked(timestep)]
        with torch.no_grad():
            want = unet(*given).sample
        got = fast(*given).sample
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        fast(*given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
