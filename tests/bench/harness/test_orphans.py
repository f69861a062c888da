"""Real kills of the run and of its fork server: nothing outlives the run, and what was lost is done again."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest
from toy_suite import SUITE, TOYS

from bench.harness import cell_pool
from bench.harness.identity import identify
from bench.harness.runner import run
from bench.harness.suite_spec import override, plan
from bench.results.records import read

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SOON = 1.0  # seconds after which nothing of a killed run is left


def processes():
    """Process -> (parent, command line), of all that run."""
    results = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if state != "Z":
            results[int(folder.name)] = (int(parent), words)
    return results


def family(pid):
    """A process and all that it started, itself or by others."""
    every, found = processes(), {pid}
    while more := {child for child, (parent, _) in every.items() if parent in found} - found:
        found |= more
    return found & set(every)


def servers(pid):
    """The fork servers of a process."""
    return [child for child, (parent, words) in processes().items() if parent == pid and "forkserver" in words]


def wait_until(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


@pytest.fixture
def begun(tmp_path):
    """A run in a process of its own, in its second cell, which takes long; and its family."""
    command = [sys.executable, str(Path(__file__).parents[1] / "killed_run.py"), str(tmp_path), "2"]
    env = {**os.environ, "TOY_SECONDS": "200"}
    log = tmp_path / "cells" / "log_of_cells"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            wait_until(lambda: process.poll() is not None or (log.exists() and log.read_text().endswith("fine 2\n")))
            assert process.poll() is None, process.communicate()
            yield process, family(process.pid)
        finally:
            process.kill()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_nothing_outlives_its_run(begun, tmp_path, sent, code):
    process, members = begun
    assert len(members) >= 4  # the run, its tracker, its server, its cell
    process.send_signal(sent)
    _, error = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in error
    wait_until(lambda: not members & set(processes()), SOON)
    assert [record.attempt.status for record in read(tmp_path / "records.jsonl").records] == ["ok"]


def test_a_run_that_is_killed_while_its_libraries_load_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", SLOW, str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3]) as process:
        wait_until(lambda: servers(process.pid))
        time.sleep(0.5)
        assert process.poll() is None  # it is still loading
        members = family(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: not members & set(processes()), SOON)


SLOW = """
import sys
from bench.harness.job import Workload
from bench.harness.cell_process import load_libraries, start_method

load_libraries(start_method(Workload(print, preload=("bench.videos.cell", "bench.videos.quality")), on_gpu=False))
"""


def test_a_fork_server_that_is_killed_while_a_cell_runs_is_the_machines_fault(begun, tmp_path):
    """The cell is tried once more by a new one; killed again, the row says so."""
    process, _ = begun
    (first,) = servers(process.pid)
    os.kill(first, signal.SIGKILL)
    (second,) = wait_until(lambda: [server for server in servers(process.pid) if server != first])
    log = tmp_path / "cells" / "log_of_cells"
    wait_until(lambda: log.read_text().count("fine 2") == 2)
    os.kill(second, signal.SIGKILL)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in error
    assert "the fork server was killed, which the cell's process was forked from; once more" in out
    endings = [(record.attempt.status, record.attempt.reason) for record in read(tmp_path / "records.jsonl").records]
    lost = ("failed", "the fork server was killed, which the cell's process was forked from")
    assert endings == [("ok", ""), lost, lost]


def test_a_fork_server_that_is_killed_while_a_cell_starts_costs_one_attempt(tmp_path, monkeypatch):
    """In this process: the server dies before it can say which process it forked, and the second attempt is ok."""
    suite = override(SUITE, ["how=fine", "size=1"])
    identity = identify(suite.files)
    lines, stopped, killed = [], [], []

    def stop_first(*args):
        if not stopped:
            stopped.extend(servers(os.getpid()))
            for server in stopped:
                os.kill(server, signal.SIGSTOP)  # so that it cannot answer
        return attempt(*args)

    def kill_first(pipe):
        for server in set(stopped) - set(killed):
            os.kill(server, signal.SIGKILL)
            killed.append(server)
        return read_signed(pipe)

    attempt, read_signed = cell_pool.attempt, forkserver.read_signed
    monkeypatch.setattr(cell_pool, "attempt", stop_first)
    monkeypatch.setattr(forkserver, "read_signed", kill_first)
    outcome = run("toy", suite, identity, plan(suite, identity.basis), tmp_path, workloads=TOYS, say=lines.append)
    assert outcome.counts == {"ok": 2}
    assert sum("once more" in line for line in lines) == 1
