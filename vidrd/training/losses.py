"""The losses of the training stages: functions of tensors that are given their random numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


def diffusion_target(
    latents: Float[Tensor, "B C T H W"],
    noise: Float[Tensor, "B C T H W"],
    alphas: Float[Tensor, " B"],  # cumulative product of 1 - beta at each sample's timestep
    prediction_type: str,  # epsilon | v_prediction
) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B C T H W"]]:
    """Noisy latents, and the network's target for them.

    Source: Ho et al. 2020 (epsilon); Salimans and Ho 2022, appendix D (v).
    """
    signal, sigma = (a.view(-1, 1, 1, 1, 1) for a in (alphas.sqrt(), (1 - alphas).sqrt()))
    noisy = signal * latents + sigma * noise
    return noisy, noise if prediction_type == "epsilon" else signal * noise - sigma * latents


def snr_weights(
    alphas: Float[Tensor, " B"],  # cumulative product of 1 - beta at each sample's timestep
    gamma: float,
    prediction_type: str,  # epsilon | v_prediction
) -> Float[Tensor, " B"]:
    """Weights min(SNR, gamma) / SNR for epsilon and min(SNR, gamma) / (SNR + 1) for v: levels that conflict less.

    Source: Hang et al. 2023, arXiv 2303.09556, section 3.4; at zero signal the weight of v is its limit, 0.
    """
    snr = alphas / (1 - alphas).clamp(min=1e-12)
    floor = snr.clamp(max=gamma)
    return floor / (snr + 1) if prediction_type == "v_prediction" else floor / snr.clamp(min=1e-12)


def denoising_error(
    prediction: Float[Tensor, "B C T H W"],
    target: Float[Tensor, "B C T H W"],
    weights: Float[Tensor, " B"] | None = None,  # of the samples; None: all 1
) -> Float[Tensor, ""]:
    """Mean squared error, in float32."""
    if weights is None:
        return F.mse_loss(prediction.float(), target)
    return (F.mse_loss(prediction.float(), target, reduction="none").mean(dim=(1, 2, 3, 4)) * weights).mean()


def draw_timesteps(
    count: int,
    timesteps: int,  # of the schedule
    generator: torch.Generator,
    shift: float = 1.0,  # 1: every timestep equally often; above: the noisy ones more often
) -> Int[Tensor, " B"]:
    """Stratified timesteps: each B-th of the schedule, by probability, is drawn once, which steadies the loss.

    Source of the shift: Esser et al. 2024, arXiv 2403.03206, equation 23, here of the schedule's timesteps.
    """
    place = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    place = shift * place / (1 + (shift - 1) * place)
    return (place * timesteps).long().clamp(max=timesteps - 1)[torch.randperm(count, generator=generator)]


def detail_weights(frames: Float[Tensor, "N C H W"]) -> Float[Tensor, "N 1 H W"]:
    """Weights of mean 1 that grow with local contrast, so that a small textured object counts next to a large sky."""
    mean = F.avg_pool2d(frames, 3, 1, 1, count_include_pad=False)
    square = F.avg_pool2d(frames**2, 3, 1, 1, count_include_pad=False)
    contrast = (square - mean**2).clamp(min=0).mean(1, keepdim=True).sqrt()
    weights = 0.02 + contrast
    return weights / weights.mean(dim=(2, 3), keepdim=True)


def reconstruction(rebuilt: Float[Tensor, "N C H W"], frames: Float[Tensor, "N C H W"]) -> Float[Tensor, ""]:
    """Squared error, half of it weighted by detail."""
    error = (rebuilt - frames) ** 2
    return 0.5 * error.mean() + 0.5 * (error * detail_weights(frames)).mean()


def kl(mean: Float[Tensor, "N C H W"], logvar: Float[Tensor, "N C H W"]) -> Float[Tensor, ""]:
    """Divergence of the latents' Gaussians from the standard one, per latent number (Kingma and Welling 2014)."""
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()


