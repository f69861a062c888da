"""One batch of a cell under PyTorch's profiler: a trace, and what takes the time and why. Nothing here is a timing."""

import json
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile, supported_activities

from bench.hardware.layer_profile import Layers, Needs, OperatorCost, RowKey, explain
from bench.hardware.peaks import PROBED, fastest, peaks
from bench.harness.suite_spec import Values
from bench.results.records import Cell, canonical, write_atomic
from bench.speed.knob_suite import as_lengths
from bench.videos.generator import Generator
from bench.videos.knobs.settings import devices_of
from bench.videos.length_suite import read_prompts
from bench.videos.plan import GIVEN, steps_of
from vidrd.pocket.changes import draw_changes, prompt_of
from vidrd.pocket.world import TEST_SEEDS, caption, draw_scene

MOST = 10  # operators that are named
PASSES = 2  # batches before the profiled one
STAGES = ("text", "denoise", "decode")
VIDEOS = ("pocket", "lengths", "changes", "long", "knobs")  # workloads whose cells can be profiled
PROFILE = "profile.json"


def trace(cell: Cell, folder: Path) -> str:
    """Profile one batch; return the table of the operators that take the most time.

    Leaves trace.json.gz (Chrome's format, with a range for every stage, step and layer), profile.json (all operators by
    stage and layer, and a flame graph) and kernels.md. With CUDA, the profiled batch lies between cudaProfilerStart and
    cudaProfilerStop and the ranges of stages and steps are NVTX ranges too, so that
    `nsys profile --capture-range=cudaProfilerApi` sees just that batch.

    Raises:
        ValueError: the cell does not make videos by a network.
    """
    values = as_lengths(cell.values)
    if cell.workload not in VIDEOS or values["method"] in GIVEN:
        raise ValueError("only cells whose videos a network makes can be profiled: choose another (see --dry-run)")
    if devices_of(values) > 1:
        raise ValueError(f"a profile is of one device: got gpus={values['gpus']}, choose the cell of gpus=1")
    generator = Generator(values, ranges=True)
    prompts, steps = _prompts(cell, generator.batch), steps_of(values)

    def make() -> None:
        generator.make(prompts, 0, steps)

    if generator.cache is not None and not generator.cache.calibrated:
        generator.cache.calibrate(make)
    layers = Layers([] if values.get("compile") == "whole" else generator.model.networks().values())
    folder.mkdir(parents=True, exist_ok=True)
    best = peaks(generator.device)
    with layers.ranges():
        for _ in range(PASSES):
            make()
        profiled, cuda = _profiled(make, generator.device)
        needs = Needs(lambda: generator.stopwatch.running, layers, best)
        needs.run(make)
    partial = folder / ".part.json.gz"
    profiled.export_chrome_trace(str(partial))
    partial.replace(folder / "trace.json.gz")
    call = fastest(lambda: torch.empty(0).detach(), "cpu", PROBED)
    rows, flame = explain(profiled, needs.rows, cuda=cuda, call_seconds=call, stages=STAGES)
    order = sorted(rows, key=lambda key: -rows[key].seconds)
    total = sum(row.seconds for row in rows.values())
    content: dict[str, Any] = {
        "workload": cell.workload,
        "values": dict(cell.values),
        "what": "kernels of the GPU" if cuda else "operators on the CPU",
        "seconds": total,
        "rows": [_row(key, rows[key]) for key in order],
        "flame": flame,
    }
    write_atomic(folder / PROFILE, json.dumps(content, allow_nan=False))
    write_atomic(folder / "cell.json", canonical({"workload": cell.workload, "values": dict(cell.values)}) + "\n")
    table = kernel_table(content["rows"][:MOST], total)
    write_atomic(folder / "kernels.md", _page(cell.values, table, str(content["what"])))
    return table


def _prompts(cell: Cell, batch: int) -> list[str]:
    """The prompts of a cell's first batch."""
    values = cell.values
    if cell.workload == "changes":
        frames, segment = int(values["frames"]), int(values["segment"])
        scenes = [draw_changes(seed, -(-frames // segment), segment) for seed in TEST_SEEDS[:batch]]
        return [prompt_of(each, segment) for each in scenes]
    known = read_prompts(str(values["prompts"])) if "prompts" in values else map(caption, map(draw_scene, TEST_SEEDS))
    return list(islice(cycle(known), batch))


def _profiled(make: Any, device: str) -> tuple[profile, bool]:
    """One call under the profiler; whether it recorded kernels of a GPU."""
    on_gpu, cuda = device == "cuda", device == "cuda" and ProfilerActivity.CUDA in supported_activities()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.cudart().cudaProfilerStart()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, record_shapes=True) as profiled:
        make()
        if on_gpu:
            torch.cuda.synchronize()
    if on_gpu:
        torch.cuda.cudart().cudaProfilerStop()
    return profiled, cuda


def _row(key: RowKey, cost: OperatorCost) -> dict[str, Any]:
    """An operator for profile.json; its seconds, and those that the machine needs."""
    return {
        **key._asdict(),
        "kernel": max(cost.kernels, key=lambda name: cost.kernels[name], default=""),
        "calls": cost.calls,
        "seconds": cost.seconds,
        "launch": cost.launch,
        "flops": cost.flops,
        "arithmetic": cost.arithmetic,
        "bytes": cost.bytes,
        "memory": cost.memory,
        "share": cost.share,
        "limit": cost.limit,
    }


def kernel_table(rows: Sequence[dict[str, Any]], total: float) -> str:
    """Rows of profile.json as a Markdown table; `total`: seconds of all operators."""
    body = [
        (
            row["stage"], row["layer"], f"`{row['operator']}`", f"`{row['kernel'][:60]}`", row["calls"],
            f"{1e3 * row['seconds']:.3f}", f"{row['seconds'] / total:.1%}",
            f"{row['flops'] / 1e9:.3f}" if row["flops"] else "",
            "" if row["share"] is None else f"{row['share']:.0%}", row["limit"],
        )
        for row in rows
    ]  # fmt: skip
    heads = ("stage", "layer", "operator", "kernel", "calls", "ms", "share", "GFLOP", "of bound", "limited by")
    return tabulate(body, headers=heads, tablefmt="pipe", disable_numparse=True)


def _page(values: Values, table: str, what: str) -> str:
    described = ", ".join(f"{name} {value}" for name, value in values.items())
    return (
        f"# Kernels of one batch\n\n{described}\n\nTime of {what}. The profiler slows everything down: shares mean "
        f"something, times little. docs/harness.md explains the columns.\n\n{table}\n"
    )
