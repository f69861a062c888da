"""What a number of videos can tell follows from the spread of the pilot's paired differences."""

import math
import sys

import numpy as np
import pytest
from made_runs import POCKET_AXES, measure, measured, pocket
from scipy.special import stdtrit

from reports.power import main, power
from reports.run_table import load, rows

VIDEOS = 24
AXES = POCKET_AXES | {"frames": [16], "method": ["independent", "direct"], "overlap": [4], "precision": ["fp32"]}


@pytest.fixture
def pilot(tmp_path):
    """Two methods whose paired differences have exactly the spread 1 and the mean 0.3."""
    draw = np.random.default_rng(0).standard_normal(VIDEOS)
    spread = (draw - draw.mean()) / draw.std(ddof=1)

    def of(values):
        added = spread + 0.3 if values["method"] == "direct" else np.zeros(VIDEOS)
        return {"mirror": measured((np.arange(VIDEOS) + added).tolist())}

    return pocket(tmp_path / "pilot", AXES, of, {"mirror": measure("mirror", "", "lower", "quality")})


def test_the_detectable_difference_is_the_paired_t_test_s(pilot):
    ((title, *reach, largest),) = power(load(pilot), rows(load(pilot)), [VIDEOS, 4 * VIDEOS])
    expected = stdtrit(VIDEOS - 1, 0.975) / math.sqrt(VIDEOS)
    assert title == "mirror"
    assert float(reach[0]) == pytest.approx(expected, rel=0.02)
    assert float(reach[1]) == pytest.approx(expected / 2, rel=0.06)  # with a little less for its degrees of freedom
    assert float(largest) == pytest.approx(0.3, rel=0.02)


def test_the_command_prints_a_column_for_each_number(pilot, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["power", str(pilot), "--videos", "12", "48"])
    assert main() == 0
    assert "12 videos" in (printed := capsys.readouterr().out)
    assert "48 videos" in printed


@pytest.mark.parametrize("count", ["0", "1"])
def test_one_video_tells_nothing_and_is_refused(pilot, count, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["power", str(pilot), "--videos", count])
    assert main() == 3
    assert capsys.readouterr().err == f"reports: --videos are counts from 2 upwards: got {count}, try 12 24 48\n"


def test_cells_that_do_not_compare_are_refused(tmp_path, monkeypatch, capsys):
    alone = AXES | {"method": ["independent"]}
    folder = pocket(tmp_path / "one", alone, lambda values: {"mirror": measured([0.0, 1.0, 2.0])},
                    {"mirror": measure("mirror", "", "lower", "quality")})  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["power", str(folder)])
    assert main() == 3
    assert "no two cells of it have numbers with intervals that compare" in capsys.readouterr().err
