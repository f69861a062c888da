"""Where in a video quality is lost: inside its clips, across their seams, or along its length.

All windows are as long as a clip, and every distance uses one window per video, so the three are comparable.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from metrics.distribution.fvd_drift import drift_score
from metrics.score import Score
from metrics.videos.frames import windows

Videos = UInt8[np.ndarray, "N T H W C"]
Embed = Callable[[Videos], Float[np.ndarray, "M F"]]


class Real(NamedTuple):
    """Real windows to compare with, and the captions (or else the videos) that they show."""

    rows: Float[np.ndarray, "N F"]
    group: Int[np.ndarray, " N"]
    distance: Callable[
        [Float[np.ndarray, "N F"], Float[np.ndarray, "M F"], Int[np.ndarray, " N"], Int[np.ndarray, " M"]], Score
    ]  # (real rows, generated rows, group of each real row, of each generated row)


def fvd_by_position(
    videos: Videos, seams: Sequence[int], why_no_seams: str, clip: int, embed: Embed, real: Real
) -> dict[str, Score | str]:
    """FVD inside clips, across seams, and its slope along the video; or the reason why there is none."""
    frames, half = videos.shape[1], clip // 2
    inside = [end for begin, end in zip([0, *seams], seams, strict=False) if end - begin >= clip]
    across = [seam + half for seam in seams if clip - half <= seam <= frames - half]
    scores: dict[str, Score | str] = {}
    for name, ends, missing in (
        ("fvd_inside", inside, f"no {clip} frames without a seam before one"),
        ("fvd_across", across, f"no seam has {half} frames on either side"),
    ):
        scores[name] = missing if seams else why_no_seams
        if ends:
            taken = [ends[i % len(ends)] for i in range(len(videos))]  # the seams in turn, one per video
            cut = np.stack([video[end - clip : end] for video, end in zip(videos, taken, strict=True)])
            scores[name] = real.distance(real.rows, embed(cut), real.group, np.arange(len(videos)))
    if frames < 2 * clip:
        return scores | {"drift": f"a slope needs two clips of {clip} frames: got {frames} frames"}
    cut, source = windows(videos, clip)
    place = np.arange(len(cut)) % (frames // clip)
    return scores | {"drift": drift_score(real.rows, embed(cut), place, real.group, source)}
