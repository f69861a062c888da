"""The recipes for samplers and families of models in CONTRIBUTING.md, followed step by step in a copy of the code."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = "newcomer"
PIPELINE = "NewcomerPipeline"
UNNEEDED = shutil.ignore_patterns(".*", "runs", "*.pyc.*", "*.egg-info")  # what is compiled saves compiling it again


def left_out(folder, names):
    """What is not copied; the weights at the root are large and linked, metrics/weights is code."""
    return UNNEEDED(folder, names) | ({"weights"} if Path(folder) == ROOT else set())


def recipe(title):
    """A recipe of three steps."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    assert re.findall(r"^(\d)\. ", text, re.MULTILINE) == ["1", "2", "3"]
    return text


def block(text, language):
    """The recipe's block of code in that language, for the newcomer."""
    (code,) = re.findall(rf"   ```{language}\n(.*?)\n   ```", text, re.DOTALL)
    return re.sub("^   ", "", code, flags=re.MULTILINE).replace("NAME", NAME).replace("PIPELINE", PIPELINE)


def content(folder):
    return {path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.suffix in (".py", ".md")}


def insert_after(path, line, addition):
    text = path.read_text()
    assert text.count(line) == 1, line
    path.write_text(text.replace(line, f"{line}{addition}\n"))


@pytest.fixture
def copied(tmp_path):
    """The project as it is."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT, folder, ignore=left_out)
    (folder / "weights").symlink_to(ROOT / "weights")
    return folder


def check_changes(folder, before, changed, added):
    after = content(folder)
    assert {str(path) for path in before if before[path] != after[path]} == changed
    assert {str(path) for path in set(after) - set(before)} == {added}


def insert_row(folder, table, like, row):
    """Add a row after that of a table."""
    lines = (folder / table).read_text().splitlines(keepends=True)
    insert_after(folder / table, next(line for line in lines if line.startswith(f"| `{like}`")), row)


def in_project(folder, *words):
    env = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


def write_sampler(copied):
    """Follow the recipe for a sampler to the letter."""
    steps, before = recipe("A new sampler"), content(copied)
    sampler = (copied / "baselines/sampler_template.py").read_text()
    idea = "first + math.sqrt(1 - options.shared) * noise("
    assert sampler.count(idea) == 1
    (copied / f"baselines/{NAME}.py").write_text(
        sampler.replace(idea, "first.flip(2) + math.sqrt(1 - options.shared) * noise(")
    )
    insert_after(copied / "bench/methods.py", "import baselines.independent\n", f"import baselines.{NAME}")
    insert_after(copied / "bench/methods.py", "METHODS: dict[str, Method] = {\n", block(steps, "python"))
    insert_row(copied, "docs/methods.md", "direct", block(steps, "markdown"))
    check_changes(copied, before, {"bench/methods.py", "docs/methods.md"}, f"baselines/{NAME}.py")


def write_family(copied):
    """Follow the recipe for a family of models to the letter."""
    steps, before = recipe("A new family of models"), content(copied)
    family = (copied / "baselines/models/template.py").read_text()
    (copied / f"baselines/models/{NAME}.py").write_text(family.replace("shift=3.0", "shift=2.0"))
    table = "FAMILIES: dict[str, str] = {\n"
    insert_after(copied / "baselines/models/families.py", table, block(steps, "python"))
    insert_row(copied, "docs/models.md", "WanPipeline", block(steps, "markdown"))
    changed = {"baselines/models/families.py", "docs/models.md"}
    check_changes(copied, before, changed, f"baselines/models/{NAME}.py")


def test_what_is_written_from_the_recipes_passes_conformance_and_is_listed(copied):
    """In one process, as importing is most of what it takes."""
    write_sampler(copied)
    write_family(copied)
    oracles = f"{PIPELINE} and (1.0-0-2 or 4.0-2-1 or kept)"  # two, and the contract
    tests = [
        "tests/test_samplers.py", "tests/test_docs.py::test_every_name_has_a_row_in_its_table", "tests/test_models.py",
        "tests/bench/commands/test_list.py::test_list_names_suites_methods_and_metrics",
    ]  # fmt: skip
    chosen = f"({NAME} and test_samplers) or methods or ({oracles})"
    done = in_project(copied, "-m", "pytest", "-v", "-p", "no:cacheprovider", *tests, "-k", chosen)
    assert done.returncode == 0, done.stdout
    passed = re.findall(r"(tests/\S+)::\S+ PASSED", done.stdout)
    assert passed.count("tests/test_samplers.py") > 30
    assert passed.count("tests/test_models.py") == 3
    assert passed.count("tests/bench/commands/test_list.py") == 1
