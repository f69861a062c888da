"""Every published protocol from video files to a number, on recipe weights: what it says of frames, clips and sets.

The weights are no published ones, so the numbers mean nothing; what is held is that every row of the tables runs, that
the same features outside the command make the same number, and that rows differ where they should.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import softmax

from metrics import __main__ as metrics
from metrics.distribution.frechet import Gaussian, frechet_distance
from metrics.distribution.inception_score import score_of_probabilities
from metrics.evaluation.dataset import FeatureSet, ResolvedProtocol
from metrics.evaluation.evaluator import Evaluator
from metrics.networks.c3d import load_c3d
from metrics.networks.features import Features
from metrics.networks.i3d import i3d_shapes, load_i3d
from metrics.protocols import DEFAULT_FVD, DEFAULT_IS, FVD, IS
from metrics.videos.clips import read_clips
from metrics.videos.preprocess import store
from metrics.videos.read import list_videos
from metrics.weights import export, load
from tests.metrics.recipes import c3d_mean
from tests.metrics.video_files import real_clips
from tests.metrics.weight_files import c3d_weights, i3d_weights, state_dict, write_checkpoint, write_npz, write_program

FRAMES = 10  # the fewest that all rows allow
thin_i3d, thin_c3d = partial(load_i3d, thin=8), partial(load_c3d, thin=8)


@pytest.fixture(scope="module")
def i3d_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "i3d.safetensors"
    save_file(i3d_weights(), path)
    return path


@pytest.fixture(scope="module")
def thin_files(tmp_path_factory):
    """I3D's and C3D's weights with an eighth of the channels."""
    folder = tmp_path_factory.mktemp("thin")
    save_file(i3d_weights(thin=8), folder / "i3d.safetensors")
    save_file(c3d_weights(1.0, thin=8), folder / "c3d.safetensors")
    np.savez(folder / "mean2.npz", mean=c3d_mean())
    return folder


@pytest.fixture
def thin(thin_files, monkeypatch):
    """These weights, which the commands take here; the slow tests have the published widths."""
    monkeypatch.setattr("metrics.networks.i3d.load_i3d", thin_i3d)
    monkeypatch.setattr("metrics.networks.c3d.load_c3d", thin_c3d)
    return thin_files


@pytest.fixture
def folders(tmp_path):
    """Four real clips on one side, three others on the other, linked into folders of classes."""
    video_files = [video.path for video in list_videos(real_clips("UCF-101"))]
    for side, chosen in (("real", video_files[:8:2]), ("fake", video_files[1:6:2])):
        for video_file in chosen:
            place = tmp_path / side / video_file.parent.name
            place.mkdir(parents=True)
            (place / video_file.name).symlink_to(video_file)
    return tmp_path


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["metrics", *map(str, words), "--json", str(tmp_path / "out.json")])
        metrics.main()
        return json.loads((tmp_path / "out.json").read_text())

    return run


def by_hand(folder, clips_file, network, storage):
    """The features of listed clips, one clip at a time."""
    videos = {video.name: video for video in list_videos(folder)}
    rows = []
    for clip in read_clips(clips_file):
        frames = videos[clip.video].read(clip.start, clip.frames, clip.stride)[None]
        rows.append(network.embed(frames if storage is None else store(frames, storage)).embedding)
    return np.concatenate(rows)


@pytest.mark.parametrize("name", FVD)
def test_every_fvd_protocol_from_films_to_its_number(name, run, folders, thin):
    named = () if name == DEFAULT_FVD else ("--protocol", name)
    words = (*named, "--weights", thin / "i3d.safetensors", "--frames", FRAMES, "--n", 3, "--allow-small")
    record = run("fvd", folders / "real", folders / "fake", *words, "--save-clips", folders / "lists", "--batch", 2)
    label = f"{name}(frames={FRAMES},n=3)"  # a changed row has another name
    row, score, manifest = FVD[name], record["scores"][f"fvd:{label}"], record["manifest"]
    assert score["n"] == 3
    assert score["low"] <= score["value"] <= score["high"]
    assert manifest["protocol"] == label
    assert (manifest["ddof"], manifest["row"]["epsilon"], manifest["frames"]) == (row.ddof, row.epsilon, FRAMES)
    assert manifest["network"].startswith(f"i3d:{name}:")
    assert "these weights are none that were published" in "".join(record["notes"])
    if name in ("clean", "styleganv"):  # one by each kind of storage; the others differ in what their own tests hold
        network = thin_i3d(thin / "i3d.safetensors", name)
        x, y = (
            by_hand(folders / side, folders / "lists" / f"{side}.jsonl", network, rule.storage)
            for side, rule in (("real", row.real), ("fake", row.fake))
        )
        distance = frechet_distance(Gaussian.of(x), Gaussian.of(y), ddof=row.ddof)
        assert score["value"] == pytest.approx(distance, rel=1e-4)


@pytest.mark.parametrize("name", IS)
def test_every_inception_score_protocol_from_films_to_its_number(name, run, folders, thin):
    named = () if name == DEFAULT_IS else ("--protocol", name)
    words = (*named, "--weights", thin / "c3d.safetensors", "--allow-small", "--splits", 2)
    record = run("is", folders / "real", *words, "--save-clips", folders / "lists")
    row, score = IS[name], record["scores"][f"is:{name}(splits=2)"]
    assert score["n"] == 4
    assert record["scores"][f"is_ceiling:{name}(splits=2)"]["n"] == 4
    assert record["manifest"]["row"]["epsilon"] == row.epsilon
    videos = {video.name: video for video in list_videos(folders / "real")}
    network = thin_c3d(thin / "c3d.safetensors", name)
    logits = np.concatenate(
        [
            network.embed(videos[clip.video].read(clip.start, clip.frames)[None]).embedding
            for clip in read_clips(folders / "lists" / "fake.jsonl")
        ]
    )
    p = softmax(logits.astype(np.float64), axis=1)
    expected = score_of_probabilities(p, splits=2, epsilon=row.epsilon, shuffle=row.shuffle).value
    assert score["value"] == pytest.approx(expected, rel=1e-5)


def test_the_documented_lines_for_other_people_s_code_make_the_protocol_s_number(thin, tmp_path, monkeypatch, capsys):
    """On arrays like decoded files: stored by StyleGAN-V's loader, at its epsilon and ddof."""
    examples = re.findall(r"```py\n(.*?)```", (Path(__file__).parents[2] / "docs/metrics.md").read_text(), re.DOTALL)
    (example,) = (each for each in examples if "fvd.update" in each)
    write_program(tmp_path / "i3d_torchscript.pt", i3d_weights(thin=8))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (6, 9, 6, 8, 3), dtype=np.uint8).repeat(10, axis=2).repeat(10, axis=3)
    real, fake = coarse[:3], coarse[3:]
    exec(compile(example, "docs/metrics.md", "exec"), {"real_videos": real, "fake_videos": fake})
    row, network = FVD["styleganv"], thin_i3d(tmp_path, "styleganv")
    rows = network.embed(store(real, row.real.storage)).embedding, network.embed(fake).embedding
    expected = frechet_distance(*map(Gaussian.of, rows), ddof=row.ddof)
    value, n = re.match(r"Score\(value=([\d.]+), n=(\d+), low=", capsys.readouterr().out).groups()
    assert float(value) == pytest.approx(expected, rel=1e-4)
    assert int(n) == 3


