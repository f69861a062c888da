"""Who carries out the units of a data set: processes of this machine, or a Ray cluster. Both do the same work."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from vidrd.data.shard_task import PreparePlan, ShardTask, is_done, run_shard_task

RESTARTS = 8  # of the pool, after a worker died
LOADED = ("blip2", "chat")  # captioners whose model the worker itself runs


def run_locally(
    plan: PreparePlan, out: Path, units: Sequence[ShardTask], workers: int, say: Callable[[str], None]
) -> None:
    """Carry out units in processes of this machine; one worker: in this process.

    A worker that dies (out of memory, killed) takes the pool with it: a new pool does what was not done.
    """
    if workers <= 1:
        for unit in units:
            run_shard_task(plan, out, unit)
        return
    left = {unit.number: unit for unit in units}
    for _ in range(RESTARTS):
        try:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                for number in _finished(pool, plan, out, list(left.values()), workers):
                    del left[number]
            return
        except BrokenProcessPool:
            left = {number: unit for number, unit in left.items() if not is_done(plan, out, unit)}
            say(f"a worker died; {len(left)} units are left for a new pool")
    raise ValueError(
        f"workers died {RESTARTS} times; not done: units {', '.join(map(str, list(left)[:8]))}: take fewer workers "
        "if memory runs out, or look at these units' files"
    )


def _finished(
    pool: ProcessPoolExecutor, plan: PreparePlan, out: Path, units: Sequence[ShardTask], workers: int
) -> Iterator[int]:
    """Numbers of units as they are done, with few of them in the queue at a time."""
    coming, running = iter(units), dict[Future[int], int]()
    while True:
        for unit in islice(coming, 2 * workers - len(running)):
            running[pool.submit(run_shard_task, plan, out, unit)] = unit.number
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            number = running.pop(future)
            future.result()
            yield number


def run_on_ray(
    plan: PreparePlan, out: Path, units: Sequence[ShardTask], workers: int, say: Callable[[str], None]
) -> None:
    """Carry out units on a Ray cluster: the running one, or one of this machine. `out` must be a folder all see.

    Units of workers that die go to others.
    """
    if not units:
        return
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError("engine ray needs Ray Data: pip install 'vidrd-bench[ray]'") from error
    if not ray.is_initialized():
        ray.init(num_cpus=None if os.environ.get("RAY_ADDRESS") else max(1, workers), log_to_driver=False)
    rows = [{"number": unit.number} for unit in units]
    on_gpu = plan.device.startswith("cuda") and plan.captioner in LOADED
    plan = replace(plan, device=plan.device.partition(":")[0])  # Ray shows an actor its own devices only
    work = ray.put((plan, out.absolute(), {unit.number: unit for unit in units}))
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    made = data.map_batches(
        _RayWorker, fn_constructor_args=([work],), batch_size=1, compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=1 if on_gpu else None, max_restarts=-1, max_task_retries=-1,
    )  # fmt: skip
    for row in made.iter_rows():
        say(f"unit {row['number']}: {row['clips']} clips")


class _RayWorker:
    """An actor that carries out units; its captioner stays loaded."""

    def __init__(self, work: list[Any]):
        import ray  # noqa: PLC0415

        self.plan, self.out, self.units = ray.get(work[0])

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        numbers = [int(number) for number in batch["number"]]
        todo = [self.units[number] for number in numbers]
        clips = [
            0 if is_done(self.plan, self.out, unit) else run_shard_task(self.plan, self.out, unit) for unit in todo
        ]
        return {"number": np.array(numbers), "clips": np.array(clips)}


ENGINES = {"local": run_locally, "ray": run_on_ray}
