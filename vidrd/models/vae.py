"""VidRD's VAE: Stable Diffusion's, with temporal convolutions in the decoder."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidrd.models.blocks import (
    Downsample,
    Frames,
    OtherFrames,
    ResnetBlock,
    TemporalConv,
    Upsample,
    channels_last,
    normalise,
)


class PixelAttention(nn.Module):
    """Attention of one head over the pixels of a frame, with the key names of the first Stable Diffusion files."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, 1e-6)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.proj_attn = nn.Linear(channels, channels)

    def forward(self, x: Frames) -> Frames:
        """Mix the pixels of each frame."""
        BT, C, H, W = x.shape
        tokens = normalise(x, self.group_norm).permute(0, 2, 3, 1).reshape(BT, 1, H * W, C)
        mixed = F.scaled_dot_product_attention(self.query(tokens), self.key(tokens), self.value(tokens))
        return x + self.proj_attn(mixed).reshape(BT, H, W, C).permute(0, 3, 1, 2)


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.attentions = nn.ModuleList([PixelAttention(channels, groups)])
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, groups=groups, eps=1e-6) for _ in range(2))

    def forward(self, x: Frames) -> Frames:
        """Frames in, frames out."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


def _resnets(first: int, width: int, count: int, groups: int) -> nn.ModuleList:
    return nn.ModuleList(ResnetBlock(first if j == 0 else width, width, groups=groups, eps=1e-6) for j in range(count))


class EncoderStage(nn.Module):
    """A resolution of the encoder."""

    def __init__(self, first: int, width: int, layers: int, groups: int, *, last: bool):
        super().__init__()
        self.resnets = _resnets(first, width, layers, groups)
        if not last:
            self.downsamplers = nn.ModuleList([Downsample(width, asymmetric=True)])

    def forward(self, x: Frames) -> OtherFrames:
        """Frames in, frames of half the size out."""
        for resnet in self.resnets:
            x = resnet(x)
        return self.downsamplers[0](x) if hasattr(self, "downsamplers") else x


class DecoderUpBlock(nn.Module):
    """A resolution of the decoder: a temporal convolution after every residual block."""

    def __init__(self, first: int, width: int, layers: int, groups: int, *, last: bool, temporal: bool, dropout: float):
        super().__init__()
        self.resnets = _resnets(first, width, layers, groups)
        if temporal:
            self.temp_convs = nn.ModuleList(
                TemporalConv(width, layers=3, groups=groups, dropout=dropout) for _ in self.resnets
            )
        if not last:
            self.upsamplers = nn.ModuleList([Upsample(width)])

    def forward(self, x: Frames, frames: int) -> OtherFrames:
        """Frames in, frames of twice the size out."""
        for i, resnet in enumerate(self.resnets):
            x = resnet(x)
            if hasattr(self, "temp_convs"):
                x = self.temp_convs[i](x, frames)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class Encoder(nn.Module):
    """Frames to the moments of their latents."""

    def __init__(self, in_channels: int, latents: int, widths: Sequence[int], layers: int, groups: int):
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            EncoderStage(widths[max(i - 1, 0)], width, layers, groups, last=i == len(widths) - 1)
            for i, width in enumerate(widths)
        )
        self.mid_block = Middle(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * latents, 3, padding=1)

    def forward(self, x: Frames) -> OtherFrames:
        """Frames in, means and log-variances out."""
        x = self.conv_in(x)
        for stage in self.down_blocks:
            x = stage(x)
        return self.conv_out(F.silu(normalise(self.mid_block(x), self.conv_norm_out)))


class Decoder(nn.Module):
    """Latents to frames; the up-stages see the frames of a clip together."""

    def __init__(
        self, out_channels: int, latents: int, widths: Sequence[int], layers: int, groups: int, **temporal: Any
    ):
        super().__init__()
        down = list(reversed(widths))
        self.conv_in = nn.Conv2d(latents, down[0], 3, padding=1)
        self.mid_block = Middle(down[0], groups)
        self.up_blocks = nn.ModuleList(
            DecoderUpBlock(down[max(i - 1, 0)], width, layers + 1, groups, last=i == len(down) - 1, **temporal)
            for i, width in enumerate(down)
        )
        self.conv_norm_out = nn.GroupNorm(groups, down[-1], 1e-6)
        self.conv_out = nn.Conv2d(down[-1], out_channels, 3, padding=1)
        self.gradient_checkpointing = False

    def forward(self, x: Frames, frames: int) -> OtherFrames:
        """Latents in, frames out."""
        x = self.mid_block(self.conv_in(x))
        for stage in self.up_blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(stage, x, frames, use_reentrant=False)
            else:
                x = stage(x, frames)
        return self.conv_out(F.silu(normalise(x, self.conv_norm_out)))


class AutoencoderKLTemporal(ModelMixin, ConfigMixin):
    """KL autoencoder of frames whose decoder can look at the frames of a clip together.

    With `num_frames=1` the temporal layers fall away: so does the released pipeline decode, whatever it was trained
    for. Latents are scaled by `scaling_factor` outside, as diffusers pipelines do.

    Source: arXiv 2309.03549 (abstract: temporal layers injected into the decoder); key names of the release.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        sample_size: int = 512,  # height and width in pixels, for users of the configuration
        scaling_factor: float = 0.18215,
        add_temp_conv: bool = True,
        temp_conv_dropout: float = 0.1,
    ):
        super().__init__()
        sizes = (block_out_channels, layers_per_block, norm_num_groups)
        self.encoder = Encoder(in_channels, latent_channels, *sizes)
        self.decoder = Decoder(out_channels, latent_channels, *sizes, temporal=add_temp_conv, dropout=temp_conv_dropout)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)

    def encode(self, x: Float[Tensor, "N C H W"], return_dict: bool = True) -> Any:  # AutoencoderKLOutput, or a tuple
        """Distribution of the latents of frames in [-1, 1]."""
        posterior = DiagonalGaussianDistribution(self.quant_conv(self.encoder(channels_last(x))))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(
        self, z: Float[Tensor, "N C H W"], num_frames: int = 1, return_dict: bool = True
    ) -> Any:  # DecoderOutput, or a tuple
        """Frames near [-1, 1] of unscaled latents.

        Args:
            z: latents of N frames, the frames of a clip one after the other.
            num_frames: frames of a clip; 1 decodes each frame by itself.
            return_dict: False returns a plain tuple, as diffusers models do.

        Raises:
            ValueError: N is no multiple of `num_frames`.
        """
        if len(z) % num_frames:
            raise ValueError(f"latents must be whole clips; {len(z)} frames are no multiple of {num_frames}")
        frames = self.decoder(self.post_quant_conv(channels_last(z)), num_frames)
        return DecoderOutput(sample=frames) if return_dict else (frames,)

    def forward(self, x: Float[Tensor, "N C H W"], num_frames: int = 1) -> Any:
        """Frames encoded to the mean of their latents and decoded again, shaped as given."""
        return self.decode(self.encode(x).latent_dist.mode(), num_frames)

    @property
    def downscale(self) -> int:
        """Width of a latent cell in pixels."""
        return 2 ** (len(self.config.block_out_channels) - 1)
