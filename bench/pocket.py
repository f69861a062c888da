"""One cell of the pocket world: make videos as its values say, time it, and judge what came out.

The same work serves speed and quality: every batch is one repeat of the timing, and all batches together are the set
that the judges see. Prompt i and the noise of video i are the same in every cell of a seed, whatever the method.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from bench.measure.clock import Stopwatch
from bench.measure.machine import ROOT
from bench.measure.memory import allocator_peaks, driver_reading, process_peak
from bench.methods import METHODS
from bench.record import Number, Value
from bench.stats import median_number
from bench.suites import MEASURES
from bench.worker import InvalidError, Job, Measured
from metrics.features import extract
from metrics.frames import windows
from metrics.fvd import frechet_score, matched_frechet_score
from metrics.inception_score import score_of_logits
from metrics.jitter import cycling, duplicates, flicker, jitter, motion, seam_ratio
from metrics.pocket import load_judge
from metrics.score import Score
from metrics.statistics import mean_score
from vidrd.checkpoints import load_pipeline
from vidrd.data.shapes import ATTRIBUTES, TEST_SEEDS, Scene, caption, draw_scene, labels, render
from vidrd.denoiser import Denoiser
from vidrd.sampling import Request
from vidrd.video import write_video

JUDGES = ROOT / "weights" / "pocket-judges"
REFERENCE = "real.npz"  # what a reference cell leaves for the others
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
KEPT = 4  # videos of a cell that stay on the disk
WARM_UP_STEPS = 2


def run(job: Job) -> Measured:
    """Do one cell."""
    kinds = {"real": _real, "still": _still}
    return kinds.get(str(job.values["method"]), _generated)(job)


class Counted:
    """A denoiser that counts what is asked of it."""

    def __init__(self, denoise: Denoiser) -> None:
        self._denoise = denoise
        self.clip, self.longest, self.branches = denoise.clip, denoise.longest, denoise.branches
        self.calls = self.fe = 0

    def __call__(
        self, latents: Float[torch.Tensor, "B C T H W"], timesteps: Int[torch.Tensor, "*T"]
    ) -> Float[torch.Tensor, "B C T H W"]:
        """Pass the call on."""
        self.calls += 1
        self.fe += latents.shape[2]
        return self._denoise(latents, timesteps)


class Cost(NamedTuple):
    """What a batch took, by stage; what the method's plan asks of the network; where its clips meet."""

    seconds: dict[str, float]
    fe_per_frame: float
    seams: list[int]


def _real(job: Job) -> Measured:
    """Real video of the captions that the other cells get; and the real videos that FVD compares all of them with."""
    frames, videos = int(job.values["frames"]), int(job.values["videos"])
    scenes = _scenes(videos)
    shown = render(scenes, frames)
    _keep(job, shown, [])
    compared = _compared(scenes, int(job.values["real_videos"]), str(job.values["real_captions"]))
    cut, source = windows(render(compared, frames), int(job.values["window"]))
    judge = load_judge(JUDGES / "i3d.safetensors", device=str(job.values["device"]))
    np.savez(job.folder / REFERENCE, embedding=extract(judge, cut).embedding, source=source)
    clip = int(job.values["clip"])
    seams = list(range(clip, frames, clip))
    numbers, absent = _judged(shown, scenes, seams, "these videos are no longer than a clip", job, job.folder)
    return Measured(
        numbers=numbers,
        absent=absent | dict.fromkeys(_costs(), "real video is not generated"),
        facts={"prompts": "\n".join(map(caption, scenes))},
    )


def _compared(scenes: list[Scene], count: int, captions: str) -> list[Scene]:
    """Scenes that no prompt was made of: drawn freely ("other"), or for each caption in turn another one ("same")."""
    seeds = [TEST_SEEDS[-1 - i] for i in range(count)]
    if captions == "other":
        return [draw_scene(seed) for seed in seeds]
    said = [{name: str(getattr(scene, name)) for name in ATTRIBUTES} for scene in scenes]
    return [draw_scene(seed, **said[i % len(said)]) for i, seed in enumerate(seeds)]


