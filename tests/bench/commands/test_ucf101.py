"""The whole way from a command line to table and card, on small things; and what is refused on it."""

import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest

from baselines.models.families import load_model, tiny_model
from bench import __main__ as bench
from bench.commands.ucf101 import _devices
from bench.hardware.device import has_cuda
from bench.methods import METHODS
from bench.ucf101 import plan as plans
from bench.ucf101 import run as runs
from bench.ucf101.archive import read_archive
from bench.ucf101.checks import _check_family
from bench.ucf101.classes import LIST_SHA256
from bench.ucf101.estimate import _stage, scaled, spread
from bench.ucf101.generate import sample
from bench.ucf101.plan import make_plan
from bench.ucf101.pool import WorkerPool
from bench.ucf101.protocols import PROTOCOLS
from bench.ucf101.run import share
from bench.ucf101.score import external_sources, real_list, real_sources, world_of
from bench.ucf101.standins.archive import make_archive
from metrics.videos.read import Video
from tests.real_clips import CLIPS, WANTED
from vidrd.resumable_pool import FinishedPiece

SMALL = ("--size", "32", "--steps", "1", "--fvd", "pocket", "--inception", "pocket", "--batch", "2", "--allow-small")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A video in the test half and three in the training half of each of three classes."""
    folder = tmp_path_factory.mktemp("archive") / "UCF101"
    return make_archive(folder, 4, among=["Archery", "Biking", "HandstandPushups"], frames=(29,), height=48, width=64)


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["bench", "ucf101", *map(str, words)])
    return bench.main()


@pytest.fixture(scope="module")
def done(archive, tmp_path_factory):
    """A run of two samplers, and its folder."""
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        words = ("--model", "pocket", "--ucf101", archive, "--out", out, "--cache", out / "cache", *SMALL)
        assert run(patch, *words, "--limit", "4", "--method", "vidrd,independent") == 0
    return out, words


def test_a_run_leaves_table_card_and_scores(done):
    out, _ = done
    saved = json.loads((out / "ucf101.json").read_text())
    assert [row["name"] for row in saved["rows"]] == ["vidrd", "independent"]
    assert saved["world"] == "unofficial"
    for row in saved["rows"]:
        assert {score["n"] for score in row["scores"].values()} == {4}
        assert row["n_real"] == {"fvd:pocket": 9}
    assert saved["rows"][0]["scores"] != saved["rows"][1]["scores"]
    table = (out / "table.md").read_text()
    ours, _, theirs = table.partition("# Published rows")
    assert "vidrd (measured here)" in ours
    assert "363.19" in theirs
    assert "363.19" not in ours
    assert "4 videos where the protocol takes 10000" in ours
    card = (out / "card.md").read_text()
    assert saved["card"]["prompts"][0]["prompt"] in card
    assert "unstated" in card
    lines = (out / "vidrd" / "videos.jsonl").read_text().splitlines()
    assert len(lines) == 4
    seeds = [[json.loads(line)["seed"] for line in (out / name / "videos.jsonl").read_text().splitlines()]
             for name in ("vidrd", "independent")]  # fmt: skip
    assert seeds[0] == seeds[1]
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_the_same_command_again_makes_nothing_and_says_the_same(done, monkeypatch):
    out, words = done
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.mkv")} | {
        path: path.stat().st_mtime_ns for path in out.rglob("*.npz")
    }
    scores = json.loads((out / "ucf101.json").read_text())["rows"]
    assert run(monkeypatch, *words, "--limit", "4", "--method", "vidrd", "independent") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((out / "ucf101.json").read_text())["rows"] == scores


def test_films_are_read_for_their_lengths_once(archive, monkeypatch, tmp_path):
    row, probed = PROTOCOLS["vidrd-10k"], []
    real = Video.probe
    monkeypatch.setattr(Video, "probe", lambda self: probed.append(self.name) or real(self))
    whole = read_archive(archive)
    first = real_sources(whole, row, tmp_path)
    assert len(probed) == len(first) == 9
    assert real_sources(whole, row, tmp_path) == first
    assert len(probed) == 9
    (path,) = tmp_path.iterdir()
    path.write_text('{"video": "another", "start": 0, "frames": 16}\n')
    assert real_sources(whole, row, tmp_path) == first
    larger = replace(whole, videos=(replace(whole.videos[0], size=1), *whole.videos[1:]))
    names = {real_list(each, rule) for each in (whole, larger) for rule in (row, replace(row, seed=row.seed + 1))}
    assert len(names) == 4


def test_what_stands_apart_is_called_what_it_is(archive):
    whole_archive = read_archive(archive)
    whole = replace(
        whole_archive,
        list_sha256=LIST_SHA256,
        class_names=tuple(map(str, range(101))),
        listed=len(whole_archive.videos),
    )
    reason = ["the weights of fvd:tats are none that were published (x)"]
    assert world_of(whole, 10, 10, [], "") == ""
    assert world_of(whole, 10, 10, reason, "") == "unverified"
    assert world_of(whole, 9, 10, reason, "") == "partial"
    assert world_of(replace(whole, listed=13320), 10, 10, reason, "") == "partial"
    assert world_of(whole_archive, 10, 10, reason, "") == "unofficial"
    assert world_of(whole_archive, 10, 10, reason, "stand-in") == "stand-in"


def test_compiled_videos_are_other_videos_and_the_unet_is_compiled(monkeypatch):
    plain, fast = (
        make_plan("vidrd-10k", {}, model={"folder": "m", "sha256": "0"}, clip=8, precision="fp32", batch=2,
                  compiled=compiled, limit=2)
        for compiled in (False, True)
    )  # fmt: skip
    assert plain.identity("vidrd") != fast.identity("vidrd")
    asked = {}

    def denoiser(self, prompts, **options):
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("vidrd.pipeline.VidRDPipeline.denoiser", denoiser)
    with pytest.raises(KeyboardInterrupt):
        sample(load_model("pocket"), fast, "vidrd", fast.items, "cpu")
    assert asked["compile"] is True


def test_models_of_any_family_make_the_frames_of_the_protocol():
    """Wan makes 17 frames for 16; lengths are its own inside, and frames of the video on the command line."""
    name = "tiny:WanPipeline:2.1-euler"
    model = tiny_model(name)
    about = {"clip": model.clip, "rule": model.rule, "precision": "fp32", "batch": 2, "limit": 2}

    def planned(**changes):
        changes = {"size": 32, "steps": 1, **changes}
        return make_plan("vidrd-10k", changes, model={"folder": "m", "sha256": "0"}, **about)

    plan = planned()
    assert (plan.settings.frames, plan.frames, plan.settings.overlap) == (16, 5, 4)
    assert str(plan.options("codenoise")) == str(METHODS["codenoise"].options(1))
    assert sample(model, plan, "codenoise", plan.items, "cpu").shape == (2, 16, 32, 32, 3)
    with pytest.raises(ValueError, match="an overlap whole ones: got 3, try 0 or 4"):
        planned(overlap=3).fe("codenoise")
    with pytest.raises(ValueError, match="multiples of 16 pixels: got 24 x 24, try 16 or 32"):
        _check_family(planned(size=24), ("direct",), model)
    with pytest.raises(ValueError, match="--method freenoise: the temporal attention of this model cannot be cut"):
        _check_family(plan, ("direct", "freenoise"), model)
    with pytest.raises(ValueError, match="--compile is for VidRD"):
        _check_family(replace(plan, compiled=True), ("direct",), model)


@pytest.mark.slow
def test_a_folder_of_any_family_goes_the_whole_way(archive, monkeypatch, tmp_path):
    tiny_model("tiny:WanPipeline:2.1-euler").pipe.save_pretrained(str(tmp_path / "wan"))
    words = ("--model", tmp_path / "wan", "--ucf101", archive, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    assert run(monkeypatch, *words, *SMALL, "--limit", "4", "--method", "direct") == 0
    saved = json.loads((tmp_path / "out" / "ucf101.json").read_text())
    assert saved["rows"][0]["name"] == "direct"
    assert saved["rows"][0]["scores"]["fvd:pocket"]["n"] == 4


def test_the_device_is_found(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for there, wanted in ((True, ("cuda:0", "cuda:1")), (False, ("cpu",))):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        has_cuda.cache_clear()
        assert _devices("auto") == wanted
    has_cuda.cache_clear()
    assert _devices("cuda:1") == ("cuda:1",)
    with pytest.raises(ValueError, match="no CUDA device here"):
        _devices("cuda")


def test_a_folder_is_not_taken_for_other_videos(done, monkeypatch, capsys):
    _, words = done
    assert run(monkeypatch, *words, "--limit", "5") == 3
    assert "was begun for videos of other videos, identity" in capsys.readouterr().err


def test_videos_of_others_get_the_score_that_they_got_here(done, monkeypatch, tmp_path):
    """The very files of a run, scored as somebody else's: the same FVD up to the order of rows."""
    out, words = done
    ours = json.loads((out / "ucf101.json").read_text())["rows"][0]["scores"]["fvd:pocket"]
    told = [*words[2:4], "--cache", tmp_path / "cache", "--out", tmp_path / "out", *SMALL[:2], *SMALL[4:]]
    assert run(monkeypatch, "--videos", out / "vidrd" / "videos", *told) == 0
    saved = json.loads((tmp_path / "out" / "ucf101.json").read_text())
    (row,) = saved["rows"]
    assert row["name"] == "videos"
    assert row["scores"]["fvd:pocket"]["value"] == pytest.approx(ours["value"], rel=1e-5)
    assert "not known" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.slow
