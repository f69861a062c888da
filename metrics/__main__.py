"""Metrics of folders of videos: films, arrays (uint8, N T H W C) or folders of frames.

A generated set is compared with a real one under a named protocol. Numbers stand beside their n, their interval and,
in --json, the manifest that says what they were made of; scores of unequal manifests are not compared.
"""

import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import tyro

from metrics import METRICS
from metrics.cli_options import Common, Compare, Fvd, InceptionScore, Jitter, Kvd, Verb, Verify
from metrics.entry import obey
from metrics.evaluation.cache import FeatureCache, default_path
from metrics.evaluation.dataset import (
    POCKET,
    FeatureSet,
    ReadOptions,
    ResolvedProtocol,
    check_count,
    digest,
    embed_set,
    extend_for_floor,
    load_side,
    protocol_manifest,
    save_side,
)
from metrics.evaluation.progress import ProgressPrinter
from metrics.evaluation.result import Result, compare, same_videos, versions
from metrics.networks.features import FeatureNetwork
from metrics.score import Score
from metrics.temporal.flow_metrics import CLASSICAL
from metrics.temporal.optical_flow import Flow
from metrics.temporal.score_folder import VideoReader, jitter_scores
from metrics.videos.clips import Clip, read_clips, write_clips
from metrics.videos.read import DECODER

WEIGHTS = "VIDRD_METRICS_WEIGHTS"  # environment variable: a folder of weights


def measure(verb: Fvd | Kvd | InceptionScore) -> Result:
    """The scores of one verb that needs a network."""
    # torch is slow to import, and not every verb needs it
    from metrics.evaluation.evaluate import score_fvd, score_is, score_kvd  # noqa: PLC0415

    common = verb.common
    metric = {InceptionScore: "is", Kvd: "kvd", Fvd: "fvd"}[type(verb)]
    if common.window is not None and common.frames is not None:
        raise ValueError("--window and --frames both say how long clips are: give one")
    path = common.weights or (Path(os.environ[WEIGHTS]) if os.environ.get(WEIGHTS) else None)
    protocol = common.protocol or _default_protocol(metric, path)
    recipe = ResolvedProtocol.of(metric, protocol, frames=common.window or common.frames, stride=common.stride)
    recipe = recipe.tile() if common.window is not None else recipe
    network = _network(metric, protocol, path, common)
    with ExitStack() as stack:
        cache = None if common.fresh else stack.enter_context(FeatureCache(common.cache or default_path()))
        setting = ReadOptions(
            n=common.n,
            seed=common.seed,
            allow_small=common.allow_small,
            allow_gaps=common.allow_gaps,
            stored=common.stored,
            batch_size=common.batch,
            cache=cache,
            report=ProgressPrinter(),
        )
        if isinstance(verb, InceptionScore):
            real_set, fake_set = _real_and_fake(verb.videos)
            real_side = None if real_set is None else _side(real_set, "real", recipe, network, setting, common)[0]
            fake_side, _ = _side(fake_set, "fake", recipe, network, setting, common)
            result = score_is(fake_side, recipe, network, setting, head=verb.head, splits=verb.splits, real=real_side)
            return result.named()
        real, clips = _side(verb.real, "real", recipe, network, setting, common)
        fake, _ = _side(verb.fake, "fake", recipe, network, setting, common)
        if isinstance(verb, Kvd):
            return score_kvd(real, fake, recipe, network, k=verb.neighbours).named()
        floor = real
        if verb.floor and clips is not None and common.real_clips is None and real.n < 2 * fake.n:
            listed = None if common.real_list is None else _names(common.real_list)
            floor = extend_for_floor(real, clips, 2 * fake.n, verb.real, recipe, network, setting, listed=listed)
        return score_fvd(real, fake, recipe, network, setting, infinity=verb.infinity, floor=floor).named()


