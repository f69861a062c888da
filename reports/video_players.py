"""The videos of a run as players of the page: pictures inline, films inline as far as they fit, or beside the page."""

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

from reports import videos
from reports.chart_style import COLOURS
from reports.format import plain_list, printable
from reports.markdown import cell
from reports.run_table import Run, headlines
from reports.videos import Scene, VideoFile, VideoGallery

PICTURE_BYTES = 9 * 10**6  # that a page holds of curves, pictures and films, in this order
PICKED = 6  # rows of a scene that are shown before one asks for more

FILMS = "films"
# What a film is shown by, in the order in which it may fill the page.
DRAWN: dict[str, Callable[[VideoFile, Scene], bytes]] = {
    "posters": lambda film, _: videos.poster(film),
    "strips": lambda film, _: videos.strip(film),
    "slices": lambda film, scene: videos.slice_picture(film, scene.row),
    FILMS: lambda film, _: videos.sheet(film),
}

Place = Callable[[str, bytes], str]  # file name and bytes of a film -> address in the page

# Kinds of seams that samplers report, and what they mean; another kind is shown by its name alone.
KINDS = {
    "hard": "unrelated clips",
    "soft": "clips with common frames",
    "mirror": "the later clip goes back in time",
}


class RowLabel(NamedTuple):
    """What stands beside a film: the name, colour and numbers of its row, and the series that the row is one of."""

    name: str
    colour: str
    numbers: str
    series: str


class Players(NamedTuple):
    """Scenes as the template wants them, what is not shown and why, and the kinds of their seams, if known."""

    scenes: list[dict[str, Any]]
    note: str
    kinds: list[dict[str, str]]
    seams_known: bool


def players(
    shown: VideoGallery,
    told: Mapping[str, RowLabel],
    title: Callable[[Scene], str],
    place: Place | None,
    more: str = "",
) -> Players:
    """Scenes with their pictures and films: as many inline as `PICTURE_BYTES` hold, the others through `place` or not.

    Posters of all films come first, then strips, then slices, then the films themselves, which lie beside the page
    where there is a `place`.

    Args:
        told: id of a film -> what stands beside it.
        title: of a scene.
        more: what to do to see more videos, a sentence.
    """
    found = [_scene(told, scene, title(scene)) for scene in shown.scenes]
    entries = [(film, scene, entry) for scene, said in zip(shown.scenes, found, strict=True)
               for film, entry in zip(scene.films, said["films"], strict=True)]  # fmt: skip
    left = PICTURE_BYTES - sum(len(entry[curve]) for *_, entry in entries for curve in ("change", "second", "jitter"))
    skipped: Counter[str] = Counter()
    for name, draw in DRAWN.items():
        for film, scene, entry in entries:
            picture = draw(film, scene)
            if len(picture) <= left and not (place and name == FILMS):
                entry[name], left = inline(picture), left - len(picture)
            elif place is not None:
                entry[name] = place(f"{film.id}-{scene.prompt}{'' if name == FILMS else f'-{name}'}.webp", picture)
            else:
                entry[name] = ""
                skipped[name] += 1
    kinds = dict.fromkeys(kind for film, *_ in entries for kind in film.kinds)
    told_kinds = [{"name": printable(kind), "style": _style(kind), "meaning": KINDS.get(kind, "")} for kind in kinds]
    known = any(film.seams is not None for film, *_ in entries)
    return Players(found, _note(shown, skipped, more), told_kinds, known)


def row_label(run: Run, rows: pd.DataFrame, records: Sequence[Mapping[Any, Any]]) -> dict[str, RowLabel]:
    """Of a run's rows, by the ids of their cells."""
    measures = headlines(run, rows)
    found = {}
    for row in records:
        numbers = [f"{run.title(name)} {cell(run, row, name)}" for name in measures if row[name] is not None]
        series = str(row[run.axes[0]]) if run.axes else ""
        found[row["id"]] = RowLabel(run.name(row), colour_of(run, row), " · ".join(numbers), series)
    return found


def colour_of(run: Run, row: Mapping[Any, Any]) -> str:
    """The colour of the row's series, as a CSS value."""
    if row["reference"] or not run.axes:
        return "var(--muted)"
    values = list(run.manifest["axes"][run.axes[0]])
    return COLOURS[values.index(row[run.axes[0]]) % len(COLOURS)] if row[run.axes[0]] in values else "var(--muted)"


