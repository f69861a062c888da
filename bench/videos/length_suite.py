"""The suite `lengths`: long videos of any model by any method, without judges (`--model`, `--prompts`)."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bench.hardware.device import NO_CUDA, emulated, has_cuda, named_device
from bench.harness.suite_spec import Prediction, Suite
from bench.methods import METHODS, NOISE, offers, unsuited
from bench.results.records import LATER, Value, digest
from bench.videos.columns import FLOW_MEASURES, JUDGED, MEASURES, REAL_MEASURES
from bench.videos.equal_cost import EQUAL
from bench.videos.knobs.losses import FIRED, LOSSES, SCALING
from bench.videos.knobs.settings import NEUTRAL, check, is_exact, plain, turned, why_not
from bench.videos.plan import model_of, plan_of
from vidrd import prompt_schedule
from vidrd.precision import PRECISIONS, default_precisions

REAL = "real"  # the method of the cell that others are compared with
UNUSED: dict[str, Value] = {  # of the values that mean something to generated videos alone
    "overlap": 0, "precision": "fp32", "model": "", "revision": "", "prompts": "", "negative": "", "seed": 0,
    "videos": 0, "batch": 0, "steps": 0, "guidance": 0.0, "equal": "steps", "noise": "iid", "budget": 0, "clip": 0,
    "height": 0, "width": 0, "compat": "paper", "solver": "ddim",
    "positions": "trained",
}  # fmt: skip

SOLVERS = ("ddim", "dpmsolver++", "unipc")  # of vidrd.solvers, which loads diffusers

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
    lines = [line.strip() for line in Path(file).read_text(encoding="utf-8-sig").splitlines()]
    prompts = tuple(line for line in lines if line and not line.startswith("#"))
    if not prompts:
        raise ValueError(f"prompts are a text file with one prompt a line: got none in {file}")
    return prompts


def prompts_of(values: Mapping[str, Value]) -> list[str]:
    """The prompt of each of a cell's videos, taken in turn."""
    known = read_prompts(str(values["prompts"]))
    return [known[number % len(known)] for number in range(int(values["videos"]))]


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device, and clear what has no meaning for the method.

    Raises:
        ValueError: a knob has no such value; or cells would be compared with real videos and with the plain model.
    """
    check(values)
    if values["real"] and turned(values):
        raise ValueError("cells with knobs are compared with the plain model: leave --real out, or the knobs")
    return {
        **values,
        "device": named_device(values["device"]),
        "overlap": values["overlap"] if METHODS[str(values["method"])].takes_overlap else 0,
        "protocol": values["protocol"] if values["real"] else LATER["lengths"]["protocol"],
        "compat": values["compat"] if offers(values) else "paper",
        "positions": values["positions"] if values["method"] == "direct" else "trained",
    }


def fill(values: dict[str, Value]) -> dict[str, Value]:
    """Set what is left out to the model's own.

    The cell's id knows the content of the prompts, of the model and of the real videos: `inputs` is a hash of them.
    """
    model = model_of(values)
    judged = _content_of_real(values)
    known = inputs(str(values["model"]), str(values["revision"]), str(values["prompts"]))
    height, width = (int(values[side]) or own for side, own in zip(("height", "width"), model.size, strict=True))
    return {
        **values,
        "clip": int(values["clip"]) or model.rule.frames(model.clip),
        "guidance": float(values["guidance"]) or model.guidance,
        "height": height,
        "width": width,
        "inputs": digest([known, judged]) if judged else known,
    }


def _content_of_real(values: Mapping[str, Value]) -> str:
    """A hash of the real videos and of the network that compares with them; "" where there are none.

    Raises:
        ValueError: no such videos, network or protocol.
    """
    if not (values["real"] or values["weights"]):
        return ""
    from bench.videos.real_videos import content_of  # noqa: PLC0415  (loads the evaluator)

    return content_of(str(values["real"]), str(values["weights"]), str(values["protocol"]))


def reference(values: Mapping[str, Value]) -> dict[str, Value] | None:
    """The cell on one device, or the plain model's; or the one that embeds the real videos of any model's cells."""
    if turned(values):
        return plain(values)
    if not values["real"] or values["method"] == REAL:
        return None
    from bench.videos.real_videos import Comparison  # noqa: PLC0415  (loads the evaluator)

    comparison = Comparison.of(values)
    assert comparison is not None
    return {**values, **UNUSED, "method": REAL, "frames": comparison.clip, "inputs": _content_of_real(values)}


@cache
def inputs(model: str, revision: str, prompts: str) -> str:
    """Twelve digits: the prompts, and the configuration and sizes of the model's files."""
    from vidrd.checkpoints import locate  # noqa: PLC0415  (loads diffusers)

    files: list[tuple[str, str | int]] = []
    if not model.startswith(("tiny:", "drawn:")) and model != "pocket":
        folder = locate(model, revision=revision or None)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_text() if path.suffix == ".json" else path.stat().st_size
            files.append((path.relative_to(folder).as_posix(), content))
    return digest({"prompts": list(read_prompts(prompts)), "files": [list(each) for each in files]})


