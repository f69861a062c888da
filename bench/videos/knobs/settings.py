"""What engineers turn on a model: the names and values of the knobs, which are exact, and what each needs.

A knob is a value of a cell (`cache=first-block:0.1`), and absent from cells of sweeps that do not name it. Nothing here
loads a network: `bench.videos.knobs.turning` turns the knobs.
"""

import importlib.util
import inspect
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import baselines.co_denoise
from bench.hardware.threads import usable_cores
from bench.methods import METHODS
from bench.results.records import Value
from bench.videos.plan import plan_of

if TYPE_CHECKING:
    from torch import nn

    from baselines.model_contract import Model


class Knob(NamedTuple):
    """A knob.

    Args:
        neutral: the value that leaves the model as it is.
        values: its other values; those that end in ":" take a number, as in first-block:0.1, or go without it.
        exact: the values that compute the same, up to rounding.
        says: what it does, one line.
    """

    neutral: str
    values: tuple[str, ...]
    exact: tuple[str, ...]
    says: str


# Backends of diffusers that need no download; the hub's kernels do.
EXACT_ATTENTION = (
    "native", "_native_math", "_native_flash", "_native_efficient", "_native_cudnn", "flex", "flash", "_flash_3",
    "xformers",
)  # fmt: skip
DEVICES = ("2", "3", "4", "6", "8")  # that one video may be made on
KNOBS: dict[str, Knob] = {
    "attention": Knob("own", (*EXACT_ATTENTION, "sage"), EXACT_ATTENTION, "diffusers' attention backend"),
    "compile": Knob("no", ("blocks", "whole"), ("blocks", "whole"), "torch.compile of the denoising network"),
    "offload": Knob(
        "none", ("model", "group", "sequential"), ("model", "group", "sequential"), "weights wait in main memory"
    ),
    "cache": Knob(
        "none", ("first-block:", "taylorseer:", "mag:", "pab:", "faster:"), (), "a step cache of diffusers' hooks"
    ),
    "quantize": Knob("none", ("int8", "int8-dynamic", "fp8"), (), "linear layers of the network in 8 bits, by torchao"),
    "vae": Knob("whole", ("tiling:", "slicing"), ("slicing",), "how the VAE decodes"),
    "layout": Knob("own", ("channels-last",), ("channels-last",), "memory layout of convolutions' weights"),
    "gpus": Knob("1", (*DEVICES, "ring:"), (*DEVICES, "ring"), "devices that make one video together"),
}
NEUTRAL: dict[str, Value] = {name: knob.neutral for name, knob in KNOBS.items()}
ON_CPU = ("native", "_native_math", "_native_flash")  # attention backends that do not need a GPU
ONE_VIDEO = ("SkyReelsV2Transformer3DModel",)  # networks that get one video, or branch of guidance, at a time
MASKED = ("LTXVideoTransformer3DModel",)  # networks whose attention gets a mask for each head
RING = ("_native_flash", "_native_cudnn", "flash", "sage")  # backends that also return the sums a ring needs
ONE_STATE = ("pab", "faster")  # caches that keep one state for all calls
MODULES = {"flash": "flash_attn", "_flash_3": "flash_attn_interface", "sage": "sageattention", "xformers": "xformers"}
MOVING = ("diffvf",)  # methods whose windows are others from step to step


def split(value: str) -> tuple[str, float | None]:
    """first-block:0.1 -> its name and its number; None: the usual one.

    Raises:
        ValueError: what follows the colon is no positive number.
    """
    head, colon, tail = value.partition(":")
    if not colon:
        return head, None
    try:
        number = float(tail)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"the number of a setting is above 0: got {value!r}, write {head}:0.1 or {head} alone")
    return head, number


def devices_of(values: Mapping[str, Value]) -> int:
    """How many devices make one video together: 2 of gpus=2 and of gpus=ring:2.

    Raises:
        ValueError: a ring of no such number.
    """
    value = str(values.get("gpus", "1"))
    head, number = split(value)
    if head != "ring":
        return int(head)
    if number is None or number < 2 or number % 1:
        raise ValueError(f"a ring has two devices or more: got gpus={value}, write gpus=ring:2")
    return int(number)


def turned(values: Mapping[str, Value]) -> dict[str, str]:
    """The knobs that are not at their neutral value."""
    return {
        name: str(values[name]) for name, knob in KNOBS.items() if str(values.get(name, knob.neutral)) != knob.neutral
    }


