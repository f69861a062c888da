import dataclasses
import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_suite import SUITE, TOYS

from bench.harness.cell_process import infrastructure
from bench.harness.identity import identify
from bench.harness.progress import CellTime, seconds_left
from bench.harness.runner import by_need, done_before, pace, run
from bench.harness.suite_spec import override, plan, select
from bench.results.records import Attempt, read

IDENTITY = identify(SUITE.files)

KILLED_RUN = Path(__file__).parents[1] / "killed_run.py"


def go(folder, *assignments, only=(), said=None, identity=IDENTITY, **options):
    suite = override(SUITE, assignments)
    chosen = select(plan(suite, identity.basis), suite, only, [])
    say = (said if said is not None else []).append
    return run("toy", suite, identity, chosen, folder, workloads=TOYS, say=say, **options)


def attempts(folder):
    return {
        (record.cell.values["how"], record.cell.values["size"]): record
        for record in read(folder / "records.jsonl").records
    }


def test_every_way_to_end_is_a_row_with_its_reason(tmp_path):
    ways = "fine,memory,torch-memory,raise,kill,exit,invalid,nan"
    said = []
    outcome = go(tmp_path, f"how={ways}", "size=1,13", said=said)
    assert outcome.exit_code == 2
    by_setting = attempts(tmp_path)
    status = {
        how: (record.attempt.status, record.attempt.reason) for (how, size), record in by_setting.items() if size == 1
    }
    assert status == {
        "real": ("ok", ""),
        "fine": ("ok", ""),
        "memory": ("oom", "MemoryError: wanted 64 TiB"),
        "torch-memory": (
            "oom",
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        ),
        "raise": ("failed", "ValueError: a | b"),
        "kill": ("failed", "the process was killed by SIGKILL; last line of its log: begun kill"),
        "exit": ("failed", "the process ended with exit code 5 and no result; last line of its log: begun exit"),
        "invalid": ("invalid", "3 calls where the plan says 4"),
        "nan": (
            "invalid",
            "a number in a record is finite; value is nan: leave it out and say why in `absent`",
        ),
    }
    skipped = {record.attempt.reason for (_, size), record in by_setting.items() if size == 13}
    assert skipped == {"13 brings bad luck"}
    assert outcome.counts == {"ok": 2, "oom": 2, "failed": 3, "invalid": 2, "skipped": 8}
    assert by_setting["fine", 1].facts == {"reference": "7"}
    assert by_setting["fine", 1].machine["cores"] >= 1
    assert "ValueError: a | b" in (tmp_path / "cells" / by_setting["raise", 1].cell.id / "log.txt").read_text()
    assert len(said) == 18
    assert any(" of about " in line for line in said)
    (line,) = (line for line in said if "fine size=1:" in line)
    assert "; speed 1.5 (reference 7); " in line
    again = [record.cell.values["how"] for record in read(tmp_path / "records.jsonl").records]
    assert {how for how in again if again.count(how) > 2} == {"kill"}  # sizes 1 and 13, and only this one once more


def test_only_the_machines_faults_are_tried_again():
    def attempt(reason, status="failed"):
        return infrastructure(Attempt(status, reason))

    assert attempt("the process was killed by SIGKILL")
    assert attempt("RuntimeError: CUDA error: uncorrectable ECC error encountered")
    assert not attempt("killed by the system for want of memory (SIGKILL)", "oom")
    assert not attempt("the process was killed by SIGSEGV")
    assert not attempt("not done after 600 s, killed", "timeout")
    assert not attempt("ValueError: nothing")


def test_a_cell_that_takes_too_long_is_killed_and_tried_again(tmp_path):
    go(tmp_path, "how=fine,hang", "size=1", only=["how=fine"])
    for _ in range(2):
        outcome = go(tmp_path, "how=fine,hang", "size=1", only=["how=hang"], timeout=0.5)
        assert (outcome.counts, outcome.reused, outcome.exit_code) == ({"ok": 1, "timeout": 1}, 1, 2)
        assert attempts(tmp_path)["hang", 1].attempt.reason == "not done after 0.5 s, killed"


def test_the_same_command_again_does_what_is_missing_and_tries_what_failed(tmp_path):
    first = go(tmp_path, "how=fine,raise,memory", "size=1", only=["how=fine"])
    assert (first.counts, first.reused, first.exit_code) == ({"ok": 2}, 0, 0)
    second = go(tmp_path, "how=fine,raise,memory", "size=1")
    assert (second.counts, second.reused) == ({"ok": 2, "failed": 1, "oom": 1}, 2)
    third = go(tmp_path, "how=fine,raise,memory", "size=1")
    assert (third.counts, third.reused) == (second.counts, 3)
    assert (tmp_path / "cells" / "log_of_cells").read_text().split("\n")[:-1] == [
        "real 1", "fine 1", "raise 1", "memory 1", "raise 1",
    ]  # fmt: skip


