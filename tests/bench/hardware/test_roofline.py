import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.hardware.roofline import Bound, Op, Peaks, bound, count
from vidrd.models.unet import UNet3DConditionModel

PEAKS = Peaks({"float32": 1e9}, memory=1e9, cache=4e9)


def test_flops_and_bytes_of_what_can_be_counted_by_hand():
    a, b = torch.empty(3, 5, device="meta"), torch.empty(5, 7, device="meta")
    work = count(lambda: torch.relu(a @ b))
    assert work.ops == (Op("mm", 2 * 3 * 5 * 7, 4 * (15 + 35 + 21)), Op("relu", 0, 4 * (21 + 21)))
    assert work.flops == 210


def test_attention_is_one_operator_that_keeps_its_scores():
    q, k, v = (torch.empty(2, 3, tokens, 8, device="meta") for tokens in (16, 32, 32))
    work = count(lambda: F.scaled_dot_product_attention(q, k, v))
    (op,) = work.ops
    assert op.flops == 4 * 2 * 3 * 16 * 32 * 8
    assert op.bytes >= 4 * 2 * 3 * 8 * (16 + 32 + 32 + 16)
    assert op.bytes < 4 * 2 * 3 * (8 * (16 + 32 + 32 + 16) + 16 * 32)  # no matrix of scores


def test_views_and_repeated_values_move_nothing_twice():
    x = torch.empty(4, 4, device="meta")
    assert count(lambda: x.view(16).reshape(2, 8).transpose(0, 1)).ops == ()
    assert count(lambda: x[:1].expand(1000, 4) * 2).ops[0].bytes == 4 * 16 + 4 * 4000
    assert count(lambda: x + x).ops[0].bytes == 4 * (16 + 16)


def test_meta_and_real_tensors_count_alike():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    real = count(lambda: network(torch.zeros(2, 3, 8, 8)))
    network.to("meta")
    meta = count(lambda: network(torch.zeros(2, 3, 8, 8, device="meta")))
    assert real.flops == meta.flops == sum(op.flops for op in meta.ops)
    assert real.flops == 2 * 2 * 36 * 8 * 27 + 2 * 2 * 8 * 36 * 5


def test_peak_and_held_bytes_follow_the_life_of_tensors():
    x = torch.zeros(1 << 16)
    size = 4 << 16
    assert count(lambda: (x + 1) * 2).peak_bytes == 2 * size
    assert count(lambda: x.add_(1)).peak_bytes == 0
    held = []
    assert count(lambda: held.append(x + 1)).held_bytes == size
    assert count(lambda: x + 1).held_bytes == 0

    def three():
        a, b, c = x + 1, x + 2, x + 3
        return a + b + c

    assert count(three).peak_bytes == 5 * size
    assert [count(three).peak_bytes for _ in range(5)] == [5 * size] * 5


def test_the_bound_is_arithmetic_or_memory_whichever_is_longer():
    a = torch.empty(100, 100, device="meta")
    work = count(lambda: torch.relu(a @ a))
    product, light = 2 * 100**3, 4 * 2 * 100**2
    moved = 4 * (10_000 + 10_000)
    assert bound(work, PEAKS, "float32") == Bound(
        ideal=product / 1e9, eager=product / 1e9 + light / 1e9, arithmetic=product / 1e9
    )
    slow_memory = PEAKS._replace(memory=1e7, cache=2e7)
    limit = bound(work, slow_memory, "float32")
    assert limit.ideal == pytest.approx(moved / 2e7)
    assert limit.eager == pytest.approx((moved + light) / 1e7)
    with pytest.raises(ValueError, match="no peak was measured for bfloat16"):
        bound(work, PEAKS, "bfloat16")


def test_the_full_size_network_asks_for_what_was_derived_from_its_formulas():
    """7.56 TFLOP for a guided step of 16 frames of 256 x 256: docs/harness.md has the sum by layers."""
    with torch.device("meta"):
        unet = UNet3DConditionModel().eval()
        latents, context = torch.empty(2, 4, 16, 32, 32), torch.empty(2, 77, unet.config.cross_attention_dim)
        work = count(lambda: unet(latents, torch.empty((), dtype=torch.int64), encoder_hidden_states=context))
    assert sum(parameter.numel() for parameter in unet.parameters()) == 1_182_401_284
    assert 7.3e12 < work.flops < 7.6e12
    assert work.flops == sum(op.flops for op in work.ops)
    assert sum(op.flops > 0 for op in work.ops) == 482
