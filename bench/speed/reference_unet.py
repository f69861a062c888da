"""The U-Net's mathematics in the plainest code: the yardstick of speed, and of equality.

    plain(weights, config, sample, timestep, context)       # one call for each branch of guidance

Activations are B C T H W, as in the equations; every layer transposes them to the layout that its textbook operation
takes, and back. Nothing is fused, cached or shared between calls. It reads the weights of
`vidrd.models.unet.UNet3DConditionModel` by their names and shares no code with it: the tests hold the two equal, and
the suite `speed` begins its ladder here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

Clips = Float[Tensor, "B C T H W"]
OtherClips = Float[Tensor, "B C2 T H2 W2"]
Tokens = Float[Tensor, "N S D"]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # query, key, value: N heads S d


def textbook(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention as it is written down: every score is there at one time."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.softmax(dim=-1) @ value


@dataclass(frozen=True)
class Weights:
    """The part of a state dict under a prefix, and the operations that take their weights from it."""

    tensors: Mapping[str, Tensor]
    groups: int  # of group norms
    attend: Attend
    prefix: str = ""

    def at(self, *names: object) -> "Weights":
        """A part of this part."""
        return Weights(self.tensors, self.groups, self.attend, self.prefix + "".join(f"{name}." for name in names))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.prefix + name]

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.tensors

    def linear(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """A linear layer, or a convolution of 1 x 1 as one."""
        return F.linear(x, self["weight"].flatten(1), self.tensors.get(f"{self.prefix}bias"))

    def conv(self, x: Clips, stride: int = 1) -> OtherClips:
        """A 2-D convolution of every frame."""
        padding = self["weight"].shape[-1] // 2
        return to_clips(F.conv2d(to_frames(x), self["weight"], self["bias"], stride, padding), x.shape[2])

    def group_norm(self, x: Clips, eps: float = 1e-5) -> Clips:
        """Group norm whose statistics run over the whole clip."""
        return F.group_norm(x, self.groups, self["weight"], self["bias"], eps)

    def layer_norm(self, x: Tokens) -> Tokens:
        """Layer norm of every token."""
        return F.layer_norm(x, x.shape[-1:], self["weight"], self["bias"])


def to_frames(x: Clips) -> Float[Tensor, "BT C H W"]:
    """B C T H W -> (B T) C H W."""
    B, C, T, H, W = x.shape
    return x.transpose(1, 2).reshape(B * T, C, H, W).contiguous()


def to_clips(x: Float[Tensor, "BT C H W"], frames: int) -> Clips:
    """(B T) C H W -> B C T H W."""
    BT, C, H, W = x.shape
    return x.reshape(BT // frames, frames, C, H, W).transpose(1, 2).contiguous()


def sinusoids(positions: Tensor, width: int) -> Float[Tensor, "... D"]:
    """Cosines, then sines of the positions times 10000^(-i / (width / 2))."""
    rates = torch.exp(torch.arange(width // 2, device=positions.device) * (-math.log(10000.0) / (width // 2)))
    angles = positions[..., None].float() * rates
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


def places(frames: int, width: int, like: Tensor) -> Float[Tensor, "T D"]:
    """Sine in the even, cosine in the odd columns of the frame's index."""
    table = torch.zeros(frames, width, device=like.device)
    angles = torch.arange(frames, device=like.device)[:, None] / 10000 ** (
        torch.arange(0, width, 2, device=like.device) / width
    )
    table[:, 0::2], table[:, 1::2] = torch.sin(angles), torch.cos(angles)
    return table.to(like.dtype)


def residual(w: Weights, x: Clips, time: Float[Tensor, "B t D"]) -> OtherClips:
    """Norm, SiLU, convolution, twice; the time embedding in between; the input added."""
    h = w.at("conv1").conv(F.silu(w.at("norm1").group_norm(x)))
    h = h + w.at("time_emb_proj").linear(F.silu(time)).transpose(1, 2)[..., None, None]
    h = w.at("conv2").conv(F.silu(w.at("norm2").group_norm(h)))
    return h + (w.at("conv_shortcut").conv(x) if "conv_shortcut.weight" in w else x)


def temporal_conv(w: Weights, x: Clips) -> Clips:
    """Four times norm, SiLU and a convolution of 3 x 1 x 1, and the input added; a single frame passes."""
    if x.shape[2] == 1:
        return x
    h = x
    for i in range(0, 16, 4):
        h = F.silu(w.at("convs", i).group_norm(h))
        conv = w.at("convs", i + 3)
        h = F.conv3d(h, conv["weight"], conv["bias"], padding=(1, 0, 0))
    return x + h


