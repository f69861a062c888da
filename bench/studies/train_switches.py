"""What each switch of `vidrd train --data` costs and gains: steps per second and peak memory, with it and without.

    python -m bench.studies.train_switches --out runs/train-switches

Every run is a process of its own. Each round runs every way once, in a new random order, and a way is compared with the
plain one of its own round. Times are of the steps after the first log line, so loading, compiling and warming up do not
count. The table is in OUT/switches.md, all results are in OUT/switches.json.
"""

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro
from tabulate import tabulate

from bench.hardware.machine import ROOT, machine, revision, software
from bench.results.records import write_atomic
from vidrd.entry import obey

PLAIN = "plain"
BASE = {"precision": "no", "ema": "0"}  # what all ways share, unless they say otherwise
SWITCHES: Mapping[str, Mapping[str, str | None]] = {  # a way's options; None: a flag without a value
    PLAIN: {},
    "checkpointing": {"checkpointing": None},
    "compiled": {"compiled": None},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "ema": {"ema": "0.9999"},
}
LOGGED = 20  # steps from one line of the log to the next

Launch = Callable[[Sequence[str], Path], None]  # options of `vidrd train`, folder of the run


def main(
    out: Path = Path("runs") / "train-switches",
    model: str = "pocket",
    data: Path | None = None,
    ways: tuple[str, ...] = (PLAIN, "checkpointing", "compiled", "bf16", "ema"),
    steps: int = 60,
    batch: int = 8,
    frames: int = 8,
    size: int = 32,
    rounds: int = 3,
    threads: int | None = None,
) -> int:
    """Measure the ways and print the table; 0 if all runs ended well, 2 if one failed.

    Args:
        out: Folder of the runs and of the table; new.
        model: Preset or folder of the pipeline that is trained.
        data: Folder that `prepare` or `latents` wrote; not given: clips of the pocket world are made.
        ways: Switches to compare with the plain way: checkpointing, compiled, bf16, fp16, ema.
        steps: Of each run; the first 20 count for nothing.
        batch: Clips of a step.
        frames: Of a clip.
        size: Pixels.
        rounds: Runs of each way.
        threads: Of the CPU; all cores if not given.
    """
    unknown = sorted({*ways} - {*SWITCHES})
    if unknown:
        raise ValueError(f"there is no switch {unknown[0]!r}: there are {', '.join(SWITCHES)}")
    if steps < 2 * LOGGED or steps % LOGGED:
        raise ValueError(f"steps are a multiple of {LOGGED} from {2 * LOGGED} on, as the log has them; got {steps}")
    if out.exists():
        raise ValueError(f"{out} exists: name a new folder, or delete it")
    out.mkdir(parents=True)
    data = data or make_data(out / "data", frames, size)
    options = {
        "stage": "temporal", "model": model, "data": str(data), "steps": str(steps), "batch": str(batch),
        "frames": str(frames), "size": str(size), "save-every": str(10 * steps),
    } | ({"threads": str(threads)} if threads else {})  # fmt: skip
    results = measure(tuple(dict.fromkeys((PLAIN, *ways))), options, out / "runs", rounds, launch)
    content = {
        "asked": options,
        "ways": results,
        "machine": machine(),
        "software": software(),
        "revision": str(revision()),
    }
    write_atomic(out / "switches.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_atomic(out / "switches.md", table(results, options) + "\n")
    print(table(results, options))
    return 2 if any(each["failed"] for each in results.values()) else 0


def measure(
    ways: Sequence[str], options: Mapping[str, str], folder: Path, rounds: int, launch: Launch
) -> dict[str, dict[str, Any]]:
    """Way -> steps per second and peak bytes of each of its runs, or the reason why one failed."""
    results: dict[str, dict[str, Any]] = {
        way: {"steps_per_second": [], "peak_bytes": [], "round": [], "failed": ""} for way in ways
    }
    draw, began, done, runs = random.Random(0), time.monotonic(), 0, rounds * len(ways)
    for number in range(rounds):
        order = list(ways)
        draw.shuffle(order)
        for way in order:
            if results[way]["failed"]:
                continue
            run = folder / f"{number}-{way}"
            try:
                launch(words_of({**options, **BASE, **SWITCHES[way]}), run)
                rate, peak = read_log(run / "log.jsonl")
            except (RuntimeError, OSError, ValueError) as error:
                results[way]["failed"] = str(error)
                continue
            for name, value in (("steps_per_second", rate), ("peak_bytes", peak), ("round", number)):
                results[way][name].append(value)
            done += 1
            left = (time.monotonic() - began) / done * (runs - done) / 60
            print(f"[{done}/{runs}] {way}: {rate:.3f} steps/s; about {left:.0f} min left", file=sys.stderr, flush=True)
    return results


def words_of(options: Mapping[str, str | None]) -> list[str]:
    """Options as the words of a command line: --name value, or --name for a flag."""
    return [word for name, value in options.items() for word in (f"--{name}", *([] if value is None else [value]))]


def launch(words: Sequence[str], run: Path) -> None:
    """Train in a process of its own.

    Raises:
        RuntimeError: it failed; with its last line.
    """
    process = subprocess.run(
        [sys.executable, "-m", "vidrd", "train", "--out", str(run.absolute()), *words], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        raise RuntimeError(lines[-1] if lines else f"vidrd train ended with {process.returncode}")


def read_log(path: Path) -> tuple[float, int]:
    """Steps per second after the first line of a run's log, and the most bytes that the run held.

    Raises:
        ValueError: the log has fewer than two lines.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if len(lines) < 2:
        raise ValueError(f"{path} has {len(lines)} lines, a rate takes two")
    first, last = lines[0], lines[-1]
    seconds = last["step"] * last["seconds_per_step"] - first["step"] * first["seconds_per_step"]
    return (last["step"] - first["step"]) / seconds, int(last["peak_bytes"])


def table(results: Mapping[str, Mapping[str, Any]], options: Mapping[str, str]) -> str:
    """Markdown: medians of the rounds, and how many times faster than the plain way of the same round."""
    plain = dict(zip(results[PLAIN]["round"], results[PLAIN]["steps_per_second"], strict=True))
    rows = []
    for way, each in results.items():
        rates = each["steps_per_second"]
        if not rates:
            rows.append((way, each["failed"], "", "", "", 0))
            continue
        ratios = [rate / plain[n] for n, rate in zip(each["round"], rates, strict=True) if n in plain]
        faster = f"{statistics.median(ratios):.3f}" if ratios else ""
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}" if ratios else ""
        peak = f"{statistics.median(each['peak_bytes']) / 2**20:.0f}"
        rows.append((way, f"{statistics.median(rates):.3f}", faster, spread, peak, len(rates)))
    heads = ("way", "steps/s", "of plain", "in the rounds", "peak MiB", "runs")
    caption = (
        f"`vidrd train --data`: {options['model']}, {options['batch']} clips of {options['frames']} frames at "
        f"{options['size']} pixels per step. Plain: float32, activations kept, not compiled, no averaged weights. "
        "Peak: of the GPU's allocator, or of the whole process without one."
    )
    return f"{caption}\n\n{tabulate(rows, headers=heads, tablefmt='pipe', disable_numparse=True)}"


def make_data(folder: Path, frames: int, size: int, count: int = 64) -> Path:
    """A prepared data set of `count` pocket videos, each of twice `frames` frames; its folder."""
    from vidrd.data.layout import Where  # noqa: PLC0415 - --help need not load torch
    from vidrd.data.prepare import prepare  # noqa: PLC0415
    from vidrd.data.shard_task import PreparePlan  # noqa: PLC0415
    from vidrd.data.shots import CutSettings  # noqa: PLC0415
    from vidrd.pocket.world import TRAIN_SEEDS, caption, draw_scene, render  # noqa: PLC0415
    from vidrd.video import write_video  # noqa: PLC0415

    videos = folder.with_name(f"{folder.name}-videos")
    videos.mkdir()
    scenes = [draw_scene(seed) for seed in TRAIN_SEEDS[:count]]
    for number, (scene, video) in enumerate(zip(scenes, render(scenes, 2 * frames, size=size), strict=True)):
        write_video(videos / f"{number:03}.mp4", video, fps=8)
        (videos / f"{number:03}.txt").write_text(caption(scene))
    plan = PreparePlan("folder", Where(videos), CutSettings(None, "none", min_frames=frames), duplicates=-1)
    prepare(plan, folder, say=lambda line: None)
    return folder


if __name__ == "__main__":
    sys.exit(obey("bench.studies.train_switches", lambda: tyro.cli(main, description=__doc__)))
