import json

import pytest
import torch

from bench.hardware.roofline import Peaks
from bench.studies.gpu_session import __main__ as gpu_session
from bench.studies.gpu_session.clip_time import clip_time, verdict
from bench.studies.gpu_session.train_steps import train_time

real_parts = gpu_session._parts


@pytest.fixture(autouse=True)
def _known_peaks(monkeypatch):
    fast = Peaks({"float32": 1e15, "bfloat16": 1e15}, 1e15, 1e15)
    monkeypatch.setattr("bench.studies.gpu_session.clip_time.peaks", lambda device: fast)
    monkeypatch.setattr("bench.studies.gpu_session.train_steps.peaks", lambda device: fast)


@pytest.mark.slow
def test_the_script_leaves_its_records_with_machine_versions_and_revision(tmp_path, capsys):
    code = gpu_session.main(tmp_path, "tiny", "cpu", steps=2, frames=(4, 8), parts=("clips", "kernels", "memory"))
    (folder,) = tmp_path.iterdir()
    assert code == 0, capsys.readouterr().out
    about = json.loads((folder / "about.json").read_text())
    assert set(about) >= {"machine", "software", "revision", "written", "parts"}
    assert set(about["parts"]) == {"clips", "kernels", "memory"}
    clips = json.loads((folder / "clips.json").read_text())
    assert clips[0]["model"] == "tiny"
    assert len(clips[0]["seconds"]) == 3
    memory = json.loads((folder / "memory.json").read_text())["records"]
    assert {record["attempt"]["status"] for record in memory} == {"ok"}
    assert len(memory) == 4
    assert "| operator" in (folder / "kernels.md").read_text()


def test_training_and_the_videos_of_ucf101_are_timed(tmp_path, capsys):
    code = gpu_session.main(tmp_path, "tiny", "cpu", steps=2, parts=("train", "ucf101"))
    (folder,) = tmp_path.iterdir()
    assert code == 0, capsys.readouterr().out
    train = json.loads((folder / "train.json").read_text())
    assert [each["batch"] for each in train] == list(gpu_session.BATCHES)
    for each in train:
        assert len(each["seconds"]) == 5
        assert each["steps_per_second"] == pytest.approx(1 / sorted(each["seconds"])[2])
        assert each["flops"] == each["batch"] * train[0]["flops"]
        assert 0 < each["trained"] < each["parameters"]
        assert each["share"] == pytest.approx(each["flops"] * each["steps_per_second"] / 1e15)
        assert each["verdict"] == "ok"
    saved = json.loads((folder / "ucf101.json").read_text())
    assert (saved["videos"], saved["frames"], saved["steps"], len(saved["seconds"])) == (4, 16, 2, 2)
    assert saved["per_hour"] == pytest.approx(2 / saved["seconds"][1] * 3600)
    assert saved["hours_for_10000"] == pytest.approx(10_000 / saved["per_hour"])
    assert "random" in saved["weights"]
    assert "random weights" in json.loads((folder / "about.json").read_text())["parts"]["ucf101"]
    assert not list(folder.rglob("*.mkv"))
    assert not list(folder.rglob("state.pt"))


def test_a_step_of_training_faster_than_the_machine_is_not_believed(monkeypatch, tmp_path):
    monkeypatch.setattr("bench.studies.gpu_session.train_steps.peaks", lambda device: Peaks({"float32": 1e3}, 1e3, 1e3))
    assert train_time("tiny", "cpu", 1, tmp_path, steps=2).verdict == "invalid"


def test_every_part_leaves_the_others_their_time(tmp_path, monkeypatch):
    given = {}

    def part(name, reserve):
        return gpu_session.Part(name, reserve, lambda left: given.setdefault(name, left) and "done")

    monkeypatch.setattr(gpu_session, "_parts", lambda *args: [part("a", 100), part("b", 150), part("c", 200)])
    assert gpu_session.main(tmp_path, "tiny", "cpu", minutes=10.0, parts=("a", "b", "c")) == 0
    assert given["a"] == pytest.approx(600 - 350, abs=5)
    assert given["b"] == pytest.approx(600 - 200, abs=10)
    assert given["c"] == pytest.approx(600, abs=15)
    assert gpu_session.PARTS[0] == "clips"
    assert sum(each.reserve for each in real_parts(tmp_path, "full", "cuda", 50, 8, (16,))) <= 600


@pytest.mark.slow
def test_approximations_go_the_same_way(tmp_path, capsys):
    assert gpu_session.main(tmp_path, "tiny", "cpu", parts=("approximations",)) == 0, capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    records = json.loads((folder / "approximations.json").read_text())["records"]
    status = {each["cell"]["values"]["approximation"]: each["attempt"]["status"] for each in records}
    assert status == {"exact": "ok", "bf16": "ok", "fp8": "skipped"}


def test_a_part_for_which_no_time_is_left_is_named(tmp_path, monkeypatch):
    late = gpu_session.Part("clips", 100, lambda left: "never")
    monkeypatch.setattr(gpu_session, "_parts", lambda *args: [late])
    assert gpu_session.main(tmp_path, "tiny", "cpu", minutes=1.0, parts=("clips",)) == 4
    (folder,) = tmp_path.iterdir()
    assert "left out: it takes 100 s" in json.loads((folder / "about.json").read_text())["parts"]["clips"]


def test_a_part_that_fails_stops_no_other(tmp_path, monkeypatch):
    def fail(left):
        raise RuntimeError("lost the card")

    monkeypatch.setattr(
        gpu_session,
        "_parts",
        lambda *args: [gpu_session.Part("a", 0, fail), gpu_session.Part("b", 0, lambda left: "done")],
    )
    assert gpu_session.main(tmp_path, "tiny", "cpu", parts=("a", "b")) == 2
    (folder,) = tmp_path.iterdir()
    saved = json.loads((folder / "about.json").read_text())["parts"]
    assert saved["a"] == "failed: RuntimeError: lost the card"
    assert saved["b"].startswith("done")


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_session.main(tmp_path) == 3
    assert "no CUDA device was found" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there is no part 'speeed'"):
        gpu_session.main(tmp_path, "tiny", "cpu", parts=("speeed",))


def test_a_clip_faster_than_the_machine_is_not_believed():
    assert verdict(0.6, 0.5, 0.4) == "ok"
    assert verdict(0.45, 0.5, 0.4) == "suspicious"
    assert verdict(0.39, 0.5, 0.4) == "invalid"
    assert verdict(0.45, 0.5, None) == "suspicious"


def test_a_clip_counts_all_its_steps():
    one, two = (clip_time("tiny", "cpu", "fp32", compiled=False, steps=n, repeats=1) for n in (2, 4))
    decode = 2 * one.flops - two.flops
    assert 0 < decode < one.flops
    assert two.least == pytest.approx(two.flops / 1e15)
    assert one.denoise[0] < one.seconds[0]
