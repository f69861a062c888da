"""Vision transformers under timm's names: DINO's of frames, VideoMAE-v2's and V-JEPA's of clips.

The three share one block. They differ in how pixels become tokens, in the positions that are added, and in what is made
of the last tokens; each class follows the code that its published numbers were made with.
"""

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

SLACK = 0.1  # tokens that DINO and VideoMAE-v2 add to a grid before they divide, against rounding; it moves samples


class ViTAttention(nn.Module):
    """Self-attention by one matrix for queries, keys and values.

    `key_bias=False` is VideoMAE's: the biases of queries and values are tensors of their own, keys have none.
    """

    def __init__(self, width: int, heads: int, *, key_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=key_bias)
        self.proj = nn.Linear(width, width)
        if not key_bias:
            self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """All tokens attend to all."""
        bias = self.qkv.bias
        if bias is None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ViTMlp(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Token by token."""
        return self.fc2(F.gelu(self.fc1(x)))


class ViTBlock(nn.Module):
    """Attention and MLP, each behind a layer norm and around a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, *, key_bias: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = ViTAttention(width, heads, key_bias=key_bias), ViTMlp(width, hidden)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """One block."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Pixels to tokens; the columns, rows and frames beyond the last whole patch are not read."""

    def __init__(self, width: int, patch: tuple[int, ...]) -> None:
        super().__init__()
        self.proj: nn.Conv2d | nn.Conv3d
        if len(patch) == 2:
            self.proj = nn.Conv2d(3, width, (patch[0], patch[1]), (patch[0], patch[1]))
        else:
            self.proj = nn.Conv3d(3, width, (patch[0], patch[1], patch[2]), (patch[0], patch[1], patch[2]))

    def forward(self, x: Float[Tensor, "B 3 *size"]) -> Float[Tensor, "B C *grid"]:
        """The grid of tokens."""
        return self.proj(x)


class Dino(nn.Module):
    """ViT-B/16: 85.8 M parameters, the class token after the last norm.

    Positions of a grid other than 14 x 14 are resampled bicubically by the factors (rows + 0.1) / 14 and
    (columns + 0.1) / 14, not to a size: the 0.1 moves every sample.

    Source: Caron et al. 2021, arXiv:2104.14294.
    """

    def __init__(self, *, width: int = 768, depth: int = 12, heads: int = 12, patch: int = 16, grid: int = 14) -> None:
        super().__init__()
        self.grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.patch_embed = PatchEmbedding(width, (patch, patch))
        self.blocks = nn.ModuleList([ViTBlock(width, heads, 4 * width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, frames: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """The class token of every frame, before any normalization of its length."""
        tokens = self.patch_embed(frames)
        square = frames.shape[2] == frames.shape[3]
        positions = self._positions(tokens.shape[2], tokens.shape[3], square=square)
        x = torch.cat([self.cls_token.expand(len(frames), -1, -1), tokens.flatten(2).transpose(1, 2)], dim=1)
        x = x + positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def _positions(self, rows: int, columns: int, *, square: bool) -> Float[Tensor, "1 N C"]:
        if square and rows * columns == self.grid**2:
            return self.pos_embed
        table = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        factors = [(rows + SLACK) / self.grid, (columns + SLACK) / self.grid]
        sized = F.interpolate(table, scale_factor=factors, mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], sized.flatten(2).transpose(1, 2)], dim=1)


class VideoMae(nn.Module):
    """VideoMAE-v2 ViT-g/14 with the mean of its tokens and a norm: 1.01 G parameters, 1408 features a clip.

    Positions are a fixed table of sines over the flat index of a token, made for 16 frames and resampled in time for
    other lengths.

    Source: Wang et al. 2023, arXiv:2303.16727, as content-debiased-fvd runs it.
    """

    def __init__(self, *, width: int = 1408, depth: int = 40, heads: int = 16, hidden: int = 6144) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(width, (2, 14, 14))
        self.blocks = nn.ModuleList([ViTBlock(width, heads, hidden, key_bias=False) for _ in range(depth)])
        self.fc_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, clips: Float[Tensor, "B 3 T 224 224"]) -> Float[Tensor, "B C"]:
        """The normed mean of the tokens of every clip."""
        tokens = self.patch_embed(clips)
        x = tokens.flatten(2).transpose(1, 2) + self._positions(tokens)
        for block in self.blocks:
            x = block(x)
        return self.fc_norm(x.mean(dim=1))

    def _positions(self, tokens: Float[Tensor, "B C D H W"]) -> Float[Tensor, "1 N C"]:
        width, depth, rows, columns = tokens.shape[1:]
        table = sine_table(8 * rows * columns, width).to(tokens)
        if depth == 8:
            return table[None]
        grid = table.unflatten(0, (8, rows, columns)).permute(3, 0, 1, 2)[None]
        factors = [(depth + SLACK) / 8, 1.0, 1.0]
        sized = F.interpolate(grid, scale_factor=factors, mode="trilinear", align_corners=False)
        return sized.flatten(2).transpose(1, 2)


def sine_table(positions: int, width: int) -> Float32[Tensor, "N C"]:
    """Sines of position / 10000^(2 (j // 2) / width) for even j, cosines for odd; computed in float64."""
    channel = torch.arange(width, dtype=torch.float64)
    rate = 10000 ** (2 * torch.div(channel, 2, rounding_mode="floor") / width)
    angle = torch.arange(positions, dtype=torch.float64)[:, None] / rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


class VJepa(nn.Module):
    """V-JEPA's ViT-H/16 encoder: 634 M parameters, 1280 features a token of 2 x 16 x 16 pixels.

    Positions are in the file, for 16 frames of 224 x 224, and are resampled trilinearly for clips of other sizes.

    Source: Bardes et al. 2024, arXiv:2404.08471.
    """

    def __init__(self, *, width: int = 1280, depth: int = 32, heads: int = 16, hidden: int = 5120) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 8 * 14 * 14, width))
        self.patch_embed = PatchEmbedding(width, (2, 16, 16))
        self.blocks = nn.ModuleList([ViTBlock(width, heads, hidden) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, clips: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B N C"]:
        """All tokens, after the last norm."""
        tokens = self.patch_embed(clips)
        table = self.pos_embed.unflatten(1, (8, 14, 14)).permute(0, 4, 1, 2, 3)
        if tokens.shape[2:] != table.shape[2:]:
            table = F.interpolate(table, size=list(tokens.shape[2:]), mode="trilinear", align_corners=False)
        x = (tokens + table).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class CrossAttention(nn.Module):
    """A query attends to all tokens; `project` says whether the output goes through `proj`."""

    def __init__(self, width: int, heads: int, *, project: bool) -> None:
        super().__init__()
        self.heads, self.project = heads, project
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, query: Float[Tensor, "B 1 C"], x: Float[Tensor, "B N C"]) -> Float[Tensor, "B 1 C"]:
        """What the query reads from the tokens."""
        q = self.q(query).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.proj(out) if self.project else out


class CrossAttentionBlock(nn.Module):
    """Cross-attention and MLP around shortcuts of the query."""

    def __init__(self, width: int, heads: int, hidden: int, *, project: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.xattn, self.mlp = CrossAttention(width, heads, project=project), ViTMlp(width, hidden)

    def forward(self, query: Float[Tensor, "B 1 C"], x: Float[Tensor, "B N C"]) -> Float[Tensor, "B 1 C"]:
        """One block."""
        query = query + self.xattn(query, self.norm1(x))
        return query + self.mlp(self.norm2(query))


class Pooler(nn.Module):
    """V-JEPA's attentive pooler of the Something-Something probe: one learned query reads all tokens.

    `project=True` is what the package vjepa 0.1.2 computes, and so JEDi; facebookresearch/jepa leaves the layer
    `xattn.proj` out, and the outputs differ wholly.
    """

    def __init__(self, *, width: int = 1280, heads: int = 16, hidden: int = 5120, project: bool = True) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, width))
        self.cross_attention_block = CrossAttentionBlock(width, heads, hidden, project=project)

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B C"]:
        """One vector a clip."""
        return self.cross_attention_block(self.query_tokens.expand(len(tokens), -1, -1), tokens)[:, 0]
