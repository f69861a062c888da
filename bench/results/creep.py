"""What a chain of revisions shows: creep past the margin, and steps.

The CUSUM of a chain is how much worse a revision is than the best one before it (Page 1954). Creep is shown when the
lower bound of such a rise is above the margin; no single revision need have failed. A step is a single change that the
noise of the whole chain does not explain.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from bench.results.history import Segment
from bench.results.statistics import holm
from bench.results.verdicts import Verdict

ALPHA = 0.01  # of a bound, one-sided
STEP_ALPHA = 0.05  # of all steps of a chain, two-sided
WITHIN = 3.84  # of twice the log likelihood: where else a step may be, at 95 %


class Creep(NamedTuple):
    """A rise along a chain.

    Args:
        verdict: FAIL: it is above the margin; INCONCLUSIVE: it is a rise, and perhaps above the margin.
        first: number of the revision that it rises from.
        last: number of the revision that it rises to.
        low: lower bound of the rise; `high` is the upper one.
        passed: number of the revision at which the margin was passed; None if that is not shown.
        carriers: numbers of the revisions that carried it, the largest part first.
    """

    verdict: Verdict
    first: int
    last: int
    rise: float
    low: float
    high: float
    passed: int | None
    carriers: tuple[int, ...]


class Step(NamedTuple):
    """One change that is beyond noise, its 95 % interval, and all revisions that it may have come with."""

    revision: int
    change: float
    low: float
    high: float
    places: tuple[int, ...]


def cusum(segment: Segment) -> Float[np.ndarray, " N"]:
    """How much worse each revision is than the best one before it, by the estimates."""
    lowest: Float[np.ndarray, " N"] = np.minimum.accumulate(segment.levels)
    return segment.levels - lowest


def creep(segment: Segment) -> Creep | None:
    """The rise that is most certainly above the margin, else a rise to the last revision that may be; None if none."""
    count = len(segment.revisions)
    z = float(ndtri(1 - ALPHA))
    bounds = {}
    for last in range(1, count):
        for first in range(last):
            rise, error = segment.rise(first, last)
            bounds[first, last] = rise - z * error
    shown = [pair for pair, low in bounds.items() if low > segment.margin]
    if shown:
        first, last = max(shown, key=bounds.__getitem__)
        passed = min(last for _, last in shown)
        return _creep(segment, "FAIL", first, last, passed, z)
    ends = [pair for pair, low in bounds.items() if pair[1] == count - 1 and low > 0]
    likely = [pair for pair in ends if segment.rise(*pair)[0] > segment.margin]
    return _creep(segment, "INCONCLUSIVE", *max(likely, key=bounds.__getitem__), None, z) if likely else None


def _creep(segment: Segment, verdict: Verdict, first: int, last: int, passed: int | None, z: float) -> Creep:
    rise, error = segment.rise(first, last)
    parts = {i: segment.rise(i - 1, i)[0] for i in range(first + 1, last + 1)}
    carriers, total = [], 0.0
    for i in sorted(parts, key=parts.__getitem__, reverse=True):
        if parts[i] <= 0 or total >= rise - 1e-12:
            break
        carriers.append(i)
        total += parts[i]
    return Creep(verdict, first, last, rise, rise - z * error, rise + z * error, passed, tuple(carriers))


def steps(segment: Segment) -> list[Step]:
    """Changes from one revision to the next, for the worse or the better, that noise does not explain (Holm)."""
    changes = [segment.rise(i - 1, i) for i in range(1, len(segment.revisions))]
    scores = [change / error if change else 0.0 for change, error in changes]
    adjusted = holm([2 * float(ndtr(-abs(score))) for score in scores])
    found = []
    for i, ((change, error), score, p) in enumerate(zip(changes, scores, adjusted, strict=True), start=1):
        if p < STEP_ALPHA:
            half = float(ndtri(0.975)) * error
            also = [j for j, z in enumerate(scores, start=1) if z * score > 0 and score**2 - z**2 <= WITHIN]
            found.append(Step(i, change, change - half, change + half, tuple({i: None} | dict.fromkeys(also))))
    return found
