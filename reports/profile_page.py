"""`python -m reports.profile_page FOLDER [--after FOLDER]`: what takes a cell's time and why, with flame graphs."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro
from markupsafe import Markup, escape

from bench.results.option_types import TargetFile
from bench.results.records import write_atomic
from reports.cli import run_command
from reports.format import printable
from reports.html_templates import render

MOST = 10  # operators that are named
WIDTH, ROW = 1100, 18  # pixels of a flame graph, and of a frame in it
LEAST = 0.002  # share of the width: narrower frames are left out
LETTER = 6.3  # pixels
HUES = {"text": 265, "denoise": 25, "decode": 150}  # of a stage's frames


def profile_page(
    folder: Annotated[Path, tyro.conf.Positional], after: Path | None = None, page: TargetFile | None = None
) -> int:
    """Write a page of one profile, or of two side by side.

    Args:
        folder: What `bench run --profile` left of a cell.
        after: The same of another cell, compared with the first one.
        page: The file; FOLDER/profile.html if not given.
    """
    places = [folder] if after is None else [folder, after]
    for place in places:
        if not (place / "profile.json").is_file():
            raise ValueError(f"a profile leaves a profile.json: got {place}")
    profiles = [json.loads((place / "profile.json").read_text(encoding="utf-8")) for place in places]
    heads, body = _one(profiles[0]) if after is None else _two(*profiles)
    widest = max(each["seconds"] for each in profiles)
    html = render(
        "profile.html",
        ("base",),
        title="Where the time goes" if after is None else "Where the time goes, before and after",
        what=profiles[0]["what"],
        differ=_differences(profiles),
        table={"kind": "grid", "heads": heads, "rows": body, "named": None},
        flames=[
            {"title": f"{name}, {1e3 * each['seconds']:.1f} ms", "svg": Markup(flame_graph(each["flame"], widest))}
            for name, each in zip(("Before", "After") if after else ("Flame graph",), profiles, strict=True)
        ],
    )
    target = page or folder / "profile.html"
    write_atomic(target, html)
    print(f"page: {target}")
    return 0


def _differences(profiles: list[Mapping[str, Any]]) -> list[str]:
    """The settings of one cell, or those in which two differ."""
    first, last = profiles[0]["values"], profiles[-1]["values"]
    names = [name for name in first if len(profiles) == 1 or first[name] != last.get(name)]
    names += [name for name in last if name not in first]
    if len(profiles) == 1:
        return [printable(", ".join(f"{name} {first[name]}" for name in names))]
    return [printable(f"{name}: before {first.get(name, '–')}, after {last.get(name, '–')}") for name in names]


def _one(profile: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    heads = ["stage", "layer", "operator", "calls", "ms", "share of time", "of bound", "limited by", "kernel"]
    body = [
        [row["stage"], row["layer"], row["operator"], str(row["calls"]), f"{1e3 * row['seconds']:.2f}",
         f"{row['seconds'] / profile['seconds']:.1%}", _share(row), row["limit"], printable(row["kernel"][:60])]
        for row in profile["rows"][:MOST]
    ]  # fmt: skip
    return heads, body


def _two(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The operators whose time changed most."""
    sides = [{(r["stage"], r["layer"], r["operator"]): r for r in each["rows"]} for each in (before, after)]
    none = {"seconds": 0.0, "share": None, "limit": ""}
    pairs = {key: [side.get(key, none) for side in sides] for key in {**sides[0], **sides[1]}}
    order = sorted(pairs, key=lambda key: -abs(pairs[key][1]["seconds"] - pairs[key][0]["seconds"]))
    heads = ["stage", "layer", "operator", "before ms", "after ms", "change ms", "of bound before", "after",
             "limited by before", "after"]  # fmt: skip
    body = []
    for key in order[:MOST]:
        a, b = pairs[key]
        times = [1e3 * a["seconds"], 1e3 * b["seconds"]]
        body.append([*key, *(f"{each:.2f}" for each in times), f"{times[1] - times[0]:+.2f}", _share(a), _share(b),
                     a["limit"], b["limit"]])  # fmt: skip
    totals = [1e3 * before["seconds"], 1e3 * after["seconds"]]
    body.append(["all", "", "", *(f"{each:.2f}" for each in totals), f"{totals[1] - totals[0]:+.2f}", "", "", "", ""])
    return heads, body


def _share(row: Mapping[str, Any]) -> str:
    return "" if row["share"] is None else f"{row['share']:.0%}"


def flame_graph(flame: Mapping[str, Any], widest: float) -> str:
    """Frames as wide as their seconds, callers below what they call, as SVG; `widest`: seconds of the whole width."""
    depth = _depth(flame)
    frames = "".join(_frames(flame, 0.0, 0, depth, WIDTH / (widest or 1.0), None))
    name = "Flame graph: time by stage, layer and operator"
    return f'<svg class="flame" role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {depth * ROW}">{frames}</svg>'


def _depth(flame: Mapping[str, Any]) -> int:
    return max((1 + _depth(below) for _, below in flame.values()), default=0)


def _frames(
    flame: Mapping[str, Any], left: float, level: int, depth: int, scale: float, hue: int | None
) -> Iterator[str]:
    for name, (seconds, below) in sorted(flame.items(), key=lambda item: -item[1][0]):
        width, top = seconds * scale, (depth - 1 - level) * ROW
        color = HUES.get(name, 0) if hue is None else hue
        if width >= LEAST * WIDTH:
            label = escape(f"{name}: {1e3 * seconds:.2f} ms")
            letters = int((width - 4) / LETTER)
            short = name if len(name) <= letters else f"{name[: letters - 1]}…" if letters > 2 else ""
            yield (
                f'<g><title>{label}</title><rect x="{left:.1f}" y="{top}" width="{max(width - 0.5, 0.5):.1f}" '
                f'height="{ROW - 1}" fill="hsl({color + 9 * (level % 4)} 70% {72 - 3 * (level % 3)}%)"/>'
                f'<text x="{left + 3:.1f}" y="{top + ROW - 6}">{escape(short)}</text></g>'
            )
            yield from _frames(below, left, level + 1, depth, scale, color)
        left += width


def main() -> int:
    """Run the command; returns its exit code."""
    return run_command(profile_page, "python -m reports.profile_page", __doc__)


if __name__ == "__main__":
    sys.exit(main())
