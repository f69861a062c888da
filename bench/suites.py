"""The sweeps that exist. A new one is an entry of SUITES, most often `replace(POCKET, ...)`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch

from bench.methods import METHODS
from bench.record import Value
from bench.suite import Measure, Suite
from vidrd.sampling import Plan, Request

MEASURES: dict[str, Measure] = {
    "fvd": Measure(
        "FVD", "", "lower", "quality",
        "Fréchet distance between features of the generated videos and of `real_videos` real ones, in windows of "
        "`window` frames, by the pocket I3D-like judge. `real_captions`: the real ones show the same captions or other "
        "scenes. Real video's own row is the floor: further real scenes of the captions, at equal n. Biased upward at "
        "small n: compare within one table only.",
    ),
    "is": Measure(
        "IS", "", "higher", "quality",
        "Inception Score over the action classes of the pocket C3D-like judge, in windows of `window` frames; at most "
        "the number of classes.",
    ),
    "flicker": Measure("flicker", "1/frame", "real", "quality", "Mean absolute change from frame to frame, of 1."),
    "jitter": Measure(
        "jitter", "", "real", "quality",
        "Share of the change from frame to frame that the next frame takes back, in [0, 1]; white noise has 0.87.",
    ),
    "seam_d": Measure(
        "seam D", "log2", "real", "quality",
        "log2 of the change across the seams against the median change elsewhere: 0 = no seam to be seen, above = a "
        "cut, below = a held frame. Real video has no seams: measured where clips of `clip` frames would meet.",
    ),
    "seam_a": Measure(
        "seam A", "log2", "real", "quality", "The same for the second difference, which sees motion turn round."
    ),
    "motion": Measure(
        "motion", "", "real", "quality",
        "Root mean square change over two frames beyond that over one, of 1; a still video has 0.",
    ),
    "duplicates": Measure(
        "held", "", "real", "quality",
        "Share of seams at which the frame is held: it changes by at most a quarter of the median.",
    ),
    "mirror": Measure(
        "mirror", "", "real", "quality",
        "How far a clip plays the one before it backwards: 1 = exactly, 0 = no nearer than any frames as far apart.",
    ),
    "repeat": Measure(
        "repeat", "", "real", "quality",
        "How far every second clip is alike, on the same scale; needs more than two clips.",
    ),
    **{
        name: Measure(
            name, "", "higher", "prompt",
            f"Share of windows in which the I3D-like judge sees the {name} that the caption names, in [0, 1]. Real "
            "video's own row is the judge's accuracy.",
        )
        for name in ("action", "shape", "colour", "texture", "background")
    },
    "seconds_per_frame": Measure(
        "s/frame", "s", "lower", "cost",
        "Text, denoising and decoding of a batch, divided by its frames: the median over batches, after one warm-up "
        "call of 2 steps.",
    ),
    "text_seconds": Measure(
        "text s", "s", "lower", "cost", "Prompts to embeddings, for a batch of `batch` videos: the median over batches."
    ),
    "denoise_seconds": Measure("denoise s", "s", "lower", "cost", "Noise to latents, likewise."),
    "decode_seconds": Measure("decode s", "s", "lower", "cost", "Latents to 8-bit RGB frames, likewise."),
    "fe_per_frame": Measure(
        "fe/frame", "1/frame", "lower", "cost",
        "Frame evaluations: frames summed over network calls, both branches of guidance counted, per frame of the "
        "video. Checked against the calls that were made.",
    ),
    "process_peak": Measure(
        "RSS", "bytes", "lower", "cost",
        "Largest resident memory of the process up to the last decoded batch: Python, libraries and weights included, "
        "the judges not.",
    ),
    "allocated_peak": Measure(
        "GPU alloc", "bytes", "lower", "cost", "Largest sum of live tensors on the GPU in the timed batches (PyTorch)."
    ),
    "reserved_peak": Measure(
        "GPU reserved", "bytes", "lower", "cost", "Largest memory that PyTorch's allocator held in the timed batches."
    ),
    "driver_peak": Measure(
        "GPU process", "bytes", "lower", "cost",
        "GPU memory that the driver counts for the process (NVML), CUDA's own included: the largest reading after a "
        "batch.",
    ),
}  # fmt: skip


@cache
def _cuda() -> bool:
    return torch.cuda.is_available()


GIVEN = ("real", "still")  # rows that no method makes: real video, and real video whose first frame is held
UNUSED: dict[str, Value] = {"overlap": 0, "precision": "fp32", "steps": 0, "guidance": 0.0, "batch": 0, "seed": 0}


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device, and clear what has no meaning: the overlap of methods whose clips do not overlap, say."""
    device = values["device"] if values["device"] != "auto" else "cuda" if _cuda() else "cpu"
    if values["method"] in GIVEN:
        return {**values, **UNUSED, "device": device}
    takes_overlap = METHODS[str(values["method"])].takes_overlap
    return {**values, "device": device, "overlap": values["overlap"] if takes_overlap else 0}


