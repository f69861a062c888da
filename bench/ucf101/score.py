"""Scores under a UCF-101 protocol: which clips are real, which are generated, and the caveats of the number."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench.results.records import canonical
from bench.ucf101.archive import Archive
from bench.ucf101.classes import CLASSES
from bench.ucf101.features import ClipSource, Embedding, ScoringNetwork, content_hash, recipe
from bench.ucf101.generate import VIDEOS, Generation
from bench.ucf101.plan import key_of
from bench.ucf101.pool import WorkerPool
from bench.ucf101.protocols import Protocol
from metrics.evaluation.dataset import FeatureSet, ReadOptions, ResolvedProtocol
from metrics.evaluation.evaluator import Evaluator
from metrics.evaluation.result import Result
from metrics.networks.features import FeatureNetwork
from metrics.protocols import Sampling
from metrics.videos.clips import Clip, SampledClips, hash_clips, read_clips, sample_clips, write_clips
from metrics.videos.read import DECODER, Video, list_videos


def scoring_networks(settings: Protocol, weights: Path | None, batch: int, thin: int = 1) -> list[ScoringNetwork]:
    """The networks of a protocol: those of FVD, then those of the Inception Score."""
    return [ScoringNetwork("fvd", name, weights, batch, thin) for name in settings.fvd] + [
        ScoringNetwork("is", name, weights, batch, thin) for name in settings.inception
    ]


def real_sources(archive: Archive, settings: Protocol, kept: Path) -> tuple[ClipSource, ...]:
    """The real clips, drawn by the protocol's rule; every video's draw is keyed by the seed and its name.

    Every file is hashed, each time: the list of clips and the features are kept, and are those of these contents. The
    lengths of the video files are known only after decoding all of them, so the list is kept in the folder `kept`.

    Raises:
        ValueError: videos that cannot be read, or none.
    """
    videos = archive.video_files(settings.split, settings.half)
    by_name = {video.name: video for video in videos}
    path = kept / real_list(archive, settings)
    clips = _listed(path, by_name)
    if not clips:
        clips = _sampled(videos, settings.real, settings).clips
        if not clips:
            raise ValueError(
                f"{archive.root} has no videos of split {settings.split}, {settings.half}, to compare with"
            )
        kept.mkdir(parents=True, exist_ok=True)
        write_clips(path, clips)
    return tuple(ClipSource(clip, by_name[clip.video], content_hash(by_name[clip.video])) for clip in clips)


def real_list(archive: Archive, settings: Protocol) -> str:
    """Name of the file that keeps the real clips: a hash of all that they depend on, the contents of videos too."""
    drawn = {name: getattr(settings, name) for name in ("split", "half", "frames", "stride", "seed")}
    contents = {video.name: content_hash(video) for video in archive.video_files(settings.split, settings.half)}
    rule = {**drawn, "rule": asdict(settings.real), "archive": archive.manifest(), "decoder": DECODER, **contents}
    return f"clips-{key_of('clips', canonical(rule)).hex()[:16]}.jsonl"


def _listed(path: Path, videos: Mapping[str, Video]) -> list[Clip]:
    """The clips that a file keeps; [] if it is missing or cannot be used: it is only a cache."""
    try:
        clips = read_clips(path)
    except ValueError:
        return []
    return clips if all(clip.video in videos for clip in clips) else []


def generated_sources(generation: Generation, blocks: Sequence[int] | None = None) -> tuple[ClipSource, ...]:
    """The clips of videos that are generated here: the first frames of each, in the order of the plan.

    `blocks`: those whose files are checked by size and sha256; None for all.
    """
    chosen = range(generation.plan.blocks) if blocks is None else blocks
    lines = {line["file"]: line for block in chosen for line in generation.lines(block) or ()}
    sources = []
    for item in generation.plan.items:
        clip = Clip(item.file, 0, generation.plan.settings.frames, 1)
        video = Video(item.file, generation.out / VIDEOS / item.file, "file")
        sources.append(ClipSource(clip, video, lines.get(item.file, {}).get("sha256")))
    return tuple(sources)


def external_sources(folder: Path, settings: Protocol, wanted: int, *, allow_small: bool) -> tuple[ClipSource, ...]:
    """The clips of videos that somebody else generated, shuffled by their names, at most as many as the protocol takes.

    Raises:
        ValueError: fewer videos than the protocol takes, videos that cannot be read, or shorter ones than a clip.
    """
    videos = list_videos(folder)
    if len(videos) < wanted and not allow_small:
        raise ValueError(
            f"{folder} holds {len(videos)} videos, the protocol takes {wanted}: add the missing, or --allow-small for "
            "a number that is not comparable"
        )
    shuffled = sorted(videos, key=lambda video: key_of("order", settings.seed, video.name))[:wanted]
    rule = Sampling("given", "given", settings.fake.start, None)
    by_name = {video.name: video for video in shuffled}
    sampled = _sampled(shuffled, rule, settings)
    return tuple(ClipSource(clip, by_name[clip.video], content_hash(by_name[clip.video])) for clip in sampled.clips)


def _sampled(videos: Sequence[Video], rule: Sampling, settings: Protocol) -> SampledClips:
    sampled = sample_clips(videos, rule, frames=settings.frames, stride=settings.stride, seed=settings.seed)
    if sampled.faults:
        first = sampled.faults[0]
        raise ValueError(
            f"{len(sampled.faults)} of {len(videos)} videos cannot be read ({first.video}: {first.reason}): fix them"
        )
    return sampled


def embedding(
    sources: tuple[ClipSource, ...],
    side: str,
    judge: ScoringNetwork,
    network: FeatureNetwork,
    settings: Protocol,
    pool: WorkerPool,
    out: Path,
) -> Embedding:
    """The job that makes the features of one side."""
    storage = (settings.real if side == "real" else settings.fake).storage
    key = recipe(judge, network, storage, pool.devices[0], pool.threads)
    clips = hash_clips([source.clip for source in sources])
    contents = [source.sha256 for source in sources] if side == "real" else []  # of generated ones, block by block
    return Embedding(sources, judge, storage, out, key_of(key, clips, *contents).hex())


def recipe_of(judge: ScoringNetwork, settings: Protocol) -> ResolvedProtocol:
    """The metric's row with the clip rules of the UCF-101 protocol instead of its own."""
    resolved = ResolvedProtocol.of(judge.metric, judge.protocol, frames=settings.frames, stride=settings.stride)
    real, fake = replace(settings.real, split="given"), replace(settings.fake, split="given")
    row = {**resolved.row, "real": asdict(settings.real), "fake": asdict(settings.fake)} if resolved.row else {}
    return replace(resolved, real=real, fake=fake, row=row)