def attention(w: Weights, x: Tokens, context: Float[Tensor, "N L E"], heads: int) -> Tokens:
    """Multi-head attention of tokens to a context."""

    def split(y: Float[Tensor, "N L D"]) -> Float[Tensor, "N h L d"]:
        N, L, D = y.shape
        return y.reshape(N, L, heads, D // heads).transpose(1, 2).contiguous()

    query, key, value = (split(w.at(f"to_{n}").linear(y)) for n, y in (("q", x), ("k", context), ("v", context)))
    mixed = w.attend(query, key, value)
    return w.at("to_out", 0).linear(mixed.transpose(1, 2).reshape(x.shape).contiguous())


def over_time(w: Weights, x: Tokens, frames: int, heads: int, *, embed: bool) -> Tokens:
    """Places added, then attention of every pixel to itself in all frames, added: (B T) S D in and out."""
    BT, S, D = x.shape
    if embed:
        x = x + places(frames, D, x).repeat(BT // frames, 1)[:, None]
    if frames == 1:
        return x
    by_pixel = x.reshape(-1, frames, S, D).transpose(1, 2).reshape(-1, frames, D).contiguous()
    normed = w.at("temp_norm").layer_norm(by_pixel)
    by_pixel = by_pixel + attention(w.at("temp_attn"), normed, normed, heads)
    return by_pixel.reshape(-1, S, frames, D).transpose(1, 2).reshape(BT, S, D).contiguous()


def feed_forward(w: Weights, x: Tokens) -> Tokens:
    """GEGLU, then back to the width."""
    value, gate = w.at("net", 0, "proj").linear(x).chunk(2, dim=-1)
    return w.at("net", 2).linear(value * F.gelu(gate))


def transformer(w: Weights, x: Clips, context: Float[Tensor, "B L E"], heads: int, *, embed: bool) -> Clips:
    """Pixels of a frame to each other, to the text, to themselves in time; then each alone."""
    B, C, T, H, W = x.shape
    frames = to_frames(x)
    norm = w.at("norm")
    tokens = F.group_norm(frames, w.groups, norm["weight"], norm["bias"], 1e-6)
    tokens = w.at("proj_in").linear(tokens.flatten(2).transpose(1, 2).contiguous())
    block = w.at("transformer_blocks", 0)
    normed = block.at("norm1").layer_norm(tokens)
    tokens = tokens + attention(block.at("attn1"), normed, normed, heads)
    text = context.repeat_interleave(T, dim=0)
    tokens = tokens + attention(block.at("attn2"), block.at("norm2").layer_norm(tokens), text, heads)
    tokens = over_time(block, tokens, T, heads, embed=embed)
    tokens = tokens + feed_forward(block.at("ff"), block.at("norm3").layer_norm(tokens))
    tokens = w.at("proj_out").linear(tokens).transpose(1, 2).reshape(B * T, C, H, W)
    return x + to_clips(tokens, T)


@torch.no_grad()
def plain(
    weights: Mapping[str, Tensor],  # state dict of a UNet3DConditionModel
    config: Any,  # its configuration
    sample: Clips,
    timestep: Num[Tensor, "..."],  # 0-d, one a sample (B) or one a frame (B T)
    context: Float[Tensor, "B L D"],
    *,
    attend: Attend = textbook,
) -> Clips:
    """The network's prediction, in the dtype of the weights, which is that of the sample."""
    w = Weights(weights, config.norm_num_groups, attend)
    B, _, T, _, _ = sample.shape
    widths = list(config.block_out_channels)
    stages, blocks = len(widths), config.layers_per_block
    heads = config.attention_head_dim
    heads = [heads] * stages if isinstance(heads, int) else list(heads)

    times = timestep.expand(B)[:, None] if timestep.ndim == 0 else timestep.reshape(B, -1)
    embedding = w.at("time_embedding")
    time = embedding.at("linear_1").linear(sinusoids(times, widths[0]).to(sample.dtype))
    time = embedding.at("linear_2").linear(F.silu(time))

    def layer(at: Weights, index: int, x: Tensor, count: int) -> Tensor:
        x = residual(at.at("resnets", index), x, time)
        if "temp_convs.0.convs.0.weight" in at:
            x = temporal_conv(at.at("temp_convs", index), x)
        if f"attentions.{index}.norm.weight" in at:
            x = transformer(at.at("attentions", index), x, context, count, embed=config.add_temp_embed)
        return x

    x = w.at("conv_in").conv(sample)
    states = [x]
    for stage in range(stages):
        at = w.at("down_blocks", stage)
        for index in range(blocks):
            x = layer(at, index, x, heads[stage])
            states.append(x)
        if stage < stages - 1:
            x = at.at("downsamplers", 0, "conv").conv(x, stride=2)
            states.append(x)
    for index in range(2):
        x = layer(w.at("mid_block"), index, x, heads[-1])
    for stage in range(stages):
        at = w.at("up_blocks", stage)
        for index in range(blocks + 1):
            x = layer(at, index, torch.cat([x, states.pop()], dim=1), heads[-1 - stage])
        if stage < stages - 1:
            larger = F.interpolate(to_frames(x), size=states[-1].shape[-2:], mode="nearest")
            x = at.at("upsamplers", 0, "conv").conv(to_clips(larger, T))
    return w.at("conv_out").conv(F.silu(w.at("conv_norm_out").group_norm(x)))
