"""What a run will take, from a few of its own blocks, done by the pool that would do them all."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from tabulate import tabulate

from bench.ucf101.features import ClipSource, Embedding
from bench.ucf101.generate import Generation
from bench.ucf101.pool import BlockJob, WorkerPool, run_blocks
from bench.ucf101.score import generated_sources
from vidrd.resumable_pool import FinishedPiece

TRIED = 3  # blocks a worker; its first is not taken for the rest


@dataclass(frozen=True)
class StageEstimate:
    """One stage of a run: what was measured of it, and what follows."""

    name: str
    clips: int
    to_do: int  # of them, not done before
    seconds_per_block: float  # of one worker
    start_seconds: float  # until the first block
    seconds: float  # of the whole stage
    bytes: int  # that it leaves on the disk
    fe: int = 0  # frame evaluations


def generation(
    made: Generation, pool: WorkerPool, say: Callable[[str], None], scratch: Path
) -> tuple[StageEstimate, list[ClipSource]]:
    """A method's videos; and those that were made to find out."""
    trial = replace(made, out=scratch / made.method)
    tried = spread(made.plan.blocks, pool.workers * TRIED)
    done, wall = _timed(trial, tried, pool, say)
    lines = [line for block in tried for line in trial.lines(block) or ()]
    left = [block for block in range(made.plan.blocks) if not made.is_done(block)]
    items = sum(len(made.plan.block(block)) for block in left)
    stage = _stage(f"videos of {made.method}", done, wall, pool, len(made.plan.items), items, made.plan.batch)
    size = mean(int(line["bytes"]) for line in lines) * items
    stage = replace(stage, bytes=round(size), fe=made.plan.fe(made.method) * items)
    return stage, [source for source in generated_sources(trial, tried) if source.sha256]


def listing(name: str, jobs: Mapping[Any, Embedding], seconds: float) -> StageEstimate:
    """Decoding all real videos for their lengths, which took so many seconds; 0 where the list is kept."""
    clips = max((len(job.sources) for job in jobs.values()), default=0)
    to_do = clips if seconds else 0
    return StageEstimate(name, clips, to_do, 0.0, seconds, seconds, 0)


def features(name: str, job: Embedding, pool: WorkerPool, say: Callable[[str], None], scratch: Path) -> StageEstimate:
    """Features of a set."""
    blocks = spread(job.blocks, pool.workers * TRIED)
    some = tuple(source for block in blocks for source in job.block(block))
    left = sum(len(job.block(block)) for block in range(job.blocks) if not job.is_done(block))
    trial = replace(job, sources=some, out=scratch / f"features-{job.recipe[:16]}")
    done, wall = _timed(trial, range(trial.blocks), pool, say)
    stage = _stage(name, done, wall, pool, len(job.sources), left, job.judge.batch)
    kept = sum(path.stat().st_size for path in trial.out.rglob("*.npz"))
    return replace(stage, bytes=round(kept / len(some) * left))


def scaled(stage: StageEstimate, clips: int, pool: WorkerPool, batch: int) -> StageEstimate:
    """The same stage for so many clips, none of them done."""
    seconds = stage.start_seconds + stage.seconds_per_block * clips / batch / min(pool.workers, -(-clips // batch))
    grown = round(stage.bytes / max(1, stage.to_do) * clips)
    return replace(stage, clips=clips, to_do=clips, seconds=seconds, bytes=grown)


def spread(blocks: int, wanted: int) -> list[int]:
    """So many blocks, evenly among all; the last one, which may be short, only where all are taken."""
    if wanted >= blocks:
        return list(range(blocks))
    return [number * (blocks - 1) // wanted for number in range(wanted)]


def _timed(
    job: BlockJob, blocks: Sequence[int], pool: WorkerPool, say: Callable[[str], None]
) -> tuple[list[FinishedPiece], float]:
    began = time.perf_counter()
    return run_blocks(job, blocks, pool, say), time.perf_counter() - began


def _stage(
    name: str, done: Sequence[FinishedPiece], wall: float, pool: WorkerPool, clips: int, to_do: int, batch: int
) -> StageEstimate:
    """Seconds to the first block and a block's, put together: every worker loads once, its first block is slow."""
    of: dict[str, list[FinishedPiece]] = defaultdict(list)
    for each in done:
        of[each.worker].append(each)
    later = [each.seconds for own in of.values() for each in own[1:]] or [each.seconds for each in done]
    per_block = mean(later)
    first = max(0.0, mean(own[0].seconds for own in of.values()) - per_block)
    busy = max(own[0].load_seconds + sum(each.seconds for each in own) for own in of.values())
    start = max(0.0, wall - busy) + mean(own[0].load_seconds for own in of.values()) + first
    workers = min(pool.workers, max(1, -(-to_do // batch)))
    return StageEstimate(
        name=name,
        clips=clips,
        to_do=to_do,
        seconds_per_block=per_block,
        start_seconds=start,
        seconds=(start + per_block * to_do / batch / workers) if to_do else 0.0,
        bytes=0,
    )


def scratch_folder() -> TemporaryDirectory[str]:
    """Where the tried blocks go; nothing of them stays."""
    return TemporaryDirectory(prefix="ucf101-")


def as_dict(stages: Sequence[StageEstimate], pool: WorkerPool) -> dict[str, object]:
    """The estimate as data: seconds from the first to the last stage, and hours of all workers together."""
    seconds = sum(stage.seconds for stage in stages)
    return {
        "stages": [asdict(stage) for stage in stages],
        "seconds": seconds,
        "worker_hours": seconds * pool.workers / 3600,
        "bytes": sum(stage.bytes for stage in stages),
        "fe": sum(stage.fe for stage in stages),
        "videos_per_hour": _per_hour(stages),
        "crew": asdict(pool),
    }


def _per_hour(stages: Sequence[StageEstimate]) -> float | None:
    generating = [stage for stage in stages if stage.fe]
    seconds = sum(stage.seconds for stage in generating)
    return sum(stage.to_do for stage in generating) / seconds * 3600 if seconds else None


def as_text(stages: Sequence[StageEstimate], pool: WorkerPool) -> str:
    """A table for the terminal."""
    whole = as_dict(stages, pool)
    rows = [
        (stage.name, stage.to_do, f"{stage.seconds_per_block:.3g}", f"{stage.start_seconds:.3g}", _clock(stage.seconds),
         f"{stage.bytes / 2**20:,.0f}", f"{stage.fe:,}" if stage.fe else "")
        for stage in stages
    ]  # fmt: skip
    heads = ("stage", "clips to do", "s/block", "s to start", "takes", "MiB", "fe")
    unit = "GPU" if pool.devices[0].startswith("cuda") else "worker"
    per_hour = whole["videos_per_hour"]
    ends = [
        f"in all {_clock(sum(stage.seconds for stage in stages))} with {pool.workers} workers: "
        f"{whole['worker_hours']:.3g} {unit} hours, {sum(s.bytes for s in stages) / 2**30:.3g} GiB, "
        f"{sum(stage.fe for stage in stages):,} frame evaluations",
        "from a few blocks of each stage, measured here just now",
    ]
    if isinstance(per_hour, float):
        ends.insert(1, f"{per_hour:,.0f} videos an hour")
    return "\n".join([tabulate(rows, headers=heads, disable_numparse=True), *ends])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
