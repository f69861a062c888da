"""CLIP's image and text towers under OpenAI's names, and ViCLIP's tower of clips, which is built of the same blocks."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

HEAD = 64  # channels of one head, in every CLIP
VOCABULARY = 49408  # tokens; the last one ends a text


class ClipAttention(nn.Module):
    """Multi-head attention with the names of `nn.MultiheadAttention`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B N C"], causal: bool) -> Float[Tensor, "B N C"]:
        """All tokens attend to all, or to those up to themselves."""
        q, k, v = (
            F.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2))


class ClipMlp(nn.Module):
    """Two linear layers around x sigmoid(1.702 x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Token by token."""
        hidden = self.c_fc(x)
        return self.c_proj(hidden * torch.sigmoid(1.702 * hidden))


class ClipBlock(nn.Module):
    """Attention and MLP, each behind a layer norm and around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn, self.ln_1 = ClipAttention(width), nn.LayerNorm(width)
        self.mlp, self.ln_2 = ClipMlp(width), nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "B N C"], causal: bool) -> Float[Tensor, "B N C"]:
        """One block."""
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([ClipBlock(width) for _ in range(layers)])

    def forward(self, x: Float[Tensor, "B N C"], causal: bool = False) -> Float[Tensor, "B N C"]:
        """All blocks."""
        for block in self.resblocks:
            x = block(x, causal)
        return x


class ImageTower(nn.Module):
    """CLIP's vision transformer of 224 x 224 frames: the class token, normed and projected.

    Source: Radford et al. 2021, arXiv:2103.00020.
    """

    def __init__(self, *, width: int, layers: int, patch: int, features: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(1 + (224 // patch) ** 2, width))
        self.proj = nn.Parameter(torch.zeros(width, features))
        self.conv1: nn.Module = nn.Conv2d(3, width, patch, patch, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, layers)

    def forward(self, frames: Float[Tensor, "B 3 224 224"]) -> Float[Tensor, "B F"]:
        """Image features, before any normalization of their length."""
        return self._pooled(self._tokens(self.conv1(frames)))

    def _tokens(self, grid: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N C"]:
        first = self.class_embedding.expand(len(grid), 1, -1)
        return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1) + self.positional_embedding

    def _pooled(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B F"]:
        return self.ln_post(self.transformer(self.ln_pre(tokens))[:, 0]) @ self.proj


class ClipTower(ImageTower):
    """ViCLIP's transformer of 8 frames: the tokens of all frames attend to each other, after one class token.

    Source: Wang et al. 2023, arXiv:2307.06942.
    """

    def __init__(self, *, width: int, layers: int, patch: int, features: int, frames: int = 8) -> None:
        super().__init__(width=width, layers=layers, patch=patch, features=features)
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, frames, width))

    def forward(self, clips: Float[Tensor, "B 3 8 224 224"]) -> Float[Tensor, "B F"]:
        """Features of clips; a token's place in its frame comes before its frame's place in time."""
        grid = self.conv1(clips)
        batch, frames = len(grid), grid.shape[2]
        tokens = self._tokens(grid.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, frames))
        later = (tokens[:, :, 1:] + self.temporal_positional_embedding[:, :, None]).transpose(1, 2).flatten(1, 2)
        return self._pooled(torch.cat([tokens[:, 0, :1], later], dim=1))


class TextTower(nn.Module):
    """CLIP's text transformer: the token that ends the text, normed and projected."""

    def __init__(self, *, width: int, layers: int, features: int, length: int = 77) -> None:
        super().__init__()
        self.length = length
        self.positional_embedding = nn.Parameter(torch.zeros(length, width))
        self.text_projection = nn.Parameter(torch.zeros(width, features))
        self.transformer = Transformer(width, layers)
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.ln_final = nn.LayerNorm(width)

    def forward(self, tokens: Int64[Tensor, "B N"]) -> Float[Tensor, "B F"]:
        """Text features of rows of ids, padded by zeros; a text ends at its highest id."""
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        x = self.ln_final(self.transformer(x, causal=True))
        return x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ self.text_projection
