"""RAFT, torchvision's network for optical flow, from a file of its weights."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.networks.no_tf32 import full_float32
from metrics.temporal.optical_flow import Pair
from metrics.weights.checkpoint import read_tensor
from metrics.weights.load import digest, open_source

Video = UInt8[np.ndarray, "T H W C"]
SMALLEST = 128  # pixels on each side that RAFT's pyramid needs


class Raft:
    """RAFT with torchvision's weights: finer borders, surer where texture is weak; frames under 128 px are enlarged.

    Source: Teed and Deng 2020, arXiv:2003.12039, by torchvision's `raft_large` or `raft_small`.
    """

    def __init__(self, network: nn.Module, name: str, *, updates: int = 12, batch: int = 8) -> None:
        self._network, self._name, self._updates, self._batch = network, name, updates, batch

    @property
    def name(self) -> str:
        """Network, updates and the sha256 of the weights."""
        return self._name

    def __call__(self, video: Video) -> Iterator[Pair]:
        """The flows between neighboring frames, in pixels per frame."""
        for first in range(0, len(video) - 1, self._batch):
            a, b = video[first : first + self._batch], video[first + 1 : first + 1 + self._batch]
            yield from map(Pair, self._between(a[: len(b)], b), self._between(b, a[: len(b)]))

    def padded(self, a: Video, b: Video) -> Float32[np.ndarray, "T Y X 2"]:
        """The flows from frames a to b as VBench has them: edges repeated to multiples of 8, and left in the flow.

        Raises:
            ValueError: frames of fewer than 128 pixels a side, of which VBench's RAFT makes no numbers.
        """
        height, width = a.shape[1:3]
        if min(height, width) <= SMALLEST - 8:
            raise ValueError(
                f"RAFT needs frames of at least {SMALLEST} pixels a side: got {height} x {width}, give larger ones"
            )
        pads = padding(height, width)
        device = next(self._network.parameters()).device
        with torch.inference_mode(), full_float32():
            pair = [
                F.pad(torch.from_numpy(np.array(side)).to(device).permute(0, 3, 1, 2).float(), pads, mode="replicate")
                for side in (a, b)
            ]
            flow = self._network(*(side / 127.5 - 1 for side in pair), num_flow_updates=self._updates)[-1]
        return flow.permute(0, 2, 3, 1).cpu().contiguous().numpy()

    def _between(self, a: Video, b: Video) -> Float32[np.ndarray, "T H W 2"]:
        device = next(self._network.parameters()).device
        height, width = a.shape[1:3]
        scale = max(1.0, SMALLEST / min(height, width))
        size = [8 * round(side * scale / 8) for side in (height, width)]
        stretch = torch.tensor([width / size[1], height / size[0]], dtype=torch.float32).view(1, 2, 1, 1)
        with torch.inference_mode(), full_float32():
            pair = [
                F.interpolate(
                    torch.from_numpy(np.array(side)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1,
                    size=size,
                    mode="bilinear",
                )
                for side in (a, b)
            ]
            flow = self._network(*pair, num_flow_updates=self._updates)[-1]
            flow = F.interpolate(flow, size=(height, width), mode="bilinear").cpu() * stretch
            return flow.permute(0, 2, 3, 1).contiguous().numpy()


def padding(height: int, width: int) -> list[int]:
    """Left, right, top and bottom pixels that bring frames to multiples of 8, the odd one behind."""
    across, down = -width % 8, -height % 8
    return [across // 2, across - across // 2, down // 2, down - down // 2]


def load_raft(path: Path | str, *, device: str = "cpu", updates: int = 12) -> Raft:
    """RAFT from torchvision's weights file, or the authors' raft-things.pth, which is the same network by other names.

    .safetensors with either names will do. The weights show which of torchvision's two networks it is. Nothing is
    downloaded, and nothing in the file is executed.

    Raises:
        ValueError: torchvision does not match torch; or the file is missing, broken or holds another network.
    """
    path = Path(path)
    source = open_source(path)
    tensors = rename_authors({name: read_tensor(source, name) for name in source.shapes})
    try:
        from torchvision.models.optical_flow import raft_large, raft_small  # noqa: PLC0415 - slow to import
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"RAFT needs torchvision, which cannot be imported ({error}): install the build that matches torch, "
            f"or leave --raft out for the classical flow"
        ) from error
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
    return Raft(network, f"{name} sha256:{digest(tensors)} updates:{updates}", updates=updates)


# The authors' name of a part of raft_large -> torchvision's.
NAMES = (
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"encoder\.conv1\.", "encoder.convnormrelu.0."),
    (r"encoder\.norm1\.", "encoder.convnormrelu.1."),
    (r"(feature|context)_encoder\.conv2\.", r"\1_encoder.conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm([12])\.", r"\1.convnormrelu\2.1."),
    (r"(layer\d\.\d)\.norm3\.", r"\1.downsample.1."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)


def rename_authors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under torchvision's names, where they have those of the authors' code.

    Raises:
        ValueError: a norm that is stored twice, as it is there, and differs.
    """
    if not any(name.removeprefix("module.").startswith("fnet.") for name in tensors):
        return tensors
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = name
        for pattern, replacement in NAMES:
            ours = re.sub(pattern, replacement, ours)
        if ours in renamed and not torch.equal(renamed[ours], tensor):
            raise ValueError(f"{name} is stored twice with different values: the file is damaged, download it again")
        renamed[ours] = tensor
    return renamed
