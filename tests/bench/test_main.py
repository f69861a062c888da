import json
import os
import subprocess
import sys

import pytest


def bench(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--suite", "pockt"], "bench: there is no suite 'pockt': did you mean 'pocket'?"),
        (["run", "--set", "framse=8"], "bench: there is no axis 'framse' in this suite: did you mean 'frames'?"),
        (["run", "--set", "method=vidr"], "bench: method cannot be 'vidr': did you mean 'vidrd'?"),
        (["run", "--out", "no/where"], "bench: --out no/where: the folder no does not exist, make it first"),
        (["show", "."], "bench: . is no run: it has no records.jsonl"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_3(arguments, line, tmp_path):
    done = bench(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (3, line + "\n", "")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_a_usage_error_too(tmp_path):
    done = bench("run", "--frames", "8", cwd=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_list_names_suites_methods_and_metrics(tmp_path):
    done = bench("list", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("pocket", "smoke", "vidrd", "independent-shared", "direct", "fvd", "overlap", "Gu et al. 2023"):
        assert word in done.stdout


def test_show_prints_a_cell_with_its_raw_samples(tmp_path):
    from test_run import go

    go(tmp_path, "how=fine", "size=1")
    done = bench("show", str(tmp_path), "--cell", "", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout.split("\n{")[0])["cell"]["values"]["how"] == "real"
    assert '"samples": {\n  "speed": [' in done.stdout
    assert bench("show", str(tmp_path), "--cell", "zz", cwd=tmp_path).returncode == 3
