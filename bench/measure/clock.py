"""Seconds of the stages of one call."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch


class Stopwatch:
    """Times named stages that follow one another: with CUDA events on a GPU, with `perf_counter` on a CPU.

    On a GPU a stage is bounded by two events in the current stream, so the host never waits between stages: `read`
    waits once, at the end. Time in which the GPU idles because the host is late counts to the stage it falls into.
    """

    def __init__(self, device: str) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._marks: dict[str, tuple[float, float]] = {}
        self._events: dict[str, tuple[torch.cuda.Event, torch.cuda.Event]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body under this name. Each name once per read."""
        if name in self._marks or name in self._events:
            raise ValueError(f"stage {name!r} was timed already: read the stopwatch first")
        if self._cuda:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            yield
            end.record()
            self._events[name] = (start, end)
        else:
            began = perf_counter()
            yield
            self._marks[name] = (began, perf_counter())

    def read(self) -> dict[str, float]:
        """Seconds of each stage since the last read, and "total": from the first start to the last end."""
        if self._cuda:
            torch.cuda.synchronize()
            seconds = {name: start.elapsed_time(end) / 1e3 for name, (start, end) in self._events.items()}
            events = list(self._events.values())
            seconds["total"] = events[0][0].elapsed_time(events[-1][1]) / 1e3
        else:
            seconds = {name: end - start for name, (start, end) in self._marks.items()}
            marks = list(self._marks.values())
            seconds["total"] = marks[-1][1] - marks[0][0]
        self._marks, self._events = {}, {}
        return seconds
