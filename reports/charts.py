"""Charts of a run: one altair specification each, drawn once as SVG for the page, the README and a CI summary.

No method, measure or axis is required here: the charts show whatever axes vary and whatever measures have numbers.
"""

import fnmatch
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from reports.chart_style import (
    MANY,
    WIDE,
    Chart,
    ChartSpec,
    colour,
    draw,
    having,
    point_of,
    summarised,
    unnamed,
    variant,
)
from reports.format import numeric, plain_list
from reports.run_table import Run, comparable, headlines
from reports.stage_charts import history, stages

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
# axis -> patterns of measures that are drawn along it, in addition to the first measure of each kind
EXTRA = {"overlap": ("seam_*",), "precision": ("*error*",), "steps": ("*error*",), "rate": ("latency_p*", "goodput")}
ABREAST = 3  # panels in a row
RANKED = 30  # rows of a ranking, at most: the best


def charts(run: Run, rows: pd.DataFrame) -> list[Chart]:
    """All charts for which there are records; emulated times are in none of them."""
    done = [comparable(run, row) for row in rows.to_dict("records") if row["status"] == "ok"]
    drawn = [
        *_trade_off(run, rows, done),
        *_rankings(run, rows, done),
        *(chart for axis in [run.group, *run.axes[1:]] for chart in _along(run, rows, done, axis)),
        *stages(run, done),
        *history(run, rows),
    ]
    return [Chart(item.name, item.title, item.reading, item.alt, draw(item.chart)) for item in drawn]


def _trade_off(run: Run, rows: pd.DataFrame, done: list[dict[Any, Any]]) -> Iterator[ChartSpec]:
    """Quality against cost; a line joins the rows that no other row beats in both."""
    kinds = {run.measures[name]["table"]: name for name in headlines(run, rows)}
    cost = kinds.pop("cost", None)
    if cost is None or not kinds:
        return
    quality = next(iter(kinds.values()))
    generated = having((row for row in done if not row["reference"]), cost, quality)
    if len(generated) < 2:
        return
    in_all = len(generated)
    front = [row for part in _split(generated, run.group) for row in _front(run, part, cost, quality)]
    if in_all > MANY and run.axes:
        generated = [
            row for part in _split(generated, run.group, run.axes[0]) for row in _front(run, part, cost, quality)
        ]
    points = [point_of(run, row, {"x": cost, "y": quality}) for row in generated]
    ends = [run.name(row, group=True) for row in front]
    real = _reference_points(run, done, quality, {point["head"] for point in points})
    x = alt.X("x:Q", title=run.title(cost), scale=alt.Scale(zero=False, nice=True))
    y = alt.Y("y:Q", title=run.title(quality), scale=alt.Scale(zero=False, nice=True))
    base = alt.Chart()
    variants = list(dict.fromkeys(str(row[run.axes[-1]]) for row in generated)) if len(run.axes) > 1 else []
    dots = base.mark_point(filled=True, size=70, opacity=0.9).encode(
        x, y, color=colour(run), description="said:N", tooltip="said:N"
    )
    if 1 < len(variants) <= len(SHAPES):
        for point, row in zip(points, generated, strict=True):
            point["shape"] = str(row[run.axes[-1]])
        shapes = alt.Scale(domain=variants, range=SHAPES[: len(variants)])
        dots = dots.encode(shape=alt.Shape("shape:N", legend=alt.Legend(title=run.axes[-1]), scale=shapes))
    dashed: dict[str, Any] = {"color": "var(--muted)", "strokeDash": [4, 3], "strokeWidth": 1.2}
    layers = [
        base.transform_filter("datum.front").mark_line(interpolate="step-after", **dashed).encode(x, y),
        base.transform_filter("datum.real").mark_rule(color="var(--muted)", strokeWidth=1).encode(
            y=alt.Y("y:Q"), description="said:N"),
        base.transform_filter("!datum.front && !datum.real").mark_rule(opacity=0.45).encode(
            x, y=alt.Y("y_low:Q"), y2="y_high:Q", color=colour(run)),
        base.transform_filter("!datum.front && !datum.real").mark_rule(opacity=0.45).encode(
            y, x=alt.X("x_low:Q"), x2="x_high:Q", color=colour(run)),
        dots.transform_filter("!datum.front && !datum.real"),
    ]  # fmt: skip
    line = [{**point_of(run, row, {"x": cost, "y": quality}), "front": True} for row in front]
    spec = _by_group([*real, *line, *points], layers, len({p["head"] for p in points}))
    left = f" Of {in_all} cells, only those are drawn that no cell of their own series beats in both."
    yield ChartSpec(
        "trade-off",
        f"{run.measures[quality]['title']} against {run.measures[cost]['title']}",
        "Dashed: rows that no other row beats in both. Thin bars: 95 % intervals."
        + unnamed(run)
        + (" Gray line: real video." if real else "")
        + (left if len(generated) < in_all else ""),
        f"Scatter plot of {run.title(quality)} against {run.title(cost)} for {len(points)} cells. No other cell beats "
        f"these in both: {plain_list(ends[:8])}{' and more' if len(ends) > 8 else ''}.",
        spec,
    )


