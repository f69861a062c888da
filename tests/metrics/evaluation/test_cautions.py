"""Sets that say something about a number of them: copies, the same videos on both sides, wrong scales, other sizes."""

import numpy as np
import pytest

from metrics.evaluation.cautions import Content, Look, cautions
from tests.metrics.video_files import some_videos

PLAIN = Look(64, 64, 255)


def lines(real, fake):
    """The cautions of two sets, of (origins, look)."""
    sides = {"real": real, "fake": fake}
    return cautions({name: Content(side[0], [side[1]] * len(side[0])) for name, side in sides.items()})


def test_sets_that_have_nothing_in_common_need_no_caution():
    assert lines(("ab", PLAIN), ("cd", PLAIN)) == []
    assert cautions({"fake": Content("cd", [PLAIN, PLAIN])}) == []
    assert cautions({"real": Content(), "fake": Content("ab", [PLAIN] * 2)}) == []  # statistics without contents


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        (("abc", PLAIN), ("abc", PLAIN), ["both sets are the same videos"]),
        (("abc", PLAIN), ("cba", PLAIN), ["both sets are the same videos"]),
        (("abcd", PLAIN), ("cdef", PLAIN), ["2 of 4 fake videos are in the real set too"]),
        (("ab", PLAIN), ("c" * 40, PLAIN), ["39 of 40 fake videos are copies of others in the set"]),
        (("aab", PLAIN), ("cd", PLAIN), ["1 of 3 real videos are copies of others in the set"]),
        (("ab", PLAIN), ("cd", Look(64, 64, 1)), ["no fake pixel is above 1"]),
        (("ab", PLAIN), ("cd", Look(32, 48, 255)), ["real frames are 64x64 pixels, fake ones 32x48"]),
    ],
)
def test_each_case_has_its_line(real, fake, expected):
    notes = lines(real, fake)
    assert len(notes) == len(expected)
    assert all(part in line for part, line in zip(expected, notes, strict=True))


def test_a_look_is_that_of_the_pixels():
    video = some_videos(1, frames=3)[0]
    assert Look.of(video) == (16, 16, video.max())
    assert Look.of(np.zeros((1, 2, 3, 3), np.uint8)) == (2, 3, 0)
