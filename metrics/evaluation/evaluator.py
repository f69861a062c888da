"""Sets of videos to features, and features to scores, by one network under one protocol.

    evaluator = Evaluator(ResolvedProtocol.of("fvd", "styleganv"), load_i3d("i3d_torchscript.pt", "styleganv"))
    result = evaluator.fvd(evaluator.features("REAL", "real"), evaluator.features("FAKE", "fake"))

Every score is returned with what is needed to read it: floor, ceiling, counts, gaps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy.special import softmax

from metrics.distribution.fvd import frechet_floor, frechet_infinity, frechet_score
from metrics.distribution.inception_score import ceiling, score_of_probabilities, split_scores
from metrics.distribution.kvd import jedi_floor, jedi_score, kernel_score
from metrics.distribution.prdc import neighborhood
from metrics.evaluation.cautions import Content, cautions
from metrics.evaluation.dataset import FeatureSet, ReadOptions, ResolvedProtocol, check_count, digest, weights_digest
from metrics.evaluation.extract import ClipWork, SideFeatures, embed_work
from metrics.evaluation.result import Result, versions
from metrics.evaluation.statistics_file import load_statistics, save_statistics
from metrics.networks.features import FeatureNetwork, Features
from metrics.protocols import Sampling
from metrics.score import Score
from metrics.videos.clips import Clip, SampledClips, hash_clips, in_order, sample_clips, tile_clips
from metrics.videos.read import DECODER, Video, list_videos

APART = (
    "names_sha256",
    "content_sha256",
    "clips_sha256",
    "gap_reasons",
)  # may differ between comparable generated sets
KEPT_FAULTS = 20  # that a record names; all of them count


@dataclass(frozen=True)
class Evaluator:
    """A protocol, the network that embeds clips for it, and the options by which sets are read."""

    protocol: ResolvedProtocol
    network: FeatureNetwork
    options: ReadOptions = field(default_factory=ReadOptions)

    def features(
        self,
        source: Path | str | Sequence[Video],  # a folder, a file, or videos
        side: Literal["real", "fake"],  # which of the protocol's two rules draws the clips
        *,
        clips: Sequence[Clip] | None = None,  # a list to use, instead of drawing one
        listed: Sequence[str] | None = None,  # names of the only videos to use, as of a split
    ) -> FeatureSet:
        """Features of one set: clips drawn by the protocol's rule, read, stored and resized as it says.

        Raises:
            ValueError: no videos, too few, too short ones, or some that cannot be read where gaps are not allowed.
        """
        sampled, videos, rule = self._draw(source, side, clips, listed)
        embedded = self._embed(sampled.clips, videos, rule, side)
        sampled = replace(sampled, clips=embedded.clips, faults=[*sampled.faults, *embedded.faults])
        self._check_gaps(sampled, len(videos), side)
        names = list(dict.fromkeys(clip.video for clip in embedded.clips))
        manifest: dict[str, object] = {
            "clips": len(embedded.clips),
            "videos": len(names),
            "lengths": _lengths(embedded.clips) if self.protocol.frames is None else None,
            "clips_sha256": hash_clips(embedded.clips),
            "names_sha256": digest(names),
            "content_sha256": digest(embedded.contents),
            "short": len(sampled.short),
            "gaps": len(sampled.faults),
            "gap_reasons": [f"{fault.video}: {fault.reason}" for fault in sampled.faults[:KEPT_FAULTS]],
            "seed": self.options.seed,
            "stored": self.options.stored,
            "listed": len(clips) if clips is not None else (len(listed) if listed is not None else None),
        }
        content = Content(_origins(embedded), embedded.looks)
        return FeatureSet(embedded.features, embedded.source, manifest, embedded.clips, content)

    def work(
        self,
        source: Path | str | Sequence[Video],
        side: Literal["real", "fake"],
        *,
        listed: Sequence[str] | None = None,
    ) -> ClipWork:
        """What `features` has embedded, for a pass that embeds more than this.

        Raises:
            ValueError: as `features`, what can be known before a video is decoded.
        """
        sampled, _, rule = self._draw(source, side, None, listed)
        return self._work(sampled.clips, rule)

    def work_for_floor(
        self, real: Sequence[Clip], n: int, source: Path | str | Sequence[Video], *, listed: Sequence[str] | None = None
    ) -> ClipWork:
        """What `extend_for_floor` has embedded, next to these clips of the real side."""
        clips, _, rule = self._draw_for_floor(real, n, source, listed)
        return self._work(clips, rule)

    def extend_for_floor(
        self,
        real: FeatureSet,  # with its clips
        n: int,
        source: Path | str | Sequence[Video],
        *,
        listed: Sequence[str] | None = None,
    ) -> FeatureSet:
        """The real side with more clips after its own, drawn by the same rule: n in all, or as many as there are.

        For the floor of a score, which needs twice as many real clips as the score. Videos that are too short or cannot
        be read are skipped, since the score does not depend on them.
        """
        if real.clips is None:
            return real
        more, videos, rule = self._draw_for_floor(real.clips, n, source, listed)
        if not more:
            return real
        added = self._embed(more, videos, rule, "real, for the floor")
        parts = real.features, added.features
        features = Features(
            np.concatenate([part.embedding for part in parts]),
            {head: np.concatenate([part.logits[head] for part in parts]) for head in parts[0].logits},
        )
        clips = [*real.clips, *added.clips]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(clip.video for clip in clips))}
        return replace(real, features=features, source=np.array([numbers[clip.video] for clip in clips]), clips=clips)

    def fvd(
        self,
        real: FeatureSet,
        fake: FeatureSet,
        *,
        infinity: bool = False,  # also extrapolate to infinitely many videos
        floor: FeatureSet | None = None,  # the real side with more of its kind, see `extend_for_floor`
    ) -> Result:
        """FVD, and its floor at that n or at the largest n that half of the real set allows.

        Raises:
            ValueError: too few clips.
        """
        x, y, ddof = real.features.embedding, fake.features.embedding, self.protocol.ddof
        notes = self._check_enough({"real": real.n, "fake": fake.n}, x.shape[1], "FVD")
        scores = {"fvd": frechet_score(x, y, real.source, fake.source, ddof=ddof)}
        pool = floor or real
        at = min(len(np.unique(fake.source)), len(np.unique(pool.source)) // 2)
        if at >= 2:
            scores["fvd_floor"] = frechet_floor(pool.features.embedding, at, pool.source, ddof=ddof)
            if pool.n > real.n:
                notes.append(f"for the floor {pool.n - real.n} more real clips were drawn by the same rule")
            if scores["fvd_floor"].n < fake.n:
                notes.append(
                    f"the floor is that at n = {scores['fvd_floor'].n}, as half of the real clips are no more; at "
                    f"n = {fake.n} it is about {scores['fvd_floor'].value * scores['fvd_floor'].n / fake.n:.4g}"
                )
        if infinity:
            scores["fvd_infinity"] = frechet_infinity(x, y, real.source, fake.source, ddof=ddof)
        return self._result(scores, real, fake, notes)

    def kvd(self, real: FeatureSet, fake: FeatureSet, *, k: int = 3) -> Result:
        """Kernel distance, precision and recall with k neighbors, density and coverage with k + 2.

        Raises:
            ValueError: no more than k + 2 clips on a side.
        """
        rows = real.features.embedding, fake.features.embedding, real.source, fake.source
        near, dense = neighborhood(*rows, k=k), neighborhood(*rows, k=k + 2)
        scores = {"kvd": kernel_score(*rows), "precision": near.precision, "recall": near.recall}
        scores |= {"density": dense.density, "coverage": dense.coverage}
        notes = [f"precision and recall with k = {k}, density and coverage with k = {k + 2}"]
        if self.protocol.row.get("kernel") == "jedi":
            at = min(len(np.unique(fake.source)), len(np.unique(real.source)) // 2)
            floor = {"jedi_floor": jedi_floor(rows[0], at, real.source)} if at >= 2 else {}
            scores = {"jedi": jedi_score(*rows), **floor, **scores}
        return self._result(scores, real, fake, notes)

    def inception_score(
        self,
        fake: FeatureSet,
        *,
        head: str | None = None,  # None = the network's only one, or action
        splits: int | None = None,  # None = as the protocol says
        real: FeatureSet | None = None,  # scored as well, as what real video reaches
    ) -> Result:
        """Inception Score, the standard deviation over its splits, and its ceiling for that n and number of splits.

        Under a protocol that draws several times, the consecutive parts of the side are the draws, each of exactly the
        size that the protocol has; the score is the mean over them.

        Raises:
            ValueError: a head that the network does not have, or too few clips.
        """
        heads = fake.features.logits
        head = head if head is not None else (next(iter(heads)) if len(heads) == 1 else "action")
        if head not in heads:
            raise ValueError(f"{self.network.name} has no head {head!r}: it tells apart {', '.join(sorted(heads))}")
        sides = {"fake": fake} | ({} if real is None else {"real": real})
        classes = heads[head].shape[1]
        notes = self._check_enough({name: side.n for name, side in sides.items()}, classes, "Inception Score")
        scores: dict[str, Score] = {}
        for name, side in sides.items():
            label = "is" if name == "fake" else "is_real"
            draws, n = self._draws(side.n)
            parts = (splits or self.protocol.splits) * draws
            scores[label], of_splits = self._inception(side, n, head, parts)
            if parts > 1:
                scores[f"{label}_std"] = Score(float(of_splits.std()), n)
            if n < side.n:
                notes.append(
                    f"{name}: {side.n - n} of {side.n} clips make no whole draw of {self.protocol.draw}: not scored"
                )
            if name == "fake":
                scores["is_ceiling"] = Score(ceiling(classes, n, splits=parts), n)
                notes.append(
                    f"{parts} {'split' if parts == 1 else 'splits'}; a perfect classifier on random classes scores "
                    f"{scores['is_ceiling'].value:.4g}"
                )
        result = self._result(scores, real, fake, notes)
        about = {"protocol": self.protocol.label(n=self.options.n, splits=splits), "head": head}
        return replace(result, manifest={**result.manifest, **about, "splits": splits or self.protocol.splits})

    def manifest(self) -> dict[str, object]:
        """What protocol and network put into a manifest; saved statistics of real video must have the same."""
        return {
            "protocol": self.protocol.label(n=self.options.n),
            "row": dict(self.protocol.row),
            "frames": self.protocol.frames,
            "stride": self.protocol.stride,
            "tiled": self.protocol.tiled,
            "ddof": self.protocol.ddof,
            "network": self.network.name,
            "weights": weights_digest(self.network),
            "decoder": DECODER,
            "statistics": "float64, nuclear norm of roots by eigenvectors or rows",
        }

    def save(self, path: Path | str, features: FeatureSet, *, about: Mapping[str, object] | None = None) -> None:
        """Write a set's statistics, rows and manifest as an .npz for `load`; the file appears whole or not at all.

        `about` is added to what `load` must find unchanged, as the list of clips.
        """
        save_statistics(path, features, {**self.manifest(), **(about or {})})

    def load(self, path: Path | str, *, about: Mapping[str, object] | None = None) -> FeatureSet:
        """Read what `save` wrote, if it was made as it would be made now; nothing in the file is executed.

        Raises:
            ValueError: the file is broken, or was made by another protocol, network or decoder, or with other `about`.
        """
        return load_statistics(path, {**self.manifest(), **(about or {})})

    @property
    def _real(self) -> Sampling:
        """The rule of real videos; those that are stored already are not stored again."""
        return replace(self.protocol.real, storage=None) if self.options.stored else self.protocol.real

    def _draw(
        self,
        source: Path | str | Sequence[Video],
        side: Literal["real", "fake"],
        clips: Sequence[Clip] | None,
        listed: Sequence[str] | None,
    ) -> tuple[SampledClips, list[Video], Sampling]:
        """The clips of one side, all its videos, and the rule that drew them."""
        videos = _select(_videos(source), listed)
        rule = self._real if side == "real" else self.protocol.fake
        sampled = self._sample(videos, clips, rule, self.options.n, side)
        self._check_gaps(sampled, len(videos), side)
        wanted = None if clips is not None else self.options.n or rule.n
        check_count(len(sampled.clips), wanted, side, self.protocol, self.options)
        least = self.network.min_frames
        if short := next((clip for clip in sampled.clips if clip.frames < least), None):
            raise ValueError(
                f"{self.network.name} needs clips of {least} frames or more: {short.video} has {short.frames}"
            )
        return sampled, videos, rule

    def _draw_for_floor(
        self,
        real: Sequence[Clip],
        n: int,
        source: Path | str | Sequence[Video],
        listed: Sequence[str] | None,
    ) -> tuple[list[Clip], list[Video], Sampling]:
        """More clips by the same rule than those of the real side; none where it has all there are."""
        rule, own = replace(self._real, short="discard"), set(real)
        if len(real) >= n or (self.protocol.real.n is None and self.options.n is None):
            return [], [], rule
        videos = _select(_videos(source), listed)
        drawn = self._sample(videos, None, rule, n, "real, for the floor").clips
        return [clip for clip in drawn if clip not in own][: n - len(real)], videos, rule

    def _sample(
        self, videos: Sequence[Video], clips: Sequence[Clip] | None, rule: Sampling, n: int | None, side: str
    ) -> SampledClips:
        if clips is not None:
            _select(videos, list(dict.fromkeys(clip.video for clip in clips)))
            self._check_clips(clips)
            return SampledClips(list(clips))
        protocol, seed, to = self.protocol, self.options.seed, self.options.report
        report = None if to is None else (lambda progress: to(f"{side}, counting frames", progress))
        if protocol.tiled:
            sampled = tile_clips(in_order(videos, rule.order, seed), frames=protocol.frames or 1, report=report)
            return SampledClips(sampled.clips[:n], sampled.short, sampled.faults)
        return sample_clips(videos, rule, frames=protocol.frames, stride=protocol.stride, n=n, seed=seed, report=report)

    def _check_clips(self, clips: Sequence[Clip]) -> None:
        """Refuse listed clips that are not those of the protocol: their score would have its name."""
        wanted = self.protocol.frames, 1 if self.protocol.tiled else self.protocol.stride
        other = next((clip for clip in clips if (clip.frames, clip.stride) != wanted), None)
        if wanted[0] is not None and other is not None:
            raise ValueError(
                f"the list has a clip of {other.frames} frames with stride {other.stride}, {self.protocol.name} takes "
                f"{wanted[0]} with stride {wanted[1]}: give another list, or --frames and --stride"
            )

    def _embed(self, clips: Sequence[Clip], videos: Sequence[Video], rule: Sampling, side: str) -> SideFeatures:
        to = self.options.report
        report = None if to is None else (lambda progress: to(side, progress))
        by_name = {video.name: video for video in videos}
        return embed_work(self._work(clips, rule), by_name, cache=self.options.cache, report=report)

    def _work(self, clips: Sequence[Clip], rule: Sampling) -> ClipWork:
        storage, prepare = rule.storage, None
        if storage is not None:
            from metrics.videos.preprocess import store  # noqa: PLC0415 - torch is slow to import

            prepare = lambda frames: store(frames[None], storage)[0]  # noqa: E731 - a name for one argument
        recipe = {
            "network": self.network.name,
            "weights": weights_digest(self.network),
            "protocol": self.protocol.row,
            "storage": None if storage is None else asdict(storage),
        }
        return ClipWork(clips, self.network, recipe, prepare, self.options.batch_size)

    def _check_gaps(self, sampled: SampledClips, videos: int, side: str) -> None:
        if sampled.faults and not self.options.allow_gaps:
            first = sampled.faults[0]
            raise ValueError(
                f"{len(sampled.faults)} of {videos} {side} videos cannot be read ({first.video}: {first.reason}): fix "
                f"or remove them, or --allow-gaps to score without them"
            )

    def _check_enough(self, sides: Mapping[str, int], features: int, what: str) -> list[str]:
        """A note on sets of fewer than twice as many clips as features or classes, where they are allowed."""
        few = {side: n for side, n in sides.items() if n < 2 * features}
        if not few:
            return []
        counts = " and ".join(f"{n} {side}" for side, n in few.items())
        if not self.options.allow_small:
            raise ValueError(
                f"{what} with {features} dimensions needs at least {2 * features} clips on each side: got {counts}, "
                f"give more, or --allow-small for a number that says little"
            )
        return [f"too few clips ({counts}, at least {2 * features} are needed): the number is mostly bias"]

    def _draws(self, n: int) -> tuple[int, int]:
        """(the number of draws that n clips make, the clips in them); less than one whole draw is one smaller draw."""
        draw = self.protocol.draw
        if draw is None or n < draw:
            return 1, n
        draws = min(self.protocol.repeats, n // draw)
        return draws, draws * draw

    def _inception(self, side: FeatureSet, n: int, head: str, splits: int) -> tuple[Score, Float64[np.ndarray, " S"]]:
        """The score of the first n clips, and the scores of its splits."""
        probabilities = softmax(side.features.logits[head][:n].astype(np.float64), axis=1)
        epsilon, shuffle = self.protocol.epsilon, self.protocol.shuffle
        score = score_of_probabilities(probabilities, side.source[:n], splits=splits, epsilon=epsilon, shuffle=shuffle)
        return score, split_scores(probabilities, splits=splits, epsilon=epsilon, shuffle=shuffle)

    def _result(
        self, scores: dict[str, Score], real: FeatureSet | None, fake: FeatureSet, notes: Sequence[str]
    ) -> Result:
        manifest: dict[str, object] = {
            **self.manifest(),
            "real": None if real is None else {k: v for k, v in real.manifest.items() if k != "gap_reasons"},
            "fake": {key: value for key, value in fake.manifest.items() if key not in APART},
        }
        made_with = versions() | {"fake": {key: fake.manifest.get(key) for key in APART}}
        if real is not None:
            made_with["real"] = {"gap_reasons": real.manifest.get("gap_reasons")}
        sides = {name: side for name, side in (("real", real), ("fake", fake)) if side is not None}
        gaps = [
            f"{side.manifest[kind]} {name} videos {what} and are left out"
            for kind, what in (("gaps", "could not be read"), ("short", "are too short for a clip"))
            for name, side in sides.items()
            if side.manifest.get(kind)
        ]
        gaps += cautions({name: side.content for name, side in sides.items()})
        lengths = [side.manifest.get("lengths") for side in sides.values()]
        if len(lengths) == 2 and None not in lengths and lengths[0] != lengths[1]:
            gaps.append(f"real clips have {lengths[0]} frames, fake ones {lengths[1]}: a score may see this alone")
        split = self.protocol.real.split if real is not None else "given"
        if split != "given":
            gaps.append(f"the protocol takes UCF-101's {split} videos as real: here they are as given")
        return Result(scores, manifest, made_with, {}, [*notes, *gaps])


def _lengths(clips: Sequence[Clip]) -> str:
    """The fewest and the most frames of a clip, "8 to 16", or the one number."""
    counts = {clip.frames for clip in clips}
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def _videos(source: Path | str | Sequence[Video]) -> list[Video]:
    return list_videos(source) if isinstance(source, Path | str) else list(source)


def _origins(embedded: SideFeatures) -> list[str]:
    """For each video, what its first clip was cut from: the hash of its file, or of the clip of an array."""
    first: dict[str, str] = {}
    for clip, content in zip(embedded.clips, embedded.contents, strict=True):
        first.setdefault(clip.video, content.partition(" ")[0])
    return list(first.values())


def _select(videos: Sequence[Video], listed: Sequence[str] | None) -> list[Video]:
    """The listed videos in the order of the list; None for all."""
    if listed is None:
        return list(videos)
    if len(set(listed)) < len(listed):
        raise ValueError(f"{len(listed)} listed videos are {len(set(listed))} different ones: name each once")
    by_name = {video.name: video for video in videos}
    missing = [name for name in listed if name not in by_name]
    if missing:
        raise ValueError(f"{len(missing)} of {len(listed)} listed videos are not there, the first is {missing[0]}")
    return [by_name[name] for name in listed]
