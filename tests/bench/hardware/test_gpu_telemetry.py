"""What is done around a GPU, on a fake of its driver; the same runs unchanged on a real card (tests marked gpu)."""

import os

import pytest

from bench.hardware import gpu_telemetry
from bench.hardware.gpu_telemetry import Telemetry, gpu_passes
from bench.studies.gpu_session.fake_nvml import FakeNvml


@pytest.fixture
def quick(monkeypatch):
    energy = gpu_telemetry.energy_of
    monkeypatch.setattr(gpu_telemetry, "energy_of", lambda work, card: energy(work, card, least=0.1))


def test_looks_become_samples_and_facts():
    api = FakeNvml(clocks=(1980, 1980, 1700), throttle=0x4, processes=[(os.getpid(), 5), (99, 5)])
    with Telemetry("cuda", api) as around:
        for _ in range(3):
            around.look()
    assert around.samples()["sm_clock_mhz"] == (1980.0, 1980.0, 1700.0)
    assert around.samples()["throttled"] == (1.0, 1.0, 1.0)
    facts = around.facts()
    assert facts["disturbed"] == "SM clock moved from 1700 to 1980 MHz"
    assert facts["other_processes"] == "99"
    assert facts["throttle_reasons"] == "software power cap"
    assert api.open == 0


def test_what_the_card_lacks_is_said():
    with Telemetry("cuda", FakeNvml(lacks={"nvmlDeviceGetTemperature"})) as around:
        around.look()
    assert "temperature_celsius" not in around.samples()
    assert around.facts()["no_temperature"] == "NVML: Not Supported"
    with Telemetry("cuda", FakeNvml(driver=False)) as around:
        around.look()
    assert (around.samples(), around.facts()) == ({}, {"gpu_looks": "NVML: Driver Not Loaded"})


def test_on_a_cpu_nothing_is_looked_at():
    with Telemetry("cpu") as around:
        around.look()
    assert (around.samples(), around.facts()) == ({}, {})
    absent = gpu_passes(lambda: None, device="cpu", videos=1).absent
    assert absent == dict.fromkeys(("driver_peak", "joules_per_video"), "no GPU is used on cpu")


def test_memory_and_energy_each_have_their_pass(quick):
    calls = []
    api = FakeNvml(power=400.0, processes=[(os.getpid(), 123 << 20)])
    readings = gpu_passes(lambda: calls.append(sum(range(300_000))), device="cuda", videos=4, api=api)
    assert readings.numbers["driver_peak"].value == 123 << 20
    energy = readings.numbers["joules_per_video"]
    assert energy.n == 4 * (len(calls) - 1)
    seconds = float(readings.facts["energy_by"].split()[-2])
    assert energy.value * energy.n == pytest.approx(400.0 * seconds, rel=0.5)
    assert readings.absent == {}


def test_numbers_that_a_card_cannot_give_are_absent_with_the_reason(quick):
    lacks = {
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetComputeRunningProcesses",
    }
    readings = gpu_passes(lambda: None, device="cuda", videos=1, api=FakeNvml(lacks=lacks))
    assert readings.numbers == {}
    assert "Not Supported" in readings.absent["joules_per_video"]
    assert "does not show this process" in readings.absent["driver_peak"]
    nothing = gpu_passes(lambda: None, device="cuda", videos=1, api=FakeNvml(driver=False))
    assert set(nothing.absent.values()) == {"NVML: Driver Not Loaded"}
