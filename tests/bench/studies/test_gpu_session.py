import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from accelerate.state import AcceleratorState

from baselines.models.families import outline
from bench.hardware.machine import ROOT
from bench.hardware.roofline import Peaks
from bench.hardware.stopwatch import Stopwatch
from bench.harness.suite_spec import override, plan
from bench.studies.gpu_session import __main__ as gpu_session
from bench.studies.gpu_session import measure
from bench.studies.gpu_session.clip_time import ClipTime, clip_time, verdict
from bench.studies.gpu_session.parts import LTX, WAN, Part, check_list, check_run, check_tests, parts
from bench.studies.gpu_session.pretend import NAME, pretended_cuda
from bench.studies.gpu_session.train_steps import TrainTime, train_time
from bench.studies.gpu_session.video_rate import VideoRate
from bench.suites import SUITES


@pytest.fixture
def known_peaks(monkeypatch):
    fast = Peaks({"float32": 1e15, "bfloat16": 1e15}, 1e15, 1e15)
    monkeypatch.setattr("bench.studies.gpu_session.clip_time.peaks", lambda device: fast)
    monkeypatch.setattr("bench.studies.gpu_session.train_steps.peaks", lambda device: fast)


@pytest.fixture
def dry(tmp_path):
    """Measures a part that is no suite with a pretended GPU: name -> its records."""

    def do(name):
        with pretended_cuda():
            assert measure.main(name, tmp_path / f"{name}.json", "tiny", 2) == 0
        return json.loads((tmp_path / f"{name}.json").read_text())

    yield do
    AcceleratorState._reset_state(reset_partial_state=True)  # its precision is that of the process


@pytest.mark.slow
def test_training_is_timed_dry_by_batch(dry, tmp_path):
    train = dry("train")
    assert check_list(TrainTime, tmp_path / "train.json") == "3 measured"
    assert [each["batch"] for each in train] == list(measure.BATCHES)
    for each in train:
        assert each["flops"] == each["batch"] * train[0]["flops"]
        assert each["precision"] == "bf16"
        assert each["share"] == pytest.approx(each["flops"] * each["steps_per_second"] / 1e15)
        assert each["nominal_share"] > 0  # the data sheet's way was taken


def test_the_videos_of_ucf101_are_timed_dry(dry, tmp_path):
    (saved,) = dry("ucf101")
    assert check_list(VideoRate, tmp_path / "ucf101.json") == "1 measured"
    assert (saved["videos"], saved["frames"], saved["steps"], len(saved["seconds"])) == (4, 16, 2, 2)
    assert saved["per_hour"] == pytest.approx(2 / saved["seconds"][1] * 3600)
    assert "random" in saved["weights"]


def test_a_pretended_gpu_is_there_and_gone_again():
    with pretended_cuda():
        assert torch.cuda.get_device_name() == NAME
        assert torch.zeros(2, device="cuda").device.type == "cpu"
        assert torch.nn.Linear(2, 2).to("cuda", torch.bfloat16).weight.dtype == torch.bfloat16
        with torch.device("cuda"):
            assert torch.empty(2).device.type == "cpu"
        assert torch.device("cuda").type == "cuda"
        watch = Stopwatch("cuda")
        assert watch._cuda
        with watch.stage("denoise"):
            torch.randn(2, generator=torch.Generator("cuda").manual_seed(0))
        assert 0 < watch.read()["denoise"] < 1
        import pynvml

        assert pynvml.nvmlSystemGetDriverVersion.__self__ is pynvml  # the fake, an object
    import pynvml

    assert pynvml.__name__ == "pynvml"
    assert torch.zeros(2, device="cpu").add(1).sum() == 2


def test_every_command_of_a_session_is_one_that_its_suite_understands(tmp_path):
    """Full size and dry: the settings are the suite's, and nothing is misspelled."""
    for dry in (False, True):
        for name, part in parts(dry=dry).items():
            words = part.command(tmp_path, 100.0)
            assert words[0] == sys.executable
            if "--suite" not in words:
                continue
            settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            sweep = override(SUITES[words[words.index("--suite") + 1]], settings)
            if dry:
                with pretended_cuda():
                    planned = plan(sweep, {})
                assert not all(item.skip for item in planned), (name, planned[0].skip)