def real(values: Mapping[str, Value]) -> dict[str, Value]:
    """Real video of the same captions and length: nothing of how videos are generated has a meaning for it."""
    return {**values, **UNUSED, "method": "real"}


def plan_of(values: Mapping[str, Value]) -> Plan:
    """What the cell's method will do for one video.

    Raises:
        ValueError: the method cannot make such a video.
    """
    method = METHODS[str(values["method"])]
    request = Request(frames=int(values["frames"]), clip=int(values["clip"]), shape=(1, 1, 1), seeds=(0,))
    return method.plan(request, int(values["steps"]), method.options(int(values["overlap"])))


def skip(values: Mapping[str, Value]) -> str | None:
    """Why this machine or this method cannot do it."""
    names = ("frames", "window", "videos", "batch", "real_videos")
    frames, window, videos, batch, real_videos = (int(values[name]) for name in names)
    generated, on_gpu = values["method"] not in GIVEN, values["device"] == "cuda"
    reasons = {
        f"{frames} frames are fewer than the judges' window of {window}: give more, or a shorter one": frames < window,
        "no CUDA device was found": on_gpu and not _cuda(),
        "fp16 is measured on CUDA only, a CPU computes it by way of fp32: try bf16": (
            values["precision"] == "fp16" and not on_gpu
        ),
        f"{real_videos} real videos do not show each of {videos} captions: try {10 * videos}": (
            values["real_captions"] == "same" and real_videos < videos
        ),
        f"{videos} videos do not come in batches of {batch}, and only like batches can be timed together": (
            generated and videos % batch > 0
        ),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is None and generated:
        try:
            plan_of(values)
        except ValueError as error:
            return str(error)
    return reason


def cost(values: Mapping[str, Value]) -> float:
    """Frame evaluations of the cell, and a little for its start and its judges."""
    start = 2000.0
    if values["method"] in GIVEN:
        return start
    branches = 1 if values["guidance"] == 1 else 2
    return start + int(values["videos"]) * branches * plan_of(values).fe if skip(values) is None else 0.0


POCKET = Suite(
    question="What do longer videos cost, and what do they lose, by method, overlap and precision? (pocket world)",
    workload="pocket",
    axes={
        "frames": (16, 24, 32),
        "method": ("vidrd", "independent", "direct"),
        "overlap": (2, 4, 6),
        "precision": ("fp32", "bf16"),
    },
    fixed={
        "seed": 0,
        "videos": 24,  # of each cell
        "batch": 8,  # videos in one call
        "steps": 10,
        "guidance": 2.0,
        "clip": 8,  # frames one network call sees
        "window": 16,  # frames the judges see
        "real_videos": 240,  # that FVD compares with
        "real_captions": "same",  # as the prompts; "other": drawn freely, which takes a thousand videos to tell much
        "device": "auto",
    },
    measures=MEASURES,
    group="frames",
    files=("weights/pocket", "weights/pocket-judges"),
    allowed={
        "method": (*METHODS, "still"),
        "precision": ("fp32", "bf16", "fp16"),
        "real_captions": ("same", "other"),
        "device": ("auto", "cpu", "cuda"),
    },
    least={"frames": 1, "videos": 3, "batch": 1, "steps": 1, "clip": 1, "window": 3, "real_videos": 3},
    settle=settle,
    reference=real,
    skip=skip,
    cost=cost,
)

SUITES: dict[str, Suite] = {
    "pocket": POCKET,
    "clips": replace(
        POCKET,
        question="How good are single clips, beside real and still video? (pocket world)",
        axes={"method": ("still", "independent")},
        fixed={
            **POCKET.fixed,
            "frames": 8,
            "window": 8,
            "overlap": 0,
            "precision": "fp32",
            "videos": 1024,
            "batch": 64,
            "steps": 20,
            "real_videos": 1024,
            "real_captions": "other",
        },
    ),
    "smoke": replace(
        POCKET,
        question="Does the whole way work? Two short cells; the numbers mean nothing. (pocket world)",
        axes={"method": ("vidrd", "independent")},
        fixed={
            **POCKET.fixed,
            "frames": 16,
            "overlap": 4,
            "precision": "fp32",
            "videos": 4,
            "batch": 2,
            "steps": 4,
            "real_videos": 16,
        },
    ),
}
