import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bench.results.records import Attempt, Cell, Number, Record, append
from reports.__main__ import main
from reports.format import escape, number, printable
from reports.run_table import load, rows
from reports.text_tables import as_markdown, as_text

MEASURES = {
    "fvd": {"title": "FVD", "unit": "", "better": "lower", "table": "quality", "definition": "distance | of sets"},
    "rss": {"title": "RSS", "unit": "bytes", "better": "lower", "table": "cost", "definition": "memory"},
    "gpu": {"title": "GPU", "unit": "bytes", "better": "lower", "table": "cost", "definition": "memory"},
}
CELLS = [
    Cell("pocket", {"method": method, "frames": frames, "overlap": overlap})
    for frames in (16, 8)
    for method, overlap in (("vidrd", 2), ("vidrd", 4), ("direct", 0), ("real", 0))
]
PROMPT = "a `red` | <b>star</b>\x1b[2J on\ta_b*c* [x](y)"


def result(cell, position):
    if cell.values["method"] == "real":
        return Record(cell, Attempt("ok"), {"fvd": Number(1.25, n=32)}, facts={"prompts": PROMPT + "\nsecond"})
    if cell.values["method"] == "direct":
        return Record(cell, Attempt("oom", "9 | GiB\nmore"))
    numbers = {"fvd": Number(10.0 + position, n=32, low=9.0, high=13.0), "rss": Number(2.0**30, "bytes", "lower")}
    return Record(cell, Attempt("ok"), numbers, absent={"gpu": "no GPU"})


@pytest.fixture
def folder(tmp_path):
    manifest = {
        "suite": "pocket",
        "hash": "0123456789ab",
        "workload": "pocket",
        "question": "What | <i>?",
        "axes": {"frames": [16, 8], "method": ["vidrd", "direct"], "overlap": [2, 4]},
        "fixed": {"steps": 20},
        "group": "frames",
        "measures": MEASURES,
        "machine": {"cpu": "a cpu", "cores": 2, "memory_bytes": 2**33, "system": "Linux", "gpu": "none", "driver": ""},
        "software": {"torch": "2"},
        "revision": "abc+changes",
        "basis": {"weights": "w"},
        "written": "2026-01-01T00:00:00+00:00",
        "cells": [{"id": c.id, "values": dict(c.values), "reference": c.values["method"] == "real"} for c in CELLS],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for position, cell in enumerate(CELLS[:-2]):  # the last two were not run
        append(tmp_path / "records.jsonl", result(cell, position))
    append(tmp_path / "records.jsonl", Record(Cell("pocket", {"method": "old"}), Attempt("ok")))
    place = tmp_path / "cells" / CELLS[0].id
    place.mkdir(parents=True)
    video = np.zeros((2, 16, 4, 6, 3), np.uint8)
    video[0, 3] = 200
    np.savez_compressed(place / "videos.npz", videos=video)
    return tmp_path


def test_real_video_is_the_first_row_of_each_group(folder):
    table = rows(load(folder))
    assert list(table["frames"]) == [16] * 4 + [8] * 4
    assert list(table["method"][:4]) == ["real video", "vidrd", "vidrd", "direct"]
    assert table["method"][4] == "real video"
    assert list(table["overlap"][:4]) == ["", 2, 4, 0]
    assert list(table["fvd"][:4]) == [1.25, 10.0, 11.0, None]
    assert table["fvd_n"][1] == 32
    assert (table["fvd_low"][1], table["fvd_high"][1]) == (9.0, 13.0)
    assert list(table["status"]) == ["ok", "ok", "ok", "oom", "not run", "ok", "ok", "not run"]


def test_what_has_no_number_says_why(folder):
    run = load(folder)
    text = as_text(run, rows(run))
    assert "oom: 9 | GiB more (direct overlap=0)" in text
    assert "– GPU MiB: no GPU (vidrd overlap=2, vidrd overlap=4)" in text
    assert "not run: run the same command again to complete it (real video, direct overlap=0)" in text
    costs = text.split("pocket: cost at frames = 16")[1].split("pocket: quality")[0]
    assert "RSS MiB" in costs
    assert "real video" not in costs  # it costs nothing
    assert "pocket: quality at frames = 16" in text
    assert run.others == 1
    assert "1 more cells" in as_markdown(run, rows(run))


def test_a_number_shows_no_more_digits_than_its_interval_has():
    assert number(12.3456, "", 1.42) == "12.3 ±1.4"
    assert number(1234.5, "", 120.0) == "1234 ±120"
    assert number(0.012345, "s", 0.00042) == "0.01235 ±0.00042"
    assert number(0.0123456, "s") == "0.0123"
    assert number(1234.5, "") == "1234"
    assert number(0.0, "") == "0"
    assert number(3 * 2.0**20, "bytes") == "3.00"
    assert number(-1.5, "log2", 0.25) == "-1.50 ±0.25"


def test_markdown_takes_text_as_text(folder):
    run = load(folder)
    page = as_markdown(run, rows(run), {"frames-16.png": "frames | 16"})
    assert "1. a \\`red\\` \\| &lt;b&gt;star&lt;/b&gt; \\[2J on a\\_b\\*c\\* \\[x\\](y)" in page
    assert "# What \\| &lt;i&gt;?" in page
    assert "oom: 9 \\| GiB more" in page
    assert "**FVD** (lower is better, n = 32) distance \\| of sets" in page
    assert "![frames \\| 16](frames-16.png)" in page
    columns = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in columns[:6]} == {5}
    assert "\x1b" not in page


