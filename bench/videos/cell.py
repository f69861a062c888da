"""One cell of the pocket world: make videos with its values, time that, and measure the videos.

The same work serves speed and quality: every batch is one repeat of the timing, and all batches together are the set
that the classifiers see. Prompt i and the noise of video i are the same in every cell of a seed, whatever the method.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from jaxtyping import UInt8

from bench.hardware.device import emulation_facts
from bench.hardware.gpu_telemetry import Telemetry, gpu_passes
from bench.hardware.memory import allocator_peaks, process_peak
from bench.hardware.network_calls import STAGES, roofline_shares
from bench.hardware.warmup import until_flat
from bench.harness.job import Job
from bench.results.records import CellResults, InvalidError, Number
from bench.results.statistics import median_number, ratio
from bench.videos.columns import MEASURES
from bench.videos.generator import BatchCost, Generator
from bench.videos.knobs.losses import (
    FIRED,
    LOSSES,
    NO_CACHE,
    ONE_DEVICE,
    SCALING,
    SettingVideos,
    check_exact,
    firing_numbers,
    load,
    losses,
    save,
    scaling,
)
from bench.videos.knobs.settings import approximations, turned
from bench.videos.plan import steps_of
from bench.videos.quality import REFERENCE, QualityResults, load_classifier, measure_quality
from metrics.networks.features import extract
from metrics.networks.pocket import MIN_FRAMES
from metrics.videos.frames import windows
from vidrd.pocket.world import ATTRIBUTES, TEST_SEEDS, Scene, caption, draw_scene, render
from vidrd.sampler_contract import Seam
from vidrd.video import write_video

KEPT = 4  # videos of a cell that stay on the disk
SHOWN = 128  # pixels of height up to which small ones are enlarged
WARM = {"cpu": 2, "cuda": 3}  # calls that must agree: on a CPU nothing is set up after the first
Videos = UInt8[np.ndarray, "N T H W C"]
Judge = Callable[[Videos, list[int], str, int], QualityResults]  # videos, seams, why there are none, frames turned
warmed_up = partial(until_flat, spread=0.2, most=6)  # calls so short that little noise shows much


def run(job: Job) -> CellResults:
    """Do one cell."""
    kinds = {"real": _real, "still": _still}
    return kinds.get(str(job.values["method"]), _generated)(job)


def _real(job: Job) -> CellResults:
    """Real video of the captions that the other cells get; and the real videos that FVD compares all of them with."""
    frames, videos = int(job.values["frames"]), int(job.values["videos"])
    scenes = _scenes(videos)
    shown = render(scenes, frames)
    keep(job, shown, ())
    others = compared(scenes, int(job.values["real_videos"]), str(job.values["real_captions"]))
    clip = int(job.values["clip"])
    rendered = render(others, max(frames, clip))
    cut, source = windows(rendered[:, :frames], int(job.values["window"]))
    seeing = load_classifier("i3d", job)
    clips: dict[str, np.ndarray] = {}
    if clip >= MIN_FRAMES:
        short, clips["clip_source"] = windows(rendered, clip)
        clips["clip_embedding"] = extract(seeing, short).embedding
    embedding = extract(seeing, cut).embedding
    np.savez(job.folder / REFERENCE, allow_pickle=False, embedding=embedding, source=source, **clips)
    seams = list(range(clip, frames, clip))
    found = measure_quality(shown, scenes, seams, "these videos are no longer than a clip", job, job.folder)
    return ungenerated(found, map(caption, scenes))


def compared(scenes: list[Scene], count: int, captions: str) -> list[Scene]:
    """Scenes that no prompt was made of: drawn freely ("other"), or for each caption in turn another one ("same")."""
    seeds = [TEST_SEEDS[-1 - i] for i in range(count)]
    if captions == "other":
        return [draw_scene(seed) for seed in seeds]
    said = [{name: str(getattr(scene, name)) for name in ATTRIBUTES} for scene in scenes]
    return [draw_scene(seed, **said[i % len(said)]) for i, seed in enumerate(seeds)]


def _still(job: Job) -> CellResults:
    """Real video whose first frame is held: what a model that paints but does not move would reach."""
    scenes = _scenes(int(job.values["videos"]))
    shown = render(scenes, int(job.values["frames"]), step=0)
    keep(job, shown, ())
    found = measure_quality(shown, scenes, [], "still video is one clip", job, reference_of(job))
    return ungenerated(found, map(caption, scenes), "still")


def reference_of(job: Job) -> Path:
    """The folder of the cell that this one is compared with."""
    if job.reference is None:
        raise ValueError("a cell is compared with its reference, and this job names none")
    return job.reference


def _generated(job: Job) -> CellResults:
    scenes, reference = _scenes(int(job.values["videos"])), reference_of(job)

    def judge(made: Videos, seams: list[int], no_seams: str, turned: int) -> QualityResults:
        return measure_quality(made, scenes, seams, no_seams, job, reference, turned=turned)

    return generate(job, [caption(scene) for scene in scenes], judge)


def generate(job: Job, prompts: list[str], judge: Judge) -> CellResults:
    """Make a cell's videos of as many prompts, time that, and let the judge measure them."""
    values, videos, steps = job.values, len(prompts), steps_of(job.values)
    print("load", flush=True)
    began = perf_counter()
    generator = Generator(values)
    load_seconds = perf_counter() - began
    batch, device = generator.batch, generator.device
    print("warm up", flush=True)
    first = partial(generator.make, prompts[:batch], 0)
    if generator.cache is not None and not generator.cache.calibrated:
        generator.cache.calibrate(partial(first, steps))
    fewer = steps if generator.cache is not None else generator.few_steps(steps)  # a cache needs steps to fire
    calls = WARM[torch.device(device).type]
    warm_up = warmed_up(lambda: first(fewer)[1].seconds["total"], least=calls, window=calls)
    if values["equal"] == "seconds":
        print("find out how many steps fit", flush=True)
        steps = generator.steps_as_long_as("independent", steps, prompts[:batch])
    whole = partial(first, steps)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    generator.recorder.clear()
    generator.kept = [] if "psnr" in job.measures else None
    with Telemetry(device) as around:
        made, costs, laps = _made(generator, prompts, steps, around)
    latents, generator.kept = generator.kept, None
    memory = _memory(device)
    if made.shape[:2] != (videos, generator.length):
        raise InvalidError(f"a cell has {(videos, generator.length)} videos and frames: got {made.shape[:2]}")
    bounded, uncounted = _shares(generator, costs, whole)  # of the calls so far: those of the batches that were timed

    print("judge", flush=True)
    seams = costs[0].seams
    keep(job, made, seams, generator.model.fps)
    no_seams = f"{values['method']} has no seams, it makes the whole video in one window"
    turned = seams[0].dropped if seams and seams[0].kind == "mirror" else 0
    found = judge(made, [seam.frame for seam in seams], no_seams, turned).joined(memory)
    if latents is not None:
        batches = tuple(cost.seconds["total"] for cost in costs)
        all_made = SettingVideos(made, np.concatenate(latents), batches)
        found = found.joined(_against_plain(job, generator, all_made, whole))
    samples, times = _times(costs, batch * generator.length)
    times |= {
        "step_seconds": median_number(laps, "s", "lower"),
        "load_seconds": Number(load_seconds, "s", "lower"),
    }
    if generator.cache is None:
        times["cold_seconds"] = Number(warm_up.seconds[0], "s", "lower")
    else:
        uncounted["cold_seconds"] = "a step cache takes all steps to fire, so the first call has more than two"
    work = {"steps": Number(float(steps)), "fe_per_frame": Number(costs[0].fe_per_frame, "1/frame", "lower", n=videos)}
    extra = gpu_passes(whole, device=device, videos=batch)
    return CellResults(
        numbers={**found.numbers, **times, **work, **bounded, **extra.numbers},
        samples={
            **found.samples,
            **samples,
            "step_seconds": tuple(laps),
            "warm_up_seconds": warm_up.seconds,
            **around.samples(),
        },
        absent={**found.absent, **uncounted, **extra.absent},
        facts={
            **emulation_facts(str(values["precision"]), device),
            **found.facts,
            "output_sha256": hashlib.sha256(made.tobytes()).hexdigest(),
            "pairs": f"prompts 1 to {videos}, noise of the seeds from {generator.first_seed} on",
            "threads": str(torch.get_num_threads()),
            "decoded": f"clips of {generator.decoded} from frame 0"
            if generator.model.decodes_clips
            else "each video in one pass",
            "seams": ", ".join(f"{seam.kind} at {seam.frame}" for seam in seams),
            "warm_up": "flat" if warm_up.flat else "not flat when the patience was out",
            **around.facts(),
            **extra.facts,
        },
    )


