"""One cell of the suite `changes`: videos whose prompt changes, made, timed and judged segment by segment."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8

from bench.harness.job import Job
from bench.results.records import CellResults
from bench.videos.cell import generate, keep, reference_of, ungenerated
from bench.videos.quality import REFERENCE, QualityResults, load_classifier, measure_frames
from metrics.distribution.fvd import matched_frechet_score
from metrics.networks.features import extract
from metrics.networks.pocket import MIN_FRAMES
from metrics.temporal.seams import seam_ratio
from vidrd.pocket.changes import CHANGED, attributes, draw_changes, prompt_of, render_changes
from vidrd.pocket.world import ATTRIBUTES, TEST_SEEDS, Scene, labels

Videos = UInt8[np.ndarray, "N T H W C"]
Logits = Mapping[str, Float[np.ndarray, "N K classes"]]  # by attribute, of the window that begins at each frame
HALF = MIN_FRAMES // 2


def run(job: Job) -> CellResults:
    """Do one cell."""
    values = job.values
    frames, segment = int(values["frames"]), int(values["segment"])
    count = -(-frames // segment)
    scenes = [draw_changes(seed, count, segment) for seed in TEST_SEEDS[: int(values["videos"])]]
    prompts = [prompt_of(each, segment) for each in scenes]
    if values["method"] != "real":
        reference = reference_of(job)

        def judge(made: Videos, seams: list[int], no_seams: str, turned: int) -> QualityResults:
            quality = judge_changes(made, scenes, job, reference)
            measure_frames(quality, made, seams, no_seams, job.measures, turned=turned)
            return quality

        return generate(job, prompts, judge)
    shown = render_changes(scenes, segment, frames)
    keep(job, shown, ())
    _write_reference(job, scenes)
    quality = judge_changes(shown, scenes, job, job.folder)
    measure_frames(quality, shown, list(range(int(values["clip"]), frames, int(values["clip"]))), "", job.measures)
    return ungenerated(quality, prompts)


def judge_changes(videos: Videos, scenes: Sequence[Sequence[Scene]], job: Job, reference: Path) -> QualityResults:
    """What the classifier sees of every segment, and at its ends."""
    quality, classifier = QualityResults(), load_classifier("i3d", job)
    frames, segment = videos.shape[1], int(job.values["segment"])
    starts = range(0, frames, segment)
    changes = list(starts)[1:]
    windows = np.lib.stride_tricks.sliding_window_view(videos, MIN_FRAMES, axis=1).transpose(0, 1, 5, 2, 3, 4)
    rows = extract(classifier, np.ascontiguousarray(windows).reshape(-1, *windows.shape[2:])).logits
    logits = {name: each.reshape(*windows.shape[:2], -1) for name, each in rows.items()}
    wanted = {
        name: np.array([[labels(scene)[name] for scene in each] for each in scenes]) for name in ATTRIBUTES
    }  # N segments
    for name, each in segments_seen(logits, wanted, starts, frames).items():
        quality.mean(name, each.tolist())
    colours = new_shares(logits["colour"], wanted["colour"], changes)
    quality.mean("lag", [lag(each, changes, segment // 2) for each in colours])
    quality.mean("crossing", [crossing(each, changes, segment // 2) for each in colours])
    quality.mean("change_d", [seam_ratio(video[None], changes, signal="D").value for video in videos])
    with np.load(reference / REFERENCE, allow_pickle=False) as file:
        for name, ends in places(starts, frames, segment).items():
            embedded = extract(classifier, cut(videos, ends)).embedding
            score = matched_frechet_score(file[name], embedded, file["group"], np.arange(len(videos)))
            quality.with_replicates(f"fvd_{name}", score)
    return quality


def segments_seen(
    logits: Logits, wanted: Mapping[str, Int[np.ndarray, "N S"]], starts: Sequence[int], frames: int
) -> dict[str, Float64[np.ndarray, " N"]]:
    """For every video what the windows inside a segment show: its own text, the one before, what never changes."""
    seen = {name: each.argmax(axis=-1) for name, each in logits.items()}
    inside = [
        slice(start, stop - MIN_FRAMES + 1) for start, stop in zip(starts, [*starts[1:], frames], strict=True)
    ]  # windows of each segment

    def share(name: str, segment: int, other: int) -> Float64[np.ndarray, " N"]:
        return (seen[name][:, inside[segment]] == wanted[name][:, other, None]).mean(axis=1)

    every = range(len(starts))
    own = {f"own_{name}": np.mean([share(name, each, each) for each in every], axis=0) for name in CHANGED}
    kept = [share(name, each, each) for name in ATTRIBUTES if name not in CHANGED for each in every]
    old = [share(name, each, each - 1) for name in CHANGED for each in every[1:]]
    return {**own, "kept": np.mean(kept, axis=0), "old": np.mean(old, axis=0)}


def new_shares(
    logits: Float[np.ndarray, "N K C"], wanted: Int[np.ndarray, "N S"], changes: Sequence[int]
) -> Float64[np.ndarray, "N S_1 K"]:
    """For every video, change and window, the share of the new text between it and the old, in [0, 1]."""
    video = np.arange(len(logits))
    differences = [
        logits[video, :, wanted[:, number + 1]] - logits[video, :, wanted[:, number]] for number in range(len(changes))
    ]
    return 1 / (1 + np.exp(-np.clip(np.stack(differences, axis=1).astype(np.float64), -50, 50)))


def lag(shares: Float64[np.ndarray, "S_1 K"], changes: Sequence[int], reach: int) -> float:
    """Frames by which the new one comes late, at most `reach`: late windows that show the old, less early ones that
    show the new; mean over changes.
    """
    late = []
    for share, change in zip(shares, changes, strict=True):
        near = share[max(0, change - HALF - reach) : change - HALF + reach + 1]
        middle = min(reach, change - HALF)  # the window with the change in its middle counts for neither side
        late.append(float((1 - near[middle + 1 :]).sum() - near[:middle].sum()))
    return float(np.mean(late))


def crossing(shares: Float64[np.ndarray, "S_1 K"], changes: Sequence[int], reach: int) -> float:
    """Frames in which old and new are both seen: the sum of 4p(1 - p) near a change, mean over changes."""
    parts = [
        share[max(0, change - HALF - reach) : change - HALF + reach + 1]
        for share, change in zip(shares, changes, strict=True)
    ]
    return float(np.mean([(4 * part * (1 - part)).sum() for part in parts]))


def places(starts: Sequence[int], frames: int, segment: int) -> dict[str, list[int]]:
    """First frames of windows with a change in their middle, and of those in the middle of whole segments."""
    whole = [start for start in starts if start + segment <= frames]
    return {
        "change": [start - HALF for start in starts[1:]],
        "apart": [start + segment // 2 - HALF for start in whole],
    }


def cut(videos: Videos, firsts: Sequence[int]) -> UInt8[np.ndarray, "N F H W C"]:
    """One window of each video; the places in turn."""
    chosen = [firsts[number % len(firsts)] for number in range(len(videos))]
    return np.stack([video[first : first + MIN_FRAMES] for video, first in zip(videos, chosen, strict=True)])


def _write_reference(job: Job, scenes: Sequence[Sequence[Scene]]) -> None:
    """Embed real videos of the same captions, other scenes, round by round: each caption keeps its window."""
    values, classifier = job.values, load_classifier("i3d", job)
    frames, segment = int(values["frames"]), int(values["segment"])
    rounds = int(values["real_videos"]) // len(scenes)
    parts: dict[str, list[np.ndarray]] = {"change": [], "apart": []}
    for number in range(rounds):
        others = []
        for i, each in enumerate(scenes):
            seed = TEST_SEEDS[-1 - (number * len(scenes) + i) * len(each)]
            others.append(draw_changes(seed, len(each), segment, [attributes(scene) for scene in each]))
        shown = render_changes(others, segment, frames)
        for name, firsts in places(range(0, frames, segment), frames, segment).items():
            parts[name].append(extract(classifier, cut(shown, firsts)).embedding)
    group = np.tile(np.arange(len(scenes)), rounds)
    embedded = {name: np.concatenate(each) for name, each in parts.items()}
    np.savez(job.folder / REFERENCE, allow_pickle=False, group=group, **embedded)
