import math
import random
import statistics

import pytest

from reports.run_table import load, rows
from reports.significance import Value, best_ids, beyond_noise, rank, smaller_is_better


def value(middle, half):
    return Value(middle, middle - half, middle + half)


def test_two_rows_differ_when_their_difference_does_not_when_one_interval_touches():
    assert beyond_noise(value(1.0, 0.5), value(2.0, 0.5)) is True  # the difference is 1 +- 0.71
    assert beyond_noise(value(1.0, 0.5), value(1.7, 0.5)) is False
    assert beyond_noise(value(2.0, 0.5), value(1.0, 0.5)) is False  # not smaller at all
    assert beyond_noise(Value(1.0, None, None), value(9.0, 0.1)) is None


def test_only_the_sides_that_face_each_other_count():
    low, high = Value(1.0, -9.0, 1.1), Value(2.0, 1.9, 99.0)
    assert beyond_noise(low, high) is True
    assert beyond_noise(Value(1.0, 0.9, 9.0), Value(2.0, 1.9, 2.1)) is False


def test_more_comparisons_ask_for_more():
    near, far = value(0.0, 1.0), value(1.6, 1.0)  # 1.6 against sqrt(2)
    assert beyond_noise(near, far) is True
    assert beyond_noise(near, far, comparisons=10) is False


def test_higher_and_real_turn_round():
    assert smaller_is_better(5.0, 4.0, 7.0, "higher", None) == (-5.0, -7.0, -4.0)
    assert smaller_is_better(5.0, 4.0, 7.0, "real", 2.0) == (3.0, 2.0, 5.0)
    assert smaller_is_better(-1.0, -3.0, 0.5, "real", 0.0) == (1.0, 0.0, 3.0)
    assert smaller_is_better(5.0, 4.0, 7.0, "real", None) is None


def test_standing_names_best_tied_worse_and_unknown():
    column = [value(1.0, 0.1), value(1.05, 0.1), value(3.0, 0.1), Value(2.0, None, None), None]
    ranking = rank(column)
    assert ranking == (0, (1,), (2,), (3,))
    assert ranking.marked == (0, 1)


def test_no_mark_without_a_row_that_is_worse_beyond_noise():
    assert rank([value(1.0, 1.0), value(1.5, 1.0)]).marked == ()
    assert rank([value(1.0, 0.1)]) is None
    assert rank([None, None]) is None


def test_no_best_row_where_one_without_interval_is_better():
    assert rank([value(1.0, 0.1), value(3.0, 0.1), Value(0.5, None, None)]) is None


def test_rows_of_one_truth_are_rarely_told_apart():
    """All rows share one mean: a mark anywhere in the column is a false alarm, meant to come in at most 5 %."""
    draw = random.Random(7)
    alarms = 0
    for _ in range(200):
        column = []
        for _ in range(12):
            sample = [draw.gauss(0, 1) for _ in range(60)]
            half = 1.96 * statistics.stdev(sample) / math.sqrt(60)
            column.append(value(statistics.fmean(sample), half))
        alarms += bool(rank(column).worse)
    assert alarms / 200 < 0.09  # 5 % and what chance adds in 200 tries


def test_a_row_that_is_better_is_found():
    draw = random.Random(8)
    found = 0
    for _ in range(100):
        column = []
        for row in range(12):
            sample = [draw.gauss(0 if row == 3 else 1, 1) for _ in range(60)]
            half = 1.96 * statistics.stdev(sample) / math.sqrt(60)
            column.append(value(statistics.fmean(sample), half))
        order = rank(column)
        found += order.best == 3 and len(order.worse) == 11
    assert found >= 80


@pytest.mark.parametrize(("measure", "said"), [("fvd", {"ours"}), ("is", set()), ("action", set())])
def test_marks_of_a_run(made_run, measure, said):
    run = load(made_run)
    table = rows(run)
    part = table[table["frames"] == 16]
    best = best_ids(run, part, measure)
    assert {row["method"] for row in part.to_dict("records") if row["id"] in best} == said


def test_rows_that_are_not_ok_are_not_compared(made_run):
    run = load(made_run)
    table = rows(run)
    bad = set(table[table["status"] != "ok"]["id"])
    assert bad
    for measure in run.measures:
        for _, part in table.groupby(run.group, sort=False):
            assert not bad & best_ids(run, part, measure)


def test_nothing_is_compared_across_axes_that_are_held_apart(tmp_path):
    from made_runs import grid, write

    run = load(write(tmp_path / "run", grid(frames=(16,)), apart=["method"]))
    table = rows(run)
    assert best_ids(run, table, "fvd") == set()  # within each method all rows are alike
    best = best_ids(run, table, "seconds_per_frame")
    marked = [(row["method"], row["precision"]) for row in table.to_dict("records") if row["id"] in best]
    assert {method for method, _ in marked} == {"ours", "theirs", "<i>evil</i>"}
    assert {precision for _, precision in marked} == {"bf16"}
