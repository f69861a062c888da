"""The quality of a cell's videos by the pocket classifiers, with the values that paired differences need.

Cells of one seed show the same prompts from the same noise. So each measure keeps, with its number, what pairs with
that of another cell: one value per video where it is a mean over videos, otherwise its values with one group of videos
left out at a time. `bench.results.statistics` makes the interval of a difference from either.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from bench.harness.job import Job
from bench.results.records import LEFT_OUT, Number
from bench.videos.columns import COLUMNS, FLOW_MEASURES
from bench.videos.fvd_by_position import Real, fvd_by_position
from metrics.distribution.fvd import frechet_score, matched_frechet_score
from metrics.distribution.inception_score import score_of_logits
from metrics.intervals import mean_score
from metrics.networks.features import extract
from metrics.networks.pocket import PocketFeatureExtractor, load_shipped
from metrics.score import Score
from metrics.temporal.flow_metrics import FlowStatistics, compute_flow_statistics, moves, turn_of
from metrics.temporal.frame_difference import flicker, jitter, motion, saturation_drift
from metrics.temporal.seams import cycling, duplicates, ratio_of, seam_ratio
from metrics.videos.frames import windows
from vidrd.pocket.world import ATTRIBUTES, Scene, labels, render

REFERENCE = "real.npz"  # features of real video, which a reference cell writes for the others

RANGE_OF = {  # the measure of `metrics.score.RANGES` whose range a column has, where their names differ
    "mirror": "cycling",
    "repeat": "cycling",
    "seam_off": "absolute_seam_ratio",
    **dict.fromkeys((*ATTRIBUTES, "own_colour", "own_action", "old", "kept"), "accuracy"),
    **dict.fromkeys(("identity", "identity_end", "action_end", "held_frames"), "accuracy"),
}

Videos = UInt8[np.ndarray, "N T H W C"]


def load_classifier(name: str, job: Job) -> PocketFeatureExtractor:
    """A shipped classifier, on the device where the cell's videos are made."""
    return load_shipped(name, str(job.values["device"]))


