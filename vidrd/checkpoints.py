"""Find, verify and load whole pipelines."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from huggingface_hub import snapshot_download
from transformers import CLIPTextModel

from vidrd.entry import one_line
from vidrd.exact_loading import load_network, quiet
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
        raise ValueError(
            f"{name_or_folder} is neither a preset ({', '.join(PRESETS)}) nor a folder with a model_index.json; "
            "make the presets' weights again with `nox -s train -- --preset pocket`"
        )
    verify(folder)
    try:
        networks = load_networks(folder, UNet3DConditionModel, AutoencoderKLTemporal, dtype=dtype)
        with quiet():
            pipeline = VidRDPipeline.from_pretrained(str(folder), **networks, local_files_only=True)
    except Exception as error:  # whatever a reader of files may raise becomes one line that names the folder
        reason = one_line(str(error))[:300] or type(error).__name__
        raise ValueError(f"{folder} cannot be loaded as a VidRD pipeline: {reason}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def load_networks(folder: Path, unet: Any, vae: Any, *, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The networks of a pipeline's folder by name, each loaded exactly; `unet` and `vae` are their classes.

    Raises:
        ValueError: a network's files lack tensors or hold others.
    """
    kinds = {"unet": unet, "vae": vae, "text_encoder": CLIPTextModel}
    return {name: load_network(kind, folder / name, torch_dtype=dtype) for name, kind in kinds.items()}


def load_image_pipeline(folder: Path) -> DiffusionPipeline:
    """A Stable Diffusion pipeline from its folder, every network exactly.

    Raises:
        ValueError: the folder cannot be read as one.
    """
    try:
        networks = load_networks(folder, UNet2DConditionModel, AutoencoderKL)
        with quiet():
            return DiffusionPipeline.from_pretrained(
                str(folder), **networks, local_files_only=True, safety_checker=None, feature_extractor=None
            )
    except Exception as error:  # whatever a reader of files may raise becomes one line that names the folder
        raise ValueError(f"{folder} cannot be loaded as Stable Diffusion: {one_line(str(error))[:300]}") from error


def verify(folder: Path) -> None:
    """Check a folder's files against the hashes of its card, if it has one.

    Raises:
        ValueError: a file is missing or differs.
    """
    card = folder / "card.json"
    if not card.is_file():
        return
    for name, expected in json.loads(card.read_text()).get("sha256", {}).items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: restore it, or make it again ({_maker(folder)})")
        if sha256(path) != expected:
            raise ValueError(
                f"{path} is not the file that {card.name} describes (cut short or altered): restore it, or make it "
                f"again ({_maker(folder)})"
            )


def _maker(folder: Path) -> str:
    card = json.loads((folder / "card.json").read_text())
    return f"`{card.get('command') or card.get('made_by') or 'see its card.json'}`"


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


_DIFFUSERS = ["*.json", "*.txt", "*/*.json", "*/*.txt", "*/*.safetensors"]


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
    index = folder / "model_index.json"
    if model not in PRESETS and index.is_file() and "VidRD" not in json.loads(index.read_text())["_class_name"]:
        pipeline = inflated(load_image_pipeline(folder), clip=8, add_temp_embed=True)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
    return load_pipeline(model)
