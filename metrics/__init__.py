"""Arrays of videos in, numbers out. Imports nothing of this project's other packages; `METRICS` is the table."""

from metrics import drift, fvd, inception_score, jitter
from metrics.score import Metric

METRICS: dict[str, Metric] = {
    "fvd": Metric(fvd.fvd, "", "lower", "Fréchet distance between features of generated and of real videos"),
    "fvd_floor": Metric(fvd.fvd_floor, "", "lower", "the same between two sets of real videos: the best to be had"),
    "fvd_drift": Metric(
        drift.fvd_drift, "1/window", "real", "FVD that a video gains from window to window as it goes on"
    ),
    "is": Metric(
        inception_score.inception_score, "", "higher", "Inception Score: certain of each, and all classes there"
    ),
    "flicker": Metric(jitter.flicker, "1/frame", "real", "mean grey change from frame to frame; motion counts too"),
    "jitter": Metric(jitter.jitter, "", "real", "share of the change between frames that the next frame takes back"),
    "light_jitter": Metric(jitter.light_jitter, "1/frame", "real", "jumps of a frame's mean brightness"),
    "motion": Metric(jitter.motion, "", "real", "grey change over 2 frames beyond that over one: noise does not count"),
    "seam_ratio": Metric(
        jitter.seam_ratio, "log2", "real", "change (D or A) at the seams of clips over that elsewhere"
    ),
    "seam_phase": Metric(jitter.seam_phase, "p", "higher", "rank of the seams among shifted ones: small = seams show"),
    "duplicates": Metric(jitter.duplicates, "", "real", "share of transitions, or of seams, where the frame is held"),
    "cycling": Metric(jitter.cycling, "", "real", "likeness of a clip to the one before it played backwards"),
}
