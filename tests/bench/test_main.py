"""What holds for every verb of `python -m bench`."""

import sys

import pytest

from bench.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--suite", "pockt"], "bench: there is no suite 'pockt': did you mean 'pocket'?"),
        (["run", "--set", "framse=8"], "bench: there is no axis 'framse' in this suite: did you mean 'frames'?"),
        (["run", "--set", "method=vidr"], "bench: method cannot be 'vidr': did you mean 'vidrd'?"),
        (["run", "--set", "overlap=-1"], "bench: overlap is at least 0; got -1: try overlap=2,6"),
        (["run", "--out", "no/where"], "bench: --out no/where: the folder no does not exist, make it first"),
        (["run", "--timeout", "0"], "bench: --timeout is seconds, more than 0; got 0.0"),
        (["run", "--json", "no/where"], "bench: --json no/where: the folder no does not exist, make it first"),
        (["show", "."], "bench: . is no run: it has no records.jsonl"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_3(bench, tmp_path, arguments, line):
    assert bench(*arguments) == (3, "", line + "\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("run --json /", "--json /: this is a folder, name a file"),
        ("run --out /proc/x", "--out /proc/x: nothing can be written into /proc (no such file or directory)"),
        ("run --out=", "--out names a file or folder: got an empty word"),
        ("run --timeout nan", "--timeout is seconds, more than 0; got nan"),
        ("run --max-minutes -5", "--max-minutes is minutes, 0 or more; got -5.0"),
        ("run --threads 0", "--threads is a count from 1; got 0"),
        ("run --seed 99999999999999999999", "seed is at most 999,999,999,999,999,999; got 99999999999999999999: try"),
        ("run --frames 999999999 --dry-run", "frames is at most 20,000; got 999999999: try frames=16,32"),
        pytest.param(
            "run --seed " + " ".join(map(str, range(2000))),
            "a plan has at most 20,000 cells; got ",
            id="too-many-cells",
        ),
        ("gate --base nope", "git knows no revision 'nope': name a commit, branch or tag that is here"),
        ("gate --base HEAD --margin nan", "--margin is a share, 0 or more: 0.03 is 3 %; got nan"),
        ("gate --base HEAD --seed -1", "--seed is a whole number from 0, of at most 18 digits; got -1"),
        ("compare . . --quality-margin 0", "--quality-margin is a share, more than 0: 0.1 is 10 %; got 0.0"),
        ("weights --weights=", "--weights names a file or folder: got an empty word"),
        ("ucf101 --standin --size 0", "--size is a count from 1; got 0"),
        ("ucf101 --standin --size 33", "--size is a multiple of 2 pixels for this model: got 33, try 32"),
        ("ucf101 --standin --steps 1001", "--steps are at most the 1000 of this model's training: got 1001"),
        ("ucf101 --standin --shard x", "--shard is I/N with I from 0 to N - 1, as in 0/8: got 'x'"),
        ("ucf101 --standin --limit 1", "fvd:styleganv compares sets of videos: got 1, try --limit 8"),
        ("ucf101 --ucf101 . --model pocket --size 32 --limit 8", "8 generated clips are too few: the score needs at"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(bench, tmp_path, words, line):
    code, out, error = bench(*words.split(" "))
    assert (code, out) == (3, "")
    assert error.startswith(f"bench: {line}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_which_nothing_can_be_made_is_one_line(monkeypatch, capsys):
    monkeypatch.chdir("/proc")
    monkeypatch.setattr(sys, "argv", ["bench", "run", "--suite", "smoke"])
    assert main() == 3
    line = "bench: --out runs/smoke: nothing can be written into /proc (no such file or directory)\n"
    assert capsys.readouterr() == ("", line)


def test_an_unknown_option_is_a_usage_error_too(bench):
    for words in (("run", "--framse", "8"), ("run", "--suite", "smoke", "--framse=8"), ("gate", "--framse", "8")):
        assert bench(*words) == (3, "", "bench: there is no option --framse: did you mean '--frames'?\n")
    code, _, error = bench("show", "--cel", "1")
    assert code == 3
    assert "Traceback" not in error


def test_help_is_no_error(bench):
    code, out, _ = bench("run", "--help")
    assert code == 0
    assert "--max-minutes" in out


def test_help_breaks_lines_where_the_terminal_ends(bench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    code, out, _ = bench("sample", "--help")
    assert code == 0
    assert "with all of them from left to right and from top to bottom. Files of the same names" in out
