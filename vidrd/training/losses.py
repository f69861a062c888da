"""What each training stage minimises; each a function of tensors, with its randomness handed in."""

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
    """Noisy latents, and what the network should say of them.

    Source: Ho et al. 2020 (epsilon); Salimans and Ho 2022, appendix D (v).
    """
    signal, sigma = (a.view(-1, 1, 1, 1, 1) for a in (alphas.sqrt(), (1 - alphas).sqrt()))
    noisy = signal * latents + sigma * noise
    return noisy, noise if prediction_type == "epsilon" else signal * noise - sigma * latents


def draw_timesteps(count: int, timesteps: int, generator: torch.Generator) -> Int[Tensor, " B"]:
    """Stratified uniform timesteps: each B-th of the schedule is met once, which steadies the loss."""
    place = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (place * timesteps).long().clamp(max=timesteps - 1)[torch.randperm(count, generator=generator)]


def detail_weights(frames: Float[Tensor, "N C H W"]) -> Float[Tensor, "N 1 H W"]:
    """Weights of mean 1 that grow with local contrast, so that a small textured object counts beside a large sky."""
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
    """Says of each patch of a clip whether it was filmed or decoded; sees three frames at a time at every layer."""

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
        """Positive: looks filmed."""
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


def decoded_clip_loss(
    decoded: Float[Tensor, "N C H W"], clips: Float[Tensor, "B C T H W"], discriminator: nn.Module, weight: float
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """L1 to the clip, L1 between the changes from frame to frame, and an adversarial term of `weight`.

    Source: after Video LDM (arXiv 2304.08818, section 3.1.1), whose perceptual term needs weights that are not ours.
    """
    B, C, T, H, W = clips.shape
    fake = decoded.reshape(B, T, C, H, W).transpose(1, 2)
    error = (fake - clips).abs().mean()
    change = (fake.diff(dim=2) - clips.diff(dim=2)).abs().mean()
    fool, judge = adversarial(discriminator, clips, fake)
    return error + change + weight * fool + judge, {"l1": error, "change": change, "fool": fool, "judge": judge}