def _made(
    generator: Generator, prompts: list[str], steps: int, around: Telemetry
) -> tuple[UInt8[np.ndarray, "N T H W C"], list[BatchCost], list[float]]:
    """All videos of a cell, what each batch cost, and the seconds of every step."""
    parts, costs, laps = [], [], list[float]()
    for first in range(0, len(prompts), generator.batch):
        print(f"videos {first} to {first + generator.batch - 1}", flush=True)
        around.look()
        part, cost = generator.make(prompts[first : first + generator.batch], first, steps)
        parts.append(part)
        costs.append(cost)
        laps += generator.stopwatch.laps.get("denoise", ())
    around.look()
    return np.concatenate(parts), costs, laps


def _memory(device: str) -> QualityResults:
    """The most bytes that making the videos held, by each way of reading them, or why one cannot tell."""
    results = QualityResults()
    allocated, reserved = allocator_peaks(device)
    readings = {"process_peak": process_peak(), "allocated_peak": allocated, "reserved_peak": reserved}
    for name, reading in readings.items():
        if reading.bytes is None:
            results.absent[name] = reading.source
        else:
            results.numbers[name] = Number(float(reading.bytes), "bytes", "lower")
            results.facts[f"{name}_by"] = reading.source
    return results


def _times(costs: list[BatchCost], frames: int) -> tuple[dict[str, tuple[float, ...]], dict[str, Number]]:
    """Raw seconds of every stage of every batch of `frames` frames in all, and their medians."""
    samples = {f"{stage}_seconds": tuple(cost.seconds[stage] for cost in costs) for stage in costs[0].seconds}
    samples["residual_seconds"] = tuple(2 * cost.seconds["total"] - sum(cost.seconds.values()) for cost in costs)
    stages = ("text_seconds", "denoise_seconds", "decode_seconds", "residual_seconds")
    numbers = {name: median_number(samples[name], "s", "lower") for name in stages}
    numbers["seconds_per_frame"] = median_number(samples["total_seconds"], "s", "lower", per=frames)
    return samples, numbers


