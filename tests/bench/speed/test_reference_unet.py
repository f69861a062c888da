import inspect

import pytest
import torch
import torch.nn.functional as F

from bench.speed.models import MODELS, network
from bench.speed.reference_unet import plain, textbook
from vidrd.models.unet import UNet3DConditionModel

SMALL = {
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "attention_head_dim": (2, 4),
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
    "layers_per_block": 2,
}


def inputs(config, frames=3, size=8, batch=2):
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, config.in_channels, frames, size, size, generator=draw)
    return latents, torch.randn(batch, 5, config.cross_attention_dim, generator=draw)


def largest_error(unet, latents, timestep, context, **options):
    with torch.no_grad():
        expected = unet(latents, timestep, encoder_hidden_states=context).sample
    output = plain(unet.state_dict(), unet.config, latents, timestep, context, **options)
    assert output.shape == expected.shape
    return float((output - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"attention_head_dim": 2},
        {"use_linear_projection": False},
        {"add_temp_embed": False},
        {"add_temp_conv": False},
        {"layers_per_block": 1, "in_channels": 8, "out_channels": 8},
        {"down_block_types": ("DownBlock3D", "CrossAttnDownBlock3D")},
    ],
)
def test_the_plain_path_and_the_model_are_one_function(change):
    unet = network(UNet3DConditionModel, {**SMALL, **change}, seed=3)
    latents, context = inputs(unet.config)
    assert largest_error(unet, latents, torch.tensor(321), context) < 1e-5


@pytest.mark.parametrize("timestep", [torch.tensor([7, 500]), torch.tensor([[1, 2, 3], [900, 800, 700]])])
def test_also_with_a_timestep_for_each_sample_or_frame(timestep):
    unet = network(UNet3DConditionModel, SMALL, seed=3)
    latents, context = inputs(unet.config)
    assert largest_error(unet, latents, timestep, context) < 1e-5


def test_also_for_one_frame_and_for_odd_sizes():
    unet = network(UNet3DConditionModel, SMALL, seed=3)
    for frames, size in ((1, 8), (2, 7)):
        latents, context = inputs(unet.config, frames, size)
        assert largest_error(unet, latents, torch.tensor(10), context) < 1e-5


def test_also_on_the_pocket_weights():
    unet = MODELS["pocket"].unet("cpu")
    latents, context = inputs(unet.config, frames=8)
    assert largest_error(unet, latents, torch.tensor(500), context) < 1e-5


def test_every_weight_counts():
    """A path that left a layer out would still be equal if the layer did nothing: none of them does nothing."""
    unet = network(UNet3DConditionModel, {**SMALL, "layers_per_block": 1}, seed=3)
    weights = dict(unet.state_dict())
    latents, context = inputs(unet.config)
    with_gradient = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    answer = inspect.unwrap(plain)(with_gradient, unet.config, latents, torch.tensor(321), context)  # not in no_grad
    answer.square().mean().backward()
    for name, weight in with_gradient.items():
        assert weight.grad is not None, name
        assert name.endswith("bias") or weight.grad.abs().max() > 1e-6, name


def test_textbook_attention_is_attention():
    query, key, value = torch.randn(3, 2, 4, 7, 6, generator=torch.Generator().manual_seed(0))
    expected = F.scaled_dot_product_attention(query, key, value)
    assert torch.allclose(textbook(query, key, value), expected, atol=1e-6)


def test_drawn_weights_keep_the_signal_alive():
    unet = network(UNet3DConditionModel, SMALL, seed=3)
    latents, context = inputs(unet.config)
    output = plain(unet.state_dict(), unet.config, latents, torch.tensor(321), context)
    assert 0.1 < float(output.std()) < 10
