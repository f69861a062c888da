"""The verb `score`: several verbs in one pass over the videos, here or by the actors of a Ray cluster."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from metrics.cli_options import OnePass
from metrics.evaluation.cache import MemoryCache, default_path
from metrics.evaluation.progress import Progress
from metrics.evaluation.result import Result
from metrics.one_pass import Plan
from metrics.set_verbs import open_cache, weights_place

Report = Callable[[str, Progress], None]
PIECES = 4  # of the work, for each actor


def score_in_one_pass(verb: OnePass, report: Report | None = None) -> dict[str, Result]:
    """The results of all verbs, by verb and protocol.

    Raises:
        ValueError: options that contradict each other, or what one of the verbs raises.
    """
    with ExitStack() as stack:
        if verb.ray:
            from metrics.ray_actors import open_actors  # noqa: PLC0415 - an extra

            verb = _anywhere(verb)
            actors = stack.enter_context(open_actors(verb))
            plan = Plan.of(verb, actors.cache, report)
            actors.compute(PIECES * verb.workers, report)
        else:
            kept = None if verb.fresh else stack.enter_context(open_cache(verb.cache or default_path()))
            plan = Plan.of(verb, MemoryCache() if kept is None else kept, report)
            plan.compute(report)
        return {name: score.finish() for name, score in plan.scores.items()}


def _anywhere(verb: OnePass) -> OnePass:
    """The same for a process with another working folder and environment."""
    places = {name: getattr(verb, name) for name in ("videos", "real", "prompts", "cache")}
    places["weights"] = verb.weights or weights_place()
    return replace(verb, **{name: path.absolute() for name, path in places.items() if path is not None})
