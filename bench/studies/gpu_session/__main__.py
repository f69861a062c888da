"""All speed work that needs a GPU, in one command and ten minutes, with records to keep.

    python -m bench.studies.gpu_session --out reports/measured

The most important part comes first. Each part may take all the time except the reserves of the later ones; a part that
no longer fits is left out and named. The results are in OUT/DEVICE-DATE: machine, versions and revision in about.json,
the records of each suite, whole clips in clips.json, ladders as they were after their last round, steps of training in
train.json, UCF-101's videos in ucf101.json, the kernels of a step in kernels.md. `--device cpu --model tiny` tries the
script in a few minutes.
"""

import gc
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from torch.profiler import ProfilerActivity, profile

from bench.hardware.machine import ROOT, machine, revision, software
from bench.results.records import write_atomic
from bench.speed.cell import LADDER
from bench.speed.models import MODELS
from bench.speed.variants import VARIANTS, ModelOnDevice
from bench.studies.gpu_session.clip_time import clip_time
from bench.studies.gpu_session.train_steps import train_time
from bench.studies.gpu_session.video_rate import video_rate
from bench.ucf101.plan import Precision
from bench.videos.trace import kernels
from vidrd.entry import obey

WAYS = (  # (compiled, clips in one call) of whole clips, the goal's own first
    (True, 1),
    (True, 4),
    (False, 1),
)
STARTING = 15  # seconds of a suite before its first cell and after its last one
BATCHES = (1, 2, 4)  # clips of a step of training, as long as they fit the memory
PARTS = ("clips", "speed", "train", "kernels", "ucf101", "memory", "approximations", "pocket")


class Part(NamedTuple):
    """A part of the session. `reserve`: seconds that are kept for it; with fewer left it is not begun."""

    name: str
    reserve: float | int
    work: Callable[[float], str]  # seconds it may take -> summary; raises if it failed


def main(
    out: Path = Path("reports") / "measured",
    model: str = "full",
    device: str = "cuda",
    minutes: float = 10.0,
    steps: int = 50,
    rounds: int = 8,
    frames: tuple[int, ...] = (16, 32, 64, 128, 256),
    parts: tuple[str, ...] = PARTS,
) -> int:
    """Run the parts that fit the time; 0 if all were run, 2 if one failed, 4 if one no longer fitted the time.

    Args:
        out: The records go into a folder of this one, named by device and date.
        model: Size of the network.
        device: cuda, or cpu to try the script.
        minutes: For everything.
        steps: Of whole clips.
        rounds: Of the ladder, at most.
        frames: Lengths whose memory is measured.
        parts: Which parts to run, in this order.
    """
    if device == "cuda" and not torch.cuda.is_available():
        print(
            "bench.studies.gpu_session: no CUDA device was found; --device cpu --model tiny tries the script",
            file=sys.stderr,
        )
        return 3
    ends = time.monotonic() + 60 * minutes
    folder = _folder(out, device)
    every = {part.name: part for part in _parts(folder, model, device, steps, rounds, frames)}
    unknown = sorted({*parts} - {*every})
    if unknown:
        raise ValueError(f"there is no part {unknown[0]!r}: there are {', '.join(every)}")
    summaries: dict[str, str] = {}
    failed = late = False
    for number, name in enumerate(parts):
        seconds = ends - time.monotonic()
        began = time.monotonic()
        if seconds < every[name].reserve:
            summaries[name] = f"left out: it takes {every[name].reserve:g} s and {max(seconds, 0):.0f} were left"
            late = True
        else:
            kept = sum(every[later].reserve for later in parts[number + 1 :])
            share = max(every[name].reserve, seconds - kept)
            try:
                summaries[name] = f"{every[name].work(share)} ({time.monotonic() - began:.0f} s)"
            except Exception as error:  # the other parts are still worth having
                line = next((text.strip() for text in str(error).splitlines() if text.strip()), "no message")
                summaries[name], failed = f"failed: {type(error).__name__}: {line}", True
        _release(device)
        print(f"{name}: {summaries[name]}", flush=True)
        _about(folder, summaries, model, device)
    print(folder)
    return 2 if failed else 4 if late else 0


