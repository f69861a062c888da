"""The command line: every verb on small sets, its JSON, and one line for every fault of a user."""

import json
import sys

import numpy as np
import pytest

from metrics import METRICS
from metrics import __main__ as metrics
from metrics.distribution.frechet import Gaussian, GaussianFactor, frechet_distance
from metrics.distribution.fvd import frechet_floor, fvd
from metrics.distribution.inception_score import inception_score
from metrics.evaluation.result import Result, compare
from metrics.networks.pocket import load_classifier
from metrics.paired import paired_difference
from metrics.temporal.frame_difference import flicker
from metrics.videos.clips import read_clips
from tests.metrics.video_files import numbered, some_videos, write_lossless, write_xvid


def test_fvd_is_reported_with_its_floor_its_interval_and_its_manifest(run, classifier, label, sets):
    real, one, folder = sets
    record = folder / "fvd.json"
    words = ("fvd", folder / "real.npy", folder / "one.npy", "--weights", classifier, "--json", record)
    out = run(*words, "--window", 8, "--allow-small", "--infinity")
    network = load_classifier(classifier)
    expected = fvd(real, one, network=network, window=8)
    result = json.loads(record.read_text())
    assert result["scores"][f"fvd:{label}"] == pytest.approx(expected.as_record(), rel=1e-6)
    assert {f"fvd:{label}", f"fvd_floor:{label}", f"fvd_infinity:{label}"} == result["scores"].keys()
    manifest = result["manifest"]
    assert (manifest["protocol"], manifest["weights"], manifest["frames"]) == (label, network.sha256, 8)
    assert (manifest["real"]["clips"], manifest["real"]["videos"], manifest["fake"]["clips"]) == (28, 14, 24)
    assert manifest["real"]["gaps"] == manifest["fake"]["gaps"] == 0
    assert len(manifest["real"]["clips_sha256"]) == len(result["made_with"]["fake"]["content_sha256"]) == 64
    assert result["made_with"]["torch"]
    assert "too few clips" in out
    assert f"fvd:{label} " in out
    assert f"fvd_infinity:{label} " in out
    assert f"fvd is blind to {METRICS['fvd'].blind}" in out


def test_sets_that_are_too_small_are_refused_before_a_number_is_shown(run, classifier, sets):
    _, _, folder = sets
    err = run("fvd", folder / "real.npy", folder / "one.npy", "--weights", classifier, code=3)
    assert "FVD with 64 dimensions needs at least 128 clips on each side: got 14 real and 12 fake" in err
    assert "--allow-small" in err
    np.save(folder / "few.npy", some_videos(3, frames=16))
    assert "needs at least 6 clips on each side: got 3 fake" in run(
        "is", folder / "few.npy", "--weights", classifier, code=3
    )


def test_saved_statistics_replace_the_real_set_if_they_were_made_alike(run, classifier, sets):
    _, _, folder = sets
    common = ("--weights", classifier, "--allow-small", "--window", 8)
    run(
        "fvd",
        folder / "real.npy",
        folder / "one.npy",
        *common,
        "--save-stats",
        folder / "real.npz",
        "--json",
        folder / "a",
    )
    run("fvd", folder / "real.npz", folder / "one.npy", *common, "--json", folder / "b")
    a, b = (json.loads((folder / name).read_text()) for name in "ab")
    assert a["scores"] == b["scores"]
    assert a["manifest"] == b["manifest"]
    assert Gaussian.load(folder / "real.npz").n == 28
    err = run(
        "fvd", folder / "real.npz", folder / "one.npy", "--weights", classifier, "--allow-small", "--window", 4, code=3
    )
    assert "real.npz was made otherwise: frames: 8, 4" in err
    Gaussian.of(np.eye(3)).save(folder / "bare.npz")
    assert "without their manifest" in run("fvd", folder / "bare.npz", folder / "one.npy", *common, code=3)
    with np.load(folder / "real.npz") as saved:
        whole = dict(saved)
    for part, damaged, fault in (
        ("source", whole["source"][:5], "n is 28, not all its arrays"),
        ("embedding", whole["embedding"] * np.nan, "its statistics are not those of its rows"),
        ("mean", whole["mean"] + 1, "its statistics are not those of its rows"),
    ):
        np.savez(folder / "damaged.npz", **{**whole, part: damaged})
        assert fault in run("fvd", folder / "damaged.npz", folder / "one.npy", *common, code=3)
    again = ("fvd", folder / "real.npz", folder / "one.npy", *common, "--save-stats", folder / "again.npz")
    assert "--save-stats is about real videos" in run(*again, code=3)
    assert "stand for the real set alone" in run("fvd", folder / "real.npy", folder / "real.npz", *common, code=3)


