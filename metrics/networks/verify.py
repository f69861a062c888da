"""Which network a file of weights holds, whether each tensor is as published, and whether the network behaves so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from metrics.networks.c3d import c3d_shapes
from metrics.networks.i3d import build_i3d, constant_clips, i3d_shapes
from metrics.weights import LoadedTensors, export, load
from metrics.weights.published import FILES, SOURCES, hashes, identify

# Squared distance between the logits of an all-black and an all-white clip by their number of frames, from the README
# of common_metrics_on_video_quality (i3d_torchscript.pt, epsilon 1e-3). Another environment differed by up to 0.2 %.
CONSTANT_CLIPS = {
    10: 569.23,
    11: 486.36,
    12: 551.96,
    13: 146.37,
    14: 172.85,
    15: 133.70,
    16: 152.92,
    17: 357.74,
    18: 382.47,
    19: 306.74,
    20: 338.42,
    21: 78.17,
    22: 82.33,
    23: 64.59,
    24: 66.06,
    25: 314.48,
    26: 316.69,
    27: 288.97,
    28: 287.78,
    29: 152.15,
    30: 151.256,
}
TOLERANCE = 0.01  # relative
SOME_LENGTHS = (10, 13, 16, 21)  # even and odd, one and two steps of logits
EPSILON = 1e-3  # of the published table

Verdict = Literal["right", "wrong", "unrecognised"]


@dataclass(frozen=True)
class FileFacts:
    """One file on disk."""

    path: str
    bytes: int
    sha256: str
    git_blob: str
    published_as: str | None  # None = no published file has these hashes


@dataclass(frozen=True)
class Verification:
    """The findings of `verify`. `verdict` is `right` only if something published confirms it.

    I3D is right if every tensor is that of rgb_scratch and the constant clips agree. C3D is at best unrecognised: its
    names and shapes are right and its values finite, but nobody has published anything to compare the values with.
    """

    verdict: Verdict
    network: str  # "i3d" or "c3d"
    format: str
    names: str  # whose names the tensors have
    weights: str  # "rgb_scratch", "rgb_imagenet", "damaged" or "unrecognised"
    digest: str  # sha256 of the tensors, whatever the file
    files: tuple[FileFacts, ...]
    tensors: dict[str, str]  # our name -> right, wrong or unknown
    extra: tuple[str, ...]  # tensors that belong to no network of ours
    clips: dict[int, tuple[float, float]]  # frames -> (distance here, as published)


def verify(
    path: Path | str,
    *,
    lengths: tuple[int, ...] = SOME_LENGTHS,
    device: torch.device | str = "cpu",
    export_to: Path | str | None = None,
) -> Verification:
    """Read a file of weights and compare it with everything that is published about it.

    Args:
        path: a file or a folder, see `metrics.weights.load`.
        lengths: frames of the constant clips that are tried, of those in `CONSTANT_CLIPS`; () skips them.
        device: where the network runs.
        export_to: a safetensors file to write the tensors to, whatever the verdict.

    Raises:
        WeightsError: the file cannot be read as I3D or C3D at all.
        ValueError: a length that has no published distance.
    """
    if unknown := set(lengths) - CONSTANT_CLIPS.keys():
        raise ValueError(f"constant clips are published for 10 to 30 frames: got {sorted(unknown)}")
    loaded = load(path, {"i3d": i3d_shapes(), "c3d": c3d_shapes()})
    if export_to is not None:
        export(loaded, export_to)
    files = tuple(_facts(file) for file in loaded.files)
    common = (loaded.network, loaded.format, loaded.names)
    if loaded.network == "c3d":
        tensors = dict.fromkeys(loaded.tensors, "unknown")
        return Verification("unrecognised", *common, "unrecognised", loaded.digest, files, tensors, loaded.extra, {})
    identity = identify(loaded.tensors)
    clips = _constant_clips(loaded, lengths, device)
    agree = all(abs(here - published) <= TOLERANCE * published for here, published in clips.values())
    verdict: Verdict = "right" if identity.name == "rgb_scratch" and agree else "wrong"
    if identity.checkpoint is None:
        verdict = "unrecognised"
    return Verification(
        verdict, *common, identity.name, loaded.digest, files, dict(identity.tensors), loaded.extra, clips
    )


def describe(verification: Verification) -> str:
    """The findings as text, one fact per line."""
    verdicts = list(verification.tensors.values())
    wrong = [name for name, verdict in verification.tensors.items() if verdict == "wrong"]
    lines = [
        f"{verification.verdict}: {verification.network}, {verification.weights} "
        f"({verification.format}, names of {verification.names})",
        *([SOURCES[verification.weights]] if verification.weights in SOURCES else []),
        f"tensors: {', '.join(f'{verdicts.count(v)} {v}' for v in dict.fromkeys(verdicts))}",
        *(f"  wrong: {name}" for name in wrong[:10]),
        *([f"  and {len(wrong) - 10} more"] if len(wrong) > 10 else []),
        *([f"not used: {', '.join(verification.extra[:5])}"] if verification.extra else []),
        f"digest of all tensors: {verification.digest}",
    ]
    for file in verification.files:
        lines += [
            f"{file.path}: {file.bytes} bytes, {file.published_as or 'not a file whose hash is published'}",
            f"  sha256 {file.sha256}",
            f"  git blob {file.git_blob}",
        ]
    lines += [
        f"black against white clips of {frames} frames: {here:.2f}, published {published:.2f} "
        f"({(here / published - 1):+.2%}, at most {TOLERANCE:.0%})"
        for frames, (here, published) in verification.clips.items()
    ]
    if verification.network == "c3d":
        lines.append("names, shapes and finite values are right; no checksum of C3D's values was ever published")
    elif verification.weights == "unrecognised":
        behaves = all(abs(here / published - 1) <= TOLERANCE for here, published in verification.clips.values())
        but = (
            "it behaves as the published one all the same"
            if verification.clips and behaves
            else "it is comparable with nothing"
        )
        lines.append(f"not one tensor is that of a published checkpoint: {but}")
    return "\n".join(lines)


def _facts(path: Path) -> FileFacts:
    sha256, blob = hashes(path)
    return FileFacts(path.name, path.stat().st_size, sha256, blob, FILES.get(sha256) or FILES.get(blob))


def _constant_clips(
    loaded: LoadedTensors, lengths: tuple[int, ...], device: torch.device | str
) -> dict[int, tuple[float, float]]:
    network = build_i3d(loaded.tensors, epsilon=EPSILON)
    network.fold()
    network.to(torch.device(device)).to(memory_format=torch.channels_last_3d)
    distances = constant_clips(network, lengths)
    return {frames: (distance, CONSTANT_CLIPS[frames]) for frames, distance in distances.items()}
