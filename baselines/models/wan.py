"""Wan (arXiv 2503.20314): 2.1, 2.2 A14B with an expert for each half of the levels, and 2.2 TI2V-5B.

A flow on latents of a causal VAE (4k+1 frames). TI2V-5B was trained with a time per token, so that frames may stand at
levels of their own; 2.1 takes them too, untrained. The experts of A14B meet at a boundary in time, which no call may
straddle.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from jaxtyping import Float, Num
from torch import Tensor

from baselines.model_contract import Model
from baselines.models.longer_windows import Decay, Rotary
from baselines.models.tiny_text import t5, words
from vidrd.denoiser import Text


class Wan(Model):
    """Wan through diffusers' WanPipeline."""

    size = (480, 832)
    fps = 16.0
    guidance = 5.0
    clip_frames = 81

    def __init__(self, pipe: Any, clip: int | None = None, late_guidance: float | None = None) -> None:
        super().__init__(pipe, clip)
        self.late_guidance = late_guidance  # of the low-noise expert; None: that of the other
        if self.boundary is None:
            self.levels = "frame"
        if pipe.config.get("expand_timesteps"):
            self.fps, self.trained = 24.0, "one level for all frames, but for a clean first frame"

    @property
    def size_step(self) -> int:
        """Pixels to a side of a patch."""
        return self.scale * int(self._any.config.patch_size[1])

    @property
    def channels(self) -> int:
        """Of the latents."""
        return int(self._any.config.in_channels)

    @property
    def late(self) -> tuple[float, float] | None:
        """The low-noise expert may have a guidance of its own."""
        return None if self.late_guidance is None or self.boundary is None else (self.boundary, self.late_guidance)

    @property
    def boundary(self) -> float | None:
        """The timestep below which the low-noise expert takes over; None: there is one network."""
        ratio = self.pipe.config.get("boundary_ratio")
        return None if ratio is None else ratio * self.pipe.scheduler.config.num_train_timesteps

    def text(self, prompts: Sequence[str]) -> Text:
        """UMT5's embeddings, padded with zeros to 512 tokens."""
        # Its own, also for SkyReels-V2, whose copy of it fails where ftfy is not installed.
        embedded = WanPipeline._get_t5_prompt_embeds(
            self.pipe, list(prompts), max_sequence_length=512, device=self.device
        )
        return {"encoder_hidden_states": embedded.to(self._any.dtype)}

    def rotary(self) -> Rotary | None:
        """RIFLEx slows the sixth frequency."""
        networks = [getattr(self.pipe, name) for name in self.denoisers]
        return Rotary([(network.rope, "forward") for network in networks], networks[0].rope.t_dim, 6)

    def decay(self) -> Decay | None:
        """UltraViCo has one factor here, and cuts the first frame off from what is beyond its window."""
        attention = [block.attn1 for name in self.denoisers for block in getattr(self.pipe, name).blocks]
        return Decay(attention, self.rule.latents(self.clip_frames), cut_first=True)

    def text_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """512 tokens of UMT5."""
        return {"encoder_hidden_states": (512, self._any.config.text_dim)}

    def call(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """A time for each video, or for each token: each latent frame's repeated over its patches."""
        network = self._expert(timestep)
        B, _, T, H, W = latents.shape
        times = timestep.expand(B) if timestep.ndim == 0 else timestep
        if timestep.ndim or self.pipe.config.expand_timesteps:
            _, across, along = network.config.patch_size
            frames = timestep.float().expand(B, T)
            times = frames.repeat_interleave((H // across) * (W // along), dim=1)
        return network(hidden_states=latents.to(network.dtype), timestep=times, **text)

    def pixels(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 t h w"]:
        """The causal VAE keeps what it needs of earlier frames and decodes frame after frame."""
        config = self.pipe.vae.config
        mean, std = (
            torch.tensor(value).to(latents).reshape(1, -1, 1, 1, 1)
            for value in (config.latents_mean, config.latents_std)
        )
        return self.pipe.vae.decode(latents * std + mean).sample

    @property
    def _any(self) -> Any:
        return self.pipe.transformer or self.pipe.transformer_2

    def _expert(self, timestep: Num[Tensor, "*T"]) -> Any:
        if timestep.is_meta:  # work is counted: that of either expert
            return self._any
        if self.boundary is None or float(timestep) >= self.boundary:
            return self.pipe.transformer
        return self.pipe.transformer_2

    @classmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """2.1 with the scheduler of its checkpoints, A14B with both experts, TI2V-5B with a time per token."""
        return {
            "2.1": lambda: _tiny(UniPCMultistepScheduler, prediction_type="flow_prediction", use_flow_sigmas=True),
            "2.1-euler": lambda: _tiny(FlowMatchEulerDiscreteScheduler, shift=3.0),
            "2.2-A14B": lambda: _tiny(FlowMatchEulerDiscreteScheduler, experts=2, shift=3.0),
            "2.2-TI2V-5B": lambda: _tiny(FlowMatchEulerDiscreteScheduler, per_token=True, shift=5.0),
        }

    @classmethod
    def drawn(cls) -> Mapping[str, Callable[[], Any]]:
        """2.1's network of 1.3B."""
        return {"1.3B": _drawn}


def _drawn() -> WanPipeline:
    tokenizer = words()
    network = WanTransformer3DModel(num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=30)
    with torch.device("cpu"):  # where schedulers keep their levels
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=t5(tokenizer, "umt5", network.config.text_dim),
        transformer=network,
        vae=AutoencoderKLWan(),
        scheduler=scheduler,
    )


def _tiny(scheduler: Any, *, experts: int = 1, per_token: bool = False, **config: Any) -> WanPipeline:
    parts = tiny_parts(WanTransformer3DModel)
    return WanPipeline(
        **parts,
        scheduler=scheduler(**config),
        transformer_2=tiny_network(WanTransformer3DModel) if experts == 2 else None,
        boundary_ratio=0.875 if experts == 2 else None,
        expand_timesteps=per_token,
    )


def tiny_parts(network: Any, **config: Any) -> dict[str, Any]:
    """The components that tiny pipelines of Wan's kin share, with a network of that class."""
    tokenizer = words()
    return {
        "transformer": tiny_network(network, **config),
        "vae": AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        "text_encoder": t5(tokenizer, "umt5"),
        "tokenizer": tokenizer,
    }


def tiny_network(network: Any, **config: Any) -> Any:
    """A tiny network of that class of transformers."""
    return network(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        **config,
    )
