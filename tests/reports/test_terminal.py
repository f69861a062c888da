import io
import sys

import numpy as np
import pytest
from made_runs import POCKET_AXES, every_status, grid, many_cells, measured, one_cell, pocket, write
from rich.console import Console

from bench.results.records import Number
from bench.videos.columns import MEASURES
from reports.__main__ import main
from reports.run_table import load, rows
from reports.terminal import show, show_tables, sparkline


def shown(folder, show=show_tables, width=200, **options):
    run = load(folder)
    file = io.StringIO()
    show(run, rows(run), Console(file=file, width=width, **options))
    return file.getvalue()


def brief(run, table, console):
    show(run, table, console, reserved=1)


def full(values):
    """Numbers and samples of every measure of the pocket suite, those of VidRD apart from the others."""
    draw = np.random.default_rng([values["frames"], values["overlap"], len(values["method"])])
    results = {}
    for name, said in MEASURES.items():
        if said.table != "cost":
            results[name] = measured(draw.standard_normal(24) + 3 * (values["method"] == "vidrd"), unit=said.unit)
        elif values["method"] != "real":
            results[name] = (Number(1e9 * float(draw.uniform(1, 2)), said.unit, said.better, 3), ())
    return results


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of all 33 cells of the pocket suite."""
    measures = {name: said._asdict() for name, said in MEASURES.items()}
    return pocket(tmp_path_factory.mktemp("terminal") / "run", POCKET_AXES, full, measures)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("options", [{}, {"force_terminal": True, "color_system": None}])
def test_a_whole_run_is_one_screen(whole, width, options):
    run = load(whole)
    assert len(rows(run)) == 33
    lines = shown(whole, brief, width, **options).splitlines()
    assert len(lines) <= 39  # and one on where the page lies
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "VidRD" in text
    assert "FVD" in text
    assert "The best of 33 cells by FVD, for each method and frames" in text
    table = lines[next(i for i, line in enumerate(lines) if "───" in line) + 1 :]
    methods = [line.split()[1] for line in table[:4]]
    assert methods == ["real", "vidrd", "independent", "direct"]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_any_run_is_one_screen(tmp_path, made_run, width):
    runs = [made_run, one_cell(tmp_path / "one"), many_cells(tmp_path / "many"),
            write(tmp_path / "none", grid(), records=False), write(tmp_path / "no", grid(), measures={})]  # fmt: skip
    for folder in runs:
        lines = shown(folder, brief, width).splitlines()
        assert len(lines) <= 39, folder
        assert max(map(len, lines)) <= width, folder


def test_the_command_prints_the_answer_and_one_path(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("reports.__main__.write_report", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["reports", str(whole), "--out", str(tmp_path / "out")])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert lines[-1] == f"page: {tmp_path / 'out' / 'report.html'}"
    assert max(map(len, lines[:-1])) <= 80
    monkeypatch.setattr(sys, "argv", ["reports", str(whole), "--tables"])
    assert main() == 0
    text = capsys.readouterr().out
    assert all(said.title in text for said in MEASURES.values())
    assert len(text.splitlines()) > 60


def test_marks_are_stars_where_there_is_no_colour(made_run):
    assert "12.0±1.2*" in shown(made_run, show)
    text = shown(made_run, show, force_terminal=True, color_system="standard")
    assert "\x1b[1;32m" in text
    assert "12.0±1.2*" not in text


def test_the_same_table_with_sparklines(made_run):
    text = shown(made_run)
    assert "Which <method> is best & why?" in text
    assert "ours is nearer to real video than" in text
    assert "toy: quality at frames = 16" in text
    assert "12.00 ±0.72" in text
    assert "seconds, call by call" in text
    assert "▃█▁" in text  # 0.38, 0.40, 0.37 s
    assert "oom: why it is oom" in text
    assert "\x1b[2J" not in text


def test_marks_are_styled_and_markup_is_text(made_run):
    for how in (show, show_tables):
        text = shown(made_run, how, force_terminal=True, color_system="standard")
        assert "<i>evil</i>" in text
        assert "\x1b[2J" not in text
    assert "\x1b[1;32m12.00 ±0.72\x1b[0m" in text


def test_one_and_many_cells(tmp_path):
    assert "No two cells have numbers" in shown(one_cell(tmp_path / "one"), show)
    assert "The best of 2042 cells by FVD" in shown(many_cells(tmp_path / "many"), show)


@pytest.mark.parametrize(
    ("values", "line"),
    [((), ""), ((1.0,), "▁"), ((2.0, 2.0), "▁▁"), ((0.0, 1.0, 0.5), "▁█▅"), (tuple(range(64)), None)],
)
def test_a_sparkline_runs_from_the_smallest_to_the_largest(values, line):
    found = sparkline(values)
    assert found == line if line is not None else (len(found) == 32 and found[0] == "▁" and found[-1] == "█")


def test_an_unreadable_video_is_no_sparkline(tmp_path):
    folder = every_status(tmp_path / "run")
    for path in (folder / "cells").glob("*/videos.npz"):
        path.write_bytes(b"torn")
    assert "change over time" not in shown(folder)
