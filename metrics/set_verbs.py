"""The verbs of sets of clips that a network embeds: `fvd`, `kvd` and `is`."""

import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from metrics.cli_options import Common, Fvd, InceptionScore, Kvd, real_and_fake
from metrics.command_line import refuse, rules_of_protocol
from metrics.entry import one_line
from metrics.evaluation.cache import Cache, FeatureCache, default_path
from metrics.evaluation.cautions import caution_of_strays
from metrics.evaluation.dataset import (
    POCKET,
    FeatureSet,
    ReadOptions,
    ResolvedProtocol,
    check_count,
    weights_digest,
)
from metrics.evaluation.evaluator import Evaluator
from metrics.evaluation.extract import ClipWork
from metrics.evaluation.progress import Progress, ProgressPrinter
from metrics.evaluation.result import Result
from metrics.files import open_regular, read_text
from metrics.networks.features import FeatureNetwork
from metrics.protocols import FEATURES
from metrics.videos.clips import read_clips, write_clips

WEIGHTS = "VIDRD_METRICS_WEIGHTS"  # environment variable: a folder of weights
SetVerb = Fvd | Kvd | InceptionScore
Networks = dict[tuple[bool, str, Path | None], FeatureNetwork]  # loaded ones, by what they are for


def measure(verb: SetVerb) -> Result:
    """The scores of one verb that needs a network.

    Raises:
        ValueError: options that contradict each other, weights or videos that cannot be used, sets that are too small.
    """
    common = verb.common
    with ExitStack() as stack:
        cache = None if common.fresh else stack.enter_context(open_cache(common.cache or default_path()))
        return prepare_sets(verb, cache, ProgressPrinter()).finish()


@dataclass(frozen=True)
class SetScore:
    """What one verb takes of two sets, ready to run: its clips may share a pass with those of others."""

    verb: SetVerb
    evaluator: Evaluator

    def works(self) -> Iterator[tuple[Literal["real", "fake"], ClipWork]]:
        """The clips of either side that are to be embedded, those for the floor as well.

        Raises:
            ValueError: what can be known of the sets before a video is decoded.
        """
        real, fake = _pair(self.verb)
        of_fake = self.evaluator.work(fake, "fake")
        yield "fake", of_fake
        if real is None or _holds_statistics(real):
            return
        of_real = self.evaluator.work(real, "real")
        yield "real", of_real
        if isinstance(self.verb, Fvd) and self.verb.floor:
            yield "real", self.evaluator.work_for_floor(of_real.clips, 2 * len(of_fake.clips), real)

    def finish(self) -> Result:
        """The scores; what the cache does not have is embedded first."""
        result = _score(self.verb, self.evaluator).named()
        sources = filter(None, _pair(self.verb))
        notes = [*result.notes, _about_weights(self.evaluator.network), *map(caution_of_strays, sources)]
        cache = self.evaluator.options.cache
        if isinstance(cache, FeatureCache) and cache.fault is not None:
            notes.append(f"{cache.path} does not keep features any more ({cache.fault}): computed without it")
        return replace(result, notes=list(filter(None, notes)))


def prepare_sets(
    verb: SetVerb,
    cache: Cache | None,
    report: Callable[[str, Progress], None] | None,
    networks: Networks | None = None,  # to take one from, or to add it to
) -> SetScore:
    """A verb with its protocol resolved and its network loaded.

    Raises:
        ValueError: options that contradict each other, or weights that cannot be used.
    """
    common, metric = verb.common, metric_of(verb)
    path = common.weights or weights_place()
    protocol = common.protocol if common.protocol is not None else default_protocol(metric, path)
    resolved = ResolvedProtocol.of(metric, protocol, frames=common.window or common.frames, stride=common.stride)
    resolved = resolved.tile() if common.window is not None else resolved
    refuse(rules_of_protocol(common, metric, resolved))
    networks = {} if networks is None else networks
    key = (metric == "is", protocol, path)
    if key not in networks:
        networks[key] = _network(metric, protocol, path, common)
    network = networks[key]
    if protocol == POCKET and not _is_shipped(network, metric):
        resolved = replace(resolved, name=f"classifier-{weights_digest(network)[:8]}")
    options = ReadOptions(
        n=common.n,
        seed=common.seed,
        allow_small=common.allow_small,
        allow_gaps=common.allow_gaps,
        stored=common.stored,
        batch_size=common.batch,
        cache=cache,
        report=report,
    )
    return SetScore(verb, Evaluator(resolved, network, options))


def metric_of(verb: SetVerb) -> str:
    """fvd, kvd or is."""
    return {InceptionScore: "is", Kvd: "kvd", Fvd: "fvd"}[type(verb)]


def _score(verb: SetVerb, evaluator: Evaluator) -> Result:
    common = verb.common
    if isinstance(verb, InceptionScore):
        real_set, fake_set = real_and_fake(verb.videos)
        real_side = None if real_set is None else _features(real_set, "real", evaluator, common)
        fake = _features(fake_set, "fake", evaluator, common)
        return evaluator.inception_score(fake, head=verb.head, splits=verb.splits, real=real_side)
    real, fake = _features(verb.real, "real", evaluator, common), _features(verb.fake, "fake", evaluator, common)
    if isinstance(verb, Kvd):
        return evaluator.kvd(real, fake, k=verb.neighbours)
    floor = real
    if verb.floor and real.clips is not None and common.real_clips is None and real.n < 2 * fake.n:
        listed = None if common.real_list is None else _names(common.real_list)
        floor = evaluator.extend_for_floor(real, 2 * fake.n, verb.real, listed=listed)
    return evaluator.fvd(real, fake, infinity=verb.infinity, floor=floor)


