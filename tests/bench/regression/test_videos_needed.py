import math
import time
from pathlib import Path

import pytest

from bench.regression import interleaved
from bench.regression.interleaved import MeasuredCell, Settings
from bench.regression.speed_test import SpeedTest
from bench.regression.videos_needed import parse, videos_needed
from bench.results.verdicts import Finding

VALUES = {"videos": 24, "batch": 4, "window": 8}


def pilot(error, *, base=2.0, n=24):
    return [Finding("cell", "fvd", "INCONCLUSIVE", "", base=base, margin=0.1, error=error, n=n)]


def test_differences_are_shares_or_percent():
    assert parse(["fvd=10%", "caption=0.03"]) == {"fvd": 0.1, "caption": 0.03}


@pytest.mark.parametrize("word", ["fvd", "fvd=", "fvd=0", "fvd=nan", "fvd=150%", "speed=3%", "=1%", "fvd=-1%"])
def test_other_words_are_refused(word):
    with pytest.raises(ValueError, match=r"write fvd=10% or caption=0\.03"):
        parse([word])


def test_videos_follow_from_the_pilots_error():
    """(z.95 + z.90)^2 = 8.564: an error of 0.05 at 24 videos, and 10 % of 2: 24 (0.05 / 0.2)^2 8.564 = 12.8."""
    assert videos_needed(pilot(0.05), {"fvd": 0.1}, 4) == 16
    assert videos_needed(pilot(0.10), {"fvd": 0.1}, 4) == 52
    assert videos_needed(pilot(0.10), {"fvd": 0.05}, 1) == 206
    assert videos_needed(pilot(0.10), {"caption": 0.05}, 1) == 0


class Servers:
    """Both sides of a cell, whose videos take no time, and whose error falls with their number."""

    def __init__(self, monkeypatch, tmp_path, error):
        self.opened, self.made = [], 24

        def judge(*measured, within=None):
            return [*pilot(error * (24 / self.made) ** 0.5, n=self.made)]

        def both(servers, do, values):
            self.opened.append((do, values["videos"]))
            self.made = values["videos"]

        monkeypatch.setattr(interleaved, "_judge_videos", judge)
        monkeypatch.setattr(interleaved, "ask_both", both)

    def gate(self, seconds, *, left=math.inf):
        lines = []
        cell = MeasuredCell("cell", VALUES, SpeedTest("cell", 0.03), end=time.monotonic() + left)
        asked = Settings(detect={"fvd": 0.1})
        findings = interleaved._more_videos(cell, pilot(0.2), seconds, [], {"base": Path()}, asked, None, lines.append)
        return findings[0].n, lines


def test_more_videos_are_made_where_a_pilot_says_so(monkeypatch, tmp_path):
    servers = Servers(monkeypatch, tmp_path, 0.2)
    n, lines = servers.gate(12.0)
    assert (n, servers.opened) == (208, [("open", 208)])
    assert lines == ["cell: to detect fvd=0.1 takes 208 videos of each side, some 1.7 minutes"]


def test_time_that_is_not_there_is_not_spent(monkeypatch, tmp_path):
    """Of the gate's minutes, what other cells have used is gone."""
    servers = Servers(monkeypatch, tmp_path, 0.2)
    n, lines = servers.gate(12.0, left=60.0)
    assert (n, servers.opened) == (24, [])
    assert lines[-1] == "cell: that is more than 4096 videos or --max-minutes; the 24 videos have to do"
