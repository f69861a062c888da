from dataclasses import replace

import pytest
from toy_suite import SUITE

from bench.harness.suite_spec import label, override, plan, select


def values(planned):
    return [(item.cell.values["how"], item.cell.values["size"]) for item in planned]


def test_references_come_first_and_equal_cells_are_one():
    planned = plan(SUITE, {"source": "x"})
    assert values(planned) == [("real", 1), ("fine", 1), ("fine", 2), ("plain", 1)]  # plain has no size
    assert [item.reference for item in planned] == [True, False, False, False]
    assert len({item.cell.id for item in planned}) == 4


def test_a_reference_that_is_a_point_of_the_grid_is_a_row_that_runs_first():
    within = replace(
        SUITE, reference=lambda v: None if v["size"] == 2 else {**v, "size": 2}, settle=lambda v: v, skip=lambda v: None
    )
    planned = plan(override(within, ["size=1,2,3", "how=fine"]), {})
    assert [item.cell.values["size"] for item in planned] == [2, 1, 3]
    assert not any(item.reference for item in planned)
    chosen = select(planned, within, ["size=3"], [])
    assert [item.cell.values["size"] for item in chosen] == [2, 3]


def test_a_cell_that_cannot_run_stays_in_the_plan_with_its_reason():
    planned = plan(override(SUITE, ["size=1,13", "how=fine"]), {})
    assert [(item.cell.values["size"], item.skip) for item in planned[1:]] == [(1, None), (13, "13 brings bad luck")]


def test_the_basis_is_part_of_every_id():
    one, two = (plan(SUITE, {"weights": weights}) for weights in ("a", "b"))
    assert not {item.cell.id for item in one} & {item.cell.id for item in two}


def test_an_override_makes_a_fixed_value_an_axis_and_an_axis_shorter():
    suite = override(SUITE, ["seconds=0.5, 1", "size=3"])
    assert suite.axes == {"how": ("fine", "plain"), "size": (3,), "seconds": (0.5, 1.0)}
    assert "seconds" not in suite.fixed
    assert override(SUITE, ["seconds=2"]).fixed["seconds"] == 2.0
    assert override(SUITE, ["size=3"]).hash != SUITE.hash == override(SUITE, []).hash


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("sise=1", "there is no axis 'sise' in this suite: did you mean 'size'?"),
        ("zzz=1", "there is no axis 'zzz' in this suite: there are how, size, seconds, broken, device"),
        ("size", "an override is axis=value,value,...; got 'size': try how=fine,plain"),
        ("size=", "size is a whole number; got '': try size=1,2"),
        ("size=1.5", "size is a whole number; got '1.5'"),
        ("size=0", "size is at least 1; got 0"),
        ("size=1,1", "size has 1 twice"),
        ("seconds=soon", "seconds is a number; got 'soon'"),
        ("seconds=nan", "seconds is at least 0; got nan"),
        ("seconds=inf", "seconds is at least 0; got inf"),
        ("device=gpu", "device cannot be 'gpu': did you mean 'cpu'?"),
    ],
)
def test_a_bad_override_says_what_and_what_to_do(assignment, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared whole
        override(SUITE, [assignment])
    assert str(caught.value).startswith(message)


def test_an_axis_is_set_once():
    with pytest.raises(ValueError, match="size is set twice: give all its values at once"):
        override(SUITE, ["size=1", "size=2"])


def test_a_selection_brings_its_references():
    planned = plan(SUITE, {})
    assert values(select(planned, SUITE, ["how=fine", "size=2"], [])) == [("real", 1), ("fine", 2)]
    assert values(select(planned, SUITE, ["size=1"], [])) == [("real", 1), ("fine", 1), ("plain", 1)]
    assert values(select(planned, SUITE, ["size=1", "size=2"], ["how=fine"])) == [("real", 1), ("plain", 1)]
    assert values(select(planned, SUITE, [planned[2].cell.id], [])) == [("real", 1), ("fine", 2)]
    assert values(select(planned, SUITE, [planned[0].cell.id], [])) == [("real", 1)]
    assert select(planned, SUITE, [], []) == planned
    for name in ("how=fin", "nothing=None"):
        with pytest.raises(ValueError, match=f"'{name}' fits no cell of the plan"):
            select(planned, SUITE, [name], [])


def test_a_label_tells_cells_apart():
    assert label({"how": "fine", "size": 2, "seconds": 0.0}, ["how", "size"]) == "fine size=2"
