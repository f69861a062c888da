"""The suite `knobs`: its settings, its search, and one setting on a tiny model."""

import numpy as np
import pytest

from bench.hardware.memory import MemoryReading
from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.results.records import Attempt, Cell, InvalidError, Number, Record
from bench.speed import knob_cell
from bench.speed.knob_suite import (
    KNOB_SUITE,
    PLAIN,
    SINGLES,
    allowed_loss,
    command_line,
    conclude,
    grow,
    inexact,
    with_setting,
)
from bench.videos.knobs.losses import load

TINY = ("model=tiny:WanPipeline:2.1-euler", "precision=fp32", "device=cpu", "videos=3", "steps=4")


def values_of(*assignments):
    return {item.cell.values["setting"]: item for item in plan(override(KNOB_SUITE, [*TINY, *assignments]), {})}


@pytest.fixture(scope="module")
def planned():
    return values_of()


def test_every_setting_is_a_row(planned):
    assert list(planned) == [PLAIN, *SINGLES]
    able = {setting for setting, item in planned.items() if item.skip is None}
    assert {PLAIN, "cache=first-block", "cache=pab", "steps=50%", "clips=2", "layout=channels-last"} <= able
    assert "this cell runs on a CPU" in planned["offload=group"].skip
    assert "torchao" in planned["quantize=int8"].skip or planned["quantize=int8"].skip is None
    assert planned["cache=pab"].cell.values["loss"] == ""  # what may be lost is no part of what is measured


def test_a_setting_is_values_of_a_sweep(planned):
    values = planned[PLAIN].cell.values
    made = with_setting(values, ["solver=unipc:50%", "compile=blocks", "cache=first-block:0.2"])
    assert (made["solver"], made["steps"], made["compile"], made["cache"]) == ("unipc", 2, "blocks", "first-block:0.2")
    assert with_setting(values, ["clips=2"])["budget"] == 2 * 2 * 3  # clips of 3 latent frames, branches of guidance
    assert with_setting(values, ["precision=bf16"])["precision"] == "bf16"
    line = command_line(values, ["steps=50%", "cache=pab"])
    assert line.startswith("python -m bench run --suite lengths --model=tiny:WanPipeline:2.1-euler ")
    assert line.endswith("--cache=pab")
    assert "--steps=2 " in line


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("setting=cache", "a setting is one of attention, .*: got 'cache'"),
        ("setting=speed=2", "a setting is one of"),
        ("setting=steps=5", "fewer by a share, as in 50%: got 'steps=5'"),
        ("setting=solver=unipc:120%", "fewer by a share"),
        ("setting=clips=1", "2 or more: got 'clips=1'"),
        ("setting=cache=tea", "cache is one of"),
        ("setting=precision=fp7", "precision is one of"),
        ("loss=fvd=5%", "needs judges, which the pocket model's own captions alone have"),
        ("loss=psnr", "the loss that is allowed is one of psnr, .*: got 'psnr'"),
        ("loss=psnr=35%", "the loss that is allowed"),
    ],
)
def test_settings_that_mean_nothing_are_refused(assignment, message):
    with pytest.raises(ValueError, match=message):
        values_of(assignment)


def test_a_loss_is_a_measure_and_its_limit():
    assert allowed_loss("psnr=35") == ("psnr", 35)
    assert allowed_loss("fvd=5%") == ("fvd", 0.05)


def test_every_part_is_exact_or_an_approximation():
    exact = {setting for setting in SINGLES if not inexact(setting)}
    assert exact == {
        *(
            each
            for each in SINGLES
            if each.startswith(("attention=", "compile", "offload", "gpus")) and "sage" not in each
        ),
        "layout=channels-last", "clips=2",
    }  # fmt: skip


def record(setting, gain, psnr=40.0, status="ok", width=0.05):
    cell = Cell("knobs", {"setting": setting, **{"model": "m", "steps": 8, "precision": "fp32", "guidance": 5.0}})
    if status != "ok":
        return Record(cell, Attempt(status, "because"))
    numbers = {
        "gain": Number(gain, "x", "higher", 6, gain - width, gain + width),
        "psnr": Number(psnr, "dB", "higher", 6, psnr - 1, psnr + 1),
    }
    return Record(cell, Attempt("ok"), numbers=numbers)


RECORDS = [
    record(PLAIN, 1.0),
    record("compile=blocks", 1.5),
    record("cache=first-block", 2.0, psnr=36.5),
    record("cache=mag", 1.8, psnr=45.0),
    record("steps=50%", 1.9, psnr=35.5),  # the end of its interval is below what is allowed
    record("layout=channels-last", 1.04),  # not faster for certain
    record("attention=flex", 1.2),
    record("vae=tiling", 0, status="failed"),
]
SUITE = override(KNOB_SUITE, ["loss=psnr=35", "setting=plain,compile=blocks"])


