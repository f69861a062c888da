"""`python -m vidrd train`, as the README and the weights' card name it."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from vidrd.__main__ import main
from vidrd.checkpoints import PRESETS, ROOT, load_pipeline
from vidrd.pocket import train as pocket
from vidrd.training.hyperparameters import Recipe


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """A place for the preset's weights that may be written to."""
    place = replace(PRESETS["pocket"], folder=tmp_path / "weights" / "pocket")
    monkeypatch.setitem(PRESETS, "pocket", place)
    return place.folder


@pytest.fixture
def asked(monkeypatch):
    """The folders that training was asked to fill: nothing is trained."""
    calls = []
    monkeypatch.setattr(pocket, "train_pocket", lambda out, work, *, steps_scale: calls.append((out, steps_scale)))
    return calls


def train(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["vidrd", "train", *map(str, words)])
    return main()


def test_the_command_of_the_card_needs_no_more_words(preset, asked, monkeypatch):
    command = json.loads((ROOT / "weights" / "pocket" / "card.json").read_text())["command"]
    assert train(monkeypatch, *command.split(" -- ")[1].split()) == 0
    assert train(monkeypatch) == 0
    assert asked == [(preset, 1.0)] * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps-scale", ".5"], "a trial does not take the place of the preset's weights: name a folder by --out"),
        (["--data", "sets/k700"], "training on a data set has a folder of its own for the run: name it by --out"),
        (["--out", "."], ". would be replaced, and is no pipeline: name a new folder by --out"),
    ],
)
def test_nothing_is_overwritten_that_was_not_named(preset, asked, monkeypatch, capsys, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    assert train(monkeypatch, *words) == 3
    assert capsys.readouterr().err == f"vidrd: {message}\n"
    assert asked == []


def test_the_shipped_weights_were_made_by_the_recipes_in_the_code():
    card = json.loads((ROOT / "weights" / "pocket" / "card.json").read_text())
    recipes = {name: {**asdict(Recipe(0, 0)), **stored} for name, stored in card["recipes"].items()}
    assert recipes == {name: asdict(recipe) for name, recipe in pocket.RECIPES.items()}


def check(out):
    """A whole pipeline, its card and its logs."""
    assert load_pipeline(out).config.clip == pocket.CLIP
    card = json.loads((out / "card.json").read_text())
    assert {name: recipe["steps"] for name, recipe in card["recipes"].items()} == {
        name: max(1, round(recipe.steps / 1000)) for name, recipe in pocket.RECIPES.items()
    }
    assert {path.stem for path in (out / "log").iterdir()} == set(pocket.RECIPES)
    assert list(out.parent.glob("*.part")) == []


def test_every_stage_runs_and_leaves_a_whole_pipeline(tmp_path, monkeypatch):
    """Except for the compiler, and with few videos in a batch and among those whose latents are kept."""
    monkeypatch.setattr(pocket, "CACHED_VIDEOS", 64)
    monkeypatch.setattr(
        pocket, "RECIPES", {name: replace(each, batch=4, precision="no") for name, each in pocket.RECIPES.items()}
    )
    monkeypatch.setattr(torch, "compile", lambda network: network)
    out = tmp_path / "pipeline"
    assert train(monkeypatch, "--steps-scale", ".001", "--work", tmp_path / "work", "--out", out) == 0
    check(out)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_command_itself_trains_from_nothing(tmp_path):
    words = ["--preset", "pocket", "--steps-scale", ".001", "--work", tmp_path / "work", "--out", tmp_path / "pipeline"]
    done = subprocess.run(
        [sys.executable, "-m", "vidrd", "train", *map(str, words)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check(tmp_path / "pipeline")
