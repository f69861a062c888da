"""The settings of a training run on a data set; without torch, so that `--help` is quick."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from vidrd.command_line import ANY, Count, CountOrNone, ExistingFile, Limits, Pixels, Positive, Share, Weight

Stage = Literal["image", "temporal", "vae-decoder"]
Decay = Annotated[float, Limits("a share, from 0 and below 1", 0, 0.9999999)]
PositiveShare = Annotated[float, Limits("a share, above 0 and up to 1", 0, 1, above=True)]
Layers = Literal["temporal", "attention", "spatial", "text", "decoder"]
Schedule = Literal["cosine", "linear", "polynomial", "cosine_with_restarts", "constant_with_warmup", "constant"]

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
    """What is trained, on which data, and how."""

    stage: Stage = "temporal"
    """image: single frames; temporal: clips; vae-decoder: the VAE's temporal decoder."""
    model: str = ""
    """Folder of a VidRD pipeline, or of Stable Diffusion 1 or 2 (which is inflated); or a preset."""
    data: tuple[str, ...] = ()
    """Folders that `prepare` or `merge` wrote, or caches of their latents. Of several, FOLDER:WEIGHT gives the share of
    the samples."""
    steps: Count = 10_000
    """Steps of the optimizer."""
    batch: Count = 8
    """Clips per step, over all processes (single frames in the image stage)."""
    accumulate: Count = 1
    """Parts in which the clips of a step are computed, one after the other, to need less memory."""
    frames: Count = 8
    """Frames of a clip."""
    size: Pixels = 256
    """Height and width in pixels."""
    stride: Count = 1
    """Frames of the source from one frame of a clip to the next."""
    learn: tuple[Layers, ...] = ()
    """What is trained: temporal, attention, spatial (all else of the U-Net), text (its encoder), decoder (all of the
    VAE's). Default: what the paper's figure marks for the stage."""
    images: CountOrNone = 0
    """Single frames in each step, in addition to its clips."""
    crop: Literal["middle", "random"] = "middle"
    """Where the square of a sample lies in its frames."""
    smallest_crop: PositiveShare = 1.0
    """Least side of a random square, as a share of the frames' shorter side."""
    flip: bool = False
    """Mirror half of the samples, except those whose caption names left or right."""
    lora: CountOrNone = 0
    """Rank of the low-rank updates that attention layers learn instead of whole weights; 0: whole weights."""
    learning_rate: Positive = 1e-4
    """Learning rate after the warm-up."""
    schedule: Schedule = "cosine"
    """How the learning rate goes on after the warm-up, by diffusers' names; constant has no warm-up."""
    cycles: Count = 1
    """Cycles of cosine_with_restarts."""
    power: Positive = 1.0
    """Exponent of polynomial."""
    warmup: CountOrNone = 1000
    """Steps of the warm-up."""
    weight_decay: Weight = 0.01
    """Weight decay of AdamW."""
    ema: Decay = 0.9999
    """Decay of the averaged weights, which are the result; 0: none are kept."""
    clip_norm: Positive = 1.0
    """Gradients are scaled down to this norm of all of them."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Precision of the forward pass; the weights stay float32. auto: the reduced one that the machine has, else no."""
    caption_drop: Share = 0.1
    """Share of captions left empty, for guidance."""
    snr_gamma: Positive | None = None
    """Weights of min(SNR, gamma); 5 is usual; not given, all levels weigh the same."""
    zero_terminal_snr: bool = False
    """Give the noisiest level no signal at all; needs a model that predicts v."""
    checkpointing: bool = False
    """Compute activations twice instead of keeping them."""
    compiled: bool = False
    """Compile the network with torch.compile."""
    shard: bool = False
    """Divide weights, gradients and moments among the processes (FSDP)."""
    l1: Weight = 1.0
    """Weight of the error in the decoder's loss."""
    change: Weight = 1.0
    """Weight of the error of changes from frame to frame."""
    perceptual: Weight = 0.0
    """Weight of the distance of VGG16's features."""
    vgg: ExistingFile | None = None
    """Weights of torchvision's VGG16 (.safetensors or .pth), for the perceptual loss."""
    adversarial: Weight = 0.02
    """Weight of the discriminator, which sees clips."""
    adversarial_after: CountOrNone = 0
    """First step in which the discriminator counts."""
    balanced: bool = False
    """Scale the adversarial loss to the gradients of the other losses at the decoder's last layer."""
    latent_noise: Weight = 0.05
    """Standard deviation added to the decoder's unit-variance latents: the noise that a sampler leaves."""
    seed: int = 0
    """Seed of all random choices."""
    workers: CountOrNone = 0
    """Processes that decode samples in advance."""
    save_every: Count = 500
    """Steps from one saved state to the next."""
    keep: Count = 1
    """How many saved states are kept: the last ones."""
    held_out: CountOrNone = 0
    """Clips of each set that are not trained on, with all others of their source files, but validated on."""
    validate_every: Count = 500
    """Steps from one validation to the next."""
    vae_chunk: CountOrNone = 0
    """Frames that the VAE encodes at once (VAE slicing); 0: all of a batch."""
    show_every: CountOrNone = 0
    """Steps from one strip of samples to the next; 0: none."""
    prompts: tuple[str, ...] = ()
    """Prompts of the samples; default: captions of the data."""
    show_steps: Count = 20
    """Denoising steps of the samples."""
    show_guidance: float = 7.5
    """Guidance of the samples."""

    def __post_init__(self) -> None:
        wrong = set(self.learn) - set(ALLOWED[self.stage])
        if wrong:
            raise ValueError(
                f"stage {self.stage} can learn {', '.join(ALLOWED[self.stage])}: got {', '.join(sorted(wrong))}"
            )
        if self.stage != "temporal" and self.images:
            raise ValueError(f"images next to clips belong to stage temporal: got images {self.images} in {self.stage}")
        if self.batch % self.accumulate or self.images % self.accumulate:
            raise ValueError(
                f"batch and images are divided into accumulate equal parts: got {self.batch} and {self.images} in "
                f"{self.accumulate}"
            )
        if self.shard and (self.stage == "vae-decoder" or self.compiled or self.lora):
            raise ValueError(
                f"shard divides a U-Net that is not compiled and has no low-rank updates: got stage {self.stage}, "
                f"compiled {self.compiled}, lora {self.lora}"
            )
        if self.lora and (self.stage == "vae-decoder" or not set(self.learned) <= {"temporal", "attention"}):
            raise ValueError(
                f"low-rank updates are learned by a U-Net's attentions: got stage {self.stage}, learn "
                f"{', '.join(self.learned)}"
            )
        if self.smallest_crop < 1 and self.crop != "random":
            raise ValueError(f"smallest-crop belongs to crop random: got {self.smallest_crop} and {self.crop}")

    @property
    def learned(self) -> tuple[Layers, ...]:
        """The trained layers: `learn`, or those of the paper's figure (of which low-rank updates suit attentions)."""
        usual: tuple[Layers, ...] = ("attention",) if self.lora and self.stage == "image" else FIGURE[self.stage]
        return self.learn or usual


def weighted_sets(words: Sequence[str]) -> list[tuple[Path, float]]:
    """Folders and weights of words like FOLDER or FOLDER:WEIGHT; a word that is a folder as it stands has weight 1.

    Raises:
        ValueError: a word is empty, a weight is not above 0, or a folder is named twice.
    """
    sets: dict[Path, float] = {}
    for word in words:
        name, colon, weight = word.rpartition(":")
        if Path(word).is_dir() or not colon or not _is_number(weight):
            name, weight = word, "1"
        if not name:
            raise ValueError(f"--data names folders, as FOLDER or FOLDER:WEIGHT: got {word!r}")
        if not (float(weight) > 0 and ANY.holds(float(weight))):
            raise ValueError(f"a set's weight is above 0: got {word}")
        if Path(name) in sets:
            raise ValueError(f"--data names each folder once: got {name} twice")
        sets[Path(name)] = float(weight)
    return list(sets.items())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


class Stopped(Exception):  # noqa: N818 - it is no error
    """Raised when a run has saved its state because it was asked to stop; `code` is the exit code of that signal."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
