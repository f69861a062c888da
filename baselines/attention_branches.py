"""Temporal attention of a long video from two branches: one that sees all its frames, and one that sees clips.

In a clip's window it sees as many frames as in training. FreeLong (arXiv 2407.19918) takes high frequencies of that and
low ones of the whole video, FreeLong++ (arXiv 2507.00162) has windows of several lengths with a band each, FreePCA
(arXiv 2505.01172) chooses principal components.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from baselines.priors import gaussian_pass
from vidrd.models.blocks import Layer, TimeWindows


def whole(frames: int) -> TimeWindows:
    """The one window that sees all frames."""
    return TimeWindows(torch.arange(frames)[None], torch.ones(1, frames), frames)


@dataclass(frozen=True)
class SpectralBranches:
    """Every branch gives a band of frequencies over frames, height and width; the longer its windows, the lower.

    The bands add up to one, so that what all branches agree on passes unchanged.
    """

    branches: Sequence[TimeWindows]  # shortest windows first
    size: tuple[int, int]  # height and width of the latents
    cutoff: float = 0.25  # of the second branch, as a share of the highest frequency; halved for each one after it

    def __call__(self, layer: Layer, x: Float[Tensor, "BT S D"]) -> Float[Tensor, "BT S D"]:
        """Mixed in float32 at least.

        Networks that hand over places one by one (S = 1) have frequencies over frames alone.
        """
        first, *longer = self.branches
        height, width = places_of(x.shape[1], self.size)
        exact = torch.promote_types(x.dtype, torch.float32)
        mixed = before = first(layer, x).to(exact)
        for number, branch in enumerate(longer):
            answer = branch(layer, x).to(exact)
            keep = gaussian_pass(branch.frames, height, width, self.cutoff, self.cutoff / 2**number).to(x.device)
            over = (answer - before).unflatten(1, (height, width)).unflatten(0, (-1, branch.frames))  # B T H W D
            spectrum = torch.fft.rfftn(over, dim=(1, 2, 3)) * keep[:, :, : width // 2 + 1, None]
            low = torch.fft.irfftn(spectrum, s=over.shape[1:4], dim=(1, 2, 3))
            mixed, before = mixed + low.flatten(2, 3).flatten(0, 1), answer
        return mixed.to(x.dtype)


@dataclass(frozen=True)
class PrincipalBranches:
    """Of every window after the first, some principal components over its frames are the whole video's.

    The components are those of the whole video's answer, for each video by itself; the ones in which both branches are
    most alike are taken from it, and its mean over the window. The n-th window takes n, and at most `most`.
    """

    windows: TimeWindows
    most: int = 3

    def __call__(self, layer: Layer, x: Float[Tensor, "BT S D"]) -> Float[Tensor, "BT S D"]:
        """Mixed in float32 at least. Networks that hand over places one by one (S = 1) do so for each place."""
        exact = torch.promote_types(x.dtype, torch.float32)
        near = self.windows.apart(layer, x)  # B W F S D
        far = layer(x, self.windows.frames).unflatten(0, (-1, self.windows.frames))[:, self.windows.seen.to(x.device)]
        own, common = (each.to(exact).flatten(3).transpose(2, 3) for each in (near, far))  # B W SD F
        mean = common.mean(dim=-1, keepdim=True)
        spread = common - mean
        _, components = torch.linalg.eigh(spread.mT @ spread)  # B W F F
        a, b = (own - own.mean(dim=-1, keepdim=True)) @ components, spread @ components
        rank = F.cosine_similarity(a, b, dim=2).argsort(dim=-1, descending=True).argsort(dim=-1)  # B W F
        taken = torch.arange(near.shape[1], device=x.device).clamp(max=self.most)[:, None]
        mixed = torch.where((rank < taken)[:, :, None], b, a) @ components.mT + mean
        mixed = torch.where(taken[..., None] > 0, mixed, own)
        return self.windows.mean(mixed.transpose(2, 3).reshape(near.shape)).to(x.dtype)


def places_of(tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of that many tokens a frame: the latents', halved and rounded up as the U-Net's stages do.

    Raises:
        ValueError: no stage has so many.
    """
    height, width = size
    while height * width > tokens:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise ValueError(f"tokens are those of frames of {size[0]} x {size[1]} or halves of it: got {tokens} a frame")
    return height, width
