"""What the documents say is so: their tables are complete, their commands run, their links lead somewhere."""

import ast
import contextlib
import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from baselines.models.families import FAMILIES
from bench.__main__ import COMMANDS as BENCH
from bench.commands.axis_options import axes_to_set
from bench.methods import METHODS
from bench.suites import SUITES
from metrics import METRICS
from reports.__main__ import main as report

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = sorted((ROOT / "docs").glob("*.md"))
WORDS = 900  # of the README at most: who wants to know more follows a link
LINES = 40  # within which the README says how to run the project


def section(page: str, title: str) -> str:
    return (ROOT / page).read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_column(page: str, title: str) -> set[str]:
    """Names in code type in the first column of a section's table."""
    rows = [line for line in section(page, title).splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def sessions() -> set[str]:
    module = ast.parse((ROOT / "noxfile.py").read_text())
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    return {f.name for f in functions if any("nox.session" in ast.unparse(d) for d in f.decorator_list)}


@pytest.mark.parametrize(
    ("page", "title", "names"),
    [
        pytest.param("docs/methods.md", "Table", set(METHODS), id="methods"),
        pytest.param("docs/models.md", "Table", set(FAMILIES), id="models"),
        pytest.param("docs/metrics.md", "All metrics", set(METRICS), id="metrics"),
        pytest.param("docs/suites.md", "Table", set(SUITES), id="suites"),
        pytest.param("docs/harness.md", "Sessions of nox", sessions(), id="sessions"),
    ],
)
def test_every_name_has_a_row_in_its_table(page, title, names):
    assert first_column(page, title) == names


def test_the_table_says_which_way_is_better_as_the_metrics_do():
    words = {"lower": "lower", "higher": "higher", "as real": "real"}
    rows = [line.split("|") for line in section("docs/metrics.md", "All metrics").splitlines()]
    better = {name: words[row[3].strip()] for row in rows if len(row) > 3 for name in re.findall(r"`([^`]+)`", row[1])}
    assert better == {name: metric.better for name, metric in METRICS.items()}


def test_every_page_is_listed():
    """In the README, or next to what it belongs to on a page that is listed there."""
    listed = set(re.findall(r"docs/(\S+?\.md)", section("README.md", "Documentation")))
    linked = {name for page in listed for name in re.findall(r"\]\((\w[\w-]*\.md)", (ROOT / "docs" / page).read_text())}
    assert listed <= {page.name for page in DOCS} == listed | linked & {page.name for page in DOCS}


def test_the_tables_of_long_videos_are_those_of_the_records(monkeypatch, capsys):
    page = (ROOT / "docs" / "long-videos.md").read_text()
    command = re.search(r"^    python -m reports (.*--tables.*)$", page, re.MULTILINE)[1]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["reports", *shlex.split(command)])
    assert report() == 0
    tables = re.search(r"<!-- tables: begin -->\n(.*)<!-- tables: end -->", page, re.DOTALL)[1]
    assert capsys.readouterr().out == tables


def test_the_readme_is_short_and_soon_says_how_to_run():
    assert len(README.split()) <= WORDS
    start = "\n".join(README.splitlines()[:LINES])
    assert {"bench", "tests"} <= set(re.findall(r"python3 -m nox -s (\w+)", start))


def test_the_readme_explains_every_column_of_its_table():
    report, after = README.split("<!-- report: begin -->")[1].split("<!-- report: end -->")
    head = next(line for line in report.splitlines() if line.startswith("| method"))
    columns = [column.strip().replace("\\|", "|") for column in re.split(r"(?<!\\)\|", head)[2:-1]]
    explained = re.findall(r"\*\*(.+?)\*\*", after.split("\n## ")[0])
    assert len(columns) >= 3
    assert columns == explained


def test_sizes_of_the_weights_are_theirs():
    """Megabytes, as the page of the pocket world has them; the tokenizer and the cards are kilobytes."""
    sizes = re.search(
        r"([\d.]+) MB in all \(U-Net ([\d.]+), VAE ([\d.]+), classifiers ([\d.]+), text encoder ([\d.]+)\)",
        (ROOT / "docs/pocket.md").read_text(),
    )
    folders = ("", "pocket/unet", "pocket/vae", "pocket-judges", "pocket/text_encoder")
    for mega, folder in zip(sizes.groups(), folders, strict=True):
        files = (ROOT / "weights" / folder).rglob("*.safetensors")
        assert sum(file.stat().st_size for file in files) / 1e6 == pytest.approx(float(mega), abs=0.06), folder


