"""The peaks of this machine: matrix products and copies, measured once and kept with the machine's identity.

A peak has to bound everything that the machine can do in that precision, so it is the best rate by any route: of
several shapes, and of float32, by way of which a reduced precision may be computed. If an operation of a cell is faster
than a peak allows, the peak is doubted first: `raised` lifts it to the rate that was reached.
"""

import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.hardware.machine import ROOT, machine, software
from bench.hardware.roofline import Peaks
from bench.results.records import digest, write_atomic
from vidrd.precision import PRECISIONS, why_emulated

STORE = ROOT / "runs" / "peaks"
PRODUCTS = {  # rows, inner dimension, columns of the products: square ones, and those of layers with many rows
    "cpu": ((512, 512, 512), (1024, 1024, 1024), (1536, 1536, 1536), (8192, 256, 256), (16384, 64, 576)),
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192), (65536, 1024, 1024)),
}
COPIES = {"cpu": (18, 20, 22, 25, 27), "cuda": (24, 26, 28, 31)}  # log2 of bytes; the last is beyond every cache
PATIENCE = 0.3  # seconds for each size; a noisy machine must be quiet once in that time
PROBED = 0.02  # seconds for an operator of a cell that is timed alone
NOMINAL = {  # dense, no sparsity, from the makers' data sheets: for comparison, never a denominator
    "H100": {"float32": 67e12, "bfloat16": 989e12, "float16": 989e12, "memory": 3.35e12},
    "H200": {"float32": 67e12, "bfloat16": 989e12, "float16": 989e12, "memory": 4.8e12},
    "A100": {"float32": 19.5e12, "bfloat16": 312e12, "float16": 312e12, "memory": 2.04e12},
}  # a copy's bytes are reads and writes, as the data sheets count them


def peaks(device: str = "cpu", *, again: bool = False, store: Path = STORE) -> Peaks:
    """The stored peaks of this machine, software and thread count; measured if there are none.

    Args:
        device: "cpu" or "cuda".
        again: measure once more and keep the higher values; for when something was faster than the peaks allow.
        store: folder of the files, one for each identity.
    """
    kind = torch.device(device).type
    before = stored(kind, store=store)
    if before is not None and not again:
        return before
    return _keep(kind, _higher(measure(kind), before), store)


def raised(device: str, rates: Peaks, *, store: Path = STORE) -> Peaks:
    """The peaks of this machine, lifted to rates that operations reached on it, and stored.

    Args:
        device: "cpu" or "cuda".
        rates: what single operations reached; 0 where none was measured.
        store: folder of the files.
    """
    kind = torch.device(device).type
    return _keep(kind, _higher(peaks(device, store=store), rates), store)


def _higher(one: Peaks, other: Peaks | None) -> Peaks:
    if other is None:
        return one
    names = dict.fromkeys([*one.flops, *other.flops])
    flops = {name: max(one.flops.get(name, 0.0), other.flops.get(name, 0.0)) for name in names}
    return Peaks(flops, max(one.memory, other.memory), max(one.cache, other.cache))


def _keep(kind: str, best: Peaks, store: Path) -> Peaks:
    identity = _identity(kind)
    store.mkdir(parents=True, exist_ok=True)
    written = datetime.now(UTC).isoformat(timespec="seconds")
    path = store / f"{digest(identity)}.json"
    write_atomic(path, json.dumps({"identity": identity, "peaks": best._asdict(), "written": written}, indent=1))
    return best


def stored(device: str = "cpu", *, store: Path = STORE) -> Peaks | None:
    """The stored peaks; None if there are none.

    Raises:
        ValueError: the file that should hold them does not.
    """
    path = store / f"{digest(_identity(torch.device(device).type))}.json"
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["peaks"]
        return Peaks(dict(kept["flops"]), float(kept["memory"]), float(kept["cache"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no peaks ({error!r}): remove it, and they are measured anew") from None


def _identity(kind: str) -> dict[str, object]:
    return {"machine": machine(), "software": software(), "device": kind, "threads": torch.get_num_threads()}


def measure(device: str) -> Peaks:
    """Measure the peaks: the fastest of many repeats, since noise only ever slows down.

    A dtype's own products are timed where the device computes in it natively; emulated ones would take minutes to show
    a rate that is no bound, since the same arithmetic may also go by way of float32.
    """
    flops = {"float32": _fastest_product(torch.float32, device)}
    for name, precision in (("bfloat16", "bf16"), ("float16", "fp16")):
        native = why_emulated(precision, device) is None
        own = _fastest_product(PRECISIONS[precision].compute, device) if native else 0.0
        flops[name] = max(own, flops["float32"])
    copies = [2 * 2**power / _copy(2**power, device) for power in COPIES[device]]
    return Peaks(flops, memory=copies[-1], cache=max(copies))


def nominal(gpu: str) -> dict[str, float]:
    """The data sheet's peaks of a GPU, by dtype and "memory"; {} for a GPU that `NOMINAL` does not list."""
    return next((figures for name, figures in NOMINAL.items() if name in gpu), {})


def _fastest_product(dtype: torch.dtype, device: str) -> float:
    """FLOP a second of the fastest product of all shapes."""
    return max(2 * math.prod(shape) / _product(shape, dtype, device) for shape in PRODUCTS[device])


def _product(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> float:
    """Seconds of one product."""
    rows, inner, columns = shape
    a, b = (torch.randn(size, device=device).to(dtype) for size in ((rows, inner), (inner, columns)))
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    return fastest(lambda: torch.mm(a, b, out=out), device)


def _copy(size: int, device: str) -> float:
    """Seconds of one copy of so many bytes."""
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    return fastest(lambda: target.copy_(source), device)


def fastest(work: Callable[[], object], device: str, patience: float | None = None) -> float:
    """Seconds of one call in the fastest of many bursts, each long enough for the clock; finite and above 0.

    Args:
        work: the call.
        device: "cpu" or "cuda", which the clock waits for.
        patience: seconds in which bursts begin; None: `PATIENCE`. However slow the machine is, one burst is completed.
    """
    sync = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    work()
    best, calls, began = float("inf"), 1, time.perf_counter()
    while not math.isfinite(best) or time.perf_counter() - began < (PATIENCE if patience is None else patience):
        sync()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        sync()
        seconds = time.perf_counter() - start
        if seconds < 1e-3:
            calls *= 2
        else:
            best = min(best, seconds / calls)
    return best
