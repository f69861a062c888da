"""The findings of a run of `instruments` as the tables of docs/instruments.md and a matrix picture.

python -m bench.videos.instruments.matrix RUN prints the tables; --picture FILE writes the matrix as SVG. With
--real CLIPS both are of those clips, in place of the pocket world.
"""

import itertools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median_low
from typing import Annotated, NamedTuple

import tyro

from bench.results.records import Record
from bench.results.run_folder import load_run
from bench.videos.instruments.damages import DAMAGES
from bench.videos.instruments.gauges import GAUGES
from bench.videos.instruments.instrument_suite import SIZES
from bench.videos.instruments.sources import POCKET
from vidrd.entry import obey
from vidrd.files import write_atomic

CELL, LEFT, TOP, LETTER = 30, 110, 130, 11  # px
SHADES = {16: "#08519c", 64: "#4292c6", 256: "#9ecae1"}  # of the fewest videos that suffice
NAIVE = "#cb181d"  # taken for better
NOTHING = "#f0f0f0"


class Sensitivity(NamedTuple):
    """What one gauge says of one damage."""

    smallest: dict[int, float]  # videos a side -> the smallest strength that is told; sizes at which none is are absent
    fewest: int | None  # videos that tell the full strength
    fooled: bool  # at some strength a reader takes the damage for an improvement


def findings(records: Iterable[Record], real: str = POCKET) -> dict[tuple[str, str], Sensitivity]:
    """(damage, gauge) -> finding, of the cells of one source that ended well.

    Of several seeds most decide: from how many videos at least half of them tell a strength, and what most of those
    that do take it for.
    """
    by_seed: dict[tuple[str, str], dict[float, list[tuple[float, bool]]]] = {}  # strength -> videos, taken for better
    ended = [each for each in records if each.attempt.status == "ok" and each.cell.values.get("real", POCKET) == real]
    for record in (each for each in ended if each.cell.values["damage"] in DAMAGES):
        damage, strength = str(record.cell.values["damage"]), float(record.cell.values["strength"])
        for gauge in GAUGES:
            better = record.facts.get(f"{gauge} takes it for") == "better"
            videos = record.numbers[gauge].value if gauge in record.numbers else math.inf
            by_seed.setdefault((damage, gauge), {}).setdefault(strength, []).append((videos, better))
    return {key: _finding(strengths) for key, strengths in by_seed.items()}


def _finding(strengths: Mapping[float, Sequence[tuple[float, bool]]]) -> Sensitivity:
    fewest = {strength: median_low([videos for videos, _ in seeds]) for strength, seeds in strengths.items()}
    told = {strength: int(videos) for strength, videos in fewest.items() if videos < math.inf}
    verdicts = [[better for videos, better in strengths[strength] if videos < math.inf] for strength in told]
    fooled = any(2 * sum(of_seeds) > len(of_seeds) for of_seeds in verdicts)
    return Sensitivity(_smallest(told), told.get(1.0), fooled)


def _smallest(told: Mapping[float, int]) -> dict[int, float]:
    by_size = {n: [strength for strength, fewest in told.items() if fewest <= n] for n in SIZES}
    return {n: min(strengths) for n, strengths in by_size.items() if strengths}


def table(found: Mapping[tuple[str, str], Sensitivity]) -> str:
    """Markdown: a row per gauge, a column per damage; entries are the smallest strengths at n = 16 / 64 / 256."""
    damages = _damages(found)
    lines = ["| metric | " + " | ".join(damages) + " |", "|---|" + "---|" * len(damages)]
    for gauge in GAUGES:
        entries = [_entry(found[damage, gauge]) for damage in damages]
        lines.append(f"| `{gauge}` | " + " | ".join(entries) + " |")
    return "\n".join(lines)


def _damages(found: Mapping[tuple[str, str], Sensitivity]) -> list[str]:
    return [name for name in DAMAGES if any(damage == name for damage, _ in found)]


def _entry(finding: Sensitivity) -> str:
    if not finding.smallest:
        return ""
    text = "/".join(f"{finding.smallest[n]:g}" if n in finding.smallest else "-" for n in SIZES)
    return f"**{text}**" if finding.fooled else text


def best_together(
    found: Mapping[tuple[str, str], Sensitivity], count: int = 3, n: int = 64
) -> list[tuple[tuple[str, ...], int]]:
    """The sets of `count` gauges that leave the fewest damages of full strength unseen with n videos, and how many.

    A gauge that takes a damage for an improvement does not count as seeing it.
    """
    damages = _damages(found)

    def sees(damage: str, gauge: str) -> bool:
        finding = found[damage, gauge]
        return finding.fewest is not None and finding.fewest <= n and not finding.fooled

    seen = {gauge: {damage for damage in damages if sees(damage, gauge)} for gauge in GAUGES}
    unseen = {
        chosen: len(damages) - len(set().union(*(seen[gauge] for gauge in chosen)))
        for chosen in itertools.combinations(GAUGES, count)
    }
    fewest = min(unseen.values())
    return [(chosen, left) for chosen, left in unseen.items() if left == fewest]


def picture(found: Mapping[tuple[str, str], Sensitivity]) -> str:
    """The matrix as SVG: dark where 16 videos tell the full damage, pale where it takes 256, red if it looks better."""
    damages = _damages(found)
    width, height = LEFT + CELL * len(GAUGES) + 70, TOP + CELL * len(damages) + 10
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">']
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for column, gauge in enumerate(GAUGES):
        x, y = LEFT + CELL * column + CELL // 2, TOP - 6
        parts.append(_text(x, y, gauge, f'transform="rotate(-60 {x} {y})"'))
    for row, damage in enumerate(damages):
        y = TOP + CELL * row
        parts.append(_text(LEFT - 6, y + CELL // 2 + 4, damage, 'text-anchor="end"'))
        for column, gauge in enumerate(GAUGES):
            place = f'x="{LEFT + CELL * column + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}"'
            parts.append(f'<rect {place} fill="{_color(found[damage, gauge])}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _color(finding: Sensitivity) -> str:
    if finding.fewest is None:
        return NOTHING
    return NAIVE if finding.fooled else SHADES[finding.fewest]


def _text(x: int, y: int, words: str, how: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="{LETTER}" {how}>{escape(words)}</text>'


def main(
    run: tyro.conf.Positional[Path],
    picture_: Annotated[Path | None, tyro.conf.arg(name="picture")] = None,
    real: str = POCKET,
) -> None:
    """Print the table of a run and the best three gauges together.

    Args:
        run: Its folder.
        real: Of these real clips, as the run names them; not given: of the pocket world.
        picture_: Also write the matrix to this SVG file.
    """
    found = findings(load_run(run).records.values(), real)
    if not found:
        raise ValueError(f"{run} has no damaged videos of {real}: name what `bench run --real` was given")
    print(table(found))
    print()
    for chosen, left in best_together(found)[:10]:
        print(f"{', '.join(chosen)}: {left} of {len({damage for damage, _ in found})} damages unseen with 64 videos")
    if picture_ is not None:
        write_atomic(picture_, picture(found))


if __name__ == "__main__":
    sys.exit(obey("bench.videos.instruments.matrix", lambda: tyro.cli(main)))
