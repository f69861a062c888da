"""Which frames are scored: rules, keys, lists with a hash."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from metrics.protocols import FVD, Sampling
from metrics.videos.clips import WHOLE, Clip, hash_clips, in_order, read_clips, sample_clips, tile_clips, write_clips
from metrics.videos.read import Video, VideoInfo, list_videos

RANDOM = Sampling("given", "shuffled", "random", None)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """12 videos of 10 to 21 frames."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(12):
        np.save(folder / f"v{i:02}.npy", np.full((10 + i, 4, 4, 3), i, dtype=np.uint8))
    return list_videos(folder)


def test_the_first_frames_of_the_first_videos_by_name(videos):
    sampled = sample_clips(videos[::-1], Sampling("given", "name", "first", 3), frames=8)
    assert sampled.clips == [Clip(f"v{i:02}.npy", 0, 8) for i in range(3)]
    assert [clip.frames for clip in sample_clips(videos, WHOLE, frames=None).clips] == list(range(10, 22))


def test_a_video_s_random_clip_hangs_on_seed_and_name_alone(videos):
    clips = {clip.video: clip for clip in sample_clips(videos, RANDOM, frames=4, seed=1).clips}
    some = sample_clips(videos[3:7][::-1], RANDOM, frames=4, seed=1).clips
    assert all(clips[clip.video] == clip for clip in some)
    assert {clip.video: clip for clip in sample_clips(videos, RANDOM, frames=4, seed=2).clips} != clips
    starts = [sample_clips(videos[-1:], RANDOM, frames=4, seed=seed).clips[0].start for seed in range(300)]
    assert set(starts) == set(range(18))


def test_central_clips_leave_as_much_before_as_behind(videos):
    clips = sample_clips(videos, Sampling("given", "name", "centre", None), frames=4, stride=2).clips
    for i, clip in enumerate(clips):
        before, behind = clip.start, 10 + i - (clip.start + 7)
        assert behind - before in (0, 1)


def test_shuffling_mixes_names_and_takes_n_of_them(videos):
    order = [clip.video for clip in sample_clips(videos, RANDOM, frames=4, n=12).clips]
    assert sorted(order) == [video.name for video in videos]
    assert order != sorted(order)
    assert [clip.video for clip in sample_clips(videos, RANDOM, frames=4, n=5).clips] == order[:5]


def test_every_place_is_a_clip_and_long_videos_count_more(videos):
    rule = Sampling("given", "name", "every", None)
    clips = sample_clips(videos, rule, frames=10, stride=1).clips
    assert len(clips) == sum(range(1, 13))
    shuffled = sample_clips(videos, replace(rule, order="shuffled"), frames=10, n=40).clips
    assert len(set(shuffled)) == 40
    assert set(shuffled) < set(clips)
    counts = [sum(clip.video == video.name for clip in shuffled) for video in videos]
    assert sum(counts[6:]) > 1.5 * sum(counts[:6])


@dataclass(frozen=True)
class Long(Video):
    """A video of some length, on no disk."""

    length: int = 0

    def probe(self):
        return VideoInfo(self.length, 4, 4, None, "array", 1.0)


@pytest.mark.parametrize("order", ["shuffled", "name"])
@pytest.mark.parametrize("n", [None, 1, 7, 10**6])
def test_windows_are_drawn_as_from_the_list_of_all_of_them(order, n):
    videos = [Long(f"v{i}", Path("none"), "array", length=8 + i % 5) for i in range(20)]
    clips = sample_clips(videos, Sampling("given", order, "every", None), frames=8, n=n, seed=3).clips
    ordered = sorted(videos, key=lambda video: video.name) if order == "name" else in_order(videos, order, 3)
    places = [Clip(video.name, start, 8) for video in ordered for start in range(video.length - 7)]
    assert len(clips) == len(set(clips)) == min(n or len(places), len(places))
    assert set(clips) <= set(places)
    if order == "name":
        assert clips == places[:n]
    elif n is None:
        assert clips != places


