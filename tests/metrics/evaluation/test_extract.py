"""Any number of videos in the memory of a few batches: order, faults, the cache, going on when killed."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from metrics.evaluation.cache import FeatureCache, cache_key, default_path, hash_of_makers
from metrics.evaluation.extract import embed_arrays, embed_clips, hash_frames
from metrics.evaluation.progress import Progress, ProgressPrinter
from metrics.networks.features import Features, PreparingNetwork, extract
from metrics.videos.clips import Clip
from metrics.videos.read import Video, list_videos, read_videos
from tests.metrics.video_files import some_videos, write_lossless

ROOT = Path(__file__).parents[3]
RECIPE = {"network": "counting", "weights": "0"}


@dataclass
class Counting:
    """Embeds a video by its mean colors, counts its videos, and stops after some batches on request."""

    stop_after: int | None = None
    name: str = "counting"
    min_frames: int = 1
    count: int = 0
    batches: list[int] = field(default_factory=list)

    def embed(self, videos):
        if self.stop_after is not None and len(self.batches) >= self.stop_after:
            raise KeyboardInterrupt
        self.count += len(videos)
        self.batches.append(len(videos))
        rows = videos.mean(axis=(1, 2, 3), dtype=np.float64)
        return Features(rows, {"light": rows[:, :2]})


@pytest.fixture
def folder(tmp_path):
    """Ten video files and an array of three videos."""
    videos = some_videos(13)
    place = tmp_path / "set"
    place.mkdir()
    for i in range(10):
        write_lossless(place / f"{i:02}.mkv", videos[i])
    np.save(place / "z.npy", videos[10:])
    return place


def whole(folder) -> list[Clip]:
    return [Clip(video.name, 0, 9) for video in list_videos(folder)]


def embed(folder, network, *, clips=None, **others):
    videos = {video.name: video for video in list_videos(folder)}
    return embed_clips(clips or whole(folder), videos, network, recipe=RECIPE, batch_size=4, **others)


def test_streamed_features_are_those_of_all_at_once(folder):
    embedded = embed(folder, Counting())
    together = extract(Counting(), read_videos(folder))
    np.testing.assert_array_equal(embedded.features.embedding, together.embedding)
    np.testing.assert_array_equal(embedded.features.logits["light"], together.logits["light"])
    assert embedded.clips == whole(folder)
    assert embedded.source.tolist() == list(range(13))
    assert len(set(embedded.contents)) == 13


def test_windows_of_one_video_have_one_source(folder):
    clips = [Clip(video.name, start, 4) for video in list_videos(folder)[:3] for start in (0, 5)]
    assert embed(folder, Counting(), clips=clips).source.tolist() == [0, 0, 1, 1, 2, 2]


def test_sizes_do_not_mix_in_a_batch_and_the_order_stays(tmp_path):
    for i in range(6):
        np.save(tmp_path / f"{i}.npy", some_videos(1, seed=i, size=16 if i % 3 else 24)[0])
    network = Counting()
    embedded = embed(tmp_path, network, clips=[Clip(f"{i}.npy", 0, 9) for i in range(6)])
    assert network.batches == [1, 2, 1, 2]
    for i in range(6):
        mean = some_videos(1, seed=i, size=16 if i % 3 else 24)[0].mean(axis=(0, 1, 2))
        np.testing.assert_allclose(embedded.features.embedding[i], mean, rtol=1e-12)


def test_what_cannot_be_read_is_counted_and_left_out(folder):
    content = (folder / "03.mkv").read_bytes()
    (folder / "03.mkv").write_bytes(content[:200])
    embedded = embed(folder, Counting())
    assert [fault.video for fault in embedded.faults] == ["03.mkv"]
    assert len(embedded.clips) == len(embedded.features.embedding) == 12
    assert "03.mkv" not in {clip.video for clip in embedded.clips}
    with pytest.raises(ValueError, match="not one clip could be read"):
        embed(folder, Counting(), clips=[Clip("03.mkv", 0, 9)])


def test_only_a_few_batches_are_in_memory(tmp_path):
    waiting, most = [0], [0]

    class Endless(Video):
        def fingerprint(self):
            return "x"

        def spans(self, spans, *, whole=False):
            for span in spans:
                waiting[0] += 1
                most[0] = max(most[0], waiting[0])
                yield span, np.full((2, 4, 4, 3), span.start % 256, dtype=np.uint8)

    class Releasing(Counting):
        def embed(self, videos):
            waiting[0] -= len(videos)
            return super().embed(videos)

    clips = [Clip("endless", start, 2) for start in range(300)]
    embedded = embed_clips(
        clips, {"endless": Endless("endless", Path("endless.avi"), "file")}, Releasing(), recipe=RECIPE, batch_size=4
    )
    assert len(embedded.clips) == 300
    assert most[0] <= 3 * 4 + 2  # two batches ahead, one being filled, one clip with each reader


def test_the_cache_answers_for_equal_content_weights_and_frames_only(folder, tmp_path):
    with FeatureCache(tmp_path / "kept.sqlite") as cache:
        first = embed(folder, Counting(), cache=cache)
        again = Counting()
        second = embed(folder, again, cache=cache)
        assert (again.count, second.kept, first.kept) == (0, 13, 0)
        np.testing.assert_array_equal(second.features.embedding, first.features.embedding)
        np.testing.assert_array_equal(second.features.logits["light"], first.features.logits["light"])
        assert second.contents == first.contents
        (folder / "renamed.mkv").write_bytes((folder / "00.mkv").read_bytes())
        write_lossless(folder / "01.mkv", some_videos(1, seed=9)[0])
        changed = Counting()
        embed(folder, changed, cache=cache)
        assert changed.count == 1  # the new content under an old name; the copy under a new one was known
        videos = {video.name: video for video in list_videos(folder)}
        other = Counting()
        embed_clips(whole(folder)[:2], videos, other, recipe={**RECIPE, "weights": "1"}, cache=cache)
        shorter = Counting()
        embed(folder, shorter, clips=[Clip("00.mkv", 1, 8)], cache=cache)
        assert (other.count, shorter.count) == (2, 1)


def test_an_interrupted_run_goes_on_where_it_was(folder, tmp_path):
    expected = embed(folder, Counting()).features.embedding
    with FeatureCache(tmp_path / "kept.sqlite") as cache, pytest.raises(KeyboardInterrupt):
        embed(folder, Counting(stop_after=2), cache=cache)
    with FeatureCache(tmp_path / "kept.sqlite") as cache:
        network = Counting()
        embedded = embed(folder, network, cache=cache)
    assert (embedded.kept, network.count) == (8, 5)
    np.testing.assert_array_equal(embedded.features.embedding, expected)


def test_a_killed_process_goes_on_where_it_was(folder, tmp_path):
    script = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(ROOT)!r})
        from metrics.evaluation.cache import FeatureCache
        from tests.metrics.evaluation.test_extract import Counting, embed
        class Slow(Counting):
            def embed(self, videos):
                time.sleep(0.2)
                return super().embed(videos)
        with FeatureCache({str(tmp_path / "kept.sqlite")!r}) as cache:
            embed({str(folder)!r}, Slow(), cache=cache, report=lambda progress: print(progress.done, flush=True))
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.wait()
        process.stdout.close()
    assert line.strip() == "4"
    with FeatureCache(tmp_path / "kept.sqlite") as cache:
        network = Counting()
        embedded = embed(folder, network, cache=cache)
    assert 4 <= embedded.kept < 13
    assert embedded.kept + network.count == 13


def test_rows_that_were_not_written_whole_are_made_again(folder, tmp_path):
    with FeatureCache(tmp_path / "kept.sqlite") as cache:
        embed(folder, Counting(), cache=cache)
        cache._file.execute("UPDATE features SET value = substr(value, 1, 100)")
        network = Counting()
        assert embed(folder, network, cache=cache).kept == 0
        assert network.count == 13


def test_a_cache_that_fails_on_the_way_is_not_used_any_more(folder, tmp_path):
    with FeatureCache(tmp_path / "kept.sqlite") as cache:
        embed(folder, Counting(), cache=cache)
        cache._file.execute("DROP TABLE features")
        network = Counting()
        embedded = embed(folder, network, cache=cache)
        assert (embedded.kept, network.count) == (0, 13)
        assert cache.fault == "no such table: features"
    (tmp_path / "full.sqlite").touch()
    with FeatureCache(tmp_path / "full.sqlite") as cache:
        cache._file.execute("PRAGMA max_page_count = 2")  # the disk is full
        embedded = embed(folder, Counting(), cache=cache)
        assert len(embedded.clips) == 13
        assert "full" in cache.fault
    content = bytearray((tmp_path / "kept.sqlite").read_bytes())
    content[100:] = b"?" * (len(content) - 100)
    (tmp_path / "kept.sqlite").write_bytes(content)
    with pytest.raises(ValueError, match=r"kept\.sqlite cannot keep features: "):
        FeatureCache(tmp_path / "kept.sqlite")


def test_the_cache_answers_for_the_code_and_the_packages_that_are_there(folder, tmp_path, monkeypatch):
    package = tmp_path / "metrics"
    shutil.copytree(ROOT / "metrics", package)
    monkeypatch.setattr("metrics.evaluation.cache.PACKAGE", package)
    hash_of_makers.cache_clear()
    with FeatureCache(tmp_path / "kept.sqlite") as cache:
        embed(folder, Counting(), cache=cache)
        assert embed(folder, Counting(), cache=cache).kept == 13
        for change in (
            lambda: (package / "videos" / "frames.py").write_text("# other pixels"),
            lambda: (package / "networks" / "new.py").write_text("LAYERS = 3"),
            lambda: (package / "evaluation" / "extract.py").write_text("# another order"),
            lambda: monkeypatch.setattr("metrics.evaluation.cache.versions", lambda: {"torch": "9.0"}),
        ):
            change()
            hash_of_makers.cache_clear()
            assert embed(folder, Counting(), cache=cache).kept == 0
            assert embed(folder, Counting(), cache=cache).kept == 13
        (package / "evaluation" / "progress.py").write_text("# another line")  # makes no features
        hash_of_makers.cache_clear()
        assert embed(folder, Counting(), cache=cache).kept == 13
    hash_of_makers.cache_clear()


def test_a_file_that_changes_while_it_is_read_is_no_clip(folder):
    class Changing(Video):
        def spans(self, spans, *, whole=False):
            for span, frames in super().spans(spans, whole=whole):
                write_lossless(self.path, some_videos(1, frames=12, seed=7)[0])
                yield span, frames

    videos = {"a": Changing("a", folder / "00.mkv", "file"), "b": Video("b", folder / "01.mkv", "file")}
    embedded = embed_clips([Clip("a", 0, 9), Clip("b", 0, 9)], videos, Counting(), recipe=RECIPE)
    assert [fault.video for fault in embedded.faults] == ["a"]
    assert "changed while it was read" in embedded.faults[0].reason


def test_a_file_that_is_no_cache_is_refused(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be taken for a broken one" * 20)
    with pytest.raises(ValueError, match=r"notes\.txt cannot keep features"):
        FeatureCache(tmp_path / "notes.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "vidrd-bench" / "features.sqlite"
    assert cache_key("a", {"x": 1, "y": 2}) == cache_key("a", {"y": 2, "x": 1}) != cache_key("b", {"x": 1, "y": 2})


def test_an_iterator_of_videos_or_batches_is_a_set_too(tmp_path):
    videos = some_videos(7)
    expected = extract(Counting(), videos[:, :8]).embedding
    for stream in (iter(videos), iter([videos[:3], videos[3:]])):
        embedded = embed_arrays(stream, Counting(), frames=8, batch_size=2)
        np.testing.assert_array_equal(embedded.features.embedding, expected)
    with FeatureCache(tmp_path / "kept.sqlite") as cache:
        embed_arrays(iter(videos), Counting(), recipe=RECIPE, cache=cache)
        assert embed_arrays(iter(videos[::-1]), Counting(), recipe=RECIPE, cache=cache).kept == 7
    with (
        FeatureCache(tmp_path / "kept.sqlite") as cache,
        pytest.raises(ValueError, match="counting names no digest of its weights"),
    ):
        embed_arrays(iter(videos), Counting(), cache=cache)
    with pytest.raises(ValueError, match="video 0 has 9 frames, 10 were requested"):
        embed_arrays(iter(videos), Counting(), frames=10)
    with pytest.raises(ValueError, match="not one clip could be read"):
        embed_arrays(iter([]), Counting())
    assert hash_frames(videos[0]) != hash_frames(videos[0].reshape(9, 8, 32, 3))


@dataclass
class Weighed(Counting):
    """The same, with weights."""

    digest: str = "0"

    def embed(self, videos):
        features = super().embed(videos)
        return Features(features.embedding * (1 + int(self.digest)), features.logits)


def test_one_network_never_gets_the_features_of_another(folder, tmp_path):
    videos = some_videos(3)
    by_name = {video.name: video for video in list_videos(folder)}
    with FeatureCache(tmp_path / "kept.sqlite") as cache:
        for network in (Weighed(), Weighed(digest="1"), Weighed(name="other"), Weighed(name="other", digest="1")):
            alone = extract(network, videos).embedding
            for recipe, kept in ((None, 0), ({}, 3), ({"storage": None}, 0)):
                embedded = embed_arrays(iter(videos), network, cache=cache, recipe=recipe)
                np.testing.assert_array_equal(embedded.features.embedding, alone)
                assert embedded.kept == kept
            clips = whole(folder)[:2]
            assert embed_clips(clips, by_name, network, cache=cache).kept == 0
            assert embed_clips(clips, by_name, network, cache=cache).kept == 2


@dataclass
class Prepared(Counting):
    """Has its input made elsewhere, and says where."""

    threads: set[str] = field(default_factory=set)

    def prepare(self, video):
        self.threads.add(threading.current_thread().name)
        if len(video) < 9:
            raise ValueError("prepared wants 9 frames")
        return video[None, ::2].astype(np.float64)

    def embed_prepared(self, clips):
        return Counting.embed(self, np.concatenate(clips))


@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_a_network_s_input_is_made_beside_it_and_stays_in_order(folder, batch_size):
    videos, network = some_videos(13), Prepared()
    assert isinstance(network, PreparingNetwork)
    expected = videos[:, ::2].mean(axis=(1, 2, 3))
    by_name = {video.name: video for video in list_videos(folder)}
    embedded = embed_clips(whole(folder), by_name, network, batch_size=batch_size)
    np.testing.assert_allclose(embedded.features.embedding, expected, rtol=1e-12)
    embedded = embed_arrays(iter(videos), network, batch_size=batch_size)
    np.testing.assert_allclose(embedded.features.embedding, expected, rtol=1e-12)
    assert threading.current_thread().name not in network.threads
    with pytest.raises(ValueError, match="prepared wants 9 frames"):  # no fault of the file, so no gap
        embed_clips([Clip("00.mkv", 0, 8)], by_name, network)
    with pytest.raises(ValueError, match="prepared wants 9 frames"):
        embed_arrays(iter(videos), network, frames=8)


def test_an_iterator_is_asked_in_the_caller_s_thread():
    asked = set()

    def videos():
        for video in some_videos(5):
            asked.add(threading.current_thread())
            yield video

    embed_arrays(videos(), Prepared(), batch_size=2)
    assert asked == {threading.current_thread()}


def test_progress_says_how_long_it_will_take(capsys, monkeypatch):
    progress = Progress(done=30, total=90, kept=10, seconds=40.0)
    assert progress.per_second == 0.5
    assert progress.left == 120
    assert Progress(0, 90, 0, 0.0).left is None
    assert Progress(5, None, 0, 2.0).left is None
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    printer = ProgressPrinter()
    printer("real", progress)
    clock[0] = 11
    printer("real", progress)
    clock[0] = 12
    printer("real", Progress(done=90, total=90, kept=10, seconds=160.0))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "real: 30/90 videos or clips, 0.50/s, 10 from the cache, 2:00 left",
        "real: 90/90 videos or clips, 0.50/s, 10 from the cache",
    ]
