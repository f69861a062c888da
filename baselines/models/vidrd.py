"""VidRD (arXiv 2309.03549) as a model of the contract: the pocket preset, and full-size pipelines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Num, UInt8
from numpy import ndarray
from torch import Tensor

from baselines.latent_frames import FrameRule
from baselines.model_contract import Model
from baselines.models.tiny_text import WIDTH, clip_text, words
from vidrd.denoiser import GuidedDenoiser, Text
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.pipeline import SOLVER_OF, VidRDPipeline
from vidrd.prompt_schedule import BLEND
from vidrd.schedule import Schedule
from vidrd.text import embed


class VidRD(Model):
    """A VidRDPipeline. Its VAE sees clips, so it decodes clip by clip."""

    network: ClassVar[str] = "unet"
    fps = 8.0
    guidance = 10.0
    levels = "frame"
    windowed = True
    decodes_clips = True
    latent_dtype = None  # the network's, as in the pipeline

    def __init__(self, pipe: Any, clip: int | None = None) -> None:
        super().__init__(pipe, pipe.config.clip if clip is None else clip)
        side = pipe.unet.config.sample_size * self.scale
        self.size = (side, side)

    @property
    def rule(self) -> FrameRule:
        """Frame by frame."""
        return FrameRule(1)

    @property
    def scale(self) -> int:
        """Pixels to a side of a latent place."""
        return int(self.pipe.vae.downscale)

    @property
    def size_step(self) -> int:
        """The same: the U-Net pads what it cannot halve."""
        return self.scale

    def text(self, prompts: Sequence[str]) -> Text:
        """CLIP's embeddings, as the pipeline makes them."""
        embedded = embed(list(prompts), self.pipe.tokenizer, self.pipe.text_encoder, self.device)
        return {"encoder_hidden_states": embedded.to(self.pipe.unet.dtype)}

    def text_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """CLIP's tokens, as many as its tokenizer makes."""
        tokens = self.pipe.tokenizer.model_max_length
        return {"encoder_hidden_states": (tokens, self.pipe.unet.config.cross_attention_dim)}

    def call(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """The U-Net itself."""
        return self.pipe.unet(latents, timestep, **text)

    def denoiser(
        self, prompts: Sequence[str], *, negative: str = "", guidance: float | None = None, blend: int = BLEND
    ) -> GuidedDenoiser:
        """The pipeline's own, whose temporal attention can be cut in windows, and whose prompts can change."""
        weight = self.guidance if guidance is None else guidance
        bound: GuidedDenoiser = self.pipe.denoiser(prompts, negative_prompt=negative, guidance=weight, blend=blend)
        return bound

    @property
    def solver(self) -> str:
        """That of the pipeline's own scheduler, as the pipeline has it."""
        return SOLVER_OF.get(type(self.pipe.scheduler).__name__, "ddim")

    def schedule(self, steps: int, solver: str = "ddim", shape: tuple[int, int, int] | None = None) -> Schedule:
        """The pipeline's own: each step ends where the next one begins."""
        levels: Schedule = self.pipe.schedule(steps, solver)
        return levels

    def decode(self, latents: Float[Tensor, "B C T H W"], *, clip: int | None = None) -> UInt8[ndarray, "B t h w 3"]:
        """Clip by clip; 1: frame by frame."""
        videos: UInt8[ndarray, "B t h w 3"] = self.pipe.decode(latents, clip=clip or self.clip)
        return videos

    def pixels(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 t h w"]:
        """All frames as one clip."""
        vae, frames = self.pipe.vae, latents.transpose(1, 2).flatten(0, 1)
        pixels: Tensor = vae.decode(frames / vae.config.scaling_factor, num_frames=latents.shape[2]).sample
        return pixels.unflatten(0, (len(latents), -1)).transpose(1, 2)

    @classmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """With the schedule of Stable Diffusion."""
        return {"2.1": _tiny}


def _tiny() -> VidRDPipeline:
    tokenizer = words(77)
    unet = UNet3DConditionModel(
        sample_size=4,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
        norm_num_groups=4,
    )
    vae = AutoencoderKLTemporal(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
    for network in (unet, vae):  # awake the temporal layers, which start as the identity
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return VidRDPipeline(
        vae=vae.eval(),
        text_encoder=clip_text(tokenizer),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        clip=3,
    )
