"""Where quality is lost: the right windows are taken, as many in each place, and a drift is seen."""

import numpy as np
import pytest

from bench.videos.fvd_by_position import Real, fvd_by_position
from metrics.distribution.fvd import frechet_score
from metrics.distribution.fvd_drift import drift_score, fvd_drift

CLIP = 8
RANDOM = np.random.default_rng(0)


def numbered(videos=6, frames=32):
    """Every frame says its number, and its video's."""
    shown = np.zeros((videos, frames, 4, 4, 3), np.uint8)
    shown[..., 0] = np.arange(frames)[:, None, None]
    shown[..., 1] = np.arange(videos)[:, None, None, None]
    return shown


class Seen:
    """An embedding that keeps what it saw."""

    def __init__(self):
        self.first = []

    def __call__(self, cut):
        self.first.append(cut[:, 0, 0, 0, :2].tolist())
        assert cut.shape[1] == CLIP
        return RANDOM.normal(size=(len(cut), 3))


def places(seams, frames=32):
    seen = Seen()
    real = Real(RANDOM.normal(size=(40, 3)), np.arange(40), frechet_score)
    return fvd_by_position(numbered(frames=frames), seams, "no seams", CLIP, seen, real), seen.first


def test_clips_end_at_a_seam_and_windows_across_have_it_in_their_middle():
    scores, (inside, across, along) = places([8, 16, 24])
    assert [start for start, _ in inside] == [0, 8, 16, 0, 8, 16]
    assert [start for start, _ in across] == [4, 12, 20, 4, 12, 20]
    assert [video for _, video in inside] == [video for _, video in across] == list(range(6))
    assert [start for start, _ in along] == [0, 8, 16, 24] * 6
    assert {score.n for score in scores.values()} == {6}


def test_where_seams_are_near_each_other_there_is_no_clip_inside():
    scores, (across, _) = places([4, 10, 16, 22, 28])
    assert scores["fvd_inside"] == "no 8 frames without a seam before one"
    assert {start for start, _ in across} == {0, 6, 12, 18, 24}
    scores, _ = places([2, 31])
    assert scores["fvd_across"] == "no seam has 4 frames on either side"


def test_without_seams_only_the_drift_is_left():
    scores, (along,) = places([])
    assert scores["fvd_inside"] == scores["fvd_across"] == "no seams"
    assert len(along) == 24
    scores, _ = places([8], frames=15)
    assert scores["drift"] == "a slope needs two clips of 8 frames: got 15 frames"


@pytest.mark.parametrize("captions", [True, False])
def test_a_known_drift_is_measured(captions):
    """Features that move by p at place p lie p^2 a feature from real ones: 0, 1, 4 have the slope 2."""
    real = RANDOM.normal(size=(60, 3))
    place = np.repeat(np.arange(3), 60)
    fake = np.concatenate([real + p for p in range(3)])
    group = np.arange(60) % 30 if captions else np.arange(60)
    score = drift_score(real, fake, place, group, np.tile(group, 3))
    assert score.value == pytest.approx(2 * 3, abs=1e-6)
    assert score.n == 60
    assert score.low < 6 < score.high


def test_no_drift_lies_within_its_interval():
    real, fake = RANDOM.normal(size=(400, 3)), RANDOM.normal(size=(400, 3))
    score = drift_score(real, fake, np.arange(400) % 4, np.arange(400), np.arange(400) // 4)
    assert score.low < 0 < score.high
    few = drift_score(real[:2], fake[:4], np.arange(4) % 2, np.arange(2), np.arange(4) // 2)
    assert few.low is None


class Mean:
    name, min_frames = "mean", 1

    def embed(self, videos):
        raise NotImplementedError


def test_the_metric_needs_room_for_two_windows():
    with pytest.raises(ValueError, match="at least 16 frames: got 15"):
        fvd_drift(numbered(), numbered(frames=15), network=Mean(), window=8)