def _split(rows: Sequence[Mapping[Any, Any]], *axes: str) -> list[list[Mapping[Any, Any]]]:
    """The rows, divided by their values on these axes."""
    parts: dict[tuple[Any, ...], list[Mapping[Any, Any]]] = {}
    for row in rows:
        parts.setdefault(tuple(row[axis] for axis in axes), []).append(row)
    return list(parts.values())


def _front(run: Run, rows: Sequence[Mapping[Any, Any]], cost: str, quality: str) -> list[Mapping[Any, Any]]:
    """The Pareto front: the rows that no other row beats in both measures, ordered by cost."""

    def turned(row: Mapping[Any, Any], measure: str) -> float:
        return -row[measure] if run.measures[measure]["better"] == "higher" else float(row[measure])

    best = float("inf")
    front = []
    for row in sorted(rows, key=lambda row: (turned(row, cost), turned(row, quality))):
        if turned(row, quality) < best:
            best = turned(row, quality)
            front.append(row)
    return front


def _reference_points(run: Run, done: Iterable[Mapping[Any, Any]], measure: str, heads: set[str]) -> list[Any]:
    known = having((row for row in done if row["reference"]), measure)
    points = [{**point_of(run, row, {"y": measure}), "real": True} for row in known]
    return list({point["head"]: point for point in points if point["head"] in heads}.values())