def _default_protocol(metric: str, path: Path | None) -> str:
    """Weights say what is meant: none, or a judge's, the pocket world; others the default for new work."""
    from metrics.networks.pocket import is_classifier  # noqa: PLC0415
    from metrics.protocols import DEFAULT_FVD, DEFAULT_IS  # noqa: PLC0415

    if path is None or is_classifier(path):
        return POCKET
    return DEFAULT_IS if metric == "is" else DEFAULT_FVD


def _network(metric: str, protocol: str, path: Path | None, common: Common) -> FeatureNetwork:
    if protocol == POCKET:
        from metrics.networks.pocket import load_classifier, load_shipped  # noqa: PLC0415

        if common.weights is None:
            return load_shipped("c3d" if metric == "is" else "i3d", common.device)
        return load_classifier(common.weights, device=common.device)
    if path is None:
        raise ValueError(
            f"the protocol {protocol} needs the weights it was published with: give --weights FILE, or set "
            f"{WEIGHTS} to their folder (`python -m metrics verify` says which file is right)"
        )
    if common.run_program or common.trust_program:
        from metrics.networks.torchscript import load_script  # noqa: PLC0415

        kind = "c3d" if metric == "is" else "i3d"
        return load_script(path, kind, trust=common.trust_program, device=common.device, batch=common.batch)
    if metric == "is":
        from metrics.networks.c3d import load_c3d  # noqa: PLC0415

        return load_c3d(path, protocol, mean=common.mean, device=common.device, batch=common.batch)
    from metrics.networks.i3d import load_i3d  # noqa: PLC0415

    return load_i3d(
        path,
        protocol,
        device=common.device,
        precision=common.precision,
        batch=common.batch,
        compiled=common.compiled,
    )


def _side(
    source: Path, side: str, recipe: ResolvedProtocol, network: FeatureNetwork, setting: ReadOptions, common: Common
) -> tuple[FeatureSet, list[Clip] | None]:
    """A set's features and its clips; no clips where it was given by saved statistics."""
    made_by = protocol_manifest(recipe, network)
    if side == "real" and source.suffix == ".npz" and _is_statistics(source):
        saved = load_side(source, made_by)
        check_count(saved.n, setting.n or recipe.real.n, side, recipe, setting)
        return saved, None
    given = common.real_clips if side == "real" else common.fake_clips
    listed = common.real_list if side == "real" else None
    found, clips = embed_set(
        source,
        side,
        recipe,
        network,
        setting,
        clips=None if given is None else read_clips(given),
        listed=None if listed is None else _names(listed),
    )
    if common.save_clips is not None:
        common.save_clips.mkdir(parents=True, exist_ok=True)
        write_clips(common.save_clips / f"{side}.jsonl", clips)
    if side == "real" and common.save_stats is not None:
        save_side(common.save_stats, found, made_by)
    return found, clips


def _is_statistics(source: Path) -> bool:
    import numpy as np  # noqa: PLC0415

    try:
        with np.load(source, allow_pickle=False) as file:
            return "scatter" in file.files
    except (OSError, ValueError):
        return False