def test_kvd_and_is_and_what_they_hold(run, classifier, label, sets):
    _, one, folder = sets
    record = folder / "out.json"
    run("kvd", folder / "real.npy", folder / "one.npy", "--weights", classifier, "--json", record)
    scores = json.loads(record.read_text())["scores"]
    assert {name.removesuffix(f":{label}") for name in scores} == {"kvd", "precision", "recall", "density", "coverage"}
    run(
        "is",
        folder / "real.npy",
        folder / "one.npy",
        "--weights",
        classifier,
        "--allow-small",
        "--json",
        record,
        "--splits",
        2,
    )
    scores = json.loads(record.read_text())["scores"]
    score = scores[f"is:{label}"]["value"]
    assert score == pytest.approx(inception_score(one, network=load_classifier(classifier), splits=2).value)
    parts = [inception_score(part, network=load_classifier(classifier)).value for part in (one[:6], one[6:])]
    assert scores[f"is_std:{label}"] == {"value": pytest.approx(np.std(parts), rel=1e-6), "n": 12}
    assert scores[f"is_real:{label}"]["n"] == scores[f"is_real_std:{label}"]["n"] == 14
    assert score < scores[f"is_ceiling:{label}"]["value"] < 3
    err = run("is", folder / "one.npy", "--weights", classifier, "--head", "shape", "--allow-small", code=3)
    assert "has no head 'shape': it tells apart action" in err


def test_two_results_compare_paired_and_only_if_they_were_made_alike(run, classifier, label, sets):
    real, one, folder = sets
    words = ("--weights", classifier, "--allow-small")
    for name, fake in (("one", folder / "one.npy"), ("other", folder / "other" / "one.npy")):
        run("fvd", folder / "real.npy", fake, *words, "--json", folder / f"{name}.json")
    out = run("compare", folder / "one.json", folder / "other.json", "--json", folder / "difference.json")
    assert "the same videos on both sides: paired" in out
    score = json.loads((folder / "difference.json").read_text())["scores"][f"fvd:{label}"]
    network = load_classifier(classifier)
    rows = [network.embed(videos).embedding for videos in (real, one, one + np.uint8(20))]
    live = paired_difference(
        lambda a, b: frechet_distance(GaussianFactor.of(a), GaussianFactor.of(b)), rows[1], rows[2], real=rows[0]
    )
    assert score["value"] == pytest.approx(live.value, rel=1e-4, abs=1e-6)
    assert score["high"] - score["low"] == pytest.approx(live.high - live.low, rel=1e-3, abs=1e-6)
    run("fvd", folder / "real.npy", folder / "one.npy", *words, "--frames", 8, "--json", folder / "short.json")
    err = run("compare", folder / "one.json", folder / "short.json", code=3)
    assert "are not comparable, they differ in frames: None, 8" in err
    run("compare", folder / "one.json", folder / "short.json", "--force")
    (folder / "notes.json").write_text('{"schema": 2}')
    for name in ("notes.json", "absent.json"):
        assert "holds no scores" in run("compare", folder / "one.json", folder / name, code=3)


