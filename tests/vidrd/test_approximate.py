"""Approximations do what their names say, are exact where they should be, and refuse what they cannot do."""

from types import SimpleNamespace

import pytest
import torch

from vidrd.approximate import Fp8Linear, ReusingUNet, _replace_linears, fp8_linears, to_fp8
from vidrd.models.unet import UNet3DConditionModel


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    network = UNet3DConditionModel(
        block_out_channels=(16, 32, 32), down_block_types=("CrossAttnDownBlock3D",) * 2 + ("DownBlock3D",),
        layers_per_block=1, attention_head_dim=2, cross_attention_dim=16, norm_num_groups=4,
    ).eval()  # fmt: skip
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network


X, TEXT = torch.randn(2, 2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(2, 5, 16)


def test_a_calls_own_deep_features_give_its_own_answer(unet):
    with torch.no_grad():
        whole = unet(X[0], 500, TEXT)
        again = unet(X[0], 500, TEXT, deep=whole.deep)
        other = unet(X[1], 500, TEXT, deep=whole.deep)
    assert torch.equal(again.sample, whole.sample)
    assert not torch.allclose(other.sample, unet(X[1], 500, TEXT).sample, atol=1e-3)


def test_given_deep_features_leave_the_lower_stages_alone(unet):
    ran = []
    hooks = [
        module.register_forward_hook(lambda module, *_: ran.append(module))
        for module in (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    ]
    with torch.no_grad():
        deep = unet(X[0], 500, TEXT).deep
        ran.clear()
        unet(X[0], 500, TEXT, deep=deep)
    for hook in hooks:
        hook.remove()
    assert ran == [unet.down_blocks[0], unet.up_blocks[-1]]


class Counting:
    """Says which call its deep features come from."""

    def __init__(self):
        self.given = []

    def __call__(self, latents, timestep, encoder_hidden_states, deep=None):
        self.given.append(None if deep is None else int(deep))
        return SimpleNamespace(sample=latents, deep=torch.tensor(len(self.given)) if deep is None else deep)


def test_lower_stages_run_every_so_many_steps_and_at_the_start_of_a_clip():
    network = Counting()
    reusing = ReusingUNet(network, every=3, steps=5)
    for _ in range(2):
        for timestep in (900, 700, 500, 300, 100):
            reusing(X[0], torch.tensor(timestep), encoder_hidden_states=TEXT)
    assert network.given == [None, 1, 1, None, 4, None, 6, 6, None, 9]


def test_every_call_in_full_is_the_network_itself(unet):
    reusing = ReusingUNet(unet, every=1, steps=2)
    with torch.no_grad():
        for x in X:
            assert torch.equal(reusing(x, torch.tensor(500), TEXT).sample, unet(x, 500, TEXT).sample)


def test_what_cannot_be_reused_is_said():
    with pytest.raises(ValueError, match=r"run every 1, 2, \.\.\. calls: got 0"):
        ReusingUNet(Counting(), every=0, steps=5)
    with pytest.raises(ValueError, match="these frames have timesteps of their own"):
        ReusingUNet(Counting(), every=2, steps=5)(X[0], torch.tensor([1, 2]), TEXT)


@pytest.mark.precision
def test_eight_bits_hold_a_row_to_a_sixteenth():
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-4, 1, 10, 1e4, 0])[:, None]
    rows, scale = to_fp8(x)
    back = rows.float() * scale
    assert ((back - x).abs() <= x.abs() / 16 + scale * 2**-9).all()
    assert (back[4] == 0).all()


@pytest.mark.precision
@torch.no_grad()
def test_an_8_bit_layer_multiplies_what_it_holds(monkeypatch):
    layer = torch.nn.Linear(32, 48).bfloat16()
    fast = Fp8Linear(layer)

    def product(a, b, scale_a, scale_b, bias, out_dtype):
        assert scale_a.shape == (6, 1)
        assert scale_b.shape == (1, 48)
        assert b.stride(0) == 1  # column by column, as the hardware reads it
        return ((a.float() * scale_a) @ (b.float() * scale_b) + bias.float()).to(out_dtype)

    monkeypatch.setattr("torch._scaled_mm", product)
    x = torch.randn(2, 3, 32).bfloat16()
    want = layer.float()(x.float())
    assert fast(x).dtype == torch.bfloat16
    assert float((fast(x).float() - want).abs().max() / want.abs().max()) < 0.05


def test_8_bit_products_need_their_gpu(unet):
    with pytest.raises(ValueError, match=r"compute capability 8.9 or more: this is float32 on cpu"):
        fp8_linears(unet)


def test_attention_and_feed_forward_are_what_becomes_8_bit():
    network = UNet3DConditionModel(
        block_out_channels=(16, 32), down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), layers_per_block=1,
        attention_head_dim=2, cross_attention_dim=16, norm_num_groups=4,
    ).bfloat16()  # fmt: skip
    blocks = 4  # one on the way down, one in the middle, two on the way up
    assert _replace_linears(network) == blocks * (4 + 2 + 4 + 2)
    assert isinstance(network.mid_block.attentions[0].transformer_blocks[0].ff.net[2], Fp8Linear)


@pytest.mark.gpu
def test_8_bit_products_stay_near(unet):
    network = UNet3DConditionModel.from_config(unet.config).cuda().bfloat16().eval()
    given = X[0].cuda().bfloat16(), torch.tensor(500, device="cuda"), TEXT.cuda().bfloat16()
    with torch.no_grad():
        want = network(*given).sample.float()
        assert fp8_linears(network) > 0
        got = network(*given).sample.float()
    assert float((got - want).norm() / want.norm()) < 0.1