def test_text_stays_on_its_line():
    assert printable("a\nb\r\x1b[2J\u2028c") == "a b  [2J c"
    assert escape("<a|b>") == "&lt;a\\|b&gt;"


def test_the_command_writes_the_report_without_torch(folder, tmp_path):
    code = (
        "import sys\nclass Block:\n def find_spec(self, name, *_):\n  if name == 'torch': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\nfrom reports.__main__ import main\nsys.exit(main())"
    )
    out = folder / "report"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), "--out", str(out)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "real video" in done.stdout
    assert done.stdout.splitlines()[-1] == f"page: {out / 'report.html'}"
    names = {path.name for path in out.iterdir()}
    assert {"cells.csv", "report.html", "report.md", "videos-frames-16.png"} <= names
    assert not [name for name in names if name.startswith(".") or name.endswith(".part")]
    with Image.open(out / "videos-frames-16.png") as picture:
        assert picture.size[0] > 600
    for chart in out.glob("*.svg"):
        assert "var(--" not in chart.read_text(), chart
        assert (out / f"{chart.stem}.png").stat().st_size > 1000
    assert (out / "cells.csv").read_text().splitlines()[1].split(",")[2:5] == ["16", "real video", ""]


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_that_is_not_there_is_one_line_and_exit_code_3(folder, made, monkeypatch, capsys):
    arguments = [str(folder), "--out", str(folder / "no" / "where")] if made else [str(folder / "none")]
    monkeypatch.setattr(sys, "argv", ["reports", *arguments])
    assert main() == 3
    printed, error = capsys.readouterr()
    assert printed == ""  # the tables are not printed before it is refused
    assert error.count("\n") == 1
    assert ("does not exist, make it first" if made else "is no run: it has no manifest.json") in error


def test_approximations_are_marked_wherever_they_stand_and_conclusions_come_first(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(
        json.dumps({**manifest, "approximations": {"method": ["vidrd"]}, "conclusions": ["Turn this knob."]})
    )
    run = load(folder)
    table = rows(run)
    text, page = as_text(run, table), as_markdown(run, table)
    assert set(table["method"]) == {"vidrd ≈", "direct", "real video"}
    assert "≈ an approximation: it computes something else" in text
    assert page.splitlines()[2] == "- Turn this knob."
    assert run.manifest["axes"]["method"] == ["vidrd ≈", "direct"]
    path.write_text(json.dumps(manifest))
    assert "≈" not in as_text(load(folder), rows(load(folder)))
