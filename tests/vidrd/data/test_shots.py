"""Cuts are detected where they were made; no frame is lost or repeated; key frames show something and differ."""

import numpy as np
import pytest

from tests.vidrd.data.clips import number_of, numbered, scenes
from vidrd.data.media import THUMB, Fit, decode, encode_mp4, to_rgb, to_yuv
from vidrd.data.record import Drop, Pixels, Record, Tally
from vidrd.data.shots import (
    CutSettings,
    detect_cuts,
    frames_at_rate,
    key_frames,
    motion,
    read_clips,
    sharpness,
    shows_something,
)
from vidrd.pocket.world import render
from vidrd.video import write_video


def read(path, **cutting):
    tally = Tally()
    record = Record("k", str(path), "s", "l")
    return list(read_clips(record, CutSettings(**{"shorter": None, "min_frames": 8} | cutting), Fit(), tally))


@pytest.fixture(scope="module")
def cut_video(tmp_path_factory):
    """Three scenes of 20, 30 and 25 frames."""
    path = tmp_path_factory.mktemp("cut") / "v.mp4"
    parts = [render([scene], n, size=64)[0] for scene, n in zip(scenes(9)[::4], (20, 30, 25), strict=True)]
    parts[1] = 255 - parts[1]
    write_video(path, np.concatenate(parts), fps=25)
    return path


def test_a_scene_that_is_too_short_is_dropped_and_joins_no_other(tmp_path):
    parts = [render([scene], n, size=64)[0] for scene, n in zip(scenes(9)[::4], (20, 5, 25), strict=True)]
    parts[1] = 255 - parts[1]
    write_video(tmp_path / "v.mp4", np.concatenate(parts), fps=25)
    first, short, last = read(tmp_path / "v.mp4")
    assert [(clip.start, clip.end) for clip in (first, last)] == [(0, 20), (25, 50)]
    assert (short.reason, short.detail) == ("short", "5 frames")


def spliced(clips, rng):
    """Six pieces of real videos in one size, and where they meet."""
    pieces = []
    for number in rng.choice(len(clips), 6, replace=False):
        length = min(int(rng.integers(20, 60)), len(clips[number]))
        first = int(rng.integers(len(clips[number]) - length + 1))
        pieces.append(clips[number][first : first + length, :64, :85])
    return np.concatenate(pieces), set(np.cumsum([len(piece) for piece in pieces[:-1]]).tolist())


def test_cuts_of_spliced_real_clips_are_found_and_few_others(real_clips):
    """docs/data.md has the figures of all clips; the threshold was chosen by them."""
    files = sorted((real_clips / "UCF-101").glob("*/*.avi"))[::2]
    clips = [np.stack([to_rgb(frame, THUMB) for frame in decode(path, 64)]) for path in files]
    rng = np.random.default_rng(0)
    found = right = wanted = 0
    for _ in range(40):
        video, cuts = spliced(clips, rng)
        detected = set(detect_cuts(video))
        found, right, wanted = found + len(detected), right + len(detected & cuts), wanted + len(cuts)
    print(f"precision {right / found:.3f}, recall {right / wanted:.3f} of {wanted} cuts")
    assert right / found >= 0.95
    assert right / wanted >= 0.95


@pytest.mark.parametrize("detector", ["content", "adaptive"])
def test_scenes_are_cut_where_they_change(cut_video, detector):
    clips = read(cut_video, detector=detector)
    assert [(clip.start, clip.end) for clip in clips] == [(0, 20), (20, 50), (50, 75)]
    assert [len(clip.pixels.frames) for clip in clips] == [20, 30, 25]
    assert [clip.key for clip in clips] == ["k_000", "k_001", "k_002"]


def test_without_a_detector_nothing_is_cut(cut_video):
    (clip,) = read(cut_video, detector="none")
    assert (clip.start, clip.end) == (0, 75)


def test_frames_beside_a_cut_can_be_left_out(cut_video):
    assert [(clip.start, clip.end) for clip in read(cut_video, trim=2)] == [(0, 18), (22, 48), (52, 75)]


@pytest.mark.parametrize(("frames", "most"), [(100, 30), (61, 30), (60, 30), (35, 30), (30, 30), (8, 30), (9, 8)])
def test_long_videos_are_split_and_every_frame_is_in_one_clip(tmp_path, frames, most):
    (tmp_path / "v.mp4").write_bytes(encode_mp4([to_yuv(frame) for frame in numbered(frames)], 25))
    clips = read(tmp_path / "v.mp4", detector="none", max_frames=most)
    kept = [clip for clip in clips if not isinstance(clip, Drop)]
    numbers = [number_of(to_rgb(frame)) for clip in kept for frame in clip.pixels.frames]
    lost = sum(int(clip.detail.split()[0]) for clip in clips if isinstance(clip, Drop))
    assert numbers == list(range(frames - lost))
    assert lost < 8
    assert all(8 <= len(clip.pixels.frames) <= most for clip in kept)
    for clip in kept:
        assert [number_of(to_rgb(frame)) for frame in clip.pixels.frames] == list(range(clip.start, clip.end))
        assert len(clip.pixels.thumbs) == len(clip.pixels.frames)