class Discriminator(nn.Module):
    """Classifies each patch of a clip as real or decoded; every layer sees three frames at a time."""

    def __init__(self, width: int = 24):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(3, width, (3, 4, 4), stride=(1, 2, 2), padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv3d(width, 2 * width, (3, 4, 4), stride=(1, 2, 2), padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv3d(2 * width, 1, 3, padding=1),
        )

    def forward(self, clips: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 1 T h w"]:
        """Logits of the patches; positive: looks real."""
        return self.layers(clips)


def adversarial(
    discriminator: nn.Module, real: Float[Tensor, "B C T H W"], fake: Float[Tensor, "B C T H W"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Hinge losses of the generator and of the discriminator; one backward pass trains both.

    The generator's term sees the discriminator's weights as constants, the discriminator's term the fake as one.
    Source: Lim and Ye 2017 (hinge); Esser et al. 2021, section 3.1 (for autoencoders).
    """
    constants = {name: p.detach() for name, p in discriminator.named_parameters()}
    generator_loss = -torch.func.functional_call(discriminator, constants, (fake,)).mean()
    discriminator_loss = F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake.detach())).mean()
    return generator_loss, discriminator_loss


# Distance of frames (N 3 H W in [-1, 1]) as a network sees them: 0 for equal ones.
PerceptualLoss = Callable[[Tensor, Tensor], Tensor]


class FeatureDistance(nn.Module):
    """Mean squared distance between unit-length features of VGG16's five stages.

    The learned weights of LPIPS are not here: every channel counts the same, as in its baseline.
    Source: Zhang et al. 2018, arXiv 1801.03924, equation 1 with w = 1.
    """

    STAGES = (3, 8, 15, 22, 29)  # last activation before each pooling of VGG16
    mean: Tensor
    spread: Tensor

    def __init__(self, features: nn.Sequential):
        super().__init__()
        self.features = features.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)

    def forward(self, fake: Float[Tensor, "N 3 H W"], real: Float[Tensor, "N 3 H W"]) -> Float[Tensor, ""]:
        """The distance, averaged over frames, stages and positions."""
        x = ((torch.cat([fake, real]) + 1) / 2 - self.mean) / self.spread
        total = x.new_zeros(())
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.STAGES:
                a, b = F.normalize(x, dim=1).chunk(2)
                total = total + ((a - b) ** 2).sum(1).mean()
            if index == self.STAGES[-1]:
                break
        return total / len(self.STAGES)


@dataclass(frozen=True)
class DecoderLoss:
    """The loss of a decoder stage: a weighted sum, whose parts can be left out by the weight 0.

    Source: Esser et al. 2021 (VQGAN), section 3.1: reconstruction, perception, a patch discriminator that sets in late
    and whose weight is balanced by the gradients at the decoder's last layer; Video LDM (arXiv 2304.08818), section
    3.1.1: the discriminator sees clips.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {"l1": 1.0, "change": 1.0, "adversarial": 0.02})
    perceptual: PerceptualLoss | None = None
    starts: int = 0  # step from which on the discriminator is trained and counts
    balanced: bool = False  # scale the adversarial term to the gradient of all others at the decoder's last layer

    def __post_init__(self) -> None:
        known = {"l1", "change", "perceptual", "adversarial"}
        if not set(self.weights) <= known:
            raise ValueError(f"a decoder's loss is made of {', '.join(sorted(known))}: got {', '.join(self.weights)}")
        if self.weights.get("perceptual") and self.perceptual is None:
            raise ValueError("the perceptual loss needs a network: pass the weights of VGG16, or give it the weight 0")

    def __call__(
        self,
        decoded: Float[Tensor, "N C H W"],
        clips: Float[Tensor, "B C T H W"],
        discriminator: nn.Module,
        step: int,
        at: Tensor,  # where `balanced` compares gradients: the decoder's last weight, or where frozen its output
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The loss and its parts, each unweighted."""
        B, C, T, H, W = clips.shape
        frames = clips.transpose(1, 2).reshape(B * T, C, H, W)
        fake = decoded.reshape(B, T, C, H, W).transpose(1, 2)
        parts = {
            "l1": (fake - clips).abs().mean(),
            "change": (fake.diff(dim=2) - clips.diff(dim=2)).abs().mean() if T > 1 else clips.new_zeros(()),
        }
        if self.perceptual is not None:
            parts["perceptual"] = self.perceptual(decoded, frames)
        error = sum((self.weights.get(name, 0.0) * part for name, part in parts.items()), clips.new_zeros(()))
        weight = self.weights.get("adversarial", 0.0)
        if not weight:
            return error, parts
        fool, judge = adversarial(discriminator, clips, fake)
        on = float(step >= self.starts)
        if self.balanced and on:
            of_error, of_fool = (torch.autograd.grad(x, at, retain_graph=True)[0].norm() for x in (error, fool))
            weight = weight * (of_error / (of_fool + 1e-4)).clamp(max=1e4).detach()
        return error + on * (weight * fool + judge), {**parts, "fool": fool, "judge": judge}