def test_scores_of_other_videos_are_not_paired():
    made_with: list[dict] = [{"fake": {"names_sha256": name}} for name in ("a", "a", "b")]
    values = {"fvd": [1.0, 2.0, 3.0, 4.5]}, {"fvd": [1.1, 2.1, 3.2, 4.5]}
    scores = {"fvd": flicker(some_videos(2))}
    first = Result(scores, {}, made_with[0], values[0])
    same, other = (Result(scores, {}, each, values[1]) for each in made_with[1:])
    paired, apart = compare(first, same)["fvd"], compare(first, other)["fvd"]
    assert paired.value == pytest.approx(apart.value, rel=1e-12)
    assert paired.high - paired.low < 0.2 * (apart.high - apart.low)
    with pytest.raises(ValueError, match="no score in common"):
        compare(first, Result({"is": scores["fvd"]}, {}, made_with[0]))


def test_a_broken_video_is_named_counted_and_refused_unless_allowed(run, classifier, label, tmp_path):
    for side in ("real", "fake"):
        (tmp_path / side).mkdir()
        for i, video in enumerate(some_videos(6, seed=len(side))):
            write_lossless(tmp_path / side / f"{i}.mkv", video)
    content = (tmp_path / "fake" / "4.mkv").read_bytes()
    (tmp_path / "fake" / "4.mkv").write_bytes(content[:300])
    words = (
        "fvd",
        tmp_path / "real",
        tmp_path / "fake",
        "--weights",
        classifier,
        "--allow-small",
        "--json",
        tmp_path / "o",
    )
    err = run(*words, code=3)
    assert "1 of 6 fake videos cannot be read (4.mkv: " in err
    assert "--allow-gaps" in err
    assert not (tmp_path / "o").exists()
    out = run(*words, "--allow-gaps")
    record = json.loads((tmp_path / "o").read_text())
    assert record["scores"][f"fvd:{label}"]["n"] == 5
    assert record["manifest"]["fake"]["gaps"] == 1
    assert record["made_with"]["fake"]["gap_reasons"][0].startswith("4.mkv: ")
    assert "1 fake videos could not be read and are left out" in out
    assert "--allow-gaps to measure without it" in run("jitter", tmp_path / "fake", code=3)
    assert "n = 5" in run("jitter", tmp_path / "fake", "--allow-gaps")


def test_clips_are_written_and_used_again_and_lists_choose_videos(run, classifier, label, sets, tmp_path):
    _, _, folder = sets
    words = ("fvd", folder / "real.npy", folder / "one.npy", "--weights", classifier, "--allow-small")
    run(*words, "--n", 5, "--frames", 8, "--save-clips", tmp_path / "lists", "--json", tmp_path / "a")
    clips = read_clips(tmp_path / "lists" / "real.jsonl")
    assert [clip.video for clip in clips] == [f"real.npy#{i}" for i in range(5)]
    given = ("--real-clips", tmp_path / "lists" / "real.jsonl", "--fake-clips", tmp_path / "lists" / "fake.jsonl")
    run(*words, *given, "--json", tmp_path / "b")
    a, b = (json.loads((tmp_path / name).read_text()) for name in "ab")
    assert a["scores"][f"fvd:{label}"] == b["scores"][f"fvd:{label}"]
    (tmp_path / "names.txt").write_bytes(b"real.npy#3 1\r\nreal.npy#1 1\r\nreal.npy#2 2\r\n")  # as UCF-101's lists
    run(*words, "--real-list", tmp_path / "names.txt", "--json", tmp_path / "c")
    assert json.loads((tmp_path / "c").read_text())["manifest"]["real"]["clips"] == 3
    (tmp_path / "names.txt").write_text("real.npy#3\nreal.npy#1\nreal.npy#3\n")
    assert "3 listed videos are 2 different ones: name each once" in run(
        *words, "--real-list", tmp_path / "names.txt", code=3
    )
    (tmp_path / "names.txt").write_text("absent.avi\n")
    err = run(*words, "--real-list", tmp_path / "names.txt", code=3)
    assert "1 of 1 listed videos are not there, the first is absent.avi" in err