def check(values: Mapping[str, Value]) -> None:
    """Refuse values that a knob does not have.

    Raises:
        ValueError: names those that there are.
    """
    for name, value in turned(values).items():
        head, number = split(value)
        known = KNOBS[name].values
        if f"{head}:" not in known and (number is not None or head not in known):
            choices = ", ".join(
                (KNOBS[name].neutral, *(f"{each}NUMBER" if each[-1] == ":" else each for each in known))
            )
            raise ValueError(f"{name} is one of {choices}: got {value!r}")
    devices_of(values)


def is_exact(name: str, value: Value) -> bool:
    """Whether a knob at this value computes the same, up to rounding."""
    if name == "solver":
        return value == "ddim"
    knob = KNOBS.get(name)
    return knob is None or str(value) == knob.neutral or split(str(value))[0] in knob.exact


def approximations(values: Mapping[str, Value]) -> list[str]:
    """The knobs of a cell that make it an approximation: ["cache=first-block:0.1"]."""
    return [f"{name}={value}" for name, value in turned(values).items() if not is_exact(name, value)]


def plain(values: Mapping[str, Value]) -> dict[str, Value] | None:
    """The values of the cell that these are compared with: on one device, else every knob at rest; None: all are."""
    moved = turned(values)
    if "gpus" in moved:
        return {**values, "gpus": KNOBS["gpus"].neutral}
    return {**values, **{name: KNOBS[name].neutral for name in moved}} if moved else None


def why_not(values: Mapping[str, Value], model: "Model") -> str | None:
    """Why this model, method or machine has no such setting."""
    for name, value in turned(values).items():
        if (reason := REASONS[name](split(value)[0], values, model)) is not None:
            return reason
    return None


Reason = Callable[[str, Mapping[str, Value], "Model"], str | None]


def _attention(backend: str, values: Mapping[str, Value], model: "Model") -> str | None:
    networks = _denoisers(model)
    processors = [getattr(part, "processor", None) for network in networks for part in network.modules()]
    if not any(hasattr(each, "_attention_backend") for each in processors):
        return f"the attention of {type(networks[0]).__name__} takes no backend of diffusers"
    if backend in MODULES and importlib.util.find_spec(MODULES[backend]) is None:
        return f"the attention backend {backend} needs the package {MODULES[backend]}, which is not installed"
    if values["device"] == "cpu" and backend not in ON_CPU:
        return f"the attention backend {backend} runs on a GPU: this cell runs on a CPU"
    return None


def _compile(kind: str, values: Mapping[str, Value], model: "Model") -> str | None:
    for network in _denoisers(model):
        if kind == "blocks" and not getattr(network, "_repeated_blocks", None):
            return f"{type(network).__name__} names no blocks that repeat: use compile=whole"
    if values["device"] == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return "compiling on a CPU takes a C++ compiler: got none, install g++"
    if str(values.get("offload", "none")) != "none":
        return "a compiled network stays where it is: use offload=none or compile=no"
    return None


def _offload(kind: str, values: Mapping[str, Value], model: "Model") -> str | None:
    if values["device"] == "cpu":
        return "offloading moves weights between a GPU and main memory: this cell runs on a CPU"
    return None


