"""The videos of a run as players on its page. Pictures and frames are in the page as far as they fit, or in files."""

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

from reports import saved_videos
from reports.chart_style import COLOURS
from reports.format import plain_list, printable
from reports.run_table import Run, headlines
from reports.saved_videos import SavedVideo, Scene, VideoGallery
from reports.text_tables import cell

PICTURE_BYTES = 9 * 10**6  # of curves, pictures and frames, in this order, that a page may hold
PICKED = 6  # rows of a scene that are shown at first

PLAYERS = "players"  # the sheets of all frames, from which the page plays a video
# The pictures of a video, in the order in which they may fill the page.
DRAWN: dict[str, Callable[[SavedVideo, Scene], bytes]] = {
    "posters": lambda video, _: saved_videos.poster(video),
    "strips": lambda video, _: saved_videos.strip(video),
    "slices": lambda video, scene: saved_videos.slice_picture(video, scene.row),
    PLAYERS: lambda video, _: saved_videos.sheet(video),
}

Place = Callable[[str, bytes], str]  # file name and bytes of a picture -> its address for the page

# Kinds of seams that samplers report, and what they mean; any other kind is shown by its name alone.
KINDS = {
    "hard": "unrelated clips",
    "soft": "clips with common frames",
    "mirror": "the later clip goes back in time",
}


class RowLabel(NamedTuple):
    """The label of a video: name, color and numbers of its row, and the series to which the row belongs."""

    name: str
    colour: str
    numbers: str
    series: str


class Players(NamedTuple):
    """Scenes in the form of the template, a note on what is not shown and why, and the kinds of seams, if known."""

    scenes: list[dict[str, Any]]
    note: str
    kinds: list[dict[str, str]]
    seams_known: bool


def players(
    shown: VideoGallery,
    labels: Mapping[str, RowLabel],
    title: Callable[[Scene], str],
    place: Place | None,
    more: str = "",
) -> Players:
    """Scenes with their pictures: in the page up to `PICTURE_BYTES`; the rest goes through `place`, or is left out.

    The order is: posters of all videos, strips, slices, sheets of all frames. With a `place`, all sheets go there.

    Args:
        labels: id of a video -> its label.
        title: gives the title of a scene.
        place: writes a file next to the page; None keeps everything in the page.
        more: the end of the note on videos that are not shown: how to see them.
    """
    filled = [_scene(labels, scene, title(scene)) for scene in shown.scenes]
    entries = [(video, scene, entry) for scene, content in zip(shown.scenes, filled, strict=True)
               for video, entry in zip(scene.videos, content["videos"], strict=True)]  # fmt: skip
    left = PICTURE_BYTES - sum(len(entry[curve]) for *_, entry in entries for curve in ("change", "second", "jitter"))
    skipped: Counter[str] = Counter()
    for name, draw in DRAWN.items():
        for video, scene, entry in entries:
            picture = draw(video, scene)
            if len(picture) <= left and not (place and name == PLAYERS):
                entry[name], left = inline(picture), left - len(picture)
            elif place is not None:
                entry[name] = place(f"{video.id}-{scene.prompt}{'' if name == PLAYERS else f'-{name}'}.webp", picture)
            else:
                entry[name] = ""
                skipped[name] += 1
    kinds = dict.fromkeys(kind for video, *_ in entries for kind in video.kinds)
    legend = [{"name": printable(kind), "style": _style(kind), "meaning": KINDS.get(kind, "")} for kind in kinds]
    known = any(video.seams is not None for video, *_ in entries)
    return Players(filled, _note(shown, skipped, more), legend, known)


def row_label(run: Run, rows: pd.DataFrame, records: Sequence[Mapping[Any, Any]]) -> dict[str, RowLabel]:
    """Id of a cell -> label of its row."""
    measures = headlines(run, rows)
    labels = {}
    for row in records:
        numbers = [f"{run.title(name)} {cell(run, row, name)}" for name in measures if row[name] is not None]
        series = str(row[run.axes[0]]) if run.axes else ""
        labels[row["id"]] = RowLabel(run.name(row), colour_of(run, row), " · ".join(numbers), series)
    return labels


def colour_of(run: Run, row: Mapping[Any, Any]) -> str:
    """The color of the row's series, as a CSS value; references are gray."""
    if row["reference"] or not run.axes:
        return "var(--muted)"
    values = list(run.manifest["axes"][run.axes[0]])
    return COLOURS[values.index(row[run.axes[0]]) % len(COLOURS)] if row[run.axes[0]] in values else "var(--muted)"


