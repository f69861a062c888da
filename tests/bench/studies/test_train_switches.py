"""The table of the training switches: from logs to ratios, and (slow) one real pair of runs."""

import json

import pytest

from bench.studies import train_switches
from bench.studies.train_switches import PLAIN, SWITCHES, main, measure, read_log, table, words_of

ASKED = {"model": "pocket", "batch": "8", "frames": "8", "size": "32"}


def log(path, first, rest, steps=60, peak=2**21):
    """A log whose first 20 steps took `first` seconds each, the others `rest`."""
    path.mkdir(parents=True)
    lines = [
        {"step": step, "loss": 1.0, "peak_bytes": peak,
         "seconds_per_step": round((20 * first + (step - 20) * rest) / step, 4)}
        for step in range(20, steps + 1, 20)
    ]  # fmt: skip
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_first_steps_do_not_count(tmp_path):
    log(tmp_path / "run", first=3.0, rest=0.25)
    rate, peak = read_log(tmp_path / "run" / "log.jsonl")
    assert rate == pytest.approx(4.0, rel=1e-3)
    assert peak == 2**21
    log(tmp_path / "short", first=1.0, rest=1.0, steps=20)
    with pytest.raises(ValueError, match="has 1 lines, a rate takes two"):
        read_log(tmp_path / "short" / "log.jsonl")


def test_ways_are_compared_within_their_round(tmp_path):
    """The machine is twice as slow in the second round: the ratio stays. A way that fails is named and not retried."""
    calls = []

    def launch(words, run):
        calls.append(run.name)
        number, _, way = run.name.partition("-")
        if way == "compiled":
            raise RuntimeError("no compiler")
        assert ("--checkpointing" in words) == (way == "checkpointing")
        slow = (1.0 if number == "0" else 2.0) * (1.25 if way == "checkpointing" else 1.0)
        log(run, first=9.0, rest=0.5 * slow, peak=2**20 if way == "checkpointing" else 2**21)

    results = measure((PLAIN, "checkpointing", "compiled"), ASKED, tmp_path, 2, launch)
    assert sorted(calls) == ["0-checkpointing", "0-compiled", "0-plain", "1-checkpointing", "1-plain"]
    lines = [line for line in table(results, ASKED).splitlines() if line.startswith("|")]
    rows = {cells[0]: cells[1:] for cells in ([word.strip() for word in line.split("|")[1:-1]] for line in lines)}
    assert rows["plain"][1:3] == ["1.000", "1.000 to 1.000"]
    assert rows["checkpointing"][1:] == ["0.800", "0.800 to 0.800", "1", "2"]
    assert rows["compiled"][0] == "no compiler"


def test_every_switch_is_an_option_of_train():
    from vidrd.training.settings import Settings

    for options in SWITCHES.values():
        assert {name.replace("-", "_") for name in options} <= Settings.__dataclass_fields__.keys()
    assert words_of({"a": "1", "b": None}) == ["--a", "1", "--b"]


def test_what_cannot_be_measured_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="no switch 'fp8'"):
        main(tmp_path / "x", ways=("fp8",))
    with pytest.raises(ValueError, match="multiple of 20 from 40 on"):
        main(tmp_path / "x", steps=30)
    with pytest.raises(ValueError, match="exists: name a new folder"):
        main(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_pair_of_runs(tmp_path, capsys):
    code = main(tmp_path / "out", ways=("checkpointing",), steps=40, batch=2, rounds=1, threads=1)
    saved = json.loads((tmp_path / "out" / "switches.json").read_text())["ways"]
    assert code == 0, saved
    assert all(each["steps_per_second"][0] > 0 and each["peak_bytes"][0] > 2**24 for each in saved.values())
    assert "| checkpointing" in (tmp_path / "out" / "switches.md").read_text()
    assert "| checkpointing" in capsys.readouterr().out
    assert train_switches.PLAIN in saved
