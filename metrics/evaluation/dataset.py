"""Sets of videos as a network sees them under a named protocol: drawn, read, stored and embedded as it says."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from metrics.distribution.frechet import Gaussian
from metrics.evaluation.cache import FeatureCache
from metrics.evaluation.extract import Embedded, embed_clips
from metrics.evaluation.progress import Progress
from metrics.evaluation.result import differences
from metrics.networks.features import FeatureNetwork, Features, digest_of
from metrics.protocols import FVD, IS, FvdProtocol, IsProtocol, Sampling
from metrics.videos.clips import WHOLE, Clip, Sampled, hash_clips, in_order, sample_clips, tile_clips
from metrics.videos.read import DECODER, Video, list_videos

POCKET = "pocket"  # the shipped judges, of whole videos or windows: a protocol of this project's own
ENOUGH = {"i3d": 2 * 400, "c3d": 2 * 101}  # clips: twice the features or classes
KEPT_FAULTS = 20  # that a record names; all of them count


@dataclass(frozen=True)
class ResolvedProtocol:
    """What a protocol says, as far as sets and statistics go."""

    protocol: str
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
    draw: int | None = None  # clips of one draw, where the score is the mean over disjoint draws; None = all in one
    repeats: int = 1  # draws at most
    at_least: int = 0  # clips a side, below which a score says little

    @classmethod
    def of(
        cls, metric: str, protocol: str, *, frames: int | None = None, stride: int | None = None
    ) -> "ResolvedProtocol":
        """The recipe of a protocol, with another clip length or stride where given.

        Raises:
            ValueError: no such protocol for this metric.
        """
        if protocol == POCKET:
            return cls(POCKET, frames, stride or 1, WHOLE, WHOLE, {})
        table: Mapping[str, FvdProtocol | IsProtocol] = IS if metric == "is" else FVD
        if protocol not in table:
            raise ValueError(f"{metric} has no protocol {protocol!r}: it is one of {', '.join([*table, POCKET])}")
        row = table[protocol]
        frames, stride = frames or row.frames, stride or row.stride
        if isinstance(row, FvdProtocol):
            least = 0 if metric == "kvd" else ENOUGH["i3d"]
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
        """The same of all the windows that fit into each video without overlap.

        Raises:
            ValueError: no number of frames.
        """
        if self.frames is None:
            raise ValueError("windows need a number of frames: give one")
        return replace(self, tiled=True)


@dataclass(frozen=True)
class FeatureSet:
    """One set of videos as a network sees it."""

    features: Features
    source: Int[np.ndarray, " N"]  # number of the video of each row
    manifest: dict[str, object]

    @property
    def n(self) -> int:
        """Clips."""
        return len(self.features.embedding)

    @property
    def names(self) -> object:
        """Hash of the videos' names: equal for sets made from the same prompts and seeds under the same names."""
        return self.manifest["names_sha256"]


@dataclass(frozen=True)
class ReadOptions:
    """How sets are read, whatever the metric."""

    n: int | None = None  # clips of each side; None = as the protocol says
    seed: int = 0  # of clips drawn
    allow_small: bool = False  # fewer clips than the protocol or the statistic asks for
    allow_gaps: bool = False  # videos that cannot be read
    stored: bool = False  # videos are as the protocol's loader stores them: not once more
    batch_size: int = 8
    cache: FeatureCache | None = None
    report: Callable[[str, Progress], None] | None = None  # of a side's name and how far it is


