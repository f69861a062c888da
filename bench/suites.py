"""The sweeps that exist. A new one is an entry of SUITES, most often `replace(POCKET, ...)`."""

from collections.abc import Mapping
from dataclasses import replace

from bench.fair import EQUAL, steps_at_equal_fe
from bench.kernels.suite import KERNEL_SUITE
from bench.measure.device import NO_CUDA, has_cuda, named_device
from bench.methods import METHODS, NOISE, options_of, with_noise
from bench.record import Value
from bench.speed.approximations import APPROXIMATION_SUITE
from bench.speed.suite import MEMORY_SUITE, SPEED_SUITE
from bench.suite import Measure, Prediction, Suite
from vidrd.sampling import Plan, Request

MEASURES: dict[str, Measure] = {
    "fvd": Measure(
        "FVD", "", "lower", "quality",
        "Fréchet distance between features of the generated videos and of `real_videos` real ones, in windows of "
        "`window` frames, by the pocket I3D-like judge. `real_captions`: the real ones show the same captions or other "
        "scenes. Real video's own row is the floor: further real scenes of the captions, at equal n. Biased upward at "
        "small n: compare within one table only.",
    ),
    "fvd_inside": Measure(
        "FVD inside", "", "lower", "quality",
        "The same over windows of `clip` frames, one a video, that end at a seam and hold none: the clips themselves. "
        "Compares with FVD across and no other column.",
    ),
    "fvd_across": Measure(
        "FVD across", "", "lower", "quality",
        "The same over as many windows of `clip` frames with a seam in the middle: what the joining costs.",
    ),
    "drift": Measure(
        "drift", "1/clip", "real", "quality",
        "FVD that windows of `clip` frames gain from one clip's length to the next along the video: 0 = none, above = "
        "the video gets worse.",
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
    "seam_off": Measure(
        "|seam D|", "log2", "real", "quality",
        "Mean distance of seam D from 0, video by video: held frames and cuts both count and do not cancel, so that a "
        "frozen seam does not win; seam D says the direction.",
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
    "residual_seconds": Measure("rest s", "s", "lower", "cost", "What a batch takes beyond its three stages."),
    "step_seconds": Measure("step s", "s", "lower", "cost", "One denoising step: the median over all of all batches."),
    **{
        f"{stage}_share": Measure(
            f"{stage} %", "%", "higher", "cost",
            f"Share of the {stage} time that this machine needs at its peaks (a matrix product's arithmetic, the "
            "fastest copy's bytes) for the products, convolutions and attentions in it, all else free. Above 100 % "
            "the cell is invalid.",
        )
        for stage in ("text", "denoise", "decode")
    },
    "load_seconds": Measure("load s", "s", "lower", "cost", "Weights to a pipeline on the device, imports left out."),
    "cold_seconds": Measure("cold s", "s", "lower", "cost", "The very first call, of 2 steps."),
    "joules_per_video": Measure(
        "J/video", "J", "lower", "cost",
        "Energy of the GPU by NVML's counter over a window of a second or more, in a pass of its own; nothing "
        "subtracted for an idle card.",
    ),
    "fe_per_frame": Measure(
        "fe/frame", "1/frame", "lower", "cost",
        "Frame evaluations: frames summed over network calls, both branches of guidance counted, per frame of the "
        "video. Checked against the calls that were made.",
    ),
    "steps": Measure(
        "steps", "", None, "cost",
        "Denoising steps taken. At equal fe the most whose fe/frame is at most `steps` times the branches; at equal "
        "seconds the most that take as long as independent clips of `steps` steps, by two short runs of each.",
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
        "GPU memory that the driver counts for the process (NVML), CUDA's own included: the largest of many looks "
        "while one batch is made, in a pass of its own.",
    ),
}  # fmt: skip


GIVEN = ("real", "still")  # rows that no method makes: real video, and real video whose first frame is held
UNUSED: dict[str, Value] = {
    "overlap": 0, "precision": "fp32", "steps": 0, "guidance": 0.0, "batch": 0, "seed": 0, "noise": "iid", "budget": 0,
    "alpha": 0.0, "beta": 0.0, "join": "keep", "reverse": True, "stages": "linear", "guide": "hard",
}  # fmt: skip


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device, and clear what has no meaning: the overlap of methods whose clips do not overlap, say."""
    device = named_device(values["device"])
    if values["method"] in GIVEN:
        return {**real(values), "method": values["method"], "device": device}
    if not METHODS[str(values["method"])].takes_overlap:
        values = {**values, "overlap": 0}
    if "reverse" in values:
        if values["overlap"] == 0:  # nothing is held, nothing guided
            values = {**values, "join": "keep", "beta": 0.0}
        elif not values["reverse"]:  # the whole overlap repeats: kept, it would stutter
            values = {**values, "join": "drop_duplicate"}
    return {**values, "device": device}


def real(values: Mapping[str, Value]) -> dict[str, Value]:
    """Real video of the same captions and length: nothing of how videos are generated has a meaning for it."""
    return {**values, **{name: value for name, value in UNUSED.items() if name in values}, "method": "real"}


def request_of(values: Mapping[str, Value]) -> Request:
    """What the cell asks for, of one video of one latent."""
    return Request(frames=int(values["frames"]), clip=int(values["clip"]), shape=(1, 1, 1), seeds=(0,))


def steps_of(values: Mapping[str, Value]) -> int:
    """Steps of the cell, as far as they can be known before it runs (at equal seconds: those it is allowed to match).

    Raises:
        ValueError: one step of the method costs more than is allowed.
    """
    steps = int(values["steps"])
    if values["equal"] != "fe":
        return steps
    method = with_noise(METHODS[str(values["method"])], str(values["noise"]))
    return steps_at_equal_fe(method.plan, request_of(values), options_of(values), steps)


def plan_of(values: Mapping[str, Value]) -> Plan:
    """What the cell's method will do for one video.

    Raises:
        ValueError: the method cannot make such a video.
    """
    method = with_noise(METHODS[str(values["method"])], str(values["noise"]))
    return method.plan(request_of(values), steps_of(values), options_of(values))


def skip(values: Mapping[str, Value]) -> str | None:
    """Why this machine or this method cannot do it."""
    names = ("frames", "window", "videos", "batch", "real_videos")
    frames, window, videos, batch, real_videos = (int(values[name]) for name in names)
    generated, on_gpu = values["method"] not in GIVEN, values["device"] == "cuda"
    reasons = {
        f"{frames} frames are fewer than the judges' window of {window}: give more, or a shorter one": frames < window,
        NO_CUDA: on_gpu and not has_cuda(),
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


def predict(values: Mapping[str, Value]) -> Prediction | None:
    """What the cell's networks will be asked for."""
    from bench.predict import predict as counted  # noqa: PLC0415  (loads the networks' code, for a dry run only)

    return counted(values) if skip(values) is None else None


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
        "steps": 8,
        "guidance": 2.0,
        "equal": "steps",  # what the methods have in common: "steps", "fe" a frame, or "seconds" (bench/fair.py)
        "noise": "iid",  # prior of the initial noise
        "budget": 0,  # frames, both branches of guidance, that one network call may hold; 0: a window of every video
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
        "equal": EQUAL,
        "noise": NOISE,
        "device": ("auto", "cpu", "cuda"),
    },
    least={"frames": 1, "videos": 3, "batch": 1, "steps": 1, "clip": 1, "window": 3, "real_videos": 3},
    settle=settle,
    reference=real,
    skip=skip,
    cost=cost,
    predict=predict,
)

