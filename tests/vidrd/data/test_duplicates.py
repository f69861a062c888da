"""Clips that repeat are found through re-encoding and resizing; different ones are not; no near pair is missed."""

import random

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vidrd.data.clips import scenes
from vidrd.data.duplicates import Reference, _near, clip_hashes, frame_hash, near_duplicates
from vidrd.data.media import THUMB, EncoderSettings, decode, encode_mp4, read_mp4, to_rgb, to_yuv
from vidrd.data.prepare import read_reference
from vidrd.pocket.world import render


def distance(a, b):
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


def test_re_encoding_resizing_and_brightness_keep_the_hash():
    video = render(scenes(1), 16, size=64)[0]
    own = clip_hashes(video)
    worse = read_mp4(encode_mp4([to_yuv(frame) for frame in video], 8))
    small = np.stack([cv2.resize(frame, (48, 40), interpolation=cv2.INTER_AREA) for frame in video])
    darker = (video * 0.8).astype(np.uint8)
    assert max(distance(own, clip_hashes(other)) for other in (worse, small, darker)) <= 24


def test_flat_frames_have_no_hash():
    assert frame_hash(np.full((32, 32, 3), 90, np.uint8)) is None
    assert clip_hashes(np.full((8, 32, 32, 3), 90, np.uint8)) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 20))
def test_no_pair_within_the_limit_is_missed_and_none_beyond_is_taken(seed, limit):
    rng = random.Random(seed)
    base = [rng.getrandbits(64) for _ in range(3)]
    hashes = {"a": base, "b": [rng.getrandbits(64) for _ in range(3)]}
    for extra in (0, 1):
        flips = rng.sample(range(192), limit + extra)
        changed = list(base)
        for bit in flips:
            changed[bit // 64] ^= 1 << bit % 64
        repeats = near_duplicates(hashes | {"c": changed}, most=limit)
        assert ("c" in repeats) == (extra == 0)
        assert "b" not in repeats


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 64))
def test_near_hashes_are_those_of_the_plain_definition(seed, most):
    """Of a third of rises and falls in plain integers, for hashes a few flips apart with few, half or most bits set."""
    rng = random.Random(seed)
    bits = rng.choice([0, 1, 4, 16, 32, 48, 60, 63, 64])
    value = sum(1 << bit for bit in rng.sample(range(64), bits))
    others = [value ^ sum(1 << bit for bit in rng.sample(range(64), flips)) for flips in range(65)]
    wanted = [
        (differ := (value ^ other).bit_count()) <= most
        and 3 * differ <= min((value & other).bit_count(), (~value & ~other & (1 << 64) - 1).bit_count())
        for other in others
    ]
    assert _near(np.array(others, np.uint64), value, most).tolist() == wanted


def test_the_first_of_equal_clips_stays():
    assert near_duplicates({"x": [1, 2, 3], "y": [1, 2, 3], "z": [1, 2, 3]}) == {"y": "x", "z": "x"}


def test_copies_of_real_test_videos_are_recognized_and_others_are_not(real_clips):
    """Smaller, at a low rate, from another start; docs/data.md has the figures of all clips."""
    files = sorted((real_clips / "UCF-101").glob("*/*.avi"))[::3]
    reference = read_reference([real_clips / "UCF-101"])
    found = 0
    for path in files:
        frames = [frame.reformat(160, 120) for frame in decode(path)][5:]
        copy = read_mp4(encode_mp4(frames, 25, EncoderSettings(crf=30)))
        found += reference.find(clip_hashes(copy)) == str(path)
    assert found >= len(files) - 1
    some = Reference()
    for path in files[1:]:
        some.add(str(path), (to_rgb(frame, THUMB) for frame in decode(path)))
    own = clip_hashes(np.stack([to_rgb(frame, THUMB) for frame in decode(files[0])]))
    assert some.find(own) is None


def test_a_test_sets_clip_is_recognised_from_another_start():
    videos = render(scenes(6), 64, size=64)
    reference = Reference()
    for index, video in enumerate(videos[:3]):
        reference.add(f"test/{index}", video[::2])
    for index in range(3):
        assert reference.find(clip_hashes(videos[index][10:58])) == f"test/{index}"
    assert [reference.find(clip_hashes(video[10:58])) for video in videos[3:]] == [None] * 3
    assert len(reference) > 60
