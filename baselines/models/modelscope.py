"""ModelScope's text-to-video (arXiv 2308.06571) and ZeroScope: diffusers' UNet3DConditionModel, noise prediction."""

from collections.abc import Callable, Mapping
from typing import Any

from diffusers import DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel
from jaxtyping import Float, Num
from torch import Tensor

from baselines.models.image_vae import ImageVAE, tiny_vae
from baselines.models.tiny_text import WIDTH, clip_text, words


class ModelScope(ImageVAE):
    """ModelScope through diffusers' TextToVideoSDPipeline."""

    guidance = 9.0

    def call(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """The U-Net has the signature of this project's."""
        return self.pipe.unet(latents.to(self.pipe.unet.dtype), timestep, **text)

    @classmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """With the schedule of its checkpoint."""
        return {"1.7B": _tiny}


def _tiny() -> TextToVideoSDPipeline:
    tokenizer = words(77)
    return TextToVideoSDPipeline(
        vae=tiny_vae(),
        text_encoder=clip_text(tokenizer),
        tokenizer=tokenizer,
        unet=UNet3DConditionModel(
            block_out_channels=(8, 8),
            layers_per_block=1,
            sample_size=8,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            norm_num_groups=2,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
    )
