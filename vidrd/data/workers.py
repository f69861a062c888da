"""Who carries out the shard tasks of a data set: processes of this machine, or a Ray cluster. Both do the same work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vidrd.data.shard_task import PreparePlan, ShardTask, is_done, run_shard_task
from vidrd.resumable_pool import Pool, run_locally, run_on_ray

LOADED = ("blip2", "chat")  # captioners whose model runs in the worker itself


@dataclass(frozen=True)
class PrepareJob:
    """The shard tasks of one plan, as a job of `vidrd.resumable_pool`."""

    plan: PreparePlan
    out: Path  # all workers must see this folder

    def open(self, device: str) -> Callable[[ShardTask], int]:
        """The function that carries out a task on a device and returns the number of its clips."""
        return partial(run_shard_task, replace(self.plan, device=device), self.out)

    def is_done(self, task: ShardTask) -> bool:
        """Whether a task has been carried out, with equal content."""
        return is_done(self.plan, self.out, task)


def _devices(plan: PreparePlan) -> tuple[str, ...]:
    """The GPUs that local workers take in turn: the named one, or all of the machine."""
    import torch  # noqa: PLC0415 - templates do not need it

    return tuple(f"cuda:{n}" for n in range(torch.cuda.device_count())) if plan.device == "cuda" else (plan.device,)


def carry_out(
    plan: PreparePlan,
    out: Path,
    tasks: Sequence[ShardTask],
    workers: int,
    say: Callable[[str], None],
    *,
    ray: bool = False,
) -> None:
    """Carry out tasks in processes of this machine or on a Ray cluster; one local worker is this process.

    Raises:
        ValueError: workers keep dying, Ray is asked for and not installed, or a stage refuses its input.
    """
    on_gpu = plan.device.startswith("cuda") and plan.captioner in LOADED
    pool = Pool(
        max(1, workers),
        _devices(plan) if on_gpu and not ray else (plan.device,),
        pieces="units",
        advice="take fewer workers if memory runs out, or look at the files of these units",
        ray="engine ray",
        gpus=1 if on_gpu else None,
    )
    job = PrepareJob(plan, out.absolute())
    if not ray:
        for _ in run_locally(job, tasks, pool, say):
            pass
        return
    for finished in run_on_ray(job, tasks, pool):
        say(f"unit {finished.piece.number}: {finished.results} clips")
