"""Videos to features: the contract of every feature network, and the loop that runs one over a set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8

from metrics.videos.frames import check_videos, windows


@dataclass(frozen=True)
class Features:
    """What a network sees in N videos."""

    embedding: Float[np.ndarray, "N F"]  # what the Fréchet distance is taken of
    logits: dict[str, Float[np.ndarray, "N _"]]  # per head, before the softmax; a head's name says what it tells apart

    def row(self, i: int) -> "Features":
        """A copy of one video's features."""
        return Features(
            self.embedding[i : i + 1].copy(), {head: values[i : i + 1].copy() for head, values in self.logits.items()}
        )


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network that embeds whole videos; it does its own resizing, scaling and batch normalization.

    A video's features must not depend on the other videos of its batch.
    """

    @property
    def name(self) -> str:
        """Architecture and protocol of the weights; it is reported with every number."""
        ...

    @property
    def min_frames(self) -> int:
        """The shortest video it can embed, in frames."""
        ...

    def embed(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Features:
        """Features of one batch: row i belongs to video i."""
        ...


@runtime_checkable
class PreparingNetwork(FeatureNetwork, Protocol):
    """A network whose input can be made clip by clip, elsewhere, while it is busy with other clips.

    `embed_prepared([prepare(video) for video in videos])` is `embed(videos)`, up to rounding.
    """

    def prepare(self, video: UInt8[np.ndarray, "T H W C"]) -> Any:
        """What `embed_prepared` takes of one video, something with a `shape`; safe to call in any thread."""
        ...

    def embed_prepared(self, clips: Sequence[Any]) -> Features:
        """Features of one batch, all of one shape."""
        ...


def digest_of(network: FeatureNetwork) -> str | None:
    """The digest that identifies its weights: the sha256 of tensors or file that it names; None if it names none."""
    digest = getattr(network, "digest", None) or getattr(network, "sha256", None)
    return str(digest) if digest else None


def extract(network: FeatureNetwork, videos: UInt8[np.ndarray, "N T H W C"], *, batch_size: int = 64) -> Features:
    """Features of a set of videos, `batch_size` at a time; the batch size changes them by rounding only.

    Raises:
        ValueError: videos that are no N T H W C uint8 RGB array, or shorter than the network's `min_frames`.
    """
    check_videos(videos, frames=network.min_frames, what=f"videos for {network.name}")
    if batch_size < 1:
        raise ValueError(f"a batch holds at least one video: got batch_size={batch_size}")
    parts = [network.embed(videos[i : i + batch_size]) for i in range(0, len(videos), batch_size)]
    return Features(
        embedding=np.concatenate([part.embedding for part in parts]),
        logits={head: np.concatenate([part.logits[head] for part in parts]) for head in parts[0].logits},
    )


def extract_pair(
    network: FeatureNetwork,
    real: UInt8[np.ndarray, "N T H W C"],
    fake: UInt8[np.ndarray, "M S Y X C"],
    *,
    window: int | None,  # frames; None = whole videos, which must then be equally long in both sets
    batch_size: int = 64,
) -> tuple[Float[np.ndarray, "K F"], Float[np.ndarray, "L F"], Int[np.ndarray, " K"], Int[np.ndarray, " L"]]:
    """Embeddings of two sets of videos, window by window, and for each row the video that it comes from.

    Raises:
        ValueError: an array that is no set of videos, videos shorter than `window` or than the network's `min_frames`,
            or videos of different lengths without a `window`.
    """
    check_videos(real, what="real videos")
    check_videos(fake, what="generated videos")
    if window is None and real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"whole videos are comparable only at equal length: got {real.shape[1]} and {fake.shape[1]} frames, give a "
            "window"
        )
    (real_cut, real_source), (fake_cut, fake_source) = (windows(videos, window) for videos in (real, fake))
    rows = [extract(network, cut, batch_size=batch_size).embedding for cut in (real_cut, fake_cut)]
    return rows[0], rows[1], real_source, fake_source
