"""From the released files to one folder: ModelT2V.pth, vae_finetuned/ and Stable Diffusion 2.1-base become a pipeline.

The released checkpoint is a Lightning file, {"state_dict": {"unet...": ..., "text_encoder...": ...}}, and may also
carry the image VAE and the CLIP that its evaluator used. Every key of it is loaded, or left out for a reason that the
card gives; any other key is an error. Nothing in a file is ever executed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizerFast

from vidrd.checkpoints import inflated, load_image_pipeline, sha256
from vidrd.exact_loading import (
    first_keys,
    hashes_below,
    load_exactly,
    load_network,
    parse_json,
    quiet,
    read_once,
    tensors_of,
)
from vidrd.files import replacing
from vidrd.inflate import inflate_vae, load_spatial, renamed_vae_key, unet_settings, vae_settings
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.pipeline import VidRDPipeline

LEFT_OUT = {
    "clip.": "CLIP of the released evaluator: no part of the pipeline",
    "vae.": "image VAE of the checkpoint: the fine-tuned VAE takes its place",
    "position_ids": "a constant that the text encoder makes itself",
}


def convert_released(
    model: Path,  # Stable Diffusion folder, diffusers layout: configurations, text encoder, tokenizer, scheduler
    checkpoint: Path,  # ModelT2V.pth, or the same keys as .safetensors
    vae: Path | None,  # vae_finetuned/; None: the checkpoint's image VAE, or else the folder's, inflated
    out: Path,
    *,
    clip: int = 8,  # frames that the U-Net was trained on
    size: int = 256,  # pixels that it was trained on
    add_temp_embed: bool = True,  # as the released network was trained
    sources: Mapping[str, str] | None = None,  # origin of the files, for the card
    pins: Mapping[str, str] | None = None,  # wanted sha256 of source files, as a card's "sources" names them
) -> dict[str, Any]:
    """Write one diffusers-style folder of safetensors that `VidRDPipeline.from_pretrained` loads; returns its card.

    Raises:
        ValueError: a file is missing, unreadable, holds code, has another hash than pinned, lacks a key, or has one
            that is unknown; `size` is no whole number of latents; or `out` exists.
    """
    if out.exists():
        raise ValueError(f"{out} exists: name a new folder, or delete it")
    hashes = _hash_sources(model, checkpoint, vae)
    check_pins(hashes, pins or {})
    settings = unet_settings(_config(model / "unet", hashes, "model/unet"))
    state = read_state(checkpoint, hashes["checkpoint"])
    parts, left_out = split_keys(state, keep_vae=vae is None)

    of_encoder = hashes_below("model/text_encoder", hashes)
    networks: dict[str, Any] = {"text_encoder": load_network(CLIPTextModel, model / "text_encoder", hashes=of_encoder)}
    with quiet():
        tokenizer = CLIPTokenizerFast.from_pretrained(str(model / "tokenizer"), local_files_only=True)
        scheduler = DDIMScheduler.from_pretrained(str(model / "scheduler"), local_files_only=True, clip_sample=False)
    networks["vae"] = _vae(model, vae, parts.pop("vae", {}), hashes)
    if "text_encoder" in parts:
        load_exactly(
            "the checkpoint's text encoder",
            networks["text_encoder"],
            _bare(parts["text_encoder"], networks["text_encoder"]),
        )
    cell = int(networks["vae"].downscale)
    if size % cell:
        raise ValueError(f"the size is whole latents of {cell} pixels: got {size}, try {max(cell, size - size % cell)}")
    settings |= {"sample_size": size // cell, "add_temp_embed": add_temp_embed}
    with torch.device("meta"):
        networks["unet"] = UNet3DConditionModel(**settings)
    if "unet" not in parts:
        raise ValueError(f"{checkpoint} has no key that begins with 'unet.': it is no checkpoint of VidRD's U-Net")
    load_exactly("the checkpoint's U-Net", networks["unet"], parts["unet"])

    card = {
        "made_by": "python -m vidrd convert",
        "sources": {"named": dict(sources or {}), "sha256": hashes},
        "keys": {name: len(part) for name, part in parts.items()},
        "left_out": left_out,
    }
    pipeline = VidRDPipeline(**networks, tokenizer=tokenizer, scheduler=scheduler, clip=clip)
    return save_with_card(pipeline, out, card)


def inflate_folder(
    source: Path,  # Stable Diffusion folder, diffusers layout
    out: Path,
    *,
    clip: int,
    add_temp_embed: bool,
    sources: Mapping[str, str] | None = None,  # origin of the files, for the card
    pins: Mapping[str, str] | None = None,  # wanted sha256 of source files, as a card's "sources" names them
) -> dict[str, Any]:
    """Write an untrained video pipeline around the networks of an image pipeline; returns its card.

    Raises:
        ValueError: the folder is no such pipeline, its networks are not Stable Diffusion 1's or 2's, a file has another
            hash than pinned; or `out` exists.
    """
    if out.exists():
        raise ValueError(f"{out} exists: name a new folder, or delete it")
    if not (source / "model_index.json").is_file():
        raise ValueError(f"{source} is no diffusers pipeline: a folder with a model_index.json is needed")
    wanted = [source / "model_index.json"]
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        wanted += sorted(path for path in (source / name).glob("*") if path.is_file())
    hashes = {f"model/{path.relative_to(source).as_posix()}": sha256(path) for path in wanted}
    check_pins(hashes, pins or {})
    image = load_image_pipeline(source, hashes_below("model", hashes))
    card = {
        "made_by": "python -m vidrd convert",
        "sources": {"named": dict(sources or {}), "sha256": hashes},
        "untrained": "its temporal layers are the identity",
    }
    return save_with_card(inflated(image, clip=clip, add_temp_embed=add_temp_embed), out, card)


def save_with_card(pipeline: VidRDPipeline, out: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Write a pipeline's folder, whole or not at all, with a card that adds every file's hash; returns the card."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out, sole_writer=True) as part:
        with quiet():
            pipeline.save_pretrained(str(part), safe_serialization=True)
        files = sorted(path for path in part.rglob("*") if path.is_file())
        whole = {**card, "sha256": {path.relative_to(part).as_posix(): sha256(path) for path in files}}
        (part / "card.json").write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n")
    return whole


def read_state(path: Path, expected: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by key, without executing anything that the file may hold.

    Raises:
        ValueError: no such file, it has not the expected sha256, is broken, or holds other things than tensors.
    """
    return tensors_of(read_once(path, expected), path)


