import json
import subprocess
import sys
from pathlib import Path

import pytest
from toy_suite import TOYS, toy

from bench.hardware.gpu_telemetry import gpu_passes
from bench.hardware.memory import allocator_peaks, process_peak
from bench.harness.job import last_line, load_work, verdict
from bench.harness.worker import run_cell
from bench.results.records import Cell, InvalidError, canonical
from bench.workloads import WORKLOADS


def job(folder, how, reference=None):
    values = {"how": how, "size": 1, "seconds": 0.0, "broken": 0}
    cell = {"workload": "toy", "values": values, "basis": {}}
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(canonical({"cell": cell, "reference": reference}))
    return folder / "job.json"


def test_every_workload_is_a_function_that_can_be_loaded():
    assert all(callable(load_work(workload.run)) for workload in WORKLOADS.values())
    assert load_work(toy) is toy


def test_a_job_leaves_a_result_beside_it(tmp_path):
    assert run_cell(toy, job(tmp_path / "cells" / "a", "real")) == "ok"
    assert run_cell(toy, job(tmp_path / "cells" / "b", "fine", "a")) == "ok"
    result = json.loads((tmp_path / "cells" / "b" / "result.json").read_text())
    assert result["numbers"]["speed"]["value"] == 1.5
    assert result["facts"] == {"reference": "7"}


def test_an_error_is_a_result_and_its_traceback_is_in_the_log(tmp_path, capsys):
    assert run_cell(toy, job(tmp_path / "cells" / "a", "raise")) == "failed"
    assert json.loads((tmp_path / "cells" / "a" / "result.json").read_text())["reason"] == "ValueError: a | b"
    assert "Traceback" in capsys.readouterr().err


def test_a_reason_is_one_line_that_any_file_takes_however_long_and_odd_the_text(tmp_path):
    log = tmp_path / "log.txt"
    for text, end in ((b"", ""), (b" \n\x1b[2J\xffthe end\x07 \n\n", "; last line of its log: [2J\ufffdthe end")):
        log.write_bytes(text)
        assert last_line(log, "its log") == end
    log.write_bytes(b"x" * 10**6)
    assert len(last_line(log, "its log")) < 1100
    assert verdict(ValueError("no file a\udcff\x1b[2J\nmore")) == ("failed", "ValueError: no file a [2J")
    assert len(verdict(ValueError("x" * 10**6))[1]) < 1100
    assert verdict(InvalidError("\x07\n\n")) == ("invalid", "no message")


def test_by_hand_without_a_job_is_a_usage_error():
    done = subprocess.run([sys.executable, "-m", "bench.harness.worker"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == "bench.harness.worker: this takes the job.json of a cell: runs/SUITE/cells/ID/job.json\n"


def test_a_run_and_its_worker_load_no_torch_of_their_own():
    code = "import sys; sys.modules['torch'] = None; import bench.harness.runner, bench.harness.worker, bench.__main__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_workloads_are_callable_and_named_by_their_cells():
    assert set(WORKLOADS) == {
        "pocket", "changes", "long", "lengths", "knobs", "kernel", "speed", "growth", "approximation", "instrument",
        "load",
    }  # fmt: skip
    assert Cell("toy", {}).workload in TOYS


def test_the_peak_of_a_process_is_its_own_and_not_its_parents():
    ballast = b"x" * 400_000_000
    code = "from bench.hardware.memory import process_peak; r = process_peak(); print(r.bytes, r.source)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert process_peak().bytes > len(ballast)
    assert 5_000_000 < int(out[0]) < 100_000_000
    assert out[1] == ("VmHWM" if Path("/proc/self/status").exists() else "ru_maxrss")


def test_without_a_gpu_its_readings_say_why_they_are_absent():
    assert [reading.bytes for reading in allocator_peaks("cpu")] == [None, None]


@pytest.mark.gpu
def test_on_a_gpu_the_driver_counts_more_than_the_allocator():
    import torch

    torch.zeros(2**26, device="cuda")
    allocated, reserved = allocator_peaks("cuda")
    assert allocated.bytes >= 2**28
    assert reserved.bytes >= allocated.bytes
    readings = gpu_passes(lambda: torch.ones(2**20, device="cuda").sum(), device="cuda", videos=1)
    assert set(readings.numbers) | set(readings.absent) == {"driver_peak", "joules_per_video"}
    assert "driver_peak" not in readings.numbers or readings.numbers["driver_peak"].value > reserved.bytes
    assert "joules_per_video" not in readings.numbers or readings.numbers["joules_per_video"].value > 0
