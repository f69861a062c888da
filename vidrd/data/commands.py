"""The command line's verbs for data: `python -m vidrd prepare | latents | merge | watermark`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from vidrd.command_line import (
    Count,
    DeepTargetFolder,
    ExistingFile,
    ExistingFolder,
    Limits,
    Pixels,
    PixelsOrNone,
    Positive,
    Seconds,
    TargetFile,
    Weight,
)
from vidrd.files import write_atomic

Threshold = Annotated[float, Limits("a threshold above 0 and up to 255", 0, 255, above=True)]
Bits = Annotated[int, Limits("bits from 0 to 192, or -1", -1, 192)]
Quality = Annotated[int, Limits("x264's quality, from 0 to 51", 0, 51)]

FEWEST = 16  # frames from which a common mark is estimated

T = TypeVar("T")


@dataclass(frozen=True)
class Prepare:
    """Build a data set of captioned clips in shards; the same command continues an interrupted run."""

    format: Literal[
        "kinetics700", "moments", "videolt", "webvid", "tgif", "vatex", "ucf101", "folder", "webdataset", "parquet"
    ]
    """Layout of the source."""
    root: Path
    """Folder of its media."""
    out: DeepTargetFolder
    """Folder of the data set."""
    annotations: Path | None = None
    """The source's own list, if it is not in the usual place: from the current folder or from the root."""
    split: str = ""
    """Part of the source; none: all. Of a folder, tars or tables only a name for their rows."""
    outside: bool = False
    """Lists and tables may name files that do not lie under the root."""
    size: PixelsOrNone = 256
    """Pixels of the shorter side of stored videos; 0: as the source."""
    cut: Literal["content", "adaptive", "none"] = "content"
    """PySceneDetect's detector of scene changes."""
    threshold: Threshold | None = None
    """Threshold of the detector; default: 40 for content, 4 for adaptive."""
    fps: Positive | None = None
    """Frames per second of stored videos, by leaving out frames; slower sources are dropped. Default: as the source."""
    bars: Literal["keep", "crop"] = "keep"
    """Keep or crop black bars around the picture of a video."""
    min_frames: Count = 16
    """Shorter clips are dropped."""
    max_frames: Count = 300
    """Longer clips are split."""
    stills: Literal["clips", "stills"] = "clips"
    """Pictures become clips by pan and zoom, or stay pictures."""
    still_frames: Count = 16
    """Frames of a clip that is made from a picture."""
    name_motion: bool = True
    """Say in a picture's caption what the camera does."""
    least_motion: Weight = 0.0
    """Drop clips whose mean change from frame to frame, in gray levels, is smaller."""
    watermark: Literal["none", "score", "drop", "crop", "invert", "inpaint"] = "none"
    """What to do with clips that have a watermark."""
    overlay: ExistingFile | None = None
    """The watermark that all videos have, as the verb `watermark` estimates it."""
    captioner: Literal["template", "blip2", "chat", "http"] = "template"
    """Captioner of clips that have only a class."""
    caption_model: str = ""
    """The captioner's folder, or the name that the server knows it by."""
    caption_dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of a captioner that runs here; auto: its own."""
    caption_batch: Count = 1
    """Clips whose key frames go to a local captioner in one batch."""
    prompts: ExistingFile | None = None
    """TOML file of what captioners are asked: frame, hint, fuse, fuse_hint, as docs/data.md shows."""
    endpoint: str = ""
    """Address of an OpenAI-compatible server, as http://localhost:8000/v1; its key in CAPTION_API_KEY."""
    tries: Count = 4
    """How often a server that is busy or fails is asked the same question."""
    timeout: Seconds = 120.0
    """Seconds that the server may take to answer."""
    parallel: Count = 1
    """Questions that each worker has open at the same time."""
    retry: bool = False
    """Ask again about the clips that were dropped because the captioner failed."""
    recaption: bool = False
    """Also describe clips that have captions already."""
    key_frames: Count = 3
    """Frames of a clip that the captioner sees."""
    choose: Literal["uniform", "shots", "distinct"] = "distinct"
    """How key frames are chosen."""
    blocked: tuple[str, ...] = ()
    """Words that no caption may contain."""
    duplicates: Bits = 11
    """Two clips are duplicates within so many bits of 192; -1: do not look for any."""
    against: tuple[ExistingFolder, ...] = ()
    """Folders of videos that must not be in the set, as UCF-101 before a zero-shot test on it."""
    crf: Quality = 17
    """x264's quality of stored clips."""
    x264: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
    ] = "veryfast"
    """x264's preset."""
    unit: Count = 64
    """Records per shard."""
    seed: int = 0
    """Seed of all random choices."""
    device: str = "auto"
    """Where the captioner runs: auto (the GPU where there is one), cpu, cuda, cuda:1, ..."""
    workers: Count = 1
    """Number of worker processes."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or a Ray cluster."""
    json: TargetFile | None = None
    """Also write the counts and seconds into this file."""


