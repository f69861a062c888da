"""What a sampler knows of the network: how to call it, and how many frames a call takes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidrd.models.blocks import TimeWindows


@runtime_checkable
class Denoiser(Protocol):
    """A network with text and guidance already bound in; its output is what the schedule's prediction_type names."""

    @property
    def clip(self) -> int:
        """Frames per call in training."""
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
        """`timesteps`: one for all frames (0-d), one per frame (T), or one per frame of each video (B T).

        Several windows of the same videos may come joined along B, window by window, each with all the videos.
        """
        ...


@runtime_checkable
class WindowedDenoiser(Denoiser, Protocol):
    """A network whose temporal attention can be cut into windows."""

    def attend_in(self, windows: TimeWindows) -> AbstractContextManager[None]:
        """A context in which temporal attention sees one window at a time; leaving it restores the network."""
        ...


def answers(
    denoise: Denoiser,
    windows: Sequence[Float[Tensor, "B C T H W"]],  # of the same videos and lengths
    timesteps: Sequence[Int[Tensor, "*T"]],  # of each window; 0-d ones are equal
    together: int = 1,  # windows a call
) -> Iterator[list[Float[Tensor, "B C T H W"]]]:
    """The network's outputs for several windows, one list per call; joining windows in a call does not change them."""
    for first in range(0, len(windows), together):
        part, times = windows[first : first + together], timesteps[first : first + together]
        if len(part) == 1:
            yield [denoise(part[0], times[0])]
            continue
        videos = len(part[0])
        of_all = times[0] if times[0].ndim == 0 else torch.stack(list(times)).repeat_interleave(videos, dim=0)
        yield list(denoise(torch.cat(list(part)), of_all).split(videos))


@dataclass(frozen=True)
class GuidedDenoiser:
    """A U-Net, its text and classifier-free guidance (arXiv 2207.12598) as a `Denoiser`.

    Both branches go through the network in one call, unless `budget` forbids it. At guidance 1 the negative text has no
    weight and is never evaluated.

    Raises:
        ValueError: guidance other than 1 without `negative`, texts of different shapes, or, when called, a number of
            videos that is no multiple of that of the texts.
    """

    unet: Callable[..., Any]  # unet(latents, timestep, encoder_hidden_states=context).sample
    context: Float[Tensor, "B L D"]  # text, one for each video
    negative: Float[Tensor, "..."] | None = None  # what to steer away from, shaped as the text
    guidance: float = 1.0  # weight of the text: answer = negative + guidance * (text - negative)
    clip: int = 8  # frames the network was trained on
    longest: int | None = None  # most frames it can take; None: no limit
    budget: int | None = None  # most frames, of all videos and branches, that the network holds at once; None: no limit

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
        """The guided output of the network, in the network's dtype."""
        windows, left = divmod(latents.shape[0], self.context.shape[0])
        if left:
            raise ValueError(
                f"each video needs its text: got {latents.shape[0]} videos and {self.context.shape[0]} texts"
            )
        context = self.context.repeat(windows, 1, 1)
        if self.branches == 1 or self.negative is None:
            return self._evaluate(latents, timesteps, context)
        negative = self.negative.repeat(windows, 1, 1)
        if timesteps.ndim == 2:
            timesteps = timesteps.repeat(2, 1)
        both = self._evaluate(torch.cat([latents, latents]), timesteps, torch.cat([negative, context]))
        away, towards = both.chunk(2)
        return away + self.guidance * (towards - away)

    def attend_in(self, windows: TimeWindows) -> AbstractContextManager[None]:
        """The U-Net's temporal attention in windows, while this is open.

        Raises:
            ValueError: a network that does not offer it.
        """
        if not hasattr(self.unet, "attend_in"):
            raise ValueError(
                f"the temporal attention of {type(self.unet).__name__} cannot be cut in windows: use this project's "
                "U-Net, or a sampler that leaves attention as it is"
            )
        return self.unet.attend_in(windows)

    def _evaluate(
        self, latents: Float[Tensor, "B C T H W"], timesteps: Int[Tensor, "*T"], context: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B C T H W"]:
        if timesteps.ndim == 1:  # a single axis would read as one timestep per video
            timesteps = timesteps.expand(latents.shape[0], -1)
        rows = len(latents) if self.budget is None else max(1, self.budget // latents.shape[2])
        parts = []
        for first in range(0, len(latents), rows):
            some = slice(first, first + rows)
            times = timesteps[some] if timesteps.ndim else timesteps
            parts.append(self.unet(latents[some], times, encoder_hidden_states=context[some]).sample)
        return torch.cat(parts) if len(parts) > 1 else parts[0]