def _still(job: Job) -> Measured:
    """Real video whose first frame is held: what a model that paints but does not move would reach."""
    scenes = _scenes(int(job.values["videos"]))
    shown = render(scenes, int(job.values["frames"]), step=0)
    _keep(job, shown, [])
    numbers, absent = _judged(shown, scenes, [], "still video is one clip", job, _reference(job))
    return Measured(numbers=numbers, absent=absent | dict.fromkeys(_costs(), "still video is not generated"))


def _reference(job: Job) -> Path:
    if job.reference is None:
        raise ValueError("video is compared with real video, and this job names no reference")
    return job.reference


class Generator:
    """Makes batches of videos as a cell's values say, and times their stages."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.method = METHODS[str(values["method"])]
        self.options = self.method.options(int(values["overlap"]))
        self.device, self.dtype = str(values["device"]), DTYPES[str(values["precision"])]
        self.frames, self.clip, self.batch = (int(values[name]) for name in ("frames", "clip", "batch"))
        self.guidance = float(values["guidance"])
        self.first_seed = int(values["seed"]) * 10**6
        self.pipe = load_pipeline("pocket", dtype=self.dtype, device=self.device)
        self.stopwatch = Stopwatch(self.device)

    def make(self, prompts: list[str], first: int, steps: int) -> tuple[UInt8[np.ndarray, "B T H W C"], Cost]:
        """A batch: the videos `first`, `first` + 1, ... of the cell.

        Raises:
            InvalidError: the calls were not those of the plan, or the latents are not finite.
        """
        seeds = tuple(range(self.first_seed + first, self.first_seed + first + len(prompts)))
        request = Request(frames=self.frames, clip=self.clip, shape=self.pipe.latent_shape, seeds=seeds)
        schedule = self.pipe.schedule(steps)
        with self.stopwatch.stage("text"):
            denoise = Counted(self.pipe.denoiser(prompts, guidance=self.guidance))
        with self.stopwatch.stage("denoise"):
            result = self.method.sample(denoise, schedule, request, self.options, device=self.device, dtype=self.dtype)
        plan = result.plan
        if (denoise.calls, denoise.fe) != (plan.calls, plan.fe):
            made = f"{denoise.calls} calls over {denoise.fe} frames"
            raise InvalidError(f"{made} were made where the plan says {plan.calls} over {plan.fe}")
        with self.stopwatch.stage("decode"):
            try:
                videos = self.pipe.decode(result.latents, clip=self.clip)
            except ValueError as error:
                bad = int((~torch.isfinite(result.latents)).sum())
                raise InvalidError(f"{bad} latents are NaN or infinite") if bad else error from error
        cost = Cost(
            self.stopwatch.read(), plan.fe * denoise.branches / self.frames, [seam.frame for seam in plan.seams]
        )
        return videos, cost


def _generated(job: Job) -> Measured:
    values, reference = job.values, _reference(job)
    videos, steps = int(values["videos"]), int(values["steps"])
    print("load", flush=True)
    generator = Generator(values)
    batch, device = generator.batch, generator.device
    scenes = _scenes(videos)
    prompts = [caption(scene) for scene in scenes]

    print("warm up", flush=True)
    _, warm_up = generator.make(prompts[:batch], 0, min(WARM_UP_STEPS, steps))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    parts, costs, readings = [], [], []
    for first in range(0, videos, batch):
        print(f"videos {first} to {first + batch - 1}", flush=True)
        part, cost = generator.make(prompts[first : first + batch], first, steps)
        parts.append(part)
        costs.append(cost)
        readings.append(driver_reading(device))
    allocated, reserved = allocator_peaks(device)
    memory = {
        "process_peak": process_peak(),
        "allocated_peak": allocated,
        "reserved_peak": reserved,
        "driver_peak": max(readings, key=lambda reading: reading.bytes or 0),
    }
    made = np.concatenate(parts)
    if made.shape[:2] != (videos, generator.frames):
        raise InvalidError(f"{made.shape[:2]} videos and frames came where {(videos, generator.frames)} were asked for")

    print("judge", flush=True)
    _keep(job, made, costs[0].seams)
    no_seams = f"{values['method']} has no seams, it makes the whole video in one window"
    numbers, absent = _judged(made, scenes, costs[0].seams, no_seams, job, reference)
    samples = {f"{stage}_seconds": tuple(cost.seconds[stage] for cost in costs) for stage in costs[0].seconds}
    numbers["seconds_per_frame"] = median_number(samples["total_seconds"], "s", "lower", per=batch * generator.frames)
    for name in ("text_seconds", "denoise_seconds", "decode_seconds"):
        numbers[name] = median_number(samples[name], "s", "lower")
    numbers["fe_per_frame"] = Number(costs[0].fe_per_frame, "1/frame", "lower", n=videos)
    for name, reading in memory.items():
        if reading.bytes is None:
            absent[name] = reading.source
        else:
            numbers[name] = Number(float(reading.bytes), "bytes", "lower")
    return Measured(
        numbers=numbers,
        samples=samples | {f"warm_up_{stage}_seconds": (seconds,) for stage, seconds in warm_up.seconds.items()},
        absent=absent,
        facts={
            "output_sha256": hashlib.sha256(made.tobytes()).hexdigest(),
            "threads": str(torch.get_num_threads()),
            **{f"{name}_by": reading.source for name, reading in memory.items() if reading.bytes is not None},
        },
    )


def _scenes(count: int) -> list[Scene]:
    return [draw_scene(TEST_SEEDS[i]) for i in range(count)]


def _judged(
    videos: UInt8[np.ndarray, "N T H W C"],
    scenes: list[Scene],
    seams: list[int],
    why_no_seams: str,  # said of the measures of seams where there are none
    job: Job,
    reference: Path,
) -> tuple[dict[str, Number], dict[str, str]]:
    """Every measure of quality, as a number or with the reason why not."""
    device = str(job.values["device"])
    cut, source = windows(videos, int(job.values["window"]))
    seen = extract(load_judge(JUDGES / "i3d.safetensors", device=device), cut)
    logits = extract(load_judge(JUDGES / "c3d.safetensors", device=device), cut).logits["action"]
    with np.load(reference / REFERENCE, allow_pickle=False) as real:
        if job.values["real_captions"] == "same":
            fvd = matched_frechet_score(real["embedding"], seen.embedding, real["source"] % len(scenes), source)
        else:
            fvd = frechet_score(real["embedding"], seen.embedding, real["source"], source)
    scores: dict[str, Score | str] = {
        "fvd": fvd,
        "is": score_of_logits(logits, source),
        **{
            name: _recognised(name, seen.logits[name], source, scenes)
            if name in seen.logits
            else f"the judge was not trained to tell the {name}"
            for name in ATTRIBUTES
        },
        "flicker": flicker(videos),
        "jitter": jitter(videos),
        "motion": motion(videos),
    }
    at_seams: dict[str, Callable[[], Score]] = {
        "seam_d": lambda: seam_ratio(videos, seams, signal="D"),
        "seam_a": lambda: seam_ratio(videos, seams, signal="A"),
        "duplicates": lambda: duplicates(videos, seams),
        "mirror": lambda: cycling(videos, seams, kind="mirror"),
        "repeat": lambda: cycling(videos, seams, kind="repeat"),
    }
    for name, measure in at_seams.items():
        try:
            scores[name] = measure() if seams else why_no_seams
        except ValueError as error:  # too few frames around the seams: a property of the request
            scores[name] = str(error)
    numbers = {name: _number(name, score) for name, score in scores.items() if isinstance(score, Score)}
    return numbers, {name: score for name, score in scores.items() if isinstance(score, str)}


def _recognised(
    name: str, logits: Float[np.ndarray, "N K"], source: Int[np.ndarray, " N"], scenes: list[Scene]
) -> Score:
    """Share of windows whose attribute the judge sees as the caption names it, by video."""
    right = logits.argmax(axis=1) == np.array([labels(scene)[name] for scene in scenes])[source]
    return mean_score([float(right[source == i].mean()) for i in range(len(scenes))])


def _number(name: str, score: Score) -> Number:
    measure = MEASURES[name]
    return Number(score.value, measure.unit, measure.better, score.n, score.low, score.high)


def _costs() -> list[str]:
    return [name for name, measure in MEASURES.items() if measure.table == "cost"]


def _keep(job: Job, videos: UInt8[np.ndarray, "N T H W C"], seams: list[int]) -> None:
    """Leave a few videos to look at: exact, with their seams, and side by side as a film."""
    few = videos[:KEPT]
    np.savez_compressed(job.folder / "videos.npz", videos=few, seams=np.array(seams, dtype=np.int64))
    write_video(job.folder / "videos.mp4", np.concatenate(list(few), axis=2), scale=4)
