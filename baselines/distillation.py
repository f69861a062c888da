"""Collaborative score distillation across windows (SynCoS, arXiv 2503.08605): windows share what they would change."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from baselines.fusion import answer_of, clean_of, fuse
from vidrd.schedule import Schedule


def distill(
    schedule: Schedule,
    seen: Sequence[Float[Tensor, "B C F H W"]],  # the states of the windows
    answers: Sequence[Float[Tensor, "B C F H W"]],  # what the network says of them
    ask: Callable[[list[Tensor]], list[Tensor]],  # states of all windows -> answers, at the level
    windows: Sequence[slice | Tensor],
    share: Float[Tensor, "..."],  # as of `fuse`
    baseline: Float[Tensor, "B C T H W"],  # noise of the whole video, the same at all levels
    level: int,
    passes: int,
) -> list[Float[Tensor, "B C F H W"]]:
    """Answers that mean refined clean frames.

    In every pass the fused clean frames are noised to the level with the baseline noise, the network says
    what they should be, and each window moves by the mean of what all windows should change, place by place: the more
    two windows are alike, the more one's change counts for the other.
    """
    parts = [clean_of(schedule, x, answer, level) for x, answer in zip(seen, answers, strict=True)]
    for _ in range(passes):
        whole = fuse(parts, windows, share, baseline.shape[2])
        parts = [whole[:, :, window] for window in windows]
        states = [
            schedule.noised(part, baseline[:, :, window], level).to(seen[0].dtype)
            for part, window in zip(parts, windows, strict=True)
        ]
        estimates = [clean_of(schedule, x, answer, level) for x, answer in zip(states, ask(states), strict=True)]
        changes = torch.stack([estimate - part for part, estimate in zip(parts, estimates, strict=True)])
        weights = likeness(torch.stack(parts))
        parts = [
            part + (weight[..., None, None, None, None] * changes).sum(dim=0)
            for part, weight in zip(parts, weights, strict=True)
        ]
    return [answer_of(schedule, x, part, level).to(x.dtype) for x, part in zip(seen, parts, strict=True)]


def likeness(parts: Float[Tensor, "V B C F H W"]) -> Float[Tensor, "V V B"]:
    """A Gaussian kernel between windows, whose width is their median distance; those of a window add up to 1."""
    square = torch.stack([(parts - part).flatten(2).square().sum(dim=-1) for part in parts])  # V V B
    apart = ~torch.eye(len(parts), dtype=torch.bool, device=parts.device)
    kernel = (-square / square[apart].median(dim=0).values.clamp(min=torch.finfo(parts.dtype).tiny)).exp()
    return kernel / kernel.sum(dim=1, keepdim=True)
