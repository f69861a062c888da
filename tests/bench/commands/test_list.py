import subprocess
import sys

import pytest

from bench.harness.suite_spec import cells_of, number_of_cells
from bench.methods import METHODS
from bench.suites import SUITES


def test_list_names_suites_methods_and_metrics(bench):
    code, out, _ = bench("list")
    assert code == 0
    for word in (*SUITES, *METHODS, "fvd", "overlap", "Gu et al. 2023"):
        assert word in out


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_fits_the_terminal(bench, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = bench("list")
    assert columns - 20 < max(map(len, out.splitlines())) <= columns


def test_the_list_loads_no_model_and_no_pytest():
    """Cells are counted without diffusers and transformers, which take seconds."""
    code = (
        "import contextlib, io, sys; from bench.commands.list import list_\n"
        "with contextlib.redirect_stdout(io.StringIO()): list_()\n"
        "heavy = ('diffusers', 'transformers', 'pytest', 'pytest_benchmark', 'bench.kernels.cell')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cells_are_counted_without_models_as_they_are_planned():
    for suite in SUITES.values():
        assert number_of_cells(suite) == len(cells_of(suite, {}))