def test_videos_that_were_replaced_by_others_of_equal_size_get_their_own_score(done, monkeypatch, tmp_path):
    out, words = done
    videos, options = tmp_path / "videos", [*words[2:4], "--cache", out / "cache", *SMALL[:2], *SMALL[4:]]
    videos.mkdir()

    def fvd(folder, seed):
        for i in range(4):
            frames = np.random.default_rng([seed, i]).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
            np.save(videos / f"{i}.npy", frames)
            os.utime(videos / f"{i}.npy", (1, 1))
        assert run(monkeypatch, "--videos", videos, "--out", tmp_path / folder, *options) == 0
        return json.loads((tmp_path / folder / "ucf101.json").read_text())["rows"][0]["scores"]["fvd:pocket"]["value"]

    first = fvd("one", 0)
    second = fvd("one", 1)
    assert first != second == fvd("other", 1)


def test_videos_of_two_codes_are_not_mixed(done, monkeypatch, capsys):
    _, words = done
    monkeypatch.setattr(plans, "code_identity", lambda: {"code": "of another commit", "packages": "{}"})
    monkeypatch.setattr(runs, "code_identity", plans.code_identity)
    assert run(monkeypatch, *words, "--limit", "4") == 3
    assert "was begun for videos of other code, packages, identity" in capsys.readouterr().err


