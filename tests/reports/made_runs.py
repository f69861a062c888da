"""Runs made by code, with the look of real ones: every status, missing measures, hostile strings, videos with seams."""

import itertools
import json
import math

import numpy as np
from scipy.special import stdtrit

from bench.results.records import STATUSES, Attempt, Cell, Number, Record

EVIL = (
    "<script>document.title='owned'</script>\"'&lt; `red` | <b>star</b> {{7*7}} \x1b[2J\u2028 a_b*c* [x](javascript:y)"
)

MACHINE = {"cpu": "a cpu", "cores": 2, "memory_bytes": 2**33, "system": "Linux", "gpu": "none", "driver": ""}


def measure(title, unit, better, table, definition="what it is"):
    return {"title": title, "unit": unit, "better": better, "table": table, "definition": definition}


MEASURES = {
    "fvd": measure("FVD", "", "lower", "quality", "distance | of sets"),
    "is": measure("IS", "", "higher", "quality"),
    "seam_d": measure("seam D", "log2", "real", "quality"),
    "action": measure("action", "", "higher", "prompt"),
    "seconds_per_frame": measure("s/frame", "s", "lower", "cost"),
    "rss": measure("RSS", "bytes", "lower", "cost"),
    "gpu": measure("GPU", "bytes", "lower", "cost", f"memory {EVIL}"),
}
METHODS = ("ours", "theirs", "<i>evil</i>")


def grid(frames=(16, 32), methods=METHODS, overlaps=(2, 4), precisions=("fp32", "bf16"), seeds=(0,)):
    axes = {"frames": list(frames), "method": list(methods), "overlap": list(overlaps), "precision": list(precisions)}
    return axes | ({"seed": list(seeds)} if len(seeds) > 1 else {})


def cells_of(axes, basis=None):
    references = [{**dict.fromkeys(axes, ""), "frames": frames, "method": "real"} for frames in axes["frames"]]
    points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    return [(Cell("toy", values, basis or {}), values in references) for values in [*references, *points]]


def manifest_of(axes, cells, **changes):
    return {
        "suite": "toy",
        "hash": "0123456789ab",
        "workload": "toy",
        "question": "Which <method> is best & why?",
        "axes": axes,
        "fixed": {"steps": 20, "note": "a\\b 'quoted'"},
        "group": "frames",
        "measures": MEASURES,
        "machine": MACHINE,
        "software": {"torch": "2"},
        "revision": "abcdef0123456789+changes",
        "basis": {"weights": "w" * 64, "source": "s" * 64},
        "written": "2026-01-01T00:00:00+00:00",
        "cells": [{"id": cell.id, "values": dict(cell.values), "reference": first} for cell, first in cells],
        **changes,
    }


def numbers_of(values, reference, shift=0.0):
    """Numbers with a plain law: "ours" is better by far, overlap costs, bf16 changes nothing but the time."""
    frames, seed = int(values["frames"]), 0.01 * math.sin(13.0 * float(values.get("seed") or 0))
    if reference:
        return {"fvd": Number(2.0, n=32, low=1.5, high=2.5), "seam_d": Number(0.0, "log2", "real", 32, -0.1, 0.1)}
    level = {"ours": 10.0, "theirs": 30.0}.get(values["method"], 30.5) + frames / 8 + seed + shift
    half = precision = 1.0 if values["precision"] == "fp32" else 0.6
    seconds = 0.01 * precision * (1 + int(values["overlap"]) / 8) * (1 + 0.01 * shift)
    return {
        "fvd": Number(level, "", "lower", 32, level - half, level + 1.2 * half),
        "is": Number(5.0, "", "higher", 32, 4.0, 6.0),
        "seam_d": Number(-1.0 if values["method"] == "ours" else 0.5, "log2", "real", 32, -1.2, 0.7),
        "action": Number(0.5, "", "higher", 32),
        "seconds_per_frame": Number(seconds, "s", "lower", 6, 0.97 * seconds, 1.04 * seconds),
        "rss": Number(2.0**29 + 2.0**20 * frames, "bytes", "lower"),
    }


def record_of(cell, reference, **changes):
    """An ok record of a cell."""
    samples = {
        "text_seconds": (0.01, 0.01, 0.02),
        "denoise_seconds": (0.3, 0.31, 0.29),
        "decode_seconds": (0.06, 0.07, 0.06),
        "total_seconds": (0.38, 0.4, 0.37),
    }
    return Record(
        cell,
        Attempt("ok", "", "2026-01-01T00:00:00+00:00", 2.5),
        numbers_of(cell.values, reference, changes.pop("shift", 0.0)),
        samples={} if reference else samples,
        absent={"gpu": "no GPU <here>"},
        facts={"prompts": f"{EVIL}\nsecond prompt".replace("\u2028", "")} if reference else {"output_sha256": "0" * 64},
        machine={"cpu": "a cpu", "load_before": 0.1},
        **{"revision": "abcdef0123456789", **changes},
    )


