"""A cell's videos against a folder of real ones: FVD, kernel distance and Inception Score under a named protocol.

    reference cell -> the features of the real videos        (once for all cells of a protocol)
    every other    -> features of its own videos, and the distances between both

Clips are drawn, stored and embedded as `python -m metrics` does it, by the same evaluator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from bench.harness.suite_spec import did_you_mean
from bench.results.records import CellResults, Value, digest
from bench.ucf101.features import ScoringNetwork, content_hash
from bench.videos.columns import MEASURES
from bench.videos.quality import QualityResults
from metrics.distribution.kvd import jedi_score, kernel_score
from metrics.evaluation.dataset import POCKET, ReadOptions, ResolvedProtocol
from metrics.evaluation.evaluator import Evaluator
from metrics.networks.pocket import MIN_FRAMES
from metrics.protocols import FEATURES, FVD, IS
from metrics.videos.read import list_videos
from vidrd.checkpoints import sha256

NO_REAL = "there are no real videos to compare with: give --real FOLDER, --weights FOLDER and --protocol NAME"
FEATURES_OF_REAL = "features.npz"  # which the reference cell leaves
COSTS = {name for name, measure in MEASURES.items() if measure.table == "cost"}
PROTOCOLS = (*FVD, *FEATURES, POCKET)


@dataclass(frozen=True)
class Comparison:
    """What a cell's videos are compared with, and how."""

    real: Path
    weights: Path | None
    protocol: str
    frames: int | None  # of a clip, where the protocol leaves it open
    device: str = "cpu"

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> "Comparison | None":
        """Of a cell's values; None: it is compared with nothing."""
        if not values.get("real"):
            return None
        weights, protocol = str(values["weights"]), str(values["protocol"])
        frames = int(values["frames"]) if protocol == POCKET else None
        return cls(
            Path(str(values["real"])), Path(weights) if weights else None, protocol, frames, str(values["device"])
        )

    @property
    def clip(self) -> int:
        """Frames of the protocol's clips."""
        return ResolvedProtocol.of("fvd", self.protocol, frames=self.frames).frames or 1

    def evaluator(self, metric: str) -> Evaluator:
        """The one of `python -m metrics`, for sets of any size.

        Raises:
            ValueError: the protocol has no such metric, or its weights cannot be read.
        """
        if metric == "is" and self.protocol not in (*IS, POCKET):
            raise ValueError(f"{self.protocol} is no protocol of the Inception Score: those are {', '.join(IS)}")
        network = ScoringNetwork("is" if metric == "is" else "fvd", self.protocol, self.weights).load(self.device)
        protocol = ResolvedProtocol.of(metric, self.protocol, frames=self.frames)
        return Evaluator(protocol, network, ReadOptions(allow_small=True))


@cache
def content_of(real: str, weights: str, protocol: str) -> str:
    """Twelve digits: names and contents of the real videos, and the file of the protocol's network.

    Raises:
        ValueError: no such protocol, no real videos, or no weights of the protocol's network.
    """
    if not real:
        raise ValueError(f"weights compare videos with real ones: got {weights} and no real ones, give --real FOLDER")
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r} of FVD{did_you_mean(protocol, PROTOCOLS)}")
    if not Path(real).exists():
        raise ValueError(f"real videos are a folder, or a file of arrays: there is no {real}")
    videos = [[video.name, video.fingerprint() or content_hash(video)] for video in list_videos(real)]
    network = ScoringNetwork("fvd", protocol, Path(weights) if weights else None).file()
    return digest({"real": videos, "network": "" if network is None else sha256(network)})


def too_short(values: Mapping[str, Value]) -> str | None:
    """Why a cell's videos make no clip of the protocol."""
    comparison = Comparison.of(values)
    if comparison is None:
        return None
    least = MIN_FRAMES if comparison.protocol == POCKET else comparison.clip
    if int(values["frames"]) >= least:
        return None
    return f"the protocol {comparison.protocol} takes clips of {least} frames: got {values['frames']}, ask for longer"


def embed_real(comparison: Comparison, folder: Path, measures: tuple[str, ...]) -> CellResults:
    """The reference cell: features of the real videos, left in its folder, and their own Inception Score."""
    evaluator = comparison.evaluator("fvd")
    real = evaluator.features(comparison.real, "real")
    evaluator.save(folder / FEATURES_OF_REAL, real)
    quality = QualityResults()
    try:
        judge = comparison.evaluator("is")
        quality.with_replicates("is", judge.inception_score(judge.features(comparison.real, "real")).scores["is"])
    except ValueError as error:
        quality.score("is", str(error))
    absent = {
        name: "real video is not generated" if name in COSTS else "of real videos only the features are used"
        for name in measures
        if name not in quality.numbers and name not in quality.absent
    }
    facts = {"protocol": evaluator.protocol.label(), "real": f"{real.n} clips of {real.manifest['videos']} videos"}
    return CellResults(quality.numbers, quality.samples, {**quality.absent, **absent}, facts)


def compare(
    quality: QualityResults,
    videos: UInt8[np.ndarray, "N T H W C"],
    comparison: Comparison,
    reference: Path,
    folder: Path,
) -> dict[str, str]:
    """Add the distances and the Inception Score to a cell's measures. Returns what a reader must know of them."""
    evaluator, place = comparison.evaluator("fvd"), folder / "generated.npy"
    np.save(place, videos, allow_pickle=False)
    try:
        real, fake = evaluator.load(reference / FEATURES_OF_REAL), evaluator.features(place, "fake")
        result = evaluator.fvd(real, fake)
        quality.with_replicates("fvd", result.scores["fvd"])
        notes = list(result.notes)
        kernel = jedi_score if evaluator.protocol.row.get("kernel") == "jedi" else kernel_score
        rows = real.features.embedding, fake.features.embedding, real.source, fake.source
        quality.with_replicates("kvd", kernel(*rows))
        try:
            judge = comparison.evaluator("is")
            inception = judge.inception_score(judge.features(place, "fake"))
            quality.with_replicates("is", inception.scores["is"])
            notes += inception.notes
        except ValueError as error:
            quality.score("is", str(error))
    finally:
        place.unlink()
    floor = result.scores.get("fvd_floor")
    facts = {"protocol": str(result.manifest["protocol"]), "comparison": "; ".join(notes)}
    return facts if floor is None else {**facts, "fvd_floor": f"{floor.value:.4g} between real videos, n = {floor.n}"}
