"""A data set is built from files to index: nothing is lost or made up, killed runs go on, readers find every frame."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import warnings
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.vidrd.data.clips import number_of, numbered, scenes
from vidrd.data import shard_task
from vidrd.data.adapters import Where
from vidrd.data.captions import CaptionSettings, NoAnswerError
from vidrd.data.commands import Latents, Prepare, Watermark, pick_evenly
from vidrd.data.commands import latents as cache_latents
from vidrd.data.commands import prepare as command
from vidrd.data.commands import watermark as estimate_mark
from vidrd.data.latents import LatentSet
from vidrd.data.media import EncoderSettings, decode, encode_mp4, to_rgb, to_yuv
from vidrd.data.prepare import describe, prepare
from vidrd.data.shard_task import PanZoomSettings, PreparePlan, ShardTask
from vidrd.data.shards import ShardSet
from vidrd.data.shots import CutSettings
from vidrd.data.workers import carry_out
from vidrd.pocket.world import caption, render
from vidrd.video import write_video

ROOT = Path(__file__).parents[3]


def plan(root, **changes):
    return PreparePlan(
        **{"format": "folder", "where": Where(root), "cutting": CutSettings(64, min_frames=8), "unit": 4} | changes
    )


def quietly(*args, **options):
    return prepare(*args, say=lambda line: None, **options)


def content(folder):
    """All of a data set that must not depend on how it was made."""
    table = pq.read_table(folder / "index.parquet").to_pylist()
    shards = {path.name: path.read_bytes() for path in sorted((folder / "shards").glob("*.tar"))}
    return table, shards, (folder / "drops.jsonl").read_text()


@pytest.fixture(scope="module")
def built(pocket_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("built")
    return out, quietly(plan(pocket_folder), out)


def test_every_record_is_in_the_index_or_dropped_with_a_reason(built, pocket_folder):
    out, summary = built
    sources = len(list(pocket_folder.glob("*.mp4")))
    assert summary.tally.came["read"] == sources == 12
    assert summary.tally.dropped["read"] == {"unreadable": 1}
    assert summary.tally.dropped["duplicates"] == {"duplicate": 1}
    assert summary.clips == 10
    for step, entered in summary.tally.came.items():
        assert entered == summary.tally.went[step] + sum(summary.tally.dropped.get(step, {}).values())
    drops = [json.loads(line) for line in (out / "drops.jsonl").read_text().splitlines()]
    assert {drop["reason"] for drop in drops} == {"unreadable", "duplicate"}
    assert "1 unreadable" in describe(summary)
    assert json.loads((out / "summary.json").read_text())["clips"] == 10


def test_rows_know_where_they_come_from(built):
    row = ShardSet(built[0]).row(0)
    assert row["source"] == "folder"
    assert row["licence"] == "the owner's"
    assert row["captions"][0].startswith("a ")
    assert row["stages"].startswith("decode@2 cut@2")
    assert "hash@1" in row["stages"]
    assert (row["start"], row["end"], row["frames"]) == (0, 20, 20)


def test_stored_frames_are_the_sources_frame_by_frame(built):
    shards = ShardSet(built[0])
    for row in range(len(shards)):
        about = shards.row(row)
        source = np.stack([to_rgb(frame) for frame in decode(Path(about["uri"]), 64)])[about["start"] : about["end"]]
        stored = shards.read(row)
        assert stored.shape == source.shape
        error = ((stored[:, None].astype(float) - source[None]) ** 2).mean(axis=(2, 3, 4))
        assert (error.argmin(axis=1) == np.arange(len(source))).mean() > 0.9  # periodic motions repeat frames
        assert 10 * np.log10(255**2 / np.diag(error).mean()) > 33
        assert np.array_equal(shards.read(row, [3, 7, 11]), stored[[3, 7, 11]])


def test_webdataset_reads_the_tars(built):
    wds = pytest.importorskip("webdataset")
    out, _ = built
    urls = [str(path) for path in sorted((out / "shards").glob("*.tar"))]
    with warnings.catch_warnings(action="ignore"):
        samples = list(wds.WebDataset(urls, shardshuffle=False, empty_check=False))
    index = {row["key"]: row for row in pq.read_table(out / "index.parquet").to_pylist()}
    assert {sample["__key__"] for sample in samples} == index.keys()
    assert len(samples) == len(index) == 10  # eleven clips, one of them twice
    shards = ShardSet(out)
    by_key = {shards.row(row)["key"]: shards.data(row) for row in range(len(shards))}
    for sample in samples:
        assert sample["mp4"] == by_key[sample["__key__"]]
        assert json.loads(sample["json"])["caption"] == index[sample["__key__"]]["captions"][0]


def test_a_second_run_does_nothing_and_another_plan_is_refused(built, pocket_folder):
    out, _ = built
    before = content(out)
    stamps = {path: path.stat().st_mtime_ns for path in (out / "shards").glob("*.tar")}
    again = quietly(plan(pocket_folder), out)
    assert again.done_before == 3
    assert content(out) == before
    assert {path: path.stat().st_mtime_ns for path in (out / "shards").glob("*.tar")} == stamps
    with pytest.raises(ValueError, match="holds the data set of another plan"):
        quietly(plan(pocket_folder, unit=5), out)


def test_what_only_the_end_depends_on_may_change(built, pocket_folder, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(built[0], out)
    (tmp_path / "test").mkdir()
    shutil.copy(pocket_folder / "03.mp4", tmp_path / "test")
    changed = plan(pocket_folder, against=(tmp_path / "test",), duplicates=-1, device="cuda")
    summary = quietly(changed, out)
    assert summary.done_before == 3
    assert summary.tally.dropped["duplicates"] == {"duplicate": 1, "in a test set": 1}
    keys = {row["key"] for row in pq.read_table(out / "index.parquet").to_pylist()}
    assert keys_in_shards(out) == keys
    shards = ShardSet(out)
    assert all(shards.read(row).shape[0] == 20 for row in range(len(shards)))
    assert quietly(replace(changed, against=()), out).clips == 10  # what was left out comes back
    assert len(keys_in_shards(out)) == 10
    with pytest.raises(ValueError, match=r"of other unit, seed \(4 there, now 5; 0 there, now 1\)"):
        quietly(replace(changed, unit=5, seed=1), out)


def keys_in_shards(out):
    """What any reader of tars sees."""
    names = []
    for path in (out / "shards").iterdir():
        with tarfile.open(path) as tar:
            names += [name.removesuffix(".mp4") for name in tar.getnames() if name.endswith(".mp4")]
    assert len(names) == len(set(names))
    return set(names)


def test_a_source_that_shrinks_or_is_replaced_leaves_nothing_behind(pocket_folder, tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    shutil.copytree(pocket_folder, root)
    quietly(plan(root), out)
    state = (root / "01.mp4").stat()
    data = encode_mp4([to_yuv(frame) for frame in numbered(20)], 25)
    whole = (root / "01.mp4").stat().st_size
    assert len(data) < whole
    (root / "01.mp4").write_bytes(data + bytes(whole - len(data)))  # as large as the one before
    assert (root / "01.mp4").stat().st_size == state.st_size
    assert quietly(plan(root), out).done_before == 2
    shards = ShardSet(out)
    uris = [shards.row(row)["uri"] for row in range(len(shards))]
    assert [number_of(frame) for frame in shards.read(uris.index(str(root / "01.mp4")))][:3] == [0, 1, 2]
    for name in ("05", "06", "07", "08", "09", "broken", "copy"):
        (root / f"{name}.mp4").unlink()
    assert quietly(plan(root), out).clips == 5
    assert keys_in_shards(out) == {row["key"] for row in pq.read_table(out / "index.parquet").to_pylist()}
    assert [path.name for path in sorted((out / "shards").iterdir())] == ["000000.tar", "000001.tar"]


def test_a_new_file_that_sorts_first_leaves_finished_units_alone(pocket_folder, tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    shutil.copytree(pocket_folder, root)
    quietly(plan(root), out)
    before = {row["key"]: row for row in pq.read_table(out / "index.parquet").to_pylist()}
    (root / "!first.mp4").write_bytes(encode_mp4([to_yuv(frame) for frame in numbered(20)], 25))
    (root / "!first.txt").write_text("blocks of light count the frames")
    again = quietly(plan(root), out)
    assert (again.done_before, again.clips) == (3, 11)
    after = {row["key"]: row for row in pq.read_table(out / "index.parquet").to_pylist()}
    assert {key: after[key] for key in before} == before
    (new,) = after.keys() - before.keys()
    assert new.startswith("00000012_")
    (root / "00.mp4").unlink()
    assert quietly(plan(root), out).done_before == 3
    assert quietly(plan(root), out).done_before == 4


def test_a_folder_of_bad_samples_is_prepared_without_them(tmp_path):
    """Each is a drop with a reason; the good ones around them are kept."""
    root = tmp_path / "in"
    root.mkdir()
    for name, count in (("a", 20), ("z", 24)):
        (root / f"{name}.mp4").write_bytes(encode_mp4([to_yuv(frame) for frame in numbered(count)], 25))
    whole = (root / "a.mp4").read_bytes()
    bad = {
        "svg.mp4": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "empty.mp4": b"",
        "cut.mp4": whole[: len(whole) // 2],
        "sdp.avi": b"v=0\nm=video 5004 RTP/AVP 96\n",
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "huge.gif": b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x00;",
        "text.txt.webm": b"text",
    }
    for name, data in bad.items():
        (root / name).write_bytes(data)
    os.mkfifo(root / "pipe.mp4")
    (root / "folder.mp4").mkdir()
    (root / "gone.mp4").symlink_to("nowhere")
    lines = [json.dumps({"file": f"{name}.mp4", "caption": f"numbers that {name} counts up"}) for name in "az"]
    (root / "captions.jsonl").write_text("\n".join([*lines, "[" * 100_000, "7", '{"file": 3}']))
    summary = quietly(plan(root, duplicates=-1, panning=None), tmp_path / "out")
    assert summary.clips == 2
    assert summary.tally.dropped["read"] == {"unreadable": len(bad) + 3, "missing": 2}


def test_damage_ends_a_clip_and_is_counted(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    data = bytearray(encode_mp4([to_yuv(frame) for frame in numbered(100)], 25))
    begin = len(data) * 3 // 5
    data[begin : begin + 200] = bytes(200)
    (root / "v.mp4").write_bytes(data)
    (root / "v.txt").write_text("blocks of light count the frames")
    summary = quietly(plan(root, cutting=CutSettings(None, "none", min_frames=8)), tmp_path / "out")
    assert summary.tally.dropped["cut"] == {"damaged": 1}
    numbers = [number_of(frame) for frame in ShardSet(tmp_path / "out").read(0)]
    assert numbers == list(range(len(numbers)))
    assert 20 < len(numbers) < 90
    drop = json.loads((tmp_path / "out" / "drops.jsonl").read_text())
    assert drop["reason"] == "damaged"
    assert "frame" in drop["detail"]


def test_what_cannot_be_done_is_said_before_anything_is_written(pocket_folder, tmp_path):
    (tmp_path / "mark.npz").write_bytes(b"no overlay")
    for changes, message in [
        ({"captioner": "chat", "caption_model": str(tmp_path / "none")}, "is not here"),
        ({"captioner": "http", "caption_model": "m"}, "address begins with http"),
        ({"captioner": "http", "endpoint": "http://localhost:1"}, "needs a model"),
        ({"captioner": "nope"}, "a captioner is one of"),
        ({"overlay": tmp_path / "mark.npz"}, "is no overlay"),
        ({"against": (tmp_path / "none",)}, "--against names folders of videos"),
        ({"format": "kinetics700"}, "the annotation file is missing"),
        ({"format": "vatex", "where": Where(pocket_folder, split="tset")}, "the set's splits are"),
        ({"where": Where(tmp_path / "none")}, "does not exist"),
    ]:
        with pytest.raises(ValueError, match=message):
            quietly(plan(pocket_folder, **changes), tmp_path / "out")
        assert not (tmp_path / "out").exists(), changes


class Moody:
    """A captioner without an answer for some pictures."""

    name = "moody"

    def __init__(self, refuse):
        self.refuse, self.asked = refuse, 0

    def ask(self, frames, prompt):
        self.asked += 1
        if self.asked in self.refuse:
            raise NoAnswerError("400: I do not look at this")
        return f"An answer of number {self.asked} about it"


def test_a_clip_without_an_answer_is_dropped_and_asked_about_again_on_request(pocket_folder, tmp_path, monkeypatch):
    model = Moody(refuse={2})
    monkeypatch.setattr(shard_task, "_captioner", lambda *args: model)
    monkeypatch.setattr("vidrd.data.captioners.check_captioner", lambda *args: None)
    asked = plan(pocket_folder, captioner="http", caption_model="m", asking=CaptionSettings(frames=1, when="always"))
    summary = quietly(asked, tmp_path)
    assert summary.tally.dropped["caption"] == {"captioner failed": 1}
    assert "I do not look at this" in (tmp_path / "drops.jsonl").read_text()
    elsewhere = replace(asked, endpoint="http://other:8000/v1", tries=9, timeout=5.0)
    before = model.asked
    assert quietly(elsewhere, tmp_path).done_before == 3
    assert model.asked == before
    again = quietly(replace(elsewhere, retry=True), tmp_path)
    assert again.done_before == 2
    assert "caption" not in again.tally.dropped
    assert again.clips == summary.clips + 1


def test_a_whole_video_gives_the_labelled_seconds(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    frames = [to_yuv(frame) for frame in numbered(100)]
    (root / "whole.mp4").write_bytes(encode_mp4(frames, 10))
    (root / "cut.mp4").write_bytes(encode_mp4(frames[:30], 10))
    (root / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nx,whole,2,5,train\nx,cut,40,43,train\n"
    )
    cutting = CutSettings(None, "none", min_frames=8)
    quietly(plan(root, format="kinetics700", cutting=cutting, duplicates=-1), tmp_path / "out")
    shards = ShardSet(tmp_path / "out")
    numbers = {shards.row(row)["uri"]: [number_of(frame) for frame in shards.read(row)] for row in range(len(shards))}
    assert numbers == {str(root / "whole.mp4"): [*range(20, 50)], str(root / "cut.mp4"): [*range(30)]}


def test_what_the_list_could_not_give_is_counted(tmp_path):
    from tests.vidrd.data.test_adapters import picture, write_tar

    write_tar(tmp_path / "a.tar", [("./1.png", picture()), ("./1.txt", b"a field of coloured noise"),
                                   ("./2.png", picture()), ("./2.json", b"{")])  # fmt: skip
    asked = plan(tmp_path / "a.tar", format="webdataset", panning=PanZoomSettings(frames=10, size=32))
    summary = quietly(asked, tmp_path / "out")
    assert summary.tally.came["read"] == 2
    assert summary.tally.dropped["read"] == {"unreadable": 1}
    assert summary.clips == 1
    assert quietly(asked, tmp_path / "out").done_before == 1


@pytest.mark.parametrize(("captioner", "device", "wanted"), [
    ("chat", "cuda:1", 1), ("blip2", "cuda", 1), ("http", "cuda", None), ("chat", "cpu", None)
])  # fmt: skip
def test_ray_gives_a_captioner_the_gpu_that_it_runs_on(captioner, device, wanted, monkeypatch, tmp_path):
    asked: dict = {}

    class Ray:
        @staticmethod
        def put(work):
            asked["device"] = work[2]

        class data:  # noqa: N801 - as Ray calls it
            ActorPoolStrategy = dict

            @staticmethod
            def from_items(rows, override_num_blocks):
                return Ray

        @staticmethod
        def is_initialized():
            return True

        @staticmethod
        def map_batches(worker, **options):
            asked.update(options)
            return Ray

        @staticmethod
        def iter_rows():
            return []

    monkeypatch.setitem(sys.modules, "ray", Ray)
    whole = plan(tmp_path, captioner=captioner, caption_model="x", device=device)
    carry_out(whole, tmp_path, [ShardTask(0, ())], 2, print, ray=True)
    assert asked["num_gpus"] == wanted
    assert asked["device"] == device.partition(":")[0]


@pytest.mark.parametrize(
    ("captioner", "device", "wanted"),
    [("chat", "cuda", ("cuda:0", "cuda:1", "cuda:2")), ("chat", "cuda:1", ("cuda:1",)), ("http", "cuda", ("cuda",))],
)
def test_local_workers_take_the_gpus_in_turn(captioner, device, wanted, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    pools = []
    monkeypatch.setattr("vidrd.data.workers.run_locally", lambda job, tasks, pool, say: pools.append(pool) or ())
    carry_out(plan(tmp_path, captioner=captioner, caption_model="x", device=device), tmp_path, [], 6, print)
    assert pools[0].devices == wanted


def test_a_set_from_before_a_choice_existed_goes_on(pocket_folder, tmp_path):
    quietly(plan(pocket_folder), tmp_path)
    held = json.loads((tmp_path / "plan.json").read_text())
    del held["asking"]["prompts"], held["caption_dtype"]
    (tmp_path / "plan.json").write_text(json.dumps(held))
    assert quietly(plan(pocket_folder), tmp_path).done_before == 3
    with pytest.raises(ValueError, match="of other caption_dtype"):
        quietly(plan(pocket_folder, caption_dtype="bf16"), tmp_path)


def test_a_unit_whose_source_changed_is_done_again(pocket_folder, tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    shutil.copytree(pocket_folder, root)
    quietly(plan(root), out)
    (root / "00.txt").write_text("another caption for this clip\n")
    again = quietly(plan(root), out)
    assert again.done_before == 2
    assert ShardSet(out).row(0)["captions"] == ["another caption for this clip"]


def test_processes_make_what_one_process_makes(built, pocket_folder, tmp_path):
    quietly(plan(pocket_folder), tmp_path / "out", workers=2)
    ours, theirs = content(tmp_path / "out"), content(built[0])
    assert ours == theirs


KILLED = """
import os, signal, sys, time
from pathlib import Path
import vidrd.data.shard_task as units
from tests.vidrd.data.test_prepare import plan, quietly
original = units.write_rows
def slow(path, rows):
    original(path, rows)
    if path.parent.name == "units" and "000001" in path.name:
        Path(sys.argv[3]).touch()
        time.sleep(60)
