"""The ladder as a suite: `python -m bench run --suite speed`."""

from bench.hardware.device import NO_CUDA, emulated, has_cuda, named_device
from bench.harness.suite_spec import Measure, Suite, Values
from bench.methods import METHODS, unsuited
from bench.results.records import Value
from bench.speed.memory_cell import MEMORY_MEASURES, family_of, plan_of, request_of
from bench.speed.models import MODELS
from bench.speed.variants import REFERENCE, VARIANTS, cannot

MEASURES: dict[str, Measure] = {
    "step_seconds": Measure(
        "s/step", "s", "lower", "cost",
        "One guided denoising step of one clip: the median of the rounds, in each of which every variant "
        "took its turn.",
    ),
    "speedup": Measure(
        "faster", "x", "higher", "cost",
        "How many times faster than the reference: trimmed mean of the ratios within each round.",
    ),
    "gain": Measure("gain", "x", "higher", "cost", "The same against the variant that this one adds to."),
    "share": Measure(
        "% of bound", "%", "higher", "cost",
        "Share of the rate of a large matrix product of that precision, measured in the same rounds: FLOPs of the step "
        "by its time and that rate. Left out where the variant is faster than the product.",
    ),
    "layer_share": Measure(
        "% w/o attn", "%", "higher", "cost",
        "The same without the FLOPs of attention's own two products, for counts that leave them out.",
    ),
    "nominal_share": Measure("% of sheet", "%", "higher", "cost", "Share of the rate in the GPU's data sheet, dense."),
    "tflop_seconds": Measure("s/TFLOP", "s/TFLOP", "lower", "cost", "Time for each FLOP that the variant itself does."),
    "flop_speedup": Measure(
        "per FLOP", "x", "higher", "cost",
        "How many times less time per FLOP than the reference takes, round by round: what compares networks whose work "
        "differs.",
    ),
    "gflop": Measure("GFLOP", "GFLOP", None, "cost", "Work of a step of one clip, two for a multiply-add."),
    "gflops": Measure("GFLOP/s", "GFLOP/s", "higher", "cost", "That work by its time."),
    "rate": Measure("peak GFLOP/s", "GFLOP/s", "higher", "cost", "The fastest matrix product of the run."),
    "weights": Measure("weights", "bytes", "lower", "cost", "Of the network."),
    "activations": Measure(
        "peak", "bytes", "lower", "cost",
        "The most that tensors hold beyond the weights: in one step on a CPU; on a GPU from making the variant "
        "until it is warm, CUDA graphs included.",
    ),
    "error": Measure(
        "error", "", "lower", "cost",
        "Largest difference of the output tensor from the reference's, of the reference's largest value.",
    ),
    "error_rms": Measure("rms error", "", "lower", "cost", "Root mean square of both instead."),
    "cold_seconds": Measure("cold s", "s", "lower", "cost", "The very first call, torch.compile's work included."),
}  # fmt: skip


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device."""
    return {**values, "device": named_device(values["device"])}


def reference(values: Values) -> dict[str, Value] | None:
    """The cell that measures the ladder."""
    return None if values["rung"] == REFERENCE else {**values, "rung": REFERENCE}


def skip(values: Values) -> str | None:
    """Why this machine cannot do it."""
    device = str(values["device"])
    if device == "cuda" and not has_cuda():
        return NO_CUDA
    if values["model"] == "full" and device == "cpu":
        return "7.6 TFLOP a step are minutes on a CPU, and its ladder some hours: take a GPU, or model=sd-106m"
    return cannot(VARIANTS[str(values["rung"])], device, compiled=bool(values["compiled"]))


def cost(values: Values) -> float:
    """The reference's cell does all the work."""
    work = {"tiny": 1.0, "pocket": 30.0, "sd-106m": 400.0, "full": 400.0}
    return work[str(values["model"])] if values["rung"] == REFERENCE else 0.01


SPEED_SUITE = Suite(
    question="How far is every way to compute a denoising step from what the machine can do?",
    workload="speed",
    axes={"model": ("pocket", "sd-106m", "full"), "rung": tuple(VARIANTS)},
    fixed={
        "device": "auto",
        "compiled": True,  # False leaves the variants out that take a compiler, and its minutes
        "rounds": 12,  # at most; every variant has its turn in each
        "seconds": 200,  # after which no round begins, once there were 6
        "seed": 0,  # of the order of turns
    },
    measures=MEASURES,
    group="model",
    headlines=("step_seconds", "speedup", "gain", "share", "error"),
    files=("weights/pocket/unet",),
    allowed={
        "model": tuple(MODELS),
        "rung": tuple(VARIANTS),
        "device": ("auto", "cpu", "cuda"),
        "compiled": (True, False),
    },
    least={"rounds": 2, "seconds": 1},
    settle=settle,
    reference=reference,
    skip=skip,
    cost=cost,
    timeout=1800,  # of the cell that measures a whole ladder, compiling included
    alone=True,
)


def settle_memory(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device; only some methods have an overlap."""
    takes = METHODS[str(values["method"])].takes_overlap
    family_of(values)  # refuses a model that is not here
    return {**settle(values), "overlap": values["overlap"] if takes else 0}


def skip_memory(values: Values) -> str | None:
    """Why this machine or this method cannot do it."""
    device = str(values["device"])
    if device == "cuda" and not has_cuda():
        return NO_CUDA
    if values["model"] in ("full", "sd-106m") and device == "cpu":
        return "hundreds of TFLOP are hours on a CPU: take a GPU, or model=pocket"
    try:
        plan, request, family = plan_of(values), request_of(values), family_of(values)
    except ValueError as error:
        return str(error)
    method, longest = METHODS[str(values["method"])], max(stop - start for start, stop in plan.windows)
    if family is None:
        return None
    if family.longest is not None and not method.cuts_attention and longest > family.longest:
        return f"this network takes at most {family.longest} frames a call: got {longest}, ask for fewer"
    return unsuited(method, family, longer=request.frames > request.clip)


MEMORY_SUITE = Suite(
    question="How does memory grow with the length of a video, and does the plan predict it?",
    workload="growth",
    axes={"method": tuple(METHODS), "frames": (16, 32, 64, 128, 256)},
    # model: also any of docs/models.md, of `revision` where it is a repository's
    fixed={"model": "pocket", "revision": "", "overlap": 4, "steps": 4, "precision": "fp32", "device": "auto"},
    measures=MEMORY_MEASURES,
    group="model",
    headlines=("clips_held", "sample_peak", "of_plan"),
    files=("weights/pocket/unet",),
    allowed={
        "method": tuple(METHODS),
        "precision": ("fp32", "bf16"),
        "device": ("auto", "cpu", "cuda"),
    },
    least={"frames": 1, "steps": 1},
    settle=settle_memory,
    skip=skip_memory,
    emulated=emulated,
    cost=lambda values: float(values["frames"]),
)  # fmt: skip