@pytest.mark.parametrize(("fps", "wanted"), [
    (25, [*range(60)]), (12.5, [*range(0, 60, 2)]), (10, [int(2.5 * i) for i in range(24)]),
    (24, [int(i * 25 / 24) for i in range(58)]),
])  # fmt: skip
def test_clips_are_reduced_to_a_common_rate(tmp_path, fps, wanted):
    (tmp_path / "v.mp4").write_bytes(encode_mp4([to_yuv(frame) for frame in numbered(60)], 25))
    (clip,) = read(tmp_path / "v.mp4", detector="none", fps=fps)
    assert [number_of(to_rgb(frame)) for frame in clip.pixels.frames] == wanted
    assert clip.pixels.fps == fps
    assert (clip.start, clip.end) == (0, 60)
    assert len(clip.pixels.thumbs) == len(wanted)
    (drop,) = read(tmp_path / "v.mp4", detector="none", fps=30.0)
    assert (drop.reason, drop.detail) == ("slower than --fps", "25 frames per second")


def test_a_rate_that_a_source_all_but_has_keeps_every_frame():
    assert frames_at_rate(range(400), 30000 / 1001, 30) == [*range(400)]
    assert frames_at_rate(range(5, 9), 25, 12.5) == [5, 7]


def test_short_missing_and_broken_sources_are_dropped_with_a_reason(tmp_path):
    (tmp_path / "short.mp4").write_bytes(encode_mp4([to_yuv(frame) for frame in numbered(5)], 25))
    (tmp_path / "broken.mp4").write_bytes(b"x" * 100)
    reasons = [read(tmp_path / name)[0].reason for name in ("short.mp4", "broken.mp4", "none.mp4")]
    assert reasons == ["short", "unreadable", "missing"]


def test_a_record_may_name_a_part_of_its_source(tmp_path):
    (tmp_path / "v.mp4").write_bytes(encode_mp4([to_yuv(frame) for frame in numbered(60)], 25))
    record = Record("k", str(tmp_path / "v.mp4"), "s", "l", start=13, end=33)
    (clip,) = read_clips(record, CutSettings(shorter=None, detector="none"), Fit(), Tally())
    assert [number_of(to_rgb(frame)) for frame in clip.pixels.frames] == list(range(13, 33))


def shown(frames):
    return Pixels.of_rgb(frames, 8)


def test_black_and_blank_frames_stand_for_nothing():
    video = render(scenes(1), 12, size=64)[0].copy()
    video[:4] = 2
    video[8:] = 128
    assert shows_something(shown(video).thumbs).tolist() == [False] * 4 + [True] * 4 + [False] * 4
    for how in ("uniform", "shots", "distinct"):
        assert set(key_frames(shown(video), 3, how)) <= {4, 5, 6, 7}
    assert key_frames(shown(np.zeros((6, 64, 64, 3), np.uint8)), 3) == []


def test_uniform_key_frames_are_the_middles_of_equal_parts():
    assert key_frames(shown(render(scenes(1), 24, size=64)[0]), 3, "uniform") == [4, 12, 20]


def test_distinct_key_frames_meet_every_scene_once():
    some = [render([scene], 10, size=64)[0] for scene in scenes(12)[::4]]
    chosen = key_frames(shown(np.concatenate([some[0], 255 - some[1], some[2]])), 3)
    assert sorted(index // 10 for index in chosen) == [0, 1, 2]


def test_frames_that_are_all_alike_give_one_key_frame():
    video = np.repeat(render(scenes(1), 1, size=64)[0], 20, axis=0)
    assert len(key_frames(shown(video), 5)) == 1


def test_shot_aware_key_frames_lie_in_the_longest_scenes():
    video = np.concatenate([render(scenes(1), 30, size=64)[0], 255 - render(scenes(5)[4:], 40, size=64)[0]])
    assert [index // 30 for index in key_frames(shown(video), 2, "shots")] == [0, 1]
    assert detect_cuts(shown(video).thumbs) == [30]


def test_sharpness_and_motion_know_blur_and_stillness():
    video = render(scenes(1), 8, size=64)[0]
    import cv2

    assert sharpness(cv2.GaussianBlur(video[0], (0, 0), 2)) < 0.5 * sharpness(video[0])
    assert motion(video) > 0.5
    assert motion(np.repeat(video[:1], 8, axis=0)) == 0