def embed_set(
    source: Path | str | Sequence[Video],
    side: str,  # "real" or "fake": which of the recipe's two rules
    recipe: ResolvedProtocol,
    network: FeatureNetwork,
    setting: ReadOptions,
    *,
    clips: Sequence[Clip] | None = None,  # a list to use, instead of drawing one
    listed: Sequence[str] | None = None,  # names of the only videos to use, as of a split
) -> tuple[FeatureSet, list[Clip]]:
    """Features of one set: clips drawn by the protocol's rule, read, stored and resized as it says.

    Raises:
        ValueError: no videos, too few, too short ones, or some that cannot be read and no leave to go without them.
    """
    videos = list_videos(source) if isinstance(source, Path | str) else list(source)
    videos = _only(videos, listed)
    rule = recipe.real if side == "real" else recipe.fake
    sampled = _sampled(videos, clips, rule, recipe, setting, side)
    _check_gaps(sampled, len(videos), side, setting)
    check_count(len(sampled.clips), None if clips is not None else setting.n or rule.n, side, recipe, setting)
    embedded = _embedded(sampled.clips, videos, side, rule, recipe, network, setting)
    sampled = replace(sampled, clips=embedded.clips, faults=[*sampled.faults, *embedded.faults])
    _check_gaps(sampled, len(videos), side, setting)
    names = list(dict.fromkeys(clip.video for clip in embedded.clips))
    manifest: dict[str, object] = {
        "clips": len(embedded.clips),
        "videos": len(names),
        "clips_sha256": hash_clips(embedded.clips),
        "names_sha256": digest(names),
        "content_sha256": digest(embedded.contents),
        "short": len(sampled.short),
        "gaps": len(sampled.faults),
        "gap_reasons": [f"{fault.video}: {fault.reason}" for fault in sampled.faults[:KEPT_FAULTS]],
        "seed": setting.seed,
        "stored": setting.stored,
        "listed": len(clips) if clips is not None else (len(listed) if listed is not None else None),
    }
    return FeatureSet(embedded.features, embedded.source, manifest), embedded.clips


def extend_for_floor(
    real: FeatureSet,
    clips: Sequence[Clip],  # the real side's own
    n: int,
    source: Path | str | Sequence[Video],
    recipe: ResolvedProtocol,
    network: FeatureNetwork,
    setting: ReadOptions,
    *,
    listed: Sequence[str] | None = None,
) -> FeatureSet:
    """The real side with more clips behind its own, drawn on by the same rule: n in all, or as many as there are.

    For the floor of a score, which needs twice as many real clips as the score. What is short or cannot be read is
    passed over: the score does not hang on it.
    """
    if recipe.real.n is None and setting.n is None:
        return real  # it has all there are
    videos = _only(list_videos(source) if isinstance(source, Path | str) else list(source), listed)
    rule, own = replace(recipe.real, short="discard"), set(clips)
    drawn = _sampled(videos, None, rule, recipe, replace(setting, n=n), "real, for the floor").clips
    more = [clip for clip in drawn if clip not in own][: n - len(clips)]
    if not more:
        return real
    found = _embedded(more, videos, "real, for the floor", rule, recipe, network, setting)
    parts = real.features, found.features
    features = Features(
        np.concatenate([part.embedding for part in parts]),
        {head: np.concatenate([part.logits[head] for part in parts]) for head in parts[0].logits},
    )
    names = [clip.video for clip in [*clips, *found.clips]]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return FeatureSet(features, np.array([numbers[name] for name in names]), real.manifest)


def _embedded(
    clips: Sequence[Clip],
    videos: Sequence[Video],
    side: str,
    rule: Sampling,
    recipe: ResolvedProtocol,
    network: FeatureNetwork,
    setting: ReadOptions,
) -> Embedded:
    storage = None if setting.stored else rule.storage
    prepare = None
    if storage is not None:
        from metrics.videos.preprocess import store  # noqa: PLC0415 - torch is slow to import

        prepare = lambda frames: store(frames[None], storage)[0]  # noqa: E731 - a name for one argument
    kind = {
        "network": network.name,
        "weights": weights_digest(network),
        "protocol": recipe.row,
        "storage": None if storage is None else asdict(storage),
    }
    report = setting.report
    return embed_clips(
        clips,
        {video.name: video for video in videos},
        network,
        recipe=kind,
        prepare=prepare,
        batch_size=setting.batch_size,
        cache=setting.cache,
        report=None if report is None else (lambda progress: report(side, progress)),
    )


def _only(videos: Sequence[Video], listed: Sequence[str] | None) -> list[Video]:
    if listed is None:
        return list(videos)
    by_name = {video.name: video for video in videos}
    missing = [name for name in listed if name not in by_name]
    if missing:
        raise ValueError(f"{len(missing)} of {len(listed)} listed videos are not there, the first is {missing[0]}")
    return [by_name[name] for name in listed]