def _shares(
    generator: Generator, costs: list[BatchCost], make: Callable[[], object]
) -> tuple[dict[str, Number], dict[str, str]]:
    """Of each stage the share of its time that the machine at its peaks would take, or why there is none."""
    if generator.emulated is not None:
        return {}, {f"{stage}_share": generator.emulated for stage in STAGES}
    seconds = {stage: sum(cost.seconds[stage] for cost in costs) for stage in STAGES}
    other = " and ".join(generator.other_work)
    if other:
        generator.recorder.calls["denoise"].clear()
    dtype = str(generator.dtype).removeprefix("torch.")
    found, doubted = roofline_shares(
        generator.recorder, seconds, device=generator.device, dtype=dtype, batches=len(costs), make=make,
        devices={"denoise": generator.devices},
    )  # fmt: skip
    numbers = {f"{stage}_share": Number(100 * share, "%", "higher", n=len(costs)) for stage, share in found.items()}
    none = dict.fromkeys(STAGES, "the stage does no product, convolution or attention that could be counted")
    if other:
        none["denoise"] = f"with {other} the network does other work than its own, which the bound is of"
    return numbers, {f"{stage}_share": why for stage, why in (none | doubted).items() if stage not in found}


def _against_plain(job: Job, generator: Generator, made: SettingVideos, whole: Callable[[], object]) -> QualityResults:
    """Against the videos of one device, or of the plain model, if any knob is turned; how often a step cache fired."""
    results, precision = QualityResults(), str(job.values["precision"])
    knobs, inexact = turned(job.values), approximations(job.values)
    if generator.cache is None:
        results.absent |= dict.fromkeys(FIRED, NO_CACHE)
    else:
        results.numbers |= firing_numbers(generator.cache.count(whole), str(job.values["cache"]))
    if not knobs or ("gpus" in job.values and generator.devices == 1):  # others may be compared with it
        save(made, job.folder)
    if generator.devices == 1:
        results.absent |= dict.fromkeys(SCALING, ONE_DEVICE)
    if not knobs:
        results.absent |= dict.fromkeys(LOSSES, "this is the plain model, which the others are compared with")
        return results
    before = load(reference_of(job))
    numbers, samples = losses(before, made)
    if generator.devices > 1:
        check_exact(numbers, [f"gpus={job.values['gpus']}"], precision)
        results.numbers |= scaling(ratio(before.seconds, made.seconds), generator.devices)
    elif not inexact:
        check_exact(numbers, [f"{name}={value}" for name, value in knobs.items()], precision)
    if generator.devices > 1 and inexact:
        results.absent |= dict.fromkeys(LOSSES, f"the row on one device says what {', '.join(inexact)} loses")
    else:
        results.numbers |= numbers
        results.samples |= samples
    results.facts["settings"] = f"approximation: {', '.join(inexact)}" if inexact else "exact"
    return results


def _scenes(count: int) -> list[Scene]:
    return [draw_scene(TEST_SEEDS[i]) for i in range(count)]


def ungenerated(found: QualityResults, prompts: Iterable[str], kind: str = "real") -> CellResults:
    """The results of a cell of real or of still video, which has no cost."""
    costs = {name: f"{kind} video is not generated" for name, about in MEASURES.items() if about.table == "cost"}
    return CellResults(found.numbers, found.samples, found.absent | costs, {"prompts": "\n".join(prompts)})


def keep(job: Job, videos: Videos, seams: Sequence[Seam], fps: float = 8.0) -> None:
    """Leave a few videos to look at: exact, with seams and their kinds, and side by side in one video file."""
    few = videos[:KEPT]
    places = np.array([seam.frame for seam in seams], dtype=np.int64)
    kinds = np.array([seam.kind for seam in seams], dtype=np.str_)
    np.savez_compressed(job.folder / "videos.npz", allow_pickle=False, videos=few, seams=places, kinds=kinds)
    scale = max(1, SHOWN // few.shape[2])
    write_video(job.folder / "videos.mp4", np.concatenate(list(few), axis=2), fps=fps, scale=scale)
