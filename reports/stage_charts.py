"""Charts of how time divides into stages, and of how numbers change from revision to revision."""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt
import pandas as pd

from bench.results.records import short_revision
from reports.chart_style import COLOURS, MANY, SERIES, ChartSpec, colour, point_of, summarised, unnamed
from reports.format import plain_list
from reports.run_table import Run, emulated_time, headlines, unmarked

BARS = 40  # cells, at most
OTHER_SECONDS = ("total_seconds", "residual_seconds", "warm_up_seconds")  # samples that are not stages


def stages(run: Run, done: list[dict[Any, Any]]) -> Iterator[ChartSpec]:
    """The seconds of each stage that was sampled, and the rest of the total."""
    bars: list[dict[str, Any]] = []
    names: list[str] = []
    cells = 0
    for row in done:
        total, seconds = _stage_seconds(run, row)
        if not seconds or row["reference"] or "emulated" in run.records[row["id"]].facts:
            continue
        cells += 1
        if cells > BARS:
            continue
        bound = _bounds(run, row)
        shares = " · ".join(f"{stage} {share}".strip() for stage, share in bound.items())
        names += [stage for stage in seconds if stage not in names]
        label = f"{row[run.group]} · {run.name(row)}" if len({r[run.group] for r in done}) > 1 else run.name(row)
        for stage, value in seconds.items():
            share = f", {bound[stage]} of its bound" if stage in bound else ""
            bars.append({"row": label, "stage": stage, "seconds": value, "order": names.index(stage),
                         "bound": shares if stage == "rest" else "", "total": total,
                         "said": f"{run.name(row, group=True)}: {stage} {value:.3g} s, "
                                 f"{value / total:.0%} of {total:.3g} s{share}"})  # fmt: skip
    if not bars:
        return
    names = [name for name in names if name != "rest"] + ["rest"]
    colours = [*(COLOURS[i % SERIES] for i in range(len(names) - 1)), "var(--line)"]
    base = alt.Chart(alt.Data(values=bars))
    y = alt.Y("row:N", sort=None, title=None)
    layers = [
        base.mark_bar(height=11).encode(
            alt.X("seconds:Q", title="seconds per call, median over repeats"), y,
            color=alt.Color("stage:N", scale=alt.Scale(domain=names, range=colours), legend=alt.Legend(title=None)),
            order="order:Q", description="said:N", tooltip="said:N"),
        base.transform_filter("datum.bound != ''").mark_text(
            align="left", dx=5, color="var(--muted)", fontSize=10).encode(alt.X("total:Q"), y, text="bound:N"),
    ]  # fmt: skip
    bounds = " At the end of a bar: shares of the physical bound." if any(bar["bound"] for bar in bars) else ""
    yield ChartSpec(
        "stages",
        "Where the seconds go",
        "The rest is what no stage accounts for." + bounds
        + (f" {cells - BARS} more cells are not drawn." if cells > BARS else ""),
        f"Stacked bars of {plain_list(names)} for {min(cells, BARS)} cells.",
        alt.layer(*layers).properties(width=640, height=alt.Step(17)),
    )  # fmt: skip


def _stage_seconds(run: Run, row: Mapping[Any, Any]) -> tuple[float, dict[str, float]]:
    """Seconds of a call and of its stages, as medians over repeats; "rest" is the remainder.

    A stage is a series of samples "NAME_seconds" with one value per call, like "total_seconds". A series that would
    make the sum of the stages longer than the call is part of another stage and is left out.
    """
    samples = run.records[row["id"]].samples
    calls = samples.get("total_seconds", ())
    if not calls:
        return 0.0, {}
    total = statistics.median(calls)
    order = [name for name in run.measures if name in samples]  # a journal sorts its samples by name
    stages: dict[str, float] = {}
    for name in dict.fromkeys([*order, *samples]):
        if not name.endswith("_seconds") or name in OTHER_SECONDS or len(samples[name]) != len(calls):
            continue
        seconds = statistics.median(samples[name])
        if sum(stages.values()) + seconds <= 1.02 * total:
            stages[name.removesuffix("_seconds")] = seconds
    return total, {**stages, "rest": max(0.0, total - sum(stages.values()))} if stages else {}


def _bounds(run: Run, row: Mapping[Any, Any]) -> dict[str, str]:
    """Stage -> share of its physical bound as text, "" for the whole call: "STAGE_share", or a name with "bound"."""
    shares = {}
    for measure, planned in run.measures.items():
        if (measure.endswith("_share") or "bound" in measure) and row[measure] is not None:
            stage = "_".join(word for word in measure.split("_") if word not in {"share", "of", "bound", "total"})
            shares[stage] = f"{row[measure] if planned['unit'] == '%' else 100 * row[measure]:.0f} %"
    return shares


def history(run: Run, rows: pd.DataFrame) -> Iterator[ChartSpec]:
    """The first measure of each kind by revision, if the journal has several revisions of the same work."""
    plan = {_key(cell["values"]): cell for cell in run.manifest["cells"]}
    by_id = {row["id"]: row for row in rows.to_dict("records")}
    measures = headlines(run, rows)[:3]
    data: list[dict[str, Any]] = []
    for record in run.journal:
        cell = plan.get(_key(record.cell.values))
        if cell is None or cell["reference"] or record.attempt.status != "ok" or not record.attempt.started:
            continue
        row = by_id[cell["id"]]
        for measure in measures:
            value = record.numbers.get(measure)
            if value is not None and not emulated_time(record, measure):
                filled = {**row, measure: value.value, f"{measure}_low": value.low, f"{measure}_high": value.high}
                revision = short_revision(record.revision)
                point = point_of(run, filled, {"y": measure})
                at = {"when": record.attempt.started, "x": revision, "line": cell["id"], "measure": measure}
                data.append({**point, **at, "said": f"{revision}, {point['said']}"})
    revisions = list(dict.fromkeys(point["x"] for point in sorted(data, key=lambda point: point["when"])))
    if len(revisions) < 2:
        return
    panels = []
    for measure in measures:
        points = [point for point in data if point["measure"] == measure]
        if not points:
            continue
        points = points if len(points) <= MANY else summarised(points)
        base = alt.Chart(alt.Data(values=points))
        x = alt.X("x:O", sort=revisions, title="revision, in order of measuring",
                  axis=alt.Axis(labelAngle=-40))  # fmt: skip
        y = alt.Y("y:Q", title=run.title(measure), scale=alt.Scale(zero=False))
        tips = {"description": "said:N", "tooltip": "said:N"}
        panels.append(alt.layer(
            base.mark_line(strokeWidth=1.2, opacity=0.5).encode(x, y, color=colour(run), detail="line:N"),
            base.mark_rule(opacity=0.35).encode(x, alt.Y("y_low:Q"), y2="y_high:Q", color=colour(run)),
            base.mark_point(filled=True, size=40).encode(x, y, color=colour(run), **tips),
        ).properties(width=60 + 40 * len(revisions), height=200))  # fmt: skip
    titles = [run.measures[measure]["title"] for measure in measures]
    yield ChartSpec(
        "history",
        f"{plain_list(titles)} over revisions",
        "Each line is one cell's settings; source, weights, machine or software changed between its points."
        + unnamed(run),
        f"Line charts of {plain_list(titles)} over the revisions {plain_list(revisions[-8:])}.",
        alt.concat(*panels, columns=3, spacing=26),
    )


def _key(values: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """The settings of a cell, as records have them: without the marks of approximations."""
    return frozenset((axis, unmarked(value)) for axis, value in values.items())
