"""Videos to features: the contract every feature network keeps, and the loop that runs one over a set."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from metrics.frames import check_videos


@dataclass(frozen=True)
class Features:
    """What a network sees in N videos."""

    embedding: Float[np.ndarray, "N F"]  # what the Fréchet distance is taken of
    logits: dict[str, Float[np.ndarray, "N _"]]  # per head, before the softmax; a head's name says what it tells apart


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network that embeds whole videos; resizing, scaling and batch statistics are its own affair.

    A video's features must not depend on the other videos of its batch.
    """

    @property
    def name(self) -> str:
        """Names the architecture and the weights' protocol; stands beside every number made with it."""
        ...

    @property
    def min_frames(self) -> int:
        """The shortest video it can embed."""
        ...

    def embed(self, videos: UInt8[np.ndarray, "N T H W C"]) -> Features:
        """Features of one batch."""
        ...


def extract(network: FeatureNetwork, videos: UInt8[np.ndarray, "N T H W C"], *, batch_size: int = 64) -> Features:
    """Features of a set of videos, `batch_size` at a time; the batch size changes them by rounding only.

    Raises:
        ValueError: videos that are no N T H W C uint8 RGB array, or shorter than the network's `min_frames`.
    """
    check_videos(videos, frames=network.min_frames, what=f"videos for {network.name}")
    if batch_size < 1:
        raise ValueError(f"a batch holds at least one video, batch_size={batch_size} came")
    parts = [network.embed(videos[i : i + batch_size]) for i in range(0, len(videos), batch_size)]
    return Features(
        embedding=np.concatenate([part.embedding for part in parts]),
        logits={head: np.concatenate([part.logits[head] for part in parts]) for head in parts[0].logits},
    )
