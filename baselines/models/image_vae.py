"""What AnimateDiff and ModelScope share: a U-Net on latents of Stable Diffusion's VAE, which decodes frame by frame."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from baselines.latent_frames import FrameRule
from baselines.model_contract import Model
from baselines.models.attention_windows import attend_in
from vidrd.denoiser import Text
from vidrd.models.blocks import OverTime


class ImageVAE(Model):
    """A U-Net inflated from Stable Diffusion's."""

    network: ClassVar[str] = "unet"
    clip_frames = 16
    fps = 8.0
    latent_dtype = None  # the network's, as in the pipelines
    windowed = True
    chunk: ClassVar[int] = 16  # frames that the VAE holds at once

    def __init__(self, pipe: Any, clip: int | None = None) -> None:
        super().__init__(pipe, clip)
        side = pipe.unet.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        self.size = (height * self.scale, width * self.scale)

    @property
    def rule(self) -> FrameRule:
        """Frame by frame."""
        return FrameRule(1)

    @property
    def scale(self) -> int:
        """Pixels to a side of a latent place."""
        return int(self.pipe.vae_scale_factor)

    @property
    def size_step(self) -> int:
        """Pixels to a side that the U-Net halves without rest, and what the pipelines ask for."""
        return math.lcm(8, self.scale * 2 ** (len(self.pipe.unet.config.block_out_channels) - 1))

    def text(self, prompts: Sequence[str]) -> Text:
        """CLIP's embeddings of 77 tokens."""
        embedded, _ = self.pipe.encode_prompt(list(prompts), self.device, 1, False)
        return {"encoder_hidden_states": embedded}

    def attend_in(self, over_time: OverTime) -> AbstractContextManager[None]:
        """That of the motion modules, or of the temporal transformers."""
        return attend_in(self.pipe.unet, over_time)

    def text_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """77 tokens of CLIP."""
        return {"encoder_hidden_states": (77, self.pipe.unet.config.cross_attention_dim)}

    def pixels(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 t h w"]:
        """Frame by frame, `chunk` of them at once."""
        vae = self.pipe.vae
        parts = (latents / vae.config.scaling_factor).split(self.chunk, dim=2)
        frames = [vae.decode(part.transpose(1, 2).flatten(0, 1)).sample for part in parts]
        return torch.cat([frame.unflatten(0, (len(latents), -1)).transpose(1, 2) for frame in frames], dim=2)


def tiny_vae() -> AutoencoderKL:
    """A VAE that halves each side."""
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
    )
