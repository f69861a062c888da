"""HunyuanVideo (arXiv 2412.03603): a flow whose network was distilled to take its guidance as an input, 4k+1 frames."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from jaxtyping import Float, Num
from torch import Tensor

from baselines.model_contract import Model
from baselines.models.longer_windows import Decay, Rotary
from baselines.models.tiny_text import clip_text, llama, words
from vidrd.denoiser import Text


class HunyuanVideo(Model):
    """HunyuanVideo through diffusers' HunyuanVideoPipeline."""

    size = (720, 1280)
    clip_frames = 129
    fps = 24.0
    guidance = 6.0

    def __init__(self, pipe: Any, clip: int | None = None) -> None:
        super().__init__(pipe, clip)
        self.embedded = bool(pipe.transformer.config.guidance_embeds)

    @property
    def size_step(self) -> int:
        """Pixels to a side of a patch."""
        return self.scale * int(self.pipe.transformer.config.patch_size)

    def text(self, prompts: Sequence[str]) -> Text:
        """Llama's embeddings with their mask, and CLIP's of the whole prompt."""
        embedded, pooled, mask = self.pipe.encode_prompt(list(prompts), device=self.device)
        dtype = self.pipe.transformer.dtype
        return {
            "encoder_hidden_states": embedded.to(dtype),
            "encoder_attention_mask": mask.to(dtype),
            "pooled_projections": pooled.to(dtype),
        }

    def rotary(self) -> Rotary | None:
        """RIFLEx slows the fourth frequency."""
        rope = self.pipe.transformer.rope
        return Rotary([(rope, "forward")], rope.rope_dim[0], 4)

    def decay(self) -> Decay | None:
        """UltraViCo's factors; the fourth frequency has a period of 50 frames."""
        network = self.pipe.transformer
        blocks = [*network.transformer_blocks, *network.single_transformer_blocks]
        window = self.rule.latents(self.clip_frames)
        return Decay([block.attn for block in blocks], window, harmonic=0.6, period=50)

    def text_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """256 tokens of Llama with their mask, CLIP's whole prompt, and the guidance where that is embedded."""
        config = self.pipe.transformer.config
        guidance: dict[str, tuple[int, ...]] = {"guidance": ()} if self.embedded else {}
        return {
            "encoder_hidden_states": (256, config.text_embed_dim),
            "encoder_attention_mask": (256,),
            "pooled_projections": (config.pooled_projection_dim,),
            **guidance,
        }

    def call(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """The guidance, a number for each video, is counted in thousandths as time is."""
        network = self.pipe.transformer
        if "guidance" in text:
            text["guidance"] = text["guidance"] * 1000.0
        times = timestep.expand(len(latents)).to(latents.dtype)
        return network(hidden_states=latents.to(network.dtype), timestep=times, **text)

    def timetable(self, steps: int, shape: tuple[int, int, int]) -> dict[str, Any]:
        """Evenly spaced sigmas down to 0."""
        return {"sigmas": np.linspace(1.0, 0.0, steps + 1)[:-1]}

    def pixels(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 t h w"]:
        """Long videos go through the VAE in stretches that overlap and are blended, as diffusers has it."""
        return self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor).sample

    @classmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """With embedded guidance."""
        return {"distilled": _tiny}


def _tiny() -> HunyuanVideoPipeline:
    tokenizer = words()
    return HunyuanVideoPipeline(
        text_encoder=llama(tokenizer),
        tokenizer=tokenizer,
        transformer=HunyuanVideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=10,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            patch_size=2,
            patch_size_t=1,
            guidance_embeds=True,
            text_embed_dim=32,
            pooled_projection_dim=32,
            rope_axes_dim=(2, 4, 4),
        ),
        vae=AutoencoderKLHunyuanVideo(
            latent_channels=4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=clip_text(words(77)),
        tokenizer_2=words(77),
    )
