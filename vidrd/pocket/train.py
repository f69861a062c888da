"""The pocket VidRD: every stage of the full-size system on the procedural world, from scratch.

Expected of the whole: see weights/pocket/card.json, which the run writes.
"""

import json
import platform
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from vidrd.checkpoints import sha256
from vidrd.exact_loading import quiet
from vidrd.files import replacing
from vidrd.inflate import inflate_unet
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.pipeline import VidRDPipeline
from vidrd.pocket.world import ATTRIBUTES, TRAIN_SEEDS, VOCABULARY, caption, draw_scene, labels, render
from vidrd.text import small_text_encoder, word_tokenizer
from vidrd.training.hyperparameters import Recipe
from vidrd.training.loop import keyed_generator
from vidrd.training.stages import (
    Batch,
    LabeledCaptions,
    Source,
    cached,
    encode_clips,
    learns_from_video,
    train_decoder,
    train_denoiser,
    train_text_encoder,
    train_vae,
    trainable,
)
from vidrd.video import to_float

SIZE = 32  # pixels
CLIP = 8  # frames
TEXT_WIDTH, TEXT_LENGTH = 64, 16

RECIPES = {  # on two CPU cores: 12 + 1 + 9 + 12 + 30 + 25 + 20 + 2 minutes
    "vae": Recipe(steps=1200, batch=64, learning_rate=2e-3, ema=0.995),
    "text": Recipe(steps=400, batch=256, learning_rate=1e-3, ema=0.98),
    "image": Recipe(steps=1200, batch=192, learning_rate=1e-3, ema=0.998),
    "video": Recipe(steps=1200, batch=32, learning_rate=1e-3, ema=0.998),
    "joint": Recipe(steps=3600, batch=32, learning_rate=1e-3, ema=0.998),
    "refine": Recipe(steps=3000, batch=32, learning_rate=1e-3, ema=0.998, seed=1),
    "turns": Recipe(steps=2400, batch=32, learning_rate=1e-3, ema=0.998, seed=2),
    "decoder": Recipe(steps=250, batch=8, learning_rate=1e-3, ema=0.98, warmup=20),
}
SHIFT = 4.0  # which way an object turns or grows is settled above timestep 700: 63 % of the draws, not 30 %
TURNS = {"rotating clockwise", "rotating counterclockwise", "growing", "shrinking"}  # what is still mistaken after that
CACHED_VIDEOS, CACHED_FRAMES = 16_384, 16


def world(batch: int, frames: int, generator: torch.Generator) -> Batch:
    """Clips of the pocket world at random times."""
    seeds = torch.randint(TRAIN_SEEDS.start, TRAIN_SEEDS.stop, (batch,), generator=generator).tolist()
    starts = (torch.rand(batch, generator=generator) * 64).tolist()
    scenes = [draw_scene(seed) for seed in seeds]
    return Batch(to_float(render(scenes, frames, size=SIZE, start=starts)), [caption(scene) for scene in scenes])


def sentences(batch: int, generator: torch.Generator) -> LabeledCaptions:
    """Captions of the pocket world."""
    seeds = torch.randint(TRAIN_SEEDS.start, TRAIN_SEEDS.stop, (batch,), generator=generator).tolist()
    scenes = [draw_scene(seed) for seed in seeds]
    values = [labels(scene) for scene in scenes]
    return LabeledCaptions(
        [caption(scene) for scene in scenes],
        {name: torch.tensor([each[name] for each in values]) for name in ATTRIBUTES},
    )


def new_vae() -> AutoencoderKLTemporal:
    """The untrained VAE: 32 x 32 pixels to 8 x 8 cells of 8 numbers."""
    return AutoencoderKLTemporal(
        block_out_channels=(16, 48, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=SIZE,
        temp_conv_dropout=0.0,
    )


def new_image_unet() -> UNet2DConditionModel:
    """The untrained image U-Net: Stable Diffusion's in miniature."""
    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=8,
        out_channels=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 96),
        layers_per_block=1,
        attention_head_dim=(2, 4),
        cross_attention_dim=TEXT_WIDTH,
        use_linear_projection=True,
        norm_num_groups=16,
    )


