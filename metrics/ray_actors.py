"""The pass of `score` by the actors of a Ray cluster.

Every actor makes the same plan and takes pieces of its work; all rows go into one cache, on the machine of the command.
Pieces are whole batches, so the rows are those of one machine to the last bit.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrics.cli_options import OnePass
from metrics.evaluation.cache import FeatureCache, MemoryCache, default_path
from metrics.evaluation.cautions import Look
from metrics.evaluation.progress import Progress
from metrics.networks.device import resolve_device
from metrics.networks.features import Features

ROOT = Path(__file__).parents[1]


class ActorCache:
    """A cache that another process holds."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def get(self, key: str) -> tuple[Features, Look] | None:
        """The features of one clip as a batch of one."""
        import ray  # noqa: PLC0415 - an extra

        return ray.get(self.actor.get.remote(key))

    def put(self, keys: Sequence[str], features: Features, looks: Sequence[Look]) -> None:
        """Keep the features of a batch."""
        import ray  # noqa: PLC0415

        ray.get(self.actor.put.remote(keys, features, looks))


class _CacheHolder:
    """The actor that holds it."""

    def __init__(self, path: Path | None) -> None:
        self.cache = MemoryCache() if path is None else FeatureCache(path)

    def get(self, key: str) -> tuple[Features, Look] | None:
        return self.cache.get(key)

    def put(self, keys: Sequence[str], features: Features, looks: Sequence[Look]) -> None:
        self.cache.put(keys, features, looks)


class _Worker:
    """An actor that computes pieces; its networks stay loaded."""

    def __init__(self) -> None:
        self.plan: Any = None

    def compute(self, verb: OnePass, holder: Any, threads: int, piece: int, pieces: int) -> None:
        import torch  # noqa: PLC0415

        from metrics.one_pass import Plan  # noqa: PLC0415

        if self.plan is None:
            torch.set_num_threads(threads)
            self.plan = Plan.of(verb, ActorCache(holder))
        self.plan.compute(None, piece, pieces)


@dataclass(frozen=True)
class Actors:
    """The actors of one command line."""

    verb: OnePass
    cache: ActorCache
    workers: list[Any]

    def compute(self, pieces: int, report: Callable[[str, Progress], None] | None) -> None:
        """Do the work in so many pieces; those of actors that die are done again.

        Raises:
            ValueError: what a worker's plan or network raises.
        """
        import ray  # noqa: PLC0415
        import torch  # noqa: PLC0415

        pool, started = ray.util.ActorPool(self.workers), time.monotonic()
        about = self.verb, self.cache.actor, torch.get_num_threads()
        try:
            done = pool.map_unordered(lambda worker, piece: worker.compute.remote(*about, piece, pieces), range(pieces))
            for count, _ in enumerate(done, 1):
                if report is not None:
                    report("pieces", Progress(count, pieces, 0, time.monotonic() - started))
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None


@contextmanager
def open_actors(verb: OnePass) -> Iterator[Actors]:
    """Actors on the cluster that RAY_ADDRESS names, or on one of this machine.

    Raises:
        ValueError: Ray is not installed.
    """
    try:
        import ray  # noqa: PLC0415
    except ImportError as error:
        raise ValueError("--ray needs Ray: pip install 'vidrd-bench[ray]'") from error
    begun = not ray.is_initialized()
    if begun:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]), *filter(None, sys.path)])
        cores = None if os.environ.get("RAY_ADDRESS") else verb.workers
        ray.init(num_cpus=cores, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), False)
    kept = None if verb.fresh else (verb.cache or default_path()).absolute()
    holder = ray.remote(_CacheHolder).options(num_cpus=0, scheduling_strategy=here).remote(kept)
    gpus = 1 if resolve_device(verb.device).startswith("cuda") else 0
    actor = ray.remote(_Worker).options(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)
    workers = [actor.remote() for _ in range(verb.workers)]
    try:
        yield Actors(verb, ActorCache(holder), workers)
    finally:
        for each in [*workers, holder]:
            ray.kill(each)
        if begun:
            ray.shutdown()
