"""An inflated network shows one frame exactly what the image network shows it."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from vidrd.inflate import inflate_unet, inflate_vae, load_spatial
from vidrd.models.unet import is_temporal


def image_unet(**changes):
    torch.manual_seed(0)
    settings = {
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": (2, 4),
        "cross_attention_dim": 24,
    }
    return UNet2DConditionModel(**settings | changes).eval()


def image_vae(**changes):
    torch.manual_seed(0)
    return AutoencoderKL(
        **changes,
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        sample_size=16,
    ).eval()


@torch.no_grad()
@pytest.mark.parametrize("linear", [True, False])
def test_one_frame_equals_the_image_network(linear):
    flat = image_unet(use_linear_projection=linear)
    model = inflate_unet(flat, add_temp_embed=False).eval()
    x, context, timesteps = torch.randn(3, 4, 8, 8), torch.randn(3, 5, 24), torch.tensor([999, 500, 3])
    want = flat(x, timesteps, context).sample
    got = model(x[:, :, None], timesteps, context).sample[:, :, 0]
    torch.testing.assert_close(got, want, rtol=0, atol=2e-6 * float(want.abs().max()))


@torch.no_grad()
def test_a_clip_of_equal_frames_stays_one_frame():
    # The temporal layers are the identity and norms over equal frames are norms over one.
    flat = image_unet()
    model = inflate_unet(flat, add_temp_embed=False).eval()
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 24)
    want = flat(x, 500, context).sample
    got = model(x[:, :, None].expand(-1, -1, 5, -1, -1), 500, context).sample
    for frame in got.unbind(2):
        torch.testing.assert_close(frame, want, rtol=0, atol=5e-6 * float(want.abs().max()))


@torch.no_grad()
def test_the_vae_equals_the_image_vae_for_any_number_of_frames():
    flat = image_vae()
    model = inflate_vae(flat).eval()
    x = torch.rand(6, 3, 16, 16) * 2 - 1
    want = flat.encode(x).latent_dist
    got = model.encode(x).latent_dist
    torch.testing.assert_close(got.mean, want.mean, rtol=0, atol=1e-5)
    for frames in (1, 3):
        torch.testing.assert_close(
            model.decode(want.mean, num_frames=frames).sample, flat.decode(want.mean).sample, rtol=0, atol=1e-5
        )


def test_every_spatial_weight_is_the_image_networks():
    flat = image_unet()
    ours, theirs = inflate_unet(flat).state_dict(), flat.state_dict()
    assert {key for key in ours if not is_temporal(key)} == set(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_1x1_convolution_becomes_the_linear_layer_that_it_is():
    """As files of Stable Diffusion that other code wrote hold the VAE's attention."""
    flat, model = image_vae(), inflate_vae(image_vae())
    state = flat.state_dict()
    written = {
        key: value[..., None, None] if ".to_" in key and value.ndim == 2 else value for key, value in state.items()
    }
    assert sum(value.shape[2:] == (1, 1) for value in written.values()) >= 8
    load_spatial(model, {key: value + 1 for key, value in written.items()})
    query = "decoder.mid_block.attentions.0.query.weight"
    assert torch.equal(model.state_dict()[query], state["decoder.mid_block.attentions.0.to_q.weight"] + 1)
    with pytest.raises(ValueError, match=r"query.weight must have shape \(64, 64\), got \(64, 64, 3, 3\)"):
        load_spatial(model, {**state, query: torch.zeros(64, 64, 3, 3)})


def test_a_network_of_another_kind_is_refused():
    flat = image_unet(addition_embed_type="text", encoder_hid_dim=None)
    with pytest.raises(ValueError, match="must have the layers of Stable Diffusion 1 or 2; this one has unknown"):
        inflate_unet(flat)


def test_a_network_that_does_otherwise_with_the_same_weights_is_refused():
    with pytest.raises(ValueError, match="Stable Diffusion 1 or 2 has freq_shift=0: got 1"):
        inflate_unet(image_unet(freq_shift=1))
    with pytest.raises(ValueError, match=r"Stable Diffusion 1 or 2 has shift_factor=None: got 0\.1"):
        inflate_vae(image_vae(shift_factor=0.1))
