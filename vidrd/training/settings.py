"""The settings of a training run on a data set; without torch, so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Stage = Literal["image", "temporal", "vae-decoder"]
Layers = Literal["temporal", "attention", "spatial", "text", "decoder"]

FIGURE: Mapping[str, tuple[Layers, ...]] = {  # what the paper's figure marks as trained, by stage
    "image": ("spatial", "attention"),
    "temporal": ("temporal", "attention"),
    "vae-decoder": ("temporal",),
}
ALLOWED: Mapping[str, tuple[Layers, ...]] = {
    "image": ("spatial", "attention", "text"),
    "temporal": ("temporal", "attention", "spatial", "text"),
    "vae-decoder": ("temporal", "decoder"),
}


@dataclass(frozen=True)
class Settings:
    """What is trained on what, and how."""

    stage: Stage = "temporal"
    """image: single frames; temporal: clips; vae-decoder: the VAE's temporal decoder."""
    model: str = ""
    """Folder of a VidRD pipeline, or of Stable Diffusion 1 or 2 (which is inflated); or a preset."""
    data: Path | None = None
    """Folder that `prepare` wrote, or a cache of its latents."""
    steps: int = 10_000
    """Steps of the optimiser."""
    batch: int = 8
    """Clips of a step, over all processes (single frames in the image stage)."""
    frames: int = 8
    """Of a clip."""
    size: int = 256
    """Height and width in pixels."""
    stride: int = 1
    """Frames of the source from one frame of a clip to the next."""
    learn: tuple[Layers, ...] = ()
    """What is trained: temporal, attention, spatial (all else of the U-Net), text (its encoder), decoder (all of the
    VAE's). None named: as the paper's figure has it for the stage."""
    images: int = 0
    """Single frames in each step, in addition to its clips."""
    learning_rate: float = 1e-4
    """At the end of the warm-up; then a cosine falls to zero."""
    warmup: int = 1000
    """Steps."""
    weight_decay: float = 0.01
    """Of AdamW."""
    ema: float = 0.9999
    """Decay of the averaged weights, which are the result; 0: none are kept."""
    clip_norm: float = 1.0
    """Greatest norm of all gradients together."""
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    """Of the forward pass; the weights stay float32."""
    caption_drop: float = 0.1
    """Share of captions left empty, for guidance."""
    snr_gamma: float | None = None
    """Weights of min(SNR, gamma); 5 is usual. None: all levels weigh the same."""
    zero_terminal_snr: bool = False
    """Let the noisiest level have no signal at all; needs a model that predicts v."""
    checkpointing: bool = False
    """Compute activations twice rather than keep them."""
    compiled: bool = False
    """By torch.compile."""
    shard: bool = False
    """Divide weights, gradients and moments among the processes of `accelerate launch` (FSDP)."""
    l1: float = 1.0
    """Weight in the decoder's loss: of the error."""
    change: float = 1.0
    """Of the error of changes from frame to frame."""
    perceptual: float = 0.0
    """Of the distance of VGG16's features."""
    vgg: Path | None = None
    """Weights of torchvision's VGG16 (.safetensors or .pth), for the perceptual loss."""
    adversarial: float = 0.02
    """Of the discriminator, which sees clips."""
    adversarial_after: int = 0
    """Step from which on it counts."""
    balanced: bool = False
    """Scale it to the gradients of the rest at the decoder's last layer."""
    latent_noise: float = 0.05
    """Standard deviation added to the decoder's unit-variance latents: what a sampler leaves behind."""
    seed: int = 0
    """Names everything drawn."""
    workers: int = 0
    """Processes that read ahead."""
    save_every: int = 500
    """Steps."""
    show_every: int = 0
    """Steps from one strip of samples to the next; 0: none."""
    prompts: tuple[str, ...] = ()
    """Of the samples; none: captions of the data."""
    show_steps: int = 20
    """Denoising steps of the samples."""
    show_guidance: float = 7.5
    """Their guidance."""

    def __post_init__(self) -> None:
        wrong = set(self.learn) - set(ALLOWED[self.stage])
        if wrong:
            raise ValueError(
                f"stage {self.stage} can learn {', '.join(ALLOWED[self.stage])}: got {', '.join(sorted(wrong))}"
            )
        if self.stage != "temporal" and self.images:
            raise ValueError(f"images next to clips belong to stage temporal: got images {self.images} in {self.stage}")
        if self.shard and (self.stage == "vae-decoder" or self.compiled):
            raise ValueError(
                f"shard divides a U-Net that is not compiled: got stage {self.stage}, compiled {self.compiled}"
            )

    @property
    def learned(self) -> tuple[Layers, ...]:
        """What is trained."""
        return self.learn or FIGURE[self.stage]


class Stopped(Exception):  # noqa: N818 - it is no error
    """The run was asked to stop (SIGTERM) and has saved its state."""