def _by_group(data: list[Any], layers: list[Any], groups: int, height: int = 260, label: int = 60) -> Any:
    """One panel per group, each on its own scales, because values of two groups are not comparable.

    Args:
        label: pixels for the labels to the left of a panel.
    """
    columns = min(groups, ABREAST)
    panel = alt.layer(*layers).properties(width=min(520, WIDE // columns - label), height=height)
    if groups < 2:
        return panel.properties(data=alt.Data(values=data))
    head = alt.Facet("head:N", title=None, sort=list(dict.fromkeys(point["head"] for point in data)))
    return panel.facet(facet=head, columns=columns, data=alt.Data(values=data)).resolve_scale(
        x="independent", y="independent"
    )


def _rankings(run: Run, rows: pd.DataFrame, done: list[dict[Any, Any]]) -> Iterator[ChartSpec]:
    """Rows in the order of the first measure of quality, with their intervals."""
    quality = next((name for name in headlines(run, rows) if run.measures[name]["table"] != "cost"), None)
    if quality is None:
        return
    groups: dict[Any, list[Mapping[Any, Any]]] = {}
    for row in having((row for row in done if not row["reference"]), quality):
        groups.setdefault(row[run.group], []).append(row)
    sign = 1 if run.measures[quality]["better"] == "lower" else -1
    shown = [row for part in groups.values() for row in sorted(part, key=lambda row: sign * row[quality])[:RANKED]]
    if len(shown) < 2:
        return
    left = sum(map(len, groups.values())) - len(shown)
    points = [point_of(run, row, {"x": quality}) for row in shown]
    real = [{**p, "x": p["y"], "x_low": p["y_low"], "x_high": p["y_high"]}
            for p in _reference_points(run, done, quality, {point["head"] for point in points})]  # fmt: skip
    y = alt.Y("name:N", sort=alt.EncodingSortField("x", order="ascending" if sign > 0 else "descending"), title=None)
    base = alt.Chart().transform_filter("!datum.real")
    layers = [
        alt.Chart().transform_filter("datum.real").mark_rule(color="var(--muted)").encode(
            x=alt.X("x:Q"), description="said:N"),
        base.mark_rule(strokeWidth=2, opacity=0.55).encode(alt.X("x_low:Q"), y, x2="x_high:Q", color=colour(run)),
        base.mark_point(filled=True, size=60, opacity=1).encode(
            alt.X("x:Q", title=run.title(quality), scale=alt.Scale(zero=False)), y, color=colour(run),
            description="said:N", tooltip="said:N"),
    ]  # fmt: skip
    tallest = max(sum(p["head"] == head for p in points) for head in {p["head"] for p in points})
    longest = max(len(point["name"]) for point in points)
    spec = _by_group([*points, *real], layers, len(groups), max(60, 18 * tallest), min(260, 30 + 6 * longest))
    best = [min(part, key=lambda row: sign * row[quality]) for part in groups.values()]
    yield ChartSpec(
        "ranking",
        f"Cells by {run.measures[quality]['title']}",
        "Best first; bars are 95 % intervals. Rows whose bars overlap widely cannot be told apart."
        + (" Gray line: real video." if real else "")
        + (f" {left} rows further down are left out." if left else ""),
        f"Dot plot of {run.title(quality)} with intervals for {len(points)} cells. Best: "
        + plain_list([run.name(row, group=len(groups) > 1) for row in best[:6]]) + ".",
        spec,
    )  # fmt: skip


def _along(run: Run, rows: pd.DataFrame, done: list[dict[Any, Any]], axis: str) -> Iterator[ChartSpec]:
    """Measures against one axis, a line for each combination of the others."""
    generated = [row for row in done if not row["reference"]]
    values = list(dict.fromkeys(row[axis] for row in generated))
    if len(values) < 2:
        return
    panels = []
    for measure in _measures_along(run, rows, axis):
        known = having(generated, measure)
        points = [{**point_of(run, row, {"y": measure}), "x": row[axis], "variant": (label := variant(run, row, axis)),
                   "line": f"{row[run.axes[0]] if run.axes else ''}|{label}|"
                           f"{'' if axis == run.group else row[run.group]}"} for row in known]  # fmt: skip
        if len({point["x"] for point in points}) > 1:
            panels.append((measure, points if len(points) <= MANY else summarised(points)))
    if not panels:
        return
    number = numeric(values)
    ticks = alt.Axis(values=sorted(values), labelExpr="datum.value") if number else alt.Axis(labelAngle=0)
    x = (
        alt.X("x:Q", title=axis, scale=alt.Scale(zero=False, padding=12), axis=ticks)
        if number
        else alt.X("x:O", title=axis, sort=None, axis=ticks)
    )
    width = min(340 if number else 60 + 80 * len(values), WIDE // min(len(panels), ABREAST) - 90)
    drawn = []
    for measure, points in panels:
        base = alt.Chart(alt.Data(values=points))
        flat = len({value for point in points for value in (point["y_low"], point["y_high"])}) == 1
        from_zero = flat or run.measures[measure]["table"] == "cost"
        y = alt.Y("y:Q", title=run.title(measure), scale=alt.Scale(zero=from_zero))
        tips = {"description": "said:N", "tooltip": "said:N"}
        drawn.append(
            alt.layer(
                base.mark_line(strokeWidth=1.4, opacity=0.55).encode(x, y, color=colour(run), detail="line:N"),
                base.mark_rule(opacity=0.35).encode(x, alt.Y("y_low:Q"), y2="y_high:Q", color=colour(run)),
                base.mark_point(filled=True, size=45, opacity=0.95).encode(x, y, color=colour(run), **tips),
            ).properties(width=width, height=220)
        )
    titles = [run.measures[measure]["title"] for measure, _ in panels]
    yield ChartSpec(
        f"along-{re.sub(r'[^a-z0-9]+', '-', axis.lower()).strip('-') or 'axis'}",
        f"{plain_list(titles)} along {axis}",
        ("Lines join cells that differ only in this axis. Bars are 95 % intervals."
         if len(generated) <= MANY else "Each point is the median of a series' cells, each bar their middle half.")
        + unnamed(run),
        f"Line chart{'s' * (len(titles) > 1)} of {plain_list(titles)} against {axis}: "
        + "; ".join(_trend(run, measure, points, values) for measure, points in panels) + ".",
        alt.concat(*drawn, columns=ABREAST, spacing=26),
    )  # fmt: skip


def _measures_along(run: Run, rows: pd.DataFrame, axis: str) -> list[str]:
    """The measures to draw along an axis: the first of each kind and what `EXTRA` adds.

    Along the group only costs, which are comparable between groups, and the first measure in bytes.
    """
    known = [name for name in run.measures if bool(rows[name].notna().any())]
    first = headlines(run, rows)
    if axis == run.group:
        memory = [name for name in known if run.measures[name]["unit"] == "bytes"][:1]
        first = [name for name in first if run.measures[name]["table"] == "cost"] + memory
        return list(dict.fromkeys(first))
    asked = [name for name in known if any(fnmatch.fnmatch(name, pattern) for pattern in EXTRA.get(axis, ()))]
    return list(dict.fromkeys([*first, *asked]))[:4]


def _trend(run: Run, measure: str, points: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> str:
    levels = sorted(values) if numeric(values) else values
    medians = [
        f"{value}: {statistics.median(numbers):.3g}"
        for value in levels
        if (numbers := [point["y"] for point in points if point["x"] == value])
    ]
    return f"medians of {run.title(measure)}: {', '.join(medians)}"
