"""The UCF-101 table: ours beside the published rows where they may stand there, apart from them where not."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_runs import moving_square
from PIL import Image

from reports.ucf101 import report
from reports.ucf101.document import Code, as_markdown
from reports.ucf101.published import published_rows
from vidrd.video import write_video

ROOT = Path(__file__).parents[3]
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


def table(found):
    return as_markdown(report.table(found))


def card(found):
    return as_markdown(report.card(found))


def test_ours_stand_first_in_one_table_with_the_published():
    text = table(content())
    assert text.count("| IS ↑") == 1
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert "vidrd (measured here)" in lines[1]
    assert "370.12 [360.00, 380.00]".replace("[", "\\[").replace("]", "\\]") in lines[1]
    assert "floor 12.50 at n = 4768" in lines[1]
    assert len(lines) == 2 + len(published_rows())
    assert any("39.37" in line and "primary" in line for line in lines[2:])


def test_what_may_not_stand_there_has_its_own_table_and_says_why():
    text = table(content(["they say nothing about a model"], "stand-in"))
    assert text.count("| IS ↑") == 2
    ours, _, theirs = text.partition("# Published rows")
    assert "**stand-in**" in ours
    assert "370.12" in ours
    assert "370.12" not in theirs
    assert "363.19" not in ours


def test_conflicts_and_changes_are_footnotes():
    text = table(content(changes=["steps: 20, the protocol's is 50"]))
    assert "changed: steps: 20, the protocol's is 50" in text
    (magic,) = [line for line in text.splitlines() if line.startswith("| MagicVideo")]
    number = magic.split("\\[")[1].split("\\]")[0]
    (note,) = [line for line in text.splitlines() if line.startswith(f"\\[{number}\\] ")]
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
    (row,) = [row for row in published_rows() if row["method"] == method]
    differences = report.differences(row, SETTINGS, 10000, "descriptive")
    changed, _, silent = differences.partition("not known: ")
    if method.startswith("VidRD"):
        assert "videos" not in differences
        assert "prompts" in changed
    elif method == "CMD":
        assert changed.removesuffix("; ") == said
    elif method == "LVDM":
        assert "videos" in silent
        assert "pixels" not in differences
    else:
        assert "frames" not in changed


def test_the_card_tells_all_and_runs_nothing():
    text = card(content())
    assert "&lt;b&gt;man" in text
    assert "<b>" not in text
    assert "| steps     | 50      | unstated | not said |" in text
    assert "Estimated beforehand: 100 s; this command's stages took 2 s." in text


def test_reports_prints_and_writes_it_without_torch(tmp_path):
    (tmp_path / "ucf101.json").write_text(json.dumps(content()))
    code = (
        "import sys; from pathlib import Path; sys.modules['torch'] = None; from reports.__main__ import report; "
        "report((Path(sys.argv[1]),), Path(sys.argv[1]))"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "vidrd (measured here)" in done.stdout
    assert (tmp_path / "table.md").read_text().startswith("# UCF-101, vidrd-10k")
    assert (tmp_path / "card.md").exists()
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def write_run(folder, names=("vidrd", "<i>evil"), items=6, frames=4):
    """What `python -m bench ucf101` leaves: a list of its videos a row, and the videos."""
    report_content = content()
    (row,) = report_content["rows"]
    report_content["rows"] = [row | {"name": name} for name in names]
    folder.mkdir()
    (folder / "ucf101.json").write_text(json.dumps(report_content))
    for position, name in enumerate(names):
        (folder / name).mkdir()
        lines = []
        for index in range(items):
            file = f"Archery/Archery_{index:04}.mkv"
            path = folder / name / "videos" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, moving_square(frames, 16, (), phase=position + index), fps=8)
            lines.append({"file": file, "prompt_id": "Archery", "class_name": "Archery", "index": index})
        (folder / name / "videos.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def made(folder, **options):
    saved = json.loads((folder / "ucf101.json").read_text())
    return report.page(saved, folder, ["python", "-m", "reports", str(folder)], **options)


def test_the_page_has_table_card_players_and_runs_nothing(tmp_path):
    text = made(write_run(tmp_path / "run"))
    assert text.count('<tr class="measured">') == 2
    assert text.count("<tr class=") == 2 + len(published_rows())
    assert "370.12 [360.00, 380.00] (fvd:styleganv, floor 12.50 at n = 4768)" in text
    assert "Reproduction card" in text
    assert text.count("<article") == 12
    assert text.count('class="scene"') == 6
    assert "Archery · sample 1" in text
    assert "a &lt;b&gt;man&lt;/b&gt; | draws" in text
    assert "<i>evil" not in text
    assert "<b>man" not in text
    assert "python -m bench ucf101" in text
    addresses = re.findall(r'(?:src|data-sheet)="([^"]*)"', text)
    assert addresses
    assert all(address.startswith("data:image/webp;base64,") for address in addresses)


def test_its_videos_are_the_videos_frame_by_frame(tmp_path):
    folder = write_run(tmp_path / "run", names=("vidrd",), items=1)
    placed = {}
    made(folder, place=lambda name, video: placed.setdefault(name, video) and name)
    (sheet,) = placed.values()
    picture = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
    for i, frame in enumerate(moving_square(4, 16, ())):
        assert (picture[i // 2 * 16 : i // 2 * 16 + 16, i % 2 * 16 : i % 2 * 16 + 16] == frame).all()


def test_videos_that_are_not_shown_or_cannot_be_read_are_told(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "vidrd" / "videos" / "Archery" / "Archery_0000.mkv").write_bytes(b"no video")
    text = made(folder, videos=4)
    assert text.count("<article") == 3
    assert "8 more videos of the run are not shown" in text
    assert "Not readable: vidrd, Archery/Archery_0000.mkv: InvalidDataError" in text
    other = json.loads((folder / "vidrd" / "videos.jsonl").read_text().splitlines()[1]) | {"file": "../../secret.mkv"}
    (folder / "vidrd" / "videos.jsonl").write_text(json.dumps(other) + "\n")
    (folder / "<i>evil" / "videos.jsonl").unlink()
    assert "../../secret.mkv: ValueError" in made(folder)
    (folder / "vidrd" / "videos.jsonl").write_text("[1]\n")
    with pytest.raises(ValueError, match=r"videos\.jsonl is no list of videos"):
        made(folder)


def test_without_videos_the_page_has_table_and_card(tmp_path):
    folder = write_run(tmp_path / "run", names=("given",), items=0)
    text = made(folder)
    assert "<article" not in text
    assert 'href="#videos"' not in text
    assert text.count('<tr class="measured">') == 1


def test_other_schemas_are_refused(tmp_path):
    (tmp_path / "ucf101.json").write_text('{"schema": 2}')
    with pytest.raises(ValueError, match="has the schema 2; this version reads 1"):
        report.report(tmp_path, None)


def test_a_fence_in_the_command_does_not_leave_its_block():
    text = as_markdown([Code("a\n```\n# heading")])
    assert text.splitlines()[0] == "````sh"
    assert text.splitlines()[-1] == "````"


def test_a_checkout_with_changes_is_no_clean_revision():
    report_content = content()
    report_content["card"]["revision"] = "0123456789" * 4 + "+changes"
    assert "revision 01234567+changes" in table(report_content)
