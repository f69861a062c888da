import json
import sys
from xml.etree import ElementTree

import pytest

from reports.history_page import main


def journal(path, changes, *, error=0.0005, head_torch=None):
    """A journal of gates of revisions rev0, rev1, ... with these changes."""
    with path.open("w") as file:
        for i, change in enumerate(changes):
            finding = {"cell": "a <b>", "measure": "speed", "verdict": "PASS", "reason": "", "unit": "s"}
            finding |= {"change": change, "margin": 0.03, "error": error, "n": 60, "better": "lower"}
            torch = {"base": {"torch": "2.5"}, "head": {"torch": (head_torch or {}).get(i, "2.5")}}
            content = {
                "schema": 1, "base": f"rev{i}", "head": f"rev{i + 1}", "verdict": "PASS", "written": "now",
                "machine": {"cpu": "x"}, "software": torch, "recipes": {"a <b>": "r"}, "findings": [finding],
                "log_ratios": {"a <b>": [[group, change] for group in range(20)]},
            }  # fmt: skip
            file.write(json.dumps(content) + "\n")
    return path


@pytest.fixture
def show(tmp_path, monkeypatch, capsys):
    def call(file, *words):
        monkeypatch.setattr(sys, "argv", ["history_page", str(file), *words])
        return main(), *capsys.readouterr()

    return call


def test_creep_is_told_with_its_carriers_and_drawn(tmp_path, show):
    file, page = journal(tmp_path / "h.jsonl", [0.0, *5 * [0.01]]), tmp_path / "h.html"
    code, out, _ = show(file, "--page", str(page))
    assert code == 0
    assert "FAIL: rev1 to rev6 +5.1%" in out or "FAIL: rev0 to rev6 +5.1%" in out
    assert "passes the margin of +3.0%, at rev5; by rev" in out
    html = page.read_text()
    assert "a &lt;b&gt;" in html
    assert "<b>" not in html
    svg = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    circles = svg.findall("circle")
    assert [circle.findtext("title").split(":")[0] for circle in circles] == [f"rev{i}" for i in range(7)]
    heights = [float(circle.get("cy")) for circle in circles]
    assert heights[1:] == sorted(heights[1:], reverse=True)  # upwards is worse


def test_steps_upgrades_and_quiet_chains_are_told(tmp_path, show):
    _, out, _ = show(journal(tmp_path / "h.jsonl", [0.0, 0.05, 0.0]))
    assert "a step of +5.0% (+4.9% to +5.1%) at rev2" in out
    _, out, _ = show(journal(tmp_path / "h.jsonl", [0.0, 0.04, 0.0], head_torch={1: "2.6"}))
    assert "torch 2.5 -> 2.6 came between rev1 and rev2, with +4.0%: no revision's, a new chain begins" in out
    assert "FAIL" not in out
    assert out.count("no creep and no step") == 2
    _, out, _ = show(journal(tmp_path / "h.jsonl", [0.02, 0.02], error=0.008))
    assert "`python -m bench gate --base rev0 --head rev2` decides" in out


def test_an_upgrade_is_told_in_the_unit_of_each_measure(tmp_path, show):
    file = journal(tmp_path / "h.jsonl", [0.04], head_torch={0: "2.6"})
    content = json.loads(file.read_text())
    fvd = content["findings"][0] | {"measure": "fvd", "unit": "", "change": -1.5, "margin": 0.4}
    file.write_text(json.dumps(content | {"findings": [*content["findings"], fvd]}) + "\n")
    lines = show(file)[1].splitlines()[1:]
    assert [line.partition(": torch")[0] for line in lines] == ["a <b>, fvd", "a <b>, speed"]
    assert [line.partition("with ")[2].partition(":")[0] for line in lines] == ["-1.5", "+4.0%"]


def test_what_is_no_journal_is_one_line(tmp_path, show):
    code, _, error = show(tmp_path / "none")
    assert code == 3
    assert error.count("\n") == 1
