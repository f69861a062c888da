"""Imports point one way: vidrd <- baselines <- bench -> metrics, and reports load without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"vidrd", "baselines", "metrics", "bench", "reports", "tests"}
MAY_IMPORT = {
    "vidrd": set(),
    "baselines": {"vidrd"},
    "metrics": set(),
    "bench": {"vidrd", "baselines", "metrics"},
    "reports": {"bench.record", "bench.manifest", "bench.stats", "bench.gates", "bench.entry", "bench.option_types"},
}


def imported(source: str) -> set[str]:
    """Full names of the modules that a source imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            if node.module in OURS:
                names.discard(node.module)
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def breaches(package: str, source: str) -> set[str]:
    """Imports of ours that the package may not make."""
    allowed = MAY_IMPORT[package] | {package}
    return {
        name
        for name in imported(source)
        if name.split(".")[0] in OURS and not any(name == a or name.startswith(f"{a}.") for a in allowed)
    }


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_no_package_imports_what_it_may_not(package):
    for path in (ROOT / package).rglob("*.py"):
        assert not breaches(package, path.read_text()), path


def test_a_planted_breach_is_seen():
    assert breaches("vidrd", "import baselines.direct") == {"baselines.direct"}
    assert breaches("reports", "from bench import run") == {"bench.run"}
    assert breaches("metrics", "def f():\n    from vidrd.video import to_uint8") == {"vidrd.video"}


def test_reports_load_without_torch():
    code = "import sys; sys.modules['torch'] = None; import reports.__main__, reports.table, reports.markdown"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_two_packages_that_import_nothing_of_ours_end_their_commands_alike():
    assert (ROOT / "metrics" / "entry.py").read_text() == (ROOT / "vidrd" / "entry.py").read_text()
