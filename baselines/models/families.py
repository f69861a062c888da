"""The families of models, by the class of their pipeline, and how one is loaded. A new family is a line here.

Reading the table loads neither diffusers nor a network.
"""

import importlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from baselines.model_contract import Model

VIDRD = "VidRDPipeline"
# Class of the pipeline, as a folder's model_index.json names it -> module:class of the family
FAMILIES: dict[str, str] = {
    VIDRD: "baselines.models.vidrd:VidRD",
    "WanPipeline": "baselines.models.wan:Wan",
    "SkyReelsV2DiffusionForcingPipeline": "baselines.models.skyreels:SkyReels",
    "LTXPipeline": "baselines.models.ltx:LTX",
    "CogVideoXPipeline": "baselines.models.cogvideox:CogVideoX",
    "HunyuanVideoPipeline": "baselines.models.hunyuan:HunyuanVideo",
    "AnimateDiffPipeline": "baselines.models.animatediff:AnimateDiff",
    "TextToVideoSDPipeline": "baselines.models.modelscope:ModelScope",
}


def family(pipeline: str) -> "type[Model]":
    """The family of a pipeline's class.

    Raises:
        ValueError: there is none.
    """
    if pipeline not in FAMILIES:
        raise ValueError(f"models are of the families {', '.join(FAMILIES)}: got a {pipeline}")
    module, _, name = FAMILIES[pipeline].partition(":")
    kind: type[Model] = getattr(importlib.import_module(module), name)
    return kind


def load_model(
    name: str,  # a preset, a folder, the id of a repository on a hub, tiny:PIPELINE, drawn:PIPELINE:SIZE
    *,
    revision: str | None = None,  # of the repository
    fetch: bool = False,  # only then anything goes to the network
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    clip: int | None = None,  # latent frames of a call; None: what the family was trained on
) -> "Model":
    """Load a model of any family.

    Raises:
        ValueError: it is not here, of no known family, or its files cannot be loaded.
    """
    from vidrd.checkpoints import PRESETS, load_pipeline, locate  # noqa: PLC0415  (loads diffusers)

    if name.startswith("tiny:"):
        tiny = tiny_model(name, clip=clip).to(device)
        return tiny if dtype == torch.float32 else tiny.to(dtype)
    if name.startswith("drawn:"):
        return drawn_model(name, device, clip=clip).to(dtype)
    if name in PRESETS:
        return family(VIDRD)(load_pipeline(name, dtype=dtype, device=device), clip)
    folder = locate(name, revision=revision, fetch=fetch)
    pipeline, parts = _index(folder)
    kind = family(pipeline)
    pipe = load_pipeline(folder, dtype=dtype) if pipeline == VIDRD else _pipeline(pipeline, folder, parts, dtype)
    return kind(pipe, clip).to(device)


@cache
def outline(
    name: str,  # as for load_model
    revision: str | None = None,
) -> "Model":
    """A model without weights, on the meta device: enough to plan with, and to count work on.

    Raises:
        ValueError: it is not here, or of no known family.
    """
    import diffusers  # noqa: PLC0415

    from vidrd.checkpoints import PRESETS, locate  # noqa: PLC0415
    from vidrd.pipeline import VidRDPipeline  # noqa: PLC0415

    if name.startswith("tiny:"):
        return tiny_model(name)
    if name.startswith("drawn:"):
        return drawn_model(name, "meta")
    folder = PRESETS[name].folder if name in PRESETS else locate(name, revision=revision)
    pipeline, parts = _index(folder)
    kind = family(pipeline)
    made = {part: _outlined(folder / part, *of) for part, of in parts.items() if isinstance(of, list)}
    if pipeline == VIDRD:  # the number of its text's tokens is the tokenizer's
        from transformers import AutoTokenizer  # noqa: PLC0415

        made["tokenizer"] = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    settings = {key: value for key, value in parts.items() if not isinstance(value, list) and not key.startswith("_")}
    pipe_class = VidRDPipeline if pipeline == VIDRD else getattr(diffusers, pipeline)
    return kind(pipe_class(**made, **settings))


