"""I3D with its Kinetics-400 head, the network of FVD: every key as the files in use have it, every pad as TensorFlow's.

`I3D` is the network as published. `load_i3d` reads weights from any of their files and makes it fast without changing
results: norms folded into kernels, asymmetric padding without copies wherever the operator can count it itself, memory
channels-last throughout.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from metrics.networks.features import Features
from metrics.networks.no_tf32 import full_float32
from metrics.protocols import DEFAULT_FVD, FVD, FvdProtocol
from metrics.videos.frames import check_videos
from metrics.videos.preprocess import i3d_input
from metrics.weights import LoadedTensors, load
from metrics.weights.errors import refused
from metrics.weights.published import SOURCES, Identity, identify

CLASSES = 400
SIZE = 224  # pixels; another size leaves a grid of logits, or nothing, to average
MIN_FRAMES = 9

# Output channels of the branches b0, b1a, b1b, b2a, b2b, b3b.
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
HALVES = (torch.bfloat16, torch.float16)
Precision = Literal["float32", "float64", "bfloat16", "float16"]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis in TensorFlow's "SAME": ceil(size / stride) come out, the odd zero is behind."""
    total = max(kernel - stride if size % stride == 0 else kernel - size % stride, 0)
    return total // 2, total - total // 2


class Unit(nn.Module):
    """Convolution with "SAME" padding, batch-norm, ReLU; without a norm it has a bias and no ReLU."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1, *, norm: bool = True):
        super().__init__()
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=not norm)
        self.bn: nn.Module | None = nn.BatchNorm3d(out) if norm else None

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D U Y X"]:
        """Pad by a copy only where the two ends differ; the first layer alone has that, on three channels."""
        kernel, stride = self.conv3d.kernel_size[0], self.conv3d.stride[0]
        pads = [same_padding(size, kernel, stride) for size in x.shape[2:]]
        before, after = zip(*pads, strict=True)
        if before != after:
            x, before = F.pad(x, [zeros for pad in reversed(pads) for zeros in pad]), (0, 0, 0)
        x = F.conv3d(x, self.conv3d.weight, self.conv3d.bias, self.conv3d.stride, before)
        if self.bn is None:
            return x
        return F.relu(self.bn(x), inplace=True)

    def fold(self) -> None:
        """Put the norm's running statistics into kernel and bias, in float64; for inference only."""
        assert isinstance(self.bn, nn.BatchNorm3d)
        wide = self.bn.double()
        mean, variance = wide.running_mean, wide.running_var
        assert mean is not None
        assert variance is not None
        weight, bias = fuse_conv_bn_weights(
            self.conv3d.weight.double(), None, mean, variance, wide.eps, wide.weight, wide.bias
        )
        dtype = self.conv3d.weight.dtype
        self.conv3d.weight, self.conv3d.bias = nn.Parameter(weight.to(dtype)), nn.Parameter(bias.to(dtype))
        self.bn = nn.Identity()


class SamePool(nn.Module):
    """Max-pool with "SAME" padding of what a ReLU has left, so that minus infinity pads as zeros do, without a copy.

    Pads are either equal at both ends, or 0 in front and 1 behind, which is what rounding the size up means.
    """

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C U Y X"]:
        """ceil(size / stride) in every axis."""
        pads = [same_padding(*axis) for axis in zip(x.shape[2:], self.kernel, self.stride, strict=True)]
        return F.max_pool3d(x, self.kernel, self.stride, [before for before, _ in pads], ceil_mode=True)


class Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, channels: int, out: tuple[int, int, int, int, int, int]):
        super().__init__()
        self.b0 = Unit(channels, out[0])
        self.b1a = Unit(channels, out[1])
        self.b1b = Unit(out[1], out[2], 3)
        self.b2a = Unit(channels, out[3])
        self.b2b = Unit(out[3], out[4], 3)
        self.b3a = SamePool((3, 3, 3), (1, 1, 1))
        self.b3b = Unit(channels, out[5])

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T H W"]:
        """Concatenate what the branches say."""
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)


