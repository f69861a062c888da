import json
import re
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bench.results.verdicts import Finding
from reports import gate_report as module

FINDINGS = [
    Finding("vidrd fp32", "recipe", "PASS", "equal"),
    Finding(
        "vidrd fp32", "speed", "FAIL", "slower by 10 % | <b>", "s", 0.5, 0.55, 0.1, 0.08, 0.12, 0.03, 0.05, 1e-6, 30
    ),
    Finding("vidrd bf16", "flops", "INVALID", "the head gave no number", "FLOP", 2.5e9, None, margin=0.001),
    Finding("direct fp32", "peak_bytes", "PASS", "equal", "bytes", 2**20, 2**20, 0.0, margin=0.01, detectable=0.01),
    Finding("direct fp32", "fvd", "INCONCLUSIVE", "more videos", "", 2.0, 2.1, 0.1, -0.2, 0.4, 0.2, 0.6, None, 24),
    Finding("direct bf16", "baseline", "CALIBRATION_NEEDED", "none"),
]


@pytest.fixture
def content(tmp_path):
    file = tmp_path / "verdict.json"
    whole = {
        "verdict": "FAIL", "base": "a" * 40, "head": "b" * 40, "seconds": 61.2, "written": "2026-01-01",
        "findings": [finding.to_dict() for finding in FINDINGS],
        "machine": {"cpu": "some cpu", "cores": 2, "gpu": "none"},
        "settings": {"margin": 0.03}, "software": {"base": {"torch": "2.15.0", "tree": "x"}},
    }  # fmt: skip
    file.write_text(json.dumps(whole))
    return file, whole


def test_the_text_says_what_is_wrong_first(content):
    text = module.as_text(content[1], FINDINGS)
    assert text.index("FAIL") < text.index("INVALID") < text.index("INCONCLUSIVE")
    assert "+10.0% (+8.0% to +12.0%)" in text
    assert "2.50 GFLOP" in text
    assert "1.00 MiB" in text
    assert "+0.1 (-0.2 to +0.4)" in text
    assert text.splitlines()[-1].startswith("FAIL (1 FAIL, 1 INVALID, 1 INCONCLUSIVE, 1 CALIBRATION_NEEDED, 2 PASS")


def test_markdown_keeps_reasons_as_text(content):
    page = module.as_markdown(content[1], FINDINGS)
    assert page.startswith("## ❌ FAIL: bbbbbbbb against aaaaaaaa")
    assert "\\| &lt;b&gt;" in page
    assert "torch 2.15.0" in page
    assert "margin 0.03" in page
    assert "(98 % for times, 90 % for quality)" in page
    of_gate = module.as_markdown(content[1] | {"looks": {}}, FINDINGS)
    assert "(94 % over all looks for speed, 90 % for quality)" in of_gate


def test_a_comment_fits_and_says_the_worst_first(content):
    few = module.as_comment(content[1], FINDINGS)
    assert few.startswith("## ❌ FAIL: bbbbbbbb against aaaaaaaa")
    assert few.index("**FAIL**") < few.index("**INVALID**") < few.index("<details>")
    assert "<summary>6 findings</summary>" in few
    many = [replace(FINDINGS[1], cell=f"cell {i} " + "x" * 200, reason="é" * 300) for i in range(300)] + FINDINGS[:1]
    page = module.as_comment(content[1], many)
    assert len(page.encode()) <= module.COMMENT_BYTES
    assert "- and 288 more that are not PASS" in page
    (shown,) = re.findall(r"<summary>(\d+) of 301 findings</summary>", page)
    assert page.count("\n| cell ") - 1 == int(shown) > 20  # and the heading of the table


def test_junit_counts_what_ci_counts(content):
    root = ElementTree.fromstring(module.as_junit(content[1], FINDINGS).encode())
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6", "failures": "1", "errors": "1", "skipped": "2",
    }  # fmt: skip
    assert len(root.findall("testcase")) == 6
    assert root.find("testcase/failure").get("message") == "FAIL: slower by 10 % | <b>"


def test_a_checkout_with_changes_is_no_clean_revision(content):
    page = module.as_markdown({**content[1], "head": "b" * 40 + "+changes"}, FINDINGS)
    assert page.startswith("## ❌ FAIL: bbbbbbbb+changes against aaaaaaaa")


def test_control_characters_leave_junit_xml_and_markdown_markdown(content):
    hostile = Finding("a\x1b[2J", "b\x00\u202e", "FAIL", "c\x07")
    case = ElementTree.fromstring(module.as_junit(content[1], [hostile]).encode()).find("testcase")
    assert (case.get("classname"), case.get("name")) == ("a [2J", "b  ")
    page = module.as_markdown({**content[1], "machine": {"cpu": "a", "cores": "<b>2", "gpu": ""}}, [hostile])
    assert "&lt;b&gt;2 cores" in page


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reports", *map(str, arguments)])
    return module.main()


def test_the_command_writes_all_forms_and_githubs_summary(content, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    (tmp_path / "summary").write_text("before\n")
    assert run(monkeypatch, content[0], "--markdown", tmp_path / "v.md", "--junit", tmp_path / "v.xml") == 0
    assert "FAIL" in capsys.readouterr().out
    assert (tmp_path / "summary").read_text() == "before\n" + (tmp_path / "v.md").read_text()
    assert ElementTree.parse(tmp_path / "v.xml").getroot().tag == "testsuite"


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: [],
        lambda whole: {**whole, "verdict": "GOOD"},
        lambda whole: {**whole, "findings": [{**whole["findings"][1], "base": "fast"}]},
        lambda whole: {**whole, "findings": [{**whole["findings"][1], "verdict": "GOOD"}]},
        lambda whole: {**whole, "machine": {}},
        lambda whole: {**whole, "settings": []},
        lambda whole: {**whole, "seconds": float("nan")},
        None,
    ],
)
def test_what_is_no_verdict_is_one_line_and_leaves_nothing(content, tmp_path, monkeypatch, capsys, harm):
    file, whole = content
    if harm is None:
        file.unlink()
    else:
        file.write_text(json.dumps(harm(whole)))
    assert run(monkeypatch, file, "--markdown", tmp_path / "v.md") == 3
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("reports: ")
    assert "is no verdict" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "v.md").exists()


def test_it_loads_without_torch():
    import subprocess

    code = "import sys; sys.modules['torch'] = None; import reports.gate_report"
    subprocess.run([sys.executable, "-c", code], check=True)