def cached_real(
    job: Embedding, judge: ScoringNetwork, network: FeatureNetwork, settings: Protocol, archive: Archive
) -> FeatureSet:
    """The real side: from the file that keeps it if that is up to date, otherwise from its blocks, and then kept.

    The file is what `python -m metrics ... --save-stats` writes, so it can be used there too.
    """
    evaluator = Evaluator(recipe_of(judge, settings), network)
    about = {
        "archive": archive.manifest(),
        "clips_sha256": hash_clips([source.clip for source in job.sources]),
        "recipe": job.recipe,
    }
    path = real_file(job)
    if path.is_file():
        try:
            return evaluator.load(path, about=about)
        except ValueError:
            path.unlink()  # of another archive or rule, or broken: it is only a cache
    side = job.side({"seed": settings.seed, "listed": len(job.sources), "archive": archive.manifest()})
    evaluator.save(path, side, about=about)
    return side


def real_file(job: Embedding) -> Path:
    """Where the statistics of a real side are kept."""
    return job.out / f"{job.recipe[:16]}.npz"


def score(
    judge: ScoringNetwork,
    network: FeatureNetwork,
    real: FeatureSet | None,
    fake: FeatureSet,
    settings: Protocol,
    about: Mapping[str, object],  # what must be equal, beyond the metric's own, for two scores to compare
    *,
    allow_small: bool,
) -> Result:
    """FVD with its floor, or the Inception Score with its ceiling.

    Raises:
        ValueError: too few clips, unless allowed.
    """
    options = ReadOptions(seed=settings.seed, allow_small=allow_small)
    evaluator = Evaluator(recipe_of(judge, settings), network, options)
    if judge.metric == "is":
        splits = min(evaluator.protocol.splits, fake.n) if allow_small else None
        result = evaluator.inception_score(fake, splits=splits)
    else:
        assert real is not None
        result = evaluator.fvd(real, fake)
    return replace(result, manifest={**result.manifest, "ucf101": dict(about)})


def caveats(
    archive: Archive, networks: Mapping[str, FeatureNetwork], videos: int, wanted: int, world: str
) -> list[str]:
    """Why scores are not comparable with published ones; [] if they are."""
    reasons = []
    if world:
        reasons.append("they say nothing about a model")
    reasons += [
        f"the weights of {name} are none that were published ({network.name})"
        for name, network in networks.items()
        if "unrecognised" in network.name or network.name.startswith("pocket")
    ]
    if not archive.official:
        reasons.append("the real videos are not UCF-101's")
    elif not archive.whole:
        reasons.append(f"the archive is partial: {len(archive.videos)} of {archive.listed} videos")
    if len(archive.class_names) != CLASSES:
        reasons.append(f"the archive has {len(archive.class_names)} classes, not {CLASSES}")
    if videos < wanted:
        reasons.append(f"{videos} videos where the protocol takes {wanted}")
    return reasons


def world_of(archive: Archive, videos: int, wanted: int, apart: Sequence[str], world: str) -> str:
    """The label of numbers with caveats, by the gravest of them; "" for comparable numbers."""
    if world or not apart:
        return world
    if not archive.official or len(archive.class_names) != CLASSES:
        return "unofficial"
    return "partial" if not archive.whole or videos < wanted else "unverified"
