"""`score`: the numbers of the single verbs to the last bit, from one decoding of every video; here and over Ray."""

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from metrics import set_verbs
from metrics.evaluation.cache import FeatureCache
from metrics.evaluation.extract import ClipWork
from metrics.networks.features import Features
from metrics.videos import read
from metrics.videos.clips import Clip
from tests.metrics.video_files import some_videos, write_lossless

PROTOCOLS = ("tats", "common")
SINGLE = {  # result -> the verb that gives it alone
    **{f"fvd-{name}": ("fvd", "both", "--protocol", name, "--allow-small") for name in PROTOCOLS},
    "kvd-common": ("kvd", "both", "--protocol", "common", "--allow-small"),
    "is-tgan2": ("is", "both", "--protocol", "tgan2", "--allow-small"),
    "jitter": ("jitter", "both", "--no-flow"),
    "vbench": ("vbench", "both"),
}


@dataclass(frozen=True)
class Neighborly:
    """A network whose rows depend on which clips share a batch, as those of a GPU do in the last bits."""

    name: str
    min_frames: int = 1
    digest: str = "0" * 64

    def embed(self, videos):
        rows = videos.mean(axis=(2, 3), dtype=np.float64).reshape(len(videos), -1)
        rows = rows[:, :6] + 1e-3 * rows[:, :6].mean(axis=0)
        return Features(rows, {"action": rows[:, :4] / 50})


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Two folders of files of different lengths, names in another order than their draws, and a copied array."""
    monkeypatch.setattr(
        set_verbs, "_network", lambda metric, protocol, path, common: Neighborly(f"{metric == 'is'}{protocol}")
    )
    for side, seed in (("real", 0), ("fake", 1)):
        (tmp_path / side).mkdir()
        for i, video in enumerate(some_videos(7, frames=24, seed=seed)):
            write_lossless(tmp_path / side / f"{i * 4 % 7:02}.mkv", video[: 17 + i])
        np.save(tmp_path / side / "z.npy", some_videos(3, frames=18, seed=seed + 2))
    return tmp_path


def score(run, sets, *words):
    metrics = ("--metrics", "fvd", "kvd", "is", "jitter", "vbench", "--no-flow", "--allow-small")
    words = ("--n", 10, *words)
    return run("score", sets / "fake", "--real", sets / "real", *metrics, "--protocol", *PROTOCOLS, "tgan2", *words)


def test_one_pass_gives_the_results_of_the_single_verbs_to_the_last_bit(run, sets, monkeypatch):
    decoded = Counter()
    decode = read.decode_spans

    def counted(file, spans, **how):
        decoded[file.relative_to(sets).as_posix()] += 1
        return decode(file, spans, **how)

    monkeypatch.setattr(read, "decode_spans", counted)
    out = score(run, sets, "--json", sets / "all", "--cache", sets / "kept")
    assert len(decoded) == 14
    assert set(decoded.values()) == {1}
    assert score(run, sets, "--cache", sets / "kept") == out  # everything is in the cache
    assert set(decoded.values()) == {1}
    assert {path.stem for path in (sets / "all").iterdir()} == {*SINGLE, "kvd-tats"}
    for name, (verb, _, *words) in SINGLE.items():
        fresh = [] if verb == "jitter" else ["--fresh"]
        run(verb, sets / "real", sets / "fake", *words, *fresh, "--n", 10, "--json", sets / "one.json")
        assert (sets / "one.json").read_text() == (sets / "all" / f"{name}.json").read_text(), name


def test_videos_that_cannot_be_read_are_treated_as_each_verb_does_alone(run, sets):
    whole = (sets / "fake" / "03.mkv").read_bytes()
    (sets / "fake" / "03.mkv").write_bytes(whole[: len(whole) // 2])
    assert "03.mkv" in run(*("score", sets / "fake", "--metrics", "jitter", "--no-flow"), code=3)
    words = ("--metrics", "is", "jitter", "--protocol", "tgan2", "--no-flow", "--allow-small", "--allow-gaps")
    run("score", sets / "fake", *words, "--fresh", "--json", sets / "all")
    run("is", sets / "fake", *SINGLE["is-tgan2"][2:], "--allow-gaps", "--fresh", "--json", sets / "one.json")
    assert (sets / "one.json").read_text() == (sets / "all" / "is-tgan2.json").read_text()
    notes = json.loads((sets / "all" / "jitter.json").read_text())["notes"]
    assert "1 fake videos could not be read and are left out" in notes


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
def test_pieces_of_a_work_are_whole_batches_of_it(pieces):
    clips = [Clip(f"{i * 5 % 13:02}", i % 3, 4) for i in range(29)]
    work = ClipWork(clips, Neighborly("n"), batch_size=4)
    shares = [work.share(number, pieces) for number in range(pieces)]
    batches = {place // 4: set() for place in work.places()}
    for clip, place in zip(clips, work.places(), strict=True):
        batches[place // 4].add(clip)
    parts = []
    for share in shares:
        of_share = {}
        for clip, place in zip(share.clips, share.places(), strict=True):
            of_share.setdefault(place // 4, set()).add(clip)
        parts += of_share.values()
    assert sorted(map(sorted, (map(str, part) for part in parts))) == sorted(
        map(sorted, (map(str, batch) for batch in batches.values()))
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metrics", "fvd"), "fvd compares with real video: give --real FOLDER"),
        (("--metrics", "alignment"), "alignment compares videos with their prompts: give --prompts FILE"),
        (("--metrics", "is", "--protocol", "tats"), "none of is has a protocol 'tats': it is one of pocket"),
        (("--metrics", "jitter", "--workers", "2"), "--workers are Ray's actors: got 2 without --ray"),
    ],
)
def test_what_no_verb_could_carry_out_is_one_line(run, sets, words, message):
    assert message in run("score", sets / "fake", *words, code=3)


@pytest.mark.slow
def test_two_actors_of_ray_give_the_same_to_the_last_bit(run, tmp_path):
    pytest.importorskip("ray")
    for side, seed in (("real", 0), ("fake", 1)):
        (tmp_path / side).mkdir()
        for i, video in enumerate(some_videos(21, frames=17, seed=seed, size=32)):
            write_lossless(tmp_path / side / f"{i:02}.mkv", video)
    words = ("score", tmp_path / "fake", "--real", tmp_path / "real", "--metrics", "fvd", "is", "jitter", "vbench")
    words = (*words, "--allow-small", "--protocol", "pocket")
    run(*words, "--fresh", "--json", tmp_path / "here")
    run(*words, "--ray", "--workers", 2, "--cache", tmp_path / "kept", "--json", tmp_path / "there")
    for path in (tmp_path / "here").iterdir():
        assert path.read_text() == (tmp_path / "there" / path.name).read_text()
    with FeatureCache(tmp_path / "kept") as cache:
        (rows,) = cache._file.execute("SELECT count(*) FROM features").fetchone()
    assert rows == 2 * 21 * 4  # of each video two networks', jitter's, and gray steps
