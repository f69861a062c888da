"""Equal terms for methods of unequal cost: how many steps each may take.

    equal = steps     every method takes as many: the cheap ones are then under-served
    equal = fe        every method may spend as many frame evaluations a frame as independent clips of that many steps
    equal = seconds   every method may take as long as independent clips of that many steps take on this machine

A table says which of the three it is. The main one is that of equal fe, which depends on no machine.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Literal, get_args

from vidrd.sampler_contract import Plan, Request

Equal = Literal["steps", "fe", "seconds"]
EQUAL: tuple[Equal, ...] = get_args(Equal)
MOST_STEPS = 500  # that the solver thinks of; a schedule of 1000 training levels still holds them
PROBES = (1, 4)  # steps of the two runs that a line of seconds goes through

PlanOf = Callable[[Request, int, Any], Plan]


def most_steps(cost: Callable[[int], float], limit: float, unit: str) -> int:
    """The most steps whose cost is at most `limit`; the cost must not fall with the steps.

    Raises:
        ValueError: a single step costs more.
    """
    steps = bisect_right(range(1, MOST_STEPS + 1), limit * (1 + 1e-9), key=cost)
    if steps == 0:
        raise ValueError(
            f"a single step takes {cost(1):.3g} {unit}, more than the {limit:.3g} allowed: allow more steps"
        )
    return steps


def steps_at_equal_fe(plan: PlanOf, request: Request, options: Any, steps: int) -> int:
    """The most steps that cost at most `steps` frame evaluations a frame: what independent whole clips cost.

    Raises:
        ValueError: one step costs more, or the method cannot make such a video.
    """
    return most_steps(
        lambda count: plan(request, count, options).fe / request.frames, float(steps), "frame evaluations a frame"
    )


def seconds_line(
    plan: PlanOf,
    request: Request,
    options: Any,
    measure: Callable[[int], float],  # steps -> seconds of a run
) -> Callable[[int], float]:
    """Seconds by steps, from two measured runs: a + b fe, never falling."""
    few, more = (plan(request, count, options).fe for count in PROBES)
    first, second = (measure(count) for count in PROBES)
    slope = max(0.0, (second - first) / (more - few))
    return lambda count: first + slope * (plan(request, count, options).fe - few)
