"""What a sampler knows of the network: how to call it, and how many frames a call takes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from vidrd.models.blocks import OverTime

ONE_LEVEL = (
    "this network takes one noise level for all frames of a call: got a level per frame, use a method whose frames "
    "share their level"
)

# What a network is told of the prompts, by the name of its argument; one row for each video.
Text = Mapping[str, Tensor]
Span = slice | Int[Tensor, " T"]  # frames of the video that a call sees; they may begin before it and end after it
Call = Callable[[Tensor, Tensor], Tensor]  # (latents B C T H W, timesteps) -> the network's answer


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

    def __call__(self, latents: Float[Tensor, "B C T H W"], timesteps: Num[Tensor, "*T"]) -> Float[Tensor, "B C T H W"]:
        """`timesteps`: one for all frames (0-d), one per frame (T), or one per frame of each video (B T).

        Several windows of the same videos may come joined along B, window by window, each with all the videos.
        """
        ...


@runtime_checkable
class WindowedDenoiser(Denoiser, Protocol):
    """A network whose temporal attention can be told which frames to see together."""

    def attend_in(self, over_time: OverTime) -> AbstractContextManager[None]:
        """A context in which temporal attention sees frames as `over_time` says; leaving it restores the network."""
        ...


class FrameAwareDenoiser(Denoiser, Protocol):
    """A network whose text depends on the frames that a call sees."""

    def at(self, spans: Sequence[Span]) -> Call:
        """The network with the text of the windows of one call, joined along B as in every call."""
        ...


def at(denoise: Denoiser, *spans: Span) -> Call:
    """The network as it is to be called for these frames of the video, window by window.

    Every sampler calls it through this, so that prompts can change along the video.
    """
    aware = hasattr(denoise, "at")  # isinstance asks for every method of the protocol, in every call of a network
    return cast(FrameAwareDenoiser, denoise).at(spans) if aware else denoise


def answers(
    denoise: Denoiser,
    windows: Sequence[Float[Tensor, "B C T H W"]],  # of the same videos and lengths
    timesteps: Sequence[Num[Tensor, "*T"]],  # of each window; 0-d ones are equal
    spans: Sequence[Span],  # frames of the video in each window
    together: int = 1,  # windows a call
) -> Iterator[list[Float[Tensor, "B C T H W"]]]:
    """The network's outputs for several windows, one list per call; joining windows in a call does not change them."""
    for first in range(0, len(windows), together):
        some = slice(first, first + together)
        part, times, call = windows[some], timesteps[some], at(denoise, *spans[some])
        if len(part) == 1:
            yield [call(part[0], times[0])]
            continue
        videos = len(part[0])
        of_all = times[0] if times[0].ndim == 0 else torch.stack(list(times)).repeat_interleave(videos, dim=0)
        yield list(call(torch.cat(list(part)), of_all).split(videos))


