import json
import shutil
import sys

import pytest

from bench.__main__ import main
from bench.commands import run as command_line
from bench.hardware.machine import ROOT
from bench.hardware.roofline import Peaks
from bench.harness.runner import identify


@pytest.fixture
def bench(monkeypatch, tmp_path, capsys):
    """Call the command line in an empty folder: arguments -> exit code, standard output, standard error."""

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        code = main()
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--suite", "pockt"], "bench: there is no suite 'pockt': did you mean 'pocket'?"),
        (["run", "--set", "framse=8"], "bench: there is no axis 'framse' in this suite: did you mean 'frames'?"),
        (["run", "--set", "method=vidr"], "bench: method cannot be 'vidr': did you mean 'vidrd'?"),
        (["run", "--set", "overlap=-1"], "bench: overlap is at least 0; got -1: try overlap=2,6"),
        (["run", "--out", "no/where"], "bench: --out no/where: the folder no does not exist, make it first"),
        (["run", "--timeout", "0"], "bench: --timeout is seconds, more than 0; got 0.0"),
        (["run", "--json", "no/where"], "bench: --json no/where: the folder no does not exist, make it first"),
        (["show", "."], "bench: . is no run: it has no records.jsonl"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_3(bench, tmp_path, arguments, line):
    assert bench(*arguments) == (3, "", line + "\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("run --json /", "--json /: this is a folder, name a file"),
        ("run --out /proc/x", "--out /proc/x: nothing can be written into /proc (no such file or directory)"),
        ("run --out=", "--out names a file or folder: got an empty word"),
        ("run --timeout nan", "--timeout is seconds, more than 0; got nan"),
        ("run --max-minutes -5", "--max-minutes is minutes, 0 or more; got -5.0"),
        ("run --threads 0", "--threads is a count from 1; got 0"),
        ("run --seed 99999999999999999999", "seed is at most 999,999,999,999,999,999; got 99999999999999999999: try"),
        ("run --frames 999999999 --dry-run", "frames is at most 20,000; got 999999999: try frames=16,24,32"),
        ("run --seed " + " ".join(map(str, range(700))), "a plan has at most 20,000 cells; got 37,800: give fewer"),
        ("gate --base nope", "git knows no revision 'nope': name a commit, branch or tag that is here"),
        ("gate --base HEAD --margin nan", "--margin is a share, 0 or more: 0.03 is 3 %; got nan"),
        ("gate --base HEAD --seed -1", "--seed is a whole number from 0, of at most 18 digits; got -1"),
        ("compare . . --quality-margin 0", "--quality-margin is a share, more than 0: 0.1 is 10 %; got 0.0"),
        ("weights --weights=", "--weights names a file or folder: got an empty word"),
        ("ucf101 --standin --size 0", "--size is a count from 1; got 0"),
        ("ucf101 --standin --size 33", "--size is a multiple of 2 pixels for this model: got 33, try 32"),
        ("ucf101 --standin --steps 1001", "--steps are at most the 1000 of this model's training: got 1001"),
        ("ucf101 --standin --shard x", "--shard is I/N with I from 0 to N - 1, as in 0/8: got 'x'"),
        ("ucf101 --standin --limit 1", "fvd:styleganv compares sets of videos: got 1, try --limit 8"),
        ("ucf101 --ucf101 . --model pocket --size 32 --limit 8", "8 generated clips are too few: the score needs at"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(bench, tmp_path, words, line):
    code, out, error = bench(*words.split(" "))
    assert (code, out) == (3, "")
    assert error.startswith(f"bench: {line}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_which_nothing_can_be_made_is_one_line(monkeypatch, capsys):
    monkeypatch.chdir("/proc")
    monkeypatch.setattr(sys, "argv", ["bench", "run", "--suite", "smoke"])
    assert main() == 3
    said = "bench: --out runs/smoke: nothing can be written into /proc (no such file or directory)\n"
    assert capsys.readouterr() == ("", said)


@pytest.fixture
def weights(monkeypatch, tmp_path_factory):
    """A copy of the shipped weights, which the command takes for them."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "weights", root / "weights")
    monkeypatch.setattr(command_line, "identify", lambda suite: identify(suite, root))
    return root / "weights"


UNET = "pocket/unet/diffusion_pytorch_model.safetensors"
JUDGE = "pocket-judges/i3d.safetensors"


def flipped(file):
    """The last bit, which no length tells."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("name", "harm", "line"),
    [
        ("pocket", shutil.rmtree, "weights/pocket is missing: this suite measures with these weights; restore"),
        (UNET, lambda file: file.unlink(), f"weights/{UNET} is missing: restore it"),
        (UNET, lambda file: file.write_bytes(file.read_bytes()[:-1000]), f"weights/{UNET} has "),
        (JUDGE, lambda file: file.write_bytes(b""), f"weights/{JUDGE} is no whole safetensors file: restore it"),
        (UNET, flipped, f"weights/{UNET} is not the file that card.json describes"),
        (JUDGE, flipped, f"weights/{JUDGE} is not the file that card.json describes"),
    ],
)
def test_weights_that_are_not_the_shipped_ones_are_one_line_and_exit_code_3(bench, weights, tmp_path, name, harm, line):
    harm(weights / name)
    code, out, error = bench("run", "--suite", "smoke")
    assert (code, out) == (3, "")
    assert error.startswith(f"bench: {line}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_which_no_cell_can_run_is_one_line_and_exit_code_3(bench, tmp_path):
    words = ("run", "--suite", "smoke", "--method", "vidrd", "--frames", "41", "--overlap", "9")
    line = "no cell can run: an overlap is at most the clip: got 9 frames of clips of 8, try 4"
    assert bench(*words) == (3, "", f"bench: {line}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_a_usage_error_too(bench):
    for words in (("run", "--framse", "8"), ("run", "--suite", "smoke", "--framse=8"), ("gate", "--framse", "8")):
        assert bench(*words) == (3, "", "bench: there is no option --framse: did you mean '--frames'?\n")
    code, _, error = bench("show", "--cel", "1")
    assert code == 3
    assert "Traceback" not in error


def test_an_axis_is_an_option(bench):
    by_set = bench("run", "--suite", "smoke", "--set", "frames=16,24", "--set", "overlap=0,4", "--dry-run")
    by_axis = bench("run", "--suite", "smoke", "--frames", "16", "24", "--overlap=0", "4", "--dry-run")
    assert by_axis == by_set
    assert by_axis[0] == 0
    assert bench("run", "--frames", "--dry-run")[2] == "bench: --frames needs values: try --frames 16 32\n"


def test_a_dry_run_foretells_work_and_memory_and_does_nothing(bench, tmp_path):
    code, out, _ = bench("run", "--suite", "smoke", "--method", "vidrd", "--dry-run")
    assert code == 0
    line = next(line for line in out.splitlines() if " vidrd " in line)
    assert "MiB" in line
    assert "TFLOP" in out
    assert "to do" in line
    assert list(tmp_path.iterdir()) == []


def test_before_anything_was_measured_the_peaks_say_how_long_it_takes_at_least(bench, monkeypatch):
    words = ("run", "--suite", "kernels", "--only", "kernel=temporal-conv", "--size", "pocket", "--dry-run")
    fast = Peaks({"float32": 1e9}, 1e9, 1e9)
    monkeypatch.setattr("bench.hardware.peaks.stored", lambda device: fast)
    code, out, _ = bench(*words, "--device", "cpu")
    assert code == 0
    flops = 2 * (2 * 8 * 64) * 48 * 48 * 3
    last = out.splitlines()[-1]
    assert last.startswith(f"4 cells, 4 to do, {4 * flops / 1e9:.2g} s at least: 4 of them at this machine's peaks")
    monkeypatch.setattr("bench.hardware.peaks.stored", lambda device: None)
    assert bench(*words, "--device", "cpu")[1].splitlines()[-1].startswith("4 cells, 4 to do; folder")


def test_a_profile_wants_one_cell(bench):
    code, _, error = bench("run", "--suite", "smoke", "--profile", "zzz")
    assert code == 3
    assert "'zzz' fits no cell of the plan" in error


def test_help_is_no_error(bench):
    code, out, _ = bench("run", "--help")
    assert code == 0
    assert "--max-minutes" in out


def test_list_names_suites_methods_and_metrics(bench):
    code, out, _ = bench("list")
    assert code == 0
    for word in ("pocket", "smoke", "vidrd", "independent-shared", "direct", "fvd", "overlap", "Gu et al. 2023"):
        assert word in out


def test_show_prints_a_cell_with_its_raw_samples(bench, tmp_path):
    from test_run import go

    go(tmp_path, "how=fine", "size=1")
    code, out, _ = bench("show", str(tmp_path), "--cell", "")
    assert code == 0
    assert json.loads(out.split("\n{")[0])["cell"]["values"]["how"] == "real"
    assert '"samples": {\n  "speed": [' in out
    code, _, error = bench("show", str(tmp_path), "--cell", "zz")
    assert code == 3
    assert error.startswith("bench: no record of a cell 'zz'")
