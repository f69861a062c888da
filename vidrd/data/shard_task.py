"""One task of the preparation of a data set: some records go through the stages into one shard.

A task writes its clips, then its rows, each atomically, and last a file that says it is done, with a hash of all that
decided its content. So nothing is done twice, and nothing half done is taken for finished. The clips become shards at
the end, without those that the whole set has twice.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from time import thread_time
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from vidrd.data.captions import (
    UNANSWERED,
    Captioner,
    CaptionSettings,
    Template,
    caption_stage,
    caption_together,
    filter_captions,
)
from vidrd.data.duplicates import clip_hashes
from vidrd.data.layout import Where
from vidrd.data.media import EncoderSettings, Fit, encode_mp4, file_state
from vidrd.data.record import Drop, Pixels, PreparationStage, Record, Tally, digest
from vidrd.data.shards import ShardWriter, write_rows
from vidrd.data.shots import CutSettings, motion, read_clips
from vidrd.data.watermarks import How, Overlay, watermark_stage
from vidrd.files import replacing, write_atomic

READING = ("decode@2", "cut@2")  # the first two steps, as the index stores them
FREE = ("duplicates", "against", "device", "endpoint", "tries", "timeout", "retry")  # no unit's content depends on them


@dataclass(frozen=True)
class PanZoomSettings:
    """How still pictures become clips; see zoompan.Camera."""

    frames: int = 16
    size: int = 256
    fps: float = 8.0
    name_motion: bool = True  # say in the caption what the camera does


@dataclass(frozen=True)
class PreparePlan:
    """Everything that decides the content of a data set."""

    format: str  # of ADAPTERS
    where: Where
    cutting: CutSettings = field(default_factory=CutSettings)
    fit: Fit = field(default_factory=Fit)
    panning: PanZoomSettings | None = field(default_factory=PanZoomSettings)  # None: stills stay stills
    watermark: How = "score"
    overlay: Path | None = None  # of a mark that all videos carry, as `watermark` estimates it
    look_for_marks: bool = False  # a look at every clip's edges: costs as much as decoding
    least_motion: float = 0.0  # clips with less are dropped: mean change from frame to frame, gray levels
    captioner: str = "template"  # of CAPTIONERS
    caption_model: str = ""
    caption_dtype: str = "auto"  # precision of a captioner that runs here: auto (its own), or of `DTYPES`
    endpoint: str = ""
    tries: int = 4  # of each question to a server
    timeout: float = 120.0  # seconds that it may take to answer
    retry: bool = False  # carry out units again in which a captioner failed
    device: str = "cpu"
    asking: CaptionSettings = field(default_factory=CaptionSettings)
    blocked: tuple[str, ...] = ()  # words that no caption may have
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    duplicates: int = 11  # bits of 192 within which two clips are one; -1: do not look
    against: tuple[Path, ...] = ()  # folders of videos that must not be in the set
    unit: int = 64  # records per shard
    seed: int = 0

    def __post_init__(self) -> None:
        if self.watermark == "invert" and self.overlay is None:
            raise ValueError("a mark can be inverted only if it is known: estimate it with `python -m vidrd watermark`")
        if self.unit < 1:
            raise ValueError(f"a shard is made of at least one record: got unit {self.unit}")


class ShardTask(NamedTuple):
    """Some records, whose clips become one shard."""

    number: int
    records: tuple[Record | Drop, ...]


def stages_of(plan: PreparePlan, captioner: Captioner | Template) -> list[PreparationStage]:
    """The stages after decoding and cutting, in order."""
    steps: list[PreparationStage] = []
    if plan.panning is not None:
        steps.append(PreparationStage("pan", 2, partial(_pan, plan.panning, plan.seed)))
    steps.append(PreparationStage("motion", 1, partial(_motion, plan.least_motion)))
    if plan.look_for_marks or plan.watermark != "score":
        overlay = Overlay.load(plan.overlay) if plan.overlay else None
        steps.append(PreparationStage("watermark", 3, partial(watermark_stage, how=plan.watermark, overlay=overlay)))
    return [
        *steps,
        PreparationStage(
            "caption",
            1,
            partial(caption_stage, captioner, plan.asking),
            partial(caption_together, captioner, plan.asking),
        ),
        PreparationStage("filter", 1, partial(filter_captions, blocked=plan.blocked)),
        PreparationStage("hash", 1, _hash),
    ]


def run_shard_task(plan: PreparePlan, out: Path, unit: ShardTask) -> int:
    """Carry out one task in this process; returns the number of clips in its shard."""
    stages = stages_of(plan, _captioner(plan.captioner, plan.caption_model, plan.endpoint, plan.device, plan.tries,
                                        plan.timeout, plan.caption_dtype))  # fmt: skip
    label = " ".join([*READING, *(stage.label for stage in stages)])
    name = f"{unit.number:06d}"
    tally, drops = Tally(), list[Drop]()
    decided_by = unit_hash(plan, unit)  # before its files are read: one that changes meanwhile is done again
    with replacing(clips_of(out, unit.number)) as part:
        writer = ShardWriter(part, f"shards/{name}.tar")
        for clip in _prepared(plan, unit, stages, tally):
            if isinstance(clip, Drop):
                drops.append(clip)
                continue
            began = thread_time()
            tally.enter("encode")
            data = _encoded(clip, plan.encoder)
            tally.leave("encode", clip if isinstance(data, bytes) else data)
            tally.spend("encode", thread_time() - began)
            if isinstance(data, Drop):
                drops.append(data)
                continue
            began = thread_time()
            writer.add(clip, data, hashlib.sha256(data).hexdigest(), label)
            tally.spend("shard", thread_time() - began)
        writer.close()
        tally.check()
    write_rows(out / "units" / f"{name}.parquet", writer.rows)
    size = clips_of(out, unit.number).stat().st_size
    done = {"hash": decided_by, "bytes": size, "tally": asdict(tally), "drops": [asdict(drop) for drop in drops]}
    write_atomic(out / "units" / f"{name}.json", json.dumps(done))
    return len(writer.rows)


def _prepared(
    plan: PreparePlan, unit: ShardTask, stages: Sequence[PreparationStage], tally: Tally
) -> Iterator[Record | Drop]:
    """The finished clips of a task's records, and for each record or clip that yields none the reason."""
    clips = _clips(plan, unit, tally)
    while group := list(islice(clips, plan.asking.batch)):
        yield from _through(group, stages, tally)