class I3D(nn.Module):
    """Inflated Inception, 12.7 M parameters, with the state-dict keys of VideoGPT's and piergiaj's ports.

    Every hidden layer has a `thin`-th of the published channels: 1 for the network itself, 8 for a stand-in of it.

    Source: Carreira and Zisserman 2017, arXiv:1705.07750, figure 3.
    """

    def __init__(self, *, epsilon: float = 1e-3, thin: int = 1):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64 // thin, 7, 2)
        self.MaxPool3d_2a_3x3 = SamePool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64 // thin, 64 // thin)
        self.Conv3d_2c_3x3 = Unit(64 // thin, 192 // thin, 3)
        self.MaxPool3d_3a_3x3 = SamePool((1, 3, 3), (1, 2, 2))
        channels = 192 // thin
        for name, published in MIXED.items():
            b0, b1a, b1b, b2a, b2b, b3b = (each // thin for each in published)
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = SamePool((3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = SamePool((2, 2, 2), (2, 2, 2))
            self.add_module(name, Mixed(channels, (b0, b1a, b1b, b2a, b2b, b3b)))
            channels = b0 + b1b + b2b + b3b
        self.logits = Unit(channels, CLASSES, norm=False)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm3d):
                layer.eps = epsilon

    def forward(self, clips: Float[Tensor, "B 3 T 224 224"]) -> Float[Tensor, "B 400"]:
        """Logits of clips in [-1, 1], averaged over time."""
        x = clips
        for name, layer in self.named_children():
            if name != "logits":
                x = layer(x)
        wide = x.float() if x.dtype in HALVES else x  # a CPU pools no halves, and a mean of them would lose digits
        return self.logits(F.avg_pool3d(wide, (2, 7, 7), stride=1).to(x.dtype)).mean(dim=(2, 3, 4))

    def fold(self) -> None:
        """Put all norms into their kernels; keys change, results only in the last digits."""
        for layer in self.modules():
            if isinstance(layer, Unit) and layer.bn is not None:
                layer.fold()


def i3d_shapes(thin: int = 1) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a file of weights must hold."""
    with torch.device("meta"):
        state = I3D(thin=thin).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def build_i3d(tensors: Mapping[str, Tensor], *, epsilon: float, thin: int = 1) -> I3D:
    """The network as published, with these weights, in eval mode."""
    network = I3D(epsilon=epsilon, thin=thin)
    missing, unknown = network.load_state_dict(dict(tensors), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]  # inference ignores these counters
    if missing or unknown:
        what, which = ("lacks", missing) if missing else ("has the unknown", unknown)
        raise ValueError(f"a network is loaded whole or not at all: I3D {what} {which[0]}, give the published file")
    return network.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class I3DFeatures:
    """I3D under one protocol: a `metrics.networks.features.PreparingNetwork` whose embedding is the 400 logits.

    Equal weights, whatever file they came from, have the same `digest`.
    """

    protocol: str  # a row of metrics.protocols.FVD
    network: Callable[[Tensor], Tensor]
    row: FvdProtocol
    weights: str  # "rgb_scratch", or "unrecognised"
    digest: str  # sha256 of the tensors
    device: torch.device
    precision: Precision
    batch: int  # clips in one call of the network
    compiled: bool = False  # every call then has a full batch, as another size would be compiled again

    @property
    def name(self) -> str:
        """Protocol and weights, and the precision where it is not float32: a cache tells features apart by it."""
        precision = "" if self.precision == "float32" else f":{self.precision}"
        return f"i3d:{self.protocol}:{self.weights}{precision}"

    @property
    def min_frames(self) -> int:
        """The shortest clip."""
        return self.row.min_frames

    def embed(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Features:
        """Logits of whole videos, of any size: the protocol says how they are resized."""
        parts = [videos[i : i + self.batch] for i in range(0, len(videos), self.batch)] or [videos]
        return self._features([self._logits(self._input(part)) for part in parts])

    def prepare(self, video: UInt8[np.ndarray, "T H W C"]) -> Float[Tensor, "1 3 T 224 224"]:
        """One video as the network reads it, on the CPU."""
        return self._input(video[None])

    def embed_prepared(self, clips: Sequence[Float[Tensor, "1 3 T 224 224"]]) -> Features:
        """Logits of what `prepare` made."""
        parts = [torch.cat(list(clips[i : i + self.batch])) for i in range(0, len(clips), self.batch)]
        return self._features([self._logits(part) for part in parts])

    def _input(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Float[Tensor, "N 3 T 224 224"]:
        check_videos(videos, frames=self.min_frames, what=f"videos for {self.name}")
        return i3d_input(videos, self.row.resample, dtype=self._wide)

    @property
    def _wide(self) -> torch.dtype:
        return torch.float64 if self.precision == "float64" else torch.float32

    @torch.inference_mode()
    def _logits(self, clips: Float[Tensor, "N 3 T 224 224"]) -> Float[np.ndarray, "N 400"]:
        n = len(clips)
        if self.compiled and n < self.batch:
            clips = torch.cat([clips, *[clips[-1:]] * (self.batch - n)])
        clips = clips.to(self.device, PRECISIONS[self.precision]).contiguous(memory_format=torch.channels_last_3d)
        with full_float32():
            return self.network(clips)[:n].to("cpu", self._wide).numpy()

    @staticmethod
    def _features(parts: Sequence[Float[np.ndarray, "_ 400"]]) -> Features:
        rows = np.concatenate(parts)
        return Features(rows, {"kinetics": rows})


def load_i3d(
    path: Path | str,
    protocol: str = DEFAULT_FVD,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    batch: int = 4,
    compiled: bool = False,
    thin: int = 1,
) -> I3DFeatures:
    """Read I3D's weights and make the network ready under a protocol of `metrics.protocols.FVD`.

    Args:
        path: a file or a folder, see `metrics.weights.load`.
        protocol: the row that says epsilon and preprocessing.
        device: where the network runs.
        precision: float64 for checks; bfloat16 and float16 change FVD. All but float32 appear in the network's name.
        batch: clips in one call of the network; changes results by rounding only.
        compiled: let torch.compile make the network faster; the first call of each shape then takes a minute or so.
        thin: a stand-in's file holds a `thin`-th of the channels; its features mean nothing.

    Raises:
        WeightsError: the file cannot be used, see `metrics.weights.load`; or it holds rgb_imagenet, or some but not all
            tensors of a published checkpoint.
        ValueError: no such protocol, or a batch of none.
    """
    if protocol not in FVD:
        raise ValueError(f"there is no FVD protocol {protocol!r}: it is one of {', '.join(FVD)}")
    if batch < 1:
        raise ValueError(f"a batch holds at least one clip: got batch={batch}")
    loaded = load(path, {"i3d": i3d_shapes(thin)})
    identity = checked_identity(loaded)
    row = FVD[protocol]
    digest, where = loaded.digest, torch.device(device)
    network = build_i3d(loaded.tensors, epsilon=row.epsilon, thin=thin)
    network.fold()
    network.to(where, PRECISIONS[precision]).to(memory_format=torch.channels_last_3d)
    called = torch.compile(network, dynamic=False) if compiled else network
    return I3DFeatures(protocol, called, row, identity.name, digest, where, precision, batch, compiled)


def checked_identity(loaded: LoadedTensors) -> Identity:
    """Say which published weights these are; refuse those that FVD is not defined on.

    Raises:
        WeightsError: rgb_imagenet, or some but not all tensors of a published checkpoint.
    """
    identity = identify(loaded.tensors)
    wrong = [name for name, verdict in identity.tensors.items() if verdict == "wrong"]
    shown = loaded.files[0]
    if wrong:
        more = f"{wrong[0]} and {len(wrong) - 1} more are" if len(wrong) > 1 else f"{wrong[0]} is"
        raise refused(shown, f"it is {identity.checkpoint}, but {more} not as published", "get the file again")
    if identity.checkpoint == "rgb_imagenet":
        raise refused(shown, f"it is rgb_imagenet, {SOURCES['rgb_imagenet']}", "FVD wants rgb_scratch")
    return identity


def constant_clips(network: I3D, lengths: tuple[int, ...]) -> dict[int, float]:
    """Squared distance between the logits of an all-black and an all-white clip, by their number of frames.

    No resize, crop or range can change such clips, so this tests weights, epsilon and padding alone.
    """
    distances = {}
    weight = network.logits.conv3d.weight
    for frames in lengths:
        clips = torch.ones(2, 3, frames, SIZE, SIZE, dtype=weight.dtype, device=weight.device)
        clips[0] = -1
        with torch.inference_mode():
            black, white = network(clips.contiguous(memory_format=torch.channels_last_3d)).double()
        distances[frames] = float(((black - white) ** 2).sum())
    return distances
