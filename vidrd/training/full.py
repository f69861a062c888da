"""Train a pipeline of any size on a data set: the image networks, the temporal layers, the temporal decoder.

The stages of the paper's recipe (arXiv 2309.03549, section 4 and its architecture figure), with what it leaves open as
switches. The data set is one that `prepare` wrote, or a cache of its latents.
"""

import json
import platform
import shutil
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers import DDIMScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from vidrd.checkpoints import load_any
from vidrd.data.latents import META, LatentSet
from vidrd.data.shards import ShardSet
from vidrd.exact_loading import parse_json, read_once
from vidrd.files import replacing, write_atomic
from vidrd.models.blocks import frames_of
from vidrd.models.unet import is_temporal
from vidrd.pipeline import VidRDPipeline
from vidrd.precision import default_precisions
from vidrd.released import read_state, save_with_card
from vidrd.text import encode
from vidrd.training.loop import Networks, Recipe, Show, fit, keyed_generator, processes
from vidrd.training.losses import (
    DecoderLoss,
    Discriminator,
    FeatureDistance,
    denoising_error,
    diffusion_target,
    draw_timesteps,
    snr_weights,
)
from vidrd.training.sample_stream import BatchLoader, ClipSet, IndexedSamples, PixelSet, TrainingSample
from vidrd.training.settings import Layers, Settings
from vidrd.training.stages import ATTENTION_KERNELS, learns_from_video, trainable
from vidrd.video import to_uint8


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
    if not settings.model or settings.data is None:
        raise ValueError("training on a data set needs both: --model, the pipeline to start from, and --data")
    state = processes()
    settings = replace(settings, precision=_precision(settings, run, state.device))
    pipeline = load_any(settings.model)
    clips = open_data(settings, pipeline)
    if state.is_main_process:
        _claim(run, settings)
    state.wait_for_everyone()
    train = _train_decoder if settings.stage == "vae-decoder" else _train_unet
    with sdpa_kernel(ATTENTION_KERNELS):
        train(settings, pipeline, clips, run, state)
    if state.is_main_process:
        card = {
            "made_by": "python -m vidrd train",
            "processes": state.num_processes,
            "settings": json.loads((run / "config.json").read_text())["settings"],
            "last_logged": json.loads((run / "log.jsonl").read_text().splitlines()[-1]),
        }
        finished = run / "pipeline"
        if not finished.exists() or json.loads((finished / "card.json").read_text())["settings"] != card["settings"]:
            if finished.exists():  # of fewer steps
                shutil.rmtree(finished)
            save_with_card(pipeline.to("cpu"), finished, card)
    state.wait_for_everyone()


def _precision(settings: Settings, run: Path, device: torch.device) -> Any:
    """The asked precision; of "auto" that of the run, if there is one, else the reduced one that the machine has."""
    if settings.precision != "auto":
        return settings.precision
    path = run / "config.json"
    if path.is_file():
        return _settings_of(path).get("precision", "no")
    native = default_precisions(str(device))[1]
    return native if native in ("bf16", "fp16") else "no"


def open_data(settings: Settings, pipeline: VidRDPipeline) -> ClipSet:
    """The data set of a folder: latents if it holds any, else pixels."""
    folder = settings.data or Path()
    if (folder / META).is_file():
        if settings.stage == "vae-decoder":
            raise ValueError(f"{folder} holds latents; the decoder learns from pixels: name the data set itself")
        latents = LatentSet(folder)
        latents.check(pipeline.vae, settings.size)
        return latents
    return PixelSet(ShardSet(folder), settings.size)


def chooser(learned: Iterable[Layers]) -> Callable[[str], bool]:
    """Which of the U-Net's parameters are trained, by key."""
    chosen = set(learned)

    def choose(key: str) -> bool:
        kind = "temporal" if is_temporal(key) else "attention" if learns_from_video(key) else "spatial"
        return kind in chosen

    return choose


def training_schedule(
    scheduler: DDIMScheduler, *, zero_terminal_snr: bool
) -> tuple[Float[Tensor, " L"], DDIMScheduler]:
    """Shares of signal by timestep, and the scheduler that the trained pipeline is to sample with.

    Raises:
        ValueError: zero terminal SNR is asked of a network that predicts noise, which says nothing of pure noise.
    """
    if not zero_terminal_snr or scheduler.config.rescale_betas_zero_snr:
        return scheduler.alphas_cumprod, scheduler
    if scheduler.config.prediction_type != "v_prediction":
        raise ValueError(
            f"zero terminal SNR needs a network that predicts v, this one predicts {scheduler.config.prediction_type}: "
            "leave it off, or start from Stable Diffusion 2.1 at 768 pixels"
        )
    betas = rescale_zero_terminal_snr(scheduler.betas)
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return torch.cumprod(1 - betas, dim=0), DDIMScheduler.from_config(scheduler.config, **changes)


