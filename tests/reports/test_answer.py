import pytest
from made_runs import METHODS, grid, many_cells, one_cell, write

from reports.answer import answer
from reports.table import load, rows


def said(folder):
    run = load(folder)
    return answer(run, rows(run))


@pytest.fixture
def plain(tmp_path):
    return said(write(tmp_path / "run", grid()))


def test_it_counts_the_cells_by_how_they_ended(made_run, plain):
    assert said(made_run).startswith(
        "20 of 26 cells have their numbers; 1 skipped, 1 ran out of memory, 1 ran out of time, 1 failed, "
        "1 cannot be believed and 1 not run yet."
    )
    assert plain.startswith("All 26 cells have their numbers.")


def test_the_best_row_comes_with_interval_and_real_video(plain):
    assert "FVD is lowest at frames = 16 for ours overlap=2 fp32 (12.0 ±1.2), where real video itself has 2.00" in plain
    assert "it cannot be told apart from 3 others, and 8 are worse beyond noise" in plain


def test_rows_of_equal_numbers_cannot_be_told_apart(tmp_path):
    text = said(write(tmp_path / "run", grid(frames=(16,), methods=METHODS[:1], overlaps=(2,))))
    assert "but it cannot be told apart from the other one" in text
    assert "beyond noise" not in text.split("s/frame")[0]


def test_without_intervals_nothing_is_claimed(plain):
    sentence = next(part for part in plain.split(". ") if part.startswith("action"))
    assert "from too few samples to tell it apart from the other 11" in sentence
    assert "beyond noise" not in sentence


def test_an_axis_is_read_from_pairs_that_differ_in_it_alone(plain):
    assert (
        "precision bf16 against fp32, all else equal: s/frame is better in 12 of 12 pairs (0.60 times, the median); "
        "FVD and action cannot be told apart." in plain
    )
    assert "overlap 4 against 2, all else equal: s/frame is worse in 12 of 12 pairs (1.20 times, the median)" in plain


def test_one_cell_and_no_records(tmp_path):
    assert said(one_cell(tmp_path / "one")).startswith("The one cell has its numbers. FVD is lowest for ours")
    empty = write(tmp_path / "none", grid(), records=False)
    assert said(empty) == "0 of 26 cells have their numbers; 26 not run yet."


def test_two_thousand_cells(tmp_path):
    text = said(many_cells(tmp_path / "many"))
    assert text.startswith("All 2042 cells have their numbers.")
    assert len(text) < 4000