def test_too_few_videos_of_others_are_refused(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.full((16, 8, 8, 3), i, dtype=np.uint8))
    row = PROTOCOLS["vidrd-10k"]
    with pytest.raises(ValueError, match="holds 3 videos, the protocol takes 4: add the missing"):
        external_sources(tmp_path, row, 4, allow_small=False)
    some = external_sources(tmp_path, row, 2, allow_small=False)
    assert len(some) == 2
    assert external_sources(tmp_path, row, 3, allow_small=False)[:2] == some
    np.save(tmp_path / "3.npy", np.zeros((15, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"3\.npy has 15 frames, a clip spans 16"):
        external_sources(tmp_path, row, 4, allow_small=False)


@pytest.mark.slow
def test_shards_together_make_what_one_makes(done, archive, monkeypatch, tmp_path, capsys):
    out, _ = done
    words = ("--model", "pocket", "--ucf101", archive, "--out", tmp_path, "--cache", tmp_path / "cache", *SMALL)
    for shard in ("0/2", "1/2"):
        assert run(monkeypatch, *words, "--limit", "4", "--shard", shard) == 0
        assert not (tmp_path / "ucf101.json").exists()
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in (".mkv", ".npz")}
    assert run(monkeypatch, *words, "--limit", "4") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "the last command only scores"
    ours, theirs = (json.loads((folder / "ucf101.json").read_text())["rows"][0] for folder in (tmp_path, out))
    assert ours["scores"] == theirs["scores"]


@pytest.mark.parametrize("shard", ["2/2", "1", "a/b", "-1/2", "1/0"])
def test_shards_that_are_none(shard):
    with pytest.raises(ValueError, match="--shard is I/N with I from 0 to N - 1"):
        share(shard, 4)


def test_shards_cover_all_blocks_once():
    assert sorted(block for i in range(3) for block in share(f"{i}/3", 10)) == list(range(10))
    assert share(None, 4) == range(4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --ucf101 FOLDER"),
        (("--ucf101", "ARCHIVE"), "give --model FOLDER to make videos, or --videos FOLDER"),
        (("--ucf101", "ARCHIVE", "--model", "pocket", "--protocol", "vidrd"), "did you mean 'vidrd-10k'"),
        (("--ucf101", "ARCHIVE", "--model", "pocket"), "give --weights FOLDER"),
        (("--ucf101", "ARCHIVE", "--model", "ARCHIVE"), "it has no model_index.json; give its folder"),
        (("--ucf101", "ARCHIVE", "--model", "pocket", *SMALL, "--method", "vidr"), "did you mean 'vidrd'"),
        (("--ucf101", "ARCHIVE", "--model", "pocket", *SMALL, "--overlap", "9"), "an overlap is at most the clip"),
        (("--ucf101", "ARCHIVE", "--model", "pocket", *SMALL, "--prompts", "nothing.csv"), "there are no prompts"),
    ],
)
def test_what_cannot_be_done_is_one_line(words, said, archive, monkeypatch, capsys, tmp_path):
    words = [str(archive) if word == "ARCHIVE" else word for word in words]
    assert run(monkeypatch, *words, "--out", tmp_path / "out") == 3
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_dry_run_measures_and_leaves_no_videos(archive, monkeypatch, tmp_path, capsys):
    words = ("--model", "pocket", "--ucf101", archive, "--out", tmp_path / "out", "--cache", tmp_path / "cache", *SMALL)
    assert run(monkeypatch, *words, "--limit", "20", "--dry-run") == 0
    saved = json.loads((tmp_path / "out" / "estimate.json").read_text())
    stages = {stage["name"]: stage for stage in saved["stages"]}
    assert set(stages) == {
        "videos of vidrd", "list of real clips", "real, fvd:pocket", "vidrd, fvd:pocket", "vidrd, is:pocket"
    }  # fmt: skip
    assert stages["list of real clips"]["to_do"] == 9
    assert stages["list of real clips"]["seconds"] > 0
    assert not (tmp_path / "cache").exists()
    assert stages["videos of vidrd"]["to_do"] == 20
    assert saved["fe"] == 20 * 2 * 8 * 1 * 2
    assert saved["bytes"] > 0
    assert saved["seconds"] == pytest.approx(sum(stage["seconds"] for stage in saved["stages"]))
    assert "frame evaluations" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.mkv"))
    assert not list(tmp_path.rglob("*.npz"))