def _clips(plan: PreparePlan, unit: ShardTask, tally: Tally) -> Iterator[Record | Drop]:
    """The clips that a task's records are cut into, and the drops of records and clips that are none."""
    for source in unit.records:
        tally.enter("read")
        if isinstance(source, Drop):
            tally.leave("read", source)
            yield source
            continue
        for number, clip in enumerate(read_clips(source, plan.cutting, plan.fit, tally)):
            if isinstance(clip, Drop) and clip.key == source.key:  # the whole source
                tally.leave("read", clip)
                yield clip
                continue
            if number == 0:
                tally.leave("read", source)
            tally.enter("cut")
            tally.leave("cut", clip)
            yield clip


def unit_hash(plan: PreparePlan, unit: ShardTask) -> str:
    """A hash of all that decides the content of a task's shard."""
    deciding = {key: value for key, value in asdict(plan).items() if key not in FREE}
    deciding["asking"].pop("parallel")
    deciding["overlay"] = plan.overlay and hashlib.sha256(plan.overlay.read_bytes()).hexdigest()
    labels = [*READING, *(stage.label for stage in stages_of(plan, Template()))]
    records = [
        asdict(record) if isinstance(record, Drop) else [record.to_json(), file_state(record.uri)]
        for record in unit.records
    ]
    return digest(deciding, labels, records)


def clips_of(out: Path, number: int) -> Path:
    """The tar of a task's clips; its name keeps readers of shards away."""
    return out / "units" / f"{number:06d}.clips"


