"""AnimateDiff (arXiv 2307.04725): Stable Diffusion with motion modules, whose positions end at 32 frames."""

from collections.abc import Callable, Mapping
from typing import Any

from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter, UNet2DConditionModel
from jaxtyping import Float, Num
from torch import Tensor

from baselines.models.image_vae import ImageVAE, tiny_vae
from baselines.models.tiny_text import WIDTH, clip_text, words


class AnimateDiff(ImageVAE):
    """AnimateDiff through diffusers' AnimateDiffPipeline."""

    guidance = 7.5

    def __init__(self, pipe: Any, clip: int | None = None) -> None:
        super().__init__(pipe, clip)
        self.longest = int(pipe.unet.config.motion_max_seq_length)

    def call(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """Every frame has the text of its video."""
        context = text["encoder_hidden_states"].repeat_interleave(latents.shape[2], dim=0)
        return self.pipe.unet(latents.to(self.pipe.unet.dtype), timestep, encoder_hidden_states=context)

    @classmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """With the schedule of its example."""
        return {"v1.5": _tiny}


def _tiny() -> AnimateDiffPipeline:
    tokenizer = words(77)
    return AnimateDiffPipeline(
        vae=tiny_vae(),
        text_encoder=clip_text(tokenizer),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            block_out_channels=(8, 8),
            layers_per_block=1,
            sample_size=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=WIDTH,
            norm_num_groups=2,
        ),
        motion_adapter=MotionAdapter(
            block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=4
        ),
        scheduler=DDIMScheduler(beta_schedule="linear", clip_sample=False, steps_offset=1),
    )
