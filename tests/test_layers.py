"""Imports point one way: vidrd <- baselines <- bench -> metrics, reports load bench.results alone; none is in a
circle.
"""

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"vidrd", "baselines", "metrics", "bench", "reports", "tests"}
MAY_IMPORT = {
    "vidrd": set(),
    "baselines": {"vidrd"},
    "metrics": set(),
    "bench": {"vidrd", "baselines", "metrics"},
    "reports": {"bench.results"},
    # within bench: what knows no video
    "bench.results": {"vidrd.command_line", "vidrd.entry", "vidrd.files"},
    "bench.hardware": {"bench.results", "vidrd.precision"},
    "bench.harness": {
        "bench.results",
        "bench.hardware",
        "bench.workloads",
        "vidrd.entry",
        "vidrd.files",
        "vidrd.orphans",
        "vidrd.resumable_pool",
    },
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in MAY_IMPORT
    if "." not in package
    for path in (ROOT / package).rglob("*.py")
}


def imported(source: str, modules: Mapping[str, object] = MODULES) -> set[str]:
    """Full names of the modules that a source imports, wherever it does, and of those it names as "module:function"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            own = {f"{node.module}.{alias.name}" for alias in node.names}
            below = own if node.module in OURS and node.module not in modules else own & modules.keys()
            names |= below if below == own else below | {node.module or ""}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {node.value.partition(":")[0]} & modules.keys() if ":" in node.value else set()
    return names


def breaches(package: str, source: str) -> set[str]:
    """Imports of ours that the package may not make."""
    allowed = MAY_IMPORT[package] | {package}
    return {
        name
        for name in imported(source)
        if name.split(".")[0] in OURS and not any(name == a or name.startswith(f"{a}.") for a in allowed)
    }


def circles(sources: Mapping[str, str]) -> list[set[str]]:
    """Sets of modules of which each imports, by way of the others, itself."""
    ways = {name: imported(source, sources) & sources.keys() - {name} for name, source in sources.items()}
    reached = {name: set(ahead) for name, ahead in ways.items()}
    changed = True
    while changed:
        changed = False
        for name, ahead in reached.items():
            further = ahead.union(*(reached[each] for each in ahead))
            changed |= further != ahead
            reached[name] = further
    return list({frozenset(a for a in found if name in reached[a]) for name, found in reached.items() if name in found})


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_no_package_imports_what_it_may_not(package):
    for path in (ROOT / package.replace(".", "/")).rglob("*.py"):
        assert not breaches(package, path.read_text()), path


def test_a_planted_breach_is_seen():
    assert breaches("vidrd", "import baselines.direct") == {"baselines.direct"}
    assert breaches("reports", "from bench.harness import runner") == {"bench.harness.runner"}
    assert breaches("reports", "from bench import suites") == {"bench.suites"}
    assert breaches("reports", "from bench.results.records import read") == set()
    assert breaches("metrics", "def f():\n    from vidrd.video import to_uint8") == {"vidrd.video"}
    assert breaches("bench.hardware", "from bench.videos.cell import run") == {"bench.videos.cell"}


def test_no_modules_import_each_other_in_a_circle():
    assert circles({name: path.read_text() for name, path in MODULES.items()}) == []


def test_a_planted_circle_is_seen():
    sources = {
        "bench.a": "from bench.b import f",
        "bench.b": "def f():\n    from bench import c",  # a lazy import is one
        "bench.c": "WORK = 'bench.a:run'",  # and so is a name that is resolved later
        "bench.d": "import bench.a",  # leads into the circle, and is not of it
    }
    assert circles(sources) == [{"bench.a", "bench.b", "bench.c"}]
    assert circles({**sources, "bench.c": ""}) == []


def test_reports_load_without_torch():
    code = "import sys; sys.modules['torch'] = None; import reports.__main__, reports.run_table, reports.text_tables"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_rooms_of_bench_are_few():
    rooms = [p for p in (ROOT / "bench").iterdir() if not p.name.startswith("__")]
    assert len(rooms) <= 13, sorted(p.name for p in rooms)
    assert len((ROOT / "bench" / "__main__.py").read_text().splitlines()) < 50