def is_done(plan: PreparePlan, out: Path, unit: ShardTask) -> bool:
    """Whether a unit has been carried out, with equal content, and its files are whole."""
    done, clips = out / "units" / f"{unit.number:06d}.json", clips_of(out, unit.number)
    if not all(file.is_file() for file in (done, clips, done.with_suffix(".parquet"))):
        return False
    report = json.loads(done.read_text())
    if clips.stat().st_size != report.get("bytes", clips.stat().st_size):
        return False  # cut short since then, as the shard is that is another name of it
    if plan.retry and any(drop["reason"] == UNANSWERED for drop in report["drops"]):
        return False
    return report["hash"] == unit_hash(plan, unit)


def _through(
    clips: Sequence[Record | Drop], stages: Sequence[PreparationStage], tally: Tally
) -> Iterator[Record | Drop]:
    """Clips after all stages, or their drops at one, in the same order."""
    results = list(clips)
    for stage in stages:
        places = [place for place, clip in enumerate(results) if isinstance(clip, Record)]
        some = [clip for clip in results if isinstance(clip, Record)]
        began = thread_time()
        outcomes = stage.together(some) if stage.together else [stage.apply(clip) for clip in some]
        tally.spend(stage.name, thread_time() - began)
        for place, outcome in zip(places, outcomes, strict=True):
            tally.enter(stage.name)
            tally.leave(stage.name, outcome)
            results[place] = outcome
    yield from results


def _pan(panning: PanZoomSettings, seed: int, record: Record) -> Record | Drop:
    """A still picture becomes a clip; videos pass unchanged."""
    if record.media != "image":
        return record
    from vidrd.data.zoompan import Camera, animate, name_motion  # noqa: PLC0415 - torch, which videos do not need

    camera = Camera(frames=panning.frames, size=panning.size, fps=panning.fps)
    words = hashlib.blake2b(f"{seed} {record.key}".encode(), digest_size=16).digest()
    animated = animate(record.seen().rgb()[0], camera, np.random.default_rng(int.from_bytes(words, "big")))
    if animated is None:
        return Drop(record.key, "picture too small", f"for clips of {panning.size} pixels")
    clip, path = animated
    words_of_motion = name_motion(path) if panning.name_motion else ""
    captions = tuple(f"{text.rstrip('. ')}, {words_of_motion}" if words_of_motion else text for text in record.captions)
    return replace(
        record, media="video", start=0, end=panning.frames, captions=captions,
        pixels=Pixels.of_rgb(clip, panning.fps),
    ).having(camera=asdict(path), moved_still=True)  # fmt: skip


def _motion(least: float, record: Record) -> Record | Drop:
    if record.media == "image":
        return record
    amount = motion(record.seen().thumbs)
    if amount < least:
        return Drop(record.key, "stands still", f"mean change {amount:.2f} grey levels")
    return record.having(motion=round(amount, 4))


def _hash(record: Record) -> Record:
    return record.having(hashes=clip_hashes(record.seen().thumbs))


def _encoded(record: Record, encoder: EncoderSettings) -> bytes | Drop:
    pixels = record.seen()
    if record.media == "video":
        try:
            return encode_mp4(pixels.frames, pixels.fps, encoder)
        except av.FFmpegError as error:
            return Drop(record.key, "cannot be stored", str(error))
    file = io.BytesIO()
    Image.fromarray(pixels.rgb()[0]).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


@lru_cache(maxsize=1)
def _captioner(
    kind: str, model: str, endpoint: str, device: str, tries: int, timeout: float, dtype: str
) -> Captioner | Template:
    """The captioner, one per process: models take long to load."""
    if kind == "template":
        return Template()
    from vidrd.data.captioners import new_captioner  # noqa: PLC0415 - torch, which templates do not need

    key = os.environ.get("CAPTION_API_KEY")
    return new_captioner(
        kind, model, endpoint=endpoint, device=device, key=key, tries=tries, timeout=timeout, dtype=dtype
    )
