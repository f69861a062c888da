"""MUSIQ: the quality of one picture, from its patches at three scales.

Source: Ke et al. 2021, arXiv:2108.05997, with the sizes and the input of pyiqa's port, which VBench runs.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.networks.vit import ViTMlp

PATCH = 32  # pixels
GRID = 10  # a picture's patches share so many rows and columns of learned positions
LONGER = (224, 384)  # pixels of the longer side at the first scales; the last one is the picture as it is


class StandardizedConv(nn.Conv2d):
    """A convolution without bias whose kernels have mean 0 and deviation 1, padded with zeros as TensorFlow does."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D Y X"]:
        """Convolve."""
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(_pad_same(x, self.kernel_size[0], self.stride[0]), weight, stride=self.stride)


def _pad_same(x: Float[Tensor, "B C H W"], kernel: int, stride: int) -> Float[Tensor, "B C Y X"]:
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Bottleneck(nn.Module):
    """ResNet's bottleneck with group norms and a projected shortcut."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1, self.gn1 = StandardizedConv(channels, channels, 1), nn.GroupNorm(32, channels, eps=1e-4)
        self.conv2, self.gn2 = StandardizedConv(channels, channels, 3), nn.GroupNorm(32, channels, eps=1e-4)
        self.conv3, self.gn3 = StandardizedConv(channels, out, 1), nn.GroupNorm(32, out, eps=1e-4)
        self.conv_proj, self.gn_proj = StandardizedConv(channels, out, 1), nn.GroupNorm(32, out, eps=1e-4)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """One block."""
        y = F.relu(self.gn1(self.conv1(x)))
        y = F.relu(self.gn2(self.conv2(y)))
        return F.relu(self.gn3(self.conv3(y)) + self.gn_proj(self.conv_proj(x)))


class MusiqAttention(nn.Module):
    """Attention with three matrices.

    The published code pads every scale to a fixed number of tokens and scores those by -1000, which no token then sees;
    here they are not made.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """All tokens attend to all."""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MusiqBlock(nn.Module):
    """Attention and MLP, each behind a layer norm and around a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention, self.mlp = MusiqAttention(width, heads), ViTMlp(width, hidden)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """One block."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Positions(nn.Module):
    """Learned positions in a picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(1, GRID**2, width))


class Scales(nn.Module):
    """A learned vector for each scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_emb = nn.Parameter(torch.zeros(len(LONGER) + 1, width))


class Encoder(nn.Module):
    """Positions, scales, the class token and the blocks."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.posembed_input, self.scaleembed_input = Positions(width), Scales(width)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.transformer = nn.ModuleDict({f"encoderblock_{i}": MusiqBlock(width, heads, hidden) for i in range(layers)})

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B C"]:
        """The class token after the last norm; positions and scales are in the tokens already."""
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1)
        for block in self.transformer.values():
            x = block(x)
        return self.encoder_norm(x[:, 0])


class Musiq(nn.Module):
    """The network: 27.1 M parameters, one number in 0..100 a picture."""

    def __init__(self, *, width: int = 384, heads: int = 6, hidden: int = 1152, layers: int = 14) -> None:
        super().__init__()
        self.conv_root, self.gn_root = StandardizedConv(3, 64, 7, 2), nn.GroupNorm(32, 64, eps=1e-6)
        self.block1 = Bottleneck(64, 256)
        self.embedding = nn.Linear(256 * (PATCH // 4) ** 2, width)
        self.transformer_encoder = Encoder(width, heads, hidden, layers)
        self.head = nn.Linear(width, 1)

    def forward(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
        """Quality of pictures in [0, 1], of one size."""
        signed = (pictures - 0.5) * 2
        height, width = signed.shape[2:]
        tokens = []
        for scale, longer in enumerate((*LONGER, None)):
            sized = signed
            if longer is not None:
                ratio = longer / max(height, width)
                size = (round(height * ratio), round(width * ratio))
                sized = F.interpolate(signed, size, mode="bicubic", align_corners=False)
            tokens.append(self._tokens(sized, scale))
        return self.head(self.transformer_encoder(torch.cat(tokens, dim=1)))[:, 0]

    def _tokens(self, picture: Float[Tensor, "B 3 H W"], scale: int) -> Float[Tensor, "B N C"]:
        """One token a patch, row by row, with position and scale."""
        padded = _pad_same(picture, PATCH, PATCH)
        rows, columns = padded.shape[2] // PATCH, padded.shape[3] // PATCH
        patches = padded.unflatten(3, (columns, PATCH)).unflatten(2, (rows, PATCH)).permute(0, 2, 4, 1, 3, 5)
        embedded = self._embedded(patches.flatten(0, 2)).unflatten(0, (len(picture), rows * columns))
        return embedded + self._positions(rows, columns) + self.transformer_encoder.scaleembed_input.scale_emb[scale]

    def _embedded(self, patches: Float[Tensor, "N 3 32 32"]) -> Float[Tensor, "N C"]:
        x = F.relu(self.gn_root(self.conv_root(patches)))
        x = self.block1(F.max_pool2d(_pad_same(x, 3, 2), 3, 2))
        return self.embedding(x.permute(0, 2, 3, 1).flatten(1))

    def _positions(self, rows: int, columns: int) -> Float[Tensor, "N C"]:
        """A patch's row and column, each brought to 10 by nearest neighbor."""
        grid = torch.arange(GRID, dtype=torch.float32)[None, None]
        down, across = (F.interpolate(grid, count, mode="nearest")[0, 0].long() for count in (rows, columns))
        places = (down[:, None] * GRID + across).flatten()
        table = self.transformer_encoder.posembed_input.position_emb[0]
        return table[places.to(table.device)]
