"""What becomes of the answers of windows that overlap: means, cuts, and clean frames for answers and back."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from baselines.windows import places
from vidrd.noise import Noise
from vidrd.schedule import Schedule


def fuse(
    parts: Sequence[Float[Tensor, "B C F H W"]],  # what each window says of its frames
    windows: Sequence[slice | Tensor],  # these frames
    share: Float[Tensor, "..."],  # W F, or W B F where videos differ; the shares of a frame add up to 1
    frames: int,
) -> Float[Tensor, "B C T H W"]:
    """The mean of the windows, frame by frame, in float32."""
    B, C, F, H, W = parts[0].shape
    whole = torch.zeros(B, C, frames, H, W, dtype=torch.promote_types(parts[0].dtype, torch.float32))
    whole = whole.to(parts[0].device)
    for part, window, weight in zip(parts, windows, share.to(whole), strict=True):
        whole[:, :, window] += part * weight.reshape(-1, 1, F, 1, 1)
    return whole


def cut_shares(starts: Sequence[int], clip: int, frames: int, noise: Noise, step: int) -> Float[Tensor, "W B F"]:
    """All or nothing: between neighbors a hard cut at a random frame of what they share, for every video and seam."""
    begins, cuts = torch.zeros(1, dtype=torch.long), []
    for seam, start in enumerate(starts):
        if seam + 1 < len(starts):
            normal = noise("cut", seam, (1, 1, 1, 1), step).flatten()
            uniform = torch.special.ndtr(normal.double()).clamp(max=1 - 1e-12)
            first = begins.clamp(min=starts[seam + 1])  # a cut before the last one would turn a window inside out
            ends = first + (uniform * (start + clip - first + 1)).long()
        else:
            ends = torch.tensor([frames])
        place = start + torch.arange(clip)
        begins, ends = torch.broadcast_tensors(begins, ends)
        cuts.append(((place >= begins[:, None]) & (place < ends[:, None])).double())
        begins = ends
    videos = max(len(share) for share in cuts)
    return torch.stack([share.expand(videos, -1) for share in cuts])


def overwritten_shares(
    starts: Sequence[int], clip: int, frames: int, noise: Noise, step: int
) -> Float[Tensor, "W B F"]:
    """StreamingT2V's cuts: a window begins at a frame drawn uniformly from those that it shares with the previous one.

    It is never used from the frame after these on, and overwrites what earlier windows say.
    """
    begins = [torch.zeros(1, dtype=torch.long)]
    for seam, (before, start) in enumerate(pairwise(starts)):
        normal = noise("cut", seam, (1, 1, 1, 1), step).flatten()
        uniform = torch.special.ndtr(normal.double()).clamp(max=1 - 1e-12)
        begins.append(start + (uniform * (before + clip - start)).long())
    begin = torch.stack(torch.broadcast_tensors(*begins))  # W B
    following = begin.flip(0).cummin(dim=0).values.flip(0)  # of a window and all later ones
    end = torch.cat([following[1:], torch.full_like(begin[:1], frames)])
    place = places(tuple(starts), clip)[:, None]
    return ((place >= begin[..., None]) & (place < end[..., None])).double()


def renewed(
    schedule: Schedule,
    x: Float[Tensor, "B C T H W"],
    answer: Float[Tensor, "B C T H W"],
    level: int,
    fresh: Float[Tensor, "B C T H W"],
) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B C T H W"]]:
    """The state of the same clean frames with other noise, and the network's answer that says so."""
    clean = clean_of(schedule, x, answer, level)
    other = schedule.noised(clean, fresh.to(clean), level).to(x.dtype)
    return other, answer_of(schedule, other, clean, level)


def clean_of(
    schedule: Schedule, x: Float[Tensor, "B C T H W"], answer: Float[Tensor, "B C T H W"], level: int
) -> Float[Tensor, "B C T H W"]:
    """The clean frames that an answer means, in float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    of_x, of_answer = schedule.clean_coefficients(level)
    return of_x * x.to(dtype) + of_answer * answer.to(dtype)


def answer_of(
    schedule: Schedule, x: Float[Tensor, "B C T H W"], clean: Float[Tensor, "B C T H W"], level: int
) -> Float[Tensor, "B C T H W"]:
    """The answer that means these clean frames: the inverse of `clean_of`."""
    of_x, of_answer = schedule.clean_coefficients(level)
    return (clean - of_x * x.to(clean)) / of_answer