@pytest.mark.slow
def test_models_of_full_size_can_make_what_the_session_asks_of_them(tmp_path):
    with pretended_cuda():
        for name, cells in (("wan", 4), ("ltx", 4), ("knobs", 13), ("memory", 10), ("speed", 12)):
            words = parts()[name].command(tmp_path, 100.0)
            settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            planned = plan(override(SUITES[words[words.index("--suite") + 1]], settings), {})
            skipped = {item.skip for item in planned if item.skip is not None}
            assert len(planned) >= cells, name
            assert not skipped or name in ("knobs", "speed"), skipped  # packages, and what is for CPUs
    for model, parameters in ((WAN, 1.42e9), (LTX, 1.92e9)):
        network = outline(model).pipe.transformer
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=0.01)
        assert next(network.parameters()).is_meta


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_dry_session_goes_through_every_part(tmp_path):
    command = [sys.executable, "-m", "bench.studies.gpu_session", "--dry", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = tmp_path.iterdir()
    about = json.loads((folder / "about.json").read_text())
    assert {name: part["state"] for name, part in about["parts"].items()} == dict.fromkeys(parts(), "ok")
    page = (folder / "report.html").read_text()
    assert "no number means anything" in page
    assert all(f'<section id="{name}"' in page for name in parts() if name != "tests")


def python(code):
    """A command that runs a line of Python with the folder as its argument."""
    return lambda folder, seconds: [sys.executable, "-c", code, str(folder), str(seconds)]


WRITE = "import sys; open(sys.argv[1] + '/a.txt', 'w').write(sys.argv[2])"


def part(code, check=lambda path: path.read_text(), reserve=0):
    return Part(reserve, python(code), "a.txt", check)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path


def test_a_part_that_fails_stops_no_other_and_says_why(folder):
    def refuse(path):
        raise ValueError("NaN in a.txt")

    chosen = {
        "lost": part("raise SystemExit('lost the card')"),
        "half": part(f"{WRITE}; raise SystemExit('out of power')"),
        "odd": part(WRITE, refuse),
        "good": part(WRITE),
    }
    ended = gpu_session.run_parts(chosen, folder, 10.0, dry=False)
    assert ended["lost"] == ("failed", "it left no record and ended with 1; lost the card")
    assert ended["half"][0] == "failed"
    assert ended["half"][1].endswith("but it ended with 1; out of power")
    assert (folder / "a.txt").exists()
    assert ended["odd"] == ("failed", "NaN in a.txt")
    assert ended["good"][0] == "ok"
    about = json.loads((folder / "about.json").read_text())
    assert set(about) == {"dry", "machine", "software", "revision", "written", "parts"}
    assert about["parts"]["lost"]["state"] == "failed"


def test_every_part_leaves_the_others_their_time(folder):
    chosen = {"a": part(WRITE, reserve=100), "b": part(WRITE, reserve=150), "c": part(WRITE, reserve=900)}
    ended = gpu_session.run_parts(chosen, folder, 10.0, dry=False)
    given = {name: float(text.split(",")[0]) for name, (state, text) in ended.items() if state == "ok"}
    assert given == {"a": 100.0, "b": 150.0}
    assert ended["c"][0] == "left out"
    assert "it takes 900 s" in ended["c"][1]
    ended = gpu_session.run_parts({"a": chosen["a"], "b": chosen["b"]}, folder, 10.0, dry=False)
    assert float(ended["a"][1].split(",")[0]) == pytest.approx(600 - 150, abs=5)
    assert sum(each.reserve for each in parts().values()) <= 3600
    assert next(iter(parts())) == "clips"


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_session.main() == 3
    assert "no CUDA device was found; --dry" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there is no part 'speeed': did you mean 'speed'"):
        gpu_session.main(only=("speeed",))


RECORD = ClipTime("tiny", "bf16", True, 1, 2, 2, (0.1,), (0.05,), 1e9, 0.01, None, "ok")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": []}, "ClipTime.seconds is"),
        ({"flops": "1e9"}, "ClipTime.flops is"),
        ({"compiled": 1}, "ClipTime.compiled is"),
        ({"extra": 1}, "a ClipTime has model, precision"),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path, change, message):
    (tmp_path / "a.json").write_text(json.dumps([asdict(RECORD)]))
    assert check_list(ClipTime, tmp_path / "a.json") == "1 measured"
    (tmp_path / "a.json").write_text(json.dumps([asdict(RECORD), {**asdict(RECORD), **change}]))
    with pytest.raises(ValueError, match=message):
        check_list(ClipTime, tmp_path / "a.json")


def test_a_run_is_checked_cell_by_cell(tmp_path):
    known = ROOT / "reports" / "measured" / "cpu-approximations"
    assert check_run(known, every=False).startswith("10 ok, 1 skipped")
    lines = (known / "records.jsonl").read_text().splitlines()
    (tmp_path / "manifest.json").write_text((known / "manifest.json").read_text())
    (tmp_path / "records.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert check_run(tmp_path, every=False)
    with pytest.raises(ValueError, match="of 11 cells"):
        check_run(tmp_path, every=True)
    first = json.loads(lines[0])
    del first["numbers"]["speedup"]
    (tmp_path / "records.jsonl").write_text(json.dumps(first) + "\n")
    with pytest.raises(ValueError, match="has no number and no reason for speedup"):
        check_run(tmp_path, every=False)


def test_tests_that_failed_are_told(tmp_path):
    (tmp_path / "a.xml").write_text(
        '<testsuites><testsuite tests="8" failures="0" errors="0" skipped="1"/></testsuites>'
    )
    assert check_tests(tmp_path / "a.xml") == "8 tests, 1 skipped"
    (tmp_path / "a.xml").write_text(
        '<testsuites><testsuite tests="8" failures="2" errors="0" skipped="1"/></testsuites>'
    )
    with pytest.raises(ValueError, match="2 of 8 tests failed"):
        check_tests(tmp_path / "a.xml")


def test_a_step_of_training_faster_than_the_machine_is_not_believed(monkeypatch, tmp_path):
    monkeypatch.setattr("bench.studies.gpu_session.train_steps.peaks", lambda device: Peaks({"float32": 1e3}, 1e3, 1e3))
    assert train_time("tiny", "cpu", 1, tmp_path, steps=2).verdict == "invalid"


def test_a_clip_faster_than_the_machine_is_not_believed():
    assert verdict(0.6, 0.5, 0.4) == "ok"
    assert verdict(0.45, 0.5, 0.4) == "suspicious"
    assert verdict(0.39, 0.5, 0.4) == "invalid"
    assert verdict(0.45, 0.5, None) == "suspicious"


def test_a_clip_counts_all_its_steps(known_peaks):
    one, two = (clip_time("tiny", "cpu", "fp32", compiled=False, steps=n, repeats=1) for n in (2, 4))
    decode = 2 * one.flops - two.flops
    assert 0 < decode < one.flops
    assert two.least == pytest.approx(two.flops / 1e15)
    assert one.denoise[0] < one.seconds[0]
