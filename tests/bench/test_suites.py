import pytest

from bench.harness.suite_spec import override, plan, with_emulated
from bench.methods import METHODS
from bench.suites import SUITES
from bench.videos.columns import FLOW_MEASURES, MEASURES
from bench.videos.plan import plan_of, steps_of
from bench.videos.video_suites import POCKET, settle
from bench.workloads import WORKLOADS
from vidrd.precision import default_precisions


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_belongs_to_a_workload_and_splits_its_tables_by_an_axis(name):
    suite = SUITES[name]
    assert suite.workload in WORKLOADS
    assert suite.group in {*suite.axes, *suite.fixed}
    assert set(suite.headlines) <= set(suite.measures)
    assert all(item.cost > 0 for item in plan(suite, {}) if item.skip is None)


@pytest.mark.parametrize("name", [name for name, suite in SUITES.items() if suite.workload == "pocket"])
def test_every_suite_of_videos_has_a_plan_that_can_run(name):
    suite = SUITES[name]
    planned = plan(suite, {})
    assert [item.skip for item in planned] == [None] * len(planned)
    assert planned[0].reference
    assert "pocket world" in suite.question


def test_the_pocket_suite_is_the_grid_it_promises():
    planned = [item.cell.values for item in plan(POCKET, {}) if not item.reference]
    points = [(v["method"], v["frames"], v["overlap"], v["precision"]) for v in planned]
    assert len(points) == len(set(points)) == 16
    for precision in default_precisions("cpu"):
        for frames in (16, 32):
            for overlap in (2, 6):
                assert ("vidrd", frames, overlap, precision) in points
            for method in ("independent", "direct"):
                assert (method, frames, 0, precision) in points
    references = [item.cell.values for item in plan(POCKET, {}) if item.reference]
    assert [(v["method"], v["frames"]) for v in references] == [("real", 16), ("real", 32)]


def test_the_main_table_is_at_equal_fe_and_holds_every_method():
    planned = [item.cell.values for item in plan(SUITES["samplers"], {}) if not item.reference]
    assert [values["method"] for values in planned] == list(METHODS)
    assert {values["equal"] for values in planned} == {"fe"}
    assert all(plan_of(values).fe / values["frames"] <= values["steps"] for values in planned)
    for name in ("steps", "seconds"):
        suite = SUITES[f"samplers-{name}"]
        assert suite.group == "equal"
        assert {item.cell.values["equal"] for item in plan(suite, {})} == {name}
    at_equal_steps = [item.cell.values for item in plan(SUITES["samplers-steps"], {}) if not item.reference]
    assert {steps_of(values) for values in at_equal_steps} == {SUITES["samplers"].fixed["steps"]}


def test_the_ablation_crosses_all_of_vidrds_ideas_and_leaves_out_what_means_nothing():
    planned = [item.cell.values for item in plan(SUITES["ablation"], {}) if not item.reference]
    axes = ("reverse", "overlap", "alpha", "beta", "join")
    without, planned = planned[0], planned[1:]
    assert (without["method"], without["alpha"], without["beta"], without["overlap"]) == ("independent", 0, 0, 0)
    assert {values["method"] for values in planned} == {"vidrd"}
    points = {tuple(values[axis] for axis in axes) for values in planned}
    assert len(points) == len(planned) == 2 * 3 * 2 * 2 + 2 * 3 * 2
    assert {"mirror", "repeat", "seam_off"} <= set(SUITES["ablation"].headlines)
    assert not any(not reverse and join == "keep" for reverse, *_, join in points)
    at_zero = override(SUITES["ablation"], ["overlap=0"])
    assert {(item.cell.values["join"], item.cell.values["beta"]) for item in plan(at_zero, {})} == {("keep", 0.0)}
    remedies = override(SUITES["ablation"], ["stages=constant", "guide=blend", "reverse=False"])
    assert {item.skip for item in plan(remedies, {})} == {None}


@pytest.mark.parametrize(
    ("assignments", "cells"),
    [
        (["beta=0,0.4", "stages=linear,constant", "guide=hard,blend"], 1 + 4),
        (["overlap=8", "alpha=0,1,4"], 1),
        (["overlap=8", "alpha=0,1,4", "beta=0", "compat=released"], 3),
        (["overlap=0", "alpha=0", "reverse=True,False", "beta=0,0.4"], 1),
        (["overlap=0", "alpha=1,4", "reverse=True,False"], 4),
        (["compat=paper,released"], 2),
    ],
)
def test_what_changes_nothing_makes_no_cells(assignments, cells):
    one = ["method=vidrd", "reverse=True", "overlap=4", "alpha=4", "beta=0.4", "join=keep"]
    named = {word.partition("=")[0] for word in assignments}
    suite = override(SUITES["ablation"], [*(word for word in one if word.partition("=")[0] not in named), *assignments])
    assert len([item for item in plan(suite, {}) if not item.reference]) == cells


