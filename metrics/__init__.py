"""Arrays of videos in, numbers out. Imports nothing of this project's other packages; `METRICS` is the table."""

from metrics.fvd import fvd, fvd_floor
from metrics.inception_score import inception_score
from metrics.jitter import (
    cycling,
    duplicates,
    flicker,
    jitter,
    light_jitter,
    motion,
    seam_phase,
    seam_ratio,
)
from metrics.score import Metric

METRICS: dict[str, Metric] = {
    "fvd": Metric(fvd, "", "lower", "Fréchet distance between features of generated and of real videos"),
    "fvd_floor": Metric(
        fvd_floor, "", "lower", "the same between two sets of real videos: the best a generator can do"
    ),
    "is": Metric(
        inception_score, "", "higher", "Inception Score: classes recognised with certainty, all of them there"
    ),
    "flicker": Metric(flicker, "1/frame", "real", "mean grey change from frame to frame; motion counts too"),
    "jitter": Metric(jitter, "", "real", "share of the change from frame to frame that the next frame takes back"),
    "light_jitter": Metric(light_jitter, "1/frame", "real", "jumps of a frame's mean brightness"),
    "motion": Metric(motion, "", "real", "grey change over 2 frames beyond that over one: noise does not count"),
    "seam_ratio": Metric(seam_ratio, "log2", "real", "change (D or A) at the seams of clips over change elsewhere"),
    "seam_phase": Metric(seam_phase, "p", "higher", "rank of the true seams among shifted ones: small = seams show"),
    "duplicates": Metric(duplicates, "", "real", "share of transitions, or of seams, at which the frame is held"),
    "cycling": Metric(
        cycling, "", "real", "likeness of a clip to the one before it played backwards, or to the next but one"
    ),
}