def test_the_license_is_the_one_that_the_package_says():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "Apache 2.0" in section("README.md", "License")


def test_a_wheel_has_the_files_that_the_packages_read():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {file for package, globs in patterns.items() for each in globs for file in (ROOT / package).glob(each)}
    packages = ("baselines", "bench", "metrics", "reports", "vidrd")
    files = {file for package in packages for file in (ROOT / package).rglob("*.*")}
    code = {file for file in files if file.suffix in (".py", ".pyc")}
    assert packed == files - code - {*(ROOT / "reports" / "measured").rglob("*.*")}


def test_paragraphs_have_a_number_of_their_own():
    numbers = [int(number) for number in re.findall(r"^\*\*(\d+)\.", (ROOT / "DECISIONS.md").read_text(), re.MULTILINE)]
    assert len(numbers) > 100
    assert len(numbers) == len(set(numbers))


def test_the_index_of_the_decisions_lists_every_paragraph_in_its_area():
    index, *areas = (ROOT / "DECISIONS.md").read_text().split("\n## ")
    listed = {
        area: re.findall(r"\d+", numbers)
        for area, numbers in re.findall(r"^\* \[(.+?)\]\(#\S+\),[^:]*: ([\d,\s]+)$", index, re.MULTILINE)
    }
    there = {area.split("\n")[0]: re.findall(r"^\*\*(\d+)\.", area, re.MULTILINE) for area in areas}
    assert listed == there


PAGES = [*(ROOT / name for name in ("README.md", "DECISIONS.md", "CONTRIBUTING.md", "CHANGELOG.md")), *DOCS]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            if target.startswith("https://") or "NAME" in target:
                continue
            there = page.parent / target if target else page
            assert there.exists(), (page.name, target)
            assert not anchor or anchor in anchors(there), (page.name, target, anchor)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def command_lines(text: str) -> list[str]:
    """The commands in the shell blocks of a page, one per line, without comments."""
    joined = "\n".join(blocks("(?:sh|console)", text)).replace("\\\n", " ")
    matches = re.findall(r"(?:python|torchrun.*?|launch.*?) -m (bench|metrics|reports|vidrd)(?=\s)([^#\n;&|]*)", joined)
    return sorted({f"{module} {words.strip()}" for module, words in matches})


SHOWN = sorted({line for page in (ROOT / "README.md", *DOCS) for line in command_lines(page.read_text())})


@pytest.mark.parametrize("command", SHOWN)
def test_words_of_shown_commands_are_options(command, monkeypatch, capsys):
    """Every --word of a command that a page shows is in that verb's help."""
    module, *words = shlex.split(command)
    verb = words[:1] if module != "reports" else []
    main = importlib.import_module(f"{module}.__main__").main
    if module == "bench" and verb == ["run"]:
        words = axes_to_set(words, BENCH["run"])
    monkeypatch.setattr(sys, "argv", [module, *verb, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with contextlib.suppress(SystemExit):
        assert main() in (None, 0)
    shown = capsys.readouterr().out
    known = set(re.findall(r"--[a-z0-9][a-z0-9-]*", shown))
    assert not re.findall(r"\{None\}|\(default: (None)?\)|│ +│\n", shown), "help is for people, who know no None"
    asked = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert "--help" in known
    assert asked <= known


COMMANDS = [line for block in blocks("console") for line in block.splitlines() if line.startswith("python -m")]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, tmp_path, monkeypatch):
    """In this process, which has loaded what they need; a video in fewer steps, which changes nothing else."""
    words = shlex.split(command)[2:]
    words += ["--steps", "2"] if "sample" in words else []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words)
    assert importlib.import_module(f"{words[0]}.__main__").main() == 0
    if "--out" in words:
        assert (tmp_path / words[words.index("--out") + 1]).stat().st_size > 1000


def test_the_python_example_prints_what_the_readme_shows(capsys):
    (example,), (printed,) = blocks("python"), blocks("text")
    steps = "num_inference_steps=20"
    assert example.count(steps) == 1
    exec(compile(example.replace(steps, "num_inference_steps=2"), "README.md", "exec"), {})  # it prints no pixels
    assert capsys.readouterr().out == printed


def test_the_first_commands_name_real_sessions():
    named = set(re.findall(r"nox -s (\w+)", README))
    assert {"bench", "tests"} <= named <= sessions()
