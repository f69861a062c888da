"""Windows see every frame, and what they say of one adds up to one."""

import pytest
import torch

from baselines.windows import WEIGHTS, changes, cover, floor_cover, moving_cover, places, profile, shares, strided_cover

CASES = [
    (frames, clip, stride)
    for clip in (1, 2, 5, 8)
    for frames in range(clip, 4 * clip + 2)
    for stride in range(1, clip + 1)
]


def seen(starts, clip):
    return {frame for start in starts for frame in range(start, start + clip)}


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7])
def test_every_frame_is_seen_and_none_beyond(step):
    for frames, clip, stride in CASES:
        for starts in (cover(frames, clip, stride), moving_cover(frames, clip, stride, step)):
            assert seen(starts, clip) == set(range(frames)), (frames, clip, stride, step)
            assert list(starts) == sorted(set(starts))


def test_the_number_of_windows_is_the_formulas():
    for frames, clip, stride in CASES:
        assert len(cover(frames, clip, stride)) == 1 + -(-(frames - clip) // stride)


def test_strided_windows_span_the_video_and_together_see_all_of_it():
    for frames, clip, _ in CASES:
        windows = strided_cover(frames, clip)
        assert len(windows) == -(-frames // clip)
        assert {frame for window in windows for frame in window.tolist()} == set(range(frames)), (frames, clip)
        for window in windows:
            assert len(window) == clip
            gaps = window.diff().tolist()
            assert all(frames // clip <= gap <= -(-frames // clip) for gap in gaps), (frames, clip, gaps)
    assert [window.tolist() for window in strided_cover(12, 4)] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_a_video_shorter_than_a_clip_gets_one_window():
    assert cover(3, 8, 4) == moving_cover(3, 8, 4, 5) == (0,)


def test_the_released_windows_leave_a_tail_unseen():
    assert max(seen(floor_cover(66, 16, 4), 16)) == 63
    assert max(seen(cover(66, 16, 4), 16)) == 65
    with pytest.raises(ValueError, match="need a whole clip of 16 frames: got 9"):
        floor_cover(9, 16, 4)


def check_grids(moving):
    """The grids of the first steps begin at 0, 1/2, 1/4, 3/4 of the stride."""
    assert [moving(40, 8, 8, step)[1] for step in range(4)] == [8, 4, 2, 6]


def test_moving_windows_stand_at_other_places_in_the_next_step():
    check_grids(moving_cover)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_shares_of_a_frame_add_up_to_one_and_scale_does_not_matter(weights):
    for frames, clip, stride in CASES:
        index = places(cover(frames, clip, stride), clip)
        raw = profile(weights, clip, clip - stride)
        assert (raw > 0).all()
        share = shares(index, raw, frames)
        total = torch.zeros(frames, dtype=share.dtype).index_add_(0, index.flatten(), share.flatten())
        assert torch.allclose(total, torch.ones_like(total), atol=1e-12)
        assert torch.allclose(shares(index, 7 * raw, frames), share, atol=1e-12)


def test_profiles_are_symmetric_and_ramps_are_flat_in_the_middle():
    assert profile("pyramid", 5, 2).tolist() == [1, 2, 3, 2, 1]
    assert profile("pyramid", 4, 2).tolist() == [1, 2, 2, 1]
    assert profile("ramp", 8, 2).tolist() == [1, 2, 3, 3, 3, 3, 2, 1]
    assert profile("sine", 4, 2).square().tolist() == pytest.approx([0.146447, 0.853553, 0.853553, 0.146447], abs=1e-6)
    assert profile("ramp", 4, 0).tolist() == profile("flat", 4, 0).tolist() == [1, 1, 1, 1]


def test_windows_hand_over_in_the_middle_of_what_they_share():
    assert changes((0, 8, 16), 8) == (8, 16)
    assert changes((0, 4, 8, 9), 8) == (6, 10, 13)


@pytest.mark.parametrize(
    "fault",
    [
        lambda frames, clip, stride, step: moving_cover(frames, clip, stride, 0),
        lambda frames, clip, stride, step: moving_cover(frames, clip, stride, step + 1),
        lambda frames, clip, stride, step: cover(frames, clip, stride, step % stride),
    ],
    ids=["never moving", "a step late", "a frame a step"],
)
def test_planted_faults_of_moving_windows_are_seen(fault):
    with pytest.raises(AssertionError):
        check_grids(fault)