def skip(values: Mapping[str, Value]) -> str | None:
    """Why this machine, this model or this method cannot do it."""
    videos, batch = int(values["videos"]), int(values["batch"])
    if values["device"] == "cuda" and not has_cuda():
        return NO_CUDA
    if values["method"] == REAL:
        return None
    if videos % batch:
        return f"{videos} videos do not come in batches of {batch}, and only like batches can be timed together"
    return _too_short(values) or _refused(values)


def _too_short(values: Mapping[str, Value]) -> str | None:
    """Why the videos cannot be compared with the real ones."""
    if not values["real"]:
        return None
    from bench.videos.real_videos import too_short  # noqa: PLC0415  (loads the evaluator)

    return too_short(values)


def _refused(values: Mapping[str, Value]) -> str | None:
    """Why the model cannot do what the method needs."""
    method, longer = METHODS[str(values["method"])], int(values["frames"]) > int(values["clip"])
    try:
        model = model_of(values)
        model.latent_shape(int(values["height"]), int(values["width"]))
        prompt_schedule.read_prompts(prompts_of(values), int(values["frames"]))
        longest = max(stop - start for start, stop in plan_of(values).windows)
        model.schedule(int(values["steps"]), str(values["solver"]))
        if values["positions"] != "trained":
            with model.extend(str(values["positions"]), longest):
                pass
        if method.cuts_attention:  # what the network sees at a time
            longest = model.rule.latents(int(values["clip"]))
    except ValueError as error:
        return str(error)
    if model.longest is not None and longest > model.longest:
        return f"this network takes at most {model.longest} frames a call: got {longest}, ask for fewer"
    if method.any_order and values["solver"] != "ddim":
        return f"{values['solver']} remembers the steps of a clip, which this method takes in no order: use solver=ddim"
    return unsuited(method, model, longer=longer or values["compat"] == "diffusers") or why_not(values, model)


def cost(values: Mapping[str, Value]) -> float:
    """Frame evaluations of the cell, and a little for its start."""
    if values["method"] == REAL:
        return 2000.0
    branches = 1 if values["guidance"] == 1 else 2
    return 2000.0 + (int(values["videos"]) * branches * plan_of(values).fe if skip(values) is None else 0.0)


def predict(values: Mapping[str, Value]) -> Prediction | None:
    """What the networks of a cell that can run will be asked for."""
    from bench.videos.predict import predict as counted  # noqa: PLC0415  (loads the networks' code, for a dry run only)

    return counted(values)


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
        "model": "pocket",  # a preset, a folder, a repository's id, tiny:PIPELINE, drawn:PIPELINE:SIZE
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
        "real": "",  # a folder of real videos, for FVD, KVD and IS
        "weights": "",  # file or folder of the network that compares with them
        "protocol": "clean",  # by which they are compared
        "compat": "paper",  # a method as its paper has it, or as a published code
        "solver": "ddim",  # on a flow Euler's
        "positions": "trained",  # or how `direct` bears longer windows: riflex, ultravico
    },
    measures={name: measure for name, measure in MEASURES.items() if name not in JUDGED}
    | FLOW_MEASURES
    | REAL_MEASURES,
    optional=NEUTRAL,
    extra=LOSSES | FIRED | SCALING,
    inexact=lambda name, value: not is_exact(name, value),
    among=lambda values: values["method"] != REAL,
    group="frames",
    headlines=(
        "seam_off", "duplicates", "mirror", "repeat", "saturation_drift", "seconds_per_frame", "process_peak"
    ),
    allowed={
        "method": tuple(METHODS),
        "precision": tuple(PRECISIONS),
        "equal": EQUAL,
        "noise": NOISE,
        "compat": ("paper", "released", "genl", "official", "diffusers", "repaint", "streamingt2v"),
        "solver": SOLVERS,
        "positions": ("trained", "riflex", "ultravico"),
        "device": ("auto", "cpu", "cuda"),
    },
    least={"frames": 1, "videos": 3, "batch": 1, "steps": 1},
    settle=settle,
    fill=fill,
    reference=reference,
    skip=skip,
    emulated=emulated,
    cost=cost,
    predict=predict,
)  # fmt: skip
