"""The peak memory of tensors while a function runs, on a CPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def allocations(work: Callable[[], Any]) -> int:
    """Peak bytes that the CPU allocator gave out during a run, beyond those from before it.

    They are counted from the allocator's events, so compiled code counts like any other. Memory that was there before
    and is freed during the run is not subtracted.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recording:
        work()
    held: dict[int, int] = {}
    most = now = 0
    for event in _memory_events(recording):
        address, size = event
        if size > 0:
            held[address] = size
            now += size
            most = max(most, now)
        elif address in held:
            now -= held.pop(address)
    return most


def _memory_events(recording: profile) -> list[tuple[int, int]]:
    """(address, bytes) of each allocation in order of time; bytes are negative where memory is freed."""
    profiler: Any = recording.profiler
    tree = profiler.kineto_results.experimental_event_tree()
    events: list[tuple[int, int, int]] = []
    waiting = list(tree)
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == torch._C._profiler._EventType.Allocation:
            fields = event.extra_fields
            events.append((event.start_time_ns, fields.ptr, fields.alloc_size))
    return [(address, size) for _, address, size in sorted(events, key=lambda each: each[0])]
