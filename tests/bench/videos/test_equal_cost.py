"""Equal terms: the solver finds the most steps that a method may take, by its plan or by measured seconds."""

import pytest

from bench.methods import METHODS, NOISE, options_of, with_noise
from bench.videos.equal_cost import MOST_STEPS, most_steps, seconds_line, steps_at_equal_fe
from vidrd.sampler_contract import Request
from vidrd.sampling import Options

REQUEST = Request(frames=32, clip=8, shape=(1, 1, 1), seeds=(0,))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("steps", [10, 20, 50])
def test_no_method_costs_more_than_independent_clips_and_one_step_more_would(name, steps):
    method = METHODS[name]
    options = method.options(4)

    def per_frame(count):
        return method.plan(REQUEST, count, options).fe / REQUEST.frames

    steps_found = steps_at_equal_fe(method.plan, REQUEST, options, steps)
    assert per_frame(steps_found) <= steps < per_frame(steps_found + 1)


def test_methods_that_cost_the_same_a_step_take_the_same_steps():
    for name in ("independent", "vidrd", "direct", "freenoise"):
        assert steps_at_equal_fe(METHODS[name].plan, REQUEST, METHODS[name].options(4), 20) == 20
    windows = METHODS["codenoise"]
    assert steps_at_equal_fe(windows.plan, REQUEST, windows.options(4), 20) == 11  # 7 windows of 8 frames each step


def test_the_passes_of_free_init_are_paid_for():
    method = with_noise(METHODS["independent"], "freeinit")
    assert steps_at_equal_fe(method.plan, REQUEST, method.options(0), 20) == 6


def test_what_cannot_take_a_step_says_so():
    method = METHODS["replace-resampled"]
    with pytest.raises(
        ValueError, match=r"a single step takes 7\.75 frame evaluations a frame, more than the 5 allowed"
    ):
        steps_at_equal_fe(method.plan, REQUEST, method.options(4), 5)


def test_the_solver_stops_somewhere():
    assert most_steps(lambda steps: 0.0, 1.0, "seconds") == MOST_STEPS


def test_seconds_follow_the_frame_evaluations():
    """A queue's cost grows with the square of its steps: the line goes through what it evaluates, not through steps."""
    method, asked = METHODS["fifo"], []
    options = method.options(0)

    def measure(steps):
        asked.append(steps)
        return 0.5 + 0.001 * method.plan(REQUEST, steps, options).fe

    seconds = seconds_line(method.plan, REQUEST, options, measure)
    assert len(asked) == 2
    assert seconds(30) == pytest.approx(measure(30))
    assert most_steps(seconds, measure(12) + 1e-4, "seconds") == 12


def test_noise_that_makes_a_run_look_faster_with_more_steps_does_no_harm():
    method = METHODS["direct"]
    seconds = seconds_line(method.plan, REQUEST, method.options(0), lambda steps: 1.0 / steps)
    assert seconds(40) == seconds(1) == 1


def test_a_suite_may_name_vidrds_options():
    values = {"method": "vidrd", "overlap": 2, "alpha": 1.0, "reverse": False, "join": "drop_duplicate"}
    assert options_of(values) == Options(overlap=2, alpha=1.0, reverse=False, join="drop_duplicate")
    assert options_of({"method": "vidrd", "overlap": 2}) == Options(overlap=2)
    assert options_of({"method": "vidrd", "overlap": 2, "compat": "released"}).compat == "released"
    assert options_of({"method": "fifo", "overlap": 0, "compat": "official"}).compat == "official"
    assert options_of({"method": "direct", "overlap": 0, "compat": "paper"}) == METHODS["direct"].options(0)


def test_every_noise_has_its_method_and_no_other():
    method = METHODS["vidrd"]
    assert with_noise(method, "iid") is method
    assert all(with_noise(method, name).options is method.options for name in NOISE)
    with pytest.raises(ValueError, match=r"noise is one of iid, .*freeinit: got .white."):
        with_noise(method, "white")
