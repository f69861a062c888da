"""Sources of noise: noise named by a key, the released code's stream, and priors over frames.

A sampler asks for noise by purpose ("initial" for the start of a clip, "step" for what a step with eta adds), clip
and step. With `KeyedNoise` the answer depends on the key and the video's seed alone: batch, device, precision and the
order of the calls change nothing.
"""

import math
import operator
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Compat = Literal["paper", "released"]


@runtime_checkable
class Noise(Protocol):
    """Standard normal noise for every video of a batch."""

    def __call__(
        self,
        purpose: str,  # what it is for: part of the key
        clip: int,  # which clip of the video
        shape: tuple[int, int, int, int],  # C T H W of one video
        step: int = 0,  # denoising step
    ) -> Float[Tensor, "B C T H W"]:
        """float32 on the CPU."""
        ...


def video_noise(
    noise: Noise,
    frames: int,
    clip: int,
    shape: tuple[int, int, int],  # C H W
) -> Float[Tensor, "B C T H W"]:
    """The initial noise of a whole video: that of its clips one after the other, the last one cropped.

    A sampler that denoises all frames together thus starts from the same noise as one that works clip by clip.
    """
    C, H, W = shape
    clips = [noise("initial", number, (C, clip, H, W)) for number in range(math.ceil(frames / clip))]
    return torch.cat(clips, dim=2)[:, :, :frames]


def as_seed(seed: Any) -> int:
    """A seed as a Python integer, whatever kind of integer it is: NumPy's, or an array or tensor of no axis.

    Equal integers must give equal noise, so whatever is hashed or compared goes through here first.

    Raises:
        ValueError: it is no integer (a bool is none), or has more than the 64 bits that torch's generators take.
    """
    kind, axes = str(getattr(seed, "dtype", type(seed).__name__)), int(getattr(seed, "ndim", 0))
    if "bool" in kind or axes:
        raise ValueError(f"a seed is one integer: got {seed!r}, pass an int")
    try:
        number = operator.index(seed)
    except TypeError:
        raise ValueError(f"a seed is one integer: got {seed!r}, pass an int") from None
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"a seed has 64 bits, from -2**63 to 2**64 - 1: got {number}")
    return number


def as_seeds(seeds: Any, videos: int | None = None) -> tuple[int, ...]:
    """Seeds of several videos as Python integers; given a number of videos, one seed is the first one's, and counts up.

    Raises:
        ValueError: they are no sequence of as many integers.
    """
    axes = int(getattr(seeds, "ndim", 1))
    one = axes == 0 or not isinstance(seeds, Iterable)
    if one and videos is not None:
        seeds = range(as_seed(seeds), as_seed(seeds) + videos)
    elif one or isinstance(seeds, str | bytes) or axes != 1:
        raise ValueError(f"seeds are a sequence of integers, one for each video: got {seeds!r}")
    numbers = tuple(as_seed(seed) for seed in seeds)
    if videos not in (None, len(numbers)):
        raise ValueError(f"every video has a prompt and a seed: got {videos} prompts and {len(numbers)} seeds")
    return numbers


def draw_seeds(generators: torch.Generator | Sequence[torch.Generator], videos: int) -> tuple[int, ...]:
    """Seeds of videos from torch's generators: one that all are drawn from in order, or one generator for each video.

    Raises:
        ValueError: there are not as many generators as videos.
    """
    if isinstance(generators, torch.Generator):
        generators = [generators] * videos
    if len(generators) != videos:
        raise ValueError(f"generators are one for all videos or one for each: got {len(generators)} for {videos}")
    return tuple(int(torch.randint(2**62, (), generator=each, device=each.device)) for each in generators)


def check_alpha(alpha: float) -> None:
    """Raise ValueError if alpha is no weight by which noise can be mixed."""
    if not (0 <= alpha < math.inf and alpha * alpha < math.inf):
        raise ValueError(f"alpha is a weight from 0 (nothing is shared) upwards with a finite square: got {alpha}")


class KeyedNoise:
    """One generator for each video and key.

    The key (seed, purpose, clip, step) is hashed to the 128 bits of a Philox generator; torch's own CPU generator would
    keep only 32 of them, and a set of ten thousand videos would then hold equal noise.

    Raises:
        ValueError: a seed that is no integer of 64 bits.
    """

    def __init__(self, seeds: Iterable[int] | Any):  # integers of any kind, see as_seed
        self.seeds = as_seeds(seeds)

    def __call__(
        self, purpose: str, clip: int, shape: tuple[int, int, int, int], step: int = 0
    ) -> Float[Tensor, "B C T H W"]:
        """float32 on the CPU; equal keys give equal noise."""
        noise = np.empty((len(self.seeds), *shape), dtype=np.float32)
        clip, step = operator.index(clip), operator.index(step)  # the key is hashed as text: 3 and np.int64(3) are one
        for seed, out in zip(self.seeds, noise, strict=True):
            digest = blake2b(repr((seed, purpose, clip, step)).encode(), digest_size=16).digest()
            key = int.from_bytes(digest, "little")
            np.random.Generator(np.random.Philox(key=key)).standard_normal(dtype=np.float32, out=out)
        return torch.from_numpy(noise)