def _sampled(
    videos: Sequence[Video],
    clips: Sequence[Clip] | None,
    rule: Sampling,
    recipe: ResolvedProtocol,
    setting: ReadOptions,
    side: str,
) -> Sampled:
    if clips is not None:
        _only(videos, list(dict.fromkeys(clip.video for clip in clips)))
        return Sampled(list(clips))
    tell = setting.report
    report = None if tell is None else (lambda progress: tell(f"{side}, counting frames", progress))
    if recipe.tiled:
        ordered = in_order(videos, rule.order, setting.seed)
        sampled = tile_clips(ordered, frames=recipe.frames or 1, report=report)
        return Sampled(sampled.clips[: setting.n], sampled.short, sampled.faults)
    return sample_clips(
        videos, rule, frames=recipe.frames, stride=recipe.stride, n=setting.n, seed=setting.seed, report=report
    )


def check_count(n: int, wanted: int | None, side: str, recipe: ResolvedProtocol, setting: ReadOptions) -> None:
    """Refuse sets smaller than was asked for, or than the score needs, unless told not to: before hours of work.

    Raises:
        ValueError: too few clips.
    """
    if setting.allow_small:
        return
    if wanted is not None and n < wanted:
        raise ValueError(
            f"{recipe.protocol} takes {wanted} {side} clips, {n} came: give more, another --n, or --allow-small"
        )
    if n < recipe.at_least:
        raise ValueError(
            f"{n} {side} clips are too few: the score needs at least {recipe.at_least}, twice the features or classes; "
            f"give more, or --allow-small for a number that says little"
        )


def _check_gaps(sampled: Sampled, videos: int, side: str, setting: ReadOptions) -> None:
    if sampled.faults and not setting.allow_gaps:
        first = sampled.faults[0]
        raise ValueError(
            f"{len(sampled.faults)} of {videos} {side} videos cannot be read ({first.video}: {first.reason}): mend or "
            f"remove them, or --allow-gaps to score without them"
        )


def protocol_manifest(recipe: ResolvedProtocol, network: FeatureNetwork) -> dict[str, object]:
    """What protocol and network put into a manifest; saved statistics of real video must have the same."""
    return {
        "protocol": recipe.protocol,
        "row": dict(recipe.row),
        "frames": recipe.frames,
        "stride": recipe.stride,
        "tiled": recipe.tiled,
        "ddof": recipe.ddof,
        "network": network.name,
        "weights": weights_digest(network),
        "decoder": DECODER,
        "statistics": "float64, nuclear norm of roots by eigenvectors or rows",
    }


def weights_digest(network: FeatureNetwork) -> str:
    """What tells its weights from others: sha256 of the tensors or of the file.

    Raises:
        ValueError: a network that says neither.
    """
    digest = digest_of(network)
    if digest is None:
        raise ValueError(f"{network.name} names no digest of its weights: give it a `digest`, so that scores compare")
    return digest


def save_side(path: Path | str, side: FeatureSet, made_by: Mapping[str, object]) -> None:
    """Write a set's statistics, rows and manifest, for `load_side`; the file appears whole or not at all."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    gaussian = Gaussian.of(side.features.embedding)
    logits = {f"logits/{head}": rows for head, rows in side.features.logits.items()}
    with beside.open("wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            n=gaussian.n,
            mean=gaussian.mean,
            scatter=gaussian.scatter,
            embedding=side.features.embedding,
            source=side.source,
            manifest=np.array(json.dumps({"side": side.manifest, "made_by": dict(made_by)})),
            **logits,
        )
    beside.replace(path)


def load_side(path: Path | str, made_by: Mapping[str, object]) -> FeatureSet:
    """Read what `save_side` wrote, if it was made as it would be made now; nothing in the file is executed.

    Raises:
        ValueError: the file is broken, or was made by another protocol, network or decoder.
    """
    gaussian = Gaussian.load(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            manifests = json.loads(str(file["manifest"]))
            logits = {name[7:]: file[name] for name in file.files if name.startswith("logits/")}
            side = FeatureSet(Features(file["embedding"], logits), file["source"], manifests["side"])
            before = manifests["made_by"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds statistics without their manifest: {error}; save them again") from error
    if gaussian.n != side.n or len(side.source) != side.n:
        raise ValueError(f"{path} is not whole: n is {gaussian.n}, it has {side.n} rows; save it again")
    if different := differences(before, json.loads(json.dumps(dict(made_by)))):
        raise ValueError(f"{path} was made otherwise: {'; '.join(different[:3])}; save it again")
    return side


def digest(lines: Sequence[str]) -> str:
    """sha256 of some lines."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
