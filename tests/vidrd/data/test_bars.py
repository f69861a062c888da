"""Black bars are found by what all frames show, and cropped before anything is scaled."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from vidrd.data.bars import Box, find_bars
from vidrd.data.media import EncoderSettings, Fit, decode, encode_mp4, to_rgb, to_yuv
from vidrd.data.record import Record, Tally
from vidrd.data.shots import CutSettings, read_clips


def scene(frames=24, height=90, width=120, bright=1.0):
    """A texture that moves."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (height, width + 3 * frames, 3), dtype=np.uint8)
    wide = cv2.GaussianBlur(wide, (0, 0), 2)
    wide = cv2.normalize(wide, None, 40, 255, cv2.NORM_MINMAX).astype(np.float32) * bright
    return np.stack([wide[:, 3 * t : 3 * t + width] for t in range(frames)]).astype(np.uint8)


def barred(video, top=0, bottom=0, left=0, right=0):
    return np.pad(video, ((0, 0), (top, bottom), (left, right), (0, 0)))


def stored(video):
    return encode_mp4([to_yuv(frame) for frame in video], 8, EncoderSettings(crf=20))


@pytest.mark.parametrize(
    ("bars", "box"),
    [
        ((16, 16, 0, 0), Box(16, 106, 0, 120)),
        ((0, 0, 20, 20), Box(0, 90, 20, 140)),
        ((16, 14, 20, 20), Box(16, 106, 20, 140)),  # about equal
        ((0, 0, 0, 0), None),
        ((30, 0, 0, 0), None),  # on one side only
        ((40, 10, 0, 0), None),
    ],
)
def test_pairs_of_bars_are_found(bars, box):
    assert find_bars(stored(barred(scene(), *bars))) == box


def test_sides_are_even_and_lie_within_a_row_of_odd_bars():
    box = find_bars(stored(barred(scene(), 15, 15)))
    assert not any(side % 2 for side in box)
    assert abs(box.top - 15) <= 1
    assert abs(box.bottom - 105) <= 1


def test_what_is_dark_only_at_times_is_no_bar():
    video = barred(scene(), 16, 16)
    video[12:, :16] = 120  # a subtitle, a flash
    assert find_bars(stored(video)) is None
    night = barred(scene(bright=0.05), 16, 16)  # shows too little to tell
    assert find_bars(stored(night)) is None


def test_clips_hold_what_is_inside_at_the_full_size(tmp_path):
    video = scene()
    (tmp_path / "v.mp4").write_bytes(stored(barred(video, 16, 16, 20, 20)))
    record = Record("k", str(tmp_path / "v.mp4"), "s", "l")
    (clip,) = read_clips(record, CutSettings(90, "none", bars="crop"), Fit(), Tally())
    assert clip.facts["bars_around"] == [16, 106, 20, 140]
    shown = clip.seen().rgb()
    assert shown.shape == video.shape
    assert np.abs(shown.astype(float) - video).mean() < 6
    (whole,) = read_clips(record, CutSettings(None, "none"), Fit(), Tally())
    assert whole.seen().rgb().shape[1:3] == (122, 160)


@pytest.mark.parametrize(
    ("name", "box"),
    [("SalsaSpin/v_SalsaSpin_g12_c03", Box(30, 210, 40, 280)), ("Surfing/v_Surfing_g17_c07", Box(30, 210, 0, 320)),
     ("Archery/*", None)],
)  # fmt: skip
def test_bars_of_real_videos(real_clips, name, box):
    path = next(Path(real_clips / "UCF-101").glob(f"{name}.avi"))
    assert find_bars(path) == box
    if box:
        inner = to_rgb(next(decode(path, None, None, box)))
        assert np.array_equal(inner, to_rgb(next(decode(path)))[box.top : box.bottom, box.left : box.right])