def test_few_windows_of_many_cost_few_clips(monkeypatch):
    calls = []
    monkeypatch.setattr("metrics.videos.clips.Clip", lambda *fields: calls.append(fields) or Clip(*fields))
    videos = [Long(f"v{i}", Path("none"), "array", length=20_000) for i in range(80)]
    clips = sample_clips(videos, Sampling("given", "shuffled", "every", 50), frames=16).clips
    assert len(clips) == len(calls) == 50
    assert len({clip.start // 2000 for clip in clips}) == 10  # from all over the videos
    assert all(0 <= clip.start <= 20_000 - 16 for clip in clips)


def test_counting_frames_is_told(videos):
    reports = []
    sample_clips(videos, WHOLE, frames=8, report=reports.append)
    tile_clips(videos, frames=8, report=reports.append)
    assert [(progress.done, progress.total) for progress in reports] == [(i, 12) for i in range(1, 13)] * 2


def test_strides_span_more_frames(videos):
    clips = sample_clips(videos, replace(RANDOM, short="discard"), frames=4, stride=5, seed=3)
    assert len(clips.short) == 10  # published loaders want frames * stride, though 16 would do
    assert len(sample_clips(videos[6:], RANDOM, frames=4, stride=5, seed=3).clips) == 6
    lengths = {video.name: video.probe().frames for video in videos}
    assert all(clip.start + 15 < lengths[clip.video] for clip in clips.clips)


def test_short_videos_are_refused_or_counted_as_the_rule_says(videos):
    with pytest.raises(ValueError, match=r"v00\.npy has 10 frames, a clip spans 12"):
        sample_clips(videos, Sampling("given", "name", "first", None), frames=12)
    discarding = sample_clips(videos, Sampling("given", "name", "first", None, short="discard"), frames=12)
    assert discarding.short == ["v00.npy", "v01.npy"]
    assert len(discarding.clips) == 10


def test_a_rule_that_repeats_goes_round_with_other_starts(videos):
    clips = sample_clips(videos, replace(RANDOM, n=30, repeat=True), frames=4).clips
    assert len(clips) == 30
    first, second = clips[:12], clips[12:24]
    assert [clip.video for clip in first] == [clip.video for clip in second]
    assert [clip.start for clip in first] != [clip.start for clip in second]
    assert len(sample_clips(videos, replace(RANDOM, n=30), frames=4).clips) == 12


def test_windows_tile_every_video(videos):
    clips = tile_clips(videos[-2:], frames=6).clips
    assert clips == [Clip(f"v{i}.npy", start, 6) for i in (10, 11) for start in (0, 6, 12)]


def test_a_video_that_cannot_be_read_is_a_fault_not_an_end(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((9, 4, 4, 3), dtype=np.uint8))
    (tmp_path / "b.avi").write_bytes(b"no video")
    np.save(tmp_path / "c.npy", np.zeros((9, 4, 4, 3)))
    sampled = sample_clips(list_videos(tmp_path), WHOLE, frames=8)
    assert [clip.video for clip in sampled.clips] == ["a.npy"]
    assert [fault.video for fault in sampled.faults] == ["b.avi", "c.npy"]
    assert "cannot be decoded" in sampled.faults[0].reason
    assert "must be uint8" in sampled.faults[1].reason
    few = sample_clips(list_videos(tmp_path), WHOLE, frames=8, n=1)
    assert few.faults == []  # nobody looked so far


@pytest.mark.parametrize("name", FVD)
def test_every_protocol_s_rules_draw_clips(name, videos):
    row = FVD[name]
    for rule in (row.real, row.fake):
        clips = sample_clips(videos, rule, frames=9, n=4).clips
        assert len(clips) == 4
        assert all(clip.frames == 9 for clip in clips)


def test_lists_of_clips_come_back_with_their_hash(tmp_path):
    clips = [Clip("Ärger/v.avi", 3, 16), Clip("b.npy#2", 0, 16, 2)]
    write_clips(tmp_path / "clips.jsonl", clips)
    assert read_clips(tmp_path / "clips.jsonl") == clips
    assert [path.name for path in tmp_path.iterdir()] == ["clips.jsonl"]
    assert hash_clips(clips) == hash_clips(read_clips(tmp_path / "clips.jsonl")) != hash_clips(clips[::-1])


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        '{"video": "a"}',
        '{"video": "a", "start": -1, "frames": 8}',
        '{"video": 1, "start": 0, "frames": 8}',
    ],
)
def test_lines_that_are_no_clip_are_refused(tmp_path, line):
    path = tmp_path / "clips.jsonl"
    path.write_text('{"video": "a", "start": 0, "frames": 8}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"clips\.jsonl, line 2 is no clip"):
        read_clips(path)
    with pytest.raises(ValueError, match="cannot be read as a list of clips"):
        read_clips(tmp_path / "absent.jsonl")
