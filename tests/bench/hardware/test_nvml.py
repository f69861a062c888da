import os
import time

import pytest

from bench.hardware.nvml import Snapshot, Watch, card, columns, energy_of, spoiled
from bench.studies.gpu_session.fake_nvml import FakeNvml

FEATURES = {
    "sm_clock": "nvmlDeviceGetClockInfo",
    "power": "nvmlDeviceGetPowerUsage",
    "temperature": "nvmlDeviceGetTemperature",
    "throttle": "nvmlDeviceGetCurrentClocksEventReasons",
}


def busy(seconds=0.03):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_a_look_has_every_reading():
    api = FakeNvml(throttle=0x1 | 0x20, processes=[(os.getpid(), 5 << 20), (77, 9)])
    with card("GPU-1", api) as found:
        look = found.look()
    assert look[1:] == (1980.0, 300.0, 61.0, ("software thermal slowdown",), float(5 << 20))
    assert found.absent == {}
    assert api.open == 0


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("how", ["lacks", "missing"])
def test_what_a_card_lacks_is_absent_with_its_reason_and_the_rest_is_read(name, how):
    lacking = {FEATURES[name]}
    if name == "throttle" and how == "missing":
        lacking.add("nvmlDeviceGetCurrentClocksThrottleReasons")
    with card(None, FakeNvml(**{how: lacking})) as found:
        look = found.look()
    assert getattr(look, name) is None
    assert ("Not Supported" if how == "lacks" else "Not Found") in found.absent[name]
    assert all(getattr(look, other) is not None for other in FEATURES if other != name)


def test_an_older_nvml_names_the_reasons_otherwise():
    with card(None, FakeNvml(throttle=0x40, missing={"nvmlDeviceGetCurrentClocksEventReasons"})) as found:
        assert found.look().throttle == ("hardware thermal slowdown",)


def test_no_driver_or_no_card_is_a_reason_not_an_error():
    with card(None, FakeNvml(driver=False)) as found:
        assert found == "NVML: Driver Not Loaded"
    api = FakeNvml(lacks={"nvmlDeviceGetHandleByUUID"})
    with card("MIG-3", api) as found:
        assert found == "NVML: Not Supported"
    assert api.open == 0


def test_others_on_the_card_are_seen_also_from_within_a_container():
    mine = os.getpid()
    cases = [
        ([(mine, 1)], 1, []),
        ([(mine, 1), (7, 1)], 1, [7]),
        ([(7, 1)], 1, []),  # the host's number of this process
        ([(7, 1), (8, 1)], 1, [8]),
        ([(7, 1), (8, 1)], 2, []),  # the host's numbers of both sides of a gate
        ([(7, 1), (8, 1), (9, 1)], 2, [9]),
        ([(7, 1)], 0, [7]),  # nothing of ours runs there yet
        ([], 0, []),
    ]
    for processes, holding, others in cases:
        with card(None, FakeNvml(processes=processes)) as found:
            assert found.foreign({mine}, holding=holding) == others
    with card(None, FakeNvml(lacks={"nvmlDeviceGetComputeRunningProcesses"})) as found:
        assert found.foreign({mine}, holding=1) is None


def test_memory_of_a_process_that_nvml_does_not_show_is_absent():
    with card(None, FakeNvml(processes=[(1, 100)])) as found:
        assert found.look().used is None
        assert "does not show this process" in found.absent["used"]


def test_energy_is_the_counters_over_a_window_of_many_runs():
    with card(None, FakeNvml(power=500.0)) as found:
        energy = energy_of(lambda: sum(range(1000)), found, least=0.5)
    assert energy.source == "NVML energy counter"
    assert energy.seconds >= 0.5
    assert energy.runs > 1
    assert energy.joules * energy.runs == pytest.approx(500.0 * energy.seconds, rel=0.25)


def test_a_card_without_a_counter_has_its_power_averaged():
    with card(None, FakeNvml(power=200.0, lacks={"nvmlDeviceGetTotalEnergyConsumption"})) as found:
        energy = energy_of(lambda: sum(range(1000)), found, least=0.3)
    assert energy.source == "NVML power, averaged"
    assert energy.joules * energy.runs == pytest.approx(200.0 * energy.seconds)


def test_energy_that_cannot_be_had_says_why():
    lacks = {"nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"}
    with card(None, FakeNvml(lacks=lacks)) as found:
        assert energy_of(busy, found, least=0.01) == "NVML: Not Supported; NVML: Not Supported"
    with card(None, FakeNvml(counter_runs=False)) as found:
        assert "did not move" in energy_of(busy, found, least=0.01)


def test_a_watch_keeps_the_peak_and_stops():
    api = FakeNvml(processes=[(os.getpid(), 10)])
    with card(None, api) as found:
        with Watch(found, period=0.005) as watch:
            busy(0.05)
            api._processes = [(os.getpid(), 999)]
            busy(0.05)
            api._processes = [(os.getpid(), 20)]
        count = len(watch.snapshots)
        assert watch.peak_used() == 999
        busy(0.03)
        assert len(watch.snapshots) == count


def test_throttled_or_wandering_clocks_spoil_a_sample():
    fair = Snapshot(0.0, sm_clock=1980.0, throttle=("software power cap",))
    assert spoiled([fair, fair]) == ""
    assert spoiled([fair, fair._replace(throttle=("hardware slowdown",))]) == "throttled: hardware slowdown"
    assert spoiled([fair, fair._replace(sm_clock=1800.0)]) == "SM clock moved from 1800 to 1980 MHz"
    assert spoiled([Snapshot(0.0), Snapshot(1.0)]) == ""
    assert spoiled([]) == ""


def test_columns_leave_out_what_could_not_be_read():
    looks = [Snapshot(0.0, sm_clock=1980.0, throttle=()), Snapshot(1.0, sm_clock=1950.0, throttle=("sync boost",))]
    assert columns(looks) == {"sm_clock_mhz": (1980.0, 1950.0), "throttled": (0.0, 1.0)}
    assert columns([]) == {}
