"""Train a pipeline of any size on data sets: the image networks, the temporal layers, the temporal decoder.

The stages of the paper's recipe (arXiv 2309.03549, section 4 and its architecture figure), with what it leaves open as
switches. A data set is one that `prepare` wrote, or a cache of its latents.
"""

import json
import platform
import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image
from torch import nn
from torch.nn.attention import sdpa_kernel

from vidrd.checkpoints import load_any
from vidrd.exact_loading import parse_json, read_once
from vidrd.files import replacing, write_atomic
from vidrd.precision import default_precisions
from vidrd.released import save_with_card
from vidrd.training.decoder_stage import DecoderStage
from vidrd.training.feeds import TrainingData
from vidrd.training.hyperparameters import Recipe
from vidrd.training.loop import Networks, Show, Validation, fit, processes, trained_parameters
from vidrd.training.networks import finish_networks, prepare_networks
from vidrd.training.settings import Settings
from vidrd.training.stages import ATTENTION_KERNELS
from vidrd.training.state import load_averages
from vidrd.training.unet_stage import UNetStage

FREE = ("workers", "shard", "save_every", "keep", "show_every", "prompts", "show_steps", "show_guidance")  # may change


def recipe_of(settings: Settings) -> Recipe:
    """The settings that the training loop takes."""
    return Recipe(**{name.name: getattr(settings, name.name) for name in fields(Recipe)})


def train_on_data(settings: Settings, run: Path) -> None:
    """Train one stage in a run's folder: config.json, log.jsonl, TensorBoard events, samples, state, and the pipeline.

    The same call again goes on where it was cut off; another configuration in the same folder is refused.

    Raises:
        ValueError: the model, the data or the settings do not fit each other.
        Stopped: on SIGTERM, with the state saved.
    """
    if not settings.model or not settings.data:
        raise ValueError("training on a data set needs both: --model, the pipeline to start from, and --data")
    state = processes()
    settings = replace(settings, precision=_precision(settings, run, state.device))
    pipeline = load_any(settings.model)
    pipeline.latent_shape_of(settings.size, settings.size)  # refuses what the VAE would round
    data = TrainingData(settings, pipeline)
    networks = prepare_networks(settings, pipeline)
    decoder = settings.stage == "vae-decoder"
    stage: UNetStage | DecoderStage = (
        DecoderStage(settings, pipeline, data, state, networks.get("discriminator", nn.Identity()))
        if decoder
        else UNetStage(settings, pipeline, data, state)
    )
    if state.is_main_process:
        _claim(run, settings)
    state.wait_for_everyone()

    def draw(done: int, averaged: Networks) -> UInt8[ndarray, "H W 3"]:
        return save_strip(run / "samples" / f"step-{done:07d}.png", stage.draw(averaged))

    with sdpa_kernel(ATTENTION_KERNELS):
        learned = fit(
            networks, stage.loss, recipe_of(settings), run,
            show=Show(settings.show_every, draw) if settings.show_every else None,
            validation=Validation(settings.validate_every, stage.validate) if settings.held_out else None,
            keep=settings.keep, tensorboard=True, shard=settings.shard, accumulate=settings.accumulate,
        )  # fmt: skip
    if state.is_main_process:
        pipeline.register_modules(**{name: network for name, network in learned.items() if name in pipeline.components})
        finish_networks(settings, pipeline.to("cpu"))
        lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
        made = {"processes": state.num_processes, "last_logged": [line for line in lines if "loss" in line][-1]}
        _store(pipeline, run, run / "pipeline", **made)
    state.wait_for_everyone()


def _store(pipeline: Any, run: Path, out: Path, **made: Any) -> None:
    """Write a run's pipeline, unless it is there already."""
    card = {"made_by": "python -m vidrd train", "settings": _settings_of(run / "config.json"), **made}
    if out.exists():
        there = out / "card.json"
        if there.is_file() and json.loads(there.read_text()).get("settings") == card["settings"]:
            return
        shutil.rmtree(out)  # of fewer steps
    save_with_card(pipeline, out, card)


def export(run: Path, out: Path, state: Path | None = None) -> int:
    """Write the pipeline that a run has come to, which may still go on; returns the step.

    Args:
        run: folder of the run.
        out: new folder.
        state: one that the run has kept, as `best.pt`; None: the last one.

    Raises:
        ValueError: there is no such run or state, or `out` exists.
    """
    if out.exists():
        raise ValueError(f"{out} exists: name a new folder")
    if not (run / "config.json").is_file():
        raise ValueError(f"{run} is no folder of a training run: it has no config.json")
    path = state or run / "state.pt"
    if not path.is_file():
        raise ValueError(f"{path} is missing: the run has not saved it yet")
    held = _settings_of(run / "config.json")
    known = {name.name for name in fields(Settings)}
    asked: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in held.items() if name in known
    }
    settings = Settings(**asked | {"vgg": None, "perceptual": 0.0})  # which no weights depend on
    pipeline = load_any(settings.model)
    step = load_averages(path, trained_parameters(prepare_networks(settings, pipeline)))
    finish_networks(settings, pipeline)
    card = {"made_by": "python -m vidrd export", "settings": held, "step": step}
    save_with_card(pipeline, out, card)
    return step


def _precision(settings: Settings, run: Path, device: torch.device) -> Any:
    """The asked precision; of "auto" that of the run, if there is one, else the reduced one that the machine has."""
    if settings.precision != "auto":
        return settings.precision
    path = run / "config.json"
    if path.is_file():
        return _settings_of(path).get("precision", "no")
    native = default_precisions(str(device))[1]
    return native if native in ("bf16", "fp16") else "no"


def save_strip(path: Path, videos: UInt8[ndarray, "B T H W 3"]) -> UInt8[ndarray, "h w 3"]:
    """Save videos as one picture, one row per video, its frames side by side; returns it."""
    picture = np.concatenate([np.concatenate(list(video), axis=1) for video in videos])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        Image.fromarray(picture).save(part, format="PNG")
    return picture


def _settings_of(path: Path) -> dict[str, Any]:
    """The settings in a run's config.json.

    Raises:
        ValueError: it holds none.
    """
    held = parse_json(read_once(path), path).get("settings")
    if not isinstance(held, dict):
        raise ValueError(f"{path} must hold the settings of a run: name a new folder, or delete it")
    return held


def _claim(run: Path, settings: Settings) -> None:
    """Write config.json, after checking that the folder holds no run with other settings."""
    run.mkdir(parents=True, exist_ok=True)
    asked = json.loads(json.dumps(asdict(settings), default=str))
    path = run / "config.json"
    if path.exists():
        there = _settings_of(path)
        differ = [name for name in asked if name not in FREE and asked[name] != there.get(name)]
        if "steps" in differ and asked["steps"] > there.get("steps", 0):
            differ.remove("steps")  # the run is prolonged
        if differ:
            changes = ", ".join(f"{name} {there.get(name)} -> {asked[name]}" for name in differ)
            raise ValueError(f"{run} holds a run with other settings ({changes}): name a new folder, or delete it")
    about = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
    write_atomic(path, json.dumps({"settings": asked, "versions": about}, indent=1) + "\n")
