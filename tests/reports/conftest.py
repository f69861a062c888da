"""The made runs are importable by name, and each is written once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def made_run(tmp_path_factory):
    """A run with every status, missing measures, hostile strings and videos."""
    from made_runs import every_status

    return every_status(tmp_path_factory.mktemp("made") / "run")
