"""Chains of gates whose truth is known."""

import json
import math
import random

import numpy as np
import pytest

from bench.results.creep import creep, cusum, steps
from bench.results.history import append, load, segments
from bench.results.verdicts import Finding

MACHINE = {"cpu": "x", "cores": 2, "memory_bytes": 10}
TORCH = {"torch": "2.5", "tree": "/somewhere", "threads": 1}


def gate(base, head, change=0.0, error=0.0, *, machine=MACHINE, torch=("2.5", "2.5"), verdict="INCONCLUSIVE", more=()):
    """The verdict of a gate that measured this change of the speed of one cell."""
    speed = Finding("cell", "speed", verdict, "because", "s", change=change, margin=0.03, error=error, n=120)
    return {
        "verdict": verdict, "base": base, "head": head, "machine": machine, "written": "2026-11-01",
        "software": {"base": {**TORCH, "torch": torch[0]}, "head": {**TORCH, "torch": torch[1]}},
        "findings": [finding.to_dict() for finding in (speed, *more)],
        "pairs": {"cell": [[1.0, 1 + change, group, ""] for group in range(40)]},
    }  # fmt: skip


def chains(tmp_path, gates, recipes=None):
    path = tmp_path / "history.jsonl"
    for each in gates:
        append(path, each, recipes or {"cell": "r"})
    entries, torn = load(path)
    assert torn == 0
    return segments(entries)


def line(changes, *, error=0.008, seed=0, **options):
    """Gates of revisions r0, r1, ... with these true changes."""
    draw = random.Random(seed)
    measured = [math.expm1(math.log1p(change) + draw.gauss(0, error)) for change in changes]
    return [gate(f"r{i}", f"r{i + 1}", change, error, **options) for i, change in enumerate(measured)]


def test_ratios_compose_and_errors_add_up_in_squares(tmp_path):
    ((chain,), upgrades) = chains(tmp_path, [gate("a", "b", 0.10, 0.03), gate("b", "c", -0.05, 0.04)])
    assert chain.revisions == ("a", "b", "c")
    assert np.exp(chain.levels) == pytest.approx([1, 1.10, 1.10 * 0.95])
    wide = 2.0227 / 1.9600  # Student's quantile of 40 pairs of processes to the normal one
    assert chain.rise(0, 2)[1] == pytest.approx(0.05 * wide, rel=1e-3)
    assert upgrades == []


def test_several_gates_of_one_step_and_one_over_many_all_count(tmp_path):
    twice = [gate("a", "b", 0.02, 0.01), gate("a", "b", 0.04, 0.01)]
    ((chain,), _) = chains(tmp_path, twice)
    assert chain.levels[1] == pytest.approx((math.log(1.02) + math.log(1.04)) / 2)
    (tmp_path / "more").mkdir()
    over = [*line(10 * [0.01], error=0.02), gate("r0", "r10", 1.01**10 - 1, 0.001)]
    ((chain,), _) = chains(tmp_path / "more", over)
    level, error = chain.rise(0, 10)
    assert level == pytest.approx(10 * math.log(1.01), abs=0.002)
    assert error < 0.0011


@pytest.mark.parametrize("seed", range(4))
def test_ten_times_one_percent_is_creep_that_all_ten_carried(tmp_path, seed):
    ((chain,), _) = chains(tmp_path, line(10 * [0.01], error=0.005, seed=seed))
    rise = creep(chain)
    assert rise.verdict == "FAIL"
    assert rise.low > chain.margin
    assert rise.first <= 2
    assert rise.last >= 8
    assert 3 < rise.passed <= rise.last
    assert len(rise.carriers) >= 6


def test_creep_without_noise_names_every_revision_and_where_the_margin_was_passed(tmp_path):
    ((chain,), _) = chains(tmp_path, line([0.0, 0.0, *10 * [0.01], -0.01], error=1e-5))
    rise = creep(chain)
    assert (rise.first, rise.last, rise.passed) == (rise.first, 12, 5 + (rise.first > 2))
    assert rise.first in (0, 1, 2)
    assert set(range(3, 13)) <= set(rise.carriers)
    assert cusum(chain)[12] == pytest.approx(10 * math.log(1.01), abs=1e-3)


