"""The videos of a run as players of the page: pictures inline, films inline as far as they fit, or beside the page."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reports import films
from reports.drawing import COLOURS
from reports.films import Film, Scene, Shown
from reports.format import printable
from reports.markdown import cell
from reports.table import Run, headlines

PICTURE_BYTES = 9 * 10**6  # that a page holds of pictures and films; pictures come first
PICTURES = ("poster", "strip", "slice")
PICKED = 6  # rows of a scene that are shown before one asks for more

Place = Callable[[str, bytes], str]  # file name and bytes of a film -> address in the page


# Kinds of seams that samplers report, and what they mean; another kind is shown by its name alone.
KINDS = {
    "hard": "unrelated clips",
    "soft": "clips with common frames",
    "mirror": "the later clip goes back in time",
}


class Players(NamedTuple):
    """Scenes as the template wants them, what is not shown and why, and the kinds of their seams."""

    scenes: list[dict[str, Any]]
    note: str
    kinds: list[dict[str, str]]


def players(
    run: Run, rows: pd.DataFrame, records: Sequence[Mapping[Any, Any]], shown: Shown, place: Place | None
) -> Players:
    """Scenes with their pictures, and the films that fit into the page or all of them through `place`."""
    by_id = {row["id"]: row for row in records}
    told = headlines(run, rows)
    found = [_scene(run, by_id, scene, told) for scene in shown.scenes]
    entries = [(film, scene, entry) for scene, said in zip(shown.scenes, found, strict=True)
               for film, entry in zip(scene.films, said["films"], strict=True)]  # fmt: skip
    left = PICTURE_BYTES - sum(len(entry[name]) for *_, entry in entries for name in PICTURES)
    skipped = 0
    for film, scene, entry in entries:
        sheet = films.sheet(film)
        if place is not None:
            entry["sheet"] = place(f"{film.id}-{scene.prompt}.webp", sheet)
        elif len(sheet) <= left:
            entry["sheet"], left = inline(sheet), left - len(sheet)
        else:
            entry["sheet"], skipped = "", skipped + 1
        entry |= {name: inline(entry[name]) for name in PICTURES}
    kinds = dict.fromkeys(kind for film, *_ in entries for kind in film.kinds)
    told_kinds = [{"name": printable(kind), "style": _style(kind), "meaning": KINDS.get(kind, "")} for kind in kinds]
    return Players(found, _note(shown, skipped), told_kinds)


def colour_of(run: Run, row: Mapping[Any, Any]) -> str:
    """The colour of the row's series, as a CSS value."""
    if row["reference"] or not run.axes:
        return "var(--muted)"
    values = list(run.manifest["axes"][run.axes[0]])
    return COLOURS[values.index(row[run.axes[0]]) % len(COLOURS)] if row[run.axes[0]] in values else "var(--muted)"


def _scene(run: Run, by_id: Mapping[str, Mapping[Any, Any]], scene: Scene, told: Sequence[str]) -> dict[str, Any]:
    longest = max(film.frames for film in scene.films)
    changes = [films.change(film) for film in scene.films]
    tallest = max((value for pair in changes for part in pair for value in part), default=0.0) or 1.0
    picked = _picked(run, [by_id[film.id] for film in scene.films])
    entries = [
        _film(run, by_id[film.id], film, scene, longest, told) | _curves(first, second, tallest)
        | {"pick": film.id in picked}
        for film, (first, second) in zip(scene.films, changes, strict=True)
    ]  # fmt: skip
    title = f"{run.group} = {scene.group} · prompt {scene.prompt + 1}"
    return {"title": title, "caption": printable(scene.caption), "frames": longest, "films": entries}


def _curves(first: Sequence[float], second: Sequence[float], tallest: float) -> dict[str, str]:
    """D of t stands where the frames t - 1 and t meet, A of t in the middle of frame t."""
    return {
        "change": _points([(t + 1.0, value / tallest) for t, value in enumerate(first)]),
        "second": _points([(t + 1.5, value / tallest) for t, value in enumerate(second)]),
        "curve_said": f"Change from frame to frame, {_level(first)} in the mean and at most "
                      f"{max(first, default=0.0):.3g}; second difference {_level(second)}",
    }  # fmt: skip


def _film(
    run: Run, row: Mapping[Any, Any], film: Film, scene: Scene, longest: int, told: Sequence[str]
) -> dict[str, Any]:
    width, height = film.size
    numbers = [f"{run.title(name)} {cell(run, row, name)}" for name in told if row[name] is not None]
    seams = film.seams or ()
    joints = list(zip(seams, film.kinds or ("",) * len(seams), strict=True))
    return {
        "frames": film.frames, "columns": film.columns, "width": width, "height": height, "seams": list(seams),
        "fps": film.fps, "colour": colour_of(run, row), "name": run.name(row),
        "numbers": " · ".join(numbers), "small": max(film.pixels.shape[1:3]) <= films.EXACT_SIDE,
        "poster": films.poster(film), "strip": films.strip(film),
        "slice": films.slice_picture(film, scene.row), "span": f"{film.frames / longest:.4f}",
        "kinds": [printable(kind).replace(",", " ") for kind in film.kinds],
        "marks": [{"place": f"{100 * seam / film.frames:.3f}", "style": _style(kind)} for seam, kind in joints],
        "seams_said": f"seams at frames {', '.join(f'{s + 1} {k}'.strip() for s, k in joints)}" if seams else
                      "no seams" if film.seams is not None else "its seams were not recorded",
    }  # fmt: skip


def _style(kind: str) -> str:
    """The line that marks a seam of this kind, as a class of the style sheet."""
    return kind if kind in KINDS else ""


def _picked(run: Run, rows: Sequence[Mapping[Any, Any]]) -> set[str]:
    """Rows to show first: the reference and the first row of every series, then others, `PICKED` in all."""
    series = {str(row[run.axes[0]]) if run.axes else "": row["id"] for row in reversed(rows)}
    order = [*(row["id"] for row in rows if row["id"] in series.values()), *(row["id"] for row in rows)]
    return set(list(dict.fromkeys(order))[:PICKED])


def _level(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3g}" if values else "none"


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{1 - 0.94 * y - 0.03:.3f}" for x, y in points)


def inline(picture: bytes) -> str:
    """Bytes of a WebP as an address."""
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"


def _note(shown: Shown, skipped: int) -> str:
    said = []
    if shown.left_out:
        said.append(f"{shown.left_out} more videos are kept with the run and not shown; --videos N shows more.")
    if skipped:
        said.append(
            f"A page holds {PICTURE_BYTES // 10**6} MB of pictures and films: the films of {skipped} videos did not "
            "fit; --folder puts films beside the page, without limit."
        )
    if shown.unreadable:
        said.append(f"Not readable: {'; '.join(map(printable, shown.unreadable))}.")
    return " ".join(said)