def _outlined(folder: Path, library: str | None, name: str | None) -> Any:
    """A component from its configuration alone; None for text, which plans and work do not need."""
    if library is None or name is None or not (library == "diffusers" or library.startswith("vidrd.")):
        return None
    from vidrd.exact_loading import quiet  # noqa: PLC0415

    kind = getattr(importlib.import_module(library), name)
    with quiet(), torch.device("meta") if issubclass(kind, torch.nn.Module) else nullcontext():
        return kind.from_config(kind.load_config(str(folder)))


def pipeline_of(folder: Path) -> str:
    """The class of a folder's pipeline.

    Raises:
        ValueError: it is no folder of a pipeline.
    """
    return _index(folder)[0]


def _index(folder: Path) -> tuple[str, dict[str, Any]]:
    """The class of a folder's pipeline, and its components and settings.

    Raises:
        ValueError: it is no folder of a pipeline, or its index cannot be read.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"a model is a folder with a model_index.json, as save_pretrained writes it: got {folder}")
    from vidrd.exact_loading import parse_json  # noqa: PLC0415  (loads diffusers)

    parts = parse_json(index.read_bytes(), index)
    return str(parts.get("_class_name")), parts


def tiny_model(name: str, clip: int | None = None) -> "Model":
    """A model with tiny random networks: tiny:PIPELINE, or tiny:PIPELINE:VARIANT; for trials without weights.

    Raises:
        ValueError: no such family or variant, or a clip that the family does not take.
    """
    _, pipeline, variant = [*name.split(":"), ""][:3]
    model = _drawn(pipeline, family(pipeline).tiny(), variant, "cpu", clip)
    if clip is None:
        model.clip = model.rule.dropped + 1 + 2 * model.rule.step
    model.size = (2 * model.size_step, 3 * model.size_step)
    return model


def drawn_model(name: str, device: torch.device | str = "cpu", clip: int | None = None) -> "Model":
    """A model of a published checkpoint's shapes with random weights, drawn on the device: drawn:PIPELINE:SIZE.

    Raises:
        ValueError: no such family or size.
    """
    _, pipeline, size = [*name.split(":"), ""][:3]
    sizes = family(pipeline).drawn()
    if not sizes:
        raise ValueError(f"no shapes of {pipeline} are known here: take tiny:{pipeline}, or a folder")
    return _drawn(pipeline, sizes, size, device, clip)


def _drawn(
    pipeline: str,
    variants: Mapping[str, Callable[[], Any]],
    variant: str,
    device: torch.device | str,
    clip: int | None = None,
) -> "Model":
    """One of the variants of a family; "" is the first."""
    if variant and variant not in variants:
        raise ValueError(f"variants of {pipeline} are {', '.join(variants)}: got {variant!r}")
    with torch.random.fork_rng(devices=[]), torch.device(device):  # the global generator stays as it was
        torch.manual_seed(0)
        pipe = variants[variant or next(iter(variants))]()
    pipe.set_progress_bar_config(disable=True)
    return family(pipeline)(pipe, clip)


def _pipeline(name: str, folder: Path, parts: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """A pipeline of diffusers whose networks have all their tensors."""
    import diffusers  # noqa: PLC0415

    from vidrd.exact_loading import load_reported, quiet  # noqa: PLC0415

    try:
        with quiet():
            kinds = {
                part: getattr(importlib.import_module(of[0]), of[1])
                for part, of in parts.items()
                if isinstance(of, list) and of[0] in ("diffusers", "transformers")
            }
            networks = {
                part: load_reported(kind, folder / part, dtype)
                for part, kind in kinds.items()
                if isinstance(kind, type) and issubclass(kind, torch.nn.Module)
            }
            pipe = getattr(diffusers, name).from_pretrained(str(folder), **networks, dtype=dtype, local_files_only=True)
    except Exception as error:  # whatever a reader of files may raise becomes one line that names the folder
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{folder} cannot be loaded as a {name}: {reason}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe
