"""The contract of every model: a pipeline goes in, and a sampler gets a denoiser, a schedule and a decoder.

A family of models is a subclass of `Model` in `baselines/models/`, which writes what differs: the embedded text, one
call of the network, its schedule and its pixels. `baselines/models/families.py` has the table and loads a model by
name; docs/models.md says what was proved of each family. Samplers count latent frames, users frames of the video
(`baselines/latent_frames.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from jaxtyping import Float, Num, UInt8
from numpy import concatenate, ndarray
from torch import Tensor, nn

from baselines.latent_frames import FrameRule
from baselines.models.longer_windows import Decay, Rotary, decayed, slowed
from vidrd.denoiser import GuidedDenoiser, Text
from vidrd.models.blocks import OverTime
from vidrd.prompt_schedule import BLEND, changes, read_prompts
from vidrd.schedule import Schedule
from vidrd.solvers import schedule as schedule_of
from vidrd.video import to_uint8


class Model(ABC):
    """A text-to-video model.

    Args:
        pipe: a diffusers pipeline of the family. Its loop and the state of its scheduler are never used.
        clip: latent frames of a call; None: what the family was trained on.

    Raises:
        ValueError: a clip that is no whole number of groups of latent frames.
    """

    clip_frames: ClassVar[int]  # of the video, that the network was trained on
    size: tuple[int, int]  # height and width in pixels, unless asked otherwise
    fps: float
    guidance: ClassVar[float]  # unless asked otherwise
    network: ClassVar[str] = "transformer"  # the component that denoises
    embedded: bool = False  # guidance is an input of the network, which steers away from nothing: one branch
    levels: Literal["video", "frame"] = "video"  # the network takes one level a call, or one for each frame
    trained: str = "one level for all frames"  # what levels it was trained on; reports repeat it
    longest: int | None = None  # most latent frames of a call; None: no limit
    group: int = 1  # the network joins so many latent frames: calls hold whole groups
    windowed: bool = False  # the network's temporal attention can be cut in windows
    decodes_clips: bool = False  # the VAE sees clips of a given length, not the whole video
    latent_dtype: torch.dtype | None = torch.float32  # of the sampler's latents; None: the network's

    def __init__(self, pipe: Any, clip: int | None = None) -> None:
        self.pipe = pipe
        self.clip = self.rule.latents(self.clip_frames) if clip is None else clip
        if self.clip < 1 or self.clip % self.group:
            raise ValueError(f"a clip is whole groups of {self.group} latent frames: got {self.clip}")

    @classmethod
    @abstractmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """Variants of the family -> a pipeline of it with tiny random networks, made offline: for tests and trials."""

    @classmethod
    def drawn(cls) -> Mapping[str, Callable[[], Any]]:
        """Sizes of published checkpoints -> a pipeline of their shapes with random weights: for measuring speed.

        Its text encoder is a small one of the right width, since it runs once a video.
        """
        return {}

    @abstractmethod
    def text(self, prompts: Sequence[str]) -> Text:
        """Embedded prompts by the names of the network's arguments, as the family's pipeline embeds them."""

    def text_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of one prompt's text by the names of `text`: what `bench run --dry-run` counts a call with.

        {}: unknown, and then a dry run predicts nothing.
        """
        return {}

    @abstractmethod
    def call(
        self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor
    ) -> Any:  # with the answer as .sample, B C T H W
        """One call of the network; `timestep` is 0-d, or B T where `levels` is "frame"."""

    @abstractmethod
    def pixels(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 t h w"]:
        """Latents through the VAE in one pass; -1 is black, 1 is white."""

    @property
    def rule(self) -> FrameRule:
        """How latent frames become frames of the video."""
        return FrameRule(int(getattr(self.pipe, "vae_scale_factor_temporal", 1)))

    @property
    def size_step(self) -> int:
        """Pixels to a side that one place of the network stands for: sizes are multiples of it."""
        return int(self.pipe.vae_scale_factor_spatial)

    @property
    def scale(self) -> int:
        """Pixels to a side of a latent place."""
        return int(self.pipe.vae_scale_factor_spatial)

    @property
    def channels(self) -> int:
        """Of the latents."""
        return int(getattr(self.pipe, self.network).config.in_channels)

    @property
    def dtype(self) -> torch.dtype:
        """Of the sampler's latents."""
        return self.latent_dtype or getattr(self.pipe, self.network).dtype

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        device: torch.device = self.pipe._execution_device  # diffusers' own, offloading included
        return device

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """C H W of a latent frame at a size in pixels; None: the family's own size.

        Raises:
            ValueError: a side is no multiple of what the network divides it by.
        """
        sides = [given or own for given, own in zip((height, width), self.size, strict=True)]
        for side in sides:
            if side < self.size_step or side % self.size_step:
                below = max(self.size_step, side - side % self.size_step)
                raise ValueError(
                    f"height and width are multiples of {self.size_step} pixels: got {sides[0]} x {sides[1]}, try "
                    f"{below} or {below + self.size_step}"
                )
        return self.channels, sides[0] // self.scale, sides[1] // self.scale

    @torch.no_grad()
    def denoiser(
        self,
        prompts: Sequence[str],
        *,
        negative: str = "",
        guidance: float | None = None,
        blend: int = BLEND,  # frames around a change of a prompt in which both texts count
    ) -> GuidedDenoiser:
        """The network with text and guidance bound in, which is all that a sampler uses of it.

        Raises:
            ValueError: a negative prompt where guidance is embedded, or a prompt that changes along the video.
        """
        schedules = read_prompts(prompts)
        if changes(schedules):
            raise ValueError(
                "the network of this model takes one text a call: got a prompt that changes, use VidRD's, or one text"
            )
        prompts = [schedule.texts[0] for schedule in schedules]
        weight = self.guidance if guidance is None else guidance
        text = self.text(prompts)
        if self.embedded:
            if negative:
                raise ValueError(f"guidance of this model is embedded and steers away from nothing: got {negative!r}")
            scale = torch.full((len(prompts),), weight, dtype=getattr(self.pipe, self.network).dtype)
            text, weight = {**text, "guidance": scale.to(self.device)}, 1.0
        away = self.text([negative] * len(prompts)) if self.branches(weight) == 2 else None
        return GuidedDenoiser(
            self.call,
            text,
            away,
            weight,
            self.clip,
            self.longest,
            per_frame=self.levels == "frame",
            late=self.late,
            windowed=self.attend_in if self.windowed else None,
            extended=self.extend,
        )

    def attend_in(self, over_time: OverTime) -> AbstractContextManager[None]:
        """The network's temporal attention in windows while this is open; families that are `windowed` write it.

        Raises:
            ValueError: it cannot be cut.
        """
        raise ValueError("the temporal attention of this model cannot be cut in windows: use another method")

    def rotary(self) -> Rotary | None:
        """Its rotary positions, where RIFLEx's paper names the frequency of the family."""
        return None

    def decay(self) -> Decay | None:
        """How its logits decay, where UltraViCo's paper names the factors of the family."""
        return None

    def extend(self, way: str, frames: int) -> AbstractContextManager[None]:
        """The network for so many latent frames, more than in training, while this is open: riflex or ultravico.

        Raises:
            ValueError: the papers do not name this family.
        """
        rotary, decay = self.rotary(), self.decay()
        if way == "riflex" and rotary is not None:
            return slowed(rotary, frames)
        if way == "ultravico" and decay is not None:
            return decayed(decay, frames)
        raise ValueError(f"the authors of {way} name no numbers for {type(self).__name__}: use positions='trained'")

    @property
    def late(self) -> tuple[float, float] | None:
        """Another guidance below a timestep, where the family has one: (timestep, guidance)."""
        return None

    def branches(self, weight: float) -> int:
        """Network evaluations behind a call at that guidance."""
        return 1 if self.embedded or (weight == 1 and (self.late is None or self.late[1] == 1)) else 2

    @property
    def solver(self) -> str:
        """The solver of the pipeline's own scheduler."""
        if isinstance(self.pipe.scheduler, UniPCMultistepScheduler):
            return "unipc"
        return "dpmsolver++" if isinstance(self.pipe.scheduler, DPMSolverMultistepScheduler) else "ddim"

    def schedule(
        self,
        steps: int,
        solver: str = "ddim",
        shape: tuple[int, int, int] | None = None,  # T H W of the latents of a call, where shifts depend on it
    ) -> Schedule:
        """The levels of `steps` steps, as the pipeline's scheduler places them; None: a clip of the family's size."""
        whole = shape or (self.clip, *self.latent_shape()[1:])
        return schedule_of(solver, self.pipe.scheduler, steps, **self.timetable(steps, whole))

    def timetable(self, steps: int, shape: tuple[int, int, int]) -> dict[str, Any]:
        """What else the pipeline gives to its scheduler's set_timesteps, for a call of that shape (T H W)."""
        return {}

    @torch.no_grad()
    def decode(
        self,
        latents: Float[Tensor, "B C T H W"],
        *,
        clip: int | None = None,  # latent frames that a VAE sees together which was trained on clips
    ) -> UInt8[ndarray, "B t h w 3"]:
        """Whole videos, one after the other, each in one pass: a VAE that remembers must not begin anew at a seam."""
        vae, shown = self.pipe.vae, latents[:, :, self.rule.dropped :]
        return concatenate([to_uint8(self.pixels(one.to(vae.device, vae.dtype)).float()) for one in shown.split(1)])

    def networks(self) -> dict[str, nn.Module]:
        """All networks by the names of the pipeline: for counting, compiling, quantizing, offloading."""
        return {name: part for name, part in self.pipe.components.items() if isinstance(part, nn.Module)}

    @property
    def denoisers(self) -> tuple[str, ...]:
        """The components that denoise, by the names of the pipeline."""
        return tuple(name for name in (self.network, f"{self.network}_2") if getattr(self.pipe, name, None) is not None)

    def to(self, *where: Any) -> "Model":
        """Move or cast the networks for good."""
        self.pipe.to(*where)
        return self

    # The layout of the pipeline's own latents, where it is another one: what `call` packs, and the oracle compares.
    def packed(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "..."]:
        """Latents as the pipeline takes them."""
        return latents

    def unpacked(self, packed: Float[Tensor, "..."], shape: tuple[int, int, int]) -> Float[Tensor, "B C T H W"]:
        """And back; `shape` is T H W."""
        return packed
