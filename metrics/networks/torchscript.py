"""Published TorchScript programs, run as they are: the only way to the resize that is written inside them.

Running a file is trusting it. So a program runs only if its sha256 is that of the published one, or if the user says
so; to read its tensors without running it, use `metrics.networks.i3d.load_i3d` and `metrics.networks.c3d.load_c3d`.
"""

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from metrics.files import WEIGHTS_BYTES, read_regular
from metrics.networks.features import Features
from metrics.videos.frames import check_videos
from metrics.weights.errors import TRUNCATED, refused
from metrics.weights.published import SCRIPT_SHA256


@dataclass(frozen=True)
class Call:
    """How a published program is called, and what it returns."""

    file: str  # as it is named where it is published
    options: dict[str, bool]
    head: str  # name of its classes
    probabilities: bool  # after the softmax; else logits
    min_frames: int
    sha256: str | None = None  # of the published file; None = nobody published one


# As StyleGAN-V calls them: uint8 in 0..255, B C T H W, of any size.
CALLS = {
    "i3d": Call(
        "i3d_torchscript.pt",
        {"rescale": True, "resize": True, "return_features": True},
        head="kinetics",
        probabilities=False,
        min_frames=9,
        sha256=SCRIPT_SHA256,
    ),
    "c3d": Call("c3d_ucf101.pt", {}, head="ucf101", probabilities=True, min_frames=16),
}


@dataclass(frozen=True, eq=False)
class TorchScriptFeatures:
    """A program as a `metrics.networks.features.FeatureNetwork`."""

    kind: str  # a key of CALLS
    program: Callable[..., Tensor]
    sha256: str  # of its file
    device: torch.device
    batch: int

    @property
    def name(self) -> str:
        """The kind of program, and the first digits of its file's sha256."""
        return f"script:{self.kind}:{self.sha256[:8]}"

    @property
    def min_frames(self) -> int:
        """The shortest clip."""
        return CALLS[self.kind].min_frames

    @torch.inference_mode()
    def embed(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Features:
        """The program's output for whole videos; for probabilities, the logits are their logarithms."""
        check_videos(videos, frames=self.min_frames, what=f"videos for {self.name}")
        rows = np.concatenate([self._rows(videos[i : i + self.batch]) for i in range(0, len(videos), self.batch)])
        with np.errstate(divide="ignore"):  # a probability of 0 is a logit of minus infinity
            logits = np.log(rows) if CALLS[self.kind].probabilities else rows
        return Features(rows, {CALLS[self.kind].head: logits})

    def _rows(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Float[np.ndarray, "N F"]:
        clips = torch.from_numpy(np.ascontiguousarray(videos.transpose(0, 4, 1, 2, 3))).to(self.device)
        return self.program(clips, **CALLS[self.kind].options).float().cpu().numpy()


def load_script(
    path: Path | str,
    kind: str,
    *,
    trust: bool = False,
    device: torch.device | str = "cpu",
    batch: int = 4,
) -> TorchScriptFeatures:
    """Load a program in order to run it.

    Args:
        path: i3d_torchscript.pt or c3d_ucf101.pt, a folder with it, or a file that is called as they are.
        kind: a key of `CALLS`.
        trust: run it although its sha256 is not that of the published file.
        device: where it runs.
        batch: clips in one call.

    Raises:
        WeightsError: no such file, one that is not known and not trusted, or no program.
    """
    path = Path(path)
    if path.is_dir():
        path = path / CALLS[kind].file
    if not path.is_file():
        raise refused(path, "there is no such file", "name the program itself")
    content = read_regular(path, WEIGHTS_BYTES)  # once, so that what was hashed is what runs
    sha256 = hashlib.sha256(content).hexdigest()
    if not trust and sha256 != CALLS[kind].sha256:
        known = "the published one's" if CALLS[kind].sha256 else "known to anybody"
        raise refused(
            path,
            f"it is a program, and its sha256 {sha256} is not {known}",
            "say trust=True (--trust-program) to run it all the same, or read its tensors only",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch, which would rather have other programs
            program = torch.jit.load(io.BytesIO(content), map_location=torch.device(device))
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise refused(path, f"it is no TorchScript program ({reason})", TRUNCATED) from error
    return TorchScriptFeatures(kind, program.eval(), sha256, torch.device(device), batch)
