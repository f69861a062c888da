"""The common style of the charts: one color per series; a row is a point with its interval and a description.

Colors are names of CSS variables, so that the page's SVG follows light and dark mode; `printed` inserts the light ones.
"""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import vl_convert

from bench.results.records import half_width
from reports.format import number
from reports.run_table import Run

LIGHT = {
    "page": "#ffffff", "ink": "#1b1d22", "muted": "#5f6673", "line": "#e3e5ea",
    "s1": "#3b5bdb", "s2": "#d9480f", "s3": "#2b8a3e", "s4": "#ae3ec9",
    "s5": "#0b7285", "s6": "#c2255c", "s7": "#8a6d00", "s8": "#5f3dc4",
}  # fmt: skip
SERIES = 8
COLOURS = tuple(f"var(--s{i})" for i in range(1, SERIES + 1))
WIDE = 1090  # pixels for all panels of a row together
MANY = 300  # points above which a chart shows summaries instead of every point


class ChartSpec(NamedTuple):
    """A chart before it is drawn.

    Args:
        name: of its files, without an ending.
        title: what it shows.
        reading: how to read it, in a sentence.
        alt: its content in words, for those who cannot see it.
        chart: the altair specification.
    """

    name: str
    title: str
    reading: str
    alt: str
    chart: Any


class Chart(NamedTuple):
    """A drawn chart: `ChartSpec`, with SVG in named colors in place of the specification."""

    name: str
    title: str
    reading: str
    alt: str
    svg: str


def draw(chart: Any) -> str:
    """A chart as SVG, with colors as CSS variables."""
    text = {"labelColor": "var(--muted)", "titleColor": "var(--ink)", "labelFontSize": 11, "titleFontSize": 12}
    lines = {"gridColor": "var(--line)", "domainColor": "var(--muted)", "tickColor": "var(--line)"}
    styled = chart.configure(
        background="transparent", font="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif", padding=6
    )
    spec = styled.to_dict(validate=False)
    spec["config"] |= {
        "view": {"stroke": None},
        "axis": {**text, **lines, "titleFontWeight": "normal", "labelLimit": 260, "domain": False},
        "legend": {
            **text,
            "titleFontWeight": "normal",
            "orient": "top",
            "symbolBaseFillColor": "var(--ink)",
            "symbolBaseStrokeColor": "var(--ink)",
            "symbolStrokeWidth": 2,
            "symbolOpacity": 1,
            "labelLimit": 260,
        },
        "header": {**text, "labelColor": "var(--ink)", "labelFontSize": 12, "titleFontWeight": "normal"},
        "range": {"category": list(COLOURS)},
    }
    return str(vl_convert.vegalite_to_svg(spec))


def printed(svg: str) -> str:
    """The SVG in light colors on white, for use without the page."""
    plain = re.sub(r"var\(--(\w+)\)", lambda variable: LIGHT.get(variable[1], variable[0]), svg)
    return plain.replace('fill="transparent"', f'fill="{LIGHT["page"]}"', 1)


def png(svg: str, scale: float = 2.0) -> bytes:
    """The chart as PNG in light colors, enlarged by `scale`."""
    return bytes(vl_convert.svg_to_png(printed(svg), scale=scale))


def series_of(run: Run) -> list[str]:
    """The series, which have a color each: the values of the first axis within a table."""
    return [str(value) for value in run.manifest["axes"][run.axes[0]]] if run.axes else []


def colour(run: Run) -> Any:
    """The channel that gives every series its color, the same in all charts; repeated colors have no legend."""
    series = series_of(run)
    legend = alt.Legend(title=None) if 1 < len(series) <= SERIES else None
    colours = [COLOURS[i % SERIES] for i in range(len(series))]
    return alt.Color("series:N", scale=alt.Scale(domain=series, range=colours), legend=legend)


def unnamed(run: Run) -> str:
    """What a reading adds where colors repeat, so that no legend can name the series."""
    return " Colors repeat: point at a dot for its name." if len(series_of(run)) > SERIES else ""


def variant(run: Run, row: Mapping[Any, Any], without: str = "") -> str:
    """The row's values on all axes but the first, and but `without`."""
    return " ".join(
        str(row[axis]) if isinstance(row[axis], str) else f"{axis}={row[axis]}"
        for axis in run.axes[1:]
        if axis != without and row[axis] != ""
    )


def point_of(run: Run, row: Mapping[Any, Any], measures: Mapping[str, str]) -> dict[str, Any]:
    """A row as a data point of a chart. `measures`: channel -> measure; bytes become MiB."""
    point: dict[str, Any] = {
        "series": str(row[run.axes[0]]) if run.axes else str(run.manifest["workload"]),
        "name": (name := run.name(row)),
        "group": row[run.group],
        "head": f"{run.group} = {row[run.group]}",
    }
    numbers = []
    for channel, measure in measures.items():
        unit = run.measures[measure]["unit"]
        scale = 2.0**20 if unit == "bytes" else 1.0
        value, low, high = row[measure], row[f"{measure}_low"], row[f"{measure}_high"]
        point[channel] = value / scale
        point[f"{channel}_low"] = (value if low is None else low) / scale
        point[f"{channel}_high"] = (value if high is None else high) / scale
        numbers.append(f"{run.title(measure)} {number(value, unit, half_width(value, low, high))}")
    return {**point, "said": f"{name} at {point['head']}: {', '.join(numbers)}"}


def having(rows: Iterable[Mapping[Any, Any]], *measures: str) -> list[Mapping[Any, Any]]:
    """The rows that have a number for each of these measures."""
    return [row for row in rows if all(row[measure] is not None for measure in measures)]


def summarised(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The median of the points of each series at each x; the interval is their middle half."""
    groups: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
    for point in points:
        groups.setdefault((point["series"], point["x"]), []).append(point)
    medians = []
    for (series, x), part in groups.items():
        values = sorted(point["y"] for point in part)
        low, middle, high = statistics.quantiles(values, method="inclusive") if len(values) > 1 else values * 3
        said = f"{series} at {x}: median {middle:.3g} of {len(values)} cells, the middle half {low:.3g} to {high:.3g}"
        medians.append(
            {"series": series, "line": series, "x": x, "y": middle, "y_low": low, "y_high": high, "said": said}
        )
    return medians
