"""What an evaluation is made of: a protocol in one form, options for reading videos, sets of features."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from jaxtyping import Int

from metrics.evaluation.cache import Cache
from metrics.evaluation.cautions import Content
from metrics.evaluation.progress import Progress
from metrics.networks.features import FeatureNetwork, Features, digest_of
from metrics.protocols import FEATURES, FVD, IS, FeatureProtocol, FvdProtocol, IsProtocol, Sampling
from metrics.videos.clips import WHOLE, Clip

POCKET = "pocket"  # the shipped classifiers, of whole videos or windows: a protocol of this project's own
ENOUGH = {"i3d": 2 * 400, "c3d": 2 * 101}  # clips: twice the features or classes


@dataclass(frozen=True)
class ResolvedProtocol:
    """A row of either table of protocols in one form: what it says of sets and statistics."""

    name: str
    frames: int | None  # of a clip; None = whole videos
    stride: int
    real: Sampling
    fake: Sampling
    row: Mapping[str, object]  # the protocol's row, as data
    tiled: bool = False  # all windows of `frames` that fit into each video, instead of a sampling rule
    ddof: int = 1
    splits: int = 1
    shuffle: int | None = None
    epsilon: float = 0.0
    draw: int | None = None  # clips per draw, where the score is the mean over disjoint draws; None = one draw of all
    repeats: int = 1  # the largest number of draws
    at_least: int = 0  # clips on each side, below which a score says little

    @classmethod
    def of(
        cls, metric: str, protocol: str, *, frames: int | None = None, stride: int | None = None
    ) -> "ResolvedProtocol":
        """A protocol by its name, with another clip length or stride where given; `metric` is fvd, kvd or is.

        Raises:
            ValueError: no such protocol for this metric.
        """
        if protocol == POCKET:
            return cls(POCKET, frames, stride or 1, WHOLE, WHOLE, {})
        table: Mapping[str, FvdProtocol | IsProtocol | FeatureProtocol] = IS if metric == "is" else {**FVD, **FEATURES}
        if protocol not in table:
            raise ValueError(f"{metric} has no protocol {protocol!r}: it is one of {', '.join([*table, POCKET])}")
        row = table[protocol]
        frames, stride = frames or row.frames, stride or row.stride
        if not isinstance(row, IsProtocol):
            enough = 2 * row.features if isinstance(row, FeatureProtocol) else ENOUGH["i3d"]
            least = 0 if metric == "kvd" else enough
            return cls(protocol, frames, stride, row.real, row.fake, asdict(row), ddof=row.ddof, at_least=least)
        return cls(
            protocol,
            frames,
            stride,
            row.sampling,
            row.sampling,
            asdict(row),
            splits=row.splits,
            shuffle=row.shuffle,
            epsilon=row.epsilon,
            draw=row.n if row.repeats > 1 else None,
            repeats=row.repeats,
            at_least=ENOUGH["c3d"],
        )

    def tile(self) -> "ResolvedProtocol":
        """The same protocol on all the windows that fit into each video without overlap.

        Raises:
            ValueError: the protocol has no number of frames.
        """
        if self.frames is None:
            raise ValueError("windows need a number of frames: got none")
        return replace(self, tiled=True)

    def label(self, *, n: int | None = None, splits: int | None = None) -> str:
        """The name for scores: the protocol's, and in brackets what was changed of its row, "styleganv(frames=10)".

        Args:
            n: clips of each side that were asked for; None = as the protocol says.
            splits: of the Inception Score.
        """
        if not self.row:
            return self.name
        changes = {
            "window": self.frames if self.tiled else None,
            "frames": None if self.tiled or self.frames == self.row["frames"] else self.frames,
            "stride": None if self.stride == self.row["stride"] else self.stride,
            "n": None if {n} == {self.real.n, self.fake.n} else n,
            "splits": None if splits == self.splits else splits,
        }
        changed = ",".join(f"{name}={value}" for name, value in changes.items() if value is not None)
        return f"{self.name}({changed})" if changed else self.name


@dataclass(frozen=True)
class FeatureSet:
    """One set of videos as a network sees it: one row per clip."""

    features: Features
    source: Int[np.ndarray, " N"]  # number of the video of each row, from 0
    manifest: dict[str, object]
    clips: Sequence[Clip] | None = None  # of the rows; None = not kept, as in saved statistics
    content: Content = field(default_factory=Content)

    @property
    def n(self) -> int:
        """Number of clips."""
        return len(self.features.embedding)


@dataclass(frozen=True)
class ReadOptions:
    """How sets are read, whatever the metric."""

    n: int | None = None  # clips of each side; None = as the protocol says
    seed: int = 0  # of the draw of clips
    allow_small: bool = False  # accept fewer clips than the protocol or the statistic needs
    allow_gaps: bool = False  # leave out videos that cannot be read, instead of refusing the set
    stored: bool = False  # real videos are already as the protocol's loader stores them
    batch_size: int = 8  # clips
    cache: Cache | None = None
    report: Callable[[str, Progress], None] | None = None  # is called with the side's name and its progress


def check_count(
    n: int,  # clips of the side
    wanted: int | None,  # by the protocol or by --n
    side: str,
    protocol: ResolvedProtocol,
    options: ReadOptions,
) -> None:
    """Refuse sets smaller than requested, or than the score needs, unless they are allowed: before hours of work.

    Raises:
        ValueError: too few clips.
    """
    if options.allow_small:
        return
    if wanted is not None and n < wanted:
        raise ValueError(
            f"{protocol.name} takes {wanted} {side} clips: got {n}, give more, another --n, or --allow-small"
        )
    if n < protocol.at_least:
        raise ValueError(
            f"{n} {side} clips are too few: the score needs at least {protocol.at_least}, twice the features or "
            "classes; give more, or --allow-small for a number that says little"
        )


def weights_digest(network: FeatureNetwork) -> str:
    """The digest that identifies a network's weights: sha256 of the tensors or of the file.

    Raises:
        ValueError: a network without a digest.
    """
    digest = digest_of(network)
    if digest is None:
        raise ValueError(
            f"{network.name} has no digest of its weights: give it a `digest`, so that scores can be compared"
        )
    return digest


def digest(lines: Sequence[str]) -> str:
    """sha256 of some lines, in hexadecimal digits."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
