"""The samplers that the bench compares. A new one is a file in baselines/ and a line here."""

from collections.abc import Callable
from typing import Any, NamedTuple

import baselines.direct
import baselines.independent
import vidrd.sampling
from vidrd.sampling import Plan, Result


class Method(NamedTuple):
    """One way to make a long video."""

    plan: Callable[..., Plan]  # (request, steps, options)
    sample: Callable[..., Result]  # (denoise, schedule, request, options, *, noise, on_event, device, dtype)
    options: Callable[[int], Any]  # overlap in frames -> the method's options
    takes_overlap: bool  # False: the overlap changes nothing, so a sweep runs the method once
    paper: str
    summary: str  # one line


METHODS: dict[str, Method] = {
    "vidrd": Method(
        plan=vidrd.sampling.plan,
        sample=vidrd.sampling.sample,
        options=lambda overlap: vidrd.sampling.Options(overlap=overlap),
        takes_overlap=True,
        paper="Gu et al. 2023, Reuse and Diffuse, arXiv 2309.03549",
        summary="each clip from the last one's noise, reversed, its first frames guided by the last one's states",
    ),
    "independent": Method(
        plan=baselines.independent.plan,
        sample=baselines.independent.sample,
        options=lambda overlap: baselines.independent.Options(),
        takes_overlap=False,
        paper="null model",
        summary="unrelated clips: a hard cut at every seam",
    ),
    "independent-shared": Method(
        plan=baselines.independent.plan,
        sample=baselines.independent.sample,
        options=lambda overlap: baselines.independent.Options(shared_noise=True),
        takes_overlap=False,
        paper="null model",
        summary="every clip from the same noise: the same clip again and again",
    ),
    "direct": Method(
        plan=baselines.direct.plan,
        sample=baselines.direct.sample,
        options=lambda overlap: baselines.direct.Options(),
        takes_overlap=False,
        paper="null model",
        summary="all frames in one window, beyond the length that the network was trained on",
    ),
}
