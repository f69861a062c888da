"""Is the head's output worse? Paired differences between videos of the same prompts and the same noise."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from bench.results.statistics import Estimate, jackknifed, trimmed_mean
from bench.results.verdicts import Finding, not_worse
from metrics.distribution.frechet import Gaussian, frechet_distance
from metrics.networks.features import extract
from metrics.networks.pocket import PocketFeatureExtractor, load_shipped
from metrics.paired import matched_frechet_difference
from metrics.videos.frames import windows
from vidrd.pocket.world import ATTRIBUTES, TEST_SEEDS, draw_scene, labels, render

FVD_MARGIN = 0.10  # of the base's own distance
CAPTION_MARGIN = 0.03  # of a probability
REAL = 10  # real videos of each caption


class ClassifierOutput(NamedTuple):
    """What the classifier sees in a set of videos: one row per window."""

    embedding: Float[np.ndarray, "K F"]
    source: np.ndarray  # number of each row's video, from 0
    named: Float[np.ndarray, " N"]  # for each video, the mean probability of what its caption names


class Differences(NamedTuple):
    """How the videos of the head differ from those of the base, head - base, and the base's own values."""

    fvd: Estimate
    base_fvd: float
    named: Estimate  # mean probability of what the captions name
    base_named: float


def compare_videos(
    cell: str,
    base: UInt8[np.ndarray, "N T H W C"],  # the videos of the prompts of the first N test seeds
    head: UInt8[np.ndarray, "N T H W C"],
    *,
    window: int,  # frames that the classifier sees at a time
    margins: Mapping[str, float | int] = MappingProxyType({}),  # other margins than the usual ones
) -> list[Finding]:
    """Non-inferiority of the head in Fréchet distance and in what its videos show of their captions."""
    share, lost = margins.get("fvd", FVD_MARGIN), margins.get("caption", CAPTION_MARGIN)
    fvd, level, named, base_named = differences(base, head, window=window)
    return [
        not_worse(cell, "fvd", fvd, margin=share * level, better="lower", base=level),
        not_worse(cell, "caption", named, margin=lost, better="higher", base=base_named),
    ]


def differences(
    base: UInt8[np.ndarray, "N T H W C"],  # the videos of the prompts of the first N test seeds
    head: UInt8[np.ndarray, "N T H W C"],
    *,
    window: int,  # frames that the classifier sees at a time
) -> Differences:
    """Paired differences of quality, on the CPU's classifier."""
    count = len(base)
    scenes = [draw_scene(TEST_SEEDS[i]) for i in range(count)]
    attributes = [{name: str(getattr(scene, name)) for name in ATTRIBUTES} for scene in scenes]
    reals = [draw_scene(TEST_SEEDS[-1 - i], **attributes[i % count]) for i in range(REAL * count)]
    wanted = [labels(scene) for scene in scenes]
    classifier = load_shipped("i3d")
    real, source = windows(render(reals, base.shape[1]), window)
    real_rows = extract(classifier, real).embedding
    sides = [_classify(classifier, videos, window, wanted) for videos in (base, head)]
    distance, level = paired_fvd(real_rows, source % count, sides[0], sides[1])
    named = trimmed_mean((sides[1].named - sides[0].named).tolist(), trim=0.0)
    return Differences(distance, level, named, float(sides[0].named.mean()))


def paired_fvd(
    real: Float[np.ndarray, "R F"], caption: np.ndarray, base: ClassifierOutput, head: ClassifierOutput
) -> tuple[Estimate, float]:
    """The head's Fréchet distance to the real videos minus the base's, and the base's distance.

    Captions are left out of all three sets at once (`metrics.paired.matched_frechet_difference`).

    Raises:
        ValueError: fewer than 3 captions.
    """
    score = matched_frechet_difference(real, base.embedding, head.embedding, caption, base.source, head.source)
    if score.n < 3:
        raise ValueError(f"a difference of distances needs the videos of at least 3 captions: got {score.n}")
    level = frechet_distance(Gaussian.of(real), Gaussian.of(base.embedding))
    return jackknifed(score.value, score.replicates, score.n), level


def _classify(
    classifier: PocketFeatureExtractor,
    videos: UInt8[np.ndarray, "N T H W C"],
    window: int,
    wanted: Sequence[dict[str, int]],
) -> ClassifierOutput:
    cut, source = windows(videos, window)
    features = extract(classifier, cut)
    rows = []
    for name, logits in features.logits.items():
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        truth = np.array([numbers[name] for numbers in wanted])[source]
        rows.append((odds / odds.sum(axis=1, keepdims=True))[np.arange(len(truth)), truth])
    by_window = np.mean(rows, axis=0)
    named = np.array([by_window[source == i].mean() for i in range(len(wanted))])
    return ClassifierOutput(features.embedding, source, named)
