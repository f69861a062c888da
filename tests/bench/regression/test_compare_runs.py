import json
from dataclasses import replace

import pytest

from bench.regression.compare_runs import compare, load
from bench.results.records import Attempt, Cell, Number, Record, append
from bench.results.verdicts import overall

NUMBERS = {
    "fvd": Number(2.0, "", "lower", 24, 1.9, 2.1),
    "motion": Number(0.3, "", "real", 24, 0.2, 0.4),
    "seconds_per_frame": Number(0.1, "s", "lower", 6),
    "fe_per_frame": Number(20.0, "1/frame", "lower", 24),
    "process_peak": Number(1e9, "bytes", "lower"),
    "activations": Number(1e8, "bytes", "lower"),
    "wait": Number(0.0, "s", "lower", 6),
}
MACHINE = {**dict.fromkeys(("system", "cpu", "gpu", "driver"), "x"), "cores": 2, "memory_bytes": 2**33}
SECONDS = {"total_seconds": (0.98, 1.0, 1.01, 1.0, 1.02, 0.99), "wait": (0.0,) * 6}


def write(folder, *, values=None, status="ok", machine="m", weights="w", suite="pocket", workload="pocket", **numbers):
    """A run of one cell, its numbers replaced by those given (None: absent)."""
    folder.mkdir()
    cell = Cell(workload, values or {"method": "vidrd", "frames": 16}, {"source": folder.name})
    kept = {name: number for name, number in {**NUMBERS, **numbers}.items() if number is not None}
    absent = {name: "lost" for name in numbers if numbers[name] is None}
    attempt = Attempt(status, "" if status == "ok" else "because")
    record = Record(cell, attempt, *((kept, SECONDS, absent) if status == "ok" else ()))
    append(folder / "records.jsonl", record)
    manifest = {
        **dict.fromkeys(("hash", "workload", "question", "written"), "x"),
        "suite": suite, "revision": folder.name, "group": "frames", "axes": {"frames": [16]},
        "fixed": {}, "machine": MACHINE, "software": {},
        "basis": {"machine": machine, "software": "s", "weights": weights},
        "measures": {"fvd": {"title": "FVD", "unit": "", "better": "lower", "table": "quality", "definition": ""}},
        "cells": [{"id": cell.id, "values": dict(cell.values), "reference": False}],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return load(folder)


def verdicts(base, head, **margins):
    return {finding.measure: finding.verdict for finding in compare(base, head, **margins)}


def test_equal_runs_pass_and_measures_without_direction_are_not_judged(tmp_path):
    by_measure = verdicts(write(tmp_path / "a"), write(tmp_path / "b"))
    assert by_measure == dict.fromkeys(NUMBERS.keys() - {"motion"}, "PASS")


def test_a_setting_that_came_later_does_not_keep_runs_apart(tmp_path):
    before = {"method": "vidrd", "frames": 16}
    runs = [write(tmp_path / name, values=values, workload="lengths")
            for name, values in (("a", before), ("b", before | {"solver": "ddim"}))]  # fmt: skip
    assert overall(compare(*runs)) == "PASS"
    with pytest.raises(ValueError, match="no cell in common"):
        compare(runs[0], write(tmp_path / "c", values=before | {"solver": "unipc"}, workload="lengths"))


def test_other_weights_are_another_model_and_no_pass_unless_that_is_meant(tmp_path):
    runs = write(tmp_path / "a"), write(tmp_path / "b", weights="others")
    findings = compare(*runs)
    assert (findings[0].measure, findings[0].verdict) == ("weights", "CALIBRATION_NEEDED")
    assert "--other-weights compares them all the same" in findings[0].reason
    assert overall(findings) == "CALIBRATION_NEEDED"
    assert overall(compare(*runs, other_weights=True)) == "PASS"


@pytest.mark.parametrize(
    ("measure", "number", "verdict"),
    [
        ("fvd", Number(3.0, "", "lower", 24, 2.9, 3.1), "FAIL"),
        ("fvd", Number(2.15, "", "lower", 24, 2.0, 2.3), "INCONCLUSIVE"),
        ("fvd", Number(1.5, "", "lower", 24, 1.4, 1.6), "PASS"),
        ("fvd", None, "INVALID"),
        ("seconds_per_frame", Number(0.2, "s", "lower", 6), "INCONCLUSIVE"),
        ("seconds_per_frame", Number(0.05, "s", "lower", 6), "PASS"),
        ("fe_per_frame", Number(25.0, "1/frame", "lower", 24), "FAIL"),
        ("process_peak", Number(1.02e9, "bytes", "lower"), "PASS"),
        ("process_peak", Number(1.2e9, "bytes", "lower"), "FAIL"),
        ("process_peak", Number(1.0e6, "kB", "lower"), "INVALID"),
        ("activations", Number(1.2e8, "bytes", "lower"), "FAIL"),
        ("activations", Number(0.8e8, "bytes", "lower"), "PASS"),
        ("wait", Number(0.5, "s", "lower", 6), "INCONCLUSIVE"),
        ("wait", Number(-1e-17, "s", "lower", 6), "PASS"),
    ],
)
def test_a_change_is_what_it_is(tmp_path, measure, number, verdict):
    assert verdicts(write(tmp_path / "a"), write(tmp_path / "b", **{measure: number}))[measure] == verdict


def test_an_interval_cut_at_the_end_of_its_range_has_the_error_of_its_longer_side(tmp_path):
    base = write(tmp_path / "a", action=Number(0.98, "", "higher", 24, 0.92, 1.0))
    head = write(tmp_path / "b", action=Number(0.97, "", "higher", 24, 0.91, 1.0))
    (finding,) = [finding for finding in compare(base, head) if finding.measure == "action"]
    assert finding.error == pytest.approx(0.06 * 2**0.5 / 1.96)


@pytest.mark.parametrize(("value", "verdict"), [(2.0, "PASS"), (3.0, "INCONCLUSIVE")])
def test_a_difference_without_an_interval_is_no_share_as_that_of_a_count_is(tmp_path, value, verdict):
    runs = (write(tmp_path / name, error=Number(each, "", "lower")) for name, each in (("a", 2.0), ("b", value)))
    (found,) = [finding for finding in compare(*runs) if finding.measure == "error"]
    assert (found.verdict, found.base, found.head, found.change, found.margin) == (verdict, 2.0, value, None, None)


def test_two_runs_never_prove_a_slow_down_alone(tmp_path):
    slow = Number(1.0, "s", "lower", 6)
    (found,) = [
        finding
        for finding in compare(write(tmp_path / "a"), write(tmp_path / "b", seconds_per_frame=slow))
        if finding.measure == "seconds_per_frame"
    ]
    assert "measure both in one with `bench gate`" in found.reason
    assert found.change == pytest.approx(9.0)


@pytest.mark.parametrize("unit", ["%", "x", "GFLOP/s", "1/s", "J"])
def test_shares_speeds_and_ratios_say_what_times_say_and_are_not_judged(tmp_path, unit):
    base = write(tmp_path / "a", speed=Number(60.0, unit, "higher", 6, 59.0, 61.0))
    assert "speed" not in verdicts(base, write(tmp_path / "b", speed=None))
    assert "speed" not in verdicts(base, write(tmp_path / "c", speed=Number(30.0, unit, "higher", 6, 29.0, 31.0)))


@pytest.mark.parametrize("which", ["base", "head"])
def test_times_of_an_emulated_precision_are_never_compared(tmp_path, which):
    sides = {"base": write(tmp_path / "a"), "head": write(tmp_path / "b", seconds_per_frame=Number(9.0, "s", "lower"))}
    cells = {key: replace(record, facts={"emulated": "bf16"}) for key, record in sides[which].cells.items()}
    sides[which] = sides[which]._replace(cells=cells)
    by_measure = verdicts(sides["base"], sides["head"])
    assert "seconds_per_frame" not in by_measure
    assert by_measure["fvd"] == "PASS"


def test_another_machine_needs_calibration(tmp_path):
    base, head = (
        write(tmp_path / "a"),
        write(tmp_path / "b", machine="other", process_peak=Number(2e9, "bytes", "lower")),
    )
    by_measure = verdicts(base, head)
    assert by_measure["seconds_per_frame"] == by_measure["process_peak"] == "CALIBRATION_NEEDED"
    assert by_measure["fvd"] == by_measure["fe_per_frame"] == "PASS"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("ok", "oom", "FAIL"),
        ("ok", "failed", "INVALID"),
        ("failed", "ok", "CALIBRATION_NEEDED"),
        ("oom", "failed", "INVALID"),
    ],
)
def test_how_a_cell_ends(tmp_path, before, after, verdict):
    findings = compare(write(tmp_path / "a", status=before), write(tmp_path / "b", status=after))
    assert [(finding.measure, finding.verdict) for finding in findings] == [("run", verdict)]


def test_equal_ends_are_no_news_and_cells_of_one_side_are(tmp_path):
    assert compare(write(tmp_path / "a", status="oom"), write(tmp_path / "b", status="oom")) == []
    base, head = write(tmp_path / "c"), write(tmp_path / "d")
    new = write(tmp_path / "e", values={"method": "other", "frames": 16})
    both = head._replace(cells={**head.cells, **new.cells})
    assert overall(compare(base, both)) == "CALIBRATION_NEEDED"
    assert overall(compare(both, base)) == "INVALID"
    with pytest.raises(ValueError, match="have no cell in common"):
        compare(base, new)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no run"):
        load(tmp_path)


def test_replaced_records_are_the_last(tmp_path):
    side = write(tmp_path / "a")
    (record,) = side.cells.values()
    append(tmp_path / "a" / "records.jsonl", replace(record, numbers={**record.numbers, "fvd": Number(9.0)}))
    (last,) = load(tmp_path / "a").cells.values()
    assert last.numbers["fvd"].value == 9.0
