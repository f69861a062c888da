"""One cell in one process: the child of a run, or `python -m bench.harness.worker JOB.json` to repeat one by hand.

The parent writes job.json into the cell's folder; the child leaves result.json there, and its output in log.txt. A
child that is killed leaves no result; then the parent judges by its exit code.
"""

import gc
import io
import json
import os
import sys
import traceback
from pathlib import Path

from bench.harness.job import Job, Work, load_work, verdict
from bench.results.records import CellResults, Status, write_atomic
from bench.workloads import WORKLOADS
from vidrd.entry import obey
from vidrd.orphans import follow_starter


def child(work: Work, job_file: str) -> None:
    """Do a cell in this process, its output in log.txt; the target of the process that a run starts."""
    follow_starter()
    gc.freeze()  # what the fork server loaded stays: collections need not look through it, a quarter of a second each
    log = os.open(Path(job_file).with_name("log.txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a process that is killed has said what it did last
    run_cell(work, Path(job_file))


def run_cell(work: Work, job_file: Path) -> Status:
    """Do the job and write result.json next to it, whatever happens short of a kill."""
    job = json.loads(job_file.read_text(encoding="utf-8"))
    reference = job_file.parent.parent / job["reference"] if job["reference"] else None
    status: Status = "ok"
    try:
        measured = load_work(work)(
            Job(job["cell"]["values"], job_file.parent, reference, tuple(job.get("measures", ())))
        )
        content = _result(status, "", measured)
    except Exception as error:  # every way to fail is a row of the table
        traceback.print_exc()
        status, reason = verdict(error)
        content = _result(status, reason, CellResults())
    write_atomic(job_file.with_name("result.json"), content)
    return status


def _result(status: Status, reason: str, measured: CellResults) -> str:
    return json.dumps(
        {
            "status": status,
            "reason": reason,
            "numbers": {name: vars(number) for name, number in measured.numbers.items()},
            "samples": {name: list(values) for name, values in measured.samples.items()},
            "absent": dict(measured.absent),
            "facts": dict(measured.facts),
        },
        allow_nan=False,
    )


def main() -> int:
    """Repeat the cell of a job file in this process; 0 if it is ok, else 2."""
    return obey("bench.harness.worker", _repeat)


def _repeat() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise ValueError("this takes the job.json of a cell: runs/SUITE/cells/ID/job.json")
    job_file = Path(sys.argv[1])
    try:
        workload = WORKLOADS[json.loads(job_file.read_text(encoding="utf-8"))["cell"]["workload"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{job_file} is no job of a cell ({error!r})") from None
    status = run_cell(workload.run, job_file)
    print(job_file.with_name("result.json").read_text(encoding="utf-8"))
    return 0 if status == "ok" else 2


if __name__ == "__main__":
    sys.exit(main())
