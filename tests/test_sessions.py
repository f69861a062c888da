"""The commands that the nox sessions run, recorded by a stand-in of a session."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import nox
import pytest

FILE = Path(__file__).parents[1] / "noxfile.py"


@pytest.fixture(scope="module")
def sessions():
    """The noxfile as a module."""
    spec = importlib.util.spec_from_file_location("noxfile", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(sessions, monkeypatch):
    """Name of a session and words after the dashes -> its commands, where the Python that runs nox is used."""
    monkeypatch.setattr(sessions, "command", lambda session, *words, **_: session.run("python", "-m", *words))
    return lambda name, *posargs: noted(getattr(sessions, name), posargs)


def noted(function, posargs):
    called = []
    session = SimpleNamespace(
        virtualenv=SimpleNamespace(is_sandboxed=False),
        posargs=list(posargs),
        run=lambda *words, **more: called.append(" ".join(words)),
    )
    function(session)
    return called


@pytest.mark.parametrize("words", [(), ("--preset", "pocket")])
def test_training_the_whole_preset_makes_its_judges_too(commands, words):
    assert commands("train", *words) == [
        " ".join(["python -m vidrd train", *words]),
        "python -m bench.videos.train_classifiers",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("--preset", "pocket", "--steps-scale", ".01", "--out", "runs/trial"),
        ("--stage", "temporal", "--data", "sets/k700", "--model", "models/start", "--out", "runs/temporal"),
        ("--out", "elsewhere"),
    ],
)
def test_a_trial_or_a_data_set_leaves_the_shipped_judges_alone(commands, words):
    assert commands("train", *words) == [" ".join(["python -m vidrd train", *words])]


def test_what_stands_after_the_dashes_reaches_the_command(commands):
    assert commands("bench") == ["python -m bench run --suite pocket"]
    assert commands("bench", "--suite", "smoke") == ["python -m bench run --suite smoke"]
    (tests,) = commands("tests", "-m", "slow")
    assert re.fullmatch(r"pytest -n [2-8] --dist loadscope -m slow", tests)
    assert commands("avx2", "-x")[1].endswith("-m precision and not (gpu or slow or network) -x")
    assert nox.options.sessions == ["lint", "types", "tests"]


def test_an_older_cpu_is_told_to_both_libraries_and_leaves_the_smoke_run_alone(sessions, monkeypatch):
    called = []
    monkeypatch.setattr(sessions, "command", lambda session, *words, env: called.append((words, env)))
    session = SimpleNamespace(
        virtualenv=SimpleNamespace(is_sandboxed=False), posargs=[], run=lambda *words, env: called.append((words, env))
    )
    sessions.avx2(session)
    assert {env["ATEN_CPU_CAPABILITY"] for _, env in called} == {"avx2"}
    assert {env["ONEDNN_MAX_CPU_ISA"] for _, env in called} == {"AVX2"}
    assert called[0][0][-2:] == ("--out", "runs/smoke-avx2")
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | called[0][1], capture_output=True, check=True)
    assert b"AVX512" not in done.stdout


@pytest.mark.parametrize(
    ("ending", "code"), [("exit(int(os.environ['CODE']))", 4), ("os.kill(os.getpid(), signal.SIGTERM)", 143)]
)
def test_a_command_keeps_its_exit_code(sessions, tmp_path, monkeypatch, ending, code):
    (tmp_path / "ending.py").write_text(f"import os, signal\n{ending}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        sessions.command(SimpleNamespace(bin_paths=None, log=print), "ending", env={"CODE": "4"})
    assert ended.value.code == code


def test_an_interrupted_command_may_finish_what_it_does(sessions, tmp_path, monkeypatch):
    """Ctrl-C reaches nox and the command; nox waits until the command has saved and ended."""
    (tmp_path / "saving.py").write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "open('began', 'w').close()\n"
        "time.sleep(0.5)\n"
        "open('saved', 'w').close()\n"
        "exit(130)\n"
    )
    monkeypatch.chdir(tmp_path)

    def interrupt():
        while not Path("began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(SystemExit) as ended:
        sessions.command(SimpleNamespace(bin_paths=None, log=print), "saving")
    assert ended.value.code == 130
    assert Path("saved").exists()
