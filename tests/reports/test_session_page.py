import json
import shutil
from pathlib import Path

import pytest

from reports.session_page import session_page

MEASURED = Path(__file__).parents[2] / "reports" / "measured"


@pytest.fixture
def session(tmp_path):
    """What a session left: a run, a list of records, and a part that failed."""
    shutil.copytree(MEASURED / "cpu-approximations", tmp_path / "approximations")
    (tmp_path / "train.json").write_text(json.dumps([{"batch": 1, "seconds": [0.1, 0.3, 0.2], "verdict": "ok"}]))
    about = {
        "dry": False,
        "machine": {"gpu": "NVIDIA H200", "cpu": "x"},
        "software": {"torch": "2.15"},
        "revision": "0123456789abcdef",
        "parts": {
            "approximations": {"state": "ok", "text": "10 ok of 11 cells"},
            "train": {"state": "ok", "text": "1 measured"},
            "clips": {"state": "failed", "text": "it left no record; lost the <card>"},
        },
        "written": "2026-11-29T00:00:00+00:00",
    }
    (tmp_path / "about.json").write_text(json.dumps(about))
    return tmp_path


def test_the_page_shows_every_part_its_numbers_and_what_failed(session):
    assert session_page(session) == 0
    page = (session / "report.html").read_text()
    assert "Measured on NVIDIA H200" in page
    assert "lost the &lt;card&gt;" in page
    assert "0.2 (median of 3)" in page
    assert "dpmsolver-2/5" in page
    assert "FVD loss" in page
    assert page.count("<section") == 4  # the parts, two that left something, the machine


def test_a_dry_session_says_that_no_number_means_anything(session):
    about = json.loads((session / "about.json").read_text())
    (session / "about.json").write_text(json.dumps({**about, "dry": True}))
    session_page(session)
    assert "A dry session on a CPU: no number means anything" in (session / "report.html").read_text()


def test_a_folder_of_no_session_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a session leaves an about\.json"):
        session_page(tmp_path)
