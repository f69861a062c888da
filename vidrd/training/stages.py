"""The stages of training VidRD from scratch: VAE, text encoder, image U-Net, video U-Net, temporal decoder.

Each takes networks and a source of data, and leaves the networks trained. The order and what is frozen follow the
paper: image networks first, then their inflation, in which the text encoder and the residual blocks stay frozen while
the temporal layers and the attentions learn from video (arXiv 2309.03549, section 4 and architecture figure).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from vidrd.models.blocks import channels_last, frames_of
from vidrd.models.unet import UNet3DConditionModel, is_temporal
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.text import encode
from vidrd.training.hyperparameters import Recipe
from vidrd.training.loop import fit
from vidrd.training.losses import (
    DecoderLoss,
    Discriminator,
    denoising_error,
    diffusion_target,
    draw_timesteps,
    kl,
    reconstruction,
)

# The CPU's fused kernel is slow backwards in bf16 (a third of a step of the pocket network); on a GPU all may serve.
ATTENTION_KERNELS = [SDPBackend.MATH] if not torch.cuda.is_available() else [*SDPBackend.__members__.values()]


class LabeledCaptions(NamedTuple):
    """Captions, and for each attribute the number of the value that each of them names."""

    captions: list[str]
    labels: Mapping[str, Int[Tensor, " B"]]


class Batch(NamedTuple):
    """Clips in [-1, 1] or their latents, and their captions."""

    clips: Float[Tensor, "B C T H W"]
    captions: list[str]


Source = Callable[[int, int, torch.Generator], Batch]  # batch size, frames, randomness of this step -> clips


def train_vae(
    vae: AutoencoderKLTemporal, pixels: Source, recipe: Recipe, folder: Path, *, kl_weight: float = 1e-4
) -> None:
    """Learn encoder and decoder from single frames; the temporal layers stay the identity."""

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        frames = frames_of(pixels(recipe.batch, 1, generator).clips.to(vae.device))
        posterior = vae.encode(frames).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        latents = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=generator).to(mean.device)
        rebuilt = vae.decode(latents).sample.float()
        error, spread = reconstruction(rebuilt, frames), kl(mean, logvar)
        return error + kl_weight * spread, {"mse": F.mse_loss(rebuilt, frames), "kl": spread}

    trainable(vae, lambda key: not is_temporal(key))
    fit({"vae": vae}, loss, recipe, folder)


def train_text_encoder(
    text_encoder: PreTrainedModel,
    tokenizer: Any,
    sentences: Callable[[int, torch.Generator], LabeledCaptions],
    classes: Mapping[str, int],  # of each attribute: how many values it has
    recipe: Recipe,
    folder: Path,
) -> None:
    """Teach the text encoder to distinguish what captions name, from captions alone.

    Linear heads read each attribute off the mean over tokens and are then dropped. Stable Diffusion's encoder has such
    knowledge from the start (CLIP learned it from captions of images). One that learns together with an image U-Net
    would not: single images do not distinguish "moving left" from "moving right", and their embeddings collapse.
    """
    heads = nn.Linear(text_encoder.config.hidden_size, sum(classes.values()))

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        captions, labels = sentences(recipe.batch, generator)
        device = heads.weight.device
        context = encode(captions, tokenizer, text_encoder, device)
        logits = heads(context.mean(1)).float().split([*classes.values()], dim=1)
        wrong = {
            name: F.cross_entropy(part, labels[name].to(device)) for name, part in zip(classes, logits, strict=True)
        }
        return sum(wrong.values(), torch.zeros((), device=device)), wrong

    fit({"text_encoder": text_encoder, "heads": heads}, loss, recipe, folder)


def train_denoiser(
    unet: nn.Module,  # a diffusers UNet2DConditionModel (frames must be 1) or VidRD's
    text_encoder: nn.Module,
    tokenizer: Any,
    scheduler: DDIMScheduler,
    latents: Source,
    recipe: Recipe,
    folder: Path,
    *,
    frames: int,  # of a clip
    caption_drop: float = 0.1,  # share of captions left empty, for guidance
    shift: float = 1.0,  # of the timesteps towards noise, as in `draw_timesteps`
    compiled: bool = False,  # by torch.compile: worth its minutes after some thousand steps
) -> None:
    """Train the U-Net's trainable parameters to denoise latents; the text encoder is frozen."""
    alphas = scheduler.alphas_cumprod
    prediction_type = scheduler.config.prediction_type
    network = torch.compile(unet) if compiled else unet

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        device = next(unet.parameters()).device
        text_encoder.to(device)
        clips, captions = latents(recipe.batch, frames, generator)
        drop = (torch.rand(len(captions), generator=generator) < caption_drop).tolist()
        with torch.no_grad():
            texts = ["" if d else c for c, d in zip(captions, drop, strict=True)]
            context = encode(texts, tokenizer, text_encoder, device)
        timesteps = draw_timesteps(len(clips), len(alphas), generator, shift)
        noise = torch.randn(clips.shape, generator=generator)
        noisy, target = diffusion_target(
            clips.to(device), noise.to(device), alphas[timesteps].to(device), prediction_type
        )
        timesteps = timesteps.to(device)
        if isinstance(unet, UNet3DConditionModel):
            prediction = network(noisy, timesteps, context).sample
        else:
            prediction = network(channels_last(noisy[:, :, 0]), timesteps, context).sample[:, :, None]
        return denoising_error(prediction, target), {}

    with sdpa_kernel(ATTENTION_KERNELS):
        fit({"unet": unet}, loss, recipe, folder)


