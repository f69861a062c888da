"""Bytes that tensors hold at most while something runs."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def allocations(work: Callable[[], Any]) -> int:
    """The most bytes that the CPU allocator has given out during a run beyond those from before it.

    By the allocator's own events, so code that torch.compile made counts like any other. What is freed in the run but
    was there before it counts as nothing, not as a gain.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    held: dict[int, int] = {}
    most = now = 0
    for event in _memory_events(found):
        address, size = event
        if size > 0:
            held[address] = size
            now += size
            most = max(most, now)
        elif address in held:
            now -= held.pop(address)
    return most


def _memory_events(found: profile) -> list[tuple[int, int]]:
    """(address, bytes) of each allocation, negative for what was freed, in order of time."""
    profiler: Any = found.profiler
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
