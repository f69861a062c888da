"""CogVideoX (arXiv 2408.06072): v-prediction at zero terminal SNR on latents of a causal VAE, 8k+1 frames.

The network's text tokens share the time of all frames, so it takes one level a call. The VAE decodes odd numbers of
latent frames; of an even one it makes frames that no first one begins. CogVideoX 1.5 joins latent frames in pairs, so a
first one is denoised with the video and dropped before decoding, as in its pipeline.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from jaxtyping import Float, Num
from torch import Tensor

from baselines.latent_frames import FrameRule
from baselines.model_contract import Model
from baselines.models.longer_windows import Rotary
from baselines.models.tiny_text import WIDTH, t5, words
from vidrd.denoiser import Text


class CogVideoX(Model):
    """CogVideoX through diffusers' CogVideoXPipeline."""

    fps = 8.0
    guidance = 6.0
    latent_dtype = None  # the network's, as in the pipeline

    def __init__(self, pipe: Any, clip: int | None = None) -> None:
        config = pipe.transformer.config
        self.group = config.patch_size_t or 1
        self.pipe = pipe
        super().__init__(pipe, self.rule.latents(config.sample_frames) if clip is None else clip)
        self.size = (config.sample_height * self.scale, config.sample_width * self.scale)
        if self.group > 1:
            self.fps = 16.0

    @property
    def rule(self) -> FrameRule:
        """8k+1 frames, which is an odd number of latent frames."""
        return FrameRule(int(self.pipe.vae_scale_factor_temporal), 2, self.group - 1)

    @property
    def size_step(self) -> int:
        """Pixels to a side of a patch."""
        return self.scale * int(self.pipe.transformer.config.patch_size)

    def text(self, prompts: Sequence[str]) -> Text:
        """T5's embeddings of 226 tokens."""
        embedded, _ = self.pipe.encode_prompt(list(prompts), do_classifier_free_guidance=False, device=self.device)
        return {"encoder_hidden_states": embedded}

    def rotary(self) -> Rotary | None:
        """RIFLEx slows the second frequency of the 5B network; unstated for 1.5."""
        config = self.pipe.transformer.config
        if not config.use_rotary_positional_embeddings or self.group > 1:
            return None
        return Rotary([(self.pipe, "_prepare_rotary_positional_embeddings")], config.attention_head_dim // 4, 2)

    def text_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """226 tokens of T5."""
        return {"encoder_hidden_states": (226, self.pipe.transformer.config.text_embed_dim)}

    def call(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """Frames before channels, with rotary positions where the network has them."""
        network, (B, _, T, H, W) = self.pipe.transformer, latents.shape
        positions = None
        if network.config.use_rotary_positional_embeddings:
            positions = self.pipe._prepare_rotary_positional_embeddings(
                H * self.scale, W * self.scale, T, latents.device
            )
        answer = network(
            hidden_states=self.packed(latents).to(network.dtype),
            timestep=timestep.expand(B),
            image_rotary_emb=positions,
            **text,
        ).sample
        return Transformer2DModelOutput(sample=self.unpacked(answer.float(), (T, H, W)))

    def pixels(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 t h w"]:
        """The causal VAE goes through the video in short stretches and keeps what it needs of earlier ones."""
        return self.pipe.decode_latents(self.packed(latents))

    def packed(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "..."]:
        """B T C H W."""
        return latents.transpose(1, 2)

    def unpacked(self, packed: Float[Tensor, "..."], shape: tuple[int, int, int]) -> Float[Tensor, "B C T H W"]:
        """And back."""
        return packed.transpose(1, 2)

    @classmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """2B with sinusoidal positions, 5B with rotary ones, 1.5 with pairs of latent frames."""
        return {
            "2B": _tiny,
            "5B": lambda: _tiny(use_rotary_positional_embeddings=True),
            "1.5-5B": lambda: _tiny(use_rotary_positional_embeddings=True, patch_size_t=2, patch_bias=False),
        }


def _tiny(**config: Any) -> CogVideoXPipeline:
    tokenizer = words(226)
    return CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=t5(tokenizer),
        vae=AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            temporal_compression_ratio=4,
        ),
        transformer=CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=WIDTH,
            num_layers=2,
            sample_width=6,
            sample_height=4,
            sample_frames=9,
            patch_size=2,
            temporal_compression_ratio=4,
            max_text_seq_length=226,
            **config,
        ),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False
        ),
    )
