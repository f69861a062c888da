"""Warm up until the times are flat. This file needs nothing: a gate uses one version of it on two revisions."""

from collections.abc import Callable
from typing import NamedTuple

LEAST = 3  # runs: a compiled network is often fast only from its third call on
WINDOW = 3  # runs that must agree
SPREAD = 0.05  # largest against smallest of them, as a share
MOST = 12  # runs
BUDGET = 60.0  # seconds


class WarmUp(NamedTuple):
    """Seconds of every run of a warm-up, and whether the last ones agreed before runs or seconds were used up."""

    seconds: tuple[float, ...]
    flat: bool


def until_flat(
    run: Callable[[], float],  # does the work once and returns its seconds
    *,
    least: int = LEAST,
    window: int = WINDOW,
    spread: float = SPREAD,
    most: int = MOST,
    budget: float = BUDGET,
) -> WarmUp:
    """Run until the last `window` times are within `spread` of each other, at most `most` runs or `budget` seconds.

    Raises:
        ValueError: the limits contradict each other.
    """
    if not 1 <= window <= most or least > most or spread < 0:
        raise ValueError(
            f"warming up takes 1 <= window <= most >= least runs; got {window=}, {most=}, {least=}, {spread=}"
        )
    seconds: list[float] = []
    while len(seconds) < most and sum(seconds) < budget:
        seconds.append(run())
        last = seconds[-window:]
        if len(seconds) >= max(least, window) and max(last) <= (1 + spread) * min(last):
            return WarmUp(tuple(seconds), flat=True)
    return WarmUp(tuple(seconds), flat=False)
