"""Metrics of folders of videos: video files, arrays (uint8, N T H W C) or folders of frames.

A generated set is compared with a real one under a named protocol. Numbers are shown with their n and their interval;
--json adds the manifest that says how they were made. Scores of unequal manifests are not compared.
"""

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from metrics import METRICS
from metrics.cli_options import (
    Alignment,
    Common,
    Compare,
    Fvd,
    InceptionScore,
    Jitter,
    Kvd,
    Minutes,
    Vbench,
    Verb,
    Verify,
)
from metrics.command_line import parse, refuse, rules_of_protocol
from metrics.entry import obey, one_line
from metrics.evaluation.cache import FeatureCache, default_path
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
from metrics.evaluation.progress import ProgressPrinter
from metrics.evaluation.result import Result, compare, differences, same_videos
from metrics.files import open_regular, read_text, write_text
from metrics.jitter_verb import measure_jitter
from metrics.networks.features import FeatureNetwork
from metrics.protocols import FEATURES
from metrics.videos.clips import read_clips, write_clips

WEIGHTS = "VIDRD_METRICS_WEIGHTS"  # environment variable: a folder of weights


def measure(verb: Fvd | Kvd | InceptionScore) -> Result:
    """The scores of one verb that needs a network.

    Raises:
        ValueError: options that contradict each other, weights or videos that cannot be used, sets that are too small.
    """
    common = verb.common
    metric = {InceptionScore: "is", Kvd: "kvd", Fvd: "fvd"}[type(verb)]
    path = common.weights or _weights_folder()
    protocol = common.protocol if common.protocol is not None else _default_protocol(metric, path)
    resolved = ResolvedProtocol.of(metric, protocol, frames=common.window or common.frames, stride=common.stride)
    resolved = resolved.tile() if common.window is not None else resolved
    refuse(rules_of_protocol(common, metric, resolved))
    network = _network(metric, protocol, path, common)
    if protocol == POCKET and not _is_shipped(network, metric):
        resolved = replace(resolved, name=f"classifier-{weights_digest(network)[:8]}")
    with ExitStack() as stack:
        cache = None if common.fresh else stack.enter_context(_cache(common.cache or default_path()))
        options = ReadOptions(
            n=common.n,
            seed=common.seed,
            allow_small=common.allow_small,
            allow_gaps=common.allow_gaps,
            stored=common.stored,
            batch_size=common.batch,
            cache=cache,
            report=ProgressPrinter(),
        )
        result = _score(verb, Evaluator(resolved, network, options)).named()
        notes = [*result.notes, _about_weights(network), *map(caution_of_strays, _sources(verb))]
        if cache is not None and cache.fault is not None:
            notes.append(f"{cache.path} does not keep features any more ({cache.fault}): computed without it")
        return replace(result, notes=list(filter(None, notes)))


def _score(verb: Fvd | Kvd | InceptionScore, evaluator: Evaluator) -> Result:
    common = verb.common
    if isinstance(verb, InceptionScore):
        real_set, fake_set = _real_and_fake(verb.videos)
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


def _sources(verb: Fvd | Kvd | InceptionScore) -> tuple[Path, ...]:
    return (verb.real, verb.fake) if isinstance(verb, Fvd | Kvd) else verb.videos


@contextmanager
def _cache(path: Path) -> Iterator[FeatureCache | None]:
    """The file of features; none, with a line that says so, where it cannot be used."""
    try:
        cache = FeatureCache(path)
    except ValueError as error:
        print(f"metrics: {one_line(str(error))}: going on without", file=sys.stderr, flush=True)
        yield None
        return
    with cache:
        yield cache


def _weights_folder() -> Path | None:
    return Path(os.environ[WEIGHTS]) if os.environ.get(WEIGHTS) else None


def _default_protocol(metric: str, path: Path | None) -> str:
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
    if side == "real" and source.suffix == ".npz" and _is_statistics(source):
        of_real = {"list": common.real_list, "clips": common.real_clips}
        refuse(
            (value is not None, f"--real-{option} chooses real videos, {source} holds their statistics: leave it out")
            for option, value in of_real.items()
        )
        saved, protocol = evaluator.load(source), evaluator.protocol
        check_count(saved.n, evaluator.options.n or protocol.real.n, side, protocol, evaluator.options)
        return saved
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


