"""What is counted on both sides of a gate: numbers without noise."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bench.results.verdicts import Finding, count

# Less is better in all of them. The share that a number may grow by without being called a regression.
COUNTS: dict[str, tuple[float, str]] = {
    "flops": (0.001, "FLOP"),
    "operators": (0.01, ""),
    "kernels": (0.01, ""),
    "graph_breaks": (0.0, ""),
    "peak_bytes": (0.01, "bytes"),
    "held_bytes": (0.0, "bytes"),
    "allocated_peak": (0.01, "bytes"),
}


def counted(
    label: str, base: dict[str, Any], head: dict[str, Any], margins: Mapping[str, float | int] = MappingProxyType({})
) -> list[Finding]:
    """A finding for each count that either side has. A text in place of a number says why there is none."""
    findings = []
    for name, (tolerance, unit) in COUNTS.items():
        sides = [counts.get(name) for counts in (base, head)]
        texts = [side for side in sides if isinstance(side, str)]
        if all(side is None for side in sides) or len(texts) == 2:
            continue  # neither side has it: nothing went missing, see `uncounted`
        numbers = [None if isinstance(side, str) else side for side in sides]
        finding = count(label, name, *numbers, tolerance=float(margins.get(name, tolerance)), unit=unit)
        findings.append(replace(finding, reason=f"{finding.reason} ({texts[0]})") if texts else finding)
    return findings


def uncounted(base: dict[str, Any], head: dict[str, Any]) -> dict[str, str]:
    """Counts for which both sides have a text in place of a number, and the head's text."""
    both = [name for name in COUNTS if isinstance(base.get(name), str) and isinstance(head.get(name), str)]
    return {name: head[name] for name in both}