@dataclass(frozen=True)
class GuidedDenoiser:
    """A network, its text and classifier-free guidance (arXiv 2207.12598) as a `Denoiser`.

    Both branches go through the network in one call, unless `budget` forbids it. At guidance 1 the negative text has no
    weight and is never evaluated.

    Raises:
        ValueError: guidance other than 1 without `negative`, texts of different shapes, or, when called, a number of
            videos that is no multiple of that of the texts, or a level per frame where the network takes one.
    """

    unet: Callable[..., Any]  # unet(latents, timestep, encoder_hidden_states=context).sample, timestep () or (B T)
    # text, one for each video, or for each of its frames; several tensors by the names of their arguments
    context: Float[Tensor, "B *T L D"] | Text
    negative: Float[Tensor, "..."] | Text | None = None  # what to steer away from, shaped as the text
    guidance: float = 1.0  # weight of the text: answer = negative + guidance * (text - negative)
    clip: int = 8  # frames the network was trained on
    longest: int | None = None  # most frames it can take; None: no limit
    budget: int | None = None  # most frames, of all videos and branches, that the network holds at once; None: no limit
    per_frame: bool = True  # the network takes a level for each frame; False: one for all frames of a call
    late: tuple[float, float] | None = None  # another guidance below a timestep: (timestep, guidance)
    # opens the network's temporal attention in windows, where `unet` has no attend_in of its own
    windowed: Callable[[OverTime], AbstractContextManager[None]] | None = None
    # opens a way to bear so many frames, more than in training, by its name
    extended: Callable[[str, int], AbstractContextManager[None]] | None = None

    def __post_init__(self) -> None:
        if self.branches == 2 and self.negative is None:
            raise ValueError(f"guidance {self.guidance} steers away from a negative text: pass one, or guidance 1")
        if self.negative is not None and _shapes(self.negative) != _shapes(self.context):
            raise ValueError(
                "negative and context go through the network together and have one shape: got "
                f"{_shapes(self.negative)} and {_shapes(self.context)}: pad the shorter text"
            )

    @property
    def branches(self) -> int:
        """2 with guidance, else 1."""
        return 1 if self.guidance == 1 and (self.late is None or self.late[1] == 1) else 2

    def __call__(self, latents: Float[Tensor, "B C T H W"], timesteps: Num[Tensor, "*T"]) -> Float[Tensor, "B C T H W"]:
        """The guided output of the network, in the network's dtype."""
        context = _by_name(self.context)
        texts = len(next(iter(context.values()), latents))  # a network may take no text
        windows, left = divmod(latents.shape[0], texts)
        if left:
            raise ValueError(f"each video needs its text: got {latents.shape[0]} videos and {texts} texts")
        if timesteps.ndim and not self.per_frame:
            raise ValueError(ONE_LEVEL)
        context = _repeated(context, windows)
        if self.branches == 1 or self.negative is None:
            return self._evaluate(latents, timesteps, context)
        negative = _repeated(_by_name(self.negative), windows)
        both = {name: torch.cat([negative[name], context[name]]) for name in context}
        twice = timesteps.repeat(2, 1) if timesteps.ndim == 2 else timesteps
        away, towards = self._evaluate(torch.cat([latents, latents]), twice, both).chunk(2)
        return away + self._weight(timesteps) * (towards - away)

    def attend_in(self, over_time: OverTime) -> AbstractContextManager[None]:
        """The U-Net's temporal attention by `over_time`, for example in windows, while this is open.

        Raises:
            ValueError: a network that does not offer it.
        """
        if self.windowed is not None:
            return self.windowed(over_time)
        if not hasattr(self.unet, "attend_in"):
            network = getattr(self.unet, "__self__", self.unet)  # whose method it is
            raise ValueError(
                f"the temporal attention of {type(network).__name__} cannot be cut in windows: use a U-Net, "
                "or a sampler that leaves attention as it is"
            )
        return self.unet.attend_in(over_time)

    def extend(self, way: str, frames: int) -> AbstractContextManager[None]:
        """The network for so many frames, more than in training, while this is open.

        Raises:
            ValueError: a network that does not offer it.
        """
        if self.extended is None:
            raise ValueError(f"{way} is for networks with rotary positions: this one has none")
        return self.extended(way, frames)

    def _weight(self, timesteps: Num[Tensor, "*T"]) -> float | Tensor:
        """The guidance of every frame, shaped to go with B C T H W."""
        if self.late is None:
            return self.guidance
        weight = torch.where(timesteps < self.late[0], self.late[1], self.guidance)
        return weight if weight.ndim == 0 else weight.reshape(-1, 1, weight.shape[-1], 1, 1)

    def _evaluate(
        self, latents: Float[Tensor, "B C T H W"], timesteps: Num[Tensor, "*T"], context: Text
    ) -> Float[Tensor, "B C T H W"]:
        if timesteps.ndim == 1:  # a single axis would read as one timestep per video
            timesteps = timesteps.expand(latents.shape[0], -1)
        rows = len(latents) if self.budget is None else max(1, self.budget // latents.shape[2])
        parts = []
        for first in range(0, len(latents), rows):
            some = slice(first, first + rows)
            times = timesteps[some] if timesteps.ndim else timesteps
            text = {name: value[some] for name, value in context.items()}
            parts.append(self.unet(latents[some], times, **text).sample)
        return torch.cat(parts) if len(parts) > 1 else parts[0]


@dataclass(frozen=True, kw_only=True)
class ScheduledDenoiser(GuidedDenoiser):
    """A guided network whose text changes along the video; `at` binds that of the frames of a call.

    The text of a frame goes to that frame alone, so a window in which it changes shows both. Where it does not change
    within any window, the call is that of a plain prompt. `context` is only an example of the text's shape.
    """

    texts: Float[Tensor, "S L D"]  # of all videos
    shares: Callable[[Int[Tensor, " T"]], Float[Tensor, "B T S"]]  # frames -> what share of each text a frame has

    def at(self, spans: Sequence[Span]) -> GuidedDenoiser:
        """The network with the text of these frames, window by window."""
        frames = [torch.arange(span.start, span.stop) if isinstance(span, slice) else span.cpu() for span in spans]
        shares = torch.cat([self.shares(each) for each in frames])  # windows and videos x T S
        steady = bool((shares == shares[:, :1]).all())
        if steady:
            shares = shares[:, 0]
        context = torch.einsum("...s,sld->...ld", shares.to(self.texts), self.texts)
        negative = self.negative
        if isinstance(negative, Tensor):
            negative = torch.cat([negative] * len(spans))
            negative = negative if steady else negative[:, None].expand_as(context)
        given = {each.name: getattr(self, each.name) for each in fields(GuidedDenoiser)}
        return GuidedDenoiser(**given | {"context": context, "negative": negative})

    def __call__(self, latents: Float[Tensor, "B C T H W"], timesteps: Num[Tensor, "*T"]) -> Float[Tensor, "B C T H W"]:
        """Raise ValueError: a call must say which frames it sees."""
        raise ValueError(
            "prompts that change are for samplers that say which frames a call sees (vidrd.denoiser.at): got a call "
            "that does not"
        )


def _by_name(text: Tensor | Text) -> Text:
    return {"encoder_hidden_states": text} if isinstance(text, Tensor) else text


def _shapes(text: Tensor | Text) -> Any:
    shapes = {name: tuple(value.shape) for name, value in _by_name(text).items()}
    return next(iter(shapes.values())) if isinstance(text, Tensor) else shapes


def _repeated(text: Text, times: int) -> Text:
    return text if times == 1 else {name: torch.cat([value] * times) for name, value in text.items()}
