import json
import math
from pathlib import Path

import pytest
import torch

from bench.hardware import peaks as peak_store
from bench.hardware.peaks import fastest
from bench.hardware.roofline import Peaks


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(peak_store, "PRODUCTS", {"cpu": ((64, 64, 64), (128, 64, 32))})
    monkeypatch.setattr(peak_store, "COPIES", {"cpu": (12, 20)})
    monkeypatch.setattr(peak_store, "PATIENCE", 0.02)


def test_peaks_are_measured_once_and_kept_with_their_machine(tmp_path, quick, monkeypatch):
    first = peak_store.peaks("cpu", store=tmp_path)
    assert first.cache >= first.memory > 1e6
    assert set(first.flops) == {"float32", "bfloat16", "float16"}
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text())
    assert content["identity"]["machine"]["cpu"]
    monkeypatch.setattr(peak_store, "measure", lambda *arguments: pytest.fail("measured again"))
    assert peak_store.peaks("cpu", store=tmp_path) == first


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"peaks": {"flops": {}, "memory": null, "cache": 1}}'])
def test_a_file_of_peaks_that_was_damaged_is_named(tmp_path, quick, text):
    peak_store.peaks("cpu", store=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"{file.name} holds no peaks .*: remove it"):
        peak_store.stored("cpu", store=tmp_path)


def test_measuring_again_keeps_the_higher(tmp_path, quick, monkeypatch):
    found = iter(
        [Peaks({"float32": 5.0, "bfloat16": 1.0}, 3.0, 9.0), Peaks({"float32": 4.0, "bfloat16": 2.0}, 4.0, 8.0)]
    )
    monkeypatch.setattr(peak_store, "measure", lambda *arguments: next(found))
    peak_store.peaks("cpu", store=tmp_path)
    assert peak_store.peaks("cpu", store=tmp_path, again=True) == Peaks({"float32": 5.0, "bfloat16": 2.0}, 4.0, 9.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    monkeypatch.setattr(peak_store, "measure", lambda *arguments: Peaks({"float32": 1.0}, 1.0, 1.0))
    assert peak_store.peaks("cpu", store=tmp_path).memory == 1.0
    assert len(list(Path(tmp_path).iterdir())) == 2


def test_a_precision_that_is_emulated_is_bounded_by_float32_and_not_timed(quick, monkeypatch):
    """A fake machine: its bf16 is emulated, and one shape of its float32 products is slow."""
    timed = []

    def product(shape, dtype, device):
        timed.append(dtype)
        return 1.0 if shape == (64, 64, 64) else 1e-3

    monkeypatch.setattr(peak_store, "_product", product)
    monkeypatch.setattr(peak_store, "why_emulated", lambda precision, device: "emulated")
    peaks = peak_store.measure("cpu")
    best = 2 * 128 * 64 * 32 / 1e-3
    assert peaks.flops == {"float32": best, "bfloat16": best, "float16": best}
    assert set(timed) == {torch.float32}


def test_a_slow_native_precision_is_bounded_by_float32_too(quick, monkeypatch):
    monkeypatch.setattr(peak_store, "_product", lambda shape, dtype, device: 1e-3 if dtype == torch.float32 else 1.0)
    monkeypatch.setattr(peak_store, "why_emulated", lambda precision, device: None)
    peaks = peak_store.measure("cpu")
    assert peaks.flops["bfloat16"] == peaks.flops["float32"]


def test_peaks_are_lifted_to_what_was_seen_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(peak_store, "measure", lambda *arguments: Peaks({"float32": 5.0, "bfloat16": 1.0}, 3.0, 9.0))
    lifted = peak_store.raised("cpu", Peaks({"float32": 7.0}, 0.0, 8.0), store=tmp_path)
    assert lifted == Peaks({"float32": 7.0, "bfloat16": 1.0}, 3.0, 9.0)
    assert peak_store.peaks("cpu", store=tmp_path) == lifted


class FakeClock:
    """A clock on which each call of the work takes so many seconds; `pauses` come on top, one per call."""

    def __init__(self, monkeypatch, seconds, pauses=()):
        self.now, self.calls = 0.0, 0
        self._seconds, self._pauses = seconds, iter(pauses)
        monkeypatch.setattr(peak_store.time, "perf_counter", lambda: self.now)

    def work(self):
        self.calls += 1
        self.now += self._seconds + next(self._pauses, 0.0)


@pytest.mark.parametrize("patience", [0.0, 1e-9, 0.02])
@pytest.mark.parametrize("seconds", [1e-7, 1e-5, 1e-3, 0.3, 60.0])
def test_the_fastest_burst_is_finite_and_positive_however_slow_the_machine_and_however_short_the_patience(
    monkeypatch, seconds, patience
):
    clock = FakeClock(monkeypatch, seconds)
    best = fastest(clock.work, "cpu", patience)
    assert math.isfinite(best)
    assert best == pytest.approx(seconds)


def test_the_fastest_of_the_bursts_counts(monkeypatch):
    clock = FakeClock(monkeypatch, 0.002, pauses=[0.1, 0.1, 0.0, 0.1])
    assert fastest(clock.work, "cpu", 0.3) == pytest.approx(0.002)


def test_no_peak_is_ever_zero(monkeypatch, quick):
    """Every call takes longer than all the patience: each shape and size still gives a rate."""
    monkeypatch.setattr(peak_store, "PATIENCE", 0.0)
    measured = peak_store.measure("cpu")
    assert all(0 < rate < math.inf for rate in (*measured.flops.values(), measured.memory, measured.cache))