@dataclass(frozen=True)
class Latents:
    """Encode a data set once, for `train --data`."""

    data: Path
    """Folder that `prepare` wrote."""
    model: str
    """Folder or preset of the pipeline whose VAE encodes; or of Stable Diffusion."""
    out: DeepTargetFolder
    """Folder of the latents."""
    size: Pixels = 256
    """Height and width in pixels."""
    device: str = "auto"
    """Where the VAE runs: auto (the GPU where there is one), cpu, cuda, cuda:1, ..."""


@dataclass(frozen=True)
class Merge:
    """Join data sets without encoding anything again; a clip that is in several of them is kept once."""

    sets: tuple[ExistingFolder, ...]
    """Folders that `prepare` or `merge` wrote; of equal clips, that of the first folder is kept."""
    out: DeepTargetFolder
    """Folder of the joined set."""
    duplicates: Bits = 11
    """Two clips are duplicates within so many bits of 192; -1: only if their bytes are equal."""
    against: tuple[ExistingFolder, ...] = ()
    """Folders of videos that must not be in the set."""


@dataclass(frozen=True)
class Watermark:
    """Estimate the watermark that all videos of a folder have, for `prepare --watermark invert --overlay`."""

    root: ExistingFolder
    """Folder of videos of one source and size."""
    out: TargetFile
    """File for the overlay (.npz)."""
    size: PixelsOrNone = 256
    """Pixels of the shorter side, as `prepare` will store them; 0: as the source."""
    frames: Count = 4
    """Frames taken of each video."""
    most: Count = 400
    """Videos looked at."""


def pick_evenly(frames: Iterable[T], count: int) -> list[T]:
    """Some frames, evenly spread over all, of which at most twice as many are held at a time."""
    held: list[T] = []
    apart = 1
    for number, frame in enumerate(frames):
        if number % apart == 0:
            held.append(frame)
            if len(held) > 2 * count:
                held, apart = held[::2], 2 * apart
    some = min(count, len(held))
    return [held[round(place * (len(held) - 1) / max(1, some - 1))] for place in range(some)]


def prepare(ask: Prepare) -> None:
    """Build a data set and print the counts of its records."""
    from vidrd.data.captions import CaptionSettings, Prompts  # noqa: PLC0415
    from vidrd.data.layout import Where  # noqa: PLC0415 - so that --help does not wait for it
    from vidrd.data.media import EncoderSettings  # noqa: PLC0415
    from vidrd.data.prepare import describe  # noqa: PLC0415
    from vidrd.data.prepare import prepare as build  # noqa: PLC0415
    from vidrd.data.shard_task import PanZoomSettings, PreparePlan  # noqa: PLC0415
    from vidrd.data.shots import CutSettings  # noqa: PLC0415
    from vidrd.device import resolve_device  # noqa: PLC0415

    on_cluster = ask.engine == "ray" and ask.device == "cuda"  # whose head may have no GPU
    plan = PreparePlan(
        format=ask.format,
        where=Where(ask.root, ask.annotations, ask.split, ask.outside),
        cutting=CutSettings(
            ask.size or None, ask.cut, ask.threshold, ask.min_frames, ask.max_frames, fps=ask.fps, bars=ask.bars
        ),
        panning=PanZoomSettings(ask.still_frames, ask.size or 256, name_motion=ask.name_motion)
        if ask.stills == "clips"
        else None,
        watermark="score" if ask.watermark == "none" else ask.watermark,
        look_for_marks=ask.watermark != "none",
        overlay=ask.overlay,
        least_motion=ask.least_motion,
        captioner=ask.captioner,
        caption_model=ask.caption_model,
        caption_dtype=ask.caption_dtype,
        endpoint=ask.endpoint,
        tries=ask.tries,
        timeout=ask.timeout,
        retry=ask.retry,
        device=ask.device if on_cluster else resolve_device(ask.device),
        asking=CaptionSettings(
            ask.key_frames,
            ask.choose,
            "always" if ask.recaption else "missing",
            parallel=ask.parallel,
            batch=ask.caption_batch,
            prompts=Prompts.read(ask.prompts) if ask.prompts else Prompts(),
        ),
        blocked=ask.blocked,
        encoder=EncoderSettings(ask.crf, ask.x264),
        duplicates=ask.duplicates,
        against=ask.against,
        unit=ask.unit,
        seed=ask.seed,
    )
    summary = build(plan, ask.out, workers=ask.workers, engine=ask.engine)
    print(describe(summary))
    if ask.json:
        about = {"clips": summary.clips, "seconds": summary.seconds, **vars(summary.tally)}
        write_atomic(ask.json, json.dumps(about, indent=1) + "\n")
    if not summary.clips:
        drops = [(count, reason) for some in summary.tally.dropped.values() for reason, count in some.items()]
        raise ValueError(f"no clip is left, most were dropped as '{max(drops)[1]}': {ask.out / 'drops.jsonl'} says why")