def test_a_step_among_inconclusive_gates_is_located_with_its_interval(tmp_path):
    """No gate of these decides: the interval of the step itself, at 98 %, goes from some 2 to 8 %."""
    located = covered = 0
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        ((chain,), _) = chains(tmp_path / str(seed), line([0.0] * 6 + [0.05] + [0.0] * 6, error=0.012, seed=seed))
        found = {step.revision: step for step in steps(chain)}
        located += 7 in found
        covered += 7 in found and found[7].low < math.log(1.05) < found[7].high
        assert all(7 in step.places for step in found.values() if step.change > 0)
    assert located >= 9
    assert covered >= located - 1


def test_a_step_that_two_gates_may_have_measured_names_both(tmp_path):
    changes = {"ab": 0.0, "bc": 0.05, "cd": 0.047, "de": 0.0}
    gates = [gate(*sides, change, 0.01) for sides, change in changes.items()]
    ((chain,), _) = chains(tmp_path, gates)
    assert [(step.revision, step.places) for step in steps(chain)] == [(2, (2, 3)), (3, (3, 2))]


@pytest.mark.parametrize("small", [1e-3, 1e-6, 1e-12])
def test_errors_of_any_sizes_make_one_chain(tmp_path, small):
    ((chain,), _) = chains(
        tmp_path, [gate("a", "b", 0.01, 0.5), gate("b", "c", 1e-13, small), gate("c", "d", 0.2, 0.01)]
    )
    assert chain.rise(0, 3)[0] == pytest.approx(math.log(1.01 * 1.2))
    assert [step.revision for step in steps(chain)] == [3]


def test_nothing_is_seen_where_nothing_is(tmp_path):
    false_creeps = false_steps = 0
    for seed in range(60):
        (tmp_path / str(seed)).mkdir()
        ((chain,), _) = chains(tmp_path / str(seed), line(15 * [0.0], error=0.01, seed=seed))
        false_creeps += (rise := creep(chain)) is not None and rise.verdict == "FAIL"
        false_steps += bool(steps(chain))
    assert false_creeps <= 2
    assert false_steps <= 8


def test_an_upgrade_of_torch_is_no_revisions_fault(tmp_path):
    """In two environments the gate sees the upgrade; in a shared one both sides have it, and it sees nothing."""
    old, new = ("2.5", "2.5"), ("2.6", "2.6")
    before = [gate("a", "b", 0.001, 0.002, torch=old), gate("b", "c", 0.0, 0.002, torch=old)]
    after = [gate("d", "e", 0.002, 0.002, torch=new), gate("e", "f", -0.001, 0.002, torch=new)]
    upgrade = gate("c", "d", 0.04, 0.002, torch=("2.5", "2.6"), verdict="FAIL")
    found, (seen,) = chains(tmp_path, [*before, upgrade, *after])
    assert [chain.revisions for chain in found] == [("a", "b", "c"), ("d", "e", "f")]
    assert all(creep(chain) is None and not steps(chain) for chain in found)
    assert seen.software == "torch 2.5 -> 2.6"
    assert math.expm1(seen.edge.worse) == pytest.approx(0.04)
    (tmp_path / "shared").mkdir()
    found, upgrades = chains(tmp_path / "shared", [*before, gate("c", "d", 0.0, 0.002, torch=new), *after])
    assert [chain.revisions for chain in found] == [("a", "b", "c"), ("c", "d", "e", "f")]
    assert upgrades == []


