"""The pocket classifiers: two small networks that are for the pocket world what I3D and C3D are for real video.

Both end in a mean over all places and times, so they embed clips of any size and of any length from 8 frames on. They
were trained on 8 and 16 frames of 32 x 32 pixels. The numbers made with them say nothing outside the pocket world.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from metrics.networks.features import Features
from metrics.networks.no_tf32 import full_float32
from metrics.videos.frames import check_videos, to_network
from metrics.weights import broken, check_shapes, load_safetensors_verified

MIN_FRAMES = 8
CLASSIFIERS = Path(__file__).parents[2] / "weights" / "pocket-judges"


class Conv(nn.Sequential):
    """3-D convolution that pads with zeros, batch-norm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)):
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        super().__init__(
            nn.Conv3d(channels, out, kernel, stride, padding, bias=False), nn.BatchNorm3d(out), nn.ReLU(inplace=True)
        )

    def fuse(self) -> None:
        """Fold the batch-norm's running statistics into the convolution; the network must be in eval mode."""
        convolution, norm = self[0], self[1]
        assert isinstance(convolution, nn.Conv3d)
        assert isinstance(norm, nn.BatchNorm3d)
        self[0], self[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()


class Split(nn.Module):
    """A convolution over space and one over time around a shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.space = Conv(channels, channels, (1, 3, 3))
        self.time = Conv(channels, channels, (3, 1, 1))

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """x plus the convolution over space and then over time; no shape changes."""
        return x + self.time(self.space(x))


class PocketClassifier(nn.Module):
    """A trunk, the mean of its last channels as the embedding, and one linear head per attribute.

    `unit` scales the embedding so that the real videos it was trained on have a total variance of F: a distance between
    two sets then has the same scale for any classifier.
    """

    unit: Tensor

    def __init__(self, trunk: nn.Module, features: int, heads: Mapping[str, int]):
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict({name: nn.Linear(features, classes) for name, classes in heads.items()})
        self.register_buffer("unit", torch.ones(()))

    def forward(
        self, clips: Float[Tensor, "B 3 T H W"]
    ) -> tuple[Float[Tensor, "B F"], dict[str, Float[Tensor, "B _"]]]:
        """Embeddings, and per head the logits, of clips in [-1, 1]."""
        pooled = self.trunk(clips.contiguous(memory_format=torch.channels_last_3d)).mean(dim=(2, 3, 4))
        return pooled * self.unit, {name: head(pooled) for name, head in self.heads.items()}


def pocket_i3d(heads: Mapping[str, int]) -> PocketClassifier:
    """I3D-like, 0.24 M: factorized convolutions with shortcuts, several heads, 64 features."""
    trunk = nn.Sequential(
        Conv(3, 24, (1, 3, 3), (1, 2, 2)),
        Conv(24, 32, (3, 1, 1)),
        Conv(32, 48, (1, 3, 3), (1, 2, 2)),
        Conv(48, 64, (3, 1, 1), (2, 1, 1)),
        Split(64),
        Conv(64, 64, (3, 3, 3), (1, 2, 2)),
        Split(64),
    )
    return PocketClassifier(trunk, 64, heads)


def pocket_c3d(heads: Mapping[str, int]) -> PocketClassifier:
    """C3D-like, 0.23 M: plain 3 x 3 x 3 convolutions, 64 features."""
    trunk = nn.Sequential(
        Conv(3, 24, (3, 3, 3), (1, 2, 2)),
        Conv(24, 48, (3, 3, 3), (2, 2, 2)),
        Conv(48, 64, (3, 3, 3)),
        Conv(64, 64, (3, 3, 3), (1, 2, 2)),
    )
    return PocketClassifier(trunk, 64, heads)


NETWORKS = {"pocket-i3d": pocket_i3d, "pocket-c3d": pocket_c3d}


@dataclass(frozen=True, eq=False)
class PocketFeatureExtractor:
    """A classifier with its weights: a `metrics.networks.features.FeatureNetwork`."""

    name: str  # a key of NETWORKS
    network: PocketClassifier
    classes: dict[str, tuple[str, ...]]  # per head, the names of its logits
    sha256: str  # of the weights file
    device: torch.device
    min_frames: int = MIN_FRAMES

    @torch.inference_mode()
    def embed(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Features:
        """Features of one batch: 64 per video, and the logits of every head."""
        check_videos(videos, frames=self.min_frames, what=f"videos for {self.name}")
        with full_float32():
            embedding, logits = self.network(torch.from_numpy(to_network(videos)).to(self.device))
        return Features(embedding.cpu().numpy(), {head: rows.cpu().numpy() for head, rows in logits.items()})


def describe(name: str, classes: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The metadata that `load_classifier` needs in a weights file."""
    return {"network": name, "heads": json.dumps(classes)}


def is_classifier(path: Path | str) -> bool:
    """Whether a file's metadata name a pocket classifier."""
    if not Path(path).is_file():
        return False
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return (file.metadata() or {}).get("network") in NETWORKS
    except (OSError, SafetensorError):
        return False


def load_shipped(name: str, device: torch.device | str = "cpu") -> PocketFeatureExtractor:
    """One of the classifiers that are shipped with the project: "i3d" for FVD, "c3d" for the Inception Score.

    Raises:
        ValueError: it is another file than its card describes.
    """
    return load_classifier(CLASSIFIERS / f"{name}.safetensors", sha256=shipped_sha256(name), device=device)


def shipped_sha256(name: str) -> str:
    """The sha256 of that classifier's file, by the card."""
    card = json.loads((CLASSIFIERS / "card.json").read_text(encoding="utf-8"))
    return str(card["files"][f"{name}.safetensors"]["sha256"])


def load_classifier(
    path: Path | str, *, sha256: str | None = None, device: torch.device | str = "cpu"
) -> PocketFeatureExtractor:
    """Read a classifier from a safetensors file, ready to embed.

    Raises:
        ValueError: the file is not whole, is not this network's, or has another sha256 than the one given.
    """
    tensors, metadata, digest = load_safetensors_verified(path, sha256)
    name = metadata.get("network", "")
    if name not in NETWORKS:
        raise broken(path, f"its metadata name the network {name!r}, a classifier is one of {', '.join(NETWORKS)}")
    try:
        classes = {head: tuple(names) for head, names in json.loads(metadata["heads"]).items()}
    except (KeyError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise broken(path, f"its metadata do not name the classes of its heads ({error})") from error
    network = NETWORKS[name]({head: len(names) for head, names in classes.items()})
    check_shapes(path, tensors, network.state_dict())
    network.load_state_dict(tensors)
    network.eval()
    for layer in network.modules():
        if isinstance(layer, Conv):
            layer.fuse()
    network.to(device).to(memory_format=torch.channels_last_3d)
    return PocketFeatureExtractor(name, network.requires_grad_(False), classes, digest, torch.device(device))