SAMPLERS = replace(
    POCKET,
    question="How do the ways to make a long video compare at equal cost? (pocket world)",
    axes={"equal": ("fe",), "method": tuple(METHODS)},
    fixed={
        **{name: value for name, value in POCKET.fixed.items() if name != "equal"},
        "frames": 32,
        "overlap": 4,
        "precision": "fp32",
        "videos": 40,
        "batch": 20,
        "steps": 20,
        "real_videos": 400,
    },
    group="equal",
)
ABLATION = replace(
    SAMPLERS,
    question="What does each idea of VidRD buy, and what stops its content from cycling? (pocket world, equal fe)",
    axes={
        "equal": ("fe",),
        "reverse": (True, False),
        "overlap": (2, 4),
        "alpha": (0.0, 1.0, 4.0),
        "beta": (0.0, 0.4),
        "join": ("keep", "drop_duplicate"),
    },
    fixed={
        **{name: value for name, value in SAMPLERS.fixed.items() if name != "overlap"},
        "method": "vidrd",
        "stages": "linear",
        "guide": "hard",
        "videos": 20,
        "batch": 20,
        "steps": 10,
        "real_videos": 400,
    },
    allowed={
        **SAMPLERS.allowed,
        "method": ("vidrd",),
        "reverse": (True, False),
        "join": ("keep", "drop_duplicate"),
        "stages": ("linear", "constant"),
        "guide": ("hard", "blend"),
    },
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
    "samplers": SAMPLERS,
    "samplers-steps": replace(
        SAMPLERS,
        question="How do the ways to make a long video compare at equal steps, whatever they cost? (pocket world)",
        axes={**SAMPLERS.axes, "equal": ("steps",)},
    ),
    "samplers-seconds": replace(
        SAMPLERS,
        question="How do the ways to make a long video compare in equal time on this machine? (pocket world)",
        axes={**SAMPLERS.axes, "equal": ("seconds",)},
    ),
    "ablation": ABLATION,
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
    "gate": replace(
        POCKET,
        question="Is a change slower, larger or worse? What `python -m bench gate` measures. (pocket world)",
        axes={"method": ("vidrd", "direct"), "precision": ("fp32", "bf16")},
        fixed={**POCKET.fixed, "frames": 16, "overlap": 4, "videos": 24, "batch": 2, "steps": 4},
    ),
    "kernels": KERNEL_SUITE,
    "speed": SPEED_SUITE,
    "approximations": APPROXIMATION_SUITE,
    "memory": MEMORY_SUITE,
}