def _scene(labels: Mapping[str, RowLabel], scene: Scene, title: str) -> dict[str, Any]:
    longest = max(video.frames for video in scene.videos)
    changes = [saved_videos.change(video) for video in scene.videos]
    tallest = max((value for pair in changes for part in pair for value in part), default=0.0) or 1.0
    picked = _picked([(video.id, labels[video.id].series) for video in scene.videos])
    entries = [
        _player(labels[video.id], video, longest) | _curves(first, second, tallest) | {"pick": video.id in picked}
        for video, (first, second) in zip(scene.videos, changes, strict=True)
    ]
    return {"title": title, "caption": printable(scene.caption), "frames": longest, "videos": entries}


def _curves(first: Sequence[float], second: Sequence[float], tallest: float) -> dict[str, str]:
    """Points of the curves: D of t is where frames t - 1 and t meet, A and J of t are in the middle of frame t."""
    both = [before + after for before, after in pairwise(first)]
    jitter = [a / change if change else 0.0 for a, change in zip(second, both, strict=True)]
    whole = f"{sum(second) / sum(both):.3g} over the whole video" if sum(both) else "none"
    return {
        "change": _points([(t + 1.0, value / tallest) for t, value in enumerate(first)]),
        "second": _points([(t + 1.5, value / tallest) for t, value in enumerate(second)]),
        "jitter": _points([(t + 1.5, value) for t, value in enumerate(jitter)]),
        "curve_alt": f"Change from frame to frame, {_level(first)} on average and at most "
                      f"{max(first, default=0.0):.3g}; second difference {_level(second)}",
        "jitter_alt": f"Jitter, {whole}, at most {max(jitter, default=0.0):.3g}",
    }  # fmt: skip


def _player(label: RowLabel, video: SavedVideo, longest: int) -> dict[str, Any]:
    width, height = video.size
    seams = video.seams or ()
    joints = list(zip(seams, video.kinds or ("",) * len(seams), strict=True))
    return {
        "frames": video.frames, "columns": video.columns, "width": width, "height": height, "seams": list(seams),
        "fps": video.fps, "colour": label.colour, "name": label.name, "numbers": label.numbers,
        "small": max(video.pixels.shape[1:3]) <= saved_videos.EXACT_SIDE, "span": f"{video.frames / longest:.4f}",
        "kinds": [printable(kind).replace(",", " ") for kind in video.kinds],
        "marks": [{"place": f"{100 * seam / video.frames:.3f}", "style": _style(kind)} for seam, kind in joints],
        "seams_alt": f"seams at frames {', '.join(f'{s + 1} {k}'.strip() for s, k in joints)}" if seams else
                      "no seams" if video.seams is not None else "its seams were not recorded",
    }  # fmt: skip


def _style(kind: str) -> str:
    """The class in the style sheet of the line that marks a seam of this kind."""
    return kind if kind in KINDS else ""


def _picked(rows: Sequence[tuple[str, str]]) -> set[str]:
    """Of (id, series) the ids to show at first: the first row of every series, then others, `PICKED` in all."""
    series = {series: key for key, series in reversed(rows)}
    order = [*(key for key, _ in rows if key in series.values()), *(key for key, _ in rows)]
    return set(list(dict.fromkeys(order))[:PICKED])


def _level(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3g}" if values else "none"


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{1 - 0.94 * y - 0.03:.3f}" for x, y in points)


def inline(picture: bytes) -> str:
    """A WebP as a data address."""
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"


def _note(shown: VideoGallery, skipped: Mapping[str, int], more: str) -> str:
    sentences = []
    if shown.left_out:
        sentences.append(f"{shown.left_out} more videos of the run are not shown{more}.")
    if skipped:
        what = plain_list([f"the {name} of {count} videos" for name, count in skipped.items()])
        sentences.append(
            f"A page holds at most {PICTURE_BYTES // 10**6} MB of pictures and players: {what} did not fit; --folder "
            "puts players, and pictures that do not fit, into files next to the page, without limit."
        )
    if shown.unreadable:
        sentences.append(f"Not readable: {'; '.join(map(printable, shown.unreadable))}.")
    return " ".join(sentences)
