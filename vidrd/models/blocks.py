"""Layers of the networks, written so that frames never move in memory.

Inside the networks a batch of clips is one tensor of frames, `(B*T) C H W` in channels-last memory, that is
B T H W C. Every layer reads that memory through a view:

    spatial layers      (B*T) C H W            a frame is a sample
    norms over a clip   B C (T*H) W            a clip is one tall picture
    temporal conv       B C T (H*W)            a 2-D convolution of 3 x 1
    spatial attention   (B*T) heads (H*W) d
    cross-attention     B heads (T*H*W) d      a clip's pixels ask one text
    temporal attention  B (H*W*heads) T d      every pixel of every head is a head

so no layer transposes or copies. Parameters carry the key names of the released checkpoints.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

Frames = Float[Tensor, "BT C H W"]
OtherFrames = Float[Tensor, "BT C2 H2 W2"]  # other channels or another size than the `Frames` next to it


def channels_last(x: Tensor) -> Tensor:
    """The same tensor with channels last in memory; no copy where it is already so."""
    return x.contiguous(memory_format=torch.channels_last)


def frames_of(clips: Float[Tensor, "B C T H W"]) -> Float[Tensor, "BT C H W"]:
    """Frames of a batch of clips one after the other, channels last in memory."""
    return channels_last(clips.transpose(1, 2).flatten(0, 1))


def as_clips(x: Frames, frames: int) -> Float[Tensor, "B C TH W"]:
    """View frames as clips, one tall picture each."""
    BT, C, H, W = x.shape
    return x.permute(0, 2, 3, 1).reshape(BT // frames, frames * H, W, C).permute(0, 3, 1, 2)


LARGE = 2**20  # numbers: from here on, PyTorch's own group norm is faster than the one that its compiler writes


@torch.library.custom_op("vidrd::group_norm", mutates_args=())
def kept_group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """PyTorch's own group norm, which a compiler calls and does not write anew. It has no gradient."""
    return F.group_norm(x, groups, weight, bias, eps)


@kept_group_norm.register_fake
def _(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)


def normalise(x: Float[Tensor, "B C H W"], norm: nn.GroupNorm) -> Float[Tensor, "B C H W"]:
    """Group normalization. On a CPU half precision goes by way of float32, whose kernel is three times as fast."""
    if x.device.type != "cpu":
        return norm(x)
    exact = torch.promote_types(x.dtype, torch.float32)
    compiled = torch.compiler.is_compiling() and not torch.is_grad_enabled()
    kernel = kept_group_norm if compiled and x.numel() >= LARGE else F.group_norm
    return kernel(x.to(exact), norm.num_groups, norm.weight.to(exact), norm.bias.to(exact), norm.eps).to(x.dtype)


def group_norm(x: Frames, norm: nn.GroupNorm, frames: int) -> Frames:
    """Group normalization whose statistics run over `frames` frames; 1: each frame by itself."""
    if frames == 1:
        return normalise(x, norm)
    BT, C, H, W = x.shape
    y = normalise(as_clips(x, frames), norm)
    return y.permute(0, 2, 3, 1).reshape(BT, H, W, C).permute(0, 3, 1, 2)


def sinusoids(positions: Num[Tensor, "..."], width: int) -> Float[Tensor, "... D"]:
    """Cosines, then sines, of geometrically falling frequencies: the embedding of a timestep in diffusion U-Nets."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, device=positions.device) / half)
    angles = positions[..., None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def frame_positions(frames: int, width: int, like: Tensor) -> Float[Tensor, "T D"]:
    """Sines and cosines of the frame index, interleaved: a parameter-free position embedding."""
    rate = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2, device=like.device) / width)
    angles = torch.arange(frames, device=like.device)[:, None] * rate
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)


class TimestepEmbedding(nn.Module):
    """Two linear layers over the sinusoids of a timestep."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.linear_1 = nn.Linear(channels, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... D"]:
        """Embed sinusoids."""
        return self.linear_2(F.silu(self.linear_1(x)))


