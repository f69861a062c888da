import io

import pytest
from rich.console import Console

from bench.harness import progress
from bench.harness.progress import REPORT, CellTime, Progress, clock, fit, seconds_left, without_once
from bench.results.records import Attempt


@pytest.fixture
def seen(monkeypatch):
    """What a terminal would be told."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=160)
    monkeypatch.setattr(progress, "Console", lambda file: console)
    return text


def go(known, say):
    with Progress([10.0, 30.0], known, say) as bar:
        bar.start("first")
        bar._bar.refresh()  # which a terminal does ten times a second
        bar.end(Attempt("ok", "", "", 30.0), 10.0)
        bar.start("second")
        bar._bar.refresh()
        before = bar.left()
        bar.end(Attempt("timeout", "not done after 9 s", "", 9.0), 30.0)
    return before


def test_a_terminal_sees_a_bar_with_the_whole_time_and_what_went_wrong(seen):
    lines = []
    left = go([CellTime(10.0, 20.0)], lines.append)
    assert 75 + REPORT < left < 90 + REPORT  # at the pace of both cells, or of this run's alone
    assert lines == []
    text = seen.getvalue()
    for word in ("first", "of about 1:28", "of about 1:", "2/2", "second: timeout: not done after 9 s"):
        assert word in text


def test_elsewhere_each_cell_is_a_line_with_the_whole_time():
    lines = []
    go([], lines.append)
    assert lines == ["[1/2] first: 30.0 s; 0 s of about 1:38", "[2/2] second: timeout: not done after 9 s"]


def test_results_are_said_when_a_cell_ends(seen):
    with Progress([10.0], [], print) as bar:
        bar.start("first")
        bar.end(Attempt("ok", "", "", 30.0), 10.0, found="FVD 7 (reference 2)")
    assert "[1/1] first: 30.0 s; FVD 7 (reference 2)" in seen.getvalue()


def test_the_last_cell_takes_its_own_time_however_many_there_could_be():
    known = [CellTime(10.0, 20.0)]
    assert seconds_left([10.0], known, at_a_time=8) == seconds_left([10.0], known) == 20.0
    assert seconds_left([10.0] * 16, known, at_a_time=8) == 40.0


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_cells_side_by_side_share_the_time_left(at_a_time):
    bar = Progress([10.0] * 4, [CellTime(10.0, 20.0)], print, at_a_time)
    assert bar.left() == 80 / at_a_time + REPORT


# (cost, seconds, seconds that the record accounts for) of a run on two cores: 16 and 32 frames, real video, then three
# methods. The first that makes videos also measured the peaks of the machine.
RUN = (
    CellTime(2000, 1.848), CellTime(8144, 23.478, 9.374), CellTime(8144, 10.902, 9.079), CellTime(8144, 11.103, 9.397),
    CellTime(2000, 2.080), CellTime(14288, 21.002, 18.919), CellTime(14288, 20.604, 18.581),
    CellTime(14288, 19.704, 17.834),
)  # fmt: skip


@pytest.mark.parametrize("done", range(3, len(RUN)))
@pytest.mark.parametrize("slower", [1.0, 2.5])
@pytest.mark.parametrize("earlier", [(), RUN, RUN[:3]])
def test_after_the_third_cell_the_time_left_is_right_within_30_percent(done, slower, earlier):
    """Of a fresh run, and of one on a machine that is slower today than it was in earlier runs."""
    now = [CellTime(each.cost, slower * each.seconds, slower * each.work) for each in RUN]
    left = seconds_left([each.cost for each in now[done:]], earlier, now[:done])
    assert left == pytest.approx(sum(each.seconds for each in now[done:]), rel=0.3)


def test_in_proportion_it_would_be_far_off():
    """What the law is for: seconds in proportion to cost, once-only work included, miss the same run by half."""
    known, ahead = RUN[:3], RUN[3:]
    rate = sum(each.seconds for each in known) / sum(each.cost for each in known)
    assert rate * sum(each.cost for each in ahead) > 1.3 * sum(each.seconds for each in ahead)


def test_the_law_is_a_start_and_a_rate_and_neither_is_negative():
    assert fit([CellTime(c, 2 + 3 * c) for c in (1, 2, 5)]) == pytest.approx((2, 3))
    assert fit([CellTime(4, 2)]) == (0, 0.5)
    assert fit([CellTime(0, 2)]) == (2, 0)
    start, rate = fit([CellTime(1, 0.1), CellTime(2, 4), CellTime(3, 9)])  # the line's start would be -4.5
    assert (start, rate) == (0, pytest.approx((0.1 + 8 + 27) / 14))
    assert fit([CellTime(1, 9), CellTime(2, 4)]) == (6.5, 0)  # larger cells are not faster


def test_what_one_cell_alone_had_to_do_is_left_out():
    kept = without_once(RUN[:3])
    assert [each.seconds for each in kept] == pytest.approx([1.848, 9.374 + 2 * 1.848, 10.902])
    plain = [CellTime(1, 1), CellTime(2, 50)]  # records that account for nothing are taken as they are
    assert without_once(plain) == plain


def test_before_anything_is_known_nothing_is_said():
    assert seconds_left([1.0], []) is None
    assert seconds_left([], [CellTime(1.0, 10.0)]) == 0
    assert seconds_left([0.0, 0.0, 2.0], [CellTime(1.0, 10.0)]) == 20  # cells that are skipped take no time


def test_seconds_are_written_as_people_read_them():
    assert [clock(seconds) for seconds in (0, 59.4, 59.6, 185, 3723)] == ["0 s", "59 s", "1:00", "3:05", "1:02:03"]
