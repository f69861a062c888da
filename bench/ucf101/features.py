"""Features of clips in fixed batches, one file per batch, of real and generated videos, for any number of workers.

The batch that a clip is embedded in follows from the list of clips alone, so the features of a resumed or shared run
are those of an undisturbed one, bit for bit.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from bench.results.records import canonical
from metrics.evaluation.cache import hash_of_makers
from metrics.evaluation.dataset import POCKET, FeatureSet, digest, weights_digest
from metrics.files import replacing
from metrics.networks.features import FeatureNetwork, Features
from metrics.protocols import FEATURES, Storage
from metrics.videos.clips import Clip, hash_clips
from metrics.videos.preprocess import store
from metrics.videos.read import DECODER, Video
from vidrd.checkpoints import sha256


@dataclass(frozen=True)
class ScoringNetwork:
    """A network that scores, under one of its protocols."""

    metric: Literal["fvd", "is"]
    protocol: str  # a row of metrics.protocols.FVD, FEATURES or IS, or "pocket"
    weights: Path | None = None  # folder or file; None for the pocket classifiers alone
    batch: int = 8  # clips it sees at a time
    thin: int = 1  # its layers have a `thin`-th of the published channels: more than 1 only for stand-ins

    def file(self) -> Path | None:
        """The file of its weights, without reading it; None for the pocket classifiers, which are shipped.

        Raises:
            ValueError: there is none.
        """
        if self.protocol == POCKET:
            return None
        if self.weights is None:
            raise ValueError(self._no_weights())
        if not self.weights.exists():
            raise ValueError(f"weights are a file or a folder: there is no {self.weights}")
        if self.protocol in FEATURES:
            from metrics.networks.vision import file_of_protocol  # noqa: PLC0415

            return file_of_protocol(FEATURES[self.protocol].network, self.weights)
        from metrics.weights.load import find  # noqa: PLC0415

        return find(self.weights, {"c3d" if self.metric == "is" else "i3d": None})

    def _no_weights(self) -> str:
        return (
            f"{self.name} needs the network it was published with: give --weights FOLDER "
            "(`python -m bench weights` lists the files)"
        )

    def load(self, device: str = "cpu") -> FeatureNetwork:
        """The network, ready to embed.

        Raises:
            ValueError: weights that are missing, damaged or of another network.
        """
        # Each of them brings its network's code with it.
        if self.protocol == POCKET:
            from metrics.networks.pocket import load_shipped  # noqa: PLC0415

            return load_shipped("c3d" if self.metric == "is" else "i3d", device)
        if self.weights is None:
            raise ValueError(self._no_weights())
        if self.protocol in FEATURES:
            from metrics.networks.vision import load_of_protocol  # noqa: PLC0415

            return load_of_protocol(FEATURES[self.protocol].network, self.weights, device=device, batch=self.batch)
        if self.metric == "is":
            from metrics.networks.c3d import load_c3d  # noqa: PLC0415

            return load_c3d(self.weights, self.protocol, device=device, batch=self.batch, thin=self.thin)
        from metrics.networks.i3d import load_i3d  # noqa: PLC0415

        return load_i3d(self.weights, self.protocol, device=device, batch=self.batch, thin=self.thin)

    @property
    def name(self) -> str:
        """The name of its scores, such as fvd:styleganv."""
        return f"{self.metric}:{self.protocol}"


@dataclass(frozen=True)
class ClipSource:
    """A clip, and what its video must contain."""

    clip: Clip
    video: Video
    sha256: str | None  # `content_hash` of the video; None where it is still to be made


@dataclass(frozen=True)
class Embedding:
    """The job of one network on one set."""

    sources: tuple[ClipSource, ...]
    judge: ScoringNetwork
    storage: Storage | None  # what is done to decoded frames first
    out: Path
    recipe: str  # hash of network, storage, decoder, threads, device and clips: other recipes are other files

    @property
    def blocks(self) -> int:
        """Number of batches of clips."""
        return -(-len(self.sources) // self.judge.batch)

    def block(self, number: int) -> tuple[ClipSource, ...]:
        """The clips of one batch."""
        return self.sources[number * self.judge.batch : (number + 1) * self.judge.batch]

    def open(self, device: str) -> Callable[[int], None]:
        """Load the network; returns the function that embeds one block."""
        network = self.judge.load(device)
        return lambda block: self._embed(network, block)

    def is_done(self, block: int) -> bool:
        """Whether the block's features are there, of these clips by this recipe."""
        return self.read(block) is not None

    def read(self, block: int) -> tuple[Features, list[str]] | None:
        """Features and file hashes of a block; None where they are not there, not whole or of another recipe."""
        try:
            with np.load(io.BytesIO(self._path(block).read_bytes()), allow_pickle=False) as file:
                if str(file["key"]) != self._key(block):
                    return None
                contents = [str(each) for each in file["contents"]]
                return Features(file["rows"], {str(file["head"]): file["logits"]}), contents
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def side(self, manifest: dict[str, object]) -> FeatureSet:
        """All features in the order of the clips, as scores take them.

        Raises:
            ValueError: blocks are missing.
        """
        blocks = [self.read(block) for block in range(self.blocks)]
        missing = [number for number, block in enumerate(blocks) if block is None]
        if missing:
            first = self.block(missing[0])[0].clip.video
            raise ValueError(
                f"features of {len(missing)} of {self.blocks} blocks are missing, the first are those of {first}: "
                "the same command without --shard computes them"
            )
        parts = [block for block in blocks if block is not None]
        contents = [content for _, hashes in parts for content in hashes]
        head = next(iter(parts[0][0].logits))
        features = Features(
            np.concatenate([part.embedding for part, _ in parts]),
            {head: np.concatenate([part.logits[head] for part, _ in parts])},
        )
        clips = [source.clip for source in self.sources]
        names = [clip.video for clip in clips]
        side_manifest: dict[str, object] = {
            "clips": len(clips),
            "videos": len(set(names)),
            "clips_sha256": hash_clips(clips),
            "names_sha256": digest(names),
            "content_sha256": digest(contents),
            "short": 0,
            "gaps": 0,
            "gap_reasons": [],
            "stored": False,
            **manifest,
        }
        return FeatureSet(features, np.arange(len(clips)), side_manifest)

    def _embed(self, network: FeatureNetwork, block: int) -> None:
        frames, contents = [], []
        for source in self.block(block):
            video = source.video
            if content_hash(video) != source.sha256:
                raise ValueError(f"{video.path} changed while this run used it: run the same command again")
            read = video.read(source.clip.start, source.clip.frames, source.clip.stride)
            contents.append(video.fingerprint() or hashlib.sha256(read.tobytes()).hexdigest())
            frames.append(read if self.storage is None else store(read[None], self.storage)[0])
        parts = [network.embed(np.stack(part)) for part in _alike(frames)]
        head = "action" if "action" in parts[0].logits else next(iter(parts[0].logits))
        content = io.BytesIO()
        np.savez(
            content,
            key=np.array(self._key(block)),
            contents=np.array(contents),
            head=np.array(head),
            rows=np.concatenate([part.embedding for part in parts]),
            logits=np.concatenate([part.logits[head] for part in parts]),
        )
        path = self._path(block)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(content.getvalue())

    def _path(self, block: int) -> Path:
        return self.out / self.recipe[:16] / f"{block:06}.npz"

    def _key(self, block: int) -> str:
        clips = [[asdict(source.clip), source.sha256] for source in self.block(block)]
        return hashlib.sha256(json.dumps([self.recipe, clips], sort_keys=True).encode()).hexdigest()


def content_hash(video: Video) -> str:
    """SHA-256 of a video's file, or of all files where it is a folder of frames."""
    return str(video.fingerprint()) if video.kind == "frames" else file_hash(video.path)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read once in this process unless it changes."""
    stat = path.stat()
    return _file_hash(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=65536)
def _file_hash(path: Path, *_stamp: int) -> str:
    return sha256(path)


def recipe(judge: ScoringNetwork, network: FeatureNetwork, storage: Storage | None, device: str, threads: int) -> str:
    """Hash of all that features depend on, except the clips."""
    inputs = {
        "judge": judge.name,
        "batch": judge.batch,
        "network": network.name,
        "weights": weights_digest(network),
        "storage": None if storage is None else asdict(storage),
        "decoder": DECODER,
        "code": hash_of_makers(),
        "device": device.partition(":")[0],
        "threads": threads,
    }
    return hashlib.sha256(canonical(inputs).encode()).hexdigest()


def _alike(frames: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Neighbors of one size together: one batch of a network has one size."""
    parts: list[list[np.ndarray]] = []
    for each in frames:
        if parts and parts[-1][0].shape == each.shape:
            parts[-1].append(each)
        else:
            parts.append([each])
    return parts
