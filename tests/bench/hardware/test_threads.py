import os
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from bench.__main__ import main
from bench.hardware import threads
from bench.hardware.machine import ROOT
from bench.hardware.threads import SCHEDSTAT, pin, seconds_without_core

CODE = """
from bench.hardware.threads import pin
pin(1)
import os, torch
print(len(os.sched_getaffinity(0)), torch.get_num_threads(), os.environ["MKL_NUM_THREADS"])
"""


def test_a_pinned_process_has_its_cores_and_as_many_threads():
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "7"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]


@pytest.mark.parametrize("threads", [0, -1, 10_000])
def test_cores_that_are_not_there_are_refused(threads):
    before = os.sched_getaffinity(0), os.environ.get("OMP_NUM_THREADS")
    with pytest.raises(ValueError, match=rf"may use {len(before[0])}: got {threads} threads, try {len(before[0])}"):
        pin(threads)
    assert (os.sched_getaffinity(0), os.environ.get("OMP_NUM_THREADS")) == before


@pytest.mark.parametrize(("given", "kept"), [(None, "10000"), ("77", "77")])
def test_threads_of_a_command_sleep_soon_at_barriers_unless_told_otherwise(monkeypatch, given, kept):
    monkeypatch.setattr(sys, "argv", ["bench", "--help"])
    monkeypatch.setenv("GOMP_SPINCOUNT", "x")  # so that it is restored
    monkeypatch.delenv("GOMP_SPINCOUNT")
    if given:
        monkeypatch.setenv("GOMP_SPINCOUNT", given)
    with suppress(SystemExit):
        main()
    assert os.environ["GOMP_SPINCOUNT"] == kept


@pytest.fixture
def rival():
    """A process that computes on the one core that this one may use."""
    may = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(may)})
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process
    process.kill()
    process.wait()
    os.sched_setaffinity(0, may)


@pytest.mark.skipif(not SCHEDSTAT.exists(), reason="this system does not count how long a process waits for a core")
def test_what_other_work_takes_of_a_core_is_counted_apart(rival):
    waited, clock, cpu = seconds_without_core(), time.perf_counter(), time.process_time()
    while time.process_time() < cpu + 0.2:
        pass
    waited, clock, cpu = seconds_without_core() - waited, time.perf_counter() - clock, time.process_time() - cpu
    assert waited > 0.1 * clock
    assert clock - waited == pytest.approx(cpu, rel=0.1)


def test_where_nothing_counts_the_clock_is_all(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "SCHEDSTAT", tmp_path / "none")
    assert seconds_without_core() == 0
