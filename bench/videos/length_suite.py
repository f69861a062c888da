"""The suite `lengths`: long videos of any model by any method, without judges (`--model`, `--prompts`)."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench.hardware.device import NO_CUDA, emulated, has_cuda, named_device
from bench.harness.suite_spec import Suite
from bench.methods import METHODS, NOISE
from bench.results.records import Value, digest
from bench.videos.columns import FLOW_MEASURES, JUDGED, MEASURES
from bench.videos.equal_cost import EQUAL
from bench.videos.knobs.losses import FIRED, LOSSES
from bench.videos.knobs.settings import NEUTRAL, check, is_exact, plain, why_not
from bench.videos.plan import model_of, plan_of
from vidrd.denoiser import ONE_LEVEL
from vidrd.precision import PRECISIONS, default_precisions

if TYPE_CHECKING:
    from baselines.model_contract import Model

PROMPTS = (  # where no file of prompts is given; words of the tiny models, and enough for large ones
    "a red ball rolls left",
    "the blue cat runs right",
    "a dog runs",
    "the red ball rolls right",
)


def read_prompts(file: str) -> tuple[str, ...]:
    """The prompts of a text file, one a line; empty lines and those that begin with # are left out.

    Raises:
        ValueError: there is no such file, or no prompt in it.
    """
    if not file:
        return PROMPTS
    if not Path(file).is_file():
        raise ValueError(f"prompts are a text file with one prompt a line: there is no file {file}")
    lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    prompts = tuple(line for line in lines if line and not line.startswith("#"))
    if not prompts:
        raise ValueError(f"prompts are a text file with one prompt a line: got none in {file}")
    return prompts


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device, fill in what is the model's own, and clear what has no meaning for the method.

    The cell's id knows the content of the prompts and of the model: `inputs` is a hash of them.
    """
    check(values)
    model = model_of(values)
    height, width = (int(values[side]) or own for side, own in zip(("height", "width"), model.size, strict=True))
    return {
        **values,
        "device": named_device(values["device"]),
        "overlap": values["overlap"] if METHODS[str(values["method"])].takes_overlap else 0,
        "clip": int(values["clip"]) or model.rule.frames(model.clip),
        "guidance": float(values["guidance"]) or model.guidance,
        "height": height,
        "width": width,
        "inputs": inputs(str(values["model"]), str(values["revision"]), str(values["prompts"])),
    }


@cache
def inputs(model: str, revision: str, prompts: str) -> str:
    """Twelve digits: the prompts, and the configuration and sizes of the model's files."""
    from vidrd.checkpoints import locate  # noqa: PLC0415  (loads diffusers)

    files: list[tuple[str, str | int]] = []
    if not model.startswith("tiny:") and model != "pocket":
        folder = locate(model, revision=revision or None)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_text() if path.suffix == ".json" else path.stat().st_size
            files.append((path.relative_to(folder).as_posix(), content))
    return digest({"prompts": list(read_prompts(prompts)), "files": [list(each) for each in files]})


def unsuited(values: Mapping[str, Value], model: "Model") -> str | None:
    """Why the model cannot do what the method needs."""
    method, longer = METHODS[str(values["method"])], int(values["frames"]) > int(values["clip"])
    if method.per_frame and longer and model.levels == "video":
        return ONE_LEVEL
    if method.cuts_attention and not model.windowed:
        return "the temporal attention of this model cannot be cut in windows: use a method that leaves it as it is"
    return None


def skip(values: Mapping[str, Value]) -> str | None:
    """Why this machine, this model or this method cannot do it."""
    videos, batch = int(values["videos"]), int(values["batch"])
    if values["device"] == "cuda" and not has_cuda():
        return NO_CUDA
    if videos % batch:
        return f"{videos} videos do not come in batches of {batch}, and only like batches can be timed together"
    try:
        model = model_of(values)
        model.latent_shape(int(values["height"]), int(values["width"]))
        longest = max(stop - start for start, stop in plan_of(values).windows)
    except ValueError as error:
        return str(error)
    if model.longest is not None and longest > model.longest:
        return f"this network takes at most {model.longest} frames a call: got {longest}, ask for fewer"
    return unsuited(values, model) or why_not(values, model)


def cost(values: Mapping[str, Value]) -> float:
    """Frame evaluations of the cell, and a little for its start."""
    branches = 1 if values["guidance"] == 1 else 2
    return 2000.0 + (int(values["videos"]) * branches * plan_of(values).fe if skip(values) is None else 0.0)


LENGTHS = Suite(
    question="What do longer videos of a model cost, and how do their seams look, by method, overlap and precision?",
    workload="lengths",
    axes={
        "frames": (16, 32),
        "method": ("vidrd", "independent", "codenoise", "direct"),
        "overlap": (4,),
        "precision": default_precisions(str(named_device("auto"))),
    },
    fixed={
        "model": "pocket",  # a preset, a folder, the id of a repository at `revision`, tiny:PIPELINE
        "revision": "",
        "prompts": "",  # a file with one prompt a line
        "negative": "",
        "seed": 0,
        "videos": 4,  # of each cell; prompts are taken in turn
        "batch": 1,  # videos in one call
        "steps": 20,
        "guidance": 0.0,  # 0: the model's own
        "equal": "steps",
        "noise": "iid",
        "budget": 0,
        "clip": 0,  # frames of the video one network call sees; 0: what the model was trained on
        "height": 0,  # pixels; 0: the model's own
        "width": 0,
        "device": "auto",
    },
    measures={name: measure for name, measure in MEASURES.items() if name not in JUDGED} | FLOW_MEASURES,
    optional=NEUTRAL,
    extra=LOSSES | FIRED,
    inexact=lambda name, value: not is_exact(name, value),
    reference=plain,
    among=True,
    group="frames",
    headlines=(
        "seam_off", "duplicates", "mirror", "repeat", "saturation_drift", "seconds_per_frame", "process_peak"
    ),
    allowed={
        "method": tuple(METHODS),
        "precision": tuple(PRECISIONS),
        "equal": EQUAL,
        "noise": NOISE,
        "device": ("auto", "cpu", "cuda"),
    },
    least={"frames": 1, "videos": 3, "batch": 1, "steps": 1},
    settle=settle,
    skip=skip,
    emulated=emulated,
    cost=cost,
)  # fmt: skip