def _parts(folder: Path, model: str, device: str, steps: int, rounds: int, frames: Sequence[int]) -> list[Part]:
    quick = device == "cpu"  # only to see that it works

    def suite(name: str, file: str, *settings: str) -> Callable[[float], str]:
        return lambda left: _suite(folder, name, file, settings, left)

    lengths = ",".join(map(str, frames))
    precision: Precision = "fp32" if quick else "bf16"
    on, compiled = f"device={device}", f"compiled={not quick}"
    return [
        Part("clips", 0 if quick else 75, lambda left: _clips(folder, model, device, precision, steps, left)),
        Part(
            "speed", 0 if quick else 150,
            suite(
                "speed", "speed.json", f"model={model}", on, compiled, f"rounds={rounds}",
                f"seconds={5 if quick else 60}",
            ),
        ),
        Part("train", 0 if quick else 60, lambda left: _train(folder, model, device, left)),
        Part("kernels", 0 if quick else 20, lambda left: _kernels(folder, model, device, precision)),
        Part("ucf101", 0 if quick else 75, lambda left: _videos(folder, model, device, precision, steps, left)),
        Part(
            "memory", 0 if quick else 60,
            suite(
                "memory", "memory.json", f"model={model}", on, f"frames={lengths}", "method=vidrd,direct", "steps=2",
                f"overlap={MODELS[model].frames // 4}", f"precision={precision}",
            ),
        ),
        Part(
            "approximations", 0 if quick else 60,
            suite(
                "approximations", "approximations.json", on, "approximation=fp8,bf16,exact",
                *(("videos=4", "batch=2", "steps=2") if quick else ()),
            ),
        ),
        Part(
            "pocket", 0 if quick else 50,
            suite("speed", "speed-pocket.json", "model=pocket", on, compiled, f"rounds={rounds}", "seconds=20"),
        ),
    ]  # fmt: skip


