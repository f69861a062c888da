"""The sequential test of a cell's speed: measure on until it can tell, with known probabilities of both errors.

A look follows each pair of processes, from the third on. The probability of a false FAIL (`ALPHA`, over all cells and
looks, where the head is slower by the margin) and that of a false PASS (`MISS`, per cell) are spent over the looks
(`bench.results.sequential`). A test that has decided is not looked at again, and a FAIL leaves its part of ALPHA to the
other cells, as Holm's procedure does (Maurer and Bretz 2013).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.results.sequential import level, spent
from bench.results.statistics import FEWEST_GROUPS
from bench.results.verdicts import ALPHA, MISS, Finding, Pair, speed


class Look(NamedTuple):
    """A look at the data so far.

    Args:
        witnesses: pairs of processes that gave pairs which count.
        fraction: share of the most that may be measured, in processes or in time, whichever is used up further.
    """

    witnesses: int
    fraction: float | int


@dataclass
class SpeedTest:
    """One cell's pairs, the looks at them, and the finding of the last look (None before the first)."""

    cell: str
    margin: float | int
    pairs: list[Pair] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    finding: Finding | None = None

    @property
    def decided(self) -> bool:
        """Whether more pairs would change nothing."""
        return self.finding is not None and self.finding.verdict in ("PASS", "FAIL")

    def look(self, fraction: float | int) -> bool:
        """Note a look, unless there are too few processes for one before the last (`fraction` 1); whether there is one.

        A look at the same processes as before takes the place of that look.
        """
        witnesses = len({pair.group for pair in self.pairs if not pair.spoiled})
        if witnesses < FEWEST_GROUPS and fraction < 1:
            return False
        if self.looks and self.looks[-1].witnesses == witnesses:
            self.looks.pop()
        self.looks.append(Look(max(witnesses, 1), fraction))
        return True

    def judge(self, alpha: float) -> None:
        """Make the finding of the last look, at the level that it has if `alpha` is spent over all looks."""
        witnesses, fractions = zip(*self.looks, strict=True)
        levels = [level(witnesses, [spent(share, whole) for share in fractions]) for whole in (alpha, MISS)]
        self.finding = speed(self.cell, self.pairs, margin=self.margin, alpha=levels[0], miss=levels[1])


def look(tests: Sequence[SpeedTest], fraction: float | int, *, among: int, alpha: float = ALPHA) -> None:
    """Look once at every test that is undecided.

    Args:
        tests: of all cells that could be measured.
        fraction: as in `Look`; 1 at the last look.
        among: cells that share `alpha`.
    """
    pending = [test for test in tests if not test.decided and test.look(fraction)]
    while pending:
        failed = sum(test.decided and test.finding is not None and test.finding.verdict == "FAIL" for test in tests)
        for test in pending:
            test.judge(alpha / (among - failed))
        fails = sum(test.finding is not None and test.finding.verdict == "FAIL" for test in tests)
        pending = [test for test in pending if not test.decided] if fails > failed else []
