"""The commands of docs/recipe.md, one after the other: on generated videos, or (slow) on real ones."""

import json
import re
import shlex
import string
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.ucf101.standins.model import SD_FOLDER, make_released
from tests.real_clips import CLIPS, WANTED
from tests.vidrd.data.clips import scenes
from vidrd.__main__ import main
from vidrd.data.shards import ShardSet
from vidrd.pocket.world import caption, render
from vidrd.video import read_video, write_video

ROOT = Path(__file__).parents[2]


def blocks():
    """The variables and the commands of the page."""
    variables, commands = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "recipe.md").read_text(), re.DOTALL)
    words = [word.partition("=") for line in variables.splitlines() for word in shlex.split(line, comments=True)]
    return {name: value for name, _, value in words}, commands.splitlines()


def follow(values, monkeypatch):
    """Carry out all commands of the page with other values of its variables."""
    usual, commands = blocks()
    assert values.keys() <= usual.keys()
    for line in commands:
        words = shlex.split(string.Template(line).substitute(usual | {name: str(v) for name, v in values.items()}))
        assert words[:3] == ["python", "-m", "vidrd"]
        monkeypatch.setattr("sys.argv", words[2:])
        assert main() == 0, line


def write_stills(root, count, side):
    rng = np.random.default_rng(0)
    for number in range(count):
        blobs = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        (root / f"{number}.txt").write_text("colored blobs on a wall")
        Image.fromarray(blobs).resize((side, side), Image.Resampling.BICUBIC).save(root / f"{number}.png")


def small(root, size, **more):
    """Values that a test can afford."""
    (root / "image").mkdir()
    make_released(root / "image")
    return {
        "CAPTIONED_FORMAT": "folder", "CLASSIFIED_FORMAT": "folder", "STILLS_FORMAT": "folder", "CAPTIONER": "",
        "IMAGE_MODEL": root / "image" / SD_FOLDER, "STILLS": root / "stills", "SETS": root / "sets",
        "RUNS": root / "runs", "MODELS": root / "models", "SIZE": size, "FRAMES": 4, "WORKERS": 1, "READERS": 0,
        "DEVICE": "cpu", "BATCH": 4, "IMAGES": 2, "STEPS": 4, "WARMUP": 1, "SAVE": 2, "HELD_OUT": 1, "DECODER_BATCH": 2,
        "DECODER_STEPS": 2, "LENGTH": 6, **more,
    }  # fmt: skip


def check(root, size):
    """Each step has left what the next one takes, and the video is one."""
    videos = ShardSet(root / "sets" / "videos")
    assert len(videos) == len(ShardSet(root / "sets" / "captioned")) + len(ShardSet(root / "sets" / "classified"))
    assert all(all(each) for each in zip(*videos.columns("captions", "source", "licence"), strict=True))
    assert len(list((root / "runs" / "temporal" / "states").iterdir())) == 2
    lines = [json.loads(line) for line in (root / "runs" / "temporal" / "log.jsonl").read_text().splitlines()]
    best = min((line for line in lines if "validation" in line), key=lambda line: line["validation"])
    assert json.loads((root / "models" / "temporal" / "card.json").read_text())["step"] == best["step"]
    assert read_video(root / "runs" / "sample.mp4").shape == (6, size, size, 3)


@pytest.fixture
def stills(tmp_path):
    (tmp_path / "stills").mkdir()
    write_stills(tmp_path / "stills", 3, 128)


def test_the_recipe_runs_on_generated_videos(tmp_path, stills, monkeypatch):
    some = scenes(9)
    for number, (scene, video) in enumerate(zip(some, render(some, 18, size=32), strict=True)):
        folder = tmp_path / (f"classified/class{number % 2}" if number < 4 else "captioned" if number < 8 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"{number}.mp4", video, fps=8)
        if number >= 4:
            (folder / f"{number}.txt").write_text(caption(scene))
    places = {name: tmp_path / name.lower() for name in ("CAPTIONED", "CLASSIFIED")}
    follow(small(tmp_path, 16, TESTSET=tmp_path / "test", PROMPT="a red star", **places), monkeypatch)
    check(tmp_path, 16)


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS.is_dir(), reason=WANTED)
@pytest.mark.timeout(1800)
def test_the_recipe_runs_on_real_videos(tmp_path, stills, monkeypatch):
    """Twelve classes of UCF-101 to learn from, some of whose videos have captions, and three that are left out."""
    classes = sorted(path for path in (CLIPS / "UCF-101").iterdir() if path.is_dir())[:15]
    for number, folder in enumerate(classes):
        kind = "test" if number < 3 else "captioned" if number < 7 else "classified"
        (tmp_path / kind / folder.name).mkdir(parents=True)
        for path in folder.glob("*.avi"):
            (tmp_path / kind / folder.name / path.name).symlink_to(path)
            if kind == "captioned":
                (tmp_path / kind / folder.name / f"{path.stem}.txt").write_text("a person does something outdoors")
    places = {name: tmp_path / name.lower() for name in ("CAPTIONED", "CLASSIFIED")}
    follow(small(tmp_path, 32, TESTSET=tmp_path / "test", STEPS=6, SAVE=3, **places), monkeypatch)
    check(tmp_path, 32)
