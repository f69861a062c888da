"""Whoever does the work, however often it was cut off: the same files and the same score, bit for bit."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.ucf101.features import Embedding, ScoringNetwork, recipe
from bench.ucf101.generate import MANIFEST, VIDEOS, Generation
from bench.ucf101.plan import make_plan
from bench.ucf101.pool import WorkerPool, run_blocks
from bench.ucf101.score import embedding, generated_sources, score
from metrics.evaluation.dataset import FeatureSet
from metrics.videos.read import list_videos
from vidrd.checkpoints import sha256
from vidrd.pocket.world import draw_scene, render
from vidrd.resumable_pool import connect
from vidrd.video import read_video

MODEL = {"folder": "pocket", "sha256": "0" * 64}
ONE = WorkerPool()
CHANGES = {"size": 32, "steps": 2, "fvd": ("pocket",), "inception": ("pocket",)}


def generation(out, *, limit=7, batch=2, **more):
    plan = make_plan(
        "vidrd-10k", CHANGES, model=MODEL, clip=8, precision="fp32", batch=batch, per_class=1, limit=limit, **more
    )
    return Generation(plan, "vidrd", "pocket", out, plan.identity("vidrd"))


def make(job, crew=ONE, said=None):
    return run_blocks(job, range(job.blocks if isinstance(job, Embedding) else job.plan.blocks), crew,
                      (said if said is not None else []).append)  # fmt: skip


def features(made, judge, crew=ONE, said=None):
    made.collect()
    job = embedding(
        generated_sources(made), "fake", judge, judge.load(), made.plan.settings, crew, made.out / "features"
    )
    make(job, crew, said)
    return job


def scores(made, real, crew=ONE, said=None):
    """Both scores of a run, every bit of them."""
    results = {}
    for judge in (ScoringNetwork("fvd", "pocket", batch=2), ScoringNetwork("is", "pocket", batch=2)):
        job = features(made, judge, crew, said)
        result = score(judge, judge.load(), real, job.side({"seed": 0}), made.plan.settings, {}, allow_small=True)
        results |= {name: [float(x).hex() for x in value[:4] if x is not None] for name, value in result.scores.items()}
    return results


@pytest.fixture(scope="module")
def real():
    """Real scenes as the pocket judge sees them."""
    network = ScoringNetwork("fvd", "pocket").load()
    found = network.embed(render([draw_scene(seed) for seed in range(24)], 16))
    return FeatureSet(found, np.arange(24), {"gaps": 0, "names_sha256": "", "clips": 24})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, real):
    job = generation(tmp_path_factory.mktemp("one"))
    make(job)
    return job, scores(job, real)


def files(made):
    return {item.file: (made.out / VIDEOS / item.file).read_bytes() for item in made.plan.items}


def test_every_video_has_a_line_that_says_how_it_came_about(undisturbed):
    job, _ = undisturbed
    lines = [json.loads(line) for line in (job.out / MANIFEST).read_text().splitlines()]
    assert [line["file"] for line in lines] == [item.file for item in job.plan.items]
    for line, item in zip(lines, job.plan.items, strict=True):
        assert line["sha256"] == sha256(job.out / VIDEOS / item.file)
        assert (line["seed"], line["prompt_id"], line["index"]) == (item.seed, item.prompt_id, item.index)
        assert line["seconds"] > 0
        assert line["device"] == "cpu"
        assert line["shape"] == [16, 32, 32, 3]


def test_the_videos_are_the_pipeline_s_own(undisturbed):
    from vidrd.checkpoints import load_pipeline

    job, _ = undisturbed
    items = job.plan.block(1)
    out = load_pipeline("pocket")(
        [item.prompt for item in items], num_frames=16, num_inference_steps=2, guidance_scale=10.0,
        seed=[item.seed for item in items], output_type="uint8",
    )  # fmt: skip
    for item, frames in zip(items, out.frames, strict=True):
        found = read_video(job.out / VIDEOS / item.file).astype(int)
        assert abs(found - frames).max() <= 1, "the pipeline may decode other clips together"
        assert (found == frames).mean() > 0.99


def test_missing_and_damaged_files_are_made_again_as_they_were(undisturbed, real, tmp_path):
    job, wanted = undisturbed
    again = replace(job, out=tmp_path)
    make(again)
    before = files(again)
    assert before == files(job)
    paths = [again.out / VIDEOS / item.file for item in again.plan.items]
    paths[0].unlink()
    damaged = bytearray(paths[3].read_bytes())
    damaged[-20] ^= 1
    paths[3].write_bytes(damaged)
    (again.out / "lines" / "000002.jsonl").write_text('{"file": ')
    kept = paths[1].stat().st_mtime_ns
    assert again.missing() == [again.plan.items[number].file for number in (0, 3, 4, 5)]
    assert {done.piece for done in make(again)} == {0, 1, 2}
    assert files(again) == before
    assert paths[1].stat().st_mtime_ns == kept, "a whole file stays"
    assert make(again) == []
    assert scores(again, real) == wanted


def test_without_a_video_there_is_no_score(tmp_path):
    job = generation(tmp_path, limit=3)
    make(job)
    features(job, ScoringNetwork("fvd", "pocket", batch=2))
    (job.out / VIDEOS / job.plan.items[1].file).unlink()
    with pytest.raises(
        ValueError, match=rf"1 of 3 videos of vidrd are missing or damaged \({job.plan.items[1].file}\)"
    ):
        job.collect()
    assert generated_sources(job)[1].sha256 is None


def test_features_of_a_file_that_changed_are_not_taken(tmp_path):
    made = generation(tmp_path, limit=2)
    make(made)
    judge = ScoringNetwork("fvd", "pocket", batch=2)
    sources = generated_sources(made)
    path = sources[0].video.path
    path.write_bytes(path.read_bytes() + b"x")
    job = embedding(sources, "fake", judge, judge.load(), made.plan.settings, WorkerPool(), tmp_path / "features")
    with pytest.raises(ValueError, match="changed while this run used it"):
        make(job)
    with pytest.raises(ValueError, match="features of 1 of 1 blocks are missing"):
        job.side({})


def kill_a_child(folder, killed):
    """Once a block is done, kill one of the processes that do them."""
    for _ in range(30_000):
        time.sleep(0.01)
        if list(folder.glob("*.jsonl")) and multiprocessing.active_children():
            child = multiprocessing.active_children()[0]
            os.kill(child.pid, signal.SIGKILL)
            killed.append(child.pid)
            return


def check(made, wanted, real, out, crew, *, kill, embed):
    """Make the same with another crew, one of it killed if so wanted; `embed`: that crew does the features too."""
    other = replace(made, out=out)
    messages, killed = [], []
    (other.out / "lines").mkdir(parents=True)
    killer = threading.Thread(target=kill_a_child, args=(other.out / "lines", killed), daemon=True)
    if kill:
        killer.start()
    make(other, crew, messages)
    if kill:
        killer.join()
        assert killed
        assert any("a worker died" in line for line in messages), messages
    assert files(other) == files(made)
    assert scores(other, real, crew if embed else ONE) == wanted


@pytest.mark.slow
def test_two_workers_of_whom_one_is_killed_make_the_same_score(undisturbed, real, tmp_path):
    check(*undisturbed, real, tmp_path, WorkerPool(2), kill=True, embed=False)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kill"), [(2, False), (3, True)])
def test_workers_who_also_embed_make_the_same_score(undisturbed, real, tmp_path, workers, kill):
    check(*undisturbed, real, tmp_path, WorkerPool(workers), kill=kill, embed=True)


def kill_a_ray_worker(folder, killed, done):
    """Once a block is done, kill one of the processes that do them, of this test's own cluster; until it is `done`."""
    while not done.wait(0.02):
        if not list(folder.glob("*.jsonl")):
            continue
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line, parent = (process / "cmdline").read_bytes(), parent_of(process)
                ours = parent_of(Path("/proc", parent)) == str(os.getpid())  # the parent is Ray's raylet
            except OSError:
                continue
            if ours and line.startswith(b"ray::") and b"RayWorker" in line:
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(int(process.name))
                return


