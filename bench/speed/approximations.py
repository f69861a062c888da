"""The suite `approximations`: what is faster because it computes something else (done by
`bench/speed/approximation_cell.py`).
"""

from typing import NamedTuple

from bench.hardware.device import emulated
from bench.harness.suite_spec import Measure, Suite, Values
from bench.videos.plan import plan_of

EXACT = "exact"


class Approximation(NamedTuple):
    """A named way to compute something else in less time.

    Args:
        says: what it does, one line.
        steps: share of the exact way's steps.
        solver: of `vidrd.solvers`.
        reuse_every: all stages of the U-Net run every so many steps only.
        precision: of weights and activations.
        fp8: linear layers multiply 8-bit floats.
    """

    says: str
    steps: float = 1.0
    solver: str = "ddim"
    reuse_every: int = 1
    precision: str = "fp32"
    fp8: bool = False


APPROXIMATIONS: dict[str, Approximation] = {
    EXACT: Approximation("the exact way against itself: what no difference looks like"),
    "half-steps": Approximation("DDIM, half of the steps", steps=0.5),
    "fifth-steps": Approximation("DDIM, a fifth of the steps", steps=0.2),
    "dpmsolver-2/5": Approximation("DPM-Solver++ of second order, 2/5 of the steps", steps=0.4, solver="dpmsolver++"),
    "dpmsolver-1/5": Approximation("DPM-Solver++ of second order, 1/5 of the steps", steps=0.2, solver="dpmsolver++"),
    "unipc-2/5": Approximation("UniPC of second order, 2/5 of the steps", steps=0.4, solver="unipc"),
    "unipc-1/5": Approximation("UniPC of second order, 1/5 of the steps", steps=0.2, solver="unipc"),
    "reuse-2": Approximation("the lower stages of the U-Net at every second step", reuse_every=2),
    "reuse-5": Approximation("the lower stages of the U-Net at every fifth step", reuse_every=5),
    "bf16": Approximation("weights and activations in bfloat16", precision="bf16"),
    "fp8": Approximation("bfloat16, linear layers in 8 bits: on CUDA alone", precision="bf16", fp8=True),
}

MEASURES: dict[str, Measure] = {
    "speedup": Measure(
        "faster", "x", "higher", "cost",
        "How many times faster than the exact way, from prompts to frames: trimmed mean of the ratios of batches that "
        "were made one right after the other.",
    ),
    "batch_seconds": Measure("s/batch", "s", "lower", "cost", "A batch of `batch` videos: the median."),
    "exact_seconds": Measure("exact s", "s", "lower", "cost", "The same of the exact way, in the same process."),
    "steps": Measure("steps", "", None, "cost", "Denoising steps of a clip."),
    "fvd_loss": Measure(
        "FVD loss", "", "lower", "quality",
        "How much farther than the exact way's videos from real video of the same captions: difference of Fréchet "
        "distances, prompts and noise paired, delete-a-group jackknife.",
    ),
    "exact_fvd": Measure("exact FVD", "", "lower", "quality", "Distance of the exact way's videos themselves."),
    "caption_loss": Measure(
        "caption loss", "", "lower", "prompt",
        "How much less probable the classifier finds what the caption names, in [-1, 1]: the mean paired difference.",
    ),
    "pixel_change": Measure(
        "pixels", "", "lower", "quality", "Mean absolute difference of the videos' pixels from the exact way's, of 1."
    ),
}  # fmt: skip


def skip(values: Values) -> str | None:
    """Why this cannot be done."""
    videos, batch = int(values["videos"]), int(values["batch"])
    if videos % batch:
        return f"{videos} videos do not come in batches of {batch}, and only like batches can be timed together"
    chosen = APPROXIMATIONS[str(values["approximation"])]
    if values["device"] == "cpu" and chosen.fp8:
        return "8-bit products need a CUDA device of compute capability 8.9 or more"
    if values["model"] == "pocket" and int(values["frames"]) < int(values["window"]):
        return f"the classifier sees {values['window']} frames: got videos of {values['frames']}, take a shorter window"
    if values["model"] != "pocket" and (chosen.fp8 or chosen.reuse_every > 1):
        return "it is for the stages and layers of VidRD's U-Net: leave it out for other models"
    try:
        plan_of({**values, "noise": "iid", "equal": "steps"})
    except ValueError as error:
        return str(error)
    return None


def _cost(values: Values) -> float:
    chosen = APPROXIMATIONS[str(values["approximation"])]
    return 1.0 + chosen.steps


APPROXIMATION_SUITE = Suite(
    question="What do approximations gain in time, and what do they lose in quality? (pocket world)",
    workload="approximation",
    axes={"approximation": tuple(APPROXIMATIONS)},
    fixed={
        "method": "vidrd",
        "overlap": 4,
        "frames": 16,
        "clip": 8,
        "window": 16,
        "steps": 50,  # of the exact way
        "guidance": 2.0,
        "videos": 24,
        "batch": 4,
        "seed": 0,
        "device": "cpu",
        "model": "pocket",  # or any of docs/models.md, whose videos no judge knows
        "revision": "",
        "prompts": "",  # a file with one prompt a line, for other models
    },
    measures=MEASURES,
    group="method",
    headlines=("speedup", "fvd_loss", "caption_loss", "pixel_change"),
    files=("weights/pocket", "weights/pocket-judges"),
    allowed={"approximation": tuple(APPROXIMATIONS), "method": ("vidrd",), "device": ("cpu", "cuda")},
    least={"frames": 1, "clip": 1, "window": 3, "steps": 2, "videos": 3, "batch": 1},
    skip=skip,
    emulated=lambda values: emulated({**values, "precision": APPROXIMATIONS[str(values["approximation"])].precision}),
    cost=_cost,
    alone=True,
)
