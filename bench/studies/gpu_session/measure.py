"""The parts of a session that are no suite: `python -m bench.studies.gpu_session.measure clips --out FILE`.

A file is written anew after everything that was measured, so that a killed part keeps what it had.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from bench.results.records import write_atomic
from bench.studies.gpu_session.clip_time import clip_time
from bench.studies.gpu_session.train_steps import train_time
from bench.studies.gpu_session.video_rate import video_rate
from vidrd.entry import obey

WAYS = (  # (compiled, clips in one call) of whole clips, the goal's own first
    (True, 1),
    (True, 4),
    (False, 1),
)
BATCHES = (1, 2, 4)  # clips of a step of training, as long as they fit the memory


def clips(model: str, steps: int) -> Iterator[Any]:
    """Whole clips."""
    for compiled, together in WAYS:
        yield clip_time(model, "cuda", "bf16", compiled=compiled, clips=together, steps=steps)


def train(model: str, steps: int) -> Iterator[Any]:
    """Steps of training, ever larger batches as long as they fit the memory."""
    with tempfile.TemporaryDirectory() as folder:
        for batch in BATCHES:
            try:
                yield train_time(model, "cuda", batch, Path(folder) / str(batch), steps=steps)
            except torch.OutOfMemoryError as error:
                if batch == BATCHES[0]:
                    raise
                print(f"{batch} clips at a time do not fit: {str(error).splitlines()[0]}")
                return


def ucf101(model: str, steps: int) -> Iterator[Any]:
    """Videos of UCF-101's prompts, from text to file; nothing of them stays, since they are noise."""
    videos, batch = (64, 8) if model == "full" else (4, 2)
    with tempfile.TemporaryDirectory() as folder:
        yield video_rate(
            model, "cuda", "bf16", Path(folder), videos=videos, batch=batch, compiled=True, steps=steps, seconds=120
        )


WORK: dict[str, Callable[[str, int], Iterator[Any]]] = {"clips": clips, "train": train, "ucf101": ucf101}


def main(
    part: Annotated[str, tyro.conf.Positional], out: Path, model: str = "full", steps: int = 50, seconds: float = 600.0
) -> int:
    """Measure a part.

    Args:
        part: clips, train or ucf101.
        out: The file that gets its records, a list.
        model: Size of the network.
        steps: Of a clip; of training.
        seconds: After which nothing more begins that may last as long as the last one.
    """
    began, before, records = time.monotonic(), time.monotonic(), list[dict[str, Any]]()
    for record in WORK[part](model, steps):
        records.append(asdict(record))
        write_atomic(out, json.dumps(records, indent=1, allow_nan=False))
        last, before = time.monotonic() - before, time.monotonic()
        if before - began + last > seconds:
            print(f"no time for more than {len(records)}")
            break
    return 0


if __name__ == "__main__":
    sys.exit(obey("bench.studies.gpu_session.measure", lambda: tyro.cli(main, description=__doc__)))
