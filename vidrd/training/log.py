"""The log of a training run: lines of JSON, TensorBoard events, and a progress bar or lines on the terminal."""

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import UInt8
from numpy import ndarray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vidrd.files import write_atomic


class RunLog:
    """`log.jsonl` and, where asked for, TensorBoard events in a run's folder; only the writing process touches files.

    A resumed run drops the lines of steps that it will do again, and one that was not written to its end.
    """

    def __init__(self, folder: Path, steps: int, first: int, *, writes: bool, tensorboard: bool):
        self.name, self.steps, self.first, self.writes = folder.name, steps, first, writes
        self.path = folder / "log.jsonl"
        self.started = self.printed = time.perf_counter()
        self.events: Any = None
        self.bar: Progress | None = None
        if not writes:
            return
        if self.path.exists():
            whole = self.path.read_text().rpartition("\n")[0]  # a killed run leaves a torn line at the end
            kept = [line for line in whole.splitlines() if json.loads(line)["step"] <= first]
            write_atomic(self.path, "".join(f"{line}\n" for line in kept))
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - takes seconds, and many runs want none

            self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=first)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
        )
        self.task = self.bar.add_task(self.name, total=steps, completed=first, loss=float("nan"))

    def __enter__(self) -> "RunLog":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()
        if self.events:
            self.events.close()

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Log values at `step` finished steps, in a line of their own."""
        if not self.writes:
            return
        with self.path.open("a") as log:
            log.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        if self.events:
            for name, value in values.items():
                self.events.add_scalar(name, value, step)

    def picture(self, step: int, pixels: UInt8[ndarray, "H W 3"]) -> None:
        """Show a picture in TensorBoard."""
        if self.events:
            self.events.add_image("samples", pixels, step, dataformats="HWC")

    def write(self, step: int, means: Mapping[str, float], **about: float | int) -> None:
        """Log the means since the last line, at `step` finished steps."""
        if not self.writes or self.bar is None:
            return
        seconds = round((time.perf_counter() - self.started) / max(1, step - self.first), 4)
        self.note(step, {**means, "seconds_per_step": seconds, **about})
        self.bar.update(self.task, completed=step, loss=means["loss"])
        now = time.perf_counter()
        if not self.bar.console.is_terminal and now - self.printed > 30:
            left = (now - self.started) / max(1, step - self.first) * (self.steps - step) / 60
            print(
                f"{self.name}: step {step} of {self.steps}, loss {means['loss']:.4f}, {left:.1f} min left", flush=True
            )
            self.printed = now


def peak_bytes() -> int:
    """Peak memory so far in bytes: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
