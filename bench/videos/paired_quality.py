"""Is the head's output worse? Paired differences between videos of the same prompts and the same noise."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from bench.results.statistics import Estimate, jackknifed, trimmed_mean
from bench.results.verdicts import Finding, not_worse
from metrics.distribution.frechet import Gaussian, frechet_distance, leave_one_out
from metrics.intervals import assign_groups
from metrics.networks.features import extract
from metrics.networks.pocket import load_shipped
from metrics.videos.frames import windows
from vidrd.pocket.world import ATTRIBUTES, TEST_SEEDS, draw_scene, labels, render

FVD_MARGIN = 0.10  # of the base's own distance
CAPTION_MARGIN = 0.03  # of a probability
REAL = 10  # real videos of each caption


class ClassifierOutput(NamedTuple):
    """What the classifier sees in a set of videos: a row a window."""

    embedding: Float[np.ndarray, "K F"]
    source: np.ndarray  # video of each row
    named: Float[np.ndarray, " N"]  # of each video: mean probability of what its caption names


class Differences(NamedTuple):
    """How the videos of the head differ from those of the base, head - base, and where the base stands."""

    fvd: Estimate
    base_fvd: float
    named: Estimate  # mean probability of what the captions name
    base_named: float


def compare_videos(
    cell: str,
    base: UInt8[np.ndarray, "N T H W C"],  # the videos of the prompts of the first N test seeds
    head: UInt8[np.ndarray, "N T H W C"],
    *,
    window: int,  # frames the classifier sees
) -> list[Finding]:
    """Non-inferiority of the head in Fréchet distance and in what its videos show of their captions."""
    fvd, level, named, base_named = differences(base, head, window=window)
    return [
        not_worse(cell, "fvd", fvd, margin=FVD_MARGIN * level, better="lower", base=level),
        not_worse(cell, "caption", named, margin=CAPTION_MARGIN, better="higher", base=base_named),
    ]


def differences(
    base: UInt8[np.ndarray, "N T H W C"],  # the videos of the prompts of the first N test seeds
    head: UInt8[np.ndarray, "N T H W C"],
    *,
    window: int,  # frames the classifier sees
) -> Differences:
    """Paired differences of quality, on the CPU's classifier."""
    scenes = [draw_scene(TEST_SEEDS[i]) for i in range(len(base))]
    said = [{name: str(getattr(scene, name)) for name in ATTRIBUTES} for scene in scenes]
    reals = [draw_scene(TEST_SEEDS[-1 - i], **said[i % len(said)]) for i in range(REAL * len(said))]
    wanted = [labels(scene) for scene in scenes]
    classifier = load_shipped("i3d")
    real, source = windows(render(reals, base.shape[1]), window)
    real_rows = extract(classifier, real).embedding
    sides = [_see(classifier, videos, window, wanted) for videos in (base, head)]
    distance, level = paired_fvd(real_rows, source % len(scenes), sides[0], sides[1])
    named = trimmed_mean((sides[1].named - sides[0].named).tolist(), trim=0.0)
    return Differences(distance, level, named, float(sides[0].named.mean()))


def paired_fvd(
    real: Float[np.ndarray, "R F"], caption: np.ndarray, base: ClassifierOutput, head: ClassifierOutput, hands: int = 20
) -> tuple[Estimate, float]:
    """The difference of two Fréchet distances to the same real videos, and the base's distance.

    Captions are dealt into groups and left out of all three sets at once (delete-a-group jackknife): what both arms
    share with each other leaves with them, so the difference is known far better than either distance.

    Raises:
        ValueError: fewer than 3 captions.
    """
    count = int(max(base.source.max(), head.source.max())) + 1
    if count < 3:
        raise ValueError(f"a difference of distances needs the videos of at least 3 captions, {count} came")
    hand = assign_groups(np.arange(count), hands)
    parts = [
        [Gaussian.of(rows[hand[owner] == k]) for k in range(int(hand.max()) + 1)]
        for rows, owner in ((real, caption), (base.embedding, base.source), (head.embedding, head.source))
    ]
    whole = [Gaussian.of(rows) for rows in (real, base.embedding, head.embedding)]
    level = frechet_distance(whole[0], whole[1])
    difference = frechet_distance(whole[0], whole[2]) - level
    replicates = [
        frechet_distance(r, h) - frechet_distance(r, b) for r, b, h in zip(*map(leave_one_out, parts), strict=True)
    ]
    return jackknifed(difference, [replicates], count), level


def _see(
    classifier: object, videos: UInt8[np.ndarray, "N T H W C"], window: int, wanted: Sequence[dict[str, int]]
) -> ClassifierOutput:
    cut, source = windows(videos, window)
    found = extract(classifier, cut)  # type: ignore[arg-type]
    rows = []
    for name, logits in found.logits.items():
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        truth = np.array([each[name] for each in wanted])[source]
        rows.append((odds / odds.sum(axis=1, keepdims=True))[np.arange(len(truth)), truth])
    by_window = np.mean(rows, axis=0)
    named = np.array([by_window[source == i].mean() for i in range(len(wanted))])
    return ClassifierOutput(found.embedding, source, named)