class StreamNoise:
    """The released code's noise: one generator for the whole batch, read in the order of the calls.

    The first clip is drawn frame by frame through the progressive prior, every later one in one piece. What a step adds
    is drawn as (B T) C H W, since that code folds frames into the batch before it steps. A video then depends on its
    neighbors in the batch: use it only to reproduce the released code's videos.

    Raises:
        ValueError: noise_alpha is no weight.
    """

    def __init__(
        self,
        generator: torch.Generator,
        batch: int,  # videos
        noise_alpha: float = 0.0,  # of the progressive prior of the first clip; 0: independent frames
    ):
        check_alpha(noise_alpha)
        self.generator, self.batch, self.noise_alpha = generator, batch, noise_alpha

    def __call__(
        self, purpose: str, clip: int, shape: tuple[int, int, int, int], step: int = 0
    ) -> Float[Tensor, "B C T H W"]:
        """float32 on the CPU; the next numbers of the stream."""
        C, T, H, W = shape
        if purpose == "step":
            return self._draw(self.batch * T, C, H, W).unflatten(0, (self.batch, T)).transpose(1, 2).contiguous()
        if purpose != "initial" or clip > 0:
            return self._draw(self.batch, *shape)
        frames = torch.cat([self._draw(self.batch, C, 1, H, W) for _ in range(T)], dim=2)
        return progressive(frames, self.noise_alpha, compat="released")

    def _draw(self, *shape: int) -> Float[Tensor, "..."]:
        device = self.generator.device
        return torch.randn(shape, generator=self.generator, device=device, dtype=torch.float32).cpu()


class GivenNoise:
    """The initial noise of all clips as it was given, one clip after the other; other noise from another source.

    Raises:
        ValueError: it has another shape than videos x channels x (clips x frames of a clip) x height x width.
    """

    def __init__(self, initial: Float[Tensor, "B C T H W"], shape: tuple[int, ...], clip: int, otherwise: Noise):
        if tuple(initial.shape) != shape:
            raise ValueError(
                f"latents are the initial noise of all clips, of shape {shape}: got {tuple(initial.shape)}"
            )
        self.initial, self.clip, self.otherwise = initial.detach().to("cpu", torch.float32), clip, otherwise

    def __call__(
        self, purpose: str, clip: int, shape: tuple[int, int, int, int], step: int = 0
    ) -> Float[Tensor, "B C T H W"]:
        """float32 on the CPU."""
        if purpose != "initial":
            return self.otherwise(purpose, clip, shape, step)
        return self.initial[:, :, clip * self.clip : (clip + 1) * self.clip]


def mixed(
    shared: Float[Tensor, "B C 1 H W"],
    own: Float[Tensor, "B C T H W"],
    alpha: float,  # [0, inf): 0 leaves the frames independent, the larger the more they share
    compat: Compat = "paper",
) -> Float[Tensor, "B C T H W"]:
    """PYoCo's mixed prior (arXiv 2305.10474): all frames share alpha^2/(1+alpha^2) of their variance.

    `released`: the released VidRD code multiplies by those variances where their roots belong.

    Raises:
        ValueError: alpha is no weight.
    """
    check_alpha(alpha)
    past, fresh = 1 - 1 / (1 + alpha**2), 1 / (1 + alpha**2)
    if compat == "released":
        return past * shared + fresh * own
    return math.sqrt(past) * shared + math.sqrt(fresh) * own


def progressive(
    own: Float[Tensor, "B C T H W"],
    alpha: float,  # [0, inf): 0 leaves the frames independent, the larger the slower they change
    compat: Compat = "paper",
) -> Float[Tensor, "B C T H W"]:
    """PYoCo's progressive prior (arXiv 2305.10474): each frame takes alpha^2/(1+alpha^2) of its variance from the last.

    `released`: the released VidRD code multiplies the fresh part by its variance where the root belongs.

    Raises:
        ValueError: alpha is no weight.
    """
    check_alpha(alpha)
    keep, fresh = alpha / math.sqrt(1 + alpha**2), 1 / (1 + alpha**2)
    if compat == "paper":
        fresh = math.sqrt(fresh)
    frames = [own[:, :, 0]]
    for frame in own.unbind(dim=2)[1:]:
        frames.append(keep * frames[-1] + fresh * frame)
    return torch.stack(frames, dim=2)
