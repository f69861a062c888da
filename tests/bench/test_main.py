import json
import sys

import pytest

from bench.__main__ import main


@pytest.fixture
def bench(monkeypatch, tmp_path, capsys):
    """Call the command line in an empty folder: arguments -> exit code, standard output, standard error."""

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        code = main()
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--suite", "pockt"], "bench: there is no suite 'pockt': did you mean 'pocket'?"),
        (["run", "--set", "framse=8"], "bench: there is no axis 'framse' in this suite: did you mean 'frames'?"),
        (["run", "--set", "method=vidr"], "bench: method cannot be 'vidr': did you mean 'vidrd'?"),
        (["run", "--set", "overlap=-1"], "bench: overlap is at least 0; came -1: try overlap=2,4,6"),
        (["run", "--out", "no/where"], "bench: --out no/where: the folder no does not exist, make it first"),
        (["run", "--json", "no/where"], "bench: --json no/where: the folder no does not exist, make it first"),
        (["show", "."], "bench: . is no run: it has no records.jsonl"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_3(bench, tmp_path, arguments, line):
    assert bench(*arguments) == (3, "", line + "\n")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_a_usage_error_too(bench):
    code, _, error = bench("run", "--frames", "8")
    assert code == 3
    assert "--frames" in error
    assert "Traceback" not in error


def test_help_is_no_error(bench):
    code, out, _ = bench("run", "--help")
    assert code == 0
    assert "--max-minutes" in out


def test_list_names_suites_methods_and_metrics(bench):
    code, out, _ = bench("list")
    assert code == 0
    for word in ("pocket", "smoke", "vidrd", "independent-shared", "direct", "fvd", "overlap", "Gu et al. 2023"):
        assert word in out


def test_show_prints_a_cell_with_its_raw_samples(bench, tmp_path):
    from test_run import go

    go(tmp_path, "how=fine", "size=1")
    code, out, _ = bench("show", str(tmp_path), "--cell", "")
    assert code == 0
    assert json.loads(out.split("\n{")[0])["cell"]["values"]["how"] == "real"
    assert '"samples": {\n  "speed": [' in out
    code, _, error = bench("show", str(tmp_path), "--cell", "zz")
    assert code == 3
    assert error.startswith("bench: no record of a cell 'zz'")
