"""The simulation on cases that can be done by hand, and the page that is made from it."""

import json

import pytest

from bench.hardware.machine import ROOT
from bench.studies.scale import KEPT, RunPart, counted, finish, hours, losses, runs, tables

PIECES = (4.0, 3.0, 2.0, 2.0, 1.0)


def test_each_piece_goes_to_the_worker_that_is_free_first():
    assert finish([PIECES], 1) == 12.0
    assert finish([PIECES], 2) == 6.0  # 4, then 2; 3, then 2 and 1
    assert finish([PIECES], 9) == 4.0
    assert finish([PIECES], 2, start=10.0) == 16.0
    assert finish([(1.0,), (3.0, 3.0)], 2, start=10.0) == 1.0 + 3.0 + 20.0
    assert finish([], 2) == finish([()], 2) == 0.0


def test_every_hour_that_is_lost_has_a_cause():
    stages = [RunPart("one", ((10.0,), PIECES), start=5.0, serial=7.0), RunPart("two", (PIECES,), start=1.0)]
    for workers in (1, 2, 3, 64):
        ideal = (10 + 2 * sum(PIECES)) / workers / 3600
        assert sum(losses(stages, workers).values()) == pytest.approx(hours(stages, workers) - ideal)
        assert min(losses(stages, workers).values()) >= -1e-12
    alone = losses(stages, 1)
    assert alone["last pieces"] == pytest.approx(0, abs=1e-12)
    assert alone["one process"] == 7.0 / 3600
    assert losses(stages, 2)["waiting for a reference"] > 0


def test_a_sweep_waits_for_its_plain_cell_and_more_workers_waste_more():
    kept = json.loads(KEPT.read_text())
    sweep = {workers: runs(kept["work"], workers)["sweep of a 14B model"] for workers in (1, 8, 64)}
    assert [len(group) for group in sweep[8][0].tasks] == [1, 99]
    wasted = [losses(stages, workers)["waiting for a reference"] for workers, stages in sweep.items()]
    assert wasted[0] < wasted[1] < wasted[2]


def test_the_page_has_the_tables_and_the_real_run_is_within_15_percent():
    kept = json.loads(KEPT.read_text())
    assert tables(kept) in (ROOT / "docs" / "scale.md").read_text()
    assert (kept["check"]["cells"], kept["check"]["workers"]) == (40, 2)
    for seconds in kept["check"]["simulated_seconds"].values():  # from times beside others, and alone
        assert seconds == pytest.approx(kept["check"]["wall_seconds"], rel=0.15)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_work_is_what_the_networks_of_today_count():
    assert counted() == pytest.approx(json.loads(KEPT.read_text())["work"], rel=1e-6)
