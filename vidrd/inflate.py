"""From Stable Diffusion's image networks to VidRD's video networks, key by key.

Both carry the same keys for what they share; the temporal layers are new and start as the identity, so that one frame
leaves the inflated network exactly as it leaves the image network.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from vidrd.models.unet import UNet3DConditionModel, is_temporal
from vidrd.models.vae import AutoencoderKLTemporal

# Newer diffusers files name the parts of the VAE's attention as those of every other attention.
_VAE_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
_VAE_KEY = re.compile(r"(mid_block\.attentions\.0\.)(to_q|to_k|to_v|to_out\.0)(\.\w+)$")

_UNET_SETTINGS = (
    "sample_size",
    "in_channels",
    "out_channels",
    "block_out_channels",
    "layers_per_block",
    "attention_head_dim",
    "cross_attention_dim",
    "use_linear_projection",
    "norm_num_groups",
)
_VAE_SETTINGS = (
    "in_channels",
    "out_channels",
    "block_out_channels",
    "layers_per_block",
    "latent_channels",
    "norm_num_groups",
    "sample_size",
    "scaling_factor",
)
# What other networks with the same weights may do otherwise; a configuration that leaves it out means this.
_UNET_FIXED = {
    "act_fn": "silu",
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "resnet_out_scale_factor": 1,
    "resnet_skip_time_act": False,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
}
_VAE_FIXED = {"act_fn": "silu", "latents_mean": None, "latents_std": None, "shift_factor": None}


def inflate_unet(
    image_unet: nn.Module,  # a diffusers UNet2DConditionModel
    *,
    add_temp_embed: bool = True,  # False: one frame then equals the image network exactly
    temp_conv_dropout: float = 0.1,
) -> UNet3DConditionModel:
    """Build VidRD's U-Net around the weights of an image U-Net.

    Raises:
        ValueError: the image network has a layer that VidRD's does not, or lacks one.
    """
    config: Mapping[str, Any] = image_unet.config  # type: ignore[assignment]
    model = UNet3DConditionModel(
        **unet_settings(config), add_temp_embed=add_temp_embed, temp_conv_dropout=temp_conv_dropout
    )
    load_spatial(model, image_unet.state_dict())
    return model


def inflate_vae(image_vae: nn.Module, *, temp_conv_dropout: float = 0.1) -> AutoencoderKLTemporal:
    """Build VidRD's VAE around the weights of a diffusers AutoencoderKL.

    Raises:
        ValueError: the image network has a layer that VidRD's does not, or lacks one.
    """
    config: Mapping[str, Any] = image_vae.config  # type: ignore[assignment]
    model = AutoencoderKLTemporal(**vae_settings(config), temp_conv_dropout=temp_conv_dropout)
    load_spatial(model, image_vae.state_dict())
    return model


def unet_settings(image: Mapping[str, Any]) -> dict[str, Any]:
    """Our U-Net's settings from the configuration of a diffusers UNet2DConditionModel.

    Raises:
        ValueError: the configuration lacks one that has no default there, or asks for what VidRD's network does not do.
    """
    defaults = {"use_linear_projection": False, "norm_num_groups": 32, "layers_per_block": 2, "attention_head_dim": 8}
    given = {**defaults, **image}
    _need(given, (*_UNET_SETTINGS, "down_block_types"), _UNET_FIXED)
    blocks = [name.replace("2D", "3D") for name in given["down_block_types"]]
    return {name: given[name] for name in _UNET_SETTINGS} | {"down_block_types": blocks}


def vae_settings(image: Mapping[str, Any]) -> dict[str, Any]:
    """Our VAE's settings from the configuration of a diffusers AutoencoderKL, or of the released one.

    Raises:
        ValueError: the configuration lacks one that has no default there, or asks for what VidRD's network does not do.
    """
    given = {"scaling_factor": 0.18215, "norm_num_groups": 32, "in_channels": 3, "out_channels": 3, **image}
    _need(given, _VAE_SETTINGS, _VAE_FIXED)
    return {name: given[name] for name in _VAE_SETTINGS}


def load_spatial(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load an image network's weights into a video network; its temporal layers stay as they are.

    A 1x1 convolution holds the numbers of a linear layer, and becomes one where the video network has that.

    Raises:
        ValueError: keys or shapes do not fit; the message names the first ones.
    """
    wanted = {key: value.shape for key, value in model.state_dict().items() if not is_temporal(key)}
    given = {renamed_vae_key(key): value for key, value in state.items()}
    _refuse("lacks", wanted.keys() - given.keys())
    _refuse("has unknown", given.keys() - wanted.keys())
    for key, shape in wanted.items():
        if given[key].shape == (*shape, 1, 1):
            given[key] = given[key].flatten(1)
        if given[key].shape != shape:
            raise ValueError(
                f"the image network's {key} must have shape {tuple(shape)}, got {tuple(given[key].shape)}: "
                "build the video network from that network's configuration"
            )
    model.load_state_dict(given, strict=False)


def renamed_vae_key(key: str) -> str:
    """A key of the VAE's attention under its old name, which the released files carry; other keys as they are."""
    return _VAE_KEY.sub(lambda match: match[1] + _VAE_ATTENTION[match[2]] + match[3], key)


def _need(config: Mapping[str, Any], names: Iterable[str], fixed: Mapping[str, Any]) -> None:
    missing = [name for name in names if name not in config]
    if missing:
        raise ValueError(f"a network's configuration must name {', '.join(names)}; this one lacks {', '.join(missing)}")
    for name, value in fixed.items():
        if config.get(name, value) != value:
            raise ValueError(f"a network of Stable Diffusion 1 or 2 has {name}={value!r}: got {config[name]!r}")


def _refuse(verb: str, keys: Iterable[str]) -> None:
    names = sorted(keys)
    if names:
        raise ValueError(
            f"an image network must have the layers of Stable Diffusion 1 or 2; this one {verb} "
            f"{', '.join(names[:3])}{' and more' if len(names) > 3 else ''}"
        )
