import re
import shutil
from dataclasses import replace

import pytest

from bench.commands import run as command_line
from bench.hardware.machine import ROOT
from bench.hardware.roofline import Peaks
from bench.harness.identity import identify
from bench.harness.runner import Outcome, latest, run
from bench.results.manifest import read_manifest
from bench.results.records import Attempt, Record, append
from bench.suites import SUITES
from tests.bench.toy_suite import SUITE as TOY
from tests.bench.toy_suite import TOYS


@pytest.fixture
def weights(monkeypatch, tmp_path_factory):
    """A copy of the shipped weights, which the command takes for them."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "weights", root / "weights")
    monkeypatch.setattr(command_line, "identify", lambda files: identify(files, root))
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


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ("--method", "vidrd", "--frames", "41", "--overlap", "9"),
            "an overlap is at most the clip: got 9 frames of clips of 8, try 4",
        ),
        (("--only", "method=vidrd", "--skip", "method=vidrd"), "--only and --skip leave none"),
    ],
)
def test_a_run_of_which_no_cell_can_run_is_one_line_and_exit_code_3(bench, tmp_path, words, why):
    assert bench("run", "--suite", "smoke", *words) == (3, "", f"bench: no cell can run: {why}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_reference_can_be_asked_for_alone(bench, monkeypatch):
    asked = []
    monkeypatch.setattr(
        command_line, "run", lambda *args, chosen, **options: asked.append(chosen) or Outcome({"ok": 1}, 0, 0)
    )
    monkeypatch.setattr(command_line, "print_report", lambda *args: 0)
    _, out, _ = bench("run", "--suite", "smoke", "--dry-run")
    name = next(line.split()[0] for line in out.splitlines() if " real " in line)
    assert bench("run", "--suite", "smoke", "--only", name)[0] == 0
    assert [item.cell.id for item in asked[0]] == [name]


def test_an_axis_is_an_option(bench):
    by_set = bench("run", "--suite", "smoke", "--set", "frames=16,24", "--set", "overlap=0,4", "--dry-run")
    by_axis = bench("run", "--suite", "smoke", "--frames", "16", "24", "--overlap=0", "4", "--dry-run")
    assert by_axis == by_set
    assert by_axis[0] == 0
    assert bench("run", "--frames", "--dry-run")[2] == "bench: --frames needs values: try --frames 16 32\n"


def test_a_dry_run_predicts_work_and_memory_and_does_nothing(bench, tmp_path):
    code, out, _ = bench("run", "--suite", "smoke", "--method", "vidrd", "--dry-run")
    assert code == 0
    line = next(line for line in out.splitlines() if " vidrd " in line)
    assert "MiB" in line
    assert "TFLOP" in out
    assert "to do" in line
    assert list(tmp_path.iterdir()) == []


def test_before_anything_was_measured_the_peaks_give_the_least_time(bench, monkeypatch):
    words = ("run", "--suite", "kernels", "--only", "kernel=temporal-conv", "--size", "pocket", "--dry-run")
    fast = Peaks({"float32": 1e9}, 1e9, 1e9)
    monkeypatch.setattr("bench.hardware.peaks.stored", lambda device: fast)
    code, out, _ = bench(*words, "--device", "cpu")
    assert code == 0
    flops = 2 * (2 * 8 * 64) * 48 * 48 * 3
    last = out.splitlines()[-1]
    assert last.startswith(f"4 cells, 4 to do, {4 * flops / 1e9:.2g} s at least: 4 of them at this machine's peaks")
    monkeypatch.setattr("bench.hardware.peaks.stored", lambda device: None)
    assert (
        bench(*words, "--device", "cpu")[1].splitlines()[-1].startswith("4 cells, 4 to do, in a time that is not known")
    )


@pytest.mark.parametrize(
    ("cells", "why"), [(("zzz",), "'zzz' fits no cell of the plan"), ((), "takes a cell, or two to compare; got 0")]
)
def test_a_profile_is_of_one_cell(bench, cells, why):
    code, _, error = bench("run", "--suite", "smoke", "--profile", *cells)
    assert code == 3
    assert why in error


ONE = "1 cell was left out because this machine only emulates its precision; --emulated measures it"
TWO = "2 cells were left out because this machine only emulates their precision; --emulated measures them"


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("--overlap", "2", "4"), [TWO]),
        (("--overlap", "4"), [ONE]),
        (("--overlap", "4", "9"), [ONE]),
        (("--overlap", "4", "--emulated"), []),
        (("--overlap", "4", "--skip", "precision=bf16"), []),
    ],
)
def test_a_run_says_how_many_cells_it_left_out_because_they_are_emulated(bench, monkeypatch, words, lines):
    """A cell that could not run anyway, here with an overlap of 9, is none of them."""
    suite = replace(SUITES["smoke"], emulated=lambda values: "slow" if values["precision"] == "bf16" else None)
    monkeypatch.setitem(SUITES, "smoke", suite)
    monkeypatch.setattr(command_line, "run", lambda *args, **options: Outcome({"ok": 1}, 0, 0))
    monkeypatch.setattr(command_line, "print_report", lambda *args: 0)
    grid = ("--method", "vidrd", "--frames", "16", "--precision", "fp32", "bf16")
    code, _, error = bench("run", "--suite", "smoke", *grid, *words)
    assert code == 0
    assert [line for line in error.splitlines() if "left out" in line] == lines


def test_a_dry_run_counts_what_cannot_run(bench):
    code, out, _ = bench("run", "--suite", "pocket", "--dry-run", "--frames", "8")
    assert code == 0
    assert re.search(r"^(\d+) cells, 0 to do, \1 cannot run; folder", out, re.MULTILINE)
    assert "fewer than the classifiers' window of 16: give more, or a shorter --window" in out


def test_what_a_suite_grows_by_is_measured_alone_and_within_the_same_time(monkeypatch, tmp_path):
    """A cell that fails is not tried again, and cells of this command are not from before."""
    asked = []

    def grow(suite, records):
        wanted = {"raise": "fine", "fine": "plain"}.get(suite.axes["how"][-1])
        return wanted and replace(suite, axes={**suite.axes, "how": (*suite.axes["how"], wanted)})

    def measured(name, suite, identity, chosen, folder, *, end, **options):
        asked.append(([item.cell.values["how"] for item in chosen], end))
        return run(name, suite, identity, chosen, folder, workloads=TOYS, end=end, say=options["say"])

    suite = replace(TOY, axes={"how": ("raise",), "size": (1,)}, grow=grow)
    monkeypatch.setitem(SUITES, "toy", suite)
    monkeypatch.setattr(command_line, "run", measured)
    said = []
    monkeypatch.setattr(command_line, "say", said.append)
    monkeypatch.setattr(command_line, "print_report", lambda *_: 0)
    assert command_line.run_("toy", out=tmp_path / "run", max_minutes=60.0) == 2
    assert [ways for ways, _ in asked] == [["real", "raise"], ["fine"], ["plain"]]
    assert len({end for _, end in asked}) == 1, "the minutes are those of the command"
    assert said[-1] == "1 failed, 3 ok (0 of them from before)"
    assert any("plain size=1:" in line and "speed 1.5 (reference 7)" in line for line in said)
    assert command_line.run_("toy", out=tmp_path / "run") == 2
    assert said[-1] == "1 failed, 3 ok (3 of them from before)"


def test_a_suite_grows_until_it_asks_for_no_more(monkeypatch, tmp_path):
    asked, concluded = [], []

    def grow(suite, records):
        assert [record.cell.values["how"] for record in records] == list(suite.axes["how"])
        wanted = {"plain": "fine", "fine": "memory"}.get(suite.axes["how"][-1])
        return wanted and replace(suite, axes={**suite.axes, "how": (*suite.axes["how"], wanted)})

    def conclude(suite, records):
        concluded.append(len(records))
        return ["It ends here."]

    def run(name, suite, identity, chosen, folder, **_):
        folder.mkdir(exist_ok=True)
        before = {record.cell.id for record in latest(folder, chosen)}
        for item in chosen:
            if item.cell.id not in before:
                asked.append(item.cell.values["how"])
                append(folder / "records.jsonl", Record(item.cell, Attempt("ok")))
        return Outcome({"ok": len(chosen)}, 0, 0)

    suite = replace(TOY, axes={"how": ("plain",), "size": (1,)}, grow=grow, conclude=conclude, reference=lambda _: None)
    monkeypatch.setitem(SUITES, "toy", suite)
    monkeypatch.setattr(command_line, "run", run)
    monkeypatch.setattr(command_line, "print_report", lambda *_: 0)
    assert command_line.run_("toy", out=tmp_path / "run") == 0
    assert asked == ["plain", "fine", "memory"]
    assert concluded == [3]
    manifest = read_manifest(tmp_path / "run")
    assert manifest["conclusions"] == ["It ends here."]
    assert manifest["axes"]["how"] == ["plain", "fine", "memory"]
    assert command_line.run_("toy", only=("how=plain",), out=tmp_path / "run") == 0  # single rows: nothing is joined
    assert asked == ["plain", "fine", "memory"]