def _is_statistics(source: Path) -> bool:
    try:
        with open_regular(source) as file, zipfile.ZipFile(file) as archive:
            return "scatter.npy" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _names(path: Path) -> list[str]:
    """The first word of every line; a class number after it is ignored."""
    try:
        lines = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a list of videos: {error}") from error
    return [line.split()[0] for line in lines if line.strip()]


def _real_and_fake(videos: tuple[Path, ...]) -> tuple[Path | None, Path]:
    if not 1 <= len(videos) <= 2:
        raise ValueError(f"give one set of videos, or the real one and then the generated one: got {len(videos)}")
    return videos[0] if len(videos) == 2 else None, videos[-1]


def _print(line: str) -> None:
    """Print a line, which may hold names out of files, without what moves a terminal's cursor."""
    print(line if line.isprintable() else one_line(line))


def show(result: Result) -> None:
    """Print scores, with what a reader must know of them."""
    width = max(20, *map(len, result.scores))
    for name, score in result.scores.items():
        interval = "" if score.low is None else f"  95 % [{score.low:.4g}, {score.high:.4g}]"
        _print(f"{name:{width}} {score.value:10.4f}{interval}  n = {score.n}")
    for note in result.notes:
        _print(f"  {' '.join(note.split())}")
    for name in dict.fromkeys(name.split(":")[0].removesuffix("_real") for name in result.scores):
        if name in METRICS:
            print(f"  {name} is blind to {METRICS[name].blind}")


def verify_weights(verb: Verify) -> int:
    """Verify a file of weights and print the findings; returns the exit code."""
    from metrics.networks.device import resolve_device  # noqa: PLC0415
    from metrics.networks.verify import CONSTANT_CLIPS, SOME_LENGTHS, describe, verify  # noqa: PLC0415 - torch is slow to import

    lengths = tuple(CONSTANT_CLIPS) if verb.all_lengths else SOME_LENGTHS
    verification = verify(verb.weights, lengths=lengths, device=resolve_device(verb.device), export_to=verb.export)
    for line in describe(verification).split("\n"):
        _print(line)
    if verb.json is not None:
        write_text(verb.json, json.dumps(asdict(verification), indent=1, allow_nan=False) + "\n")
    return {"right": 0, "wrong": 2, "unrecognised": 4}[verification.verdict]


def run(verb: Verb) -> int:
    """Carry out a verb; returns the exit code.

    Raises:
        ValueError: what a user can fix.
    """
    if isinstance(verb, Fvd | Kvd | InceptionScore):
        target = verb.common.json
    else:
        target = verb.reading.json if isinstance(verb, Vbench | Alignment | Minutes) else verb.json
    if isinstance(verb, Verify):
        return verify_weights(verb)
    if isinstance(verb, Compare):
        first, second = (Result.from_json(path) for path in (verb.first, verb.second))
        scores = compare(first, second, force=verb.force)
        notes = ["the same videos on both sides: paired" if same_videos(first, second) else "other videos: not paired"]
        if different := differences(first.manifest, second.manifest):
            notes.append(f"forced: these scores were made differently, they differ in {'; '.join(different)}")
        result = Result(scores, first.manifest, second.made_with, {}, notes)
    elif isinstance(verb, Vbench | Alignment | Minutes):
        from metrics.folder_verbs import measure_folder  # noqa: PLC0415 - torch is slow to import

        result = measure_folder(verb, verb.reading.weights or _weights_folder(), ProgressPrinter())
    else:
        result = measure_jitter(verb) if isinstance(verb, Jitter) else measure(verb)
    show(result)
    if target is not None:
        write_text(target, result.to_json())
    return 0


def main() -> None:
    """Parse, run, print; ends the process where the exit code is not 0."""
    code = obey("metrics", lambda: run(parse(sys.argv[1:], __doc__)))
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
