"""The UCF-101 table: ours beside the published rows where they may stand there, apart from them where not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reports import ucf101
from reports.published import published_rows

ROOT = Path(__file__).parents[2]
SETTINGS = {"size": 256, "frames": 16, "steps": 50}


def content(apart=(), world="", **row):
    scores = {
        "fvd:styleganv": {"value": 370.123, "n": 10000, "low": 360.0, "high": 380.0},
        "is:styleganv": {"value": 38.0, "n": 10000, "low": 37.5, "high": 38.5},
    }
    ours = {
        "name": "vidrd", "protocol": "vidrd-10k", "changes": [], "scores": scores, "n_real": {"fvd:styleganv": 9537},
        "floors": {"fvd:styleganv": {"value": 12.5, "n": 4768}}, "ceilings": {}, "notes": {"fvd:styleganv": []},
    } | row  # fmt: skip
    plan = {
        "protocol": "vidrd-10k", "settings": SETTINGS, "videos": 10000, "videos_of_protocol": 10000, "batch": 8,
        "precision": "fp16", "clip": 8, "model": {"folder": "m", "sha256": "00"},
        "prompts": {"name": "descriptive", "sha256": "ab" * 32}, "allocation": {"name": "vidrd-10k"},
    }  # fmt: skip
    card = {
        "plan": plan, "stated": [{"setting": "steps", "value": "50", "by": "unstated", "why": "not said"}],
        "prompts": [{"id": "Archery", "class": "Archery", "prompt": "a <b>man</b> | draws", "videos": 99}],
        "archive": {"videos": 13320}, "made": {"vidrd": {"options": "Options()"}}, "scores": {"vidrd": {}},
        "seconds": {"scores": 1.5}, "estimate": {"seconds": 100.0}, "machine": {}, "software": {},
        "revision": "0123456789", "command": ["python", "-m", "bench", "ucf101"],
    }  # fmt: skip
    return {"schema": 1, "world": world, "apart": list(apart), "rows": [ours], "card": card}


def test_ours_stand_first_in_one_table_with_the_published():
    table = ucf101.table(content())
    assert table.count("| IS ↑") == 1
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert "vidrd (measured here)" in lines[1]
    assert "370.12 [360.00, 380.00]".replace("[", "\\[").replace("]", "\\]") in lines[1]
    assert "floor 12.50 at n = 4768" in lines[1]
    assert len(lines) == 2 + len(published_rows("ucf101"))
    assert any("39.37" in line and "primary" in line for line in lines[2:])


def test_what_may_not_stand_there_has_its_own_table_and_says_why():
    table = ucf101.table(content(["stand-in: these numbers say nothing about a model"], "stand-in"))
    assert table.count("| IS ↑") == 2
    ours, _, theirs = table.partition("# Published rows")
    assert "**stand-in**" in ours
    assert "370.12" in ours
    assert "370.12" not in theirs
    assert "363.19" not in ours


def test_conflicts_and_changes_are_footnotes():
    table = ucf101.table(content(changes=["steps: 20, the protocol's is 50"]))
    assert "changed: steps: 20, the protocol's is 50" in table
    (magic,) = [line for line in table.splitlines() if line.startswith("| MagicVideo")]
    number = magic.split("\\[")[1].split("\\]")[0]
    (note,) = [line for line in table.splitlines() if line.startswith(f"[{number}] ")]
    assert "655.00" in note
    assert "conflict" in note


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("VidRD w/ fine-tuned VAE", "videos"),
        ("CMD", "videos, pixels, prompts"),
        ("LVDM", "pixels"),
        ("VideoPoet", "frames"),
    ],
)
def test_differences_of_protocols_are_named(method, said):
    (row,) = [row for row in published_rows("ucf101") if row["method"] == method]
    found = ucf101.differences(row, SETTINGS, 10000, "descriptive")
    changed, _, silent = found.partition("not known: ")
    if method.startswith("VidRD"):
        assert "videos" not in found
        assert "prompts" in changed
    elif method == "CMD":
        assert changed.removesuffix("; ") == said
    elif method == "LVDM":
        assert "videos" in silent
        assert "pixels" not in found
    else:
        assert "frames" not in changed


def test_the_card_tells_all_and_runs_nothing():
    card = ucf101.card(content())
    assert "&lt;b&gt;man" in card
    assert "<b>" not in card
    assert "| steps     | 50      | unstated | not said |" in card
    assert "Estimated beforehand: 100 s; this command's stages took 2 s." in card


def test_reports_prints_and_writes_it_without_torch(tmp_path):
    (tmp_path / "ucf101.json").write_text(json.dumps(content()))
    code = (
        "import sys; from pathlib import Path; sys.modules['torch'] = None; from reports.__main__ import report; "
        "report(Path(sys.argv[1]), Path(sys.argv[1]))"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "vidrd (measured here)" in done.stdout
    assert (tmp_path / "table.md").read_text().startswith("# UCF-101, vidrd-10k")
    assert (tmp_path / "card.md").exists()


def test_other_schemas_are_refused(tmp_path):
    (tmp_path / "ucf101.json").write_text('{"schema": 2}')
    with pytest.raises(ValueError, match="has the schema 2; this version reads 1"):
        ucf101.report(tmp_path, None)
