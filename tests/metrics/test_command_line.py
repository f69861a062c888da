"""The options of `python -m metrics`: each in its range, each with a meaning, each target tried, before any work."""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from metrics import __main__ as metrics
from metrics import option_types, score_verb
from metrics.cli_options import Verb
from metrics.evaluation.result import Result
from metrics.score import Score
from tests.bench.test_command_line_fuzz import place, tree, words_of  # noqa: F401 - place is a fixture
from tests.metrics.video_files import some_videos
from vidrd import command_line

ROOT = Path(__file__).parents[2]
ALLOWED = {0, 2, 3, 4}  # 2 and 4 are verdicts of verify; a crash would print a traceback
VERBS = {hint.__metadata__[0].name: hint.__origin__ for hint in typing.get_args(Verb)}


def test_options_are_checked_as_those_of_the_other_commands():
    """metrics imports nothing of vidrd, so each has its copy; they differ in whose `one_line` they take."""
    theirs = inspect.getsource(command_line).replace("from vidrd.entry import", "from metrics.entry import")
    assert inspect.getsource(option_types) == theirs


@pytest.fixture
def small(tmp_path):
    np.save(tmp_path / "a.npy", some_videos(4))
    np.save(tmp_path / "b.npy", some_videos(4, seed=1))
    return tmp_path


