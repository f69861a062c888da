import json
import re
import xml.etree.ElementTree as ET

import altair as alt
import pytest
from made_runs import MEASURES, METHODS, cells_of, every_status, grid, numbers_of, one_cell, record_of, write

from bench.results.records import Number, Record, append
from reports.chart_style import LIGHT, WIDE, png, printed
from reports.charts import charts
from reports.run_table import load, rows


def drawn(folder):
    run = load(folder)
    return {chart.name: chart for chart in charts(run, rows(run))}


@pytest.fixture(scope="module")
def made(made_run):
    return drawn(made_run)


def labels(chart):
    """What the marks of a chart say."""
    found = [element.get("aria-label") for element in ET.fromstring(chart.svg).iter() if element.get("aria-label")]
    return [label for label in found if " at frames = " in label]


def test_every_question_has_its_chart(made):
    assert list(made) == ["trade-off", "ranking", "along-frames", "along-overlap", "along-precision", "stages"]


def test_marks_say_which_cell_they_are(made):
    assert "ours overlap=2 bf16 at frames = 16: s/frame 0.00750 ±0.00030, FVD 12.00 ±0.72" in labels(made["trade-off"])
    assert any(label.startswith("real video at frames = 16: FVD 2.00") for label in labels(made["ranking"]))


def test_rows_that_are_not_ok_are_not_drawn(made):
    assert not any("<i>evil</i>" in label and "frames = 32" in label for label in labels(made["trade-off"]))
    assert sum("at frames = 16" in label for label in labels(made["trade-off"])) == 13  # 12 cells and real video
    assert sum("at frames = 32" in label for label in labels(made["trade-off"])) == 7


def test_the_front_holds_what_nothing_beats_in_both(made):
    text = made["trade-off"].alt
    assert "for 18 cells" in text
    assert "ours overlap=2 bf16 at frames = 16" in text
    assert "theirs" not in text


def test_a_front_of_several_rows_in_order_of_cost(tmp_path):
    axes = grid(frames=(16,), methods=METHODS[:2], overlaps=(2, 4), precisions=("fp32",))
    folder = write(tmp_path / "run", axes, records=False)
    law = {("ours", 2): (9.0, 1.0), ("ours", 4): (5.0, 3.0), ("theirs", 2): (7.0, 2.0), ("theirs", 4): (8.0, 4.0)}
    for cell, reference in cells_of(axes):
        record = record_of(cell, reference)
        if not reference:
            fvd, seconds = law[cell.values["method"], cell.values["overlap"]]
            numbers = {**numbers_of(cell.values, reference)}
            numbers["fvd"] = Number(fvd, "", "lower")
            numbers["seconds_per_frame"] = Number(seconds, "s", "lower")
            record = Record(cell, record.attempt, numbers)
        append(folder / "records.jsonl", record)
    text = drawn(folder)["trade-off"].alt
    named = re.findall(r"(\w+ overlap=\d) fp32", text.split("beats these in both: ")[1])
    assert named == ["ours overlap=2", "theirs overlap=2", "ours overlap=4"]


@pytest.mark.parametrize(("count", "named"), [(8, True), (9, False), (25, False)])
def test_more_series_than_colors_have_no_legend_that_widens_the_charts(tmp_path, count, named):
    methods = [f"a-method-of-a-long-name-{i}" for i in range(count)]
    run = load(write(tmp_path / "run", grid(methods=methods, overlaps=(2,), precisions=("fp32",))))
    for chart in charts(run, rows(run)):
        if chart.name != "stages":  # colors are stages there
            assert ("Colors repeat" in chart.reading) is not (named or chart.name == "ranking")
            assert float(re.search(r'width="([\d.]+)"', chart.svg)[1]) < 1.2 * WIDE or named


def test_length_asks_for_time_and_memory_overlap_for_seams(made):
    assert made["along-frames"].title == "s/frame and RSS along frames"
    assert "seam D" in made["along-overlap"].title
    assert "FVD" in made["along-precision"].title


