"""One cell of the suite `long`: videos of minutes, made, timed, and measured over their whole length."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from bench.harness.job import Job
from bench.results.records import CellResults
from bench.videos.cell import compared, generate, keep, reference_of, ungenerated
from bench.videos.columns import GAPS
from bench.videos.quality import REFERENCE, QualityResults, load_classifier
from metrics.distribution.fvd import matched_frechet_score
from metrics.networks.features import Features, extract
from metrics.temporal import minutes
from metrics.temporal.seams import duplicates
from metrics.videos.frames import windows
from vidrd.pocket.world import ATTRIBUTES, TEST_SEEDS, Scene, caption, draw_scene, labels, render

Videos = UInt8[np.ndarray, "N T H W C"]
IDENTITY = tuple(name for name in ATTRIBUTES if name != "action")
ENDS = ("start", "end")


def run(job: Job) -> CellResults:
    """Do one cell."""
    values = job.values
    scenes = [draw_scene(seed) for seed in TEST_SEEDS[: int(values["videos"])]]
    prompts = [caption(scene) for scene in scenes]
    if values["method"] != "real":
        reference = reference_of(job)

        def judge(made: Videos, seams: list[int], no_seams: str, turned: int) -> QualityResults:
            return judge_length(made, scenes, job, reference)

        return generate(job, prompts, judge)
    shown = render(scenes, int(values["frames"]))
    keep(job, shown, ())
    _write_reference(job, scenes)
    quality = judge_length(shown, scenes, job, job.folder)
    return ungenerated(quality, prompts)


def judge_length(videos: Videos, scenes: Sequence[Scene], job: Job, reference: Path) -> QualityResults:
    """What each video loses along its length, by the classifier's view of its clips and by its pixels."""
    quality, clip = QualityResults(), int(job.values["clip"])
    cut, _ = windows(videos, clip)
    seen = extract(load_classifier("i3d", job), cut)
    rows = seen.embedding.reshape(len(videos), -1, seen.embedding.shape[-1])
    _by_classes(quality, seen, scenes)
    for gap in GAPS:
        if rows.shape[1] > gap:
            quality.mean(f"alike_{gap}", [minutes.similarity_against_gap(each, gap) for each in rows])
        else:
            quality.score(f"alike_{gap}", f"clips {gap} apart need more than {gap}: these videos have {rows.shape[1]}")
    lags = [minutes.autocorrelation(each)[1:] for each in rows]
    quality.mean("cycle", [float(each.max()) for each in lags])
    quality.mean("cycle_lag", [2.0 + float(each.argmax()) for each in lags])
    contrast = [video.reshape(len(video), -1).std(axis=1) / 255 for video in videos]
    quality.mean("contrast_drift", [minutes.start_against_end(each) for each in contrast])
    quality.mean("color_step", [minutes.color_step(minutes.frame_colors(video), clip) for video in videos])
    quality.mean("held_frames", [duplicates(video[None]).value for video in videos])
    with np.load(reference / REFERENCE, allow_pickle=False) as file:
        for end, part in zip(ENDS, _ends(rows), strict=True):
            group = np.repeat(np.arange(len(rows)), part.shape[1])
            flat = part.reshape(-1, part.shape[-1])
            score = matched_frechet_score(file[end], flat, file[f"{end}_group"], group)
            quality.with_replicates(f"fvd_{end}", score)
    return quality


def _by_classes(quality: QualityResults, seen: Features, scenes: Sequence[Scene]) -> None:
    """Identity against the first clip, and the action of the caption, in all clips and in the last ones."""
    classes = {name: seen.logits[name].argmax(axis=1).reshape(len(scenes), -1) for name in ATTRIBUTES}
    same = np.mean([classes[name] == classes[name][:, :1] for name in IDENTITY], axis=0)  # N K
    right = classes["action"] == np.array([[labels(scene)["action"]] for scene in scenes])
    last = minutes.end_frames(same.shape[1])
    quality.mean("identity", same[:, 1:].mean(axis=1).tolist())
    quality.mean("identity_end", same[:, -last:].mean(axis=1).tolist())
    quality.mean("action_end", right[:, -last:].mean(axis=1).tolist())


def _ends(rows: Float[np.ndarray, "N K F"]) -> tuple[Float[np.ndarray, "N k F"], Float[np.ndarray, "N k F"]]:
    """The clips of either end."""
    count = minutes.end_frames(rows.shape[1])
    return rows[:, :count], rows[:, -count:]


def _write_reference(job: Job, scenes: Sequence[Scene]) -> None:
    """Embed either end of real videos of the same captions, other scenes; what lies between is never drawn."""
    frames, clip, classifier = int(job.values["frames"]), int(job.values["clip"]), load_classifier("i3d", job)
    others = compared(list(scenes), int(job.values["real_videos"]), "same")
    clips = frames // clip
    count = minutes.end_frames(clips)
    embedded: dict[str, np.ndarray] = {}
    for end, start in zip(ENDS, (0, (clips - count) * clip), strict=True):
        cut, source = windows(render(others, count * clip, start=start), clip)
        embedded |= {end: extract(classifier, cut).embedding, f"{end}_group": source % len(scenes)}
    np.savez(job.folder / REFERENCE, allow_pickle=False, **embedded)