WRONG = {
    "fvd": [
        ("--frames", "0"), ("--frames", "-4"), ("--stride", "0"), ("--seed", "-1"), ("--seed", "9" * 20), ("--n", "0"),
        ("--n", "-1"), ("--window", "0"), ("--batch", "0"), ("--batch", "-8"), ("--weights", ""), ("--protocol", ""),
        ("--json", "no/where/x.json"), ("--json", "."), ("--json", ""), ("--save-stats", "no/where/x.npz"),
        ("--save-stats", "/dev/null"), ("--save-stats", "x.stats"),
        ("--save-clips", "no/where/x"), ("--real-list", "nope"), ("--real-clips", "."), ("--fake-clips", "nope"),
        ("--mean", "nope"), ("--mean", "a.npy"), ("--run-program",), ("--trust-program",), ("--precision", "float16"),
        ("--precision", "bfloat16"), ("--compiled",), ("--stored",), ("--stride", "2"), ("--device", "nope"),
        ("--device", "cuda"), ("--device", "meta"), ("--device", ""), ("--cache", ""), ("--json", "a.npy"),
        ("--window", "8", "--stride", "2"), ("--window", "8", "--frames", "8"), ("--json", "x", "--save-stats", "x"),
    ],
    "kvd": [("--neighbours", "0"), ("--neighbours", "-1"), ("--neighbours", "nan"), ("--n", "-1")],
    "is": [
        ("--splits", "0"), ("--splits", "-2"), ("--head", ""), ("--real-list", "a.npy"), ("--save-stats", "x.npz"),
        ("--precision", "bfloat16"), ("--n", "1.5"),
    ],
    "jitter": [
        ("--n", "-1"), ("--n", "0"), ("--frames", "0"), ("--seams", "8", "8"), ("--seams", "8", "4"), ("--seams", "0"),
        ("--seams", "-3"), ("--dropped", "-1"), ("--dropped", "2"), ("--raft", "a.npy", "--no-flow"),
        ("--device", "cpu"), ("--raft", "a.npy", "--device", "meta"), ("--json", "/proc/nope/x"),
    ],
    "score": [
        ("--metrics", "beauty"), ("--n", "0", "--metrics", "jitter"), ("--json", "a.npy", "--metrics", "jitter"),
        ("--workers", "2", "--metrics", "jitter"), ("--metrics", "jitter", "--protocol", "clean"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("verb", "words"), [(verb, words) for verb, each in WRONG.items() for words in each])
def test_a_wrong_value_is_one_line_that_names_the_option_and_nothing_is_written(run, small, monkeypatch, verb, words):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(small)
    before = tree(small)
    sources = ("a.npy", "b.npy") if verb in ("fvd", "kvd") else ("a.npy",)
    error = run(verb, *sources, *words, code=3)
    assert words[0] in error or words[-1] in error
    assert error.isprintable()
    assert tree(small) == before


def test_verify_and_compare_try_their_targets_first(run, small, classifier, monkeypatch):
    monkeypatch.chdir(small)
    for option in ("--export", "--json"):
        assert option in run("verify", "--weights", classifier, option, "/nope/x.safetensors", code=3)
    for device in ("nope", "meta"):
        assert "--device" in run("verify", "--weights", classifier, "--device", device, code=3)
    assert "--json" in run("compare", "a", "b", "--json", "/nope/x", code=3)
    for words in ((), ("compare", "a"), ("jitter",), ("fvd", "a.npy", "b.npy", "--nonsense")):
        monkeypatch.setattr(sys, "argv", ["metrics", *words])
        with pytest.raises(SystemExit) as stop:
            metrics.main()
        assert stop.value.code == 3


def test_float16_is_not_computed_on_a_cpu(run, small, monkeypatch):
    words = ("fvd", small / "a.npy", small / "b.npy", "--protocol", "google", "--weights", small / "a.npy")
    assert "--precision float16 needs a GPU" in run(*words, "--precision", "float16", "--device", "cpu", code=3)


def test_a_list_that_names_files_elsewhere_chooses_none_of_them(run, small):
    (small / "set").mkdir()
    np.save(small / "set" / "c.npy", some_videos(1)[0])
    (small / "list.txt").write_text(f"../a.npy#0 1\n{small / 'b.npy'} 1\n")
    words = ("fvd", small / "set", small / "b.npy", "--allow-small")
    assert "2 of 2 listed videos are not there" in run(*words, "--real-list", small / "list.txt", code=3)
    (small / "clips.jsonl").write_text(json.dumps({"video": "../a.npy#0", "start": 0, "frames": 9}) + "\n")
    assert "1 of 1 listed videos are not there" in run(*words, "--real-clips", small / "clips.jsonl", code=3)


def test_a_device_that_is_written_stays_one(run, small):
    os.mkfifo(small / "pipe")
    reader = os.open(small / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    run("jitter", small / "a.npy", "--no-flow", "--json", small / "pipe")
    assert json.loads(os.read(reader, 1 << 16))["scores"]["flicker"]["n"] == 4
    os.close(reader)
    assert (small / "pipe").is_fifo()
    run("jitter", small / "a.npy", "--no-flow", "--json", "/dev/null")
    assert Path("/dev/null").is_char_device()
    words = ("fvd", small / "a.npy", small / "b.npy", "--allow-small")
    assert "is no regular file" in run(*words, "--save-stats", small / "pipe", code=3)
    no_reader = run("jitter", small / "a.npy", "--no-flow", "--json", small / "pipe", code=3)
    assert "No such device" in no_reader


def test_a_terminal_of_ascii_and_a_reader_that_leaves(small, tmp_path):
    (small / "s\xe9t").mkdir()
    np.save(small / "s\xe9t" / "a.npy", some_videos(9))
    words = [sys.executable, "-m", "metrics", "jitter", str(small / "s\xe9t"), "--no-flow"]
    words += ["--json", str(small / "out.json")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read, write = os.pipe()
    os.close(read)
    left = subprocess.run(words, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (left.returncode, left.stderr) == (2, "metrics: nobody reads the output any more\n")
    assert not list(small.rglob("*.part"))


def test_a_full_disk_is_one_line_and_leaves_no_part(run, small, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    assert "No space left" in run("jitter", small / "a.npy", "--no-flow", "--json", small / "out.json", code=2)
    assert not list(small.glob(".*"))


def flat(verb):
    """A verb's options and those that it shares, as one declaration."""
    shared = [type(field.default) for field in dataclasses.fields(verb) if dataclasses.is_dataclass(field.default)]
    options = [
        (field.name, typing.get_type_hints(record)[field.name], dataclasses.field(default=field.default))
        for record in (verb, *shared)
        for field in dataclasses.fields(record)
        if type(field.default) not in shared
    ]
    return dataclasses.make_dataclass(f"Flat{verb.__name__}", options, kw_only=True)


@pytest.fixture(scope="module")
def idle(place):  # noqa: F811
    """The verbs without their work."""
    done = []

    def note(verb):
        done.append(verb)
        return Result({"flicker": Score(0.5, 2)}, {"protocol": "none"}, {})

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("VIDRD_METRICS_WEIGHTS", raising=False)
        patch.setattr(metrics, "measure", note)
        patch.setattr(metrics, "measure_jitter", note)
        patch.setattr(score_verb, "score_in_one_pass", lambda verb, report: {"none": note(verb)})
        patch.setattr(metrics, "verify_weights", lambda verb: done.append(verb) or 4)
        yield done


@pytest.mark.parametrize("name", VERBS)
def test_any_command_line_is_done_or_answered_in_one_line(name, idle, place):  # noqa: F811
    before, kept = tree(place), (place / "file").read_bytes()

    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(words_of(flat(VERBS[name])))
    def hold(words):
        out, error, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            patch.setattr(sys, "argv", ["metrics", name, *words])
            try:
                metrics.main()
            except SystemExit as stop:
                code = stop.code
        message = error.getvalue()
        assert code in ALLOWED, message
        assert "Traceback" not in out.getvalue() + message
        if code == 3:
            assert len(message.strip().splitlines()) == 1, message
            assert message.strip().isprintable(), message
            assert tree(place) == before
        for path in sorted(place.rglob("*"), reverse=True):
            if (str(path.relative_to(place)), path.lstat().st_mode) not in before:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        assert (place / "file").read_bytes() == kept or "file" in " ".join(words)
        (place / "file").write_bytes(kept)

    hold()
    assert Path("/dev/null").is_char_device()


def test_the_strategy_reaches_work_and_refusal(idle, place, run):  # noqa: F811
    before = len(idle)
    assert "flicker" in run("jitter", "folder")
    assert "--n is a count from 1; got 0" in run("jitter", "folder", "--n", "0", code=3)
    assert len(idle) == before + 1


def test_ctrl_c_is_one_line(small, monkeypatch, capsys):
    def stop(verb):
        raise KeyboardInterrupt

    monkeypatch.setattr(metrics, "measure_jitter", stop)
    monkeypatch.setattr(sys, "argv", ["metrics", "jitter", str(small / "a.npy")])
    with pytest.raises(SystemExit) as stopped:
        metrics.main()
    assert (stopped.value.code, capsys.readouterr().err) == (130, "metrics: stopped\n")