def latents(ask: Latents) -> None:
    """Cache a data set's latents."""
    from vidrd.checkpoints import load_any  # noqa: PLC0415
    from vidrd.data.latents import cache_latents  # noqa: PLC0415
    from vidrd.device import resolve_device  # noqa: PLC0415

    pipeline = load_any(ask.model)
    pipeline.latent_shape_of(ask.size, ask.size)  # refuses what the VAE would round
    cache_latents(ask.data, pipeline.vae.to(resolve_device(ask.device)), ask.out, size=ask.size)


def merge(ask: Merge) -> None:
    """Join data sets and print the counts."""
    from vidrd.data.merge import merge as join  # noqa: PLC0415

    clips, drops = join(ask.sets, ask.out, duplicates=ask.duplicates, against=ask.against)
    print(f"{ask.out}: {clips} clips of {len(ask.sets)} sets; {drops} left out (see drops.jsonl)")


def watermark(ask: Watermark) -> None:
    """Estimate a common mark."""
    import numpy as np  # noqa: PLC0415

    from vidrd.data.adapters import records  # noqa: PLC0415
    from vidrd.data.layout import Where  # noqa: PLC0415
    from vidrd.data.media import UnreadableError, decode, to_rgb  # noqa: PLC0415
    from vidrd.data.record import Record  # noqa: PLC0415
    from vidrd.data.watermarks import estimate, find_common  # noqa: PLC0415

    by_size: dict[tuple[int, ...], list[np.ndarray]] = {}
    some = records("folder", Where(ask.root))
    videos = (record for record in some if isinstance(record, Record) and record.media == "video")
    for record in islice(videos, ask.most):
        try:
            frames = pick_evenly(decode(Path(record.uri), ask.size or None), ask.frames)
        except UnreadableError:
            continue
        by_size.setdefault(to_rgb(frames[0]).shape, []).extend(map(to_rgb, frames))
    if not by_size:
        raise ValueError(f"a common mark needs videos: none in {ask.root} can be read")
    stack = np.stack(max(by_size.values(), key=len))
    others = sum(map(len, by_size.values())) - len(stack)
    if others:
        print(f"{others} frames of other sizes than {stack.shape[2]} x {stack.shape[1]} are left out")
    if len(stack) < FEWEST:
        raise ValueError(
            f"a mark is told from a scene by at least {FEWEST} frames of one size: got {len(stack)}, take more "
            "videos, or raise --frames"
        )
    mask = find_common(stack)
    if not mask.any():
        raise ValueError(f"no edges are common to all {len(stack)} frames: these videos carry no mark in one place")
    overlay = estimate(stack, mask)
    overlay.save(ask.out)
    print(f"{ask.out}: a mark over {overlay.mask.mean():.1%} of the frame, covering up to {overlay.alpha.max():.0%}")
