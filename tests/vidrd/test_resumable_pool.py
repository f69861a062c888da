"""Work in pieces: workers may die, and they never outlive the process that started them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from vidrd.resumable_pool import RESTARTS, FinishedPiece, Pool, run_locally

ROOT = Path(__file__).parents[2]
PRELOAD = {"spawn": (), "forkserver": ("vidrd.resumable_pool",)}


@dataclass(frozen=True)
class Squares:
    """Writes the square of each piece; one piece kills its worker, the first `deaths` times."""

    out: Path
    deadly: int = -1
    deaths: int = 0
    sleep: float = 0.0
    together: int = 1  # each piece waits until so many workers have begun one

    def open(self, device):
        def work(piece):
            (self.out / f"pid{os.getpid()}").write_text(device)
            time.sleep(self.sleep)
            deadline = time.monotonic() + 60
            while len(list(self.out.glob("pid*"))) < self.together and time.monotonic() < deadline:
                time.sleep(0.01)
            if piece == self.deadly and len(list(self.out.glob("death*"))) < self.deaths:
                (self.out / f"death{os.getpid()}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            (self.out / str(piece)).write_text(str(piece**2))
            return 2

        return work

    def is_done(self, piece):
        return (self.out / str(piece)).exists()


@dataclass(frozen=True)
class Broken(Squares):
    def open(self, device):
        raise ValueError(f"nothing to load on {device}")


def squares(job, pieces, pool, messages=None):
    finished = list(run_locally(job, pieces, pool, (messages if messages is not None else []).append))
    assert all(isinstance(each, FinishedPiece) for each in finished)
    return {each.piece: each.results for each in finished}


@pytest.mark.parametrize("start", PRELOAD)
@pytest.mark.parametrize("workers", [1, 2])
def test_pieces_are_done_once_on_the_devices_in_turn(tmp_path, workers, start):
    (tmp_path / "3").write_text("done before")
    counts = squares(Squares(tmp_path, together=workers), range(6), Pool(workers, ("a", "b"), PRELOAD[start]))
    assert counts == {0: 2, 1: 2, 2: 2, 3: 0, 4: 2, 5: 2}
    assert [(tmp_path / str(n)).read_text() for n in range(6)] == ["0", "1", "4", "done before", "16", "25"]
    devices = {path.read_text() for path in tmp_path.glob("pid*")}
    assert devices == ({"a"} if workers == 1 else {"a", "b"})
    assert "PYTHONPATH" not in os.environ or os.environ["PYTHONPATH"].count(str(ROOT)) <= 1


def test_a_new_pool_does_what_a_dead_worker_left(tmp_path):
    messages = []
    squares(Squares(tmp_path, deadly=4, deaths=2), range(6), Pool(2, pieces="squares"), messages)
    assert [(tmp_path / str(n)).read_text() for n in range(6)] == ["0", "1", "4", "9", "16", "25"]
    assert len(messages) == 2
    assert all("a worker died" in line and "squares are left" in line for line in messages)


def test_workers_that_keep_dying_are_an_error_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr("vidrd.resumable_pool.RESTARTS", 2)
    with pytest.raises(ValueError, match="workers died 2 times, 1 squares are not done: sleep more"):
        squares(Squares(tmp_path, deadly=0, deaths=9), [0], Pool(2, pieces="squares", advice="sleep more"))
    assert RESTARTS > 2


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_worker_cannot_open_is_raised_here(tmp_path, workers):
    with pytest.raises(ValueError, match="nothing to load on cpu"):
        squares(Broken(tmp_path), range(3), Pool(workers))


PARENT = """
import sys
from pathlib import Path
from tests.vidrd.test_resumable_pool import PRELOAD, Pool, Squares, squares
if __name__ == "__main__":
    squares(Squares(Path(sys.argv[1]), sleep=60), range(2), Pool(2, preload=PRELOAD[sys.argv[2]]))
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(holds, seconds=60.0):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("start", PRELOAD)
def test_workers_end_with_a_killed_parent(tmp_path, start):
    (tmp_path / "parent.py").write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", tmp_path, start], cwd=ROOT, env=environment)
    workers = []
    try:
        assert wait_until(lambda: len(list(tmp_path.glob("pid*"))) == 2 or parent.poll() is not None)
        workers = [int(path.name.removeprefix("pid")) for path in tmp_path.glob("pid*")]
        assert len(workers) == 2
        assert all(map(alive, workers))
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not any(map(alive, workers)), seconds=10), "the workers outlived their parent"
    finally:
        for pid in [parent.pid, *workers]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        parent.wait()


@dataclass(frozen=True)
class SlowAfterFirst(Squares):
    def open(self, device):
        work = super().open(device)

        def wait_and_work(piece):
            time.sleep(60 if piece else 0)
            return work(piece)

        return wait_and_work


def test_workers_of_work_that_is_broken_off_end_at_once(tmp_path):
    """As after SIGTERM: what they had begun is left undone."""
    others = set(multiprocessing.active_children())
    coming = run_locally(SlowAfterFirst(tmp_path), range(4), Pool(2), print)
    assert next(coming).piece == 0
    began = time.monotonic()
    coming.close()
    assert time.monotonic() - began < 20
    # the pool's own thread may still be noting that a process has ended
    assert wait_until(lambda: set(multiprocessing.active_children()) <= others, seconds=5)
    assert not (tmp_path / "1").exists()