def test_published_protocols_refuse_too_few_videos_before_any_work(run, folders, thin, capsys):
    words = (folders / "real", folders / "fake", "--weights", thin / "i3d.safetensors")
    for more, message in (
        (
            ("--protocol", "styleganv"),
            "styleganv takes 2048 real clips: got 4, give more, another --n, or --allow-small",
        ),
        (("--protocol", "styleganv", "--n", 4), "4 real clips are too few: the score needs at least 800"),
        (("--protocol", "google"), "4 real clips are too few: the score needs at least 800"),
    ):
        with pytest.raises(SystemExit) as stop:
            run("fvd", *words, *more)
        assert stop.value.code == 3
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("is", folders / "real", "--protocol", "tgan2", "--weights", thin / "c3d.safetensors", "--n", 4)
    assert "4 fake clips are too few: the score needs at least 202" in capsys.readouterr().err


def test_saved_statistics_of_too_few_clips_are_too_few_as_well(run, folders, thin, tmp_path, capsys):
    network = thin_i3d(thin / "i3d.safetensors", "styleganv")
    rows = np.random.default_rng(0).standard_normal((900, 400))
    side = FeatureSet(Features(rows, {}), np.arange(900), {"gaps": 0})
    Evaluator(ResolvedProtocol.of("fvd", "styleganv"), network).save(tmp_path / "real.npz", side)
    with pytest.raises(SystemExit) as stop:
        run(
            "fvd",
            tmp_path / "real.npz",
            folders / "fake",
            "--protocol",
            "styleganv",
            "--weights",
            thin / "i3d.safetensors",
        )
    assert stop.value.code == 3
    assert (
        "styleganv takes 2048 real clips: got 900, give more, another --n, or --allow-small" in capsys.readouterr().err
    )


