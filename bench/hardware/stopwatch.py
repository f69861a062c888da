"""Seconds of the stages of one call, and of the laps within a stage."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from time import perf_counter
from typing import TypeAlias

import torch

Mark: TypeAlias = "float | torch.cuda.Event"


class Stopwatch:
    """Times named stages that follow one another: with CUDA events on a GPU, with `perf_counter` on a CPU.

    On a GPU a stage or a lap is bounded by events in the current stream, so the host never waits in between: `read`
    waits once, at the end. Time in which the GPU idles because the host is late counts to the stage it falls into.

    Args:
        device: where the work is done.
        ranges: also name stages and laps in profiles, PyTorch's and NVIDIA's alike.
    """

    def __init__(self, device: str, *, ranges: bool = False) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._ranges = ranges
        self._marks: dict[str, tuple[Mark, Mark]] = {}
        self._lap_marks: dict[str, list[Mark]] = {}
        self.running = ""  # stage
        self._open = ExitStack()
        self.laps: dict[str, tuple[float, ...]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body under this name. Each name once per read."""
        if name in self._marks:
            raise ValueError(f"stage {name!r} was timed already: read the stopwatch first")
        with ExitStack() as stage:
            self._name(stage, name)
            self.running = name
            start = self._now()
            self._lap_marks[name] = [start]
            self._name(self._open, f"{name} 0")
            yield
            self._marks[name] = (start, self._now())
            self._open.close()
            self.running = ""

    def lap(self) -> None:
        """End a lap of the running stage and begin the next one. A stage in which this is never called has no laps."""
        marks = self._lap_marks[self.running]
        marks.append(self._now())
        self._open.close()
        self._name(self._open, f"{self.running} {len(marks) - 1}")

    def read(self) -> dict[str, float]:
        """Seconds of each stage since the last read, and "total": from the first start to the last end.

        `laps` then holds the seconds of the laps of each stage that had any. What "total" has beyond the sum of the
        stages passed between them.
        """
        if self._cuda:
            torch.cuda.synchronize()
        seconds = {name: _between(*marks) for name, marks in self._marks.items()}
        marks = list(self._marks.values())
        seconds["total"] = _between(marks[0][0], marks[-1][1])
        self.laps = {
            name: tuple(_between(a, b) for a, b in pairwise(laps))
            for name, laps in self._lap_marks.items()
            if len(laps) > 1
        }
        self._marks, self._lap_marks = {}, {}
        return seconds

    def _now(self) -> Mark:
        if not self._cuda:
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _name(self, until: ExitStack, name: str) -> None:
        """Open a range that ends with `until`."""
        if self._ranges:
            until.enter_context(torch.profiler.record_function(name))
            if self._cuda:
                until.enter_context(torch.cuda.nvtx.range(name))


def _between(start: Mark, end: Mark) -> float:
    if isinstance(start, float) and isinstance(end, float):
        return end - start
    assert isinstance(start, torch.cuda.Event)
    assert isinstance(end, torch.cuda.Event)
    return start.elapsed_time(end) / 1e3
