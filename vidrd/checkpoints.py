"""Find, verify and load whole pipelines."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from diffusers.utils import logging as diffusers_log
from huggingface_hub import snapshot_download
from transformers.utils import logging as transformers_log

from vidrd.inflate import inflate_unet, inflate_vae
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
        with quiet():
            pipeline = VidRDPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    except Exception as error:  # whatever a reader of files may raise becomes one line that names the folder
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{folder} cannot be loaded as a VidRD pipeline: {reason}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the libraries' progress bars and messages about files."""
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in (diffusers_log, transformers_log)]
    try:
        for log, _, _ in before:
            log.set_verbosity_error()
            log.disable_progress_bar()
        yield
    finally:
        for log, verbosity, bar in before:
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()


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
    index = folder / "model_index.json"
    if model not in PRESETS and index.is_file() and "VidRD" not in json.loads(index.read_text())["_class_name"]:
        with quiet():
            image = DiffusionPipeline.from_pretrained(str(folder), local_files_only=True, safety_checker=None)
        pipeline = inflated(image, clip=8, add_temp_embed=True)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
    return load_pipeline(model)