def _scene(told: Mapping[str, RowLabel], scene: Scene, title: str) -> dict[str, Any]:
    longest = max(film.frames for film in scene.films)
    changes = [videos.change(film) for film in scene.films]
    tallest = max((value for pair in changes for part in pair for value in part), default=0.0) or 1.0
    picked = _picked([(film.id, told[film.id].series) for film in scene.films])
    entries = [
        _film(told[film.id], film, longest) | _curves(first, second, tallest) | {"pick": film.id in picked}
        for film, (first, second) in zip(scene.films, changes, strict=True)
    ]
    return {"title": title, "caption": printable(scene.caption), "frames": longest, "films": entries}


def _curves(first: Sequence[float], second: Sequence[float], tallest: float) -> dict[str, str]:
    """D of t stands where the frames t - 1 and t meet, A and J of t in the middle of frame t."""
    both = [before + after for before, after in pairwise(first)]
    jitter = [a / change if change else 0.0 for a, change in zip(second, both, strict=True)]
    whole = f"{sum(second) / sum(both):.3g} over the whole video" if sum(both) else "none"
    return {
        "change": _points([(t + 1.0, value / tallest) for t, value in enumerate(first)]),
        "second": _points([(t + 1.5, value / tallest) for t, value in enumerate(second)]),
        "jitter": _points([(t + 1.5, value) for t, value in enumerate(jitter)]),
        "curve_said": f"Change from frame to frame, {_level(first)} in the mean and at most "
                      f"{max(first, default=0.0):.3g}; second difference {_level(second)}",
        "jitter_said": f"Jitter, {whole}, at most {max(jitter, default=0.0):.3g}",
    }  # fmt: skip


def _film(told: RowLabel, film: VideoFile, longest: int) -> dict[str, Any]:
    width, height = film.size
    seams = film.seams or ()
    joints = list(zip(seams, film.kinds or ("",) * len(seams), strict=True))
    return {
        "frames": film.frames, "columns": film.columns, "width": width, "height": height, "seams": list(seams),
        "fps": film.fps, "colour": told.colour, "name": told.name, "numbers": told.numbers,
        "small": max(film.pixels.shape[1:3]) <= videos.EXACT_SIDE, "span": f"{film.frames / longest:.4f}",
        "kinds": [printable(kind).replace(",", " ") for kind in film.kinds],
        "marks": [{"place": f"{100 * seam / film.frames:.3f}", "style": _style(kind)} for seam, kind in joints],
        "seams_said": f"seams at frames {', '.join(f'{s + 1} {k}'.strip() for s, k in joints)}" if seams else
                      "no seams" if film.seams is not None else "its seams were not recorded",
    }  # fmt: skip


def _style(kind: str) -> str:
    """The line that marks a seam of this kind, as a class of the style sheet."""
    return kind if kind in KINDS else ""


def _picked(rows: Sequence[tuple[str, str]]) -> set[str]:
    """Of (id, series) those to show first: the first row of every series, then others, `PICKED` in all."""
    series = {series: key for key, series in reversed(rows)}
    order = [*(key for key, _ in rows if key in series.values()), *(key for key, _ in rows)]
    return set(list(dict.fromkeys(order))[:PICKED])


def _level(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3g}" if values else "none"


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{1 - 0.94 * y - 0.03:.3f}" for x, y in points)


def inline(picture: bytes) -> str:
    """Bytes of a WebP as an address."""
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"


def _note(shown: VideoGallery, skipped: Mapping[str, int], more: str) -> str:
    said = []
    if shown.left_out:
        said.append(f"{shown.left_out} more videos are kept with the run and not shown{more}.")
    if skipped:
        what = plain_list([f"the {name} of {count} videos" for name, count in skipped.items()])
        said.append(
            f"A page holds {PICTURE_BYTES // 10**6} MB of pictures and films: {what} did not fit; --folder puts films "
            "beside the page, and pictures that do not fit, without limit."
        )
    if shown.unreadable:
        said.append(f"Not readable: {'; '.join(map(printable, shown.unreadable))}.")
    return " ".join(said)
