"""What large runs cost on 1, 8 and 64 GPUs, and which part stops scaling first: the tables of docs/scale.md.

    python -m bench.studies.scale                # the page's tables, from what is kept in reports/measured/scale.json
    python -m bench.studies.scale --count        # count the networks' work anew, on the meta device
    python -m bench.studies.scale --check        # 40 tiny cells on two workers, next to the simulation of them

A run is a list of stages. The pieces of a stage go, in their order, to whichever worker is free first, as
`bench.harness.cell_pool` and `vidrd.resumable_pool` do it; cells wait for what they are compared with (`waves`).
"""

import heapq
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tabulate import tabulate

from bench.hardware.machine import ROOT, machine
from bench.hardware.peaks import NOMINAL
from bench.hardware.threads import pin_to
from bench.harness.cell_pool import CellJob, cores_of, waves
from bench.harness.cell_process import Task, task_of
from bench.harness.identity import identify
from bench.harness.progress import say
from bench.harness.suite_spec import PlannedCell, override, plan
from bench.results.records import Cell, write_atomic
from bench.workloads import WORKLOADS
from vidrd.entry import obey
from vidrd.resumable_pool import Pool, run_locally

KEPT = ROOT / "reports" / "measured" / "scale.json"
WORKERS = (1, 8, 64)
TFLOP = 1e12
# The two networks of Wan 2.1 (arXiv 2503.20314, table 2); all else is as in diffusers' defaults.
WAN = {
    "1.3B": {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960},
    "14B": {"num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13824},
}
STEPS = {"1.3B": 50, "14B": 20}  # of VBench's videos, and of a sweep's


@dataclass(frozen=True)
class Rate:
    """A figure that a cost rests on, and where it is from."""

    value: float
    unit: str
    source: str


H200 = NOMINAL["H200"]["bfloat16"] / TFLOP
RATES: Mapping[str, Rate] = {
    "arithmetic of an H200 in bf16": Rate(H200, "TFLOP/s", "nominal: data sheet, dense"),
    "share of it that networks reach": Rate(0.5, "", "assumed: published figures of SDXL and FLUX are 0.3 to 0.7"),
    "reading weights, a worker": Rate(2.0, "GB/s", "assumed"),
    "reading weights, all workers together": Rate(20.0, "GB/s", "assumed: shared storage"),
    "start of a worker or cell": Rate(15.0, "s", "assumed: interpreter, libraries, CUDA"),
    "decoding and resizing a clip": Rate(0.0222, "s", "measured: 2 cores, reports/measured/cpu-metrics"),
    "work of I3D and C3D on a clip, float32": Rate(0.094, "TFLOP", "counted: 55.6 and 38.5 GFLOP"),
    "arithmetic of an H200 in float32": Rate(67.0, "TFLOP/s", "nominal"),
    "distances and intervals of a table": Rate(8.0, "s", "measured: 0.35 ms a row on 2 cores, 23,320 rows"),
    "checking a finished video, in one process": Rate(
        0.002, "s", "measured: 1.1 ms to hash a lossless file of 1.6 MB; the rest, to read it, is assumed"
    ),
    "all dimensions of VBench on a video": Rate(20.0, "s", "assumed: no GPU has been measured"),
    "slowest to fastest cell of a sweep": Rate(2.0, "x", "assumed"),
}


@dataclass(frozen=True)
class RunPart:
    """A part of a run.

    Args:
        name: what it does.
        tasks: groups of pieces' seconds; a group begins when the one before it is done.
        start: seconds of a worker before its first piece of a group.
        serial: seconds in which one process works and all others wait.
    """

    name: str
    tasks: tuple[tuple[float, ...], ...]
    start: float = 0.0
    serial: float = 0.0


def finish(groups: Iterable[Sequence[float]], workers: int, start: float = 0.0) -> float:
    """Seconds until all pieces are done: each goes to the worker that is free first.

    Args:
        groups: seconds of pieces; a group begins when the one before it is done.
        workers: how many pieces are done at a time.
        start: seconds of a worker before its first piece of a group.
    """
    now = 0.0
    for group in groups:
        free = [now + start] * min(workers, len(group))
        for seconds in group:
            heapq.heapreplace(free, free[0] + seconds)
        now = max(free, default=now)
    return now


def hours(stages: Sequence[RunPart], workers: int) -> float:
    """Of a whole run."""
    return sum(finish(stage.tasks, workers, stage.start) + stage.serial for stage in stages) / 3600


def losses(stages: Sequence[RunPart], workers: int) -> dict[str, float]:
    """Hours that the run takes longer than its pieces divided by the workers, by cause."""
    lost = dict.fromkeys(("waiting for a reference", "starting", "one process", "last pieces"), 0.0)
    for stage in stages:
        joined = (tuple(seconds for group in stage.tasks for seconds in group),)
        whole = finish(stage.tasks, workers, stage.start)
        bare = finish(stage.tasks, workers)
        together = finish(joined, workers)
        lost["starting"] += whole - bare
        lost["waiting for a reference"] += bare - together
        lost["last pieces"] += together - sum(joined[0]) / workers
        lost["one process"] += stage.serial
    return {cause: seconds / 3600 for cause, seconds in lost.items()}


def runs(work: Mapping[str, float], workers: int) -> dict[str, list[RunPart]]:
    """The three runs on so many GPUs.

    Args:
        work: TFLOP of a network's videos, as `counted` has it.
        workers: on whom the rate of shared storage depends.
    """
    rate = {name: each.value for name, each in RATES.items()}
    bf16 = rate["arithmetic of an H200 in bf16"] * rate["share of it that networks reach"]
    reading = min(rate["reading weights, a worker"], rate["reading weights, all workers together"] / workers)
    begin = rate["start of a worker or cell"]
    clip = rate["decoding and resizing a clip"] + rate["work of I3D and C3D on a clip, float32"] / (
        rate["arithmetic of an H200 in float32"] * rate["share of it that networks reach"]
    )
    check = rate["checking a finished video, in one process"]
    ucf = [
        RunPart("10,000 videos", (_blocks(10_000, work["vidrd"] / bf16),), begin + work["vidrd GB"] / reading,
              10_000 * check),
        RunPart("features of 23,320 clips", (_blocks(23_320, clip),), begin),
        RunPart("scores", ((0.0,),), serial=rate["distances and intervals of a table"]),
    ]  # fmt: skip
    vbench = [
        RunPart("4,730 videos", (_blocks(4_730, work["1.3B"] / bf16, 1),), begin + work["1.3B GB"] / reading,
              4_730 * check),
        RunPart("16 dimensions", (_pieces(4_730, rate["all dimensions of VBench on a video"], 4 * workers),), begin),
    ]  # fmt: skip
    load = begin + work["14B GB"] / reading
    slowest = 5 * work["14B"] / bf16  # four videos, and as much as one to warm up
    spread = rate["slowest to fastest cell of a sweep"]
    cells = [load + slowest * (1 - (1 - 1 / spread) * number / 99) for number in range(100)]
    sweep = [RunPart("100 cells", tuple(_timed(_knob_tasks(), cells)))]
    return {"UCF-101 table": ucf, "VBench run": vbench, "sweep of a 14B model": sweep}


def _blocks(videos: int, seconds: float, batch: int = 8) -> tuple[float, ...]:
    """Seconds of each batch."""
    return tuple(min(batch, videos - first) * seconds for first in range(0, videos, batch))


def _pieces(videos: int, seconds: float, pieces: int) -> tuple[float, ...]:
    return (videos * seconds / pieces,) * pieces


def _knob_tasks() -> list[Task]:
    """A plain cell, and 99 that are compared with it."""
    planned = [PlannedCell(Cell("knobs", {"setting": number}), False, None, 1.0) for number in range(100)]
    return [Task(item, planned[0].cell.id if number else None, ()) for number, item in enumerate(planned)]


def _timed(tasks: Sequence[Task], seconds: Sequence[float]) -> list[tuple[float, ...]]:
    """The seconds of tasks, in the waves of the real scheduler."""
    of = {task.item.cell.id: each for task, each in zip(tasks, seconds, strict=True)}
    return [tuple(of[task.item.cell.id] for task in wave) for wave in waves(tasks)]


def counted() -> dict[str, float]:
    """TFLOP of one video of each network, and GB of its weights in bf16, counted on the meta device."""
    import torch  # noqa: PLC0415  (the tables need none)

    from bench.hardware.roofline import count  # noqa: PLC0415
    from bench.ucf101.plan import make_plan  # noqa: PLC0415
    from vidrd.models.unet import UNet3DConditionModel  # noqa: PLC0415
    from vidrd.models.vae import AutoencoderKLTemporal  # noqa: PLC0415

    planned = make_plan("vidrd-10k", {}, model={"folder": "", "sha256": ""}, clip=8, precision="bf16", batch=8, limit=1)
    with torch.device("meta"):
        unet, vae = UNet3DConditionModel().eval(), AutoencoderKLTemporal().eval()
        latents, text = torch.empty(2, 4, 8, 32, 32), torch.empty(2, 77, unet.config.cross_attention_dim)
        step = count(lambda: unet(latents, torch.empty((), dtype=torch.int64), encoder_hidden_states=text)).flops
        frames = torch.empty(planned.frames, 4, 32, 32)
        decoding = count(lambda: vae.decode(frames, num_frames=planned.frames)).flops
    work = {
        "vidrd": (step / 16 * planned.fe("vidrd") + decoding) / TFLOP,
        "vidrd GB": 2 * sum(p.numel() for net in (unet, vae) for p in net.parameters()) / 1e9 + 0.7,  # and its text's
    }
    with tempfile.TemporaryDirectory() as folder:
        for size in WAN:
            work |= _wan(size, Path(folder))
    return work


def _wan(size: str, folder: Path) -> dict[str, float]:
    """A video of 81 frames of 480 x 832, as `bench run --dry-run` predicts it from the configuration alone."""
    from bench.videos.length_suite import LENGTHS, settle  # noqa: PLC0415
    from bench.videos.length_suite import fill as filled  # noqa: PLC0415
    from bench.videos.predict import Chosen, predict, without_weights  # noqa: PLC0415

    network = {
        "_class_name": "WanTransformer3DModel", "attention_head_dim": 128, "in_channels": 16, "out_channels": 16,
        "text_dim": 4096, "freq_dim": 256, "patch_size": [1, 2, 2], "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads", **WAN[size],
    }  # fmt: skip
    solver = {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": True}
    parts: dict[str, dict[str, Any]] = {
        "transformer": network, "vae": {"_class_name": "AutoencoderKLWan"}, "scheduler": solver,
    }  # fmt: skip
    index = {"_class_name": "WanPipeline", **{name: ["diffusers", part["_class_name"]] for name, part in parts.items()}}
    index |= {"text_encoder": [None, None], "tokenizer": [None, None]}
    place = folder / size
    for name, part in parts.items():
        (place / name).mkdir(parents=True)
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (place / name / file).write_text(json.dumps(part))
    (place / "model_index.json").write_text(json.dumps(index))
    values = {
        **LENGTHS.fixed, "model": str(place), "frames": 81, "method": "direct", "overlap": 0, "precision": "bf16",
        "steps": STEPS[size], "videos": 1, "device": "cpu",
    }  # fmt: skip
    prediction = predict(filled(settle(values)))
    assert prediction is not None
    model = without_weights(Chosen(str(place), "", "bf16"))
    weights = sum(p.numel() for net in model.networks().values() for p in net.parameters())
    text = 5.68e9  # parameters of UMT5-XXL's encoder
    return {size: prediction.flops / TFLOP, f"{size} GB": 2 * (weights + text) / 1e9}


def check() -> dict[str, Any]:
    """40 tiny cells of the suite `memory` on two cores: how long they took, and what the simulation says."""
    from bench.suites import SUITES  # noqa: PLC0415

    devices = ("cpu:0", "cpu:1")
    pin_to(cores_of(devices[0]))
    suite = override(SUITES["memory"], ["frames=8,16,24,32,40", "steps=2", "device=cpu"])
    identity = identify(suite.files)
    chosen = [item for item in plan(suite, identity.basis) if item.skip is None][:40]
    tasks = [task_of(item, suite) for item in chosen]

    def timed(some: Sequence[Task], workers: int) -> tuple[float, list[float]]:
        with tempfile.TemporaryDirectory() as name:
            job = CellJob(
                identity, suite.files, Path(name), 600, WORKLOADS["growth"], on_gpu=False, began=time.time(), end=None
            )
            began = time.perf_counter()
            done = list(run_locally(job, some, Pool(workers, devices[:workers]), say))
            wall = time.perf_counter() - began
            seconds = {finished.piece.item.cell.id: finished.seconds for finished in done}
            return wall, [seconds[task.item.cell.id] for task in some]

    pilot, seconds = timed(tasks[:2], 2)
    start = pilot - max(seconds)
    _, alone = timed(tasks, 1)
    wall, beside = timed(tasks, 2)
    simulated = {name: finish(_timed(tasks, each), 2, start) for name, each in (("alone", alone), ("beside", beside))}
    return {
        "cells": len(chosen), "workers": 2, "start_seconds": start, "wall_seconds": wall,
        "median_cell_seconds": {"alone": statistics.median(alone), "beside": statistics.median(beside)},
        "simulated_seconds": simulated, "machine": machine()["cpu"], "revision": identity.revision,
    }  # fmt: skip


def tables(kept: Mapping[str, Any]) -> str:
    """The page's tables, in Markdown."""
    work, checked = kept["work"], kept["check"]
    costs, parts, lost = list[Any](), list[Any](), list[Any]()
    for name in runs(work, 1):
        alone = hours(runs(work, 1)[name], 1)
        for workers in WORKERS:
            stages = runs(work, workers)[name]
            whole = hours(stages, workers)
            costs.append((name, workers, f"{whole:.3g}", f"{whole * workers:.4g}", f"{alone / whole / workers:.0%}"))
            shares = losses(stages, workers)
            lost.append((name, workers, *(f"{each / whole:.1%}" for each in shares.values())))
            parts += [(name, workers, stage.name, f"{hours([stage], workers):.3g}") for stage in stages]
    heads = ("run", "GPUs", "hours", "GPU hours", "efficiency")
    causes = tuple(losses(runs(work, 1)["VBench run"], 1))
    networks = [(name, f"{work[name]:,.0f}", f"{work[f'{name} GB']:.3g}") for name in ("vidrd", *WAN)]
    figures = [(name, f"{rate.value:g} {rate.unit}".strip(), rate.source) for name, rate in RATES.items()]
    errors = {name: each / checked["wall_seconds"] - 1 for name, each in checked["simulated_seconds"].items()}
    comparison = (
        f"{checked['cells']} cells of {checked['median_cell_seconds']['beside']:.2f} s (median) on two workers took "
        f"{checked['wall_seconds']:.1f} s. Simulated from these times: {errors['beside']:+.1%}; from the times of the "
        f"same cells on one worker, {checked['median_cell_seconds']['alone']:.2f} s: {errors['alone']:+.1%} "
        f"({checked['machine']}, revision {checked['revision'][:8]})."
    )
    return "\n\n".join([
        _table(costs, heads), _table(lost, ("run", "GPUs", *causes)), _table(parts, ("run", "GPUs", "stage", "hours")),
        _table(networks, ("network", "TFLOP a video", "GB to load")), _table(figures, ("rate", "value", "from")),
        comparison,
    ])  # fmt: skip


def _table(rows: Sequence[Any], heads: Sequence[str]) -> str:
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True)


def main(*, count: bool = False, check_: Annotated[bool, tyro.conf.arg(name="check")] = False) -> None:
    """Print the tables of docs/scale.md.

    Args:
        count: Count the networks' work first, which takes a minute.
        check_: Run 40 tiny cells on two cores first, alone and side by side; takes minutes, on an idle machine.
    """
    kept: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    steps: tuple[tuple[str, bool, Callable[[], Any]], ...] = (("work", count, counted), ("check", check_, check))
    for name, wanted, make in steps:
        if wanted:
            kept[name] = make()
            write_atomic(KEPT, json.dumps(kept, indent=1) + "\n")
    print(tables(kept))


if __name__ == "__main__":
    sys.exit(obey("bench.studies.scale", lambda: tyro.cli(main)))
