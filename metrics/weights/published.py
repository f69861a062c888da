"""Which published weights a network carries: by the checksum of every tensor, or by the hash of a whole file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import google_crc32c
from torch import Tensor

# Checkpoint -> our tensor name -> CRC-32C of its float32 bytes in TensorFlow's layout, from the published indexes.
CHECKSUMS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("i3d_crc32c.json").read_text())
SOURCES = {
    "rgb_scratch": "Kinetics-400 from scratch: the weights of FVD (TF-Hub deepmind/i3d-kinetics-400/1)",
    "rgb_imagenet": "Kinetics-400 after ImageNet: not the weights of FVD",
}

SCRIPT_SHA256 = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"
# sha256, or git blob (sha1 of a header and the content), of files as published -> what they are
FILES = {
    SCRIPT_SHA256: "i3d_torchscript.pt",
    "93daef59c7ae0e9e8f76225521407e60cbafa6aa": "i3d_torchscript.pt",
    "a867b87ac3a9097d200598b1d48a1b890d8ec744": "i3d_pretrained_400.pt of TATS",
    "fa7df95674dbf3579e7fccd954e51e706b4734c1": "rgb_scratch/model.ckpt.data-00000-of-00001 of kinetics-i3d",
}


@dataclass(frozen=True)
class Identity:
    """What the checksums say of an I3D's tensors."""

    checkpoint: str | None  # the published checkpoint that most tensors are those of; None = not a single one is
    tensors: dict[str, Literal["right", "wrong", "unknown"]]  # by that checkpoint; unknown = there is none

    @property
    def whole(self) -> bool:
        """All tensors are those of one published checkpoint."""
        return self.checkpoint is not None and set(self.tensors.values()) == {"right"}

    @property
    def name(self) -> str:
        """For a manifest: the checkpoint, `damaged` or `unrecognised`."""
        return "unrecognised" if self.checkpoint is None else self.checkpoint if self.whole else "damaged"


def identify(tensors: Mapping[str, Tensor]) -> Identity:
    """Compare every tensor of an I3D with the published ones; a norm's scale must be 1, as TensorFlow has none."""
    checksums = {name: _checksum(tensor) for name, tensor in tensors.items() if not name.endswith("bn.weight")}
    right = {which: {n for n in checksums if table.get(n) == checksums[n]} for which, table in CHECKSUMS.items()}
    checkpoint = max(right, key=lambda which: len(right[which]))
    if not right[checkpoint]:
        return Identity(None, dict.fromkeys(tensors, "unknown"))
    return Identity(
        checkpoint,
        {
            name: "right"
            if name in right[checkpoint] or (name not in checksums and bool((tensor == 1).all()))
            else "wrong"
            for name, tensor in tensors.items()
        },
    )


def hashes(path: Path) -> tuple[str, str]:
    """(sha256, git blob id) of a file, read once in pieces."""
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            sha256.update(piece)
            blob.update(piece)
    return sha256.hexdigest(), blob.hexdigest()


def _checksum(tensor: Tensor) -> str:
    """CRC-32C of the float32 bytes in TensorFlow's layout: a kernel is (T, H, W, in, out) there."""
    laid = tensor.permute(2, 3, 4, 1, 0) if tensor.ndim == 5 else tensor
    return f"{google_crc32c.value(laid.contiguous().numpy().tobytes()):08x}"