def test_another_machine_or_recipe_opens_a_segment_and_memory_does_not(tmp_path):
    gates = [gate("a", "b"), gate("b", "c", machine={**MACHINE, "memory_bytes": 11}), gate("c", "d")]
    found, _ = chains(tmp_path, gates)
    assert [chain.revisions for chain in found] == [("a", "b", "c", "d")]
    found, _ = chains(tmp_path, [gate("d", "e", machine={**MACHINE, "cpu": "y"})])
    assert [chain.revisions for chain in found] == [("a", "b", "c", "d"), ("d", "e")]
    found, _ = chains(tmp_path, [gate("d", "e")], {"cell": "other"})
    assert [chain.revisions for chain in found][-1] == ("d", "e")
    assert len(found) == 3


def test_revisions_that_no_gate_joins_are_not_compared(tmp_path):
    found, _ = chains(tmp_path, [gate("a", "b", 0.02), gate("c", "d", 0.02), gate("a", "a"), gate("b", "e+changes")])
    assert [chain.revisions for chain in found] == [("a", "b"), ("c", "d")]


def test_equal_outputs_keep_the_chain_of_quality(tmp_path):
    """A gate whose outputs are equal judges no quality, because it cannot have changed."""
    equal = Finding("cell", "output", "PASS", "equal bits", head=0.0, margin=1e-4)
    fvd = [Finding("cell", "fvd", "PASS", "", change=0.08, margin=0.1, error=0.01, n=24)]
    caption = [Finding("cell", "caption", "PASS", "", change=-0.02, margin=0.1, error=0.001, n=24, better="higher")]
    gates = [gate("a", "b", more=[*fvd, *caption]), gate("b", "c", more=[equal]), gate("c", "d", more=[*fvd, *caption])]
    found, _ = chains(tmp_path, gates)
    by_measure = {chain.measure: chain for chain in found}
    assert by_measure["fvd"].revisions == ("a", "b", "c", "d")
    assert by_measure["fvd"].levels == pytest.approx([0, 0.08, 0.08, 0.16], abs=1e-6)
    assert creep(by_measure["fvd"]).verdict == "FAIL"
    assert set(creep(by_measure["fvd"]).carriers) == {1, 3}
    assert by_measure["caption"].levels[-1] == pytest.approx(0.04, abs=1e-6)  # worse: the probability fell


def test_a_line_that_was_never_finished_costs_only_itself(tmp_path):
    path = tmp_path / "history.jsonl"
    append(path, gate("a", "b"), {"cell": "r"})
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    append(path, gate("b", "c"), {"cell": "r"})
    entries, torn = load(path)
    assert [(entry.base, entry.head) for entry in entries] == [("a", "b"), ("b", "c")]
    assert torn == 1
    assert path.read_bytes().startswith(whole)  # nothing is rewritten
    path.write_bytes(path.read_bytes() + whole)  # two branches of the file were joined
    assert len(load(path)[0]) == 2


def test_what_is_no_journal_is_refused_in_one_line(tmp_path):
    path = tmp_path / "history.jsonl"
    with pytest.raises(ValueError, match="which is no file"):
        load(path)
    for content in ({"schema": 2}, {"schema": 1}, [], {"schema": 1, "software": []}):
        path.write_text(json.dumps(content) + "\n")
        with pytest.raises(ValueError, match="line 1, is no entry of a history"):
            load(path)
    path.unlink()
    append(path, gate("a", "b"), {"cell": "r"})
    (whole,) = path.read_text().splitlines()
    path.write_text(f"{whole}\n{whole}\n{{}}\n")
    with pytest.raises(ValueError, match="line 3, is no entry of a history"):  # lines that two files share count, too
        load(path)
    entry = json.loads(whole)
    for field, value in (
        ("findings", [{**entry["findings"][0], "change": "much"}]),
        ("findings", [{**entry["findings"][0], "verdict": "GOOD"}]),
        ("log_ratios", {"cell": [[[0], 0.1]]}),
        ("log_ratios", {"cell": [1]}),
        ("recipes", ["r"]),
    ):
        path.write_text(json.dumps({**entry, field: value}) + "\n")
        with pytest.raises(ValueError, match="line 1, is no entry of a history"):
            load(path)
