"""Verdicts: is the head as fast, as small and as good as the base? Nothing is measured here, only compared.

    PASS                a change for the worse by more than the margin is excluded
    FAIL                a change for the worse by more than the margin is shown
    INCONCLUSIVE        neither is shown: measure more, or on a quieter machine
    CALIBRATION_NEEDED  there is nothing to compare with: first time on this machine, with this software or recipe
    INVALID             the numbers cannot be trusted or do not belong together: another recipe, a missing number

Every verdict states its margin and the smallest effect that it could have detected.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from bench.results.records import Better, is_number
from bench.results.statistics import Estimate, clustered_mean, minimum_detectable, samples_needed

Verdict: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE", "CALIBRATION_NEEDED", "INVALID"]
# The worst first: a regression that is shown stays one, whatever else could not be decided.
WORST: tuple[Verdict, ...] = ("FAIL", "INVALID", "INCONCLUSIVE", "CALIBRATION_NEEDED", "PASS")
TEXTS = ("cell", "measure", "verdict", "reason", "unit", "better")  # of a finding; the rest are numbers
EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "FAIL": 1, "INVALID": 2, "INCONCLUSIVE": 4, "CALIBRATION_NEEDED": 4}

ALPHA = 0.01  # probability that a speed at the margin is called slower
MISS = 0.05  # probability that a gate calls a speed at the margin fast enough
QUALITY_ALPHA = 0.05  # one-sided, of the bound on a difference in quality
FEWEST_PAIRS = 6  # with fewer, no verdict is possible at ALPHA


@dataclass(frozen=True)
class Finding:
    """A verdict on one measure of one cell.

    Args:
        cell: its label.
        measure: "speed", "flops", "fvd", ...
        reason: one line that says why.
        base: value of the base in `unit`; None where there is none.
        head: value of the head.
        change: head against base: the ratio less 1 for speeds and counts, the difference for quality.
        low: lower end of the change's interval; None for counts, which have none.
        high: upper end.
        margin: the change that is still allowed.
        detectable: the smallest change that would have been called a FAIL in 9 of 10 cases.
        p: probability of such a change at the margin.
        n: pairs or videos.
        error: standard error of the change; of its logarithm for speeds.
        better: direction of the measure that is better.
    """

    cell: str
    measure: str
    verdict: Verdict
    reason: str
    unit: str = ""
    base: float | int | None = None
    head: float | int | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    detectable: float | None = None
    p: float | None = None
    n: int = 1
    error: float | None = None
    better: Better = "lower"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON content; fields that are None are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Finding":
        """The inverse of `to_dict`.

        Raises:
            TypeError, ValueError: it is no finding.
        """
        for name, value in content.items():
            if not (isinstance(value, str) if name in TEXTS else is_number(value)):
                raise ValueError(f"the {name} of a finding cannot be {value!r:.40}")
        finding = cls(**content)
        if finding.verdict not in WORST:
            raise ValueError(f"a verdict is one of {', '.join(WORST)}; got {finding.verdict!r:.40}")
        return finding


class Pair(NamedTuple):
    """Seconds of the same work done by base and head one right after the other.

    Args:
        group: the pair of processes it comes from.
        spoiled: why it does not count (throttled, another process on the GPU); "" if it does.
        base_waited, head_waited: further seconds, in which other work had the core; no part of `base` and `head`.
    """

    base: float
    head: float
    group: Hashable = 0
    spoiled: str = ""
    base_waited: float = 0.0
    head_waited: float = 0.0

    @property
    def by_the_clock(self) -> "Pair":
        """With the time in which other work had the core."""
        return self._replace(base=self.base + self.base_waited, head=self.head + self.head_waited)


def speed(
    cell: str,
    pairs: Sequence[Pair],
    *,
    margin: float | int = 0.03,  # slower by so much is still allowed, as a share
    alpha: float = ALPHA,
    miss: float = ALPHA,
) -> Finding:
    """Is the head slower than the base by more than the margin?

    d = ln(head / base) of each pair; FAIL if the lower bound of their mean at `alpha` is above ln(1 + margin), PASS if
    the upper bound at `miss` is below it, else INCONCLUSIVE. The pairs of one pair of processes are one value, their
    trimmed mean (`clustered_mean`). Spoiled pairs do not count; if they leave fewer than six, or are more than half,
    the cell is INVALID.

    Raises:
        ValueError: a time is not above 0, or the margin is below 0.
    """
    if margin < 0:
        raise ValueError(f"a margin is at least 0; got {margin}")
    if any(not (math.isfinite(pair.base) and math.isfinite(pair.head) and min(pair[:2]) > 0) for pair in pairs):
        raise ValueError("times are finite and above 0; some pair has one that is not: the clock is broken")
    good = [pair for pair in pairs if not pair.spoiled]
    if len(good) < FEWEST_PAIRS or 2 * len(good) < len(pairs):
        why = "; ".join(dict.fromkeys(pair.spoiled for pair in pairs if pair.spoiled)) or "too few were measured"
        return Finding(
            cell, "speed", "INVALID", f"{len(good)} of {len(pairs)} pairs are good ({why})", margin=margin, n=len(good)
        )
    logs = [math.log(pair.head / pair.base) for pair in good]
    estimate = clustered_mean(logs, [pair.group for pair in good])
    limit = math.log1p(margin)
    low, high = estimate.low(alpha), estimate.high(miss)
    detectable = math.expm1(minimum_detectable(limit, estimate.error, alpha=alpha))
    verdict: Verdict = "FAIL" if low > limit else "PASS" if high < limit else "INCONCLUSIVE"
    interval = f"{math.expm1(low):+.1%} to {math.expm1(high):+.1%}"
    reasons = {
        "FAIL": f"slower by {math.expm1(estimate.mean):.1%} ({interval}), {margin:.1%} is allowed",
        "PASS": f"{_faster(estimate, miss)} ({interval}); less than {detectable:.1%} could not have been detected",
        "INCONCLUSIVE": f"{interval} holds the margin of {margin:.1%}: more pairs, or a quieter machine",
    }
    base, head = (sorted(times)[len(times) // 2] for times in zip(*(pair[:2] for pair in good), strict=True))
    return Finding(
        cell, "speed", verdict, reasons[verdict], "s", base, head, math.expm1(estimate.mean), math.expm1(low),
        math.expm1(high), margin, detectable, estimate.p_above(limit), len(good), estimate.error,
    )  # fmt: skip


def _faster(estimate: Estimate, alpha: float) -> str:
    change = math.expm1(estimate.mean)
    return f"faster by {-change:.1%}" if estimate.high(alpha) < 0 else f"no slowdown beyond the margin, {change:+.1%}"


def count(
    cell: str,
    measure: str,
    base: float | int | None,
    head: float | int | None,
    *,
    tolerance: float = 0.0,  # as a share of the base
    unit: str = "",
) -> Finding:
    """A hard gate on a quantity without noise that is better lower: FLOPs, kernels, graph breaks, peak bytes.

    A number that is missing on one side is INVALID: a quantity that cannot be measured has not passed.
    """
    if base is None or head is None:
        side = "base and head" if base is None and head is None else "the base" if base is None else "the head"
        return Finding(cell, measure, "INVALID", f"{side} gave no number", unit, base, head, margin=tolerance)
    change = head / base - 1 if base else float(head > 0)
    verdict: Verdict
    if head > base * (1 + tolerance):
        verdict, reason = "FAIL", f"{head:,g} after {base:,g}, at most {base * (1 + tolerance):,g} is allowed"
    else:
        verdict, reason = "PASS", "equal" if head == base else f"{change:+.2%}"
    return Finding(
        cell, measure, verdict, reason, unit, base, head, change, margin=tolerance, detectable=tolerance
    )  # fmt: skip


def equal_output(cell: str, error: float | None, *, tolerance: float, may_change: bool = False) -> Finding:
    """A hard gate on the output for the same noise: the largest error, as a share of the base's largest value.

    With `may_change` another output is allowed here, and quality has to be shown.
    """
    if error is None:
        return Finding(cell, "output", "INVALID", "base and head gave outputs of different shapes", margin=tolerance)
    compared = partial(Finding, cell, "output", head=error, margin=tolerance, detectable=tolerance)
    if math.isnan(error):
        return Finding(cell, "output", "FAIL", "an output is not finite", margin=tolerance)
    if error <= tolerance:
        return compared(verdict="PASS", reason="equal bits" if error == 0 else "equal within rounding")
    if may_change:
        return compared(verdict="PASS", reason=f"changed by {error:.2g}, as announced: quality decides")
    return compared(verdict="FAIL", reason=f"changed by {error:.2g}: if that is meant, say so (--outputs may-change)")


def not_worse(
    cell: str,
    measure: str,
    difference: Estimate,
    *,
    margin: float,  # in the unit of the measure
    better: Better,
    base: float | None = None,
    unit: str = "",
    alpha: float = QUALITY_ALPHA,
) -> Finding:
    """Non-inferiority of quality on the paired difference head - base: same prompts, same noise on both sides.

    PASS if the one-sided bound at `alpha` of how much worse the head may be is below the margin, FAIL if the other
    bound is above it, else INCONCLUSIVE with the number of videos that would settle it.

    Raises:
        ValueError: the margin is not above 0, or the measure has no better direction.
    """
    if margin <= 0:
        raise ValueError(f"a margin of quality is above 0; got {margin}")
    if better not in ("lower", "higher"):
        raise ValueError(f"{measure} is best where real video's is, so it has no direction in which it gets worse")
    sign = 1.0 if better == "lower" else -1.0
    worse = difference._replace(mean=sign * difference.mean)
    low, high = worse.low(alpha), worse.high(alpha)
    verdict: Verdict = "PASS" if high < margin else "FAIL" if low > margin else "INCONCLUSIVE"
    n = difference.n
    reasons = {
        "PASS": f"worse by at most {high:.3g}, {margin:.3g} is allowed",
        "FAIL": f"worse by at least {low:.3g}, {margin:.3g} is allowed",
        "INCONCLUSIVE": f"worse by {low:.3g} to {high:.3g}, {margin:.3g} is allowed: "
        f"some {samples_needed(n, difference.error, margin, alpha=alpha)} videos would decide, {n} were made",
    }
    lower, upper = sorted((sign * low, sign * high))
    return Finding(
        cell, measure, verdict, reasons[verdict], unit, base, None if base is None else base + difference.mean,
        difference.mean, lower, upper, margin, minimum_detectable(margin, difference.error, alpha=alpha), None, n,
        difference.error, better,
    )  # fmt: skip


def same_recipe(cell: str, base: Mapping[str, object], head: Mapping[str, object]) -> Finding:
    """Both sides must have done the same work, or none of their times or scores compare."""
    differing = [
        f"{name} was {_short(base.get(name))}, is {_short(head.get(name))}"
        for name in sorted({*base, *head})
        if base.get(name) != head.get(name)
    ]
    if differing:
        return Finding(
            cell, "recipe", "INVALID", f"another recipe, which is no change of speed: {'; '.join(differing)}"
        )
    return Finding(cell, "recipe", "PASS", "equal")


def _short(value: object, most: int = 60) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def overall(findings: Sequence[Finding]) -> Verdict:
    """The worst verdict; INVALID, not PASS, if there are no findings."""
    verdicts = {finding.verdict for finding in findings}
    return next((verdict for verdict in WORST if verdict in verdicts), "INVALID")
