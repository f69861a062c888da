"""A sweep of any model: its plan, one cell, and the way from a folder to a report."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from baselines.models.checkpoints import CHECKPOINTS, revision_here
from baselines.models.families import FAMILIES, tiny_model
from bench.commands.run import run_
from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.videos import length_cell
from bench.videos.columns import FLOW_MEASURES, JUDGED, MEASURES, REAL_MEASURES
from bench.videos.generator import Generator
from bench.videos.length_suite import LENGTHS, PROMPTS, SOLVERS, read_prompts
from bench.videos.real_videos import NO_REAL
from vidrd.pocket.world import draw_scene, render
from vidrd.solvers import MULTISTEP

TINY = ("model=tiny:WanPipeline:2.1-euler", "precision=fp32", "device=cpu", "videos=3", "steps=2", "overlap=4")


def planned(*assignments):
    named = {word.partition("=")[0] for word in assignments}
    few = [word for word in TINY if word.partition("=")[0] not in named]
    return plan(override(LENGTHS, [*few, *assignments]), {})


def skips(*assignments):
    return {item.cell.values["method"]: item.skip for item in planned(*assignments)}


def test_what_is_left_out_is_the_models_own():
    (item,) = planned("frames=9", "method=independent")
    model = tiny_model("tiny:WanPipeline:2.1-euler")
    values = item.cell.values
    assert (values["height"], values["width"]) == model.size
    assert values["clip"] == model.rule.frames(model.clip) == 9
    assert (values["guidance"], values["overlap"]) == (5.0, 0)
    (other,) = planned("frames=9", "method=independent", "guidance=3", "clip=5", "height=64")
    assert [other.cell.values[name] for name in ("guidance", "clip", "height")] == [3.0, 5, 64]


def test_cells_that_cannot_run_say_why():
    assert "this model's videos have 4k+1 frames: got 16, try 13 or 17" in skips("frames=16", "method=direct")["direct"]
    assert "whole ones: got 3, try 0 or 4" in skips("frames=17", "method=vidrd", "overlap=3")["vidrd"]
    assert "cannot be cut in windows" in skips("frames=17", "method=freenoise")["freenoise"]
    assert skips("frames=17", "method=fifo,replace,codenoise,direct") == dict.fromkeys(
        ("fifo", "replace", "codenoise", "direct")
    )
    cog = skips("model=tiny:CogVideoXPipeline", "frames=33", "method=fifo,direct")
    assert "takes one noise level for all frames" in cog["fifo"]
    assert cog["direct"] is None
    long = skips("model=tiny:AnimateDiffPipeline", "frames=40", "method=direct,independent")
    assert "at most 32 frames a call: got 40" in long["direct"]
    assert long["independent"] is None
    assert "multiples of 16 pixels" in skips("frames=9", "method=direct", "height=30")["direct"]
    assert "batches of 2" in skips("frames=9", "method=direct", "batch=2")["direct"]
    pocket = skips("model=pocket", "frames=24", "method=freenoise,fifo,vidrd")
    assert set(pocket.values()) == {None}


def test_a_prompt_that_changes_beyond_the_end_is_a_reason(tmp_path):
    (tmp_path / "prompts.txt").write_text("0: a dog runs | 12: a red ball\n")
    late = "a prompt begins within the video: got frame 12 of 9 frames, ask for more frames"
    for frames, reason in ((9, late), (17, None)):
        told = skips("model=pocket", f"frames={frames}", "method=direct", f"prompts={tmp_path / 'prompts.txt'}")
        assert told == {"direct": reason}


def test_the_solver_is_an_axis():
    names = [item.cell.values["solver"] for item in planned("frames=9", "method=direct", "solver=ddim,unipc")]
    assert names == ["ddim", "unipc"]
    assert (set(SOLVERS) - {"ddim"}) == set(MULTISTEP)
    reasons = skips("frames=17", "method=fifo,replace,flowlong,codenoise", "solver=dpmsolver++")
    assert reasons["fifo"] == reasons["replace"] == reasons["flowlong"]
    assert reasons["fifo"].startswith("dpmsolver++ remembers the steps of a clip")
    assert reasons["codenoise"] is None
    cog = skips("model=tiny:CogVideoXPipeline", "frames=9", "method=direct", "steps=61")["direct"]
    assert cog.startswith("a schedule's noise falls from level to level")
    sigmas = skips("model=tiny:LTXPipeline", "frames=9", "method=direct", "solver=dpmsolver++")["direct"]
    assert sigmas.startswith("dpmsolver++ places its own sigmas")
    videos = [
        Generator({**item.cell.values, "steps": 3}).make(["a dog"], 0, 3)[0]
        for item in planned("frames=9", "method=direct", "solver=ddim,unipc")
    ]
    assert not np.array_equal(*videos)


def test_freenoise_and_published_ways_run_where_the_network_can():
    long = skips("model=tiny:AnimateDiffPipeline", "frames=40", "clip=8", "method=freenoise,direct")
    assert long["freenoise"] is None
    cog = "model=tiny:CogVideoXPipeline"
    (within,) = planned(cog, "frames=17", "clip=17", "method=forcing", "compat=diffusers")
    assert "one noise level for all frames" in within.skip
    assert planned(cog, "frames=17", "clip=17", "method=forcing")[0].skip is None
    (other,) = planned("frames=9", "method=direct", "compat=diffusers")  # it has no such way
    assert other.cell.values["compat"] == "paper"


def test_an_unknown_model_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="models are of the families"):
        planned("model=tiny:FluxPipeline")
    with pytest.raises(ValueError, match="is no folder; the id of a repository needs a revision"):
        planned("model=someone/wan")


def test_prompts_come_from_a_file_whose_content_is_in_the_cells_id(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("# what to show\n\n a red ball \nthe blue cat\n", encoding="utf-8-sig")  # as some editors do
    assert read_prompts(str(file)) == ("a red ball", "the blue cat")
    assert read_prompts("") == PROMPTS
    (one,) = planned("frames=9", "method=direct", f"prompts={file}")
    (again,) = planned("frames=9", "method=direct", f"prompts={file}")
    assert one.cell.id == again.cell.id
    other = tmp_path / "others.txt"
    other.write_text("a dog", encoding="utf-8")
    assert (
        planned("frames=9", "method=direct", f"prompts={other}")[0].cell.values["inputs"] != (one.cell.values["inputs"])
    )
    with pytest.raises(ValueError, match="there is no file"):
        read_prompts(str(tmp_path / "none.txt"))
    file.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="one prompt a line: got none in"):
        read_prompts(str(file))


@pytest.mark.parametrize(
    ("model", "method", "frames", "seams"),
    [
        ("tiny:WanPipeline:2.1-euler", "codenoise", 17, "soft at 9"),
        pytest.param("tiny:CogVideoXPipeline:1.5-5B", "independent", 33, "hard at 17", marks=pytest.mark.slow),
        pytest.param("pocket", "vidrd", 16, "mirror at 8", marks=pytest.mark.slow),
    ],
)
def test_a_cell_has_every_measure_or_the_reason_why_not(model, method, frames, seams, tmp_path):
    (item,) = planned(f"model={model}", f"frames={frames}", f"method={method}")
    assert item.skip is None
    measured = length_cell.run(Job(item.cell.values, tmp_path, None, tuple(LENGTHS.measures)))
    assert set(LENGTHS.measures) == set(measured.numbers) | set(measured.absent)
    assert set(LENGTHS.measures) == (set(MEASURES) | set(FLOW_MEASURES)) - set(JUDGED) | set(REAL_MEASURES)
    assert {measured.absent[name] for name in REAL_MEASURES} == {NO_REAL}
    assert measured.facts["seams"] == seams
    assert measured.numbers["seam_off"].n == 3
    kept = np.load(tmp_path / "videos.npz")
    assert kept["videos"].shape[:2] == (3, frames)
    assert (tmp_path / "videos.mp4").stat().st_size > 0
    assert measured.facts["prompts"].splitlines() == list(PROMPTS[:3])


@pytest.mark.slow
def test_a_saved_folder_goes_the_whole_way(tmp_path):
    """From save_pretrained to the report, the second run finding everything done."""
    folder, out, real = tmp_path / "model", tmp_path / "run", tmp_path / "real.npy"
    np.save(real, render([draw_scene(seed) for seed in range(8)], 17))
    model = tiny_model("tiny:WanPipeline:2.2-A14B")
    model.pipe.save_pretrained(str(folder))
    command = [
        *(sys.executable, "-m", "bench", "run", "--suite", "lengths", "--model", str(folder), "--out", str(out)),
        *("--frames", "9", "17", "--clip", "9", "--method", "independent", "codenoise", "fifo", "--overlap", "4"),
        *("--height", "32", "--width", "48", "--steps", "2", "--videos", "3", "--precision", "fp32"),
        *("--real", str(real), "--protocol", "pocket"),
    ]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert [record["attempt"]["status"] for record in records].count(
        "ok"
    ) == 7  # FIFO of a single clip, and not of more; the real videos of two lengths
    assert all("fvd" in record["numbers"] for record in records if record["cell"]["values"]["method"] == "codenoise")
    assert (out / "report" / "report.html").is_file()
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert "8 of them from before" in again.stderr


def test_fetch_asks_the_hub_for_repositories_alone(monkeypatch, tmp_path):
    asked = []

    def download(name, *, revision, local_files_only, allow_patterns):
        asked.append((name, revision, local_files_only))
        return tmp_path

    monkeypatch.setattr("vidrd.checkpoints.snapshot_download", download)
    for words, message in (
        ((), "--fetch downloads a suite's model: name a repository"),
        (("model=tiny:WanPipeline",), "--fetch downloads a suite's model: name a repository"),
        (("model=someone/wan",), "the id of a repository needs a revision"),
    ):
        with pytest.raises(ValueError, match=message):
            run_("lengths", words, fetch=True, dry_run=True)
    assert asked == []
    with pytest.raises(ValueError, match=r"a folder with a model_index.json"):  # what came is none
        run_("lengths", ("model=someone/wan", f"revision={'c' * 40}"), fetch=True, dry_run=True)
    assert asked[0] == ("someone/wan", "c" * 40, False)
    assert {local for _, _, local in asked[1:]} == {True}


def test_published_checkpoints_are_of_known_families(monkeypatch):
    for checkpoint in CHECKPOINTS:
        assert checkpoint.pipeline in FAMILIES
        assert re.fullmatch(r"[\w-]+/[\w.-]+", checkpoint.id)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "/hub/snapshots/abc/model_index.json")
    assert revision_here(CHECKPOINTS[0]) == "abc"
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    assert revision_here(CHECKPOINTS[0]) is None