def test_a_cell_without_its_reference_is_not_measured_and_tried_again(tmp_path):
    go(tmp_path, "how=fine", "size=1", "broken=1")
    record = attempts(tmp_path)["fine", 1]
    assert record.attempt.status == "failed"
    assert "which it is compared with, did not succeed" in record.attempt.reason
    chosen = plan(override(SUITE, ["how=fine", "size=1", "broken=1"]), IDENTITY.basis)
    assert done_before(tmp_path, chosen) == {}


def test_a_reference_whose_files_changed_is_measured_anew(tmp_path):
    """Other cells read its files, so they are part of its result."""
    go(tmp_path, "how=fine", "size=1")
    (left,) = tmp_path.glob("cells/*/reference.txt")
    left.write_text("8")
    outcome = go(tmp_path, "how=fine", "size=1,2")
    assert (outcome.counts, outcome.reused) == ({"ok": 3}, 1)
    assert left.read_text() == "7"
    facts = [record.facts.get("reference") for record in read(tmp_path / "records.jsonl").records]
    assert facts == [None, "7", None, "7"]


def test_a_cell_is_not_compared_with_files_that_changed_during_the_run(tmp_path):
    def say(line):
        for left in tmp_path.glob("cells/*/reference.txt"):
            left.write_text("8")

    outcome = go(tmp_path, "how=fine", "size=1,2", said=SimpleNamespace(append=say))
    assert outcome.counts["failed"]
    reasons = [record.attempt.reason for record in read(tmp_path / "records.jsonl").records]
    assert any("has other files than it left: the same command again measures it anew" in each for each in reasons)
    assert go(tmp_path, "how=fine", "size=1,2").counts == {"ok": 3}


def test_other_weights_source_or_machine_are_other_cells(tmp_path):
    go(tmp_path, "how=fine", "size=1")
    said = []
    changed = IDENTITY._replace(basis={**IDENTITY.basis, "weights": "others"})
    outcome = go(tmp_path, "how=fine", "size=1", identity=changed, said=said)
    assert outcome.reused == 0
    assert said[0] == f"changed since the last run in {tmp_path}: weights; its records are kept and not used"
    assert len(read(tmp_path / "records.jsonl").records) == 4


def test_a_cell_during_which_the_source_changed_is_not_recorded_and_ends_the_run(tmp_path, monkeypatch):
    sources = iter([IDENTITY.basis["source"], "another"])
    monkeypatch.setattr("bench.harness.cell_process.source_hash", lambda: next(sources))
    with pytest.raises(ValueError, match="source changed while a cell ran"):
        go(tmp_path, "how=fine", "size=1,2")
    assert [record.cell.values["how"] for record in read(tmp_path / "records.jsonl").records] == ["real"]
    monkeypatch.undo()
    assert go(tmp_path, "how=fine", "size=1,2").counts == {"ok": 3}


def test_when_time_is_up_no_cell_is_begun(tmp_path):
    outcome = go(tmp_path, "how=fine", "size=1,2", end=0.0)
    assert (outcome.untried, outcome.exit_code) == (3, 4)
    assert go(tmp_path, "how=fine", "size=1,2").exit_code == 0


def test_a_folder_serves_one_run_and_one_suite(tmp_path):
    go(tmp_path, "how=fine", "size=1")
    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"another run is writing into .*: wait for it, or give --out"):
            go(tmp_path, "how=fine", "size=1")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "suite": "pocket"}))
    with pytest.raises(ValueError, match="holds a run of the suite pocket, not of toy: give --out another folder"):
        go(tmp_path, "how=fine", "size=1")


def test_the_manifest_has_the_command_with_what_it_left_out(tmp_path):
    words = ["python", "-m", "bench", "run", "--only", "how=fine", "--threads", "1"]
    go(tmp_path, "how=fine,raise", "size=1", only=["how=fine"], end=0.0, command=words)
    assert json.loads((tmp_path / "manifest.json").read_text())["command"] == words


def test_a_torn_last_line_is_said_and_repaired_and_its_cell_done_again(tmp_path):
    go(tmp_path, "how=fine", "size=1,2")
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    said = []
    outcome = go(tmp_path, "how=fine", "size=1,2", said=said)
    assert (outcome.counts, outcome.reused) == ({"ok": 3}, 2)
    assert "the last line of" in said[0]
    assert read(path).torn == b""


def test_killed_with_kill_9_the_same_command_finishes_the_missing_cells_only(tmp_path):
    command = [sys.executable, str(KILLED_RUN), str(tmp_path)]
    begun = tmp_path / "cells" / "log_of_cells"
    slow = {**os.environ, "TOY_SECONDS": "200"}  # of the cell of size 2
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=slow) as process:
        wait_until(lambda: begun.exists() and begun.read_text().endswith("fine 2\n"))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert begun.read_text().split("\n") == ["real 1", "fine 1", "fine 2", ""]
    assert len(read(tmp_path / "records.jsonl").records) == 2
    orphan = max(tmp_path.glob("cells/*/pid"), key=lambda path: path.stat().st_mtime_ns).read_text()
    wait_until(lambda: not running(int(orphan)))  # the cell of a killed run is gone and leaves no result
    assert sum(1 for _ in tmp_path.glob("cells/*/result.json")) == 2
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "5 2"
    assert [record.attempt.status for record in read(tmp_path / "records.jsonl").records] == ["ok"] * 5
    assert begun.read_text().split("\n")[3:] == ["fine 2", "fine 3", "fine 4", ""]


