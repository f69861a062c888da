"""The history of the gates, as text and a page: `python -m reports.history_page JOURNAL --page FILE`."""

import math
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Annotated

import tyro

from bench.results.creep import Creep, Step, creep, cusum, steps
from bench.results.history import Segment, Upgrade, load, segments
from bench.results.option_types import TargetFile
from bench.results.records import short_revision, write_atomic
from reports.cli import run_command
from reports.format import printable

COLORS = {"PASS": "#2a9d4a", "FAIL": "#c0392b", "INCONCLUSIVE": "#c98a00", "": "#555"}
WIDTH, HEIGHT, EDGE = 760, 200, 40  # of a chart, in pixels
MOST_TICKS = 16  # revisions whose names are written under a chart


def history_page(journal: Annotated[Path, tyro.conf.Positional], page: TargetFile | None = None) -> int:
    """Print what the chains of a journal show.

    Args:
        journal: The file that gates append to.
        page: Also write a page with a chart of every chain.
    """
    entries, torn = load(journal)
    chains, upgrades = segments(entries)
    lines = [f"{len(entries)} gates, {len(chains)} chains{f', {torn} lines were never finished' if torn else ''}"]
    lines += [sentence for chain in chains for sentence in sentences(chain)]
    lines += [upgraded(upgrade) for upgrade in upgrades]
    print("\n".join(map(printable, lines)))
    if page is not None:
        body = "".join(f"<p>{escape(line)}</p>\n" for line in lines) + "".join(map(chart, chains))
        style = "body{font:15px sans-serif;max-width:800px;margin:2em auto}text{font-size:11px;fill:#555}"
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>History</title><style>{style}</style>'
        write_atomic(page, f"{head}\n<h1>History of the gate</h1>\n{body}</html>\n")
    return 0


def sentences(chain: Segment) -> Iterator[str]:
    """What a chain shows: its creep, its steps, or neither."""
    rise, jumps = creep(chain), steps(chain)
    name, last = f"{chain.cell}, {chain.measure}", len(chain.revisions) - 1
    if rise:
        yield f"{name}: {_crept(chain, rise)}"
    yield from (f"{name}: {_stepped(chain, step)}" for step in jumps)
    if not rise and not jumps:
        level, error = chain.rise(0, last)
        yield (
            f"{name}: no creep and no step; {_span(chain, 0, last)} {_amount(chain, level)} "
            f"({_amount(chain, level - 1.96 * error)} to {_amount(chain, level + 1.96 * error)})"
        )


def _crept(chain: Segment, rise: Creep) -> str:
    carriers = ", ".join(
        f"{short_revision(chain.revisions[i])} {_amount(chain, chain.rise(i - 1, i)[0])}" for i in rise.carriers
    )
    ends = f"{_amount(chain, rise.low)} to {_amount(chain, rise.high)}"
    margin = _amount(chain, chain.margin)
    if rise.passed is None:
        command = f"gate --base {chain.revisions[rise.first]} --head {chain.revisions[rise.last]}"
        what = f"may be above the margin of {margin}; `python -m bench {command}` decides"
    else:
        what = f"passes the margin of {margin}, at {short_revision(chain.revisions[rise.passed])}"
    span = f"{_span(chain, rise.first, rise.last)} {_amount(chain, rise.rise)} ({ends})"
    return f"{rise.verdict}: {span} {what}; by {carriers}"


def _stepped(chain: Segment, step: Step) -> str:
    others = " or ".join(short_revision(chain.revisions[i]) for i in step.places[1:])
    return (
        f"a step of {_amount(chain, step.change)} ({_amount(chain, step.low)} to {_amount(chain, step.high)}) at "
        f"{short_revision(chain.revisions[step.revision])}{f', or at {others}' if others else ''}"
    )


def upgraded(upgrade: Upgrade) -> str:
    """What a gate whose sides differ in software measured."""
    edge = upgrade.edge
    return (
        f"{upgrade.cell}, {upgrade.measure}: {upgrade.software} came between {short_revision(edge.base)} and "
        f"{short_revision(edge.head)}, with {_amount(upgrade, edge.worse)}: no revision's, a new chain begins"
    )


def _span(chain: Segment, first: int, last: int) -> str:
    return f"{short_revision(chain.revisions[first])} to {short_revision(chain.revisions[last])}"


def _amount(of: Segment | Upgrade, worse: float) -> str:
    return f"{math.expm1(worse):+.1%}" if of.measure == "speed" else f"{worse:+.3g}"


def chart(chain: Segment) -> str:
    """How much worse each revision is than the best before it, with verdicts as colors, as SVG."""
    values, count = cusum(chain), len(chain.revisions)
    top = max(1.2 * float(values.max()), 1.5 * chain.margin) or 1.0
    across = (WIDTH - 2 * EDGE) / max(count - 1, 1)
    places = [(EDGE + i * across, HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * float(v) / top) for i, v in enumerate(values)]
    limit = HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * chain.margin / top
    every = math.ceil(count / MOST_TICKS)
    parts = [
        f'<path d="M{EDGE} {limit:.1f}H{WIDTH - EDGE}" stroke="#c0392b" stroke-dasharray="4"/>',
        f'<text x="{WIDTH - EDGE}" y="{limit - 4:.1f}" text-anchor="end">margin {_amount(chain, chain.margin)}</text>',
        f'<polyline fill="none" stroke="#888" points="{_points(places)}"/>',
    ]
    for i, ((x, y), revision, verdict) in enumerate(zip(places, chain.revisions, chain.verdicts, strict=True)):
        title = f"{revision}: {_amount(chain, float(values[i]))} {verdict}"
        color = COLORS.get(verdict, COLORS[""])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"><title>{escape(title)}</title></circle>')
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - EDGE}" y2="{HEIGHT - EDGE + 4}" stroke="#555"/>')
        if i % every == 0:
            name = escape(short_revision(revision))
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - EDGE + 16}" text-anchor="middle">{name}</text>')
    name = escape(f"{chain.cell}, {chain.measure}: worse than the best revision before")
    software = escape(", ".join(f"{name} {version}" for name, version in chain.software.items()))
    svg = f'<svg role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    return f"<h2>{name}</h2>\n<p>{software}; machine {escape(chain.machine)}</p>\n{svg}\n"


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def main() -> int:
    """Run the command; returns its exit code."""
    return run_command(history_page, "python -m reports.history_page", __doc__)


if __name__ == "__main__":
    sys.exit(main())
