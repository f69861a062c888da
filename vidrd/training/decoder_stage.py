"""The loss, samples and validation of the temporal decoder's stage."""

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor, nn

from vidrd.pipeline import VidRDPipeline
from vidrd.released import read_state
from vidrd.training.feeds import TrainingData, encode_frames, noise_of
from vidrd.training.loop import Networks
from vidrd.training.losses import DecoderLoss, FeatureDistance
from vidrd.training.sample_stream import TrainingSample
from vidrd.training.settings import Settings
from vidrd.video import to_uint8


class DecoderStage:
    """Decode slightly noisy latents of clips to their pixels."""

    def __init__(
        self,
        settings: Settings,
        pipeline: VidRDPipeline,
        data: TrainingData,
        state: PartialState,
        discriminator: nn.Module,
    ):
        self.settings, self.vae, self.discriminator = settings, pipeline.vae.to(state.device), discriminator
        self.data = data
        weights = {name: getattr(settings, name) for name in ("l1", "change", "perceptual", "adversarial")}
        perceptual = load_vgg(settings.vgg).to(state.device) if settings.vgg else None
        self.objective = DecoderLoss(weights, perceptual, settings.adversarial_after, settings.balanced)
        self.measured = DecoderLoss({**weights, "adversarial": 0.0}, perceptual)
        self.feed = data.feed(settings.batch // settings.accumulate, settings.frames, "video", state)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted errors of the decoded clips."""
        pixels, latents = self._latents(self.feed.loader(step), "decoder")
        decoded = self.vae.decode(latents, num_frames=self.settings.frames).sample.float()
        last = self.vae.decoder.conv_out.weight
        watched = last if last.requires_grad else decoded
        return self.objective(decoded, pixels, self.discriminator, step // self.settings.accumulate, watched)

    def validate(self, averaged: Networks) -> dict[str, float]:
        """The same on held-out clips with fixed noise, without the discriminator; `averaged` holds this VAE."""
        values = []
        for sample in self.data.validation_samples(self.settings.frames):
            pixels, latents = self._latents([sample], "validation")
            decoded = self.vae.decode(latents, num_frames=self.settings.frames).sample.float()
            values.append(float(self.measured(decoded, pixels, self.discriminator, 0, decoded)[0]))
        return {"validation": sum(values) / len(values)}

    def draw(self, averaged: Networks) -> UInt8[ndarray, "B T H W 3"]:
        """Clips, each above its reconstruction; `averaged` holds this VAE."""
        draws = self.feed.loader.draws
        with torch.no_grad():
            pixels, latents = self._latents([draws[number] for number in range(2)], "decoder")
            decoded = self.vae.decode(latents, num_frames=self.settings.frames).sample.float()
        clips = decoded.unflatten(0, (len(pixels), self.settings.frames)).transpose(1, 2)
        return to_uint8(torch.stack([pixels, clips], dim=1).flatten(0, 1))

    def _latents(self, samples: Sequence[TrainingSample], stream: str) -> tuple[Tensor, Tensor]:
        """Clips, and noisy unscaled latents of their frames."""
        vae, settings = self.vae, self.settings
        pixels = torch.stack([sample.clip for sample in samples]).to(vae.device)
        latents = encode_frames(vae, pixels, settings.vae_chunk)
        noise = noise_of(samples, (settings.frames, *latents.shape[1:]), settings.seed, stream)
        noise = noise.to(vae.device).flatten(0, 1)
        return pixels, latents + noise * settings.latent_noise / vae.config.scaling_factor


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