def _suite(folder: Path, name: str, file: str, settings: Sequence[str], seconds: float) -> str:
    """Run a suite in a process of its own and keep its records.

    Raises:
        RuntimeError: it left none.
    """
    place = folder / "runs" / Path(file).stem
    place.parent.mkdir(exist_ok=True)
    options = [word for setting in settings for word in ("--set", setting)]
    command = ["run", "--suite", name, *options, "--out", str(place), "--json", str(folder / file)]
    budget = ["--timeout", f"{max(seconds - STARTING, 1):.0f}", "--max-minutes", f"{seconds / 60:.2f}"]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.run(
        [sys.executable, "-m", "bench", *command, *budget],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    write_atomic(folder / f"{Path(file).stem}.log", process.stdout + process.stderr)
    for ladder in place.glob(f"cells/*/{LADDER}"):  # also of a cell whose time was up
        shutil.copyfile(ladder, folder / f"{Path(file).stem}-{LADDER}")
    if not (folder / file).exists():
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        raise RuntimeError(lines[-1] if lines else f"bench run ended with {process.returncode}")
    records = json.loads((folder / file).read_text(encoding="utf-8"))["records"]
    counts: dict[str, int] = {}
    for record in records:
        counts[record["attempt"]["status"]] = counts.get(record["attempt"]["status"], 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def _clips(folder: Path, model: str, device: str, precision: str, steps: int, seconds: float) -> str:
    """Whole clips, the ways in their order as long as there is time for one more."""
    began, last, times = time.monotonic(), 0.0, list[dict[str, Any]]()
    for compiled, clips in WAYS:
        before = time.monotonic()
        if before - began + last > seconds:
            break
        if device == "cpu" and compiled:
            continue  # a trial of the script need not wait for a compiler
        times.append(asdict(clip_time(model, device, precision, compiled=compiled, clips=clips, steps=steps)))
        write_atomic(folder / "clips.json", json.dumps(times, indent=1, allow_nan=False))
        last = time.monotonic() - before
    return "; ".join(
        f"{min(each['seconds']):.3g} s a clip of {each['frames']} frames, {each['clips']} at a time"
        f"{', compiled' if each['compiled'] else ''}, {each['verdict']}, at least {each['least']:.2g}"
        for each in times
    )


def _train(folder: Path, model: str, device: str, seconds: float) -> str:
    """Steps of training, ever larger batches as long as they fit memory and time."""
    began, last, times = time.monotonic(), 0.0, list[dict[str, Any]]()
    ended = ""
    for batch in BATCHES:
        before = time.monotonic()
        if before - began + 2 * last > seconds:
            ended = f"; no time for {batch}"
            break
        try:
            times.append(asdict(train_time(model, device, batch, folder / "runs" / f"train-{batch}")))
        except torch.OutOfMemoryError as error:
            if not times:
                raise
            ended = f"; {batch} at a time do not fit: {str(error).splitlines()[0]}"
            break
        write_atomic(folder / "train.json", json.dumps(times, indent=1, allow_nan=False))
        last = time.monotonic() - before
    text = "; ".join(
        f"{each['batch']} at a time: {each['steps_per_second']:.3g} steps/s, {each['peak_bytes'] / 2**30:.3g} GiB, "
        f"{each['share']:.0%} of the bound"
        for each in times
    )
    return text + ended


def _videos(folder: Path, model: str, device: str, precision: Precision, steps: int, left: float) -> str:
    """Videos of UCF-101's prompts from text to file: how many an hour."""
    place = folder / "runs" / "ucf101"
    rate = video_rate(
        model, device, precision, place, videos=4 if device == "cpu" else 64, batch=2 if device == "cpu" else 8,
        compiled=device != "cpu", steps=steps, seconds=left,
    )  # fmt: skip
    shutil.rmtree(place, ignore_errors=True)  # noise: the weights are drawn
    write_atomic(folder / "ucf101.json", json.dumps(asdict(rate), indent=1, allow_nan=False))
    return (
        f"{rate.videos} videos, {rate.per_hour:.4g} an hour, 10,000 in {rate.hours_for_10000:.3g} hours; random "
        "weights, scoring not counted"
    )


def _kernels(folder: Path, model: str, device: str, precision: str) -> str:
    """One step of our network, not compiled, under the profiler: the kernels by time."""
    cuda = device == "cuda"
    variant = VARIANTS["guidance"]._replace(precision=precision)
    with torch.no_grad():
        built = variant.make(ModelOnDevice(MODELS[model], device), variant)
        for _ in range(3):
            built.step()
        with profile(
            activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])], with_flops=True
        ) as profiler:
            built.step()
            if cuda:
                torch.cuda.synchronize()
    table = kernels(profiler, cuda=cuda, ranges=())
    heading = f"# Kernels of one guided step\n\n{model}, {precision}, {device}, not compiled, slowed by the profiler.\n"
    write_atomic(folder / "kernels.md", f"{heading}\n{table}\n")
    return f"{len(table.splitlines()) - 2} rows"


def _release(device: str) -> None:
    """Give a GPU's memory back: the next part may be another process."""
    if device == "cuda":
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()


def _folder(out: Path, device: str) -> Path:
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    plain = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    folder = out / f"{plain}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    return folder


def _about(folder: Path, summaries: dict[str, str], model: str, device: str) -> None:
    content: dict[str, Any] = {
        "model": model,
        "device": device,
        "machine": machine(),
        "software": software(),
        "revision": str(revision()),
        "parts": summaries,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomic(folder / "about.json", json.dumps(content, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(obey("bench.studies.gpu_session", lambda: tyro.cli(main, description=__doc__)))