def test_settings_that_pay_are_joined_from_the_best_one_on():
    suite, records = SUITE, list(RECORDS)
    joined = "cache=first-block + compile=blocks"
    suite = grow(suite, records)
    assert suite.axes["setting"][-1] == joined  # mag decides what first-block decided
    assert grow(suite, records) is None  # asked for already: nothing came of it
    records.append(record(joined, 1.4, psnr=36.4))
    suite = grow(suite, records)
    assert suite.axes["setting"][-1] == f"{joined} + attention=flex"
    records.append(record(f"{joined} + attention=flex", 1.0, psnr=36.4))
    assert grow(suite, records) is None
    first, *bought = conclude(suite, records)
    assert "2.80 times as fast as the plain model" in first
    assert "--compile=blocks --cache=first-block" in first
    assert "--attention" not in first
    assert [text.split(":")[0] for text in bought] == [
        "cache=first-block (approximation)",
        "compile=blocks (exact)",
    ]


def test_a_joined_setting_that_fails_ends_nothing():
    joined = "cache=first-block + compile=blocks"
    records = [*RECORDS, record(joined, 0, status="failed")]
    assert grow(SUITE, records).axes["setting"][-1] == "cache=first-block + attention=flex"


def test_where_nothing_pays_the_model_stays_as_it_is():
    assert conclude(SUITE, RECORDS[:1] + RECORDS[5:6]) == [
        "No setting is faster for certain than the plain model within psnr=35: leave it as it is."
    ]
    assert conclude(SUITE, []) == []


@pytest.fixture(scope="module")
def plain_cell(planned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return folder, knob_cell.run(Job(planned[PLAIN].cell.values, folder, None, tuple(KNOB_SUITE.measures)))


@pytest.mark.parametrize(
    ("setting", "facts"),
    [
        pytest.param("layout=channels-last", "exact", marks=pytest.mark.slow),
        ("cache=taylorseer:2", "approximation: cache=taylorseer:2"),
    ],
)
def test_a_setting_is_measured_in_turns_with_the_one_before(plain_cell, setting, facts, tmp_path, monkeypatch):
    folder, plain = plain_cell
    bytes_of_turns = iter([4, 9, 9, 5, 3, 9])  # after, before, before, after, after, before
    monkeypatch.setattr(
        knob_cell, "allocator_peaks", lambda device: (MemoryReading(next(bytes_of_turns), "counted"), None)
    )
    item = values_of(f"setting={PLAIN},{setting}")[setting]
    measured = knob_cell.run(Job(item.cell.values, tmp_path, folder, tuple(KNOB_SUITE.measures)))
    assert set(KNOB_SUITE.measures) == set(measured.numbers) | set(measured.absent)
    assert set(KNOB_SUITE.measures) == set(plain.numbers) | set(plain.absent)
    assert measured.facts["settings"] == facts
    assert measured.numbers["gain"].n == 3
    assert measured.numbers["allocated_peak"].value == 5
    assert measured.samples["total_seconds"] != measured.samples["before_seconds"]
    if facts == "exact":
        assert measured.numbers["psnr"].value > 60
        assert "fired" in measured.absent
    else:
        assert measured.numbers["fired"].value == 25.0  # of 4 steps, 3 warm it up
        assert 0 < measured.numbers["latent_error"].value < 0.1
    assert load(folder).videos.shape == (3, 17, 32, 48, 3)


def test_an_exact_setting_that_makes_other_videos_is_invalid(plain_cell, tmp_path, monkeypatch):
    folder, _ = plain_cell
    item = values_of(f"setting={PLAIN},layout=channels-last")["layout=channels-last"]

    def broken(network):
        for weight in network.parameters():
            weight.data.mul_(1.01)

    monkeypatch.setattr("bench.videos.knobs.turning._channels_last", broken)
    with pytest.raises(InvalidError, match="layout=channels-last should compute the same as the plain model"):
        knob_cell.run(Job(item.cell.values, tmp_path, folder, tuple(KNOB_SUITE.measures)))
    assert np.load(folder / "made.npz")["latents"].shape[0] == 3


@pytest.mark.filterwarnings("ignore:.*all_gather_tensor:FutureWarning")
@pytest.mark.slow
def test_two_devices_take_turns_with_one_and_are_refused_where_a_device_is_a_thread(plain_cell, tmp_path):
    folder, _ = plain_cell
    item = values_of(f"setting={PLAIN},gpus=2")["gpus=2"]
    assert "take the suite lengths" in item.skip
    measured = knob_cell.run(Job(dict(item.cell.values), tmp_path, folder, tuple(KNOB_SUITE.measures)))
    assert set(KNOB_SUITE.measures) == set(measured.numbers) | set(measured.absent)
    assert measured.numbers["efficiency"].value == pytest.approx(50 * measured.numbers["gain"].value)
    assert measured.numbers["latent_error"].value < 1e-5