def train_decoder(
    vae: AutoencoderKLTemporal,
    pixels: Source,
    recipe: Recipe,
    folder: Path,
    *,
    frames: int,  # of a clip
    latent_noise: float = 0.05,  # standard deviation added to unit-variance latents: what a sampler leaves behind
    adversarial_weight: float = 0.02,
) -> None:
    """Learn the decoder's temporal layers from clips; everything else is frozen."""
    discriminator = Discriminator()
    objective = DecoderLoss({"l1": 1.0, "change": 1.0, "adversarial": adversarial_weight})

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        clips = pixels(recipe.batch, frames, generator).clips.to(vae.device)
        with torch.no_grad():
            latents = vae.encode(frames_of(clips)).latent_dist.mode().float()
            noise = torch.randn(latents.shape, generator=generator).to(vae.device)
            noise = noise * latent_noise / vae.config.scaling_factor
        decoded = vae.decode(latents + noise, num_frames=frames).sample.float()
        return objective(decoded, clips, discriminator, step, decoded)

    trainable(vae, is_temporal)
    fit({"vae": vae, "discriminator": discriminator}, loss, recipe, folder)


def trainable(model: nn.Module, choose: Callable[[str], bool]) -> None:
    """Freeze all parameters but those whose key is chosen."""
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(choose(key))


def learns_from_video(key: str) -> bool:
    """What VidRD's figure marks as trained on video: temporal layers, self- and cross-attention."""
    return is_temporal(key) or (
        any(part in key for part in (".attn1.", ".attn2.", ".norm1.", ".norm2.")) and (".transformer_blocks." in key)
    )


@torch.no_grad()
def encode_clips(
    vae: AutoencoderKLTemporal, videos: Float[Tensor, "B C T H W"], *, chunk: int = 256
) -> Float[Tensor, "B D T h w"]:
    """Unscaled latents (the distributions' means) of videos, `chunk` frames at a time."""
    B, _, T, _, _ = videos.shape
    parts = frames_of(videos).split(chunk)
    latents = torch.cat([vae.encode(part.to(vae.device)).latent_dist.mode().float().to(part.device) for part in parts])
    return latents.unflatten(0, (B, T)).transpose(1, 2)


def cached(
    latents: Float[Tensor, "N C T h w"],
    captions: Sequence[str],
    scaling_factor: float,
    weights: Float[Tensor, " N"] | None = None,  # how often each video is drawn relative to the others; None: all alike
) -> Source:
    """Random windows of stored latents, scaled to unit variance."""

    def draw(batch: int, frames: int, generator: torch.Generator) -> Batch:
        if weights is None:
            rows = torch.randint(len(latents), (batch,), generator=generator).tolist()
        else:
            rows = torch.multinomial(weights, batch, replacement=True, generator=generator).tolist()
        starts = torch.randint(latents.shape[2] - frames + 1, (batch,), generator=generator).tolist()
        clips = torch.stack([latents[i, :, t : t + frames].float() for i, t in zip(rows, starts, strict=True)])
        return Batch(clips * scaling_factor, [captions[i] for i in rows])

    return draw