def test_features_are_kept_from_verb_to_verb(run, classifier, sets, monkeypatch):
    _, _, folder = sets
    words = (
        folder / "real.npy",
        folder / "one.npy",
        "--weights",
        classifier,
        "--allow-small",
        "--cache",
        folder / "kept",
    )
    run("fvd", *words)
    calls = []
    monkeypatch.setattr(
        "metrics.networks.pocket.PocketFeatureExtractor.embed", lambda self, videos: calls.append(len(videos))
    )
    run("kvd", *words)
    assert calls == []
    with pytest.raises(Exception, match="None"):  # what the network now returns
        run("kvd", *words, "--fresh")
    assert calls


def test_jitter_is_measured_and_written_with_what_it_is_blind_to(run, tmp_path):
    videos = some_videos(3, frames=16)
    np.save(tmp_path / "set.npy", videos)
    record = tmp_path / "out.json"
    out = run("jitter", tmp_path / "set.npy", "--seams", 4, 8, 12, "--json", record)
    result = json.loads(record.read_text())
    scores = result["scores"]
    assert scores["flicker"]["value"] == flicker(videos).value
    assert scores["flicker"]["n"] == 3
    assert {"seam_ratio:D", "seam_ratio:W", "seam_phase:dF", "duplicates:seams", "cycling:repeat", "boomerang"} < set(
        scores
    )
    assert all(name in out for name in scores)
    assert result["manifest"]["flow"].startswith("farneback(")
    assert "optical flow by farneback(" in out
    for name in {name.split(":")[0] for name in scores} - {"fvd"}:
        assert f"{name} is blind to {METRICS[name].blind}" in out
    assert "seam" not in run("jitter", tmp_path / "set.npy")
    np.save(tmp_path / "real.npy", some_videos(2, frames=16, seed=5))
    out = run("jitter", tmp_path / "real.npy", tmp_path / "set.npy", "--no-flow")
    assert "flicker_real" in out
    assert "motion_jitter" not in out
    assert "give one set of videos" in run("jitter", *[tmp_path / "set.npy"] * 3, code=3)
    assert "holds 3 videos, 4 were requested" in run("jitter", tmp_path / "set.npy", "--n", 4, code=3)
    assert "got 'cpu' without --raft" in run("jitter", tmp_path / "set.npy", "--device", "cpu", code=3)
    raft = ("--raft", tmp_path / "no.pth", "--device", "tpu9")
    assert "got 'tpu9'" in run("jitter", tmp_path / "set.npy", *raft, code=3)
    assert "cannot be used as weights" in run("jitter", tmp_path / "set.npy", "--raft", tmp_path / "no.pth", code=3)


def test_a_list_may_name_videos_with_spaces(run, classifier, sets):
    _, one, folder = sets
    (folder / "real").mkdir()
    for i in range(4):
        np.save(folder / "real" / f"a clip {i}.npy", one[i])
    (folder / "names.txt").write_text("a clip 2.npy\na clip 0.npy 17\na clip 1.npy\n")
    words = ("--weights", classifier, "--allow-small", "--no-floor", "--real-list", folder / "names.txt")
    run("fvd", folder / "real", folder / "one.npy", *words, "--json", folder / "out.json")
    assert json.loads((folder / "out.json").read_text())["manifest"]["real"]["videos"] == 3


