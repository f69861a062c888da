"""The command line of the gate; what it measures is replaced."""

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from bench.__main__ import main
from bench.commands import gate as command
from bench.hardware.machine import ROOT
from bench.regression import baselines
from bench.regression.baselines import BaselineKey, calibrate, check_baseline, key_of, load
from bench.regression.counts import counted
from bench.regression.interleaved import RevisionError
from bench.regression.worktrees import Side
from bench.results.verdicts import EXIT_CODES, Finding
from vidrd.precision import why_emulated

FACTS = {"recipe": {"steps": 4}, "counts": {"flops": 100, "operators": 7, "graph_breaks": "no"}, "sha256": "abc"}
KEY = BaselineKey("r" * 12, "h" * 12, "s" * 12)


@pytest.fixture
def gate(monkeypatch, tmp_path, capsys):
    """Call `bench gate` with findings that were made up: verdicts, words -> exit code, output, error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "commit_of", lambda name: name * 10)
    monkeypatch.setattr(command, "checkout", lambda name, folder: (name * 10, tmp_path))
    monkeypatch.setattr(command, "environment", lambda tree, folder: tmp_path / "python")
    monkeypatch.delenv("CI", raising=False)
    arguments = {}

    def call(verdicts, *words):
        def measure(cells, base, head, settings, folder, say):
            arguments.update(cells=cells, base=base, head=head, settings=settings)
            speed = Finding("cell", "speed", "PASS", "because", "s", change=0.02, margin=0.03, error=0.001)
            seen = {"software": {}, "pairs": {"cell": [[1.0, 1.02, group, ""] for group in range(9)]}}
            return [replace(speed, verdict=verdict) for verdict in verdicts], seen

        monkeypatch.setattr(command, "measure_interleaved", measure)
        monkeypatch.setattr(sys, "argv", ["bench", "gate", *words])
        return main(), *capsys.readouterr(), arguments

    return call


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["PASS"], 0),
        (["PASS", "FAIL", "INVALID"], 1),
        (["PASS", "INVALID"], 2),
        (["INCONCLUSIVE", "PASS"], 4),
        (["CALIBRATION_NEEDED"], 4),
        ([], 2),
    ],
)
def test_the_exit_code_is_the_verdict(gate, tmp_path, verdicts, code):
    (tmp_path / "runs").mkdir()
    assert gate(verdicts, "--base", "abcd", "--junit", "j.xml", "--json", "v.json")[0] == code
    content = json.loads((tmp_path / "v.json").read_text())
    assert [finding["verdict"] for finding in content["findings"]] == verdicts
    assert content["base"] == "abcd" * 10
    assert (tmp_path / "runs" / "gate" / "verdict.md").exists()
    assert (tmp_path / "j.xml").exists()


def test_a_head_whose_source_changed_while_it_was_measured_is_invalid(gate, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    sources = iter(["one", "another"])
    monkeypatch.setattr(command, "source_hash", lambda tree: next(sources))
    assert gate(["PASS"], "--base", "a", "--json", "v.json")[0] == 2
    finding = json.loads((tmp_path / "v.json").read_text())["findings"][-1]
    assert (finding["measure"], finding["verdict"]) == ("source", "INVALID")


def test_any_model_can_be_measured(gate, tmp_path):
    words = ("--base", "main", "--suite", "lengths", "--frames", "9", "--overlap", "4", "--precision", "fp32")
    *_, arguments = gate(["PASS"], *words, "--model", "tiny:WanPipeline:2.1-euler", "--method", "direct")
    assert [values["model"] for _, values in arguments["cells"]] == ["tiny:WanPipeline:2.1-euler"]
    (tmp_path / "prompts.txt").write_text("a dog")
    words = (*words, "--model", "tiny:WanPipeline:2.1-euler", "--prompts", "prompts.txt", "--method", "codenoise")
    *_, arguments = gate(["PASS"], *words)
    assert arguments["cells"][0][1]["prompts"] == str(tmp_path / "prompts.txt")  # sides work in trees of their own
    assert "the gate measures cells that make videos" in gate(["PASS"], "--base", "main", "--suite", "kernels")[2]


def test_what_is_measured_can_be_chosen(gate):
    words = ("--base", "main", "--method", "direct", "--margin", "0.01", "--threads", "0", "--outputs", "may-change")
    *_, arguments = gate(["PASS"], *words, "--processes", "3", "--pairs", "4", "--environments", "shared")
    assert {values["method"] for _, values in arguments["cells"]} == {"direct"}
    native = [precision for precision in ("fp32", "bf16") if why_emulated(precision, "cpu") is None]
    assert [values["precision"] for _, values in arguments["cells"]] == native
    settings = arguments["settings"]
    assert (settings.processes, settings.pairs, settings.margin, settings.threads) == (3, 4, 0.01, None)
    assert settings.may_change
    assert arguments["base"].python == arguments["head"].python


def test_margins_come_from_a_file_of_the_users(gate, tmp_path):
    (tmp_path / "gate.toml").write_text('speed = 0.05\n[cells."vidrd fp32"]\nspeed = 0.01\nflops = 0.5\n')
    *_, arguments = gate(["PASS"], "--base", "main", "--thresholds", "gate.toml")
    settings = arguments["settings"]
    assert (settings.margin_of("vidrd fp32"), settings.margin_of("direct fp32")) == (0.01, 0.05)
    more = counted("", {"flops": 100}, {"flops": 140}, settings.margins["vidrd fp32"])
    assert [finding.verdict for finding in more] == ["PASS"]
    assert [finding.verdict for finding in counted("", {"flops": 100}, {"flops": 140})] == ["FAIL"]
    (tmp_path / "gate.toml").write_text("sped = 0.05\n")
    code, _, error, _ = gate(["PASS"], "--base", "main", "--thresholds", "gate.toml")
    assert (code, error.count("\n")) == (3, 1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "bench: a gate compares with a revision or with stored baselines: give --base REV or --stored FILE"),
        (("--base", "a", "--calibrate"), "bench: --calibrate writes stored baselines: say where with --stored FILE"),
        (("--base", "a", "--suite", "gat"), "bench: there is no suite 'gat': did you mean 'gate'?"),
        (("--base", "a", "--pairs", "5"), "bench: blocks of A B B A have an even number of pairs, at least 2; got 5"),
        (
            ("--base", "a", "--frames", "8"),
            "bench: a gate measures all its cells: 8 frames are fewer than the",
        ),
        (("--base", "a", "--suite", "kernels"), "bench: the gate measures cells that make videos; kernels measures"),
        (("--base", "a", "--junit", "no/j"), "bench: --junit no/j: the folder no does not exist, make it first"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_3(gate, words, line):
    code, out, error, _ = gate(["PASS"], *words)
    assert (code, out) == (3, "")
    assert error.startswith(line)
    assert error.count("\n") == 1


def test_every_gate_adds_to_a_journal_and_many_small_losses_are_a_regression(gate, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    for base, head in ("ab", "bc", "cd"):
        gate(["PASS"], "--base", base, "--head", head)
        gate(["PASS"], "--base", base, "--head", head, "--journal", "kept.jsonl")
    lines = (tmp_path / "runs" / "gate" / "history.jsonl").read_text().splitlines()
    assert len(lines) == len((tmp_path / "kept.jsonl").read_text().splitlines()) == 3
    assert json.loads(lines[0])["log_ratios"] == {"cell": [[group, 0.019803] for group in range(9)]}
    assert json.loads(lines[0])["recipes"].keys() >= {"vidrd fp32", "direct fp32"}
    for words, code in (((), 1), (("kept.jsonl",), 1), (("none.jsonl",), 3)):
        monkeypatch.setattr(sys, "argv", ["bench", "history", *words])
        assert main() == code
    (tmp_path / "one.jsonl").write_text(lines[0] + "\n")
    monkeypatch.setattr(sys, "argv", ["bench", "history", "one.jsonl", "--page", "page.html"])
    assert main() == 0
    assert "<svg" in (tmp_path / "page.html").read_text()
    (tmp_path / "none.jsonl").touch()
    monkeypatch.setattr(sys, "argv", ["bench", "history", "none.jsonl"])
    assert main() == 4


def test_stored_baselines_are_found_by_recipe_hardware_and_software(tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    file = tmp_path / "baselines.json"
    assert check_baseline("cell", KEY, load(file), FACTS)[0].verdict == "CALIBRATION_NEEDED"
    calibrate(file, {str(KEY): {"cell": "cell", **FACTS}})
    findings = {finding.measure: finding.verdict for finding in check_baseline("cell", KEY, load(file), FACTS)}
    assert findings == dict.fromkeys(("recipe", "flops", "operators", "output"), "PASS")
    more = {**FACTS, "counts": {**FACTS["counts"], "flops": 101}, "sha256": "other"}
    findings = {finding.measure: finding.verdict for finding in check_baseline("cell", KEY, load(file), more)}
    assert (findings["flops"], findings["output"]) == ("FAIL", "INCONCLUSIVE")
    changed = {**FACTS, "recipe": {"steps": 3}}
    assert [finding.verdict for finding in check_baseline("cell", KEY, load(file), changed)] == ["INVALID"]
    other = check_baseline("cell", KEY._replace(software="x" * 12), load(file), FACTS)
    assert other[0].verdict == "CALIBRATION_NEEDED"
    assert other[0].reason.startswith("other software than any baseline of it")
    assert "no baseline of it" in check_baseline("cell", KEY._replace(recipe="x" * 12), load(file), FACTS)[0].reason


def test_a_key_names_what_must_agree_and_nothing_else():
    values, hardware, software = {"steps": 4}, {"cpu": "x"}, {"torch": "2"}
    key = key_of(values, hardware, software)
    assert key == key_of(dict(values), dict(hardware), dict(software))
    for changed in (({"steps": 5}, hardware, software), (values, {"cpu": "y"}, software), (values, hardware, {})):
        assert sum(a != b for a, b in zip(key, key_of(*changed), strict=True)) == 1


def test_baselines_are_never_raised_in_ci_or_read_from_something_else(tmp_path, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(ValueError, match="raised by a person, not in CI"):
        calibrate(tmp_path / "b.json", {})
    assert not (tmp_path / "b.json").exists()
    for entries in (
        [1],
        {"baselines": {str(KEY): {**FACTS, "counts": []}}},
        {"baselines": {str(KEY): {**FACTS, "recipe": 4}}},
    ):
        (tmp_path / "b.json").write_text(json.dumps(entries))
        with pytest.raises(ValueError, match="holds no baselines"):
            load(tmp_path / "b.json")


def test_stored_mode_counts_without_timing_and_calibrates_only_when_told(gate, tmp_path, monkeypatch):
    class FakeArm:
        def __init__(self, side, log, settings):
            assert isinstance(side, Side)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def ask(self, do, **request):
            if do == broken:
                raise RevisionError(f"the head failed: {do}")
            return {"hello": {}, "open": {"warm_up_seconds": [2.0, 1.0]}, "facts": FACTS}[do]

    monkeypatch.setattr(command, "RevisionProcess", FakeArm)
    words = ("--stored", "b.json", "--method", "vidrd", "--precision", "fp32")
    for broken in ("hello", "facts"):  # noqa: B007 - FakeArm reads it
        assert gate([], *words, "--calibrate")[0] == 2
    broken = ""
    (tmp_path / "b.json").unlink()
    assert gate([], *words)[0] == 4
    assert not (tmp_path / "b.json").exists()
    assert gate([], *words, "--calibrate")[0] == 0
    (entry,) = json.loads((tmp_path / "b.json").read_text())["baselines"].values()
    assert (entry["counts"], entry["seconds"], entry["cell"]) == (FACTS["counts"], 1.0, "vidrd fp32")
    before = (tmp_path / "b.json").read_bytes()
    assert gate([], *words)[0] == 0
    monkeypatch.setitem(FACTS, "counts", {**FACTS["counts"], "flops": 99})
    assert gate([], *words)[0] == 0  # less work: a pass, and still no reason to move the baseline
    assert (tmp_path / "b.json").read_bytes() == before
    assert baselines.load(tmp_path / "b.json")


ACTION = yaml.safe_load((ROOT / "docs" / "gate-action" / "action.yml").read_text())


def test_the_workflow_and_the_action_to_copy_ask_for_what_there_is():
    workflow = yaml.safe_load((ROOT / "docs" / "gate-workflow.yml").read_text())
    assert workflow[True] == "pull_request"  # YAML reads the word `on` so
    (use,) = [step for step in workflow["jobs"]["gate"]["steps"] if "gate" in step["uses"]]
    assert set(use["with"]) <= set(ACTION["inputs"])
    assert {name for name, each in ACTION["inputs"].items() if each.get("required")} <= set(use["with"])
    text = yaml.safe_dump(ACTION["runs"])
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == set(ACTION["inputs"])
    (measure,) = [step for step in ACTION["runs"]["steps"] if step.get("id") == "gate"]
    assert set(measure["env"]) == set(re.findall(r"\$([A-Z]+)\b", measure["run"]))
    options = set(re.findall(r"(--[a-z][a-z-]+) \S", measure["run"].partition(" -- ")[2].partition("code=")[0]))
    offered = {f"--{name.rstrip('_').replace('_', '-')}" for name in inspect.signature(command.gate).parameters}
    assert {"--base", "--suite", "--margin", "--max-minutes", "--journal", "--junit"} == options <= offered
    (upload,) = [step["with"]["path"].split() for step in ACTION["runs"]["steps"] if "upload" in step.get("uses", "")]
    assert {"gate.xml", "runs/gate/verdict.json", "runs/gate/verdict.md", "runs/gate/comment.md"} <= set(upload)
    assert command.FOLDER.as_posix() == "runs/gate"


@pytest.mark.parametrize(
    ("verdict", "inconclusive", "code"),
    [("PASS", "warn", 0), ("FAIL", "warn", 1), ("INVALID", "warn", 2), ("INCONCLUSIVE", "warn", 0),
     ("INCONCLUSIVE", "fail", 4), ("", "warn", 3)],
)  # fmt: skip
def test_the_steps_of_the_action_run(tmp_path, verdict, inconclusive, code):
    """Its scripts, by bash, with programs in the place of nox and gh that write down what they are asked for."""
    programs = tmp_path / "bin"
    programs.mkdir()
    ends = EXIT_CODES.get(verdict, 3)
    writes = (
        f'mkdir -p runs/gate; echo \'{{"verdict": "{verdict}"}}\' > runs/gate/verdict.json; touch runs/gate/comment.md'
    )
    scripts = {
        "python3": f'case "$*" in "-m nox"*) echo "$*" >> asked; {writes if verdict else ":"}; exit {ends};; '
        f'"-c"*) exec {sys.executable} "$@";; *) echo "$*" >> asked;; esac',
        "gh": 'echo "gh $*" >> asked',
    }
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)
    given = {name: each.get("default", "") for name, each in ACTION["inputs"].items()}
    given |= {"base": "a b", "options": "--detect fvd=10%", "inconclusive": inconclusive, "pull-request": "7"}
    codes = []
    for step in (step for step in ACTION["runs"]["steps"] if "run" in step):
        filled = {name: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda m: given[m[1]], value)
                  for name, value in step.get("env", {}).items()}  # fmt: skip
        environ = {"PATH": f"{programs}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(tmp_path / "output"), **filled}
        codes.append(
            subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environ, check=False).returncode
        )
    assert codes == [0, code, 0]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:2] == [
        "-m pip install nox[uv]",
        "-m nox -s gate -- --base a b --suite gate --margin 0.03 --max-minutes 15 --journal runs/gate/history.jsonl "
        "--junit gate.xml --detect fvd=10%",
    ]
    if verdict:
        assert (tmp_path / "output").read_text() == f"verdict={verdict}\n"
        assert asked[2:] == ["gh pr comment 7 --body-file runs/gate/comment.md --edit-last --create-if-none"]
    else:
        assert asked[2:] == []
