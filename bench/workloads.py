"""All kinds of work that cells can do. The key of a workload is in the ids of its cells and never changes."""

from bench.harness.job import Workload

PIPELINE = ("vidrd.checkpoints", "baselines.models.vidrd")  # diffusers and transformers: seconds for every cell


def _work_of(module: str, *libraries: str) -> Workload:
    """The function `run` of a module, which the fork server loads with these libraries."""
    return Workload(f"{module}:run", preload=(module, "bench.suites", "tyro", "rich.progress", *libraries))


WORKLOADS: dict[str, Workload] = {
    "pocket": _work_of("bench.videos.cell", *PIPELINE),
    "lengths": _work_of("bench.videos.length_cell", *PIPELINE),
    "changes": _work_of("bench.videos.change_cell", *PIPELINE),
    "long": _work_of("bench.videos.long_cell", *PIPELINE),
    "speed": _work_of("bench.speed.cell"),
    "growth": _work_of("bench.speed.memory_cell", *PIPELINE),
    "approximation": _work_of("bench.speed.approximation_cell", *PIPELINE),
    "knobs": _work_of("bench.speed.knob_cell", *PIPELINE),
    "load": _work_of("bench.videos.load.load_cell", "bench.videos.generator", *PIPELINE),
    "instrument": _work_of("bench.videos.instruments.cell"),
    "kernel": _work_of("bench.kernels.cell"),
}