def _names(path: Path) -> list[str]:
    """The first word of every line, a class number after it left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of videos: {error}") from error
    return [line.split()[0] for line in lines if line.strip()]


def _real_and_fake(videos: tuple[Path, ...]) -> tuple[Path | None, Path]:
    if not 1 <= len(videos) <= 2:
        raise ValueError(f"give one set of videos, or the real one and then the generated one; {len(videos)} came")
    return videos[0] if len(videos) == 2 else None, videos[-1]


def measure_jitter(verb: Jitter) -> Result:
    """The scores of `jitter`."""
    flow: Flow | None = CLASSICAL if verb.flow else None
    if verb.raft is not None:
        from metrics.temporal.raft import load_raft  # noqa: PLC0415 - torch is slow to import

        flow = load_raft(verb.raft)
    scores: dict[str, Score] = {}
    values: dict[str, list[float]] = {}
    made = versions()
    sets: dict[str, dict[str, object]] = {}
    for side, source in zip(("real", "fake"), _real_and_fake(verb.videos), strict=True):
        if source is None:
            continue
        reading = VideoReader(
            source, side, n=verb.n, frames=verb.frames, allow_gaps=verb.allow_gaps, report=ProgressPrinter()
        )
        found, each = jitter_scores(reading, seams=verb.seams, dropped=verb.dropped, flow=flow, rates=reading.rates)
        ending = "" if side == "fake" else "_real"
        scores |= {name + ending: score for name, score in found.items()}
        values |= {name + ending: value for name, value in each.items()}
        about = {"names_sha256": digest(reading.names), "videos": len(reading.names), "gap_reasons": reading.gaps}
        made[side] = about | {"content_sha256": digest(reading.contents)}
        sets[side] = reading.scale() | {"gaps": len(reading.gaps)}
        if side == "real":
            sets[side] |= {"videos": len(reading.names), "content_sha256": digest(reading.contents)}
    manifest: dict[str, object] = {
        "protocol": "jitter",
        "flow": None if flow is None else flow.name,
        "seams": list(verb.seams),
        "dropped": verb.dropped,
        "frames": verb.frames,
        "decoder": DECODER,
        "real": sets.get("real"),
        "fake": sets["fake"],
    }
    notes = [] if flow is None else [f"optical flow by {flow.name}"]
    return Result(scores, manifest, made, {}, values, notes)


def show(result: Result) -> None:
    """Print scores and what must be read beside them."""
    width = max(20, *map(len, result.scores))
    for name, score in result.scores.items():
        interval = "" if score.low is None else f"  95 % [{score.low:.4g}, {score.high:.4g}]"
        print(f"{name:{width}} {score.value:10.4f}{interval}  n = {score.n}")
    for note in result.notes:
        print(f"  {note}")
    for name in dict.fromkeys(name.split(":")[0].removesuffix("_real") for name in result.scores):
        if name in METRICS:
            print(f"  {name} is blind to {METRICS[name].blind}")


def verify_weights(verb: Verify) -> int:
    """Print what there is to say of a file of weights; the exit code."""
    from metrics.networks.verify import CONSTANT_CLIPS, SOME_LENGTHS, describe, verify  # noqa: PLC0415 - torch is slow to import

    lengths = tuple(CONSTANT_CLIPS) if verb.all_lengths else SOME_LENGTHS
    found = verify(verb.weights, lengths=lengths, device=verb.device, export_to=verb.export)
    print(describe(found))
    if verb.json is not None:
        _write(verb.json, json.dumps(asdict(found), indent=1, allow_nan=False) + "\n")
    return {"right": 0, "wrong": 2, "unrecognised": 4}[found.verdict]


def run(verb: Fvd | Kvd | InceptionScore | Jitter | Compare | Verify) -> int:
    """Do what a verb says; the exit code.

    Raises:
        ValueError: what a user can mend.
    """
    target = verb.common.json if isinstance(verb, Fvd | Kvd | InceptionScore) else verb.json
    if target is not None and not target.parent.is_dir():
        raise ValueError(f"{target} cannot be written: {target.parent} is no folder, make it first")
    if isinstance(verb, Verify):
        return verify_weights(verb)
    if isinstance(verb, Compare):
        first, second = (Result.from_json(path) for path in (verb.first, verb.second))
        found = compare(first, second, force=verb.force)
        notes = ["the same videos on both sides: paired" if same_videos(first, second) else "other videos: not paired"]
        result = Result(found, first.manifest, second.made_with, {}, {}, notes)
    else:
        result = measure_jitter(verb) if isinstance(verb, Jitter) else measure(verb)
    show(result)
    if target is not None:
        _write(target, result.to_json())
    return 0


def main() -> None:
    """Parse, run, print; ends the process where the exit code is not 0."""
    code = obey("metrics", lambda: run(tyro.cli(Verb, prog="python -m metrics", description=__doc__)))
    if code:
        sys.exit(code)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all; a device or a pipe is written into and never replaced."""
    if path.exists() and not path.is_file():
        path.write_text(text)
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
