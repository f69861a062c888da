"""Runs that share a suite's cells among them make the tables of one run that has them all."""

import sys

import pytest
from made_runs import grid, write

from reports.__main__ import main
from reports.multiple_comparisons import differences
from reports.pooled import pool
from reports.run_table import REFERENCE, load, rows, with_base
from reports.saved_videos import scenes

BASIS = {"weights": "w" * 64, "source": "s" * 64, "machine": "m1", "software": "v1"}
OTHER = BASIS | {"machine": "m2"}
COSTS = ("seconds_per_frame", "rss")


@pytest.fixture
def halves(tmp_path):
    """The whole run, and the same cells as two runs by two machines: overlap 2, overlap 4."""
    whole = write(tmp_path / "whole", grid(), basis=BASIS)
    parts = [
        write(tmp_path / f"part{overlap}", grid(overlaps=(overlap,)), basis={**BASIS, "machine": f"m{overlap}"})
        for overlap in (2, 4)
    ]
    return load(whole), [load(part) for part in parts]


def cells(run, *names):
    table = rows(run)
    return sorted(map(str, table[["frames", "method", "overlap", "precision", *names]].to_numpy().tolist()))


def test_parts_of_a_sweep_make_the_whole(halves):
    whole, parts = halves
    pooled = pool(parts)
    names = ("status", "fvd", "fvd_low", "fvd_high", "fvd_n", "action")
    assert cells(pooled, *names) == cells(whole, *names)
    assert list(pooled.manifest["axes"].items()) == list(whole.manifest["axes"].items())


def test_times_and_memory_of_two_machines_are_left_out_and_of_one_are_kept(tmp_path, halves):
    pooled = pool(halves[1])
    assert not set(COSTS) & set(pooled.measures)
    assert pooled.manifest["revision"] == "several"
    parts = [write(tmp_path / f"one{n}", grid(overlaps=(n,)), basis=BASIS) for n in (2, 4)]
    pooled = pool([load(part) for part in parts])
    assert set(COSTS) <= set(pooled.measures)
    assert cells(pooled, *COSTS) == cells(halves[0], *COSTS)


@pytest.mark.parametrize("order", [1, -1])
def test_a_cell_with_numbers_goes_before_a_crash_and_a_crash_before_nothing(tmp_path, order):
    crashed = write(tmp_path / "crashed", grid(), ends=("failed", "failed"), basis=BASIS)
    stopped = write(tmp_path / "stopped", grid(), ends=("not run", "not run", "ok"), basis=OTHER)
    pooled = pool([load(folder) for folder in (crashed, stopped)][::order])
    status = list(rows(pooled)["status"])
    assert status[-3:] == ["ok", "failed", "ok"]  # not run and ok, not run and failed, ok and failed
    assert status.count("ok") == len(status) - 1


def test_videos_are_those_of_the_run_that_made_the_cell(tmp_path):
    paths = [write(tmp_path / f"part{n}", grid(overlaps=(n,)), videos=1, basis={**BASIS, "machine": f"m{n}"})
             for n in (2, 4)]  # fmt: skip
    pooled = pool([load(path) for path in paths])
    shown = scenes(pooled, rows(pooled), most=99)
    assert shown.unreadable == []
    assert sum(len(scene.videos) for scene in shown.scenes) == len(pooled.records)


def test_what_all_runs_hold_fixed_is_fixed_wherever_their_plans_say_it(tmp_path):
    axis = write(tmp_path / "axis", grid(precisions=("fp32",)), fixed={"steps": 20}, basis=BASIS)
    fixed = write(tmp_path / "fixed", grid(methods=("ours",), precisions=("fp32",)), fixed={"steps": 20}, basis=OTHER)
    pooled = pool([load(axis), load(fixed)])
    assert "precision" not in pooled.axes
    assert pooled.manifest["fixed"] == {"steps": 20, "precision": "fp32"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"fixed": {"steps": 9}}, "agree in note: got several, and a\\b 'quoted' in"),
        ({"fixed": {"steps": 9, "note": "a\\b 'quoted'"}}, "agree in steps: got 9, and 20 in"),
        ({"suite": "other"}, "agree in suite: got other, and toy in"),
        ({"basis": BASIS | {"weights": "x" * 64}}, "use the same weights"),
    ],
)
def test_runs_that_do_not_compare_are_one_line(tmp_path, monkeypatch, capsys, changes, line):
    one = write(tmp_path / "one", grid(), basis=BASIS)
    two = write(tmp_path / "two", grid(), **{"basis": BASIS, **changes})
    monkeypatch.setattr(sys, "argv", ["reports", str(one), str(two)])
    assert main() == 3
    printed, error = capsys.readouterr()
    assert printed == ""
    assert line in error
    assert error.count("\n") == 1


def test_chosen_columns_are_printed_as_markdown(halves, monkeypatch, capsys):
    _, parts = halves
    words = [*(str(part.folder) for part in parts), "--tables", "--view", "markdown", "--measures", "is", "fvd"]
    monkeypatch.setattr(sys, "argv", ["reports", *words])
    assert main() == 0
    text = capsys.readouterr().out
    assert text.count("**toy at frames = ") == 2
    head = text.split("\n\n")[1].splitlines()[0]
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["method", "overlap", "precision", "IS", "FVD"]


def test_the_others_are_compared_with_the_base(halves):
    whole, _ = halves
    run = with_base(whole, "theirs")
    assert run.manifest["axes"]["method"] == ["theirs", "ours", "<i>evil</i>"]
    assert run.manifest["axes"]["overlap"] == whole.manifest["axes"]["overlap"]
    others = [
        each for each in differences(run, rows(run), ["fvd"]) if each.axis == "method" and each.other != REFERENCE
    ]
    assert any((each.of, each.other) == ("ours", "theirs") for each in others)
    with pytest.raises(ValueError, match=r"--base no: .*whole has ours, theirs, .*, 2, 4, fp32, bf16"):
        with_base(whole, "no")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--measures", "fvd"), "reports: --measures and --view markdown choose what --tables prints: add --tables\n"),
        (("--tables", "--measures", "fvd", "no"), "reports: --measures no: "),
    ],
)
def test_a_choice_of_columns_that_has_no_meaning_is_refused(halves, monkeypatch, capsys, words, line):
    monkeypatch.setattr(sys, "argv", ["reports", str(halves[0].folder), *words])
    assert main() == 3
    assert capsys.readouterr().err.startswith(line)
