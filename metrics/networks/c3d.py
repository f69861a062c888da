"""C3D with its UCF-101 head, the classifier of video Inception Scores: 16 frames of 112 x 112, BGR, less a mean clip.

Pools cover the remainder (Caffe's and Chainer's ceiling), so pool5 makes 4 of 7 with windows that begin at 0. Ports
that pad pool5 by (0, 1, 1) instead move the windows, and fc8 with them by some 40 %.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.networks.features import Features
from metrics.networks.no_tf32 import full_float32
from metrics.protocols import DEFAULT_IS, IS, IsProtocol
from metrics.videos.frames import check_videos
from metrics.videos.preprocess import c3d_input
from metrics.weights import load
from metrics.weights.errors import refused
from metrics.weights.npz import open_npz

CLASSES = 101
FRAMES = 16
MEAN_SHAPE = (3, FRAMES, 128, 171)  # BGR
MEAN_FILE = "mean2.npz"

# Layer, output channels, and the pool after it.
LAYERS = (
    ("conv1a", 64, (1, 2, 2)),
    ("conv2a", 128, (2, 2, 2)),
    ("conv3a", 256, None),
    ("conv3b", 256, (2, 2, 2)),
    ("conv4a", 512, None),
    ("conv4b", 512, (2, 2, 2)),
    ("conv5a", 512, None),
    ("conv5b", 512, (2, 2, 2)),
)


class C3D(nn.Module):
    """Eight convolutions and three linear layers, 78.4 M parameters; a tensor is named layer.weight or layer.bias.

    Every hidden layer has a `thin`-th of the published channels: 1 for the network itself, 8 for a stand-in of it.

    Source: Tran et al. 2015, arXiv:1412.0767, as TGAN and TGANv2 run it in Chainer.
    """

    def __init__(self, *, thin: int = 1) -> None:
        super().__init__()
        channels = 3
        for name, published, _ in LAYERS:
            out = published // thin
            self.add_module(name, nn.Conv3d(channels, out, 3, padding=1))
            channels = out
        self.fc6 = nn.Linear(channels * 4 * 4, 4096 // thin)
        self.fc7 = nn.Linear(4096 // thin, 4096 // thin)
        self.fc8 = nn.Linear(4096 // thin, CLASSES)

    def forward(self, clips: Float[Tensor, "B 3 16 112 112"]) -> Float[Tensor, "B 101"]:
        """Logits; without dropout."""
        x = clips
        for name, _, pool in LAYERS:
            x = F.relu(self.get_submodule(name)(x), inplace=True)
            if pool is not None:
                x = F.max_pool3d(x, pool, pool, ceil_mode=True)
        for layer in (self.fc6, self.fc7):
            x = F.relu(layer(x.flatten(1)), inplace=True)
        return self.fc8(x)


def c3d_shapes(thin: int = 1) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a file of weights must hold."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in C3D(thin=thin).state_dict().items()}


def build_c3d(tensors: Mapping[str, Tensor], *, thin: int = 1) -> C3D:
    """The network with these weights, in eval mode; it keeps the tensors, without a copy."""
    with torch.device("meta"):
        network = C3D(thin=thin)
    network.load_state_dict(dict(tensors), assign=True)
    return network.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class C3DFeatures:
    """C3D under one protocol: a `metrics.networks.features.PreparingNetwork` for videos of exactly 16 frames.

    Which 16 frames of a longer video are scored is for the caller to say, and to name: nothing published defines it.
    """

    protocol: str  # a row of metrics.protocols.IS
    network: C3D
    row: IsProtocol
    mean: Float32[Tensor, "3 16 128 171"]
    digest: str  # sha256 of tensors and mean clip: another mean makes other features
    device: torch.device
    batch: int  # clips in one call of the network
    min_frames: int = FRAMES

    @property
    def name(self) -> str:
        """Protocol and weights; there is no published checksum to recognize them by."""
        return f"c3d:{self.protocol}:{self.digest[:8]}"

    def embed(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Features:
        """Logits of the 101 classes, also as the embedding.

        Raises:
            ValueError: videos that do not have exactly 16 frames.
        """
        parts = [videos[i : i + self.batch] for i in range(0, len(videos), self.batch)] or [videos]
        return self._features([self._logits(self._input(part)) for part in parts])

    def prepare(self, video: UInt8[np.ndarray, "T H W C"]) -> Float32[Tensor, "1 3 16 112 112"]:
        """One video as the network reads it, on the CPU.

        Raises:
            ValueError: a video that does not have exactly 16 frames.
        """
        return self._input(video[None])

    def embed_prepared(self, clips: Sequence[Float32[Tensor, "1 3 16 112 112"]]) -> Features:
        """Logits of what `prepare` made."""
        parts = [torch.cat(list(clips[i : i + self.batch])) for i in range(0, len(clips), self.batch)]
        return self._features([self._logits(part) for part in parts])

    def _input(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Float32[Tensor, "N 3 16 112 112"]:
        check_videos(videos, frames=FRAMES, what=f"videos for {self.name}")
        if videos.shape[1] != FRAMES:
            raise ValueError(
                f"C3D reads exactly {FRAMES} frames: got {videos.shape[1]}, cut windows of {FRAMES} and say which"
            )
        return c3d_input(videos, self.row, self.mean)

    @torch.inference_mode()
    def _logits(self, clips: Float32[Tensor, "N 3 16 112 112"]) -> Float32[np.ndarray, "N 101"]:
        with full_float32():
            return self.network(clips.to(self.device)).cpu().numpy()

    @staticmethod
    def _features(parts: Sequence[Float32[np.ndarray, "_ 101"]]) -> Features:
        rows = np.concatenate(parts)
        return Features(rows, {"ucf101": rows})


def load_c3d(
    path: Path | str,
    protocol: str = DEFAULT_IS,
    *,
    mean: Path | str | None = None,
    device: torch.device | str = "cpu",
    batch: int = 4,
    thin: int = 1,
) -> C3DFeatures:
    """Read C3D's weights and its mean clip, ready under a protocol of `metrics.protocols.IS`.

    Args:
        path: a file or a folder, see `metrics.weights.load`.
        protocol: the row that says how frames become the network's input.
        mean: TGAN's mean2.npz; None = that file next to the weights.
        device: where the network runs.
        batch: clips in one call of the network; changes results by rounding only.
        thin: a stand-in's file holds a `thin`-th of the channels; its logits mean nothing.

    Raises:
        WeightsError: a file that cannot be used.
        ValueError: no such protocol, or a batch of none.
    """
    if protocol not in IS:
        raise ValueError(f"there is no Inception Score protocol {protocol!r}: it is one of {', '.join(IS)}")
    if batch < 1:
        raise ValueError(f"a batch holds at least one clip: got batch={batch}")
    loaded = load(path, {"c3d": c3d_shapes(thin)})
    clip = read_mean(Path(mean) if mean is not None else loaded.files[0].with_name(MEAN_FILE))
    network = build_c3d(loaded.tensors, thin=thin).to(torch.device(device)).to(memory_format=torch.channels_last_3d)
    digest = hashlib.sha256(loaded.digest.encode() + clip.numpy().tobytes()).hexdigest()
    return C3DFeatures(protocol, network, IS[protocol], clip, digest, torch.device(device), batch)


def read_mean(path: Path) -> Float32[Tensor, "3 16 128 171"]:
    """The mean clip that is subtracted, BGR, from an .npz with the array `mean`.

    Raises:
        WeightsError: no such file or array, another number of values, or values that no mean of frames can have.
    """
    if not path.is_file():
        raise refused(
            path, "there is no such file, and C3D's input is defined only with it", f"give --mean {MEAN_FILE}"
        )
    arrays = open_npz(path)
    if "mean" not in arrays.shapes:
        raise refused(path, f"it has no array named mean, only {', '.join(arrays.shapes) or 'none'}")
    if int(np.prod(arrays.shapes["mean"])) != int(np.prod(MEAN_SHAPE)):
        raise refused(path, f"its mean is {arrays.shapes['mean']}, which makes no clip of {MEAN_SHAPE}")
    mean = arrays.array("mean").astype(np.float32).reshape(MEAN_SHAPE)
    if not ((mean >= 0) & (mean <= 255)).all():
        raise refused(path, "its mean has values outside 0..255")
    return torch.from_numpy(mean)
