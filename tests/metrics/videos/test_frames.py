"""The one place that checks and converts videos."""

import numpy as np
import pytest

from metrics.videos.frames import check_videos, to_network, to_unit, windows


def numbered(n: int, frames: int) -> np.ndarray:
    """Videos whose gray level says which video (tens) and frame (units) it is."""
    levels = 10 * np.arange(n)[:, None] + np.arange(frames)
    return np.broadcast_to(levels[..., None, None, None], (n, frames, 4, 4, 3)).astype(np.uint8)


def test_networks_read_minus_one_to_one_channels_second():
    videos = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)
    videos[0, 0, 0, 0] = (0, 255, 128)
    clips = to_network(videos)
    assert clips.shape == (2, 3, 3, 4, 5)
    assert clips.dtype == np.float32
    assert clips[0, :, 0, 0, 0].tolist() == pytest.approx([-1, 1, 128 * 2 / 255 - 1], abs=1e-7)
    np.testing.assert_allclose(clips, (videos / 127.5 - 1).transpose(0, 4, 1, 2, 3), atol=2e-7)
    np.testing.assert_array_equal(to_unit(videos), videos / 255)


def test_windows_are_cut_from_the_first_frame_on_and_know_their_video():
    cut, source = windows(numbered(2, 9), 4)
    assert cut[:, :, 0, 0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [10, 11, 12, 13], [14, 15, 16, 17]]
    assert source.tolist() == [0, 0, 1, 1]
    whole, source = windows(numbered(2, 9), 9)
    assert (whole == numbered(2, 9)).all()
    assert source.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (np.zeros((1, 2, 4, 4, 3)), "must be uint8 in 0..255: got float64"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"axes N T H W C with C = 3 \(RGB\): got the shape \(2, 4, 4, 3\)"),
        (np.zeros((1, 3, 2, 4, 4), np.uint8), r"got the shape \(1, 3, 2, 4, 4\)"),
        (np.zeros((0, 2, 4, 4, 3), np.uint8), "hold nothing"),
        (np.zeros((1, 2, 4, 4, 3), np.uint8), "clips must have at least 5 frames: got 2"),
    ],
)
def test_what_is_no_set_of_videos_is_refused(videos, message):
    with pytest.raises(ValueError, match=message):
        check_videos(videos, frames=5, what="clips")