@pytest.mark.slow
def test_twenty_kills_at_random_lose_nothing_and_double_nothing(tmp_path):
    sizes = [size for size in range(1, 80) if size not in (2, 13)]
    command = [sys.executable, str(KILLED_RUN), str(tmp_path), ",".join(map(str, sizes))]
    records = tmp_path / "records.jsonl"
    lot = random.Random(7)
    kills = 0
    for _ in range(20):
        lines = records.read_bytes().count(b"\n") if records.exists() else 0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            more = lot.randint(0, 3)
            wait_until(
                lambda before=lines, more=more, process=process: (
                    process.poll() is not None
                    or (records.exists() and records.read_bytes().count(b"\n") > before + more)
                )
            )
            time.sleep(lot.uniform(0, 0.05))
            kills += process.poll() is None
            process.kill()
        journal = read(records)
        assert len({record.cell.id for record in journal.records}) == len(journal.records)
    assert kills >= 15
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split()[0] == str(len(sizes) + 1)
    journal = read(records)
    assert journal.torn == b""
    assert [record.attempt.status for record in journal.records] == ["ok"] * (len(sizes) + 1)
    assert len(journal.latest()) == len(sizes) + 1


def wait_until(holds):
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_weights_that_are_missing_or_cut_short_are_named(tmp_path):
    suite = dataclasses.replace(SUITE, files=("weights",))
    with pytest.raises(ValueError, match=r"^weights is missing: "):
        identify(suite.files, tmp_path)
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(8)
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "unet.safetensors"
    file.write_bytes(whole)
    before = identify(suite.files, tmp_path).basis["weights"]
    file.write_bytes(whole[:-1] + b"\1")
    assert identify(suite.files, tmp_path).basis["weights"] != before
    for broken in (whole[:-1], whole[:20], whole[:4], b"", whole + b"x", b"\xff" * 20):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"^weights/unet\.safetensors .*: restore it from the repository"):
            identify(suite.files, tmp_path)


@pytest.mark.parametrize(
    "card", [lambda digest: {"sha256": {"a.bin": digest}}, lambda digest: {"files": {"a.bin": {"sha256": digest}}}]
)
def test_weights_other_than_their_card_describes_are_refused_even_at_equal_length(tmp_path, card):
    suite = dataclasses.replace(SUITE, files=("weights",))
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "a.bin"
    file.write_bytes(b"learned")
    (tmp_path / "weights" / "card.json").write_text(json.dumps(card(hashlib.sha256(b"learned").hexdigest())))
    identify(suite.files, tmp_path)
    file.write_bytes(b"altered")
    with pytest.raises(ValueError, match=r"^weights/a\.bin is not the file that card\.json describes"):
        identify(suite.files, tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=r"^weights/a\.bin is missing: restore it from the repository"):
        identify(suite.files, tmp_path)


def test_a_kill_that_the_system_counts_as_want_of_memory_is_one(tmp_path, monkeypatch):
    kills = iter(range(100))
    monkeypatch.setattr("bench.harness.cell_process.memory_kills", lambda: next(kills))
    outcome = go(tmp_path, "how=kill", "size=1")
    assert outcome.exit_code == 0  # an answer, not an accident
    attempt = attempts(tmp_path)["kill", 1].attempt
    assert attempt.status == "oom"
    assert attempt.reason == "killed by the system for want of memory (SIGKILL); last line of its log: begun kill"


def test_the_estimate_learns_from_cells_of_other_weights(tmp_path):
    go(tmp_path, "how=fine", "size=2")
    records = read(tmp_path / "records.jsonl").records
    assert pace(tmp_path, SUITE) == [
        CellTime(1.0, records[0].attempt.seconds), CellTime(2.0, records[1].attempt.seconds),
    ]  # fmt: skip
    assert seconds_left([120.0], [CellTime(1.0, 1.0), CellTime(2.0, 3.0)]) == pytest.approx(1.4 * 120)


def test_a_reference_runs_right_before_the_first_cell_that_needs_it():
    suite = override(SUITE, ["how=fine,plain", "size=1,2"])
    cells = by_need(plan(suite, {}), suite)
    assert [(item.cell.values["how"], item.cell.values["size"]) for item in cells] == [
        ("real", 1), ("fine", 1), ("fine", 2), ("plain", 1),
    ]  # fmt: skip
    groups = override(SUITE, ["how=fine", "seconds=0,1", "size=1"])
    order = [(item.reference, item.cell.values["seconds"]) for item in by_need(plan(groups, {}), groups)]
    assert order == [(True, 0.0), (False, 0.0), (True, 1.0), (False, 1.0)]
