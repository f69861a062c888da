"""All that needs a GPU, in one command: the most valuable first, each part with a record of its own.

    python -m bench.studies.gpu_session                  # an hour; --minutes 14 takes what fits
    python -m bench.studies.gpu_session --dry            # every part on a CPU, tiny, with a pretended GPU

A part is a process. It may take all the time except the reserves of the later ones; a part that no longer fits is left
out and named. What each leaves is checked and kept in OUT/DEVICE-DATE when it ends: machine, versions, revision and how
every part ended in about.json, manifest and records of every suite in a folder, the rest in files. report.html shows
all of it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
import tyro

from bench.hardware.machine import ROOT, machine, revision, software
from bench.harness.suite_spec import did_you_mean
from bench.results.records import write_atomic
from bench.speed.cell import LADDER
from bench.studies.gpu_session.parts import STARTING, Part, parts
from vidrd.entry import obey

DRY = Path(__file__).with_name("dry")
OUT_OF_TIME = 4  # the exit code of a run that left cells untried
KEPT = ("manifest.json", "records.jsonl")  # of the run of a suite


def main(out: Path | None = None, minutes: float = 60.0, only: tuple[str, ...] = (), dry: bool = False) -> int:
    """Run the parts that fit the time; 0 if all were run, 2 if one failed, 4 if one no longer fitted the time.

    Args:
        out: The records go into a folder of this one, named by device and date; reports/measured, dry runs/dry.
        minutes: For everything.
        only: Only these parts, in this order.
        dry: Go through every part on the CPU, with tiny models and a pretended GPU: no number means anything.
    """
    every = parts(dry=dry)
    unknown = next((name for name in only if name not in every), None)
    if unknown is not None:
        raise ValueError(f"there is no part {unknown!r}{did_you_mean(unknown, list(every))}")
    if not (dry or torch.cuda.is_available()):
        print("bench.studies.gpu_session: no CUDA device was found; --dry tries the parts on a CPU", file=sys.stderr)
        return 3
    folder = _folder(out or (Path("runs") if dry else Path("reports") / "measured"), dry=dry)
    chosen = {name: every[name] for name in only or every}
    ended = run_parts(chosen, folder, minutes, dry=dry)
    page = subprocess.run([sys.executable, "-m", "reports.session_page", str(folder)], cwd=ROOT, check=False)
    print(folder)
    states = [state for state, _ in ended.values()]
    return 2 if page.returncode or "failed" in states else 4 if "left out" in states else 0


def run_parts(chosen: Mapping[str, Part], folder: Path, minutes: float, *, dry: bool) -> dict[str, tuple[str, str]]:
    """Part -> how it ended ("ok", "failed", "left out"), and a summary or the reason."""
    ends, ended, names = time.monotonic() + 60 * minutes, dict[str, tuple[str, str]](), list(chosen)
    for number, name in enumerate(names):
        part, left, began = chosen[name], ends - time.monotonic(), time.monotonic()
        if left < part.reserve:
            ended[name] = "left out", f"it takes {part.reserve} s and {max(left, 0):.0f} were left"
        else:
            kept = sum(chosen[later].reserve for later in names[number + 1 :])
            try:
                summary = run_part(name, part, folder, max(part.reserve, left - kept), dry=dry)
                ended[name] = "ok", f"{summary}, {time.monotonic() - began:.0f} s"
            except (OSError, ValueError) as error:  # the others are still worth having
                ended[name] = "failed", str(error)
        print(f"{name}: {': '.join(ended[name])}", flush=True)
        _about(folder, ended, dry=dry)
    return ended


def run_part(name: str, part: Part, folder: Path, seconds: float, *, dry: bool) -> str:
    """Run a part, keep what it left, and check it.

    Raises:
        ValueError: it did not end in time, left nothing, or something else than it has to.
    """
    path = os.pathsep.join(filter(None, (str(DRY) if dry else "", str(ROOT), os.environ.get("PYTHONPATH"))))
    log = folder / f"{name}.log"
    run = folder / "runs" / part.leaves
    try:
        with log.open("w", encoding="utf-8") as file:
            code = subprocess.run(
                part.command(folder.resolve(), seconds), env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, stdout=file,
                stderr=subprocess.STDOUT, check=False, timeout=seconds + 4 * STARTING,
            ).returncode  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"not done after {error.timeout:.0f} s, killed") from None
    finally:
        for file_name in KEPT:
            if (run / file_name).exists():
                (folder / part.leaves).mkdir(exist_ok=True)
                shutil.copyfile(run / file_name, folder / part.leaves / file_name)
        for ladder in run.glob(f"cells/*/{LADDER}"):  # also of a cell whose time was up
            shutil.copyfile(ladder, folder / f"{part.leaves}-{LADDER}")
    if not (folder / part.leaves).exists():
        raise ValueError(f"it left no record and ended with {code}; {_last_line(log)}")
    summary = part.check(folder / part.leaves)
    if code not in (0, OUT_OF_TIME):
        raise ValueError(f"{summary}, but it ended with {code}; {_last_line(log)}")
    return summary


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def _folder(out: Path, *, dry: bool) -> Path:
    name = "dry" if dry else str(machine()["gpu"])  # by NVML: this process must not be one that uses the card
    plain = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    folder = out / f"{plain}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    (folder / "runs").mkdir(parents=True)
    return folder


def _about(folder: Path, ended: Mapping[str, tuple[str, str]], *, dry: bool) -> None:
    content = {
        "dry": dry,
        "machine": machine(),
        "software": software(),
        "revision": str(revision()),
        "parts": {name: {"state": state, "text": text} for name, (state, text) in ended.items()},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomic(folder / "about.json", json.dumps(content, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(obey("bench.studies.gpu_session", lambda: tyro.cli(main, description=__doc__)))
