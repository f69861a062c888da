"""The peaks of the machine at hand: a matrix product and a copy, measured once and kept with the machine's identity."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.measure.machine import ROOT, machine, software
from bench.measure.physics import Peaks
from bench.record import digest, write_atomic

STORE = ROOT / "runs" / "peaks"
PRODUCTS = {"cpu": (512, 1024, 1536), "cuda": (4096, 8192)}  # rows of square matrices
COPIES = {"cpu": (18, 20, 22, 25, 27), "cuda": (24, 26, 28, 31)}  # log2 of bytes; the last is beyond every cache
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PATIENCE = 0.6  # seconds for each size; a noisy machine must be quiet once in that time
NOMINAL = {  # dense, no sparsity, from the makers' data sheets: for comparison, never a denominator
    "H100": {"float32": 67e12, "bfloat16": 989e12, "float16": 989e12, "memory": 3.35e12},
    "H200": {"float32": 67e12, "bfloat16": 989e12, "float16": 989e12, "memory": 4.8e12},
    "A100": {"float32": 19.5e12, "bfloat16": 312e12, "float16": 312e12, "memory": 2.04e12},
}  # a copy's bytes are reads and writes, as the data sheets count them


def peaks(device: str = "cpu", *, again: bool = False, store: Path = STORE) -> Peaks:
    """The stored peaks of this machine, software and thread count; measured if there are none.

    Args:
        device: "cpu" or "cuda".
        again: measure once more and keep the higher values: asked for when something was faster than the peaks allow.
        store: folder of the files, one for each identity.
    """
    kind = torch.device(device).type
    before = stored(kind, store=store)
    if before is not None and not again:
        return before
    found = measure(kind)
    if before is not None:
        flops = {name: max(value, before.flops.get(name, 0.0)) for name, value in found.flops.items()}
        found = Peaks(flops, max(found.memory, before.memory), max(found.cache, before.cache))
    identity = _identity(kind)
    store.mkdir(parents=True, exist_ok=True)
    written = datetime.now(UTC).isoformat(timespec="seconds")
    path = store / f"{digest(identity)}.json"
    write_atomic(path, json.dumps({"identity": identity, "peaks": found._asdict(), "written": written}, indent=1))
    return found


def stored(device: str = "cpu", *, store: Path = STORE) -> Peaks | None:
    """The peaks that were measured before; None if there are none."""
    path = store / f"{digest(_identity(torch.device(device).type))}.json"
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))["peaks"]
    return Peaks(kept["flops"], kept["memory"], kept["cache"])


def _identity(kind: str) -> dict[str, object]:
    return {"machine": machine(), "software": software(), "device": kind, "threads": torch.get_num_threads()}


def measure(device: str) -> Peaks:
    """Measure the peaks: the fastest of many repeats, since noise only ever slows down."""
    flops = {
        name: max(2 * rows**3 / _product(rows, dtype, device) for rows in PRODUCTS[device])
        for name, dtype in DTYPES.items()
        if device == "cuda" or name != "float16"  # a CPU computes float16 by way of float32
    }
    copies = [2 * 2**power / _copy(2**power, device) for power in COPIES[device]]
    return Peaks(flops, memory=copies[-1], cache=max(copies))


def nominal(gpu: str) -> dict[str, float]:
    """What the data sheet of a GPU says, {} if it is not known here."""
    return next((figures for name, figures in NOMINAL.items() if name in gpu), {})


def _product(rows: int, dtype: torch.dtype, device: str) -> float:
    a, b = (torch.randn(rows, rows, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return _fastest(lambda: torch.mm(a, b, out=out), device)


def _copy(size: int, device: str) -> float:
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    return _fastest(lambda: target.copy_(source), device)


def _fastest(work: Callable[[], object], device: str) -> float:
    """Seconds of one call in the fastest of many bursts; a burst is long enough for the clock."""
    sync = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    best, calls, began = float("inf"), 1, time.perf_counter()
    work()
    while time.perf_counter() - began < PATIENCE:
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
