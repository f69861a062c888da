import json
import subprocess
import sys

import pytest

from bench.hardware.machine import ROOT
from bench.harness.job import Job
from bench.harness.suite_spec import override, plan, select
from bench.results.records import InvalidError, Number, read
from bench.speed.cell import LADDER, load, run, save
from bench.speed.round_robin import VariantResult
from bench.speed.speed_suites import SPEED_SUITE

TINY = ["device=cpu", "model=tiny", "compiled=False", "rounds=2", "seconds=1"]


@pytest.mark.precision
def test_a_run_prints_the_ladder_and_every_row_comes_from_one_process(tmp_path):
    words = [word for setting in (*TINY, "rung=reference,sdpa,compile") for word in
             ("--set", setting)]  # fmt: skip
    command = [sys.executable, "-m", "bench", "run", "--suite", "speed", *words, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = {record.cell.values["rung"]: record for record in read(tmp_path / "run" / "records.jsonl").records}
    assert records.pop("compile").attempt.reason == "nothing is compiled here: compiled=True does"
    assert {record.attempt.status for record in records.values()} == {"ok"}
    (ladder,) = (tmp_path / "run" / "cells").rglob(LADDER)
    together = load(ladder)
    for name, record in records.items():
        assert record.numbers == together[name].numbers
        assert len(record.samples["step_seconds"]) == 2
    for title in ("reference", "sdpa", "% of bound", "faster"):
        assert title in done.stdout


def job(tmp_path, variant):
    planned = plan(override(SPEED_SUITE, [*TINY, f"rung={variant}"]), {})
    values = next(item.cell.values for item in planned if item.cell.values["rung"] == variant)
    return Job(values, tmp_path, tmp_path)


def test_each_rung_ends_as_it_ended_in_its_ladder(tmp_path):
    good = VariantResult(
        "ok", "", {"speedup": Number(2.0, "x", "higher", 6, 1.9, 2.1)}, {"step_seconds": (1.0, 2.0)}, {"a": "b"}
    )
    bad = {
        "layout": VariantResult("invalid", "wrong"),
        "guidance": VariantResult("oom", "too large"),
        "bf16": VariantResult("failed", "broken"),
    }
    save(tmp_path / LADDER, {"sdpa": good, **bad})
    assert load(tmp_path / LADDER)["sdpa"] == good
    assert run(job(tmp_path, "sdpa")).numbers == good.numbers
    for variant, error, reason in (
        ("layout", InvalidError, "wrong"), ("guidance", MemoryError, "too large"), ("bf16", RuntimeError, "broken")
    ):  # fmt: skip
        with pytest.raises(error, match=reason):
            run(job(tmp_path, variant))


def test_a_ladder_that_is_killed_leaves_its_rounds(tmp_path, monkeypatch):
    def killed(*args, keep, **options):
        keep({"reference": VariantResult("ok", "", {"speedup": Number(1.0, "x")})})
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.speed.cell.time_variants", killed)
    with pytest.raises(KeyboardInterrupt):
        run(job(tmp_path, "reference"))
    assert load(tmp_path / LADDER)["reference"].numbers["speedup"].value == 1


def test_the_suite_gives_its_ladder_more_time_than_others_have():
    assert SPEED_SUITE.timeout == 1800
    assert override(SPEED_SUITE, TINY).timeout == 1800


def test_the_file_of_a_ladder_is_plain_json(tmp_path):
    save(tmp_path / LADDER, {"reference": VariantResult()})
    assert json.loads((tmp_path / LADDER).read_text())["reference"]["status"] == "ok"


def test_the_full_size_is_refused_on_a_cpu_and_no_rung_is_reported_apart():
    planned = plan(override(SPEED_SUITE, ["device=cpu"]), {})
    assert not any(item.reference for item in planned)
    reasons = {str(item.skip) for item in planned if item.cell.values["model"] == "full"}
    assert reasons == {"7.6 TFLOP a step are minutes on a CPU, and its ladder some hours: take a GPU, or model=sd-106m"}
    names = {item.cell.values["rung"]: item.skip for item in planned if item.cell.values["model"] == "pocket"}
    assert names["bf16-4-clips"] == "it is meant for cuda"
    assert names["reference"] is names["guidance"] is None


def test_a_chosen_rung_brings_its_ladder():
    planned = plan(override(SPEED_SUITE, TINY), {})
    chosen = select(planned, override(SPEED_SUITE, TINY), ["rung=layout"], [])
    assert [item.cell.values["rung"] for item in chosen] == ["reference", "layout"]
