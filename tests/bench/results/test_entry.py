"""How commands end: exit code 1 is a shown regression and nothing else."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.results.entry import parse, parse_verb
from vidrd.entry import obey

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (ValueError("two\nlines \x1b[2J"), 3, "x: two lines [2J\n"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no such letter"), 3, "x: 'ascii' codec can't encode"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "runs"),
            3,
            "x: runs: No such file or directory\n",
        ),
        (OSError(errno.EROFS, "Read-only file system", "a", None, "b"), 3, "x: a and b: Read-only file system\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "x: [Errno 28] No space left on device\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 2, "x: nobody reads the output any more\n"),
        (MemoryError(), 2, "x: out of memory: ask for less at one time\n"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            2,
            "x: out of memory: [enforce fail]",
        ),
        (KeyboardInterrupt(), 130, "x: stopped\n"),
        (SystemExit(143), 143, "x: ended by SIGTERM\n"),
        (SystemExit("no such thing"), 3, "x: no such thing\n"),
        (SystemExit(2), 3, ""),
        (SystemExit(1), 2, ""),
        (SystemExit(0), 0, ""),
        (SystemExit(None), 0, ""),
    ],
)
def test_what_a_user_or_the_machine_can_cause_is_one_line(raised, code, line, capsys):
    def do():
        raise raised

    assert obey("x", do) == code
    error = capsys.readouterr().err
    assert error.startswith(line)
    assert error.count("\n") == (1 if line else 0)


@pytest.mark.parametrize(
    "raised", [KeyError("basis"), TypeError("no"), RuntimeError("no"), AssertionError(), EOFError()]
)
def test_a_fault_of_the_code_has_its_traceback_and_never_code_1(raised, capsys):
    def do():
        raise raised

    assert obey("x", do) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_verdict_keeps_its_code():
    assert [obey("x", lambda code=code: code) for code in (None, 0, 1, 2, 3, 4)] == [0, 0, 1, 2, 3, 4]


def test_the_current_folder_may_be_gone(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert obey("x", lambda: len(os.getcwd())) == 3
    assert capsys.readouterr().err == "x: the current folder does not exist any more: cd into one that does\n"


def ended(code, shell="", **options):
    """A process of its own that does `code` under the wrapper: its exit code and stderr."""
    script = f"import sys, time\nfrom vidrd.entry import obey\ndef do():\n {code}\nsys.exit(obey('x', do))"
    command = f'"{sys.executable}" -c "$SCRIPT" {shell}'
    env = {**os.environ, "SCRIPT": script, "PYTHONPATH": str(ROOT), **options}
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, env=env, check=False
    )
    return done.returncode, done.stderr


def test_a_reader_that_goes_away_a_full_disk_and_a_terminal_without_the_letter():
    assert ended("[print(i) for i in range(100000)]", "| head -1") == (2, "x: nobody reads the output any more\n")
    assert ended("print('a')", "> /dev/full") == (2, "x: [Errno 28] No space left on device\n")
    assert ended("print('é ↑ 漢')", PYTHONIOENCODING="ascii") == (0, "")
    assert ended("print('a')", "2> /dev/full > /dev/full")[0] == 2


@pytest.mark.parametrize(
    ("sent", "code", "said"), [(signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGINT, 130, "stopped")]
)
def test_a_signal_takes_down_what_was_begun(sent, code, said, tmp_path):
    script = (
        "import sys, time, pathlib\nfrom vidrd.entry import obey\n"
        "def do():\n try:\n  print('begun', flush=True)\n  time.sleep(60)\n"
        " finally:\n  pathlib.Path(sys.argv[1]).write_text('down')\n"
        "sys.exit(obey('x', do))"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "down")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(sent)
        _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (code, f"x: {said}\n")
    assert (tmp_path / "down").read_text() == "down"


def verb(path: Path, n: int = 1, how: str = "a") -> int:
    """Do it.

    Args:
        path: a file.
        n: a count.
        how: a word.
    """
    return n


def test_words_that_cannot_be_parsed_are_one_line(capsys):
    for words, said in (
        (["--n", "x", "--path", "a"], "--n"),
        (["--path"], "--path"),
        (["--pth", "a"], "Unrecognized options: --pth"),
        ([], "--path"),
        (["--path", ""], "--path names a file or folder: got an empty word"),
        (["--path="], "--path names a file or folder: got an empty word"),
        (["--path", "a", "--n", str(10**30)], "--n is a finite number of at most 18 digits"),
    ):
        with pytest.raises(ValueError, match=r"^[^\n]+$") as found:
            parse(verb, words, "x", None)
        assert said in str(found.value)
        assert not set(str(found.value)) & set("│╭╯─")
    with pytest.raises(ValueError, match="Expected one of"):
        parse_verb({"a": verb, "b": verb}, [], "x", None)
    assert capsys.readouterr() == ("", "")
    assert parse(verb, ["--path", "a", "--n", "4"], "x", None)() == 4
    assert parse_verb({"a": verb, "b": verb}, ["b", "--path", "a", "--n", "0"], "x", None)() == 0


def test_help_is_printed_and_no_error(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(verb, ["--help"], "x", None)
    assert not stop.value.code
    out, error = capsys.readouterr()
    assert "a count" in out
    assert error == ""
