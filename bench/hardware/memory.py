"""Peak bytes of this process. Every reading has its own name, for they answer different questions."""

import resource
import sys
from pathlib import Path
from typing import NamedTuple


class MemoryReading(NamedTuple):
    """Bytes and the name of their source, or None and the reason why there are none."""

    bytes: int | None
    source: str


def process_peak() -> MemoryReading:
    """Largest resident set of this process so far: everything it touched, Python and libraries included.

    Linux's own mark of the address space (VmHWM) is preferred: `ru_maxrss` there also counts the largest size of the
    process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return MemoryReading(int(line.split()[1]) * 1024, "VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return MemoryReading(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "ru_maxrss")


def allocator_peaks(device: str) -> tuple[MemoryReading, MemoryReading]:
    """Largest bytes that tensors held, and that the caching allocator held for them, since the last reset."""
    import torch  # noqa: PLC0415  (the readings above need no torch)

    if torch.device(device).type != "cuda":
        none = MemoryReading(None, f"PyTorch's caching allocator does not serve {device}")
        return none, none
    return (
        MemoryReading(torch.cuda.max_memory_allocated(device), "torch.cuda.max_memory_allocated"),
        MemoryReading(torch.cuda.max_memory_reserved(device), "torch.cuda.max_memory_reserved"),
    )


def memory_kills() -> int:
    """How many processes Linux has killed for want of memory since it started; 0 on systems that do not count them."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
