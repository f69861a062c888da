import io

import pytest
from rich.console import Console

from bench import progress
from bench.progress import Progress, time_left
from bench.record import Attempt


@pytest.fixture
def seen(monkeypatch):
    """What a terminal would be told."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=160)
    monkeypatch.setattr(progress, "Console", lambda file: console)
    return text


def go(known, say):
    with Progress(40.0, 2, known, say) as bar:
        bar.start("first")
        bar._bar.refresh()  # which a terminal does ten times a second
        bar.end(Attempt("ok", "", "", 30.0), 10.0)
        bar.start("second")
        bar._bar.refresh()
        before = bar.left()
        bar.end(Attempt("timeout", "not done after 9 s", "", 9.0), 30.0)
    return before


def test_a_terminal_sees_a_bar_with_the_time_left_and_what_went_wrong(seen):
    lines = []
    assert go([(10.0, 20.0)], lines.append) == "about 75 s left"
    assert lines == []
    text = seen.getvalue()
    for word in ("first", "about 80 s left", "about 75 s left", "2/2", "second: timeout: not done after 9 s"):
        assert word in text


def test_elsewhere_each_cell_is_a_line_with_the_time_left():
    lines = []
    go([], lines.append)
    assert lines == ["[1/2] first: 30.0 s; about 2 min left", "[2/2] second: timeout: not done after 9 s"]


def test_rounding_leaves_no_time_below_zero():
    assert time_left(0.3 - 0.1 - 0.2, [(1.0, 10.0)]) == "about 0 s left"
