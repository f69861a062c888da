"""The loss, samples and validation of the U-Net's stages."""

from contextlib import nullcontext

import torch
from accelerate import PartialState
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from vidrd.pipeline import VidRDPipeline
from vidrd.text import encode
from vidrd.training.feeds import TrainingData, caption_of, encode_frames, noise_of
from vidrd.training.loop import Networks
from vidrd.training.losses import denoising_error, diffusion_target, draw_timesteps, snr_weights
from vidrd.training.sample_stream import TrainingSample
from vidrd.training.settings import Settings

LEVELS = (1 / 8, 3 / 8, 5 / 8, 7 / 8)  # of the timesteps, at which held-out clips are denoised


class UNetStage:
    """Denoise clips, single frames, or both."""

    def __init__(self, settings: Settings, pipeline: VidRDPipeline, data: TrainingData, state: PartialState):
        self.settings, self.pipeline, self.data, self.device = settings, pipeline.to(state.device), data, state.device
        self.unet, self.vae, self.text = pipeline.unet, pipeline.vae, pipeline.text_encoder  # those that are trained
        self.alphas, self.kind = pipeline.scheduler.alphas_cumprod, pipeline.scheduler.config.prediction_type
        self.network = torch.compile(self.unet) if settings.compiled else self.unet
        self.frames = settings.frames if settings.stage == "temporal" else 1
        part, stream = settings.accumulate, "video" if self.frames > 1 else "image"
        self.feeds = [data.feed(settings.batch // part, self.frames, stream, state)]
        if settings.images:
            self.feeds.append(data.feed(settings.images // part, 1, "image", state))
        self.total = sum(feed.loader.batch for feed in self.feeds)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean error over clips and single frames."""
        settings, device = self.settings, self.device
        sums, parts = torch.zeros((), device=device), {}
        for feed in self.feeds:
            samples = feed.loader(step)
            timesteps = draw_timesteps(feed.loader.batch, len(self.alphas), generator)[feed.mine]
            latents = self._latents(samples)
            captions = [caption_of(sample, settings, feed.stream) for sample in samples]
            with nullcontext() if "text" in settings.learned else torch.no_grad():
                context = encode(captions, self.pipeline.tokenizer, self.text, device)
            noise = noise_of(samples, latents.shape[1:], settings.seed, feed.stream).to(device)
            levels = self.alphas[timesteps].to(device)
            noisy, target = diffusion_target(latents, noise, levels, self.kind)
            weights = None if settings.snr_gamma is None else snr_weights(levels, settings.snr_gamma, self.kind)
            prediction = self.network(noisy, timesteps.to(device), context).sample
            error = denoising_error(prediction, target, weights)
            sums = sums + error * feed.loader.batch / self.total
            if len(self.feeds) > 1:
                parts[feed.stream] = error
        return sums, parts

    def validate(self, averaged: Networks) -> dict[str, float]:
        """The error on held-out clips at fixed timesteps with fixed noise, without weights: of each, and the mean."""
        self.pipeline.register_modules(**averaged)
        pipeline, device = self.pipeline.to(self.device), self.device
        errors: dict[str, list[float]] = {}
        for sample in self.data.validation_samples(self.frames):
            latents = self._latents([sample])
            context = encode([sample.caption], pipeline.tokenizer, pipeline.text_encoder, device)
            noise = noise_of([sample], latents.shape[1:], self.settings.seed, "validation").to(device)
            for level in LEVELS:
                timestep = torch.tensor([int(level * len(self.alphas))])
                noisy, target = diffusion_target(latents, noise, self.alphas[timestep].to(device), self.kind)
                prediction = pipeline.unet(noisy, timestep.to(device), context).sample
                errors.setdefault(f"validation_{int(timestep)}", []).append(float(denoising_error(prediction, target)))
        means = {name: sum(values) / len(values) for name, values in errors.items()}
        return {"validation": sum(means.values()) / len(means), **means}

    def draw(self, averaged: Networks) -> UInt8[ndarray, "B T H W 3"]:
        """Samples of a few prompts."""
        settings = self.settings
        self.pipeline.register_modules(**averaged)
        with torch.no_grad():
            return self.pipeline.to(self.device)(
                list(settings.prompts or self.data.some_captions(4)), num_frames=self.frames,
                num_inference_steps=settings.show_steps, guidance_scale=settings.show_guidance, height=settings.size,
                width=settings.size, output_type="uint8",
            ).frames  # fmt: skip

    def _latents(self, samples: list[TrainingSample]) -> Float[Tensor, "B C T H W"]:
        """Unit-variance latents of samples."""
        vae = self.vae
        clips = torch.stack([sample.clip for sample in samples]).to(self.device)
        if not self.data.encoded:
            frames = encode_frames(vae, clips, self.settings.vae_chunk)
            clips = frames.unflatten(0, (len(samples), -1)).transpose(1, 2)
        return clips * vae.config.scaling_factor