def test_every_published_trap_has_its_row_beside_the_paper():
    planned = [item.cell.values for item in plan(SUITES["compat"], {}) if not item.reference]
    assert [(values["method"], values["compat"]) for values in planned] == [
        ("vidrd", "paper"), ("vidrd", "released"), ("codenoise", "paper"), ("codenoise", "genl"),
        ("freenoise", "paper"), ("freenoise", "official"), ("fifo", "paper"), ("fifo", "official"),
    ]  # fmt: skip
    mixin = override(SUITES["compat"], ["method=freenoise,direct", "compat=paper,diffusers", "frames=31"])
    chosen = [item.cell.values for item in plan(mixin, {}) if not item.reference]
    assert [(values["method"], values["compat"]) for values in chosen] == [
        ("freenoise", "paper"), ("freenoise", "diffusers"), ("direct", "paper"),
    ]  # fmt: skip


def test_an_overlap_means_something_to_methods_that_take_one_and_to_no_other():
    for name, method in METHODS.items():
        overlaps = {settle({"method": name, "overlap": overlap, "device": "cpu"})["overlap"] for overlap in (2, 4)}
        assert overlaps == ({2, 4} if method.takes_overlap else {0})


@pytest.mark.parametrize(
    ("assignments", "reason"),
    [
        (["overlap=9", "method=vidrd"], "an overlap is at most the clip: got 9 frames of clips of 8"),
        (["frames=15"], "15 frames are fewer than the classifiers' window of 16"),
        (["batch=5"], "33 videos do not come in batches of 5"),
    ],
)
def test_what_cannot_run_says_why(assignments, reason):
    suite = override(POCKET, ["videos=33", "device=cpu", *assignments])
    reasons = {item.skip for item in plan(suite, {}) if not item.reference}
    assert len(reasons) == 1
    assert reasons.pop().startswith(reason)


def test_what_cannot_run_does_not_stop_what_can():
    suite = override(POCKET, ["overlap=4,9"])
    skipped = [item.cell.values["overlap"] for item in plan(suite, {}) if item.skip]
    assert skipped == [9] * 4


def test_without_a_gpu_a_cuda_cell_is_skipped(monkeypatch):
    monkeypatch.setattr("bench.videos.video_suites.has_cuda", lambda: False)
    planned = plan(override(POCKET, ["device=cuda", "precision=fp16"]), {})
    assert {item.skip for item in planned if not item.reference} == {"no CUDA device was found"}
    assert {item.cell.values["device"] for item in plan(POCKET, {})} == {"cpu"}


def test_measures_of_flow_belong_to_the_sampler_suites():
    asking = {name for name, suite in SUITES.items() if set(FLOW_MEASURES) <= set(suite.measures)}
    assert asking == {"samplers", "samplers-steps", "samplers-seconds", "ablation", "compat", "lengths"}
    assert not set(FLOW_MEASURES) & set(POCKET.measures)


def test_every_measure_says_what_it_is():
    for measure in (MEASURES | FLOW_MEASURES).values():
        assert measure.definition.endswith((".", "clips.", "conditions."))
        assert len(measure.title) <= 12


def test_emulated_precisions_are_rows_with_their_reason_until_they_are_asked_for(monkeypatch):
    monkeypatch.setattr("bench.hardware.device.why_emulated", lambda precision, device: f"{precision} is emulated here")
    suite = override(POCKET, ["device=cpu", "precision=bf16", "videos=33"])
    cells = [item for item in plan(suite, {}) if not item.reference]
    assert {item.skip for item in cells} == {"bf16 is emulated here: its times would say nothing about it"}
    asked = [item for item in plan(with_emulated(suite), {}) if not item.reference]
    assert [item.cell.id for item in asked] == [item.cell.id for item in cells]
    assert {item.skip for item in asked} == {None}


def test_what_cannot_run_at_all_is_said_before_what_is_emulated(monkeypatch):
    monkeypatch.setattr("bench.hardware.device.why_emulated", lambda precision, device: "emulated")
    (reason,) = {i.skip for i in plan(override(POCKET, ["device=cpu", "frames=15"]), {}) if not i.reference}
    assert reason.startswith("15 frames are fewer")


@pytest.mark.parametrize("name", ["kernels", "memory", "approximations"])
def test_other_suites_leave_out_what_is_emulated(name, monkeypatch):
    monkeypatch.setattr(
        "bench.hardware.device.why_emulated", lambda precision, device: None if precision == "fp32" else "emulated"
    )
    axes = ["approximation=exact,bf16"] if name == "approximations" else ["precision=fp32,bf16"]
    reasons = {item.skip for item in plan(override(SUITES[name], [*axes, "device=cpu"]), {})}
    assert "emulated: its times would say nothing about it" in reasons
    assert None in reasons


def test_a_ladder_leaves_out_what_is_emulated(monkeypatch):
    monkeypatch.setattr(
        "bench.speed.variants.why_emulated", lambda precision, device: None if precision == "fp32" else "emulated"
    )
    planned = plan(override(SUITES["speed"], ["model=tiny", "device=cpu"]), {})
    reasons = {str(item.cell.values["rung"]): item.skip for item in planned}
    assert (reasons["bf16"], reasons["guidance"]) == ("emulated", None)
