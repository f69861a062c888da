"""DINO, CLIP, ViCLIP, MUSIQ, VideoMAE-v2 and V-JEPA, each loaded whole from the files that people have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from metrics.networks import vision_files as files
from metrics.networks.clip import ClipTower, ImageTower, TextTower
from metrics.networks.features import Features
from metrics.networks.musiq import Musiq
from metrics.networks.no_tf32 import full_float32
from metrics.networks.vit import Dino, Pooler, VideoMae, VJepa
from metrics.videos import vision as inputs
from metrics.videos.frames import check_videos
from metrics.weights.checkpoint import Checkpoint, State, find_checkpoint, read_checkpoint

Video = UInt8[np.ndarray, "T H W C"]


@dataclass(frozen=True, eq=False)
class VisionFeatures:
    """A network of frames or clips: a `metrics.networks.features.PreparingNetwork`.

    `frames` is how many frames one row is made of: 1 for a network of images, whose rows of a whole video are `rows`.
    """

    name: str  # network, and the first digits of the digest of its weights
    network: Callable[[Tensor], Tensor]
    to_input: Callable[[Video], Tensor]  # batch first
    digest: str
    identity: str  # "published" where the file is the published one, else "unrecognised"
    frames: int | None = None  # None = as many as there are
    min_frames: int = 1
    device: str = "cpu"
    batch: int = 8  # rows in one call of the network; changes results by rounding only

    @property
    def recipe(self) -> dict[str, object]:
        """What decides its features, beside the frames: part of a cache's key."""
        return {"rows": "frames", "network": self.name, "weights": self.digest}

    def rows(self, video: Video) -> Float32[np.ndarray, "K F"]:
        """The features of every frame (of a network of images), or of the clip."""
        parts = [video] if self.frames != 1 else [video[i : i + self.batch] for i in range(0, len(video), self.batch)]
        return np.concatenate([self._call(self.to_input(part)) for part in parts])

    def prepare(self, video: Video) -> Float32[Tensor, "1 3 *size"]:
        """One clip as the network reads it, on the CPU.

        Raises:
            ValueError: another number of frames than the network reads.
        """
        check_videos(video[None], frames=self.min_frames, what=f"videos for {self.name}")
        if self.frames is not None and len(video) != self.frames:
            raise ValueError(f"{self.name} reads clips of {self.frames} frames: got {len(video)}, give --frames")
        return self.to_input(video)

    def embed_prepared(self, clips: Sequence[Float32[Tensor, "1 3 *size"]]) -> Features:
        """Features of what `prepare` made, row by row."""
        parts = [torch.cat(list(clips[i : i + self.batch])) for i in range(0, len(clips), self.batch)]
        return Features(np.concatenate([self._call(part) for part in parts]), {})

    def embed(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Features:
        """Features of clips.

        Raises:
            ValueError: as `prepare`.
        """
        check_videos(videos, frames=self.min_frames, what=f"videos for {self.name}")
        return self.embed_prepared([self.prepare(video) for video in videos])

    @torch.inference_mode()
    def _call(self, batch: Tensor) -> Float32[np.ndarray, "N F"]:
        with full_float32():
            out = self.network(batch.to(self.device)).float().cpu().numpy()
        return out.reshape(len(out), -1)


def shapes_of(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors, without making it."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}


def load_network(path: Path | str, checkpoint: Checkpoint, build: Callable[[], nn.Module]) -> tuple[nn.Module, State]:
    """A network with all of its tensors from a file, in eval mode.

    Raises:
        WeightsError: as `metrics.weights.checkpoint.read_checkpoint`.
    """
    state = read_checkpoint(path, checkpoint, shapes_of(build))
    return with_tensors(build, state.tensors), state


def with_tensors(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> nn.Module:
    """A network that keeps these tensors, without a copy, in eval mode."""
    with torch.device("meta"):
        network = build()
    network.load_state_dict(dict(tensors), assign=True)
    return network.eval().requires_grad_(False)


def load_dino(path: Path | str, *, device: str = "cpu", batch: int = 8) -> VisionFeatures:
    """DINO ViT-B/16 with VBench's input: 768 features a frame."""
    network, state = load_network(path, files.DINO, Dino)
    return _features("dino-b16", network, inputs.dino_input, state, device, frames=1, batch=batch)


def load_clip(path: Path | str, size: str = "b32", *, device: str = "cpu", batch: int = 8) -> VisionFeatures:
    """CLIP's image tower with VBench's input: 512 features a frame of `b32`, 768 of `l14`."""
    network, state = load_network(path, files.CLIP_IMAGE[size], partial(ImageTower, **files.CLIP_SIZES[size]))
    return _features(f"clip-{size}", network, inputs.clip_input, state, device, frames=1, batch=batch)


def load_clip_text(path: Path | str, size: str = "b32") -> tuple[TextTower, State]:
    """CLIP's text tower, from the same file as its image tower."""
    network, state = load_network(path, files.CLIP_TEXT[size], partial(TextTower, **files.TEXT_SIZES[size]))
    assert isinstance(network, TextTower)
    return network, state


def load_viclip(path: Path | str, *, device: str = "cpu", layers: int = 24) -> VisionFeatures:
    """ViCLIP-L/14's tower of clips, of the 8 frames that VBench takes of any video: 768 features."""
    network, state = load_network(path, files.VICLIP_CLIP, partial(ClipTower, **files.VICLIP_SIZE | {"layers": layers}))
    return _features("viclip-l14", network, inputs.viclip_input, state, device)


def load_viclip_text(path: Path | str) -> tuple[TextTower, State]:
    """ViCLIP's text tower, of at most 32 tokens, from the same file as its tower of clips."""
    network, state = load_network(path, files.VICLIP_TEXT, partial(TextTower, **files.TEXT_SIZES["viclip"]))
    assert isinstance(network, TextTower)
    return network, state


def load_musiq(
    path: Path | str, mode: inputs.ImagingMode = "longer", *, device: str = "cpu", batch: int = 8
) -> VisionFeatures:
    """MUSIQ-SPAQ with VBench's input: one number a frame, 0..100."""
    network, state = load_network(path, files.MUSIQ, Musiq)
    to_input = partial(inputs.imaging_input, mode=mode)
    return _features(f"musiq-spaq-{mode}", network, to_input, state, device, frames=1, batch=batch)


def load_aesthetic(clip: Path | str, head: Path | str, *, device: str = "cpu", batch: int = 8) -> VisionFeatures:
    """CLIP ViT-L/14 and LAION's linear head: one number a frame, mostly 0..10, of the feature at length 1."""
    tower, state = load_network(clip, files.CLIP_IMAGE["l14"], partial(ImageTower, **files.CLIP_SIZES["l14"]))
    linear, of_head = load_network(head, files.AESTHETIC, partial(nn.Linear, 768, 1))

    def score(frames: Tensor) -> Tensor:
        return linear(nn.functional.normalize(tower(frames), dim=-1))

    linear.to(device)
    tower.to(device)
    both = state._replace(digest=f"{state.digest[:32]}{of_head.digest[:32]}")
    return _features("aesthetic-l14", score, inputs.clip_input, both, device, frames=1, batch=batch)


def load_video_mae(path: Path | str, *, device: str = "cpu", batch: int = 2, depth: int = 40) -> VisionFeatures:
    """cd-fvd's VideoMAE-v2 g with its input: 1408 features a clip of 16 frames."""
    network, state = load_network(path, files.VIDEO_MAE, partial(VideoMae, depth=depth))
    return _features("videomae-g", network, inputs.video_mae_input, state, device, batch=batch, min_frames=2)


def load_vjepa(
    path: Path | str,
    probe: Path | str | None,
    *,
    project: bool = True,
    device: str = "cpu",
    batch: int = 2,
    depth: int = 32,
) -> VisionFeatures:
    """V-JEPA ViT-H/16 under JEDi's pooler: 1280 features a clip of any size.

    Args:
        path: vith16.pth.tar.
        probe: ssv2-probe.pth.tar; None = the mean of the tokens, JEDi's `finetuned=False`.
        project: as the package vjepa 0.1.2 and all of JEDi's numbers; False = as facebookresearch/jepa.
        device: where the network runs.
        batch: clips in one call.
        depth: blocks of the encoder.
    """
    encoder, state = load_network(path, files.VJEPA, partial(VJepa, depth=depth))
    name = "vjepa-h-mean"
    pooler: Callable[[Tensor], Tensor] = lambda tokens: tokens.mean(dim=1)  # noqa: E731 - the simplest pooler
    if probe is not None:
        head, of_probe = load_network(probe, files.VJEPA_PROBE, partial(Pooler, project=project))
        pooler, name = head.to(device), "vjepa-h" if project else "vjepa-h-facebook"
        state = state._replace(digest=f"{state.digest[:32]}{of_probe.digest[:32]}")
    encoder.to(device)

    def features(clips: Tensor) -> Tensor:
        return pooler(encoder(clips))

    return _features(name, features, inputs.vjepa_input, state, device, batch=batch, min_frames=2)


def file_of_protocol(network: str, path: Path | str) -> Path:
    """The file of the network of a row of `metrics.protocols.FEATURES`; nothing in it is read.

    Raises:
        WeightsError: a folder without it.
    """
    of_frames = {"dino-b16": files.DINO, "clip-b32": files.CLIP_IMAGE["b32"], "videomae-g": files.VIDEO_MAE}
    return find_checkpoint(path, of_frames.get(network, files.VJEPA))


def load_of_protocol(network: str, path: Path | str, *, device: str = "cpu", batch: int = 8) -> VisionFeatures:
    """The network of a row of `metrics.protocols.FEATURES`, from a folder of weights, or its file where it has one.

    Raises:
        WeightsError: a file that is missing or broken.
    """
    if network == "dino-b16":
        return load_dino(path, device=device, batch=batch)
    if network == "clip-b32":
        return load_clip(path, device=device, batch=batch)
    if network == "videomae-g":
        return load_video_mae(path, device=device, batch=batch)
    probe = Path(path) if Path(path).is_dir() else Path(path).parent
    return load_vjepa(path, probe, project=network == "vjepa-h", device=device, batch=batch)


def _features(
    name: str,
    network: Callable[[Tensor], Tensor],
    to_input: Callable[[Video], Tensor],
    state: State,
    device: str,
    *,
    frames: int | None = None,
    batch: int = 8,
    min_frames: int = 1,
) -> VisionFeatures:
    if isinstance(network, nn.Module):
        network.to(device)
    label = f"{name}:{state.digest[:8]}"
    return VisionFeatures(label, network, to_input, state.digest, state.identity, frames, min_frames, device, batch)
