"""LTX-Video (arXiv 2501.00103): a flow on tokens of a VAE that makes 8k+1 frames; the shift depends on their number.

The network takes a time for each token, and was trained so with clean first frames only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from jaxtyping import Float, Num
from torch import Tensor

from baselines.latent_frames import FrameRule
from baselines.model_contract import Model
from baselines.models.tiny_text import WIDTH, t5, words
from vidrd.denoiser import Text


class LTX(Model):
    """LTX-Video through diffusers' LTXPipeline."""

    size = (512, 704)
    clip_frames = 161
    fps = 25.0
    guidance = 3.0
    levels = "frame"
    trained = "one level for all frames, but for a clean first frame"

    @property
    def rule(self) -> FrameRule:
        """8k+1 frames."""
        return FrameRule(self.pipe.vae_temporal_compression_ratio)

    @property
    def scale(self) -> int:
        """Pixels to a side of a latent place."""
        return int(self.pipe.vae_spatial_compression_ratio)

    @property
    def size_step(self) -> int:
        """Pixels to a side of a token, and what the pipeline asks for."""
        return math.lcm(32, self.scale * int(self.pipe.transformer_spatial_patch_size))

    @property
    def channels(self) -> int:
        """Of the latents; a token holds those of its patch."""
        space, time = self.pipe.transformer_spatial_patch_size, self.pipe.transformer_temporal_patch_size
        return int(self.pipe.transformer.config.in_channels // (space**2 * time))

    def text(self, prompts: Sequence[str]) -> Text:
        """T5's embeddings of 128 tokens and their mask."""
        embedded, mask, _, _ = self.pipe.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=128, device=self.device
        )
        return {"encoder_hidden_states": embedded, "encoder_attention_mask": mask}

    def text_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """128 tokens of T5 and their mask."""
        width = self.pipe.transformer.config.caption_channels
        return {"encoder_hidden_states": (128, width), "encoder_attention_mask": (128,)}

    def call(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """Frames and places become tokens; those of a frame share its time."""
        network, (B, _, T, H, W) = self.pipe.transformer, latents.shape
        tokens = self.packed(latents).to(text["encoder_hidden_states"].dtype)
        space, time = self.pipe.transformer_spatial_patch_size, self.pipe.transformer_temporal_patch_size
        times = timestep.expand(B) if timestep.ndim == 0 else timestep[:, ::time]
        if times.ndim == 2:
            times = times.repeat_interleave((H // space) * (W // space), dim=1)
        answer = network(
            hidden_states=tokens,
            timestep=times,
            num_frames=T,
            height=H,
            width=W,
            rope_interpolation_scale=(self.rule.every / self.fps, self.scale, self.scale),
            **text,
        ).sample
        return Transformer2DModelOutput(sample=self.unpacked(answer.float(), (T, H, W)))

    def timetable(self, steps: int, shape: tuple[int, int, int]) -> dict[str, Any]:
        """Evenly spaced sigmas, shifted by the number of places that the video has."""
        config, (T, H, W) = self.pipe.scheduler.config, shape
        mu = calculate_shift(
            T * H * W,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": mu}

    def pixels(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 t h w"]:
        """Whole: the decoder looks ahead in time; a decoder with a time of its own is told that nothing is noisy."""
        vae = self.pipe.vae
        mean, std = (value.to(latents).reshape(1, -1, 1, 1, 1) for value in (vae.latents_mean, vae.latents_std))
        time = torch.zeros(len(latents)).to(latents) if vae.config.timestep_conditioning else None
        return vae.decode(latents * std / vae.config.scaling_factor + mean, time).sample

    def packed(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "..."]:
        """B tokens channels."""
        space, time = self.pipe.transformer_spatial_patch_size, self.pipe.transformer_temporal_patch_size
        return self.pipe._pack_latents(latents, space, time)

    def unpacked(self, packed: Float[Tensor, "..."], shape: tuple[int, int, int]) -> Float[Tensor, "B C T H W"]:
        """And back."""
        space, time = self.pipe.transformer_spatial_patch_size, self.pipe.transformer_temporal_patch_size
        T, H, W = shape[0] // time, shape[1] // space, shape[2] // space
        return self.pipe._unpack_latents(packed, T, H, W, space, time)

    @classmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """The first release, and a decoder with a time of its own."""
        return {"0.9": lambda: _tiny(timed=False), "0.9.1": lambda: _tiny(timed=True)}

    @classmethod
    def drawn(cls) -> Mapping[str, Callable[[], Any]]:
        """The first release's network of 2B."""
        return {"2B": _drawn}


def _drawn() -> LTXPipeline:
    tokenizer, network = words(128), LTXVideoTransformer3DModel()
    with torch.device("cpu"):  # where schedulers keep their levels
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1)
    return LTXPipeline(
        scheduler=scheduler,
        vae=AutoencoderKLLTXVideo(),
        text_encoder=t5(tokenizer, width=network.config.caption_channels),
        tokenizer=tokenizer,
        transformer=network,
    )


def _tiny(*, timed: bool) -> LTXPipeline:
    tokenizer = words(128)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=timed,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1),
        vae=vae,
        text_encoder=t5(tokenizer),
        tokenizer=tokenizer,
        transformer=LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            patch_size=1,
            patch_size_t=1,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=WIDTH,
        ),
    )
