"""What the README says is so: its tables are complete, its commands run, its links lead somewhere."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.methods import METHODS
from bench.suites import SUITES
from metrics import METRICS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_column(title: str) -> set[str]:
    """Names in code type in the first column of a section's table."""
    rows = [line for line in section(title).splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def sessions() -> set[str]:
    module = ast.parse((ROOT / "noxfile.py").read_text())
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    return {f.name for f in functions if any("nox.session" in ast.unparse(d) for d in f.decorator_list)}


@pytest.mark.parametrize(
    ("title", "names"),
    [("Methods", set(METHODS)), ("Metrics", set(METRICS)), ("Suites", set(SUITES)), ("Sessions", sessions())],
)
def test_every_name_stands_in_its_table(title, names):
    assert first_column(title) == names


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line for block in blocks("console") for line in block.splitlines() if line.startswith("python -m")]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, tmp_path):
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if "--out" in words:
        assert (tmp_path / words[words.index("--out") + 1]).stat().st_size > 1000


def test_the_python_example_runs(capsys):
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert "(1, 24, 32, 32, 3) uint8 [8, 16]" in capsys.readouterr().out


def test_the_first_commands_name_real_sessions():
    named = set(re.findall(r"nox -s (\w+)", README))
    assert {"bench", "tests"} <= named <= sessions()