def split_keys(
    state: Mapping[str, Tensor], *, keep_vae: bool
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Any]]]:
    """The checkpoint's tensors by network, keys without the network's name; and the keys that are left out, by reason.

    Raises:
        ValueError: a key belongs to none of the released model's parts.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    left_out: dict[str, list[str]] = {}
    unknown = []
    for key, tensor in state.items():
        owner, _, rest = key.partition(".")
        if owner == "clip":
            left_out.setdefault(LEFT_OUT["clip."], []).append(key)
        elif owner == "vae" and not keep_vae:
            left_out.setdefault(LEFT_OUT["vae."], []).append(key)
        elif owner == "text_encoder" and key.endswith(".position_ids"):
            left_out.setdefault(LEFT_OUT["position_ids"], []).append(key)
        elif owner in ("unet", "text_encoder", "vae"):
            parts.setdefault(owner, {})[rest] = tensor
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            "the checkpoint's keys must begin with unet., text_encoder., vae. or clip.; unknown: " + first_keys(unknown)
        )
    return parts, {reason: {"keys": len(keys), "first": keys[0]} for reason, keys in left_out.items()}


def check_pins(hashes: Mapping[str, str], pins: Mapping[str, str]) -> None:
    """Compare source files with their pinned hashes.

    Raises:
        ValueError: a pinned file is not among the sources, or differs.
    """
    for name, wanted in pins.items():
        if name not in hashes:
            raise ValueError(f"{name} is pinned to a hash but is not among the sources: {first_keys(hashes)}")
        if hashes[name] != wanted:
            raise ValueError(f"{name} must have sha256 {wanted}, it has {hashes[name]}: another revision, or altered")


def read_pins(path: Path) -> dict[str, str]:
    """Hashes of source files: a card that `convert` wrote, or {name: sha256}.

    Raises:
        ValueError: the file is no such JSON.
    """
    read = parse_json(read_once(path), path)
    pins = read.get("sources", {}).get("sha256", read) if isinstance(read.get("sources", {}), dict) else read
    if not all(isinstance(value, str) and len(value) == 64 for value in pins.values()):
        raise ValueError(f'{path} must hold {{"name": "sha256 of 64 digits"}}, or be a card that convert wrote')
    return pins


def _vae(
    model: Path, finetuned: Path | None, of_checkpoint: Mapping[str, Tensor], hashes: Mapping[str, str]
) -> AutoencoderKLTemporal:
    if finetuned is None:
        video = inflate_vae(load_network(AutoencoderKL, model / "vae", hashes=hashes_below("model/vae", hashes)))
        if of_checkpoint:
            load_spatial(video, of_checkpoint)
        return video
    weights = _weights(finetuned)
    with torch.device("meta"):
        video = AutoencoderKLTemporal(**vae_settings(_config(finetuned, hashes, "vae")))
    state = {renamed_vae_key(key): tensor for key, tensor in read_state(weights, hashes[f"vae/{weights.name}"]).items()}
    load_exactly("the fine-tuned VAE", video, state)
    return video


def _config(folder: Path, hashes: Mapping[str, str], name: str) -> dict[str, Any]:
    """A network's configuration, which has the hash that was noted."""
    path = folder / "config.json"
    return parse_json(read_once(path, hashes[f"{name}/config.json"]), path)


def _weights(folder: Path) -> Path:
    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    existing = [folder / name for name in names if (folder / name).is_file()]
    if not existing:
        raise ValueError(f"{folder} must hold {' or '.join(names)}: neither is there")
    return existing[0]


def _bare(state: Mapping[str, Tensor], text_encoder: nn.Module) -> dict[str, Tensor]:
    """Keys as this version of transformers names them: older versions prefix all of them with "text_model."."""
    if any(key.startswith("text_model.") for key in text_encoder.state_dict()):
        return dict(state)
    return {key.removeprefix("text_model."): tensor for key, tensor in state.items()}


def _hash_sources(model: Path, checkpoint: Path, vae: Path | None) -> dict[str, str]:
    """sha256 of every file that is read, by "model/...", "checkpoint" and "vae/..."."""
    wanted = [model / "unet" / "config.json"]
    for name in ("text_encoder", "tokenizer", "scheduler", *(() if vae else ("vae",))):
        if not (model / name).is_dir():
            raise ValueError(f"{model} is no Stable Diffusion folder in diffusers layout: it lacks {name}/")
        wanted += sorted(path for path in (model / name).iterdir() if path.is_file())
    named = {f"model/{path.relative_to(model).as_posix()}": path for path in wanted} | {"checkpoint": checkpoint}
    if vae is not None:
        named |= {f"vae/{path.name}": path for path in (vae / "config.json", _weights(vae))}
    for path in named.values():
        if not path.is_file():
            raise ValueError(f"{path} is missing")
    return {name: sha256(path) for name, path in named.items()}
