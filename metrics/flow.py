"""Optical flow: how far every pixel moves from one frame to the next, by a classical method or by RAFT from a file.

A flow is a function of one video that carries a name, which belongs beside every number made with it: flows differ by
method more than many videos do.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

if TYPE_CHECKING:
    from torch import nn

Video = UInt8[np.ndarray, "T H W C"]
LUMA = np.array([0.299, 0.587, 0.114])
SMALLEST = 128  # pixels a side that RAFT's pyramid asks for


class Pair(NamedTuple):
    """Flows in pixels a frame, (x, y) last, between two neighbouring frames."""

    forward: Float32[np.ndarray, "H W 2"]
    backward: Float32[np.ndarray, "H W 2"]


@runtime_checkable
class Flow(Protocol):
    """A way to estimate flow."""

    @property
    def name(self) -> str:
        """Method, settings and, for a network, the sha256 of its weights."""
        ...

    def __call__(self, video: Video) -> Iterator[Pair]:
        """The flows between frames 0 and 1, 1 and 2, ... of one video; only a few are in memory at a time."""
        ...


def luma(video: Video) -> UInt8[np.ndarray, "T H W"]:
    """Brightness of every pixel, rounded to a byte."""
    return np.rint(video @ LUMA).astype(np.uint8)


@dataclass(frozen=True)
class Farneback:
    """Farnebäck's polynomial expansion on 8-bit luma: needs no weights; blurs motion borders, fails without texture.

    Source: Farnebäck 2003, by OpenCV's `calcOpticalFlowFarneback`.
    """

    pyramid: float = 0.5  # scale from level to level
    levels: int = 3
    window: int = 15  # pixels
    iterations: int = 3
    neighbourhood: int = 5  # pixels of the polynomial
    sigma: float = 1.2

    @property
    def name(self) -> str:
        """Method, library and settings."""
        settings = (self.pyramid, self.levels, self.window, self.iterations, self.neighbourhood, self.sigma)
        return f"farneback({','.join(map(str, settings))}) opencv {cv2.__version__}"

    def __call__(self, video: Video) -> Iterator[Pair]:
        """The flows between neighbouring frames."""
        for a, b in pairwise(luma(video)):
            yield Pair(self._between(a, b), self._between(b, a))

    def _between(self, a: UInt8[np.ndarray, "H W"], b: UInt8[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 2"]:
        start = np.zeros((*a.shape, 2), dtype=np.float32)
        return cv2.calcOpticalFlowFarneback(
            a,
            b,
            start,
            self.pyramid,
            self.levels,
            self.window,
            self.iterations,
            self.neighbourhood,
            self.sigma,
            0,
        )


class Raft:
    """RAFT with torchvision's weights: finer borders, surer where texture is weak; frames under 128 px are enlarged.

    Source: Teed and Deng 2020, arXiv:2003.12039, by torchvision's `raft_large` or `raft_small`.
    """

    def __init__(self, network: "nn.Module", name: str, *, updates: int = 12, batch: int = 8) -> None:
        self._network, self._name, self._updates, self._batch = network, name, updates, batch

    @property
    def name(self) -> str:
        """Network, updates and the sha256 of the weights."""
        return self._name

    def __call__(self, video: Video) -> Iterator[Pair]:
        """The flows between neighbouring frames."""
        for first in range(0, len(video) - 1, self._batch):
            a, b = video[first : first + self._batch], video[first + 1 : first + 1 + self._batch]
            yield from map(Pair, self._between(a[: len(b)], b), self._between(b, a[: len(b)]))

    def _between(self, a: Video, b: Video) -> Float32[np.ndarray, "T H W 2"]:
        import torch  # noqa: PLC0415 - the other measures need no torch, which is slow to import
        from torch.nn import functional as F  # noqa: PLC0415

        device = next(self._network.parameters()).device
        height, width = a.shape[1:3]
        scale = max(1.0, SMALLEST / min(height, width))
        size = [8 * round(side * scale / 8) for side in (height, width)]
        stretch = torch.tensor([width / size[1], height / size[0]], dtype=torch.float32).view(1, 2, 1, 1)
        with torch.inference_mode():
            pair = [
                F.interpolate(
                    torch.from_numpy(np.ascontiguousarray(side)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1,
                    size=size,
                    mode="bilinear",
                )
                for side in (a, b)
            ]
            flow = self._network(*pair, num_flow_updates=self._updates)[-1]
            flow = F.interpolate(flow, size=(height, width), mode="bilinear").cpu() * stretch
            return flow.permute(0, 2, 3, 1).contiguous().numpy()


def load_raft(path: Path | str, *, device: str = "cpu", updates: int = 12) -> Raft:
    """RAFT from torchvision's own weights file (.pth, or .safetensors with the same names); nothing is downloaded.

    Which of the two networks it is, is told from the weights. Nothing in the file is executed.

    Raises:
        ValueError: torchvision is missing; or the file is missing, broken or holds another network.
    """
    try:
        from torchvision.models.optical_flow import raft_large, raft_small  # noqa: PLC0415 - optional
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"RAFT needs torchvision, which cannot be imported ({error}): install the build that matches torch, or "
            f"leave --raft out for the classical flow"
        ) from error
    path = Path(path)
    tensors, digest = _read_state(path)
    first = tensors.get("feature_encoder.convnormrelu.0.weight")
    builders = {64: (raft_large, "raft_large"), 32: (raft_small, "raft_small")}
    if first is None or len(first) not in builders:
        raise ValueError(f"{path} holds no weights of torchvision's RAFT: give raft_large_*.pth or raft_small_*.pth")
    build, name = builders[len(first)]
    network = build(weights=None, progress=False)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit {name}: {' '.join(str(error).split())[:200]}") from error
    network.eval().requires_grad_(False).to(device)
    return Raft(network, f"{name} sha256:{digest} updates:{updates}", updates=updates)


def _read_state(path: Path) -> tuple[dict, str]:
    import pickle  # noqa: PLC0415 - for the name of its error only
    import zipfile  # noqa: PLC0415

    import torch  # noqa: PLC0415
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load  # noqa: PLC0415

    try:
        content = path.read_bytes()
        if path.suffix == ".safetensors":
            tensors = load(content)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(tensors, dict):
            raise ValueError(f"it holds a {type(tensors).__name__}")
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as weights: {' '.join(str(error).split())[:200]}") from error
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as weights: {error}") from error
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise ValueError(f"{path} cannot be used as weights: {bad[0]} is not finite")
    return tensors, hashlib.sha256(content).hexdigest()
