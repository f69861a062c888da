"""The recipe for a new sampler in CONTRIBUTING.md, followed step by step in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = "newcomer"
RECIPE = (ROOT / "CONTRIBUTING.md").read_text().split("## A new sampler")[1].split("\n## ")[0]
UNNEEDED = shutil.ignore_patterns(".*", "runs", "__pycache__", "*.egg-info")


def left_out(folder, names):
    """What is not copied; the weights at the root are large and linked, metrics/weights is code."""
    return UNNEEDED(folder, names) | ({"weights"} if Path(folder) == ROOT else set())


def block(language):
    """The recipe's block of code in that language, for the newcomer."""
    (matches,) = re.findall(rf"   ```{language}\n(.*?)\n   ```", RECIPE, re.DOTALL)
    return re.sub("^   ", "", matches, flags=re.MULTILINE).replace("NAME", NAME)


def content(folder):
    return {path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.suffix in (".py", ".md")}


def insert_after(path, line, addition):
    text = path.read_text()
    assert text.count(line) == 1, line
    path.write_text(text.replace(line, f"{line}{addition}\n"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project after the three steps."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(ROOT, folder, ignore=left_out)
    (folder / "weights").symlink_to(ROOT / "weights")
    before = content(folder)
    assert re.findall(r"^(\d)\. ", RECIPE, re.MULTILINE) == ["1", "2", "3"]

    sampler = (folder / "baselines/sampler_template.py").read_text()
    idea = "first + math.sqrt(1 - options.shared) * noise("
    assert sampler.count(idea) == 1
    (folder / f"baselines/{NAME}.py").write_text(
        sampler.replace(idea, "first.flip(2) + math.sqrt(1 - options.shared) * noise(")
    )
    insert_after(folder / "bench/methods.py", "import baselines.independent\n", f"import baselines.{NAME}")
    insert_after(folder / "bench/methods.py", "METHODS: dict[str, Method] = {\n", block("python"))
    table = (folder / "docs/methods.md").read_text().splitlines(keepends=True)
    row = next(line for line in table if line.startswith("| `direct`"))
    insert_after(folder / "docs/methods.md", row, block("markdown"))

    after = content(folder)
    changed = {str(path) for path in before if before[path] != after[path]}
    assert changed == {"bench/methods.py", "docs/methods.md"}
    assert {str(path) for path in set(after) - set(before)} == {f"baselines/{NAME}.py"}
    return folder


def in_project(folder, *words):
    env = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_a_sampler_written_from_the_recipe_passes_conformance(project):
    tests = ["tests/test_samplers.py", "tests/test_docs.py::test_every_name_has_a_row_in_its_table"]
    done = in_project(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", f"{NAME} or methods")
    assert done.returncode == 0, done.stdout
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed > 30


def test_the_bench_compares_it(project):
    done = in_project(project, "-m", "bench", "list")
    assert done.returncode == 0, done.stderr
    assert NAME in done.stdout