def test_a_file_that_was_cut_off_is_not_taken_for_a_short_video(run, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(3):
        video = np.clip(numbered(60).astype(int) + random.integers(-20, 20, (60, 48, 64, 3)), 0, 255).astype(np.uint8)
        write_xvid(folder / f"{i}.avi", video, b_frames=0)
    content = (folder / "1.avi").read_bytes()
    (folder / "1.avi").write_bytes(content[: len(content) * 6 // 10])
    for more in ((), ("--frames", 16)):
        err = run("jitter", folder, "--no-flow", *more, code=3)
        assert "1.avi" in err
        assert "--allow-gaps" in err
    run("jitter", folder, "--no-flow", "--allow-gaps", "--json", tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["scores"]["flicker"]["n"] == 2
    assert result["manifest"]["fake"]["gaps"] == 1
    assert result["made_with"]["fake"]["gap_reasons"][0].startswith("1.avi: ")


def test_jitter_of_other_real_sets_rates_or_sizes_does_not_compare(run, tmp_path):
    def measured(name, real, fake, *words):
        run("jitter", real, fake, "--no-flow", "--json", tmp_path / name, *words)
        return tmp_path / name

    for name, seed in (("real", 1), ("other", 2), ("fake", 3), ("again", 3)):
        (tmp_path / f"of-{name}").mkdir()
        np.save(tmp_path / f"of-{name}" / "set.npy", some_videos(4, frames=16, seed=seed))
    a = measured("a.json", tmp_path / "of-real", tmp_path / "of-fake")
    same = measured("same.json", tmp_path / "of-real", tmp_path / "of-again")
    other = measured("b.json", tmp_path / "of-other", tmp_path / "of-fake")
    run("compare", a, same, "--json", tmp_path / "none.json")
    none = json.loads((tmp_path / "none.json").read_text())["scores"]
    assert none["flicker_real"] == none["flicker"] == {"value": 0, "n": 4, "low": 0, "high": 0}
    err = run("compare", a, other, code=3)
    assert "they differ in real.content_sha256" in err
    run("compare", a, other, "--force", "--json", tmp_path / "forced.json")
    forced = json.loads((tmp_path / "forced.json").read_text())["scores"]
    first, second = (Result.from_json(path) for path in (a, other))
    apart = (first.scores["flicker_real"], second.scores["flicker_real"])
    reach = sum(((score.high - score.low) / 2) ** 2 for score in apart) ** 0.5
    score = forced["flicker_real"]  # of two real sets, though the names are the same: not paired
    assert (score["high"] - score["low"]) / 2 == pytest.approx(reach, rel=1e-9)
    assert forced["flicker"] == none["flicker"]  # of the same generated videos
    for rate in (8, 25):
        (tmp_path / str(rate)).mkdir()
        write_lossless(tmp_path / str(rate) / "v.mkv", numbered(16), fps=rate)
    write_lossless(tmp_path / "v.mkv", numbered(16, height=32))
    slow, fast, small = (tmp_path / name for name in ("8", "25", "v.mkv"))
    jitters = {}
    for name, place in (("slow", slow), ("fast", fast), ("small", small)):
        jitters[name] = tmp_path / f"{name}.json"
        run("jitter", place, "--no-flow", "--json", jitters[name])
    assert "they differ in fake.fps: [8.0], [25.0]" in run("compare", jitters["slow"], jitters["fast"], code=3)
    assert "they differ in fake.size: ['48x64'], ['32x64']" in run("compare", jitters["slow"], jitters["small"], code=3)
    run("compare", jitters["slow"], jitters["fast"], "--force")


def test_what_a_user_can_fix_is_reported_in_one_line(run, classifier, sets):
    _, _, folder = sets
    words = ("fvd", folder / "real.npy", folder / "one.npy", "--allow-small")
    assert "there is no such file" in run(*words, "--weights", folder / "none.safetensors", code=3)
    (folder / "notes.safetensors").write_text("no weights")
    assert "notes.safetensors is not a whole" in run(
        *words, "--protocol", "pocket", "--weights", folder / "notes.safetensors", code=3
    )
    assert "--json" in run(*words, "--json", folder / "absent" / "out.json", code=3)
    assert "the protocol styleganv needs the weights" in run(*words, "--protocol", "styleganv", code=3)
    assert "fvd has no protocol 'best': it is one of clean, google" in run(*words, "--protocol", "best", code=3)
    assert "is has no protocol 'google': it is one of tgan" in run(
        "is", folder / "one.npy", "--protocol", "google", code=3
    )
    assert "give one" in run(*words, "--window", 8, "--frames", 8, code=3)
    assert "--device is auto, cpu or a GPU" in run(*words, "--device", "tpu9", code=3)
    assert "got 'tpu9'" in run("verify", "--weights", classifier, "--device", "tpu9", code=3)
    assert "holds no videos" in run("fvd", folder / "absent", folder / "one.npy", code=3)
    assert "has 16 frames, a clip spans 20" in run(*words, "--frames", 20, code=3)


@pytest.mark.parametrize(
    "words", [("fvd", "a", "b", "--nonsense"), ("score",), ("fvd", "a"), ("is", "a", "--n", "x"), ()]
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])  # tyro draws its boxes by it
def test_usage_errors_have_their_own_exit_code(monkeypatch, words, encoding, capsys):
    monkeypatch.setattr("metrics.option_types._Help.encoding", encoding)
    monkeypatch.setattr(sys, "argv", ["metrics", *words])
    with pytest.raises(SystemExit) as stop:
        metrics.main()
    assert stop.value.code == 3  # 2 says that weights are wrong
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "----" not in error
    assert "helptext" not in error
    monkeypatch.setattr(sys, "argv", ["metrics", *words[:1], "--help"])
    if words[:1] != ("score",):  # no such verb
        metrics.main()
        assert capsys.readouterr().out


def test_the_floor_is_that_at_the_score_s_own_n(run, classifier, label, sets):
    real, _, folder = sets
    words = ("fvd", folder / "real.npy", folder / "one.npy", "--weights", classifier, "--allow-small", "--n", 6)
    out = run(*words, "--json", folder / "a")
    result = json.loads((folder / "a").read_text())
    rows = load_classifier(classifier).embed(real[:12]).embedding
    expected = frechet_floor(rows, 6)
    assert result["scores"][f"fvd_floor:{label}"] == pytest.approx(expected.as_record(), rel=1e-4, abs=1e-9)
    assert result["manifest"]["real"]["clips"] == 6
    assert "for the floor 6 more real clips were drawn" in out
    out = run(*words, "--no-floor", "--json", folder / "b")
    halves = json.loads((folder / "b").read_text())
    assert halves["scores"][f"fvd_floor:{label}"]["n"] == 3
    assert "as half of the real clips are no more" in out
    assert halves["scores"][f"fvd:{label}"] == result["scores"][f"fvd:{label}"]
    assert halves["manifest"] == result["manifest"]
    run(*words[:-1], 10, "--json", folder / "c")  # 14 real videos are no 20
    assert json.loads((folder / "c").read_text())["scores"][f"fvd_floor:{label}"]["n"] == 7


def test_a_video_that_only_the_floor_needs_does_not_stop_the_score(run, classifier, label, tmp_path):
    for side in ("real", "fake"):
        (tmp_path / side).mkdir()
        for i, video in enumerate(some_videos(6, seed=len(side))):
            write_lossless(tmp_path / side / f"{i}.mkv", video)
    (tmp_path / "real" / "4.mkv").write_bytes((tmp_path / "real" / "4.mkv").read_bytes()[:300])
    words = ("fvd", tmp_path / "real", tmp_path / "fake", "--weights", classifier, "--allow-small", "--n", 3)
    run(*words, "--json", tmp_path / "o")
    record = json.loads((tmp_path / "o").read_text())
    assert record["manifest"]["real"]["gaps"] == 0
    assert record["scores"][f"fvd_floor:{label}"]["n"] == 2


def test_the_table_describes_every_metric_in_one_line():
    for name, metric in METRICS.items():
        assert callable(metric.function), name
        assert metric.better in {"lower", "higher", "real"}
        for line in (metric.meaning, metric.blind):
            assert line
            assert "\n" not in line
