import math
import os
import subprocess
import sys

import numpy as np
import pytest

from bench.results.verdicts import Pair
from bench.studies.gate_noise import WAYS, rows

SEEN = """
import os
personality = int(open("/proc/self/personality").read(), 16) if os.path.exists("/proc/self/personality") else 0
print(len(os.sched_getaffinity(0)), bool(personality & 0x0040000), os.environ.get("GLIBC_TUNABLES", ""))
"""


def seen():
    """What a process that is started now sees: number of cores, a fixed layout or not, the allocator's settings."""
    return subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(not os.path.exists("/proc/self/personality"), reason="Linux alone has these settings")
def test_every_way_reaches_the_processes_started_in_it_and_ends_with_it():
    before = seen()
    within = {}
    for way, setting in WAYS.items():
        with setting():
            within[way] = seen()
        assert seen() == before
    assert within["as the gate does it"] == before
    assert within["both sides on one core"][0] == "1"
    assert within["fixed memory layout"][1] == "True"
    assert within["huge pages"][2] == "glibc.malloc.hugetlb=1"


def test_the_width_follows_from_the_spread_and_the_minutes():
    rng = np.random.default_rng(0)

    def groups(spread, waited):
        offsets = spread * rng.standard_normal(400)
        return [
            (60.0, [Pair(1.0, math.exp(offset), number, "", 0.0, wait) for wait in waited * np.ones(6)])
            for number, offset in enumerate(offsets)
        ]

    table = {row[""]: row for row in rows({"quiet": groups(0.01, 0.0), "noisy": groups(0.04, 0.0)})}
    assert list(table) == ["quiet, by the clock", "quiet", "noisy"]
    widths = {way: float(row["interval after 10 min"].partition("%")[0][1:]) for way, row in table.items()}
    assert widths["quiet"] == pytest.approx(100 * 0.01 * 2.262 / math.sqrt(10), rel=0.1)
    assert widths["noisy"] == pytest.approx(4 * widths["quiet"], rel=0.15)
    assert table["noisy"]["interval after 10 min"].endswith("(10)")
    assert rows({"one": groups(0.01, 0.0)[:2]})[1] == {"": "one", "pairs of processes": 2}