def test_c3d_as_it_was_published_makes_the_same_score(run, folders, thin, tmp_path, monkeypatch):
    """conv3d_deepnetA_ucf.npz and mean2.npz in the folder that the environment names, against one file of tensors."""
    place = tmp_path / "weights"
    place.mkdir()
    write_npz(place / "conv3d_deepnetA_ucf.npz", c3d_weights(1.0, thin=8))
    np.savez(place / "mean2.npz", mean=c3d_mean())
    words = ("is", folders / "real", "--protocol", "tgan2", "--allow-small", "--splits", 2, "--fresh")
    expected = run(*words, "--weights", thin / "c3d.safetensors")
    monkeypatch.setenv("VIDRD_METRICS_WEIGHTS", str(place))
    result = run(*words)
    assert (result["scores"], result["manifest"]) == (expected["scores"], expected["manifest"])
    np.savez(tmp_path / "grey.npz", mean=np.full((3, 16, 128, 171), 128.0))
    other = run(*words, "--mean", tmp_path / "grey.npz")
    assert other["manifest"]["weights"] != expected["manifest"]["weights"]
    assert other["scores"]["is:tgan2(splits=2)"] != expected["scores"]["is:tgan2(splits=2)"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "torch", "torchscript", "tensorflow"])
def test_every_format_of_the_weights_makes_the_same_number(kind, run, folders, tmp_path):
    """Under every protocol; the features of the second file come from the cache, since its weights are the same."""
    tensors = i3d_weights(unit_scales=True)  # TensorFlow stores no scales
    save_file(tensors, tmp_path / "plain.safetensors")
    path = {
        "safetensors": lambda: export(
            load(tmp_path / "plain.safetensors", {"i3d": i3d_shapes()}), tmp_path / "i3d.safetensors"
        ),
        "torch": lambda: torch.save(state_dict(tensors), tmp_path / "i3d_pretrained_400.pt"),
        "torchscript": lambda: write_program(tmp_path / "i3d_torchscript.pt", tensors),
        "tensorflow": lambda: write_checkpoint(tmp_path / "model.ckpt", tensors),
    }[kind]()
    file = path or tmp_path / {"safetensors": "i3d.safetensors", "torch": "i3d_pretrained_400.pt"}[kind]
    for name in FVD:
        words = ("fvd", folders / "real", folders / "fake", "--protocol", name, "--frames", FRAMES, "--n", 2)
        words = (*words, "--allow-small", "--no-floor", "--batch", 1)
        expected = run(*words, "--weights", tmp_path / "plain.safetensors")
        result = run(*words, "--weights", file)
        assert result["scores"] == expected["scores"]
        assert result["manifest"] == expected["manifest"]
        if name == "styleganv":  # and without the cache
            assert run(*words, "--weights", file, "--fresh")["scores"] == expected["scores"]


@pytest.mark.slow
def test_a_killed_command_goes_on_and_a_corrupt_film_stops_the_score(folders, i3d_file, tmp_path):
    words = [sys.executable, "-m", "metrics", "fvd", folders / "real", folders / "fake", "--protocol", "google"]
    words += [
        "--weights",
        i3d_file,
        "--allow-small",
        "--batch",
        "1",
        "--frames",
        str(FRAMES),
        "--cache",
        tmp_path / "kept",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    first = subprocess.Popen(
        [*map(str, words), "--json", str(tmp_path / "a")], env=environment, stderr=subprocess.DEVNULL
    )
    while first.poll() is None:
        if (tmp_path / "kept").exists():
            with sqlite3.connect(tmp_path / "kept", timeout=60) as file, suppress(sqlite3.OperationalError):
                if file.execute("SELECT count(*) FROM features").fetchone()[0] >= 2:
                    break
        time.sleep(0.02)
    first.kill()
    assert first.wait() == -9
    assert not (tmp_path / "a").exists()

    def again(*more, code=0):
        done = subprocess.run(
            [*map(str, words), *map(str, more)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    again("--json", tmp_path / "b")
    again("--json", tmp_path / "c", "--fresh")
    b, c = (
        json.loads((tmp_path / name).read_text())["scores"][f"fvd:google(frames={FRAMES})"]["value"] for name in "bc"
    )
    assert b == pytest.approx(c, rel=1e-6)
    video_file = next(path for path in (folders / "fake").rglob("*.avi"))
    content = video_file.read_bytes()
    video_file.unlink()
    video_file.write_bytes(content[: len(content) // 3])
    message = again(code=3).stderr.splitlines()[-1]
    assert "1 of 3 fake videos cannot be read (" in message
    assert "is cut off: it ends in the middle of frame" in message
    again("--allow-gaps", "--json", tmp_path / "d")
    record = json.loads((tmp_path / "d").read_text())
    assert record["manifest"]["fake"]["gaps"] == 1
    assert record["scores"][f"fvd:google(frames={FRAMES})"]["n"] == 2
