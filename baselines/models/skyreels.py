"""SkyReels-V2 diffusion forcing (arXiv 2504.13074): Wan's network and VAE, trained with a level per latent frame."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import (
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from jaxtyping import Float, Num
from torch import Tensor

from baselines.models.longer_windows import Decay, Rotary
from baselines.models.wan import Wan, tiny_parts


class SkyReels(Wan):
    """SkyReels-V2 through diffusers' SkyReelsV2DiffusionForcingPipeline."""

    size = (544, 960)
    clip_frames = 97
    fps = 24.0
    guidance = 6.0
    trained = "any mixture of levels that falls from the last frame to the first"

    def rotary(self) -> Rotary | None:
        """Unstated: the paper names Wan, which sees one level for all frames."""
        return None

    def decay(self) -> Decay | None:
        """Unstated, likewise."""
        return None

    def call(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """A time for each latent frame, and the rate of frames as one of the two that it was trained on.

        Video by video: diffusers' network adds times and rate in shapes that fit a single video only.
        """
        network, (B, _, T, _, _) = self.pipe.transformer, latents.shape
        times, rate = timestep.expand(B, T), [0 if self.fps == 16 else 1]
        answers = [
            network(
                hidden_states=latents[one].to(network.dtype),
                timestep=times[one],
                enable_diffusion_forcing=True,
                fps=rate,
                **{name: value[one] for name, value in text.items()},
            ).sample
            for one in (slice(row, row + 1) for row in range(B))
        ]
        return Transformer2DModelOutput(sample=torch.cat(answers))

    @classmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """With and without the rate of frames as an input."""
        return {"1.3B": lambda: _tiny(inject_sample_info=True), "14B": lambda: _tiny(inject_sample_info=False)}


def _tiny(*, inject_sample_info: bool) -> SkyReelsV2DiffusionForcingPipeline:
    return SkyReelsV2DiffusionForcingPipeline(
        **tiny_parts(SkyReelsV2Transformer3DModel, inject_sample_info=inject_sample_info),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0),
    )
