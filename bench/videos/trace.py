"""One batch of a cell under PyTorch's profiler: a trace to look at and a table of kernels. Nothing here is a timing."""

from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile

from bench.harness.suite_spec import Values
from bench.results.records import Cell, canonical, write_atomic
from bench.videos.generator import Generator
from bench.videos.length_suite import read_prompts
from bench.videos.plan import GIVEN, steps_of
from vidrd.pocket.world import TEST_SEEDS, caption, draw_scene

MOST = 40  # rows of the table
PASSES = 2  # batches before the profiled one


def trace(cell: Cell, folder: Path) -> str:
    """Write trace.json.gz (Chrome's format, with a range for every stage and step) and kernels.md; return the table.

    With CUDA, the profiled batch lies between cudaProfilerStart and cudaProfilerStop and its ranges are NVTX ranges
    too, so that `nsys profile --capture-range=cudaProfilerApi` sees just that batch.

    Raises:
        ValueError: the cell does not make videos by a network.
    """
    values = cell.values
    if cell.workload not in ("pocket", "lengths") or values["method"] in GIVEN:
        raise ValueError("only cells whose videos a network makes can be profiled: choose another (see --dry-run)")
    generator = Generator(values, ranges=True)
    known = read_prompts(str(values["prompts"])) if "prompts" in values else map(caption, map(draw_scene, TEST_SEEDS))
    prompts = list(islice(cycle(known), generator.batch))
    steps = steps_of(values)
    for _ in range(PASSES):
        generator.make(prompts, 0, steps)
    cuda = generator.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.cudart().cudaProfilerStart()
    with profile(activities=activities, record_shapes=True, with_flops=True) as found:
        generator.make(prompts, 0, steps)
        if cuda:
            torch.cuda.synchronize()
    if cuda:
        torch.cuda.cudart().cudaProfilerStop()
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".part.json.gz"
    found.export_chrome_trace(str(partial))
    partial.replace(folder / "trace.json.gz")
    table = kernels(found, cuda=cuda, ranges=("text", "denoise", "decode"))
    write_atomic(folder / "kernels.md", _page(values, table, cuda=cuda))
    write_atomic(folder / "cell.json", canonical({"workload": cell.workload, "values": dict(values)}) + "\n")
    return table


def kernels(found: profile, *, cuda: bool, ranges: tuple[str, ...]) -> str:
    """Time, calls, share and FLOPs of every kernel (on a CPU: operator), the longest first, as a Markdown table."""
    rows = []
    for event in found.key_averages():
        if event.key.split(" ")[0] in ranges:  # a range holds operators, it is none
            continue
        on_gpu = event.device_type.name == "CUDA"
        if on_gpu != cuda:
            continue
        seconds = (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
        rows.append((event.key, event.count, seconds, float(event.flops or 0)))
    rows.sort(key=lambda row: -row[2])
    whole = sum(row[2] for row in rows) or 1.0

    def line(name: str, calls: int, seconds: float, flops: float) -> tuple[Any, ...]:
        return name, calls, f"{1e3 * seconds:.3f}", f"{seconds / whole:.1%}", f"{flops / 1e9:.3f}" if flops else ""

    shown = [line(f"`{name[:100]}`", *row) for name, *row in rows[:MOST]]
    rest = rows[MOST:]
    if rest:
        shown.append(line(f"{len(rest)} more", *map(sum, list(zip(*rest, strict=True))[1:])))
    return tabulate(shown, headers=("kernel" if cuda else "operator", "calls", "ms", "share", "GFLOP"), tablefmt="pipe")


def _page(values: Values, table: str, *, cuda: bool) -> str:
    said = ", ".join(f"{name} {value}" for name, value in values.items())
    where = "on the GPU" if cuda else "in operators on the CPU, without those they call"
    return (
        f"# Kernels of one batch\n\n{said}\n\nTime is spent {where}; GFLOP as PyTorch's profiler counts them (products "
        f"and convolutions). The profiler slows everything down: shares mean something, times little.\n\n{table}\n"
    )
