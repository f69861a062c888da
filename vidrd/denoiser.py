"""What a sampler may know of the network: a call, and how many frames it bears."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Denoiser(Protocol):
    """A network with text and guidance already bound in; it answers what the schedule's prediction_type names."""

    @property
    def clip(self) -> int:
        """Frames a call was trained on."""
        ...

    @property
    def longest(self) -> int | None:
        """Most frames a call can take; None: no limit."""
        ...

    @property
    def branches(self) -> int:
        """Network evaluations behind each call: 2 with classifier-free guidance."""
        ...

    def __call__(self, latents: Float[Tensor, "B C T H W"], timesteps: Int[Tensor, "*T"]) -> Float[Tensor, "B C T H W"]:
        """`timesteps`: one for all frames (0-d), or one per frame (T); any videos of a batch share them."""
        ...


@dataclass(frozen=True)
class GuidedDenoiser:
    """A U-Net, its text and classifier-free guidance (arXiv 2207.12598) as a `Denoiser`.

    Both branches go through the network in one call. At guidance 1 the negative text has no weight and is never
    evaluated.

    Raises:
        ValueError: guidance other than 1 without `negative`, texts of different shapes, or, when called, another
            number of videos than of texts.
    """

    unet: Callable[..., Any]  # unet(latents, timestep, encoder_hidden_states=context).sample
    context: Float[Tensor, "B L D"]  # text, one for each video
    negative: Float[Tensor, "..."] | None = None  # what to steer away from, shaped as the text
    guidance: float = 1.0  # weight of the text: answer = negative + guidance * (text - negative)
    clip: int = 8  # frames the network was trained on
    longest: int | None = None  # most frames it can take; None: no limit

    def __post_init__(self) -> None:
        if self.guidance != 1 and self.negative is None:
            raise ValueError(f"guidance {self.guidance} steers away from a negative text: pass one, or guidance 1")
        if self.negative is not None and self.negative.shape != self.context.shape:
            raise ValueError(
                "negative and context go through the network together and have one shape: got "
                f"{tuple(self.negative.shape)} and {tuple(self.context.shape)}: pad the shorter text"
            )

    @property
    def branches(self) -> int:
        """2 with guidance, else 1."""
        return 1 if self.guidance == 1 else 2

    def __call__(self, latents: Float[Tensor, "B C T H W"], timesteps: Int[Tensor, "*T"]) -> Float[Tensor, "B C T H W"]:
        """The guided answer of the network, in the dtype it answers in."""
        if latents.shape[0] != self.context.shape[0]:
            raise ValueError(
                f"each video needs its text: got {latents.shape[0]} videos and {self.context.shape[0]} texts"
            )
        if self.branches == 1 or self.negative is None:
            return self._evaluate(latents, timesteps, self.context)
        both = self._evaluate(torch.cat([latents, latents]), timesteps, torch.cat([self.negative, self.context]))
        away, towards = both.chunk(2)
        return away + self.guidance * (towards - away)

    def _evaluate(
        self, latents: Float[Tensor, "B C T H W"], timesteps: Int[Tensor, "*T"], context: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B C T H W"]:
        if timesteps.ndim == 1:  # a single axis would read as one timestep per video
            timesteps = timesteps.expand(latents.shape[0], -1)
        return self.unet(latents, timesteps, encoder_hidden_states=context).sample