units.write_rows = slow
quietly(plan(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_killed_run_goes_on_without_loss(built, pocket_folder, tmp_path):
    out, flag = tmp_path / "out", tmp_path / "flag"
    words = [sys.executable, "-c", KILLED, str(pocket_folder), str(out), str(flag)]
    process = subprocess.Popen(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    for _ in range(2400):
        if flag.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "index.parquet").exists()
    assert not list((out / "shards").iterdir())
    assert not (out / "units" / "000001.json").exists()
    summary = quietly(plan(pocket_folder), out)
    assert summary.done_before == 1
    assert content(out) == content(built[0])
    assert [path.name for path in out.rglob(".*") if path.is_file()] == [".lock"]


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A plan whose units take a while, and what it makes in one process."""
    root = tmp_path_factory.mktemp("slow")
    (root / "in").mkdir()
    some = scenes(16)
    for index, (scene, video) in enumerate(zip(some, render(some, 48, size=32), strict=True)):
        write_video(root / "in" / f"{index:02d}.mp4", video, fps=8, scale=4)
        (root / "in" / f"{index:02d}.txt").write_text(caption(scene))
    asked = plan(
        root / "in", unit=1, encoder=EncoderSettings(preset="veryslow"), cutting=CutSettings(128, min_frames=8)
    )
    quietly(asked, root / "local")
    return asked, content(root / "local")


def kill_a_child(units, killed):
    """Once a unit is done, kill one of the processes that carry them out."""
    for _ in range(30_000):
        time.sleep(0.01)
        if list(units.glob("*.json")):
            child = multiprocessing.active_children()[0]
            os.kill(child.pid, signal.SIGKILL)
            killed.append(child.pid)
            return


@pytest.mark.slow  # tests/vidrd/test_resumable_pool.py kills one of the same pool
def test_a_worker_that_is_killed_is_replaced(slow, tmp_path, monkeypatch):
    asked, wanted = slow
    messages, killed = [], []
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "units").mkdir()
    killer = threading.Thread(target=kill_a_child, args=(tmp_path / "units", killed), daemon=True)
    killer.start()
    prepare(asked, tmp_path, workers=2, say=messages.append)
    killer.join()
    assert killed
    assert any("a worker died" in line for line in messages), messages
    assert content(tmp_path) == wanted


def test_pictures_become_clips_that_say_what_the_camera_does(tmp_path):
    (tmp_path / "in").mkdir()
    from tests.vidrd.data.test_zoompan import picture

    for index in range(6):
        Image.fromarray(picture(160, 200, index)).save(tmp_path / "in" / f"{index}.png")
        (tmp_path / "in" / f"{index}.txt").write_text("A picture of coloured clouds.")
    Image.fromarray(picture(20, 20)).save(tmp_path / "in" / "small.png")
    (tmp_path / "in" / "small.txt").write_text("A picture of coloured clouds.")
    panning = PanZoomSettings(frames=10, size=64)
    summary = quietly(plan(tmp_path / "in", panning=panning, duplicates=-1), tmp_path / "out")
    assert summary.tally.dropped["pan"] == {"picture too small": 1}
    shards = ShardSet(tmp_path / "out")
    assert len(shards) == 6
    assert shards.read(0).shape == (10, 64, 64, 3)
    rows = [shards.row(row) for row in range(6)]
    assert all(json.loads(row["facts"])["moved_still"] for row in rows)
    assert any("the camera" in row["captions"][0] for row in rows)
    stills = quietly(plan(tmp_path / "in", panning=None, duplicates=-1), tmp_path / "stills")
    assert stills.clips == 7
    still = ShardSet(tmp_path / "stills")
    assert still.row(0)["media"] == "image"
    assert still.read(0).shape == (1, 160, 200, 3)


def test_clips_of_a_test_set_and_still_ones_are_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "test").mkdir()
    videos = render(scenes(3), 40, size=64)
    for index, video in enumerate(videos):
        write_video(tmp_path / "in" / f"{index}.mp4", video, fps=8)
        (tmp_path / "in" / f"{index}.txt").write_text("a shape moves over a plain ground")
    write_video(tmp_path / "test" / "x.avi", np.concatenate([videos[2][-4:], videos[2]]), fps=8)
    write_video(tmp_path / "in" / "still.mp4", np.repeat(videos[0][:1], 20, axis=0), fps=8)
    (tmp_path / "in" / "still.txt").write_text("a shape rests on a plain ground")
    summary = quietly(
        plan(tmp_path / "in", against=(tmp_path / "test",), least_motion=0.2, duplicates=-1), tmp_path / "out"
    )
    assert summary.tally.dropped == {
        "motion": {"stands still": 1}, "duplicates": {"in a test set": 1}
    }  # fmt: skip
    assert summary.clips == 2


def test_long_scenes_of_one_source_come_in_order(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "v.mp4").write_bytes(encode_mp4([to_yuv(frame) for frame in numbered(100)], 25))
    (tmp_path / "in" / "v.txt").write_text("blocks of light count the frames")
    cutting = CutSettings(None, "none", min_frames=8, max_frames=30)
    quietly(plan(tmp_path / "in", cutting=cutting, duplicates=-1), tmp_path / "out")
    shards = ShardSet(tmp_path / "out")
    numbers = [number_of(frame) for row in range(len(shards)) for frame in shards.read(row)]
    assert numbers == list(range(100))


def test_the_command_prints_and_writes_its_counts(pocket_folder, tmp_path, capsys):
    command(
        Prepare("folder", pocket_folder, tmp_path / "out", size=0, min_frames=8, json=tmp_path / "counts.json", unit=50)
    )
    assert "10 clips in the index" in capsys.readouterr().out
    assert json.loads((tmp_path / "counts.json").read_text())["clips"] == 10


def test_a_plan_of_which_nothing_was_done_gives_way(pocket_folder, tmp_path, monkeypatch):
    """As after a captioner that could not be loaded."""
    with monkeypatch.context() as patch:
        patch.setattr("vidrd.data.prepare.carry_out", raising(ValueError("no such model")))
        with pytest.raises(ValueError, match="no such model"):
            quietly(plan(pocket_folder, seed=5), tmp_path)
    quietly(plan(pocket_folder), tmp_path)
    assert min(key[:8] for key in ShardSet(tmp_path).columns("key")[0]) == "00000000"
    with pytest.raises(ValueError, match=r"another plan, of other seed"):
        quietly(plan(pocket_folder, seed=5), tmp_path)


def test_a_folder_that_is_in_use_is_refused_and_left_alone(built, pocket_folder, tmp_path, monkeypatch):
    """Before the first unit is done, too."""

    def carry_out_meanwhile(*args, **options):
        monkeypatch.undo()
        (tmp_path / "units" / ".000000.tar.part").touch()
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for other in (plan(pocket_folder), plan(pocket_folder, seed=5)):
            with pytest.raises(ValueError, match=r"another run is writing into .*: wait for it, or give --out another"):
                quietly(other, tmp_path)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        carry_out(*args, **options)

    monkeypatch.setattr("vidrd.data.prepare.carry_out", carry_out_meanwhile)
    quietly(plan(pocket_folder), tmp_path)
    assert content(tmp_path) == content(built[0])


def raising(error):
    def fail(*args, **options):
        raise error

    return fail


def test_the_source_is_no_place_for_the_set(pocket_folder):
    with pytest.raises(ValueError, match=r"a data set has a folder of its own: got .* for --root and --out"):
        quietly(plan(pocket_folder), pocket_folder)


def test_a_set_without_a_clip_is_no_success(pocket_folder, tmp_path, capsys):
    asked = Prepare("folder", pocket_folder, tmp_path / "out", size=0, min_frames=200, cut="none")
    with pytest.raises(ValueError, match=r"no clip is left, most were dropped as 'short': .*drops\.jsonl says why"):
        command(asked)
    assert "0 clips in the index" in capsys.readouterr().out


def test_a_mark_is_estimated_and_taken_off_by_the_verbs(tmp_path, capsys):
    """Thirty-two videos with one logo: `watermark`, then `prepare --watermark invert` on the same folder."""
    from tests.vidrd.data.test_watermarks import SIZE, logo, marked
    from tests.vidrd.data.test_watermarks import psnr as psnr_within

    root, overlay = tmp_path / "in", logo(0.6)
    root.mkdir()
    clean = render(scenes(32), 8, size=SIZE)
    for index, video in enumerate(clean):
        write_video(root / f"{index:02d}.mkv", marked(video, overlay), fps=8)
        (root / f"{index:02d}.txt").write_text("a shape moves over a plain ground")
    estimate_mark(Watermark(root, tmp_path / "mark.npz", size=0, frames=4))
    assert "a mark over" in capsys.readouterr().out
    asked = {"size": 0, "cut": "none", "min_frames": 8, "duplicates": -1}
    for how in ("none", "invert"):
        mark = tmp_path / "mark.npz" if how == "invert" else None
        command(Prepare("folder", root, tmp_path / how, watermark=how, overlay=mark, **asked))
    errors = {}
    for how in ("none", "invert"):
        shards = ShardSet(tmp_path / how)
        assert len(shards) == 32
        stored = np.concatenate([shards.read(row) for row in range(32)])
        errors[how] = psnr_within(stored, np.concatenate(clean), overlay.mask)
    assert errors["invert"] > errors["none"] + 6, errors


def test_latents_are_cached_by_the_verb(built, tmp_path):
    cache_latents(Latents(built[0], "pocket", tmp_path / "latents", size=32))
    held, shards = LatentSet(tmp_path / "latents"), ShardSet(built[0])
    assert list(held.frames) == list(shards.frames)
    assert held.captions(3) == shards.captions(3)
    with pytest.raises(ValueError, match="height and width must be multiples of 4 pixels: got 34 x 34, try 32"):
        cache_latents(Latents(built[0], "pocket", tmp_path / "odd", size=34))


def test_empty_sources_and_impossible_plans_are_one_line(tmp_path, pocket_folder):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="holds no folder records"):
        quietly(plan(tmp_path / "none"), tmp_path / "out")
    with pytest.raises(ValueError, match="at least one record"):
        plan(tmp_path, unit=0)
    with pytest.raises(ValueError, match="only if it is known"):
        plan(tmp_path, watermark="invert")
    with pytest.raises(ValueError, match="is no data set"):
        ShardSet(tmp_path)


def test_a_shard_that_is_cut_short_says_so(built, tmp_path):
    shutil.copytree(built[0], tmp_path / "cut")
    shard = tmp_path / "cut" / "shards" / "000002.tar"
    shard.write_bytes(shard.read_bytes()[:1500])
    shards = ShardSet(tmp_path / "cut")
    with pytest.raises(ValueError, match="is cut short"):
        shards.data(len(shards) - 1)


@pytest.mark.parametrize("name", ["shards/000002.tar", "units/000002.clips", "units/000002.parquet"])
def test_the_same_command_mends_what_is_cut_short_or_gone(built, pocket_folder, tmp_path, name):
    shutil.copytree(built[0], tmp_path / "cut")
    clips = tmp_path / "cut" / "units" / "000002.clips"
    clips.unlink()
    os.link(tmp_path / "cut" / "shards" / "000002.tar", clips)  # as `prepare` leaves it: one file with two names
    file = tmp_path / "cut" / name
    os.truncate(file, 1500) if file.suffix != ".parquet" else file.unlink()
    summary = quietly(plan(pocket_folder), tmp_path / "cut")
    assert summary.done_before == 2
    assert content(tmp_path / "cut") == content(built[0])


def test_a_plan_that_was_damaged_is_named(built, pocket_folder, tmp_path):
    shutil.copytree(built[0], tmp_path / "set")
    (tmp_path / "set" / "plan.json").write_text("{")
    with pytest.raises(ValueError, match=r"plan\.json is no JSON"):
        quietly(plan(pocket_folder), tmp_path / "set")


def test_lengths_that_an_index_declares_are_not_believed(built, tmp_path):
    shutil.copytree(built[0], tmp_path / "set")
    table = pq.read_table(tmp_path / "set" / "index.parquet")
    for column, value in (("length", 2**40), ("offset", 2**40), ("offset", -5)):
        changed = table.set_column(table.schema.get_field_index(column), column, pa.array([value] * len(table)))
        pq.write_table(changed, tmp_path / "set" / "index.parquet")
        with pytest.raises(ValueError, match="is cut short"):
            ShardSet(tmp_path / "set").data(0)
    (tmp_path / "set" / "index.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(ValueError, match=r"index\.parquet cannot be read"):
        ShardSet(tmp_path / "set")


def test_frames_of_a_video_are_spread_evenly_and_few_are_held():
    held = []

    class Counted:
        def __init__(self, number):
            self.number = number
            held.append(weakref.ref(self))

    def frames():
        for number in range(1000):
            yield Counted(number)
            assert sum(each() is not None for each in held) <= 10

    assert [frame.number for frame in pick_evenly(frames(), 4)] == [0, 256, 640, 896]
    assert [frame.number for frame in pick_evenly(map(Counted, range(3)), 4)] == [0, 1, 2]


def test_a_mark_is_estimated_from_the_videos_of_the_common_size(tmp_path, capsys):
    from tests.vidrd.data.test_watermarks import SIZE, logo, marked

    for index, video in enumerate(render(scenes(40), 4, size=SIZE)):
        write_video(tmp_path / f"{index:02d}.mkv", marked(video, logo(0.6)), fps=8)
    write_video(tmp_path / "odd.mkv", render(scenes(1), 4, size=64)[0], fps=8)
    for number in range(5):  # neither counts as a video
        (tmp_path / f"00{number}.flv").touch()
        Image.new("RGB", (96, 96)).save(tmp_path / f"00{number}.png")
    estimate_mark(Watermark(tmp_path, tmp_path / "mark.npz", size=0, frames=4, most=41))
    assert "4 frames of other sizes than 96 x 96 are left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="by at least 16 frames of one size: got 12, take more videos"):
        estimate_mark(Watermark(tmp_path, tmp_path / "few.npz", size=0, frames=4, most=3))
    assert not (tmp_path / "few.npz").exists()


def kill_a_ray_worker(units, killed):
    """Once two units are done, kill one of the processes that carry them out."""
    for _ in range(12_000):
        time.sleep(0.01)
        if len(list(units.glob("*.json"))) < 2:
            continue
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = process.read_bytes()
                if line.startswith(b"ray::") and b"RayWorker" in line:
                    os.kill(int(process.parent.name), signal.SIGKILL)
                    killed.append(line.decode(errors="replace"))
                    return


def test_ray_makes_what_processes_make_though_a_worker_is_killed(slow, tmp_path, monkeypatch):
    import ray

    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's own, 15, starves its workers next to any other work
    asked, wanted = slow
    messages, killed = [], []
    (tmp_path / "units").mkdir(parents=True)
    killer = threading.Thread(target=kill_a_ray_worker, args=(tmp_path / "units", killed), daemon=True)
    with warnings.catch_warnings(action="ignore"):
        ray.init(num_cpus=2, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})
        try:
            killer.start()
            prepare(asked, tmp_path, workers=2, engine="ray", say=messages.append)
        finally:
            ray.shutdown()
    assert killed
    assert content(tmp_path) == wanted


def test_without_ray_the_engine_says_what_to_install(pocket_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="engine ray needs Ray Data: pip install"):
        quietly(plan(pocket_folder), tmp_path / "out", engine="ray")


def test_the_plan_decides_and_its_tuning_of_the_end_does_not_redo_units(pocket_folder):
    from vidrd.data.adapters import records
    from vidrd.data.numbering import number_records
    from vidrd.data.shard_task import unit_hash

    unit = number_records(Path("none"), records("folder", Where(pocket_folder)), 4)[0][0]
    whole = plan(pocket_folder)
    assert unit_hash(whole, unit) == unit_hash(replace(whole, duplicates=3, device="cuda"), unit)
    assert unit_hash(whole, unit) != unit_hash(replace(whole, seed=1), unit)
