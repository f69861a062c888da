"""The formulas of docs/samplers.md are what `plan` counts."""

import re
from math import ceil
from pathlib import Path

import pytest

from baselines.co_denoise import Options, plan
from bench.methods import METHODS
from vidrd.sampler_contract import Request

TABLE = (Path(__file__).parents[1] / "docs" / "samplers.md").read_text().split("\n## ")[0]
GRID = [
    (frames, clip, overlap, steps)
    for clip in (1, 2, 5, 8)
    for frames in sorted({1, max(1, clip - 1), clip, clip + 1, 2 * clip + 3, 19, 40})
    for overlap in sorted({0, clip // 2, clip - 1})
    for steps in (1, 3, 5, 10, 16)
]


def formulas():
    """Of each method its fe and what stands in it: {name: {"fe": "T*F*K", "K": ...}}."""
    results = {}
    for row in re.findall(r"^\| (`.*) \|$", TABLE, re.MULTILINE):
        cells = [cell.strip() for cell in row.split(" | ")]
        names, parts = re.findall(r"`([^`]+)`", cells[0]), re.findall(r"`([^`]+)`", cells[2])
        first, *rest = parts
        said = dict(results[first]) if first in results else {"fe": first}
        said |= dict(part.split(" = ", 1) for part in rest)
        results |= dict.fromkeys(names, said)
    return results


FORMULAS = formulas()


def counted(said, frames, clip, overlap, steps):
    values = {
        "N": frames,
        "F": clip,
        "O": overlap,
        "S": clip - overlap,
        "T": steps,
        "ceil": ceil,
        "max": max,
        "min": min,
    }
    for name, formula in said.items():
        if name != "fe":
            values[name] = eval(formula, {"__builtins__": {}}, values)
    return eval(said["fe"], {"__builtins__": {}}, values)


def test_every_method_has_its_formula():
    assert set(FORMULAS) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_formulas_are_what_the_plan_counts(name):
    method, checked = METHODS[name], 0
    for frames, clip, overlap, steps in GRID:
        try:
            todo = method.plan(Request(frames, clip, (1, 1, 1), (0,)), steps, method.options(overlap))
        except ValueError:  # clips of one frame that would be dropped whole
            continue
        assert todo.fe == counted(FORMULAS[name], frames, clip, overlap, steps), (frames, clip, overlap, steps)
        checked += 1
    assert checked > 0.9 * len(GRID)


def test_a_wrong_formula_is_seen(monkeypatch):
    """With half a clip for its whole half, as odd clips had it."""
    monkeypatch.setitem(FORMULAS, "fifo", FORMULAS["fifo"] | {"W": "ceil(T/(F/2))"})
    with pytest.raises(AssertionError):
        test_formulas_are_what_the_plan_counts("fifo")


def test_moving_windows_cost_what_the_page_says():
    asked = Request(40, 2, (1, 1, 1), (0,))
    said = [int(number) for number in re.search(r"N = 40, T = 2: (\d+) fe, static windows take (\d+)", TABLE).groups()]
    assert said == [plan(asked, 2, Options(0, windows=windows)).fe for windows in ("moving", "static")]