def scheduler() -> DDIMScheduler:
    """Stable Diffusion 2.1's schedule, which predicts v, rescaled to end in noise alone (Lin et al. 2024, algorithm 1).

    Unshifted, 1/200 of the noise's power is left as signal at the last level, and a clip holds so many numbers that
    a network reads from them which way an object moves. It then never learns to take that from the caption, and in
    sampling takes it from chance.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def stage(folder: Path, network: Any, train: Callable[[], None]) -> None:
    """Train a network, or load it if this stage is finished."""
    if not (folder / "done").exists():
        train()
        with quiet():
            network.save_pretrained(folder / "network")
        (folder / "done").touch()
    with quiet():
        loaded = type(network).from_pretrained(folder / "network")
    network.load_state_dict(loaded.state_dict())
    network.eval()


def train_pocket(out: Path, work: Path, *, steps_scale: float = 1.0) -> None:
    """Train all stages and write the pipeline with its card into `out`; `work` keeps logs and unfinished states.

    Raises:
        ValueError: `work` holds a run of other recipes.
    """
    recipes = {
        name: replace(recipe, steps=max(1, round(recipe.steps * steps_scale))) for name, recipe in RECIPES.items()
    }
    started = time.perf_counter()
    pipeline = VidRDPipeline(**train_networks(work, recipes), clip=CLIP)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out, sole_writer=True) as part:
        with quiet():
            pipeline.to(torch.float16).save_pretrained(str(part))
        (part / "log").mkdir()
        for name in recipes:
            shutil.copyfile(work / name / "log.jsonl", part / "log" / f"{name}.jsonl")
        card = _card(part, work, recipes, time.perf_counter() - started)
        (part / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        shutil.rmtree(out, ignore_errors=True)


def _card(folder: Path, work: Path, recipes: Mapping[str, Recipe], seconds: float) -> dict[str, Any]:
    """What made the networks in a folder, and the hashes of its files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "command": "nox -s train -- --preset pocket",
        "expected": "see the table in docs/pocket.md",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, cuda: {torch.cuda.is_available()}",
        "recipes": {name: asdict(recipe) for name, recipe in recipes.items()},
        "last_logged": {name: json.loads((work / name / "log.jsonl").read_text().splitlines()[-1]) for name in recipes},
        "seconds_of_this_call": round(seconds, 1),
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
        "precision": "fp16 at rest; trained in float32 with bf16 autocast",
        "sha256": {str(path.relative_to(folder)): sha256(path) for path in files},
    }


def train_networks(work: Path, recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """Run the stages in `work`, resuming what is there; the parts of the pipeline."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)  # initial weights
    tokenizer = word_tokenizer(VOCABULARY, TEXT_LENGTH)
    text_encoder = small_text_encoder(tokenizer, TEXT_WIDTH, layers=2, heads=4)
    vae, image_unet, noise = new_vae(), new_image_unet(), scheduler()
    classes = {name: len(values) for name, values in ATTRIBUTES.items()}

    def run(name: str, network: Any, train: Callable[..., None], *given: Any, **options: Any) -> None:
        stage(work / name, network, lambda: train(*given, recipes[name], work / name, **options))

    run("vae", vae, train_vae, vae, world)
    run("text", text_encoder, train_text_encoder, text_encoder, tokenizer, sentences, classes)
    latents = cached_latents(vae, work / "latents.pt")
    teacher = (text_encoder, tokenizer, noise, latents())
    run("image", image_unet, train_denoiser, image_unet, *teacher, frames=1)
    unet = inflate_unet(image_unet, temp_conv_dropout=0.0)
    run("video", unet, train_unet, unet, *teacher, learns=learns_from_video)
    run("joint", unet, train_unet, unet, *teacher, learns=lambda key: True)
    run("refine", unet, train_unet, unet, *teacher, learns=lambda key: True, shift=SHIFT)
    run("turns", unet, train_unet, unet, *teacher[:3], latents(TURNS), learns=lambda key: True, shift=SHIFT)
    run("decoder", vae, train_decoder, vae, world, frames=CLIP)
    return {"unet": unet, "vae": vae, "text_encoder": text_encoder, "tokenizer": tokenizer, "scheduler": noise}


def train_unet(
    unet: UNet3DConditionModel,
    *given: Any,  # to `train_denoiser`
    learns: Callable[[str], bool],  # which parameters, by key
    shift: float = 1.0,  # of the timesteps towards noise
) -> None:
    """Train some of the video U-Net's layers on clips."""
    trainable(unet, learns)
    train_denoiser(unet, *given, frames=CLIP, shift=shift, compiled=True)


def cached_latents(vae: AutoencoderKLTemporal, path: Path) -> Callable[..., Source]:
    """Encode `CACHED_VIDEOS` videos once, and set the VAE's scaling factor to give them unit variance.

    Args:
        vae: trained.
        path: file of the latents, written if it is not there.

    Returns:
        A source of them all; given actions, one that draws the videos of these three times as often as others.
    """
    seeds = range(TRAIN_SEEDS.start, TRAIN_SEEDS.start + CACHED_VIDEOS)
    scenes = [draw_scene(seed) for seed in seeds]
    if not path.exists():
        starts = (torch.rand(CACHED_VIDEOS, generator=keyed_generator("latents")) * 64).tolist()
        parts = []
        for first in range(0, CACHED_VIDEOS, 128):
            some = slice(first, first + 128)
            videos = to_float(render(scenes[some], CACHED_FRAMES, size=SIZE, start=starts[some]))
            parts.append(encode_clips(vae, videos).half())
        with replacing(path) as part:
            torch.save(torch.cat(parts), part)
    latents = torch.load(path, weights_only=True)
    factor = 1 / float(latents[:2048].float().std())
    vae.register_to_config(scaling_factor=factor)
    captions = [caption(scene) for scene in scenes]

    def source(often: Collection[str] = ()) -> Source:
        weights = torch.tensor([3.0 if scene.action in often else 1.0 for scene in scenes]) if often else None
        return cached(latents, captions, factor, weights)

    return source
