"""Windows longer than a network with rotary positions was trained on, by hooks that leave nothing behind.

`riflex` (arXiv 2502.15894, equation 8) slows the k-th frequency of time, the one whose period content repeats with, to
less than one period over the whole video. `ultravico` (arXiv 2511.20123) multiplies positive logits of keys outside
the trained window around a query. Numbers are those of the authors' code (thu-ml/DiT-Extrapolation): k is 4 in
HunyuanVideo, 2 in CogVideoX, 6 in Wan; the decay is 0.9, and 0.6 near HunyuanVideo's harmonics.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

WITHIN = 0.9  # of a period, that the slowed frequency goes through: the authors' margin
ROWS = 1024  # queries whose logits are held at once


class Rotary(NamedTuple):
    """The rotary positions of a network."""

    tables: Sequence[tuple[Any, str]]  # owner and name of every function that makes cosines and sines, ... D
    dim: int  # channels of time, the first of them
    intrinsic: int  # k, counted from 1


class Decay(NamedTuple):
    """What UltraViCo does to logits."""

    attention: Sequence[nn.Module]  # the modules of self-attention, called with the video's tokens first
    window: int  # latent frames that the network was trained on
    far: float = 0.9  # factor of positive logits outside the window around a query
    harmonic: float | None = None  # factor near multiples of `period`; None: as far
    period: int = 0  # frames
    around: int = 4  # frames to either side of a multiple
    cut_first: bool = False  # the first frame sees no frame beyond the first window


@contextmanager
def slowed(rotary: Rotary, frames: int) -> Iterator[None]:
    """The intrinsic frequency within one period over so many frames, while this is open; shorter videos stay."""
    if 2 * rotary.intrinsic > rotary.dim:
        raise ValueError(
            f"riflex slows frequency {rotary.intrinsic} of time, and this network has {rotary.dim // 2}: use another "
            "network"
        )
    with wrapped([(*table, partial(_slow, rotary.intrinsic, frames)) for table in rotary.tables]):
        yield


def _slow(intrinsic: int, frames: int, table: Callable[..., tuple[Tensor, Tensor]], *args: Any, **more: Any) -> Any:
    cos, sin = table(*args, **more)
    places = math.prod(cos.shape[:-1]) // frames  # of a frame
    pair = slice(2 * intrinsic - 2, 2 * intrinsic)
    if frames < 2:
        return cos, sin
    sine, cosine = (float(value.reshape(-1, value.shape[-1])[places, pair.start]) for value in (sin, cos))
    if frames * math.atan2(sine, cosine) <= 2 * math.pi:  # one period holds them all
        return cos, sin
    angles = torch.arange(frames, dtype=torch.float64) * (WITHIN * 2 * math.pi / frames)
    angles = angles.repeat_interleave(places).reshape(*cos.shape[:-1], 1).to(cos.device)
    cos, sin = cos.clone(), sin.clone()
    cos[..., pair], sin[..., pair] = angles.cos().to(cos), angles.sin().to(sin)
    return cos, sin


@contextmanager
def decayed(decay: Decay, frames: int) -> Iterator[None]:
    """Self-attention whose far positive logits are smaller, while this is open; trained lengths stay."""
    if frames <= decay.window:
        yield
        return
    with wrapped([(module, "forward", partial(_attend, decay, frames)) for module in decay.attention]):
        yield


def _attend(
    decay: Decay, frames: int, forward: Callable[..., Any], hidden_states: Tensor, *args: Any, **more: Any
) -> Any:
    with _Decayed(decay, frames, hidden_states.shape[1]):
        return forward(hidden_states, *args, **more)


class _Decayed(TorchFunctionMode):
    """PyTorch's attention with logits that decay; all tokens of the video come first."""

    def __init__(self, decay: Decay, frames: int, tokens: int) -> None:
        super().__init__()
        self._decay, self._frames, self._tokens = decay, frames, tokens

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self._attention(*args, **(kwargs or {}))

    def _attention(
        self,
        query: Float[Tensor, "B N L D"],
        key: Float[Tensor, "B N S D"],
        value: Float[Tensor, "B N S D"],
        attn_mask: Bool[Tensor, "..."] | None = None,
        scale: float | None = None,
        **_: Any,
    ) -> Float[Tensor, "B N L D"]:
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        parts = []
        for first in range(0, query.shape[-2], ROWS):
            rows = query[..., first : first + ROWS, :]
            logits = (rows @ key.transpose(-1, -2)).float() * scale
            factor, hidden = self._factors(first, rows.shape[-2], key.shape[-2], key.device)
            logits = torch.where(logits > 0, logits * factor, logits).masked_fill(hidden, -math.inf)
            if attn_mask is not None:
                mask = attn_mask if attn_mask.shape[-2] == 1 else attn_mask[..., first : first + ROWS, :]
                logits = logits.masked_fill(~mask, -math.inf)
            parts.append(logits.softmax(dim=-1).to(value.dtype) @ value)
        return torch.cat(parts, dim=-2)

    def _factors(self, first: int, rows: int, keys: int, device: Any) -> tuple[Tensor, Tensor]:
        """Of so many queries: the factor of each positive logit, and the logits that count for nothing."""
        decay, frame = self._decay, self._tokens // self._frames
        query = torch.arange(first, first + rows, device=device)[:, None]
        key = torch.arange(keys, device=device)[None, :]
        distance, video = (query - key).abs(), (query < self._tokens) & (key < self._tokens)
        factor = torch.where(video & (distance > frame * decay.window / 2), decay.far, 1.0)
        if decay.harmonic is not None:
            beside = (distance + decay.around * frame) % (decay.period * frame)
            near = (beside <= 2 * decay.around * frame) & (distance >= (decay.period - decay.around) * frame)
            factor = torch.where(video & near, decay.harmonic, factor)
        hidden = video & (query < frame) & (key >= decay.window * frame) if decay.cut_first else torch.zeros_like(video)
        return factor, hidden


@contextmanager
def wrapped(hooks: Sequence[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Functions of objects (owner, name) each wrapped in another, which gets it as its first argument, while open."""
    before: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, wrapper in hooks:
            before.append((owner, name, owner.__dict__.get(name)))
            setattr(owner, name, partial(wrapper, getattr(owner, name)))
        yield
    finally:
        for owner, name, own in reversed(before):
            delattr(owner, name)
            if own is not None:  # somebody else's hook
                setattr(owner, name, own)