@dataclass
class QualityResults:
    """A cell's measures: numbers, the values by which cells are paired, and the reasons for absent numbers."""

    numbers: dict[str, Number] = field(default_factory=dict)
    samples: dict[str, tuple[float, ...]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def joined(self, other: "QualityResults") -> "QualityResults":
        """These and the other's."""
        return QualityResults(
            self.numbers | other.numbers, self.samples | other.samples, self.absent | other.absent,
            self.facts | other.facts,
        )  # fmt: skip

    def score(self, name: str, score: Score | str) -> None:
        """A number that is never paired, or the reason why there is none."""
        if isinstance(score, str):
            self.absent[name] = score
        else:
            about = COLUMNS[name]
            self.numbers[name] = Number(score.value, about.unit, about.better, score.n, score.low, score.high)

    def mean(self, name: str, values: list[float]) -> None:
        """The mean of one value per video, with an interval within the measure's range."""
        self.score(name, mean_score(values, RANGE_OF.get(name, name)))
        self.samples[name] = tuple(values)

    def with_replicates(self, name: str, score: Score) -> None:
        """A score and its replicates, from each side that its error comes from."""
        self.score(name, score)
        for side, values in enumerate(score.replicates):
            if values:
                self.samples[f"{name}{LEFT_OUT}{side + 1}"] = tuple(values)


def measure_quality(
    videos: Videos,
    scenes: list[Scene],
    seams: list[int],
    why_no_seams: str,  # the reason for the measures of seams, where there are no seams
    job: Job,
    reference: Path,
    *,
    turned: int = 0,  # frames lost at the start of a clip that plays the one before it backwards
) -> QualityResults:
    """Every measure of quality, as a number or with the reason why not."""
    quality = QualityResults()
    cut, source = windows(videos, int(job.values["window"]))
    classifier = load_classifier("i3d", job)
    features = extract(classifier, cut)
    same = job.values["real_captions"] == "same"
    with np.load(reference / REFERENCE, allow_pickle=False) as file:
        groups = {name: file[name] % len(scenes) if same else file[name] for name in file if name.endswith("source")}
        distance = matched_frechet_score if same else frechet_score
        quality.with_replicates("fvd", distance(file["embedding"], features.embedding, groups["source"], source))
        real = Real(file["clip_embedding"], groups["clip_source"], distance) if "clip_source" in groups else None
    classes = extract(load_classifier("c3d", job), cut).logits["action"]
    quality.with_replicates("is", score_of_logits(classes, source))
    for name in ATTRIBUTES:
        if name in features.logits:
            quality.mean(name, _recognized(name, features.logits[name], source, scenes))
        else:
            quality.score(name, f"the classifier was not trained to tell the {name}")
    clip, shown = int(job.values["clip"]), videos.shape[1]
    if real is None or shown < clip:
        untold = f"the classifier takes no clips of {min(clip, shown)} frames"
        quality.absent |= dict.fromkeys(("fvd_inside", "fvd_across", "drift"), untold)
    else:
        placed = fvd_by_position(
            videos, seams, why_no_seams, clip, lambda cut: extract(classifier, cut).embedding, real
        )
        for name, score in placed.items():
            quality.score(name, score)
    measure_frames(quality, videos, seams, why_no_seams, job.measures, turned=turned)
    if "given" in job.values:
        _from_source(quality, videos, scenes, int(job.values["given"]), clip)
    return quality


def _from_source(quality: QualityResults, videos: Videos, scenes: list[Scene], given: int, clip: int) -> None:
    """Add how far videos leave the one that they go on from."""
    source = render(scenes, videos.shape[1])
    away = np.abs(videos.astype(np.int16) - source)[:, given:].mean(axis=(2, 3, 4))  # N T
    quality.mean("near", away[:, :clip].mean(axis=1).tolist())
    quality.mean("far", away[:, -clip:].mean(axis=1).tolist())


def measure_frames(
    quality: QualityResults,
    videos: Videos,
    seams: list[int],
    why_no_seams: str,
    measures: Sequence[str],  # of the suite: flow is computed only where one needs it
    *,
    turned: int = 0,
) -> None:
    """Add what needs no judge and no real video: change, seams, cycling, flow."""
    for name, change in {"flicker": flicker, "jitter": jitter, "motion": motion}.items():
        quality.mean(name, _each(change, videos))
    at_seams: dict[str, Callable[[Videos], float]] = {
        "seam_d": lambda one: seam_ratio(one, seams, signal="D").value,
        "seam_a": lambda one: seam_ratio(one, seams, signal="A").value,
        "seam_off": lambda one: seam_ratio(one, seams, signal="D", absolute=True).value,
        "duplicates": lambda one: duplicates(one, seams).value,
        "mirror": lambda one: cycling(one, seams, kind="mirror", dropped=turned).value,
        "repeat": lambda one: cycling(one, seams, kind="repeat").value,
    }
    _at_seams(quality, at_seams, videos[:, None], seams, why_no_seams)
    if not FLOW_MEASURES.keys().isdisjoint(measures):
        _by_flow(quality, videos, seams, why_no_seams)


def _by_flow(quality: QualityResults, videos: Videos, seams: list[int], why_no_seams: str) -> None:
    """Add what optical flow says, in one pass over every video."""
    motions, grid = [compute_flow_statistics(video) for video in videos], np.array(seams, dtype=np.int64)
    quality.mean("dynamic_degree", [moves(motion) for motion in motions])
    quality.mean("saturation_drift", _each(saturation_drift, videos))
    at_seams: dict[str, Callable[[FlowStatistics], float]] = {
        "seam_w": lambda motion: ratio_of(motion.warp[None], grid, "W").value,
        "seam_df": lambda motion: ratio_of(motion.change[None], grid, "dF").value,
        "boomerang": lambda motion: turn_of(motion, grid),
    }
    _at_seams(quality, at_seams, motions, seams, why_no_seams)


def _at_seams(
    quality: QualityResults,
    measures: Mapping[str, Callable[[Any], float]],
    shown: Iterable[Any],  # what the measures take: a video, or its flow
    seams: list[int],
    why_no_seams: str,
) -> None:
    """Add measures of seams, or why there is none: no seams, or too few frames around them, as the request has it."""
    for name, measure in measures.items():
        try:
            if seams:
                quality.mean(name, [measure(one) for one in shown])
            else:
                quality.score(name, why_no_seams)
        except ValueError as error:
            quality.score(name, str(error))


def _each(measure: Callable[[Videos], Score], videos: Videos) -> list[float]:
    return [measure(video[None]).value for video in videos]


def _recognized(
    name: str, logits: Float[np.ndarray, "N K"], source: Int[np.ndarray, " N"], scenes: list[Scene]
) -> list[float]:
    """For each video, the share of its windows in which the classifier sees the attribute that the caption names."""
    right = logits.argmax(axis=1) == np.array([labels(scene)[name] for scene in scenes])[source]
    return [float(right[source == i].mean()) for i in range(len(scenes))]