def test_stages_add_up_and_keep_their_order(made):
    said = [label for label in labels(made["stages"]) if label.startswith("ours overlap=2 fp32 at frames = 16: ")]
    shares = [re.search(r": (\w+) (\S+) s, (\d+)% of", label).groups() for label in said]
    assert {stage for stage, _, _ in shares} == {"text", "denoise", "decode", "rest"}
    assert sum(float(seconds) for _, seconds, _ in shares) == pytest.approx(0.38)
    assert 99 <= sum(int(share) for _, _, share in shares) <= 101


def test_a_share_of_the_bound_stands_beside_its_stage(tmp_path):
    axes = grid(frames=(16,), methods=("ours",), overlaps=(2,), precisions=("fp32",))
    bound = {"title": "of bound", "unit": "", "better": "higher", "table": "cost", "definition": "d"}
    measures = {**MEASURES, "denoise_bound_share": bound, "bound_share": bound}
    folder = write(tmp_path / "run", axes, records=False, measures=measures)
    ((cell, _),) = [item for item in cells_of(axes) if not item[1]]
    record = record_of(cell, False)
    shares = {"denoise_bound_share": Number(0.42), "bound_share": Number(0.31)}
    append(folder / "records.jsonl", Record(cell, record.attempt, {**record.numbers, **shares}, record.samples))
    chart = drawn(folder)["stages"]
    assert any("denoise 0.3 s" in label and "42 % of its bound" in label for label in labels(chart))
    assert "31 %" in "".join(ET.fromstring(chart.svg).itertext())


def test_a_name_that_looks_like_a_color_stays_a_name():
    assert printed('<text fill="var(--ink)">var(--mine)</text>') == '<text fill="#1b1d22">var(--mine)</text>'


@pytest.mark.parametrize("mark", ["", " ≈"])
def test_history_needs_two_revisions_and_follows_a_cell(tmp_path, mark):
    axes = grid(frames=(16,), overlaps=(4,), precisions=("fp32",))
    folder = write(tmp_path / "run", axes, approximations={"method": ["ours"]} if mark else {})
    assert "history" not in drawn(folder)
    lines = (folder / "records.jsonl").read_text()
    (folder / "records.jsonl").write_text("")
    for cell, reference in cells_of(axes, {"source": "older"}):
        append(folder / "records.jsonl", record_of(cell, reference, shift=3.0, revision="0123456789abcdef"))
    with (folder / "records.jsonl").open("a") as file:
        file.write(lines)
    chart = drawn(folder)["history"]
    assert "the revisions 01234567 and abcdef01" in chart.alt
    assert any(
        label.startswith(f"01234567, ours{mark} overlap=4 fp32 at frames = 16: FVD 15.0") for label in labels(chart)
    )


def test_text_of_records_is_escaped(made):
    for chart in made.values():
        assert "<i>" not in chart.svg
        assert not re.search(r"<script|javascript:|\son\w+=", chart.svg)


def test_printed_charts_have_plain_colours(made):
    svg = printed(made["trade-off"].svg)
    assert "var(" not in svg
    assert LIGHT["s1"] in svg
    assert png(made["trade-off"].svg)[:8] == b"\x89PNG\r\n\x1a\n"


def test_specifications_are_valid_vega_lite(made_run, monkeypatch):
    checked = []

    def check(chart):
        checked.append(json.dumps(chart.to_dict()))  # altair validates against the schema
        return "<svg/>"

    monkeypatch.setattr("reports.charts.draw", check)
    drawn(made_run)
    assert len(checked) == 6
    assert alt.SCHEMA_URL in checked[0]


def test_runs_with_nothing_to_draw(tmp_path):
    assert list(drawn(one_cell(tmp_path / "one"))) == ["stages"]
    assert drawn(write(tmp_path / "none", grid(), records=False)) == {}
    assert drawn(write(tmp_path / "blind", grid(), measures={})).keys() == {"stages"}


def test_all_of_one_status(tmp_path):
    folder = every_status(tmp_path / "run")
    kept = [line for line in (folder / "records.jsonl").read_text().splitlines() if '"status":"ok"' not in line]
    (folder / "records.jsonl").write_text("\n".join(kept) + "\n")
    assert drawn(folder) == {}
