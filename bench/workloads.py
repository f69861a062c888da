"""All kinds of work that cells can do. The key of a workload is in the ids of its cells and never changes."""

from bench.harness.job import Workload

PIPELINE = ("vidrd.checkpoints", "baselines.models.vidrd")  # diffusers and transformers: seconds for every cell

WORKLOADS: dict[str, Workload] = {
    "pocket": Workload(
        "bench.videos.cell:run", preload=("bench.videos.cell", "bench.suites", "tyro", "rich.progress", *PIPELINE)
    ),
    "lengths": Workload(
        "bench.videos.length_cell:run",
        preload=("bench.videos.length_cell", "bench.suites", "tyro", "rich.progress", *PIPELINE),
    ),
    "changes": Workload(
        "bench.videos.change_cell:run",
        preload=("bench.videos.change_cell", "bench.suites", "tyro", "rich.progress", *PIPELINE),
    ),
    "long": Workload(
        "bench.videos.long_cell:run",
        preload=("bench.videos.long_cell", "bench.suites", "tyro", "rich.progress", *PIPELINE),
    ),
    "speed": Workload("bench.speed.cell:run", preload=("bench.speed.cell", "bench.suites", "tyro", "rich.progress")),
    "growth": Workload(
        "bench.speed.memory_cell:run",
        preload=("bench.speed.memory_cell", "bench.suites", "tyro", "rich.progress", *PIPELINE),
    ),
    "approximation": Workload(
        "bench.speed.approximation_cell:run",
        preload=("bench.speed.approximation_cell", "bench.suites", "tyro", "rich.progress", *PIPELINE),
    ),
    "knobs": Workload(
        "bench.speed.knob_cell:run", preload=("bench.speed.knob_cell", "bench.suites", "tyro", "rich.progress")
    ),
    "instrument": Workload(
        "bench.videos.instruments.cell:run",
        preload=("bench.videos.instruments.cell", "bench.suites", "tyro", "rich.progress"),
    ),
    "kernel": Workload(
        "bench.kernels.cell:run", preload=("bench.kernels.cell", "bench.suites", "tyro", "rich.progress")
    ),
}
