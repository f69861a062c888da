"""The command line on small sets, with a cache of its own."""

import hashlib
import sys

import numpy as np
import pytest
from safetensors.torch import save_file

from metrics import __main__ as metrics
from metrics.networks.pocket import NETWORKS, describe
from tests.metrics.video_files import some_videos


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("VIDRD_METRICS_WEIGHTS", raising=False)


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["metrics", *map(str, words)])
        try:
            metrics.main()
            status = 0
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        assert status == code, err
        if code:
            messages = [line for line in err.splitlines() if "videos or clips" not in line]  # the rest is progress
            assert len(messages) == 1  # one line, no traceback
            return messages[0]
        return out

    return run


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("classifier") / "classifier.safetensors"
    network = NETWORKS["pocket-c3d"]({"action": 3})
    save_file(network.state_dict(), path, describe("pocket-c3d", {"action": ("a", "b", "c")}))
    return path


@pytest.fixture(scope="module")
def label(classifier):
    """The name of scores by a classifier that is not the shipped one."""
    return f"classifier-{hashlib.sha256(classifier.read_bytes()).hexdigest()[:8]}"


@pytest.fixture
def sets(tmp_path):
    """A real and two generated sets; the second is a little brighter than the first."""
    real, one = some_videos(14, frames=16), some_videos(12, frames=16, seed=1) // 2
    np.save(tmp_path / "real.npy", real)
    np.save(tmp_path / "one.npy", one)
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "one.npy", one + np.uint8(20))
    return real, one, tmp_path
