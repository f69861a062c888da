"""Several verbs in one pass over the videos: what they need of clips and frames, and the pass that computes it.

The pass computes nothing but what the cache has to hold for them; then each verb runs as it does alone, and finds all
of it there. So whatever the pass leaves out, as of a video that cannot be read, each verb treats by its own rule.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from metrics.cli_options import (
    Alignment,
    Common,
    FolderOptions,
    Fvd,
    InceptionScore,
    Jitter,
    Kvd,
    Minutes,
    OnePass,
    Vbench,
)
from metrics.evaluation.cache import Cache
from metrics.evaluation.dataset import POCKET
from metrics.evaluation.extract import ClipWork, pass_over
from metrics.evaluation.measure import FolderReader, FolderScore, Measure, RecipeRows
from metrics.evaluation.progress import Progress
from metrics.folder_verbs import prepare_folder, weights_folder
from metrics.jitter_verb import prepare_jitter
from metrics.protocols import FEATURES, FVD, IS
from metrics.set_verbs import (
    Networks,
    SetScore,
    SetVerb,
    default_protocol,
    metric_of,
    prepare_sets,
    weights_place,
)
from metrics.videos.read import Video, list_videos

Report = Callable[[str, Progress], None]
Side = Literal["real", "fake"]
SETS = ("fvd", "kvd", "jedi", "is")
ALL = (*SETS, "jitter", "vbench", "alignment", "minutes")


@dataclass(frozen=True)
class Plan:
    """The verbs of one command line, ready to run."""

    scores: dict[str, SetScore | FolderScore]
    sources: dict[Side, Sequence[Video]]
    cache: Cache

    @classmethod
    def of(cls, verb: OnePass, cache: Cache, report: Report | None = None) -> "Plan":
        """Protocols resolved, networks loaded, videos listed.

        Raises:
            ValueError: what can be known before a video is decoded.
        """
        _check(verb)
        scores: dict[str, SetScore | FolderScore] = {}
        networks: Networks = {}
        for name, of_sets in _set_verbs(verb):
            scores[name] = prepare_sets(of_sets, cache, report, networks)
        reading = FolderOptions(
            weights=verb.weights, n=verb.n, allow_gaps=verb.allow_gaps, batch=verb.batch, device=verb.device
        )
        folder = weights_folder(verb.weights or weights_place(), reading)
        reader = FolderReader(verb.n, verb.allow_gaps, cache, report)
        both = _both(verb)
        for name in dict.fromkeys(verb.metrics):
            if name == "jitter":
                scores[name] = prepare_jitter(Jitter(both, flow=verb.flow), reader)
            elif name == "vbench":
                scores[name] = prepare_folder(Vbench(both, verb.prompts, reading=reading), folder, reader)
            elif name == "alignment":
                assert verb.prompts is not None
                scores[name] = prepare_folder(Alignment(both, verb.prompts, reading=reading), folder, reader)
            elif name == "minutes":
                scores[name] = prepare_folder(Minutes(both, prompts=verb.prompts, reading=reading), folder, reader)
        sources: dict[Side, Sequence[Video]] = {} if verb.real is None else {"real": list_videos(verb.real)}
        sources["fake"] = list_videos(verb.videos)
        return cls(scores, sources, cache)

    def compute(self, report: Report | None = None, piece: int = 0, pieces: int = 1) -> None:
        """Fill the cache, in one pass a side; of so many pieces one, if there are several.

        Raises:
            ValueError: what a network raises.
        """
        works = self._works()
        for side, videos in self.sources.items():
            of_side = [work.share(piece, pieces) for where, work in works if where == side]
            measures, names = self._measures(side)
            first, last = (len(names) * k // pieces for k in (piece, piece + 1))
            chosen = set(names[first:last])
            drawn = {clip.video for work in of_side for clip in work.clips}
            pass_over(
                [work for work in of_side if work.clips],
                {video.name: video for video in videos if video.name in chosen | drawn},
                of_frames=partial(_gather, measures, chosen, self.cache) if chosen else None,
                cache=self.cache,
                report=None if report is None else partial(report, side),
            )

    def _works(self) -> list[tuple[Side, ClipWork]]:
        """The clips of all verbs, none twice."""
        works: dict[tuple[Side, str], tuple[Side, ClipWork]] = {}
        for score in self.scores.values():
            if isinstance(score, SetScore):
                for side, work in score.works():
                    works.setdefault((side, work.key), (side, work))
        return list(works.values())

    def _measures(self, side: Side) -> tuple[list[Measure], list[str]]:
        """The measures of all verbs, and the names of the videos that they take."""
        folders = [score for score in self.scores.values() if isinstance(score, FolderScore)]
        names = {video.name: None for folder in folders for video in folder.sides.get(side, ())}
        return [measure for folder in folders for measure in folder.measures], sorted(names)


def _gather(measures: Sequence[Measure], chosen: set[str], cache: Cache, video: Video) -> RecipeRows | None:
    return RecipeRows(video, measures, cache) if video.name in chosen else None


def _check(verb: OnePass) -> None:
    """Refuse what no verb could carry out.

    Raises:
        ValueError: a metric without what it needs, or a protocol that none of the metrics knows.
    """
    if not verb.metrics:
        raise ValueError(f"--metrics names what to take: got none, give some of {', '.join(ALL)}")
    needing = [name for name in verb.metrics if name in ("fvd", "kvd", "jedi")]
    if needing and verb.real is None:
        raise ValueError(f"{needing[0]} compares with real video: give --real FOLDER")
    if "alignment" in verb.metrics and verb.prompts is None:
        raise ValueError("alignment compares videos with their prompts: give --prompts FILE")
    if not verb.ray and verb.workers > 1:
        raise ValueError(f"--workers are Ray's actors: got {verb.workers} without --ray, give both or neither")
    known = {name for metric in verb.metrics for name in _protocols(metric)}
    if unknown := [name for name in verb.protocol if name not in known]:
        which = f"it is one of {', '.join(sorted(known))}" if known else "leave --protocol out"
        raise ValueError(f"none of {', '.join(verb.metrics)} has a protocol {unknown[0]!r}: {which}")


def _both(verb: OnePass) -> tuple[Path, ...]:
    return (verb.videos,) if verb.real is None else (verb.real, verb.videos)


def _protocols(metric: str) -> list[str]:
    """Those that --protocol may name for a metric."""
    return {"fvd": [*FVD, *FEATURES, POCKET], "kvd": [*FVD, *FEATURES, POCKET], "is": [*IS, POCKET]}.get(metric, [])


def _set_verbs(verb: OnePass) -> Iterator[tuple[str, SetVerb]]:
    """The verb of every metric of sets under each of its protocols, with the name of its result."""
    for metric in dict.fromkeys(name for name in verb.metrics if name in SETS):
        named = ["jedi"] if metric == "jedi" else [name for name in verb.protocol if name in _protocols(metric)]
        for protocol in dict.fromkeys(named or [default_protocol(metric, verb.weights or weights_place())]):
            shipped = protocol == POCKET and verb.weights is not None and verb.weights.is_dir()
            common = Common(
                protocol=protocol,
                weights=None if shipped else verb.weights,
                n=verb.n,
                seed=verb.seed,
                allow_small=verb.allow_small,
                allow_gaps=verb.allow_gaps,
                batch=verb.batch,
                device=verb.device,
            )
            single: SetVerb
            if metric == "is":
                single = InceptionScore(_both(verb), common=common)
            else:
                assert verb.real is not None
                single = (Fvd if metric == "fvd" else Kvd)(verb.real, verb.videos, common=common)
            yield metric if metric == "jedi" else f"{metric_of(single)}-{protocol}", single