def parent_of(process):
    return (process / "stat").read_text().rpartition(")")[2].split()[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_ray_makes_the_same_score_though_an_actor_is_killed(undisturbed, real, tmp_path, monkeypatch, workers):
    """One of the two is killed; where there is more than one they embed too."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's own, 15, starves its workers next to any other work
    job, wanted = undisturbed
    other, killed, crew = replace(job, out=tmp_path), [], WorkerPool(workers, ray=True)
    (other.out / "lines").mkdir(parents=True)
    done = threading.Event()
    killer = threading.Thread(target=kill_a_ray_worker, args=(other.out / "lines", killed, done), daemon=True)
    ray = connect(3)
    try:
        if workers == 2:
            killer.start()
        make(other, crew)
        if workers == 2:
            done.set()
            killer.join()
            assert killed
        assert files(other) == files(job)
        assert scores(other, real, crew if workers > 1 else ONE) == wanted
    finally:
        ray.shutdown()


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--ray needs Ray Data: pip install 'vidrd-bench\[ray\]'"):
        make(generation(tmp_path), WorkerPool(2, ray=True))


@pytest.mark.parametrize("crew", [ONE, pytest.param(WorkerPool(2), marks=pytest.mark.slow)])
def test_what_a_worker_cannot_load_is_said(tmp_path, crew):
    broken = replace(generation(tmp_path), model=str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="is no folder"):
        make(broken, crew)


def test_a_crew_of_none_is_refused():
    with pytest.raises(ValueError, match="at least one worker on one thread"):
        WorkerPool(0)


def test_the_read_set_is_the_made_set(undisturbed):
    job, _ = undisturbed
    assert {video.name for video in list_videos(job.out / VIDEOS)} == {item.file for item in job.plan.items}


def test_features_are_those_of_the_code_that_made_them(monkeypatch):
    judge = ScoringNetwork("fvd", "pocket", batch=2)
    network = judge.load()
    before = recipe(judge, network, None, "cpu", 1)
    assert recipe(judge, network, None, "cpu", 1) == before
    monkeypatch.setattr("bench.ucf101.features.hash_of_makers", lambda: "of other code")
    assert recipe(judge, network, None, "cpu", 1) != before
