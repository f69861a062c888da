"""Latent frames and frames of the video: samplers count the former, users the latter."""

from dataclasses import replace
from typing import NamedTuple

from vidrd.sampler_contract import UNSEEN, Origin, Plan


class FrameRule(NamedTuple):
    """How many frames of video a number of latent frames becomes: the first one 1 frame, every other one `every`."""

    every: int  # 1: frame by frame
    step: int = 1  # numbers of latent frames that can be decoded are so far apart
    dropped: int = 0  # first latent frames that the network needs and the video does not show

    def latents(self, frames: int) -> int:
        """Latent frames of a video.

        Raises:
            ValueError: no number of latent frames makes such a video; names the nearest lengths that there are.
        """
        stride = self.every * self.step
        over = (frames - 1) % stride
        if frames >= 1 and not over:
            return (frames - 1) // self.every + 1 + self.dropped
        below = frames - over
        lengths = [str(length) for length in (below, below + stride) if length >= 1] or ["1"]
        rule = f"{stride}k+1" if stride > 1 else "k"
        raise ValueError(f"this model's videos have {rule} frames: got {frames}, try {' or '.join(lengths)}")

    def enough(self, frames: int) -> int:
        """Latent frames of the shortest video that has at least so many frames."""
        return self.latents(frames + (1 - frames) % (self.every * self.step))

    def frames(self, latents: int) -> int:
        """Frames of the video of so many latent frames."""
        return self.first(latents)

    def first(self, latent: int) -> int:
        """The first frame of the video that a latent frame becomes."""
        shown = latent - self.dropped
        return 0 if shown <= 0 else 1 + (shown - 1) * self.every

    def overlap(self, frames: int) -> int:
        """Latent frames of an overlap in frames of the video.

        Raises:
            ValueError: it is no whole number of latent frames.
        """
        if frames % self.every:
            below = frames - frames % self.every
            raise ValueError(
                f"latent frames are {self.every} frames of the video, and an overlap whole ones: got {frames}, try "
                f"{below} or {below + self.every}"
            )
        return frames // self.every


def plan_in_frames(plan: Plan, rule: FrameRule) -> Plan:
    """A plan of latent frames told in frames of the video: windows, seams, origins; cost stays as it is."""
    if rule.every == 1:
        return plan
    origins: list[Origin] = []
    for latent, origin in enumerate(plan.frames):
        first = rule.first(latent)
        inside = first - rule.first(max(0, latent - origin.index)) if origin.clip != UNSEEN else origin.index
        for offset in range(rule.first(latent + 1) - first):
            twin = origin.duplicate_of
            own = None if twin is None else min(rule.first(twin) + offset, rule.first(twin + 1) - 1)
            origins.append(Origin(origin.clip, inside + offset, own))
    spans = [tuple((rule.first(a), rule.first(b)) for a, b in each) for each in (plan.windows, plan.drawn or ())]
    seams = tuple(replace(seam, frame=rule.first(seam.frame), dropped=seam.dropped * rule.every) for seam in plan.seams)
    drawn = None if plan.drawn is None else spans[1]
    return replace(plan, windows=spans[0], drawn=drawn, seams=seams, frames=tuple(origins))
