import io

import pytest
from made_runs import every_status, many_cells, one_cell
from rich.console import Console

from reports.table import load, rows
from reports.terminal import show, sparkline


def shown(folder, **options):
    run = load(folder)
    file = io.StringIO()
    show(run, rows(run), Console(file=file, width=200, **options))
    return file.getvalue()


def test_the_same_table_with_sparklines(made_run):
    text = shown(made_run)
    assert "Which <method> is best & why?" in text
    assert "FVD is lowest at frames = 16" in text
    assert "toy: quality at frames = 16" in text
    assert "12.00 ±0.72" in text
    assert "seconds, call by call" in text
    assert "▃█▁" in text  # 0.38, 0.40, 0.37 s
    assert "oom: why it is oom" in text
    assert "\x1b[2J" not in text


def test_marks_are_styled_and_markup_is_text(made_run):
    text = shown(made_run, force_terminal=True, color_system="standard")
    assert "\x1b[1;32m12.00 ±0.72\x1b[0m" in text
    assert "<i>evil</i>" in text
    assert "\x1b[2J" not in text


def test_one_and_many_cells(tmp_path):
    assert "The one cell has its numbers" in shown(one_cell(tmp_path / "one"))
    assert "All 2042 cells" in shown(many_cells(tmp_path / "many"))


@pytest.mark.parametrize(
    ("values", "line"),
    [((), ""), ((1.0,), "▁"), ((2.0, 2.0), "▁▁"), ((0.0, 1.0, 0.5), "▁█▅"), (tuple(range(64)), None)],
)
def test_a_sparkline_runs_from_the_smallest_to_the_largest(values, line):
    found = sparkline(values)
    assert found == line if line is not None else (len(found) == 32 and found[0] == "▁" and found[-1] == "█")


def test_an_unreadable_film_is_no_sparkline(tmp_path):
    folder = every_status(tmp_path / "run")
    for path in (folder / "cells").glob("*/videos.npz"):
        path.write_bytes(b"torn")
    assert "change in time" not in shown(folder)