def ends_of(cell, status):
    return Record(
        cell, Attempt(status, f"why it is {status}: {EVIL}".replace("\u2028", "")), revision="abcdef0123456789"
    )


def moving_square(frames=16, size=16, seams=(8,), phase=0):
    """A square that walks to the right and jumps at every seam."""
    video = np.full((frames, size, size, 3), 30, np.uint8)
    for t in range(frames):
        x = (phase + t + 5 * sum(t >= seam for seam in seams)) % (size - 4)
        video[t, 6:10, x : x + 4] = (240, 120, 40)
    return video


def write_videos(folder, cell, frames, count=2, size=16, seams=(8,), kinds=("mirror",)):
    place = folder / "cells" / cell.id
    place.mkdir(parents=True)
    videos = np.stack([moving_square(frames, size, seams, phase) for phase in range(count)])
    np.savez_compressed(
        place / "videos.npz", videos=videos, seams=np.array(seams), kinds=np.array(kinds), fps=np.float64(8)
    )


def write(folder, axes, *, ends=(), videos=0, size=16, records=True, **changes):
    """A run: every status of `ends` in turn for the last cells, all others ok."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = cells_of(axes)
    (folder / "manifest.json").write_text(json.dumps(manifest_of(axes, cells, **changes)))
    bad = dict(zip([cell.id for cell, first in cells if not first][-len(ends) :], ends, strict=True)) if ends else {}
    lines = []
    for cell, reference in cells:
        end = bad.get(cell.id, "ok")
        if end == "not run":
            continue
        lines.append((record_of(cell, reference) if end == "ok" else ends_of(cell, end)).to_json())
        if end == "ok" and videos:
            write_videos(folder, cell, int(cell.values["frames"]), videos, size)
    if records:
        (folder / "records.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def every_status(folder, **changes):
    return write(folder, grid(), ends=(*STATUSES[1:], "not run"), videos=2, **changes)


def one_cell(folder):
    axes = {"frames": [16], "method": ["ours"], "overlap": [4], "precision": ["fp32"]}
    cell = Cell("toy", {name: values[0] for name, values in axes.items()})
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest_of(axes, [(cell, False)])))
    (folder / "records.jsonl").write_text(record_of(cell, False).to_json() + "\n")
    return folder


POCKET_AXES = {
    "frames": [16, 24, 32],
    "method": ["vidrd", "independent", "direct"],
    "overlap": [2, 4, 6],
    "precision": ["fp32", "bf16"],
}


def measured(values, *, better="lower", unit="", half=None):
    """The mean of one value a video with the interval of Student's t, and the values."""
    values = np.asarray(values, float)
    n = len(values)
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / math.sqrt(n)) if half is None else half
    mean = float(values.mean())
    return Number(mean, unit, better, n, mean - half, mean + half), tuple(values.tolist())


def pocket(folder, axes, of, measures, *, pairs="the same", facts=None, **changes):
    """A run with the axes of the pocket suite, or some of them, and its way to clear what has no meaning.

    `of`: a cell's values, real video's with method "real", to measure -> (number, samples), or None for no record.
    `facts`: the same to further facts.
    """
    axes = {name: list(values) for name, values in axes.items()}
    unused = {name: 0 if name == "overlap" else values[0] for name, values in axes.items()}
    references = [{**unused, "frames": frames, "method": "real"} for frames in axes["frames"]]
    points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    points = [{**values, "overlap": values["overlap"] if values["method"] == "vidrd" else 0} for values in points]
    cells = {(cell := Cell("pocket", {**values, "videos": 24})).id: (cell, values["method"] == "real")
             for values in [*references, *points]}  # fmt: skip
    folder.mkdir(parents=True)
    manifest = manifest_of(axes, list(cells.values()), measures=measures, **changes)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    lines = []
    for cell, _ in cells.values():
        found = of(cell.values)
        if found is not None:
            said = ({"pairs": pairs} if pairs and cell.values["method"] != "real" else {}) | (
                facts(cell.values) if facts else {}
            )
            numbers = {name: number for name, (number, _) in found.items()}
            samples = {name: values for name, (_, values) in found.items() if values}
            lines.append(Record(cell, Attempt("ok"), numbers, samples=samples, facts=said).to_json() + "\n")
    (folder / "records.jsonl").write_text("".join(lines))
    return folder


def many_cells(folder, count=2000):
    """At least `count` cells."""
    return write(folder, grid(frames=(16, 32), overlaps=(1, 2, 3, 4, 5), seeds=range(-(-count // 60))))
