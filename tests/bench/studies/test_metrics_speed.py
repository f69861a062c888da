"""The bench of the metrics says what it measured, what it could not, and when results differ that should not."""

import json
import sys

import pytest

from bench.studies import metrics_speed
from bench.studies.metrics_speed import (
    Files,
    Stages,
    Vision,
    files_speed,
    main,
    noisy_scenes,
    stages_speed,
    vision_speed,
)
from tests.metrics.video_files import write_lossless


@pytest.fixture
def folder(tmp_path):
    for i, video in enumerate(noisy_scenes(4, 0)):
        write_lossless(tmp_path / f"{i}.mkv", video[:, ::4, ::4].copy())
    return tmp_path


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(metrics_speed, "SIDE", 256)
    monkeypatch.setattr(metrics_speed, "ROWS", 30)


@pytest.mark.slow
def test_every_stage_and_the_floor_of_all_have_a_speed(folder, capsys):
    for name in ("2.mkv", "3.mkv"):
        (folder / name).unlink()
    results = stages_speed(Stages(folder, clips=6, batch=2, rounds=1, compiled=False))
    assert (results["clips"], results["asked_for"]) == (2, 6)
    assert "6 clips were requested" in capsys.readouterr().err
    speeds = {name: results[name]["clips_per_second"] for name in ("decode", "resize", "network", "statistics")}
    assert min(speeds.values()) > results["one after the other"]["clips_per_second"] > 0
    assert results["floor"]["gflop_per_clip"] == pytest.approx(55.6, abs=0.3)
    rate = results["floor"]["matrix_product_gflops"] / results["floor"]["gflop_per_clip"]
    assert results["floor"]["clips_per_second"] == pytest.approx(rate)


@pytest.mark.slow
def test_ours_and_the_straightforward_way_have_one_result(folder):
    results = files_speed(Files(folder, clips=4, rounds=1, compiled=False))
    assert results["clips"] == 4
    assert results["relative_difference"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("ours", "verdict"), [(10.0, "yes"), (10.000009, "yes"), (10.00002, "FAILED"), (9.9, "FAILED")]
)
def test_results_that_differ_are_called_failed(ours, verdict, monkeypatch, capsys):
    rows = metrics_speed._side_by_side({"ours": [ours], "cd-fvd": [10.0]}, {"ours": [1.0], "cd-fvd": [3.0]}, 6)
    assert rows["times_as_fast"] == 3
    assert rows["equal_results"].startswith(verdict)
    monkeypatch.setattr(metrics_speed, "files_speed", lambda _: rows)
    monkeypatch.setattr(sys, "argv", ["metrics_speed", "files", "--folder", "."])
    if verdict == "yes":
        main()
    else:
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
    assert json.loads(capsys.readouterr().out)["equal_results"].startswith(verdict)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["dino", "clip", "videomae"])
def test_our_networks_of_vision_compute_what_the_plain_path_does(network):
    report = vision_speed(Vision(network, rows=1, rounds=1, depth=1, compiled=False))
    assert report["plain"]["times_as_fast_as_plain"] == 1
    assert 0 < report["ours"]["largest_relative_difference"] < 1e-4