class ResnetBlock(nn.Module):
    """Two convolutions on a frame, norms over `frames` frames, the time embedding between them.

    In the U-Net the norms run over the whole clip, as in the released code; in the VAE over single frames.
    """

    def __init__(self, in_channels: int, out_channels: int, *, groups: int, eps: float, time_width: int | None = None):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if time_width is not None:
            self.time_emb_proj = nn.Linear(time_width, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Frames, time: Float[Tensor, "B t D"] | None = None, frames: int = 1) -> OtherFrames:
        """`time` holds one embedding per clip (t = 1) or per frame (t = frames)."""
        h = self.conv1(F.silu(group_norm(x, self.norm1, frames)))
        if time is not None:
            shift = self.time_emb_proj(F.silu(time))
            h = h + shift.expand(-1, frames, -1).reshape(len(h), -1, 1, 1)
        h = self.conv2(F.silu(group_norm(h, self.norm2, frames)))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h


class TemporalConv(nn.Module):
    """Residual stack of [GroupNorm, SiLU, Dropout, Conv3d 3x1x1]; the last one starts at zero: the identity at first.

    A single frame passes through untouched. Source: the Temp-Conv of VidRD's architecture figure.
    """

    def __init__(self, channels: int, *, layers: int, groups: int, dropout: float = 0.1):
        super().__init__()
        stack: list[nn.Module] = []
        for _ in range(layers):
            conv = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
            stack += [nn.GroupNorm(groups, channels), nn.SiLU(), nn.Dropout(dropout), conv]
        self.convs = nn.ModuleList(stack)
        start_at_zero(stack[-1])

    def forward(self, x: Frames, frames: int) -> Frames:
        """Mix neighboring frames of each clip."""
        if frames == 1:
            return x
        BT, C, H, W = x.shape
        h = x.permute(0, 2, 3, 1).reshape(BT // frames, frames, H * W, C).permute(0, 3, 1, 2)
        for norm, act, dropout, conv in _fours(self.convs):
            h = F.conv2d(dropout(act(normalise(h, norm))), conv.weight.squeeze(-1), conv.bias, padding=(1, 0))
        return x + h.permute(0, 2, 3, 1).reshape(BT, H, W, C).permute(0, 3, 1, 2)


def start_at_zero(layer: nn.Module) -> None:
    """Initialize this layer to zero, so that the branch it ends adds nothing at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _fours(modules: nn.ModuleList) -> Iterator[tuple[Any, ...]]:
    return zip(*[iter(modules)] * 4, strict=True)


MOST_IN_A_LAUNCH = 65_535  # blocks of a CUDA grid's second axis, which attention kernels spend on batch x heads
FEW_FRAMES = 32  # up to here scores are small enough to be written down


def attend_in_time(
    q: Float[Tensor, "B P T d"], k: Float[Tensor, "B P T d"], v: Float[Tensor, "B P T d"]
) -> Float[Tensor, "B P T d"]:
    """Attention over the few frames of very many places: P is pixels times heads.

    The kernels for long sequences are slow or fail at that shape. On a CPU in float32 the scores are written out: as
    products, or, where a compiler can fuse them, as sums. On CUDA places are cut so that no launch exceeds its grid.
    """
    if q.device.type == "cpu" and q.dtype == torch.float32 and q.shape[2] <= FEW_FRAMES:
        scale = q.shape[-1] ** -0.5
        if torch.compiler.is_compiling():
            scores = (q[..., :, None, :] * k[..., None, :, :]).sum(-1) * scale
            return (scores.softmax(-1)[..., None] * v[..., None, :, :]).sum(-2)
        return ((q * scale) @ k.transpose(-1, -2)).softmax(-1) @ v
    places = max(1, MOST_IN_A_LAUNCH // len(q)) if q.is_cuda else q.shape[1]
    cuts = zip(q.split(places, 1), k.split(places, 1), v.split(places, 1), strict=True)
    parts = [F.scaled_dot_product_attention(*cut) for cut in cuts]
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class Attention(nn.Module):
    """Projections of multi-head attention; the caller decides how tokens are laid out."""

    def __init__(self, width: int, heads: int, context_width: int | None = None):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width or width, width, bias=False)
        self.to_v = nn.Linear(context_width or width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def spatial(self, x: Float[Tensor, "BT S D"]) -> Float[Tensor, "BT S D"]:
        """Each frame's tokens attend to the tokens of that frame."""
        q, k, v = (self._split(y) for y in self._of_itself(x))
        return self._join(F.scaled_dot_product_attention(q, k, v), x)

    def cross(self, x: Float[Tensor, "BT S D"], context: Float[Tensor, "B L E"]) -> Float[Tensor, "BT S D"]:
        """All tokens of a clip, or of a frame, attend to its context, whose keys and values are computed once."""
        q = self.to_q(x).reshape(len(context), -1, x.shape[-1])
        q, k, v = (self._split(y) for y in (q, self.to_k(context), self.to_v(context)))
        return self._join(F.scaled_dot_product_attention(q, k, v), x)

    def temporal(self, x: Float[Tensor, "BT S D"], frames: int) -> Float[Tensor, "BT S D"]:
        """Each token attends to the tokens of the same place in all frames of its clip."""
        q, k, v = (
            y.view(len(x) // frames, frames, -1, x.shape[-1] // self.heads).transpose(1, 2) for y in self._of_itself(x)
        )
        return self._join(attend_in_time(q, k, v), x)

    def _of_itself(self, x: Float[Tensor, "BT S D"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the same tokens."""
        return self.to_q(x), self.to_k(x), self.to_v(x)

    def _split(self, x: Float[Tensor, "BT S D"]) -> Float[Tensor, "BT h S d"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _join(self, y: Float[Tensor, "b h s d"], like: Float[Tensor, "BT S D"]) -> Float[Tensor, "BT S D"]:
        return self.to_out[0](y.transpose(1, 2).reshape(like.shape))


class GEGLU(nn.Module):
    """Linear layer gated by the GELU of its other half."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """Half of the projection times the GELU of the other half: D in, D_out out."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU of four times the width, then back."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Transform each token alone."""
        return self.net[2](self.net[0](x))


Layer = Callable[[Float[Tensor, "BT S D"], int], Float[Tensor, "BT S D"]]  # over time: (tokens, frames) -> tokens
# how a layer over time sees a video that is longer than a clip: (layer, tokens BT S D) -> tokens
OverTime = Callable[[Layer, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class TimeWindows:
    """Windows through which a layer over time sees a video longer than a clip (FreeNoise, arXiv 2310.15169).

    Called with a layer and tokens, every window is seen separately and a frame's answers are averaged.
    """

    seen: Int[Tensor, "W F"]  # frames of each window
    share: Float[Tensor, "W F"]  # weight of a window's answer for each of its frames; those of a frame add up to 1
    frames: int  # of the whole video

    def __call__(self, layer: Layer, x: Float[Tensor, "BT S D"]) -> Float[Tensor, "BT S D"]:
        """The mean over windows.

        Raises:
            ValueError: the windows are those of a longer or shorter video.
        """
        return self.mean(self.apart(layer, x))

    def apart(self, layer: Layer, x: Float[Tensor, "BT S D"]) -> Float[Tensor, "B W F S D"]:
        """What the layer answers to each window.

        Raises:
            ValueError: the windows are those of a longer or shorter video.
        """
        if len(x) % self.frames:
            raise ValueError(
                f"these windows are of {self.frames} frames: got {len(x)}, open them for the video's own length"
            )
        cut = x.unflatten(0, (-1, self.frames))[:, self.seen.to(x.device)]
        return layer(cut.flatten(0, 2), self.seen.shape[1]).view(cut.shape)

    def mean(self, answers: Float[Tensor, "B W F S D"]) -> Float[Tensor, "BT S D"]:
        """A frame's answers averaged, in float32 at least."""
        exact = torch.promote_types(answers.dtype, torch.float32)
        share = self.share.to(answers.device, exact)[..., None, None]
        whole = torch.zeros(len(answers), self.frames, *answers.shape[3:], dtype=exact, device=answers.device)
        whole.index_add_(1, self.seen.flatten().to(answers.device), (answers.to(exact) * share).flatten(1, 2))
        return whole.flatten(0, 1).to(answers.dtype)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, temporal attention, feed-forward: the order of VidRD's architecture figure.

    `embed` adds the sinusoid of the frame index to the token stream itself, also for a single frame: so the released
    weights were trained (their code adds it in place to a view of the stream). With `over_time` set, that decides which
    frames positions and temporal attention see; every sequence of frames begins at position 0.
    """

    def __init__(self, width: int, heads: int, context_width: int, *, embed: bool):
        super().__init__()
        self.embed = embed
        self.over_time: OverTime | None = None
        self.attn1 = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, context_width)
        self.norm2 = nn.LayerNorm(width)
        self.temp_attn = Attention(width, heads)
        self.temp_norm = nn.LayerNorm(width)
        self.ff = FeedForward(width)
        self.norm3 = nn.LayerNorm(width)
        start_at_zero(self.temp_attn.to_out)

    def forward(self, x: Float[Tensor, "BT S D"], context: Float[Tensor, "B L E"], frames: int) -> Tensor:
        """Tokens of frames in, tokens of frames out."""
        x = x + self.attn1.spatial(self.norm1(x))
        x = x + self.attn2.cross(self.norm2(x), context)
        x = self._over_time(x, frames) if self.over_time is None else self.over_time(self._over_time, x)
        return x + self.ff(self.norm3(x))

    def _over_time(self, x: Float[Tensor, "BT S D"], frames: int) -> Float[Tensor, "BT S D"]:
        if self.embed:
            position = frame_positions(frames, x.shape[-1], x)
            x = (x.unflatten(0, (-1, frames)) + position[:, None]).flatten(0, 1)
        if frames > 1:
            x = x + self.temp_attn.temporal(self.temp_norm(x), frames)
        return x


class Transformer(nn.Module):
    """One transformer block on the pixels of frames, between two projections; its own norm sees single frames."""

    def __init__(self, channels: int, heads: int, context_width: int, *, groups: int, linear: bool, embed: bool):
        super().__init__()
        project = nn.Linear if linear else lambda i, o: nn.Conv2d(i, o, 1)
        self.norm = nn.GroupNorm(groups, channels, 1e-6)
        self.proj_in = project(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, context_width, embed=embed)])
        self.proj_out = project(channels, channels)

    def forward(self, x: Frames, context: Float[Tensor, "B L E"], frames: int) -> Frames:
        """Mix pixels with pixels, text and other frames."""
        BT, C, H, W = x.shape
        tokens = normalise(x, self.norm).permute(0, 2, 3, 1).reshape(BT, H * W, C)
        tokens = self._project(self.proj_in, tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens, context, frames)
        tokens = self._project(self.proj_out, tokens)
        return x + tokens.reshape(BT, H, W, C).permute(0, 3, 1, 2)

    @staticmethod
    def _project(layer: nn.Module, tokens: Float[Tensor, "BT S D"]) -> Float[Tensor, "BT S D"]:
        """A 1x1 convolution is a linear layer on tokens: SD 1 stores the one, SD 2 the other."""
        return F.linear(tokens, layer.weight.flatten(1), layer.bias)  # type: ignore[operator,arg-type]


class Downsample(nn.Module):
    """Convolution of stride 2. `asymmetric` pads only at the right and below, as SD's VAE encoder does."""

    def __init__(self, channels: int, *, asymmetric: bool = False):
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Frames) -> OtherFrames:
        """Halve height and width, rounding up unless asymmetric."""
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Nearest-neighbor enlargement, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Frames, size: tuple[int, int] | None = None) -> OtherFrames:
        """Double height and width, or reach `size` exactly (odd sizes)."""
        x = F.interpolate(x, size=size, mode="nearest") if size else F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv(x)