def _about_weights(network: FeatureNetwork) -> str:
    """What to say of weights that nobody published; "" where they are known, or where nothing is known of any."""
    from metrics.weights.published import SCRIPT_SHA256  # noqa: PLC0415

    known = f"script:i3d:{SCRIPT_SHA256[:8]}"
    other = ":unrecognised" in network.name or (network.name.startswith("script:") and network.name != known)
    return "these weights are none that were published: no published number compares with this one" if other else ""


def _pair(verb: SetVerb) -> tuple[Path | None, Path]:
    """The real set, where there is one, and the generated one."""
    return real_and_fake(verb.videos) if isinstance(verb, InceptionScore) else (verb.real, verb.fake)


@contextmanager
def open_cache(path: Path) -> Iterator[FeatureCache | None]:
    """The file of features; none, with a line that says so, where it cannot be used."""
    try:
        cache = FeatureCache(path)
    except ValueError as error:
        print(f"metrics: {one_line(str(error))}: going on without", file=sys.stderr, flush=True)
        yield None
        return
    with cache:
        yield cache


def weights_place() -> Path | None:
    """The folder that the environment names."""
    return Path(os.environ[WEIGHTS]) if os.environ.get(WEIGHTS) else None


def default_protocol(metric: str, path: Path | None) -> str:
    """By the weights: pocket for none and for a pocket classifier's, otherwise the default for new work."""
    from metrics.networks.pocket import is_classifier  # noqa: PLC0415
    from metrics.protocols import DEFAULT_FVD, DEFAULT_IS  # noqa: PLC0415

    if path is None or is_classifier(path):
        return POCKET
    return DEFAULT_IS if metric == "is" else DEFAULT_FVD


def _is_shipped(network: FeatureNetwork, metric: str) -> bool:
    """Whether this is the classifier whose scores are called pocket."""
    from metrics.networks.pocket import shipped_sha256  # noqa: PLC0415

    return weights_digest(network) == shipped_sha256("c3d" if metric == "is" else "i3d")


def _network(metric: str, protocol: str, path: Path | None, common: Common) -> FeatureNetwork:
    # torch is slow to import, and not every verb needs it
    from metrics.networks.device import resolve_device  # noqa: PLC0415

    device = resolve_device(common.device)
    if common.precision == "float16" and device == "cpu":
        raise ValueError("--precision float16 needs a GPU: got the CPU, take bfloat16 or float32")
    if protocol == POCKET:
        from metrics.networks.pocket import load_classifier, load_shipped  # noqa: PLC0415

        if common.weights is None:
            return load_shipped("c3d" if metric == "is" else "i3d", device)
        return load_classifier(common.weights, device=device)
    if path is None:
        raise ValueError(
            f"the protocol {protocol} needs the weights it was published with: give --weights FILE, or set "
            f"{WEIGHTS} to their folder (`python -m metrics verify` says which file is right)"
        )
    if protocol in FEATURES:
        from metrics.networks.vision import load_of_protocol  # noqa: PLC0415

        return load_of_protocol(FEATURES[protocol].network, path, device=device, batch=common.batch)
    if common.run_program or common.trust_program:
        from metrics.networks.torchscript import load_script  # noqa: PLC0415

        kind = "c3d" if metric == "is" else "i3d"
        return load_script(path, kind, trust=common.trust_program, device=device, batch=common.batch)
    if metric == "is":
        from metrics.networks.c3d import load_c3d  # noqa: PLC0415

        return load_c3d(path, protocol, mean=common.mean, device=device, batch=common.batch)
    from metrics.networks.i3d import load_i3d  # noqa: PLC0415

    return load_i3d(
        path,
        protocol,
        device=device,
        precision=common.precision,
        batch=common.batch,
        compiled=common.compiled,
    )


def _features(source: Path, side: Literal["real", "fake"], evaluator: Evaluator, common: Common) -> FeatureSet:
    """A set's features, from videos or from saved statistics; what the options ask for is saved."""
    if side == "real" and _holds_statistics(source):
        of_real = {
            "real-list": common.real_list,
            "real-clips": common.real_clips,
            "save-stats": common.save_stats,
            "stored": common.stored,
        }
        refuse(
            (bool(value), f"--{option} is about real videos, {source} holds their statistics: leave it out")
            for option, value in of_real.items()
        )
        saved, protocol = evaluator.load(source), evaluator.protocol
        check_count(saved.n, evaluator.options.n or protocol.real.n, side, protocol, evaluator.options)
        return saved
    if _holds_statistics(source):
        raise ValueError(f"{source} holds statistics, which stand for the real set alone: give generated videos")
    given = common.real_clips if side == "real" else common.fake_clips
    listed = common.real_list if side == "real" else None
    features = evaluator.features(
        source,
        side,
        clips=None if given is None else read_clips(given),
        listed=None if listed is None else _names(listed),
    )
    if common.save_clips is not None:
        common.save_clips.mkdir(parents=True, exist_ok=True)
        write_clips(common.save_clips / f"{side}.jsonl", features.clips or ())
    if side == "real" and common.save_stats is not None:
        evaluator.save(common.save_stats, features)
    return features


def _holds_statistics(source: Path) -> bool:
    if source.suffix != ".npz":
        return False
    try:
        with open_regular(source) as file, zipfile.ZipFile(file) as archive:
            return "scatter.npy" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _names(path: Path) -> list[str]:
    """The lines, without the class number that may follow a name."""
    try:
        lines = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a list of videos: {error}") from error
    return [re.sub(r"\s+\d+$", "", line.strip()) for line in lines if line.strip()]