@dataclass
class _Side:
    """A source of clips of one length."""

    feed: BatchLoader
    stream: str
    encoded: bool  # latents already
    mine: slice = field(init=False)  # this process's part of a batch

    def __post_init__(self) -> None:
        part = self.feed.batch // self.feed.world
        self.mine = slice(self.feed.rank * part, (self.feed.rank + 1) * part)


def _train_unet(settings: Settings, pipeline: VidRDPipeline, clips: ClipSet, run: Path, state: PartialState) -> None:
    unet, vae, text = pipeline.unet, pipeline.vae, pipeline.text_encoder
    alphas, sampler = training_schedule(pipeline.scheduler, zero_terminal_snr=settings.zero_terminal_snr)
    pipeline.register_modules(scheduler=sampler)
    pipeline.register_to_config(clip=settings.frames if settings.stage == "temporal" else pipeline.config.clip)
    unet.register_to_config(sample_size=settings.size // vae.downscale)
    trainable(unet, chooser(settings.learned))
    trainable(text, lambda key: "text" in settings.learned)
    trainable(vae, lambda key: False)
    if settings.checkpointing:
        unet.enable_gradient_checkpointing()
    network = torch.compile(unet) if settings.compiled else unet
    frames = settings.frames if settings.stage == "temporal" else 1
    part = settings.accumulate
    sides = [_side(settings, clips, settings.batch // part, frames, "video" if frames > 1 else "image", state)]
    if settings.images:
        sides.append(_side(settings, clips, settings.images // part, 1, "image", state))
    total = (settings.batch + settings.images) // part
    kind = sampler.config.prediction_type

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        device = unet.device
        sums, parts = torch.zeros((), device=device), {}
        for side in sides:
            samples = side.feed(step)
            timesteps = draw_timesteps(side.feed.batch, len(alphas), generator)[side.mine]
            latents = _latents(vae, samples, side.encoded)
            captions = [_caption(sample, settings, side.stream) for sample in samples]
            with nullcontext() if "text" in settings.learned else torch.no_grad():
                context = encode(captions, pipeline.tokenizer, text, device)
            noise = _noise(samples, latents.shape[1:], settings.seed, side.stream).to(device)
            levels = alphas[timesteps].to(device)
            noisy, target = diffusion_target(latents, noise, levels, kind)
            weights = None if settings.snr_gamma is None else snr_weights(levels, settings.snr_gamma, kind)
            prediction = network(noisy, timesteps.to(device), context).sample
            error = denoising_error(prediction, target, weights)
            sums = sums + error * side.feed.batch / total
            if len(sides) > 1:
                parts[side.stream] = error
        return sums, parts

    networks = {"unet": unet} | ({"text_encoder": text} if "text" in settings.learned else {})
    pipeline.to(state.device)

    def draw(step: int, averaged: Networks) -> None:
        pipeline.register_modules(**averaged)
        prompts = settings.prompts or tuple(
            dict.fromkeys(clips.captions(row)[0] for row in range(min(4, len(clips.frames))))
        )
        with torch.no_grad():
            output = pipeline.to(state.device)(
                list(prompts), num_frames=frames, num_inference_steps=settings.show_steps,
                guidance_scale=settings.show_guidance, height=settings.size, width=settings.size,
                output_type="uint8",
            )  # fmt: skip
        save_strip(run / "samples" / f"step-{step:07d}.png", output.frames)

    show = _show(settings, draw)
    trained = fit(
        networks, loss, recipe_of(settings), run, show=show, tensorboard=True, shard=settings.shard, accumulate=part
    )
    pipeline.register_modules(**trained)


def _train_decoder(settings: Settings, pipeline: VidRDPipeline, clips: ClipSet, run: Path, state: PartialState) -> None:
    vae = pipeline.vae
    whole = "decoder" in settings.learned
    trainable(vae, lambda key: is_temporal(key) or (whole and key.startswith(("decoder.", "post_quant_conv."))))
    if settings.checkpointing:
        vae.enable_gradient_checkpointing()
    weights = {name: getattr(settings, name) for name in ("l1", "change", "perceptual", "adversarial")}
    perceptual = load_vgg(settings.vgg).to(state.device) if settings.vgg else None
    objective = DecoderLoss(weights, perceptual, settings.adversarial_after, settings.balanced)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        discriminator = Discriminator()
    side = _side(settings, clips, settings.batch // settings.accumulate, settings.frames, "video", state)
    vae.to(state.device)

    def latents_of(samples: list[TrainingSample]) -> tuple[Tensor, Tensor]:
        """Clips, and noisy unscaled latents of their frames."""
        pixels = torch.stack([sample.clip for sample in samples]).to(vae.device)
        with torch.no_grad():
            latents = vae.encode(frames_of(pixels)).latent_dist.mode().float()
        per_clip = (settings.frames, *latents.shape[1:])
        noise = _noise(samples, per_clip, settings.seed, "decoder").to(vae.device).flatten(0, 1)
        return pixels, latents + noise * settings.latent_noise / vae.config.scaling_factor

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        pixels, latents = latents_of(side.feed(step))
        decoded = vae.decode(latents, num_frames=settings.frames).sample.float()
        last = vae.decoder.conv_out.weight
        watched = last if last.requires_grad else decoded
        return objective(decoded, pixels, discriminator, step // settings.accumulate, watched)

    def draw(step: int, averaged: Networks) -> None:  # the VAE is one
        first = IndexedSamples(clips, seed=settings.seed, frames=settings.frames, stride=settings.stride)
        with torch.no_grad():
            pixels, latents = latents_of([first[number] for number in range(2)])
            decoded = vae.decode(latents, num_frames=settings.frames).sample.float()
        clips_of = decoded.unflatten(0, (len(pixels), settings.frames)).transpose(1, 2)
        rows = torch.stack([pixels, clips_of], dim=1).flatten(0, 1)
        save_strip(run / "samples" / f"step-{step:07d}.png", to_uint8(rows))

    modules: dict[str, nn.Module] = {"vae": vae}
    if settings.adversarial:
        modules["discriminator"] = discriminator
    show, recipe = _show(settings, draw), recipe_of(settings)
    fit(modules, loss, recipe, run, show=show, tensorboard=True, accumulate=settings.accumulate)


def load_vgg(path: Path) -> FeatureDistance:
    """The perceptual loss around weights of torchvision's VGG16.

    Raises:
        ValueError: the file does not hold them.
    """
    from torchvision.models import vgg16  # noqa: PLC0415 - seconds, and only this loss needs it

    network = vgg16(weights=None)
    state = read_state(path)
    wanted = {key for key in network.state_dict() if key.startswith("features.")}
    if not wanted <= state.keys():
        raise ValueError(
            f"{path} must hold torchvision's VGG16: it lacks {', '.join(sorted(wanted - state.keys())[:3])}"
        )
    network.features.load_state_dict({key.removeprefix("features."): state[key] for key in wanted})
    return FeatureDistance(network.features)


def save_strip(path: Path, videos: Any) -> None:
    """Save videos as one picture: one row per video, its frames side by side (`B T H W C`, uint8)."""
    rows = [np.concatenate(list(video), axis=1) for video in videos]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        Image.fromarray(np.concatenate(rows)).save(part, format="PNG")


def _side(settings: Settings, clips: ClipSet, batch: int, frames: int, stream: str, state: PartialState) -> _Side:
    draws = IndexedSamples(clips, seed=settings.seed, frames=frames, stride=settings.stride, stream=stream)
    feed = BatchLoader(draws, batch, rank=state.process_index, world=state.num_processes, workers=settings.workers)
    return _Side(feed, stream, isinstance(clips, LatentSet))


def _latents(vae: Any, samples: list[TrainingSample], encoded: bool) -> Float[Tensor, "B C T H W"]:
    """Unit-variance latents of samples."""
    clips = torch.stack([sample.clip for sample in samples]).to(vae.device)
    if not encoded:
        with torch.no_grad():
            frames = vae.encode(frames_of(clips)).latent_dist.mode().float()
        clips = frames.unflatten(0, (len(samples), -1)).transpose(1, 2)
    return clips * vae.config.scaling_factor


def _noise(samples: list[TrainingSample], shape: Iterable[int], seed: int, stream: str) -> Tensor:
    """Standard normal noise of each sample, whatever batch it is in."""
    size = tuple(shape)
    keys = (keyed_generator(seed, stream, "noise", sample.number) for sample in samples)
    return torch.stack([torch.randn(size, generator=generator) for generator in keys])


def _caption(sample: TrainingSample, settings: Settings, stream: str) -> str:
    generator = keyed_generator(settings.seed, stream, "drop", sample.number)
    return "" if float(torch.rand((), generator=generator)) < settings.caption_drop else sample.caption


def _show(settings: Settings, draw: Callable[[int, Networks], None]) -> Show | None:
    return Show(settings.show_every, draw) if settings.show_every else None


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
    free = ("workers", "shard", "save_every", "show_every", "prompts", "show_steps", "show_guidance")
    path = run / "config.json"
    if path.exists():
        there = _settings_of(path)
        differ = [name for name in asked if name not in free and asked[name] != there.get(name)]
        if "steps" in differ and asked["steps"] > there.get("steps", 0):
            differ.remove("steps")  # the run is prolonged
        if differ:
            changes = ", ".join(f"{name} {there.get(name)} -> {asked[name]}" for name in differ)
            raise ValueError(f"{run} holds a run with other settings ({changes}): name a new folder, or delete it")
    about = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
    write_atomic(path, json.dumps({"settings": asked, "versions": about}, indent=1) + "\n")
