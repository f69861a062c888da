import os
import subprocess
import sys
from contextlib import suppress

import pytest

from bench.__main__ import main
from bench.hardware.machine import ROOT
from bench.hardware.threads import pin

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