def test_an_estimate_is_start_and_blocks_over_workers():
    done = [
        FinishedPiece(0, 1, 3.0, "a", 5.0),
        FinishedPiece(1, 1, 3.0, "b", 5.0),
        *(FinishedPiece(i, 1, 2.0, "ab"[i % 2], 5.0) for i in range(2, 6)),
    ]
    stage = _stage("x", done, 5.0 + 3.0 + 4.0 + 1.5, WorkerPool(2), 400, 400, 4)
    assert stage.seconds_per_block == 2.0
    assert stage.start_seconds == pytest.approx(1.5 + 5.0 + 1.0)
    assert stage.seconds == pytest.approx(7.5 + 100 * 2.0 / 2)
    assert scaled(stage, 800, WorkerPool(2), 4).seconds == pytest.approx(7.5 + 200 * 2.0 / 2)
    assert _stage("x", done, 13.5, WorkerPool(2), 400, 0, 4).seconds == 0


def test_tried_blocks_are_spread():
    assert spread(3, 6) == [0, 1, 2]
    some = spread(100, 6)
    assert len(set(some)) == 6
    assert some[0] == 0
    assert 80 < some[-1] < 99, "the last block may be short"


@pytest.mark.skipif(not CLIPS.is_dir(), reason=WANTED)
@pytest.mark.slow
def test_real_films_are_a_real_set(monkeypatch, tmp_path):
    words = ["--model", "pocket", "--ucf101", CLIPS, "--allow-partial", "--protocol", "100-a-class", *SMALL]
    assert run(monkeypatch, *words, "--limit", "4", "--out", tmp_path / "out", "--cache", tmp_path / "cache") == 0
    saved = json.loads((tmp_path / "out" / "ucf101.json").read_text())
    assert saved["rows"][0]["n_real"] == {"fvd:pocket": 40}
    assert "the archive is partial: 40 of 13320 videos" in saved["apart"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_stand_ins_go_the_whole_way(monkeypatch, tmp_path):
    """101 classes, 2 videos each, two samplers, weights in the official files' formats, nothing downloaded.

    What the dry run foretold is right within a fifth, on a machine that does nothing else.
    """
    assert run(monkeypatch, "--standin", "--out", tmp_path / "out", "--dry-run") == 0
    assert run(monkeypatch, "--standin", "--out", tmp_path / "out") == 0
    saved = json.loads((tmp_path / "out" / "ucf101.json").read_text())
    took = sum(saved["card"]["seconds"].values())
    assert took < 300
    assert saved["card"]["estimate"]["seconds"] == pytest.approx(took, rel=0.2)
    assert saved["world"] == "stand-in"
    assert [row["name"] for row in saved["rows"]] == ["vidrd", "independent"]
    for row in saved["rows"]:
        assert {name: score["n"] for name, score in row["scores"].items()} == {
            "fvd:styleganv": 202,
            "is:styleganv": 202,
        }
    assert len(saved["card"]["prompts"]) == 101
    assert "**stand-in** numbers" in (tmp_path / "out" / "table.md").read_text()
