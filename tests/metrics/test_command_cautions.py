"""What the command line says next to a number, so that nobody takes it for another."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from metrics.networks.pocket import CLASSIFIERS
from tests.metrics.video_files import noisy, numbered, some_videos, write_lossless, write_xvid

SMALL = ("--allow-small", "--no-floor")


@pytest.mark.parametrize(
    ("real", "fake", "caution"),
    [
        (some_videos(6), some_videos(6), "both sets are the same videos"),
        (
            some_videos(6),
            np.concatenate([some_videos(3), some_videos(3, seed=1)]),
            "3 of 6 fake videos are in the real",
        ),
        (some_videos(6), some_videos(1, seed=1).repeat(40, axis=0), "39 of 40 fake videos are copies"),
        (some_videos(6), some_videos(6, seed=1) // 128, "no fake pixel is above 1"),
        (some_videos(6), some_videos(6, seed=1, size=32), "real frames are 16x16 pixels, fake ones 32x32"),
    ],
)
def test_sets_that_make_a_number_odd_are_named_next_to_it(run, tmp_path, real, fake, caution):
    np.save(tmp_path / "real.npy", real)
    np.save(tmp_path / "fake.npy", fake)
    for words in (("fvd", *SMALL), ("kvd", "--allow-small"), ("jitter", "--no-flow")):
        verb, *more = words
        for _ in range(2):  # the second time features and what is known of pixels come from the cache
            out = run(verb, tmp_path / "real.npy", tmp_path / "fake.npy", *more, "--json", tmp_path / "out.json")
            assert caution in out
        assert caution in "".join(json.loads((tmp_path / "out.json").read_text())["notes"])
    clean = run("fvd", tmp_path / "real.npy", tmp_path / "real.npy", *SMALL)
    assert "copies" not in clean


def test_whole_videos_of_unequal_length_are_named_and_do_not_compare(run, tmp_path):
    for frames in (9, 12):
        np.save(tmp_path / f"{frames}.npy", some_videos(6, frames=frames))
    for frames in (9, 12):
        words = (tmp_path / "9.npy", tmp_path / f"{frames}.npy", *SMALL, "--json", tmp_path / f"{frames}.json")
        caution = "real clips have 9 frames, fake ones 12"
        assert (caution in run("fvd", *words)) == (frames == 12)
    assert "differ in fake.lengths: 9, 12" in run("compare", tmp_path / "9.json", tmp_path / "12.json", code=3)


def test_one_file_under_forty_names_is_one_video(run, tmp_path):
    for side, n in (("real", 5), ("fake", 1)):
        (tmp_path / side).mkdir()
        for i, video in enumerate(some_videos(n, seed=n, frames=20)):
            write_lossless(tmp_path / side / f"{i}.mkv", video)
    for i in range(1, 8):
        shutil.copy(tmp_path / "fake" / "0.mkv", tmp_path / "fake" / f"{i}.mkv")
    out = run("fvd", tmp_path / "real", tmp_path / "fake", *SMALL, "--save-stats", tmp_path / "real.npz")
    assert "7 of 8 fake videos are copies" in out
    assert "both sets" in run("fvd", tmp_path / "real.npz", tmp_path / "real", *SMALL)  # statistics know their videos


def test_statistics_that_other_code_saved_are_named(run, sets, monkeypatch):
    _, _, folder = sets
    words = ("fvd", folder / "real.npy", folder / "one.npy", *SMALL)
    saved = ("fvd", folder / "real.npz", *words[2:])
    run(*words, "--save-stats", folder / "real.npz")
    assert "by other code" not in run(*saved)
    monkeypatch.setattr("metrics.evaluation.statistics_file.hash_of_makers", lambda: "other")
    assert "the statistics of the real videos were saved by other code or packages" in run(*saved)


def test_only_the_shipped_classifier_makes_pocket_scores(run, classifier, label, sets):
    _, _, folder = sets
    sides = ("fvd", folder / "real.npy", folder / "one.npy", *SMALL)
    copied = folder / "copy.safetensors"
    shutil.copy(CLASSIFIERS / "i3d.safetensors", copied)
    assert "fvd:pocket " in run(*sides)
    assert "fvd:pocket " in run(*sides, "--weights", copied)
    out = run(*sides, "--weights", classifier)
    assert f"fvd:{label} " in out
    assert "pocket" not in out


def test_a_forced_comparison_says_in_what_the_scores_differ(run, tmp_path):
    np.save(tmp_path / "a.npy", some_videos(4, frames=12))
    for frames in (10, 12):
        run("jitter", tmp_path / "a.npy", "--no-flow", "--frames", frames, "--json", tmp_path / f"{frames}.json")
    pair = ("compare", tmp_path / "10.json", tmp_path / "12.json", "--force")
    assert "forced: these scores were made differently, they differ in frames: 10, 12" in run(*pair)
    run(*pair, "--json", tmp_path / "out.json")
    assert "forced" in "".join(json.loads((tmp_path / "out.json").read_text())["notes"])
    assert "forced" not in run("compare", tmp_path / "10.json", tmp_path / "10.json", "--force")


@pytest.mark.parametrize("words", [("jitter", "--no-flow"), ("fvd", *SMALL)])
def test_pictures_that_are_not_read_are_named(run, tmp_path, words):
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        write_lossless(tmp_path / "set" / name / "v.mkv", some_videos(1, seed=ord(name))[0])
    for i in range(3):
        Image.fromarray(some_videos(1)[0, 0]).save(tmp_path / "set" / f"{i}.jpg")
    sources = [tmp_path / "set"] * (2 if words[0] == "fvd" else 1)
    out = run(words[0], *sources, *words[1:])
    assert "0.jpg and 2 other pictures in" in out
    assert "n = 2" in out


def test_a_rate_that_cannot_be_makes_no_video_still(run, tmp_path):
    scene = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    video = np.stack([np.roll(scene, 3 * t, axis=1) for t in range(24)])
    degrees = {}
    for fps in (25, 1000):
        write_lossless(tmp_path / f"{fps}.mkv", video, fps=fps)
        out = run("jitter", tmp_path / f"{fps}.mkv", "--json", tmp_path / "out.json")
        degrees[fps] = json.loads((tmp_path / "out.json").read_text())["scores"]["dynamic_degree"]["value"]
    assert degrees == {25: 1, 1000: 1}
    assert "1 fake videos name no frame rate that can be" in out


def test_no_interval_leaves_the_range_of_its_measure(run, tmp_path):
    still = numbered(12)[:1].repeat(12, axis=0)
    blink = np.where(np.arange(12)[:, None, None, None] % 2, np.uint8(255), np.uint8(0)) * np.ones_like(still)
    for i, video in enumerate((still, blink)):
        np.save(tmp_path / f"{i}.npy", video)
    run("jitter", tmp_path, "--no-flow", "--json", tmp_path / "out.json")
    scores = json.loads((tmp_path / "out.json").read_text())["scores"]
    for name in ("flicker", "jitter", "temporal_flickering"):
        assert (scores[name]["value"], scores[name]["low"], scores[name]["high"]) == (pytest.approx(0.5), 0, 1)


def test_how_many_videos_a_protocol_left_out_is_said(run, tmp_path, monkeypatch):
    from metrics.evaluation import dataset
    from metrics.protocols import Sampling

    monkeypatch.setattr(dataset, "WHOLE", Sampling("given", "given", "first", None, short="discard"))
    for i, frames in enumerate((12, 9, 12, 12)):
        np.save(tmp_path / f"{i}.npy", some_videos(1, frames=frames, seed=i)[0])
    out = run("is", tmp_path, "--frames", 12, "--allow-small")
    assert "1 fake videos are too short for a clip and are left out" in out


def test_names_that_are_no_utf_8_are_scored_and_shown(run, tmp_path):
    for i in range(3):
        write_lossless(tmp_path / "a.mkv", some_videos(1, seed=i)[0])
        (tmp_path / "set").mkdir(exist_ok=True)
        os.rename(tmp_path / "a.mkv", os.fsencode(tmp_path / "set") + b"/\xe4\xff%d.mkv" % i)
    words = (tmp_path / "set", "--save-clips", tmp_path / "lists", "--allow-small", "--json", tmp_path / "out.json")
    assert "n = 3" in run("is", *words)
    assert "\\\\xe4\\\\xff0.mkv" in (tmp_path / "lists" / "fake.jsonl").read_text()
    (tmp_path / "out.json").unlink()
    assert "n = 3" in run("jitter", tmp_path / "set", "--no-flow", "--json", tmp_path / "out.json")


def test_what_moves_the_cursor_never_reaches_the_terminal(run, tmp_path, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "\x1b[2J\u202egnp.avi").write_bytes(b"no video")
    write_lossless(tmp_path / "set" / "a.mkv", some_videos(1)[0])
    Image.fromarray(some_videos(1)[0, 0]).save(tmp_path / "set" / "\x1b]0;title\x07.png")
    error = run("jitter", tmp_path / "set", "--no-flow", code=3)
    out = run("jitter", tmp_path / "set", "--no-flow", "--allow-gaps")
    for text in (error, *out.splitlines()):
        assert text.isprintable()


@pytest.mark.parametrize("content", [b"no database" * 500, None])
def test_a_cache_that_cannot_be_used_is_left_out_and_named(run, sets, capsys, content):
    _, _, folder = sets
    place = folder / "kept"
    if content is None:
        place = folder / "file" / "kept"  # no folder can be made there
        (folder / "file").write_text("")
    else:
        place.write_bytes(content)
    import sys

    sys.argv = ["metrics", "is", str(folder / "one.npy"), "--allow-small", "--cache", str(place)]
    from metrics import __main__ as metrics

    metrics.main()
    printed = capsys.readouterr()
    assert "is:pocket" in printed.out
    assert "cannot keep features" in printed.err
    assert content is None or place.read_bytes() == content


def test_a_damaged_video_is_refused_by_every_verb(run, tmp_path):
    (tmp_path / "set").mkdir()
    for i in range(3):
        write_xvid(tmp_path / "set" / f"{i}.avi", noisy(), b_frames=0)
    content = bytearray((tmp_path / "set" / "1.avi").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 24] = bytes(255 - octet for octet in content[middle : middle + 24])
    (tmp_path / "set" / "1.avi").write_bytes(content)
    for words in (("jitter", "--no-flow"), ("is", "--allow-small")):
        assert "1.avi" in run(words[0], tmp_path / "set", *words[1:], code=3)
        assert "n = 2" in run(words[0], tmp_path / "set", *words[1:], "--allow-gaps")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: record.update(scores={"a": {"value": None, "n": 3}}),
        lambda record: record.update(scores={"a": {"value": float("nan"), "n": 3}}),
        lambda record: record.update(scores=[1]),
        lambda record: record.update(manifest=None),
        lambda record: record.update(made_with=[]),
        lambda record: record.update(values={"flicker": ["x"]}),
        lambda record: record.update(left_out={"flicker": [[None]]}),
        lambda record: record.update(more=1),
        lambda record: record.pop("notes"),
        lambda record: record.update(notes=None),
    ],
)
def test_a_record_that_was_damaged_is_one_line(run, tmp_path, spoil):
    np.save(tmp_path / "a.npy", some_videos(4))
    run("jitter", tmp_path / "a.npy", "--no-flow", "--json", tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text())
    spoil(record)
    (tmp_path / "b.json").write_text(json.dumps(record))
    assert "b.json holds no scores" in run("compare", tmp_path / "a.json", tmp_path / "b.json", code=3)


def test_json_that_is_nested_without_end_is_one_line(run, tmp_path):
    (tmp_path / "a.json").write_text("[" * 200_000)
    assert "a.json holds no scores" in run("compare", tmp_path / "a.json", tmp_path / "a.json", code=3)
    (tmp_path / "a.jsonl").write_text("[" * 200_000)
    np.save(tmp_path / "a.npy", some_videos(4))
    words = ("is", tmp_path / "a.npy", "--allow-small", "--fake-clips", tmp_path / "a.jsonl")
    assert "line 1 is no clip" in run(*words, code=3)


def test_names_of_scores_cannot_move_the_cursor(run, tmp_path):
    np.save(tmp_path / "a.npy", some_videos(4))
    run("jitter", tmp_path / "a.npy", "--no-flow", "--json", tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text().replace('"flicker"', '"\\u001b[2J\\u202eflicker"')
    (tmp_path / "b.json").write_text(text)
    assert all(line.isprintable() for line in run("compare", *[tmp_path / "b.json"] * 2).splitlines())
