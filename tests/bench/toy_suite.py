"""A suite whose cells take a moment, and fail in every way there is."""

import os
import signal
import time
from pathlib import Path

from bench.harness.job import Job, Workload
from bench.harness.suite_spec import Measure, Suite
from bench.results.records import CellResults, InvalidError, Number


def toy(job: Job) -> CellResults:
    how = job.values["how"]
    print("begun", how)
    with (job.folder.parent / "log_of_cells").open("a") as file:
        file.write(f"{how} {job.values['size']}\n")
    (job.folder / "pid").write_text(str(os.getpid()))
    if job.values["size"] == 2:
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    match how:
        case "memory":
            raise MemoryError("wanted 64 TiB")
        case "torch-memory":
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        case "raise":
            raise ValueError("a | b\nmore")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(5)
        case "invalid":
            raise InvalidError("3 calls where the plan says 4")
        case "nan":
            return CellResults(numbers={"speed": Number(float("nan"))})
        case "hang":
            _hang()
    if how == "real":
        if job.values["broken"]:
            raise ValueError("no real thing")
        (job.folder / "reference.txt").write_text("7")
        return CellResults(numbers={"speed": Number(7.0, "s", "real")})
    return CellResults(
        numbers={"speed": Number(1.5, "s", "lower", n=6, low=1.0, high=2.0)},
        samples={"speed": (1.0, 2.0)},
        facts={"reference": (job.reference / "reference.txt").read_text()},
    )


def _hang():
    """A minute, or until the file that TOY_WAIT names is there."""
    end, file = time.monotonic() + 60, Path(os.environ.get("TOY_WAIT", "nothing to wait for"))
    while time.monotonic() < end and not file.exists():
        time.sleep(0.02)


def slower(values):  # the cost of a cell
    return float(values["size"])


def settle(values):
    return {**values, "size": 1} if values["how"] == "plain" else values


def reference(values):
    return {**values, "how": "real", "size": 1}


def skip(values):
    return "13 brings bad luck" if values["size"] == 13 else None


TOYS = {"toy": Workload(toy)}
SUITE = Suite(
    question="Does it run?",
    workload="toy",
    axes={"how": ("fine", "plain"), "size": (1, 2)},
    fixed={"seconds": 0.0, "broken": 0, "device": "cpu"},
    measures={"speed": Measure("speed", "s", "lower", "cost", "how fast")},
    group="seconds",
    headlines=("speed",),
    allowed={"device": ("cpu", "cuda")},
    least={"size": 1},
    settle=settle,
    reference=reference,
    skip=skip,
    cost=slower,
)
