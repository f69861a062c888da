"""Find, verify and load whole pipelines."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from huggingface_hub import snapshot_download
from transformers import CLIPTextModel

from vidrd.entry import one_line
from vidrd.exact_loading import hashes_below, load_network, parse_json, quiet, read_once
from vidrd.inflate import inflate_unet, inflate_vae
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.pipeline import VidRDPipeline

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Preset:
    """A named pipeline and its recommended settings."""

    folder: Path
    frames: int  # of a video, unless asked otherwise
    steps: int
    guidance: float
    fps: int
    scale: int  # pixels are enlarged so much when a video is written
    summary: str


PRESETS = {
    "pocket": Preset(
        ROOT / "weights" / "pocket",
        frames=16,
        steps=20,
        guidance=2.0,
        fps=8,
        scale=8,
        summary="the procedural pocket world, 32 x 32 pixels, trained by this project",
    ),
}


def load_pipeline(
    name_or_folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> VidRDPipeline:
    """Load a preset by name, or a folder that `save_pretrained` wrote.

    Where the folder has a card.json that names hashes, every file must have its own.

    Raises:
        ValueError: no such preset or folder, or a file is missing, cut short or altered.
    """
    preset = PRESETS.get(str(name_or_folder))
    folder = preset.folder if preset else Path(name_or_folder)
    if not (folder / "model_index.json").is_file():
        if preset:
            raise ValueError(
                f"the weights of {name_or_folder} are missing: {folder} is no pipeline's folder. They come with a "
                f"clone of the repository, not with a wheel; `nox -s train -- --preset {name_or_folder}` makes them"
            )
        raise ValueError(
            f"{name_or_folder} is neither a preset ({', '.join(PRESETS)}) nor a folder with a model_index.json: "
            "give one of these"
        )
    if "VidRD" not in (kind := class_of(folder)):
        raise ValueError(
            f"{folder} is no VidRD pipeline: got {kind or 'no class'}, make one of it by `python -m vidrd convert`"
        )
    hashes = verify(folder)
    try:
        networks = load_networks(folder, UNet3DConditionModel, AutoencoderKLTemporal, dtype=dtype, hashes=hashes)
        with quiet():
            pipeline = VidRDPipeline.from_pretrained(str(folder), **networks, local_files_only=True)
    except Exception as error:  # whatever a reader of files may raise becomes one line that names the folder
        raise ValueError(f"{folder} cannot be loaded as a VidRD pipeline: {_reason(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def load_networks(
    folder: Path,
    unet: Any,  # its class
    vae: Any,
    *,
    dtype: torch.dtype = torch.float32,
    hashes: Mapping[str, str] | None = None,  # sha256 that files must have, by path
) -> dict[str, Any]:
    """The networks of a pipeline's folder by name, each loaded exactly.

    Raises:
        ValueError: a network's files lack tensors, hold others, or have other hashes.
    """
    kinds = {"unet": unet, "vae": vae, "text_encoder": CLIPTextModel}
    return {
        name: load_network(kind, folder / name, dtype=dtype, hashes=hashes_below(name, hashes or {}))
        for name, kind in kinds.items()
    }


def load_image_pipeline(folder: Path, hashes: Mapping[str, str] | None = None) -> DiffusionPipeline:
    """A Stable Diffusion pipeline from its folder, every network exactly.

    Raises:
        ValueError: the folder cannot be read as one.
    """
    if "VidRD" in class_of(folder):
        raise ValueError(f"{folder} is a VidRD pipeline already: name a folder of Stable Diffusion")
    try:
        networks = load_networks(folder, UNet2DConditionModel, AutoencoderKL, hashes=hashes)
        with quiet():
            return DiffusionPipeline.from_pretrained(
                str(folder), **networks, local_files_only=True, safety_checker=None, feature_extractor=None
            )
    except Exception as error:  # whatever a reader of files may raise becomes one line that names the folder
        raise ValueError(f"{folder} cannot be loaded as Stable Diffusion: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return one_line(str(error))[:600] or type(error).__name__


def class_of(folder: Path) -> str:
    """The class of a pipeline, as its model_index.json says; "" if it does not.

    Raises:
        ValueError: the file cannot be read.
    """
    path = folder / "model_index.json"
    return str(parse_json(read_once(path), path).get("_class_name", ""))


def verify(folder: Path) -> dict[str, str]:
    """Check a folder's files against the hashes of its card, if it has one, which are returned.

    Raises:
        ValueError: a file is missing or differs.
    """
    card = folder / "card.json"
    if not card.is_file():
        return {}
    about = parse_json(read_once(card), card)
    maker, hashes = about.get("command") or about.get("made_by") or "see its card.json", about.get("sha256", {})
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: restore it, or make it again (`{maker}`)")
        if sha256(path) != expected:
            raise ValueError(
                f"{path} is not the file that {card.name} describes (cut short or altered): restore it, or make it "
                f"again (`{maker}`)"
            )
    return dict(hashes)


def sha256(path: Path) -> str:
    """Hash of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locate(name: str, *, revision: str | None = None, fetch: bool = False) -> Path:
    """The folder of a model: a path, or the id of a repository on a model hub at a revision.

    A repository is looked for among what was fetched before; only `fetch` goes to the network.

    Raises:
        ValueError: it is no folder and has no revision, or is not here.
    """
    if Path(name).is_dir():
        return Path(name)
    if revision is None:
        raise ValueError(
            f"{name} is no folder; the id of a repository needs a revision, since repositories move and vanish: "
            "pass --revision, or the path of a copy"
        )
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=not fetch, allow_patterns=_DIFFUSERS))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{name} at revision {revision} is not here ({reason}): pass --fetch to download it, or the path of a copy"
        ) from error


_DIFFUSERS = ["*.json", "*.txt", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"]


def inflated(image: DiffusionPipeline, *, clip: int, add_temp_embed: bool) -> VidRDPipeline:
    """A video pipeline around the networks of a Stable Diffusion pipeline; its temporal layers are the identity.

    Raises:
        ValueError: the networks are not Stable Diffusion 1's or 2's.
    """
    return VidRDPipeline(
        vae=inflate_vae(image.vae),
        text_encoder=image.text_encoder,
        tokenizer=image.tokenizer,
        unet=inflate_unet(image.unet, add_temp_embed=add_temp_embed),
        scheduler=DDIMScheduler.from_config(image.scheduler.config, clip_sample=False),
        clip=clip,
    )


def load_any(model: str) -> VidRDPipeline:
    """A VidRD pipeline from its folder or preset, or one inflated from a Stable Diffusion folder."""
    folder = Path(model)
    if model in PRESETS or not (folder / "model_index.json").is_file() or "VidRD" in class_of(folder):
        return load_pipeline(model)
    pipeline = inflated(load_image_pipeline(folder), clip=8, add_temp_embed=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