def _cache(kind: str, values: Mapping[str, Value], model: "Model") -> str | None:
    name, network = str(values["method"]), _denoisers(model)[0]
    of, method = type(network).__name__, METHODS[name]
    one = f"diffusers' {kind} cache keeps the state of one call a step"
    if not hasattr(network, "enable_cache"):
        return f"{of} offers no step cache of diffusers"
    reasons = {
        f"diffusers' {kind} cache does not know the blocks of {of}": kind in ("first-block", "mag")
        and not _has_known_blocks(network),
        f"diffusers' FasterCache takes frames: {of} gets tokens": kind == "faster" and latent_format(model) is None,
        f"a step cache goes on from the same frames at the step before: the calls of {name} have others": (
            method.per_frame or name in MOVING
        ),
        "with a step cache a clip takes time that is not in proportion to its steps: use equal=steps or equal=fe": (
            values["equal"] == "seconds"
        ),
        f"{one}: {of} gets one for each branch of guidance": kind in ONE_STATE and of in ONE_VIDEO,
        f"{one}: {name} makes one for each window": kind in ONE_STATE and method.sample is baselines.co_denoise.sample,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _has_known_blocks(network: "nn.Module") -> bool:
    from diffusers.hooks._helpers import TransformerBlockRegistry  # noqa: PLC0415  (loads diffusers)

    TransformerBlockRegistry._register()
    return not TransformerBlockRegistry._registry.keys().isdisjoint({type(part) for part in network.modules()})


def latent_format(model: "Model") -> str | None:
    """How the network takes latents, in diffusers' letters; None: as tokens."""
    from torch import empty  # noqa: PLC0415

    channels, height, width = model.latent_shape()
    frames = 2 * model.group
    packed = model.packed(empty(1, channels, frames, height, width, device="meta"))
    if packed.ndim != 5:
        return None
    return "BCFHW" if packed.shape[1:3] == (channels, frames) else "BFCHW"


def _quantize(kind: str, values: Mapping[str, Value], model: "Model") -> str | None:
    if importlib.util.find_spec("torchao") is None:
        return "8-bit layers need the package torchao: pip install vidrd-bench[quantize]"
    return None


def _vae(kind: str, values: Mapping[str, Value], model: "Model") -> str | None:
    vae: Any = model.networks()["vae"]
    if kind == "slicing":
        return "slicing decodes one video at a time, which this harness does anyway"
    if not hasattr(vae, "enable_tiling"):
        return f"{type(vae).__name__} decodes no tiles"
    _, pixels = split(str(values["vae"]))
    if pixels is not None and "tile_sample_min_height" not in inspect.signature(vae.enable_tiling).parameters:
        return f"the tiles of {type(vae).__name__} have one size: use vae=tiling"
    least = pixels or float(getattr(vae, "tile_sample_min_height", 0) or getattr(vae, "tile_sample_min_size", 0))
    if max(int(values["height"]), int(values["width"])) <= least:
        size = f"{values['height']} x {values['width']}"
        return f"a frame of {size} pixels fits into one tile of {least:g}: nothing would change, use smaller tiles"
    return None


def _gpus(value: str, values: Mapping[str, Value], model: "Model") -> str | None:
    import torch  # noqa: PLC0415

    devices, backend = devices_of(values), str(values.get("attention", "own"))
    on_cpu, others = values["device"] == "cpu", turned(values)
    here = len(usable_cores()) if on_cpu else torch.cuda.device_count()
    what, ring = "cores" if on_cpu else "GPUs", value == "ring"
    reasons = {
        f"one video on {devices} devices needs {devices} {what}: {here} are here": here < devices,
        "a step cache decides on each device by its own part of the video: use cache=none": "cache" in others,
        "a network that several devices share stays where it is: use offload=none": "offload" in others,
        "several devices share the attention that a model was trained with: use positions=trained": (
            values["positions"] != "trained"
        ),
        "the devices of a cell take their steps together: use equal=steps": values["equal"] != "steps",
        "a ring needs the sums of attention, which on a CPU no backend returns: use gpus=2": ring and on_cpu,
        f"a ring needs the sums of attention: use one of attention={', '.join(RING)}": ring and backend not in RING,
        f"on a CPU the parts of a video are equal: {devices} do not divide its tokens, use another height or width": (
            on_cpu and any(tokens % devices for tokens in tokens_of(values, model))
        ),
    }
    if (reason := next((text for text, holds in reasons.items() if holds), None)) is not None:
        return reason
    return next((why for each in _denoisers(model) if (why := _not_shared(each, devices, backend, ring=ring))), None)


def tokens_of(values: Mapping[str, Value], model: "Model") -> set[int]:
    """How many tokens of a video the calls of a cell have."""
    places = int(values["height"]) // model.size_step * (int(values["width"]) // model.size_step)
    return {places * (stop - start) // model.group for start, stop in plan_of(values).windows}


def _not_shared(network: "nn.Module", devices: int, backend: str, *, ring: bool) -> str | None:
    """Why diffusers cannot divide the calls of a network."""
    if getattr(network, "_cp_plan", None) is None:
        return f"{type(network).__name__} has no plan for context parallelism in diffusers: use gpus=1"
    if type(network).__name__ in MASKED:
        return "diffusers divides the heads of attention, but not the mask that LTX gives each of them: use gpus=1"
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry  # noqa: PLC0415

    if backend != "own" and backend not in _AttentionBackendRegistry._supports_context_parallel:
        return f"the attention backend {backend} does not compute in parts: use attention=own"
    heads = int(network.config.num_attention_heads)  # type: ignore[union-attr, arg-type]
    if not ring and (missing := -heads % devices) >= (heads + missing) // devices:
        return f"{heads} heads of attention are too few for {devices} devices: use fewer"
    return None


def _denoisers(model: "Model") -> "list[nn.Module]":
    return [model.networks()[name] for name in model.denoisers]


REASONS: dict[str, Reason] = {
    "attention": _attention, "compile": _compile, "offload": _offload, "cache": _cache,
    "quantize": _quantize, "vae": _vae, "layout": lambda *_: None, "gpus": _gpus,
}  # fmt: skip
