"""Group-sequential tests: look at the data again and again, and err no more often than one look would.

Each look gets a part of the whole probability of an error, by a spending function of how much of the data or of the
time is used (Lan and DeMets 1983). What is spent at a look becomes its nominal level by the recursion of Armitage,
McPherson and Rowe (1969); a t test at that level keeps the whole probability almost exactly (Pocock 1977).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

GRID = 401  # points at which the density between two looks is known
WIDEST = 8.0  # standard deviations below 0 where it is taken to end
SPENDING = 1.5  # power of the spending function: 1 spends evenly (as Pocock), 3 late (as O'Brien and Fleming)


def spent(fraction: float | int, alpha: float) -> float:
    """What may be spent of `alpha` until this share of the data or the time is used (Kim and DeMets 1987)."""
    return alpha * min(max(fraction, 0.0), 1.0) ** SPENDING


class _Undecided(NamedTuple):
    """The density of the score where no look has decided yet: points and the probability at each."""

    points: Float[np.ndarray, " N"]
    weights: Float[np.ndarray, " N"]


def level(information: Sequence[float | int], spending: Sequence[float]) -> float:
    """The nominal one-sided level of the last of these looks.

    Args:
        information: at each look so far, in any unit in which the variance of the estimate is one over it: values, if
            all have one variance.
        spending: the probability of an error at this look or an earlier one, where the truth is at the limit.

    Raises:
        ValueError: either does not grow from look to look.
    """
    for name, values in (("information", information), ("spending", spending)):
        if any(later <= earlier for earlier, later in zip((0.0, *values), values, strict=False)):
            raise ValueError(f"{name} grows from look to look, above 0; got {', '.join(f'{v:g}' for v in values)}")
    return _look(tuple(zip(map(float, information), spending, strict=True)))[0]


@lru_cache(maxsize=2048)
def _look(looks: tuple[tuple[float, float], ...]) -> tuple[float, _Undecided]:
    """The level of the last of these looks (information, spending), and what it leaves undecided."""
    now, total = looks[-1]
    before, used = looks[-2] if len(looks) > 1 else (0.0, 0.0)
    undecided = _look(looks[:-1])[1] if len(looks) > 1 else _Undecided(np.zeros(1), np.ones(1))
    step = math.sqrt(now - before)
    bound = _bound(undecided, step, total - used)
    return float(ndtr(-bound / math.sqrt(now))), _next(undecided, step, bound, math.sqrt(now))


def _bound(undecided: _Undecided, step: float, share: float) -> float:
    """What the next score exceeds with probability `share`, undecided until now."""
    points, weights = undecided

    def excess(bound: float) -> float:
        return float(weights @ ndtr((points - bound) / step)) - share

    from scipy.optimize import brentq  # noqa: PLC0415  (a quarter of a second, which other commands need not pay)

    return float(brentq(excess, float(points[0]) - WIDEST * step, float(points[-1]) + 38 * step, xtol=1e-10))


def _next(undecided: _Undecided, step: float, bound: float, spread: float) -> _Undecided:
    """The density of the next score below the bound, by Simpson's rule."""
    points, weights = undecided
    grid = np.linspace(-WIDEST * spread, bound, GRID)
    simpson = np.full(GRID, 2.0)
    simpson[1::2] = 4.0
    simpson[[0, -1]] = 1.0
    density = np.exp(-0.5 * ((grid[:, None] - points) / step) ** 2) @ weights / (step * math.sqrt(2 * math.pi))
    return _Undecided(grid, density * simpson * (grid[1] - grid[0]) / 3)
