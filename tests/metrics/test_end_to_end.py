"""Every published protocol from real films to a number, on recipe weights: what it says of frames, clips and sets.

The weights are no published ones, so the numbers mean nothing; what is held is that every row of the tables runs, that
the same features by hand make the same number, and that rows differ where they should.
"""

import json
import sys

import numpy as np
import pytest
from safetensors.torch import save_file
from scipy.special import softmax

from metrics import __main__
from metrics.c3d import load_c3d
from metrics.clips import read_clips
from metrics.i3d import load_i3d
from metrics.inception_score import score_of_probabilities
from metrics.preprocess import store
from metrics.protocols import FVD, IS
from metrics.read import list_videos
from metrics.statistics import Gaussian, frechet_distance
from tests.metrics.films import real_clips
from tests.metrics.recipes import c3d_mean
from tests.metrics.weight_files import c3d_weights, i3d_weights

FRAMES = 10  # the fewest that all rows allow


@pytest.fixture(scope="module")
def i3d_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "i3d.safetensors"
    save_file(i3d_weights(), path)
    return path


@pytest.fixture(scope="module")
def c3d_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_file(c3d_weights(1.0), folder / "c3d.safetensors")
    np.savez(folder / "mean2.npz", mean=c3d_mean())
    return folder / "c3d.safetensors"


@pytest.fixture
def folders(tmp_path):
    """Four real clips on one side, three others on the other, linked into folders of classes."""
    films = [video.path for video in list_videos(real_clips("UCF-101"))]
    for side, chosen in (("real", films[:8:2]), ("fake", films[1:6:2])):
        for film in chosen:
            place = tmp_path / side / film.parent.name
            place.mkdir(parents=True)
            (place / film.name).symlink_to(film)
    return tmp_path


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["metrics", *map(str, words), "--json", str(tmp_path / "out.json")])
        __main__.main()
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
def test_every_fvd_protocol_from_films_to_its_number(name, run, folders, i3d_file):
    words = ("--protocol", name, "--weights", i3d_file, "--frames", FRAMES, "--n", 3, "--allow-small")
    record = run("fvd", folders / "real", folders / "fake", *words, "--save-clips", folders / "lists", "--batch", 2)
    row, score, manifest = FVD[name], record["scores"]["fvd"], record["manifest"]
    assert score["n"] == 3
    assert score["low"] <= score["value"] <= score["high"]
    assert manifest["protocol"] == name
    assert (manifest["ddof"], manifest["row"]["epsilon"], manifest["frames"]) == (row.ddof, row.epsilon, FRAMES)
    assert manifest["network"].startswith(f"i3d:{name}:")
    if name in ("clean", "styleganv"):  # one by each kind of storage; the others differ in what their own tests hold
        network = load_i3d(i3d_file, name)
        x, y = (
            by_hand(folders / side, folders / "lists" / f"{side}.jsonl", network, rule.storage)
            for side, rule in (("real", row.real), ("fake", row.fake))
        )
        distance = frechet_distance(Gaussian.of(x), Gaussian.of(y), ddof=row.ddof)
        assert score["value"] == pytest.approx(distance, rel=1e-4)


@pytest.mark.parametrize("name", IS)
def test_every_inception_score_protocol_from_films_to_its_number(name, run, folders, c3d_file):
    words = ("--protocol", name, "--weights", c3d_file, "--allow-small", "--splits", 2)
    record = run("is", folders / "real", *words, "--save-clips", folders / "lists")
    row, score = IS[name], record["scores"]["is"]
    assert score["n"] == 4
    assert record["scores"]["is_ceiling"]["n"] == 4
    assert record["manifest"]["row"]["epsilon"] == row.epsilon
    videos = {video.name: video for video in list_videos(folders / "real")}
    network = load_c3d(c3d_file, name)
    logits = np.concatenate(
        [
            network.embed(videos[clip.video].read(clip.start, clip.frames)[None]).embedding
            for clip in read_clips(folders / "lists" / "fake.jsonl")
        ]
    )
    p = softmax(logits.astype(np.float64), axis=1)
    expected = score_of_probabilities(p, splits=2, epsilon=row.epsilon, shuffle=row.shuffle).value
    assert score["value"] == pytest.approx(expected, rel=1e-5)


def test_published_protocols_refuse_too_few_videos_before_any_work(run, folders, i3d_file, c3d_file, capsys):
    words = (folders / "real", folders / "fake", "--weights", i3d_file)
    for more, message in (
        (
            ("--protocol", "styleganv"),
            "styleganv takes 2048 real clips, 4 came: give more, another --n, or --allow-small",
        ),
        (("--protocol", "styleganv", "--n", 4), "4 real clips are too few: the score needs at least 800"),
        (("--protocol", "google"), "4 real clips are too few: the score needs at least 800"),
    ):
        with pytest.raises(SystemExit) as stop:
            run("fvd", *words, *more)
        assert stop.value.code == 3
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("is", folders / "real", "--protocol", "tgan2", "--weights", c3d_file, "--n", 4)
    assert "4 fake clips are too few: the score needs at least 202" in capsys.readouterr().err
