"""A card that can throttle, fail and lack features: stands in for the module pynvml."""

import itertools
import time
from types import SimpleNamespace

from pynvml import NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_UNINITIALIZED, NVMLError


class FakeNvml:
    """NVML with one card.

    Args:
        clocks: MHz that the looks see in turn, the last one again and again.
        throttle: bits of the clocks event reasons.
        power: watts; the energy counter runs at this rate in real time.
        lacks: functions that this card does not support.
        missing: functions that this version of NVML does not have at all.
        driver: False: nvmlInit fails.
        processes: (number, bytes) on the card.
        step: seconds between two moves of the energy counter.
    """

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1

    def __init__(
        self,
        *,
        clocks=(1980,),
        throttle=0,
        power=300.0,
        lacks=(),
        missing=(),
        driver=True,
        processes=(),
        step=0.02,
        counter_runs=True,
    ):
        self._clocks = itertools.chain(clocks, itertools.repeat(clocks[-1]))
        self._throttle, self._power, self._lacks, self._driver = throttle, power, set(lacks), driver
        self._processes, self._step, self._counter_runs = list(processes), step, counter_runs
        self._missing, self._began = set(missing), time.perf_counter()
        self.open = 0

    def __getattribute__(self, name):
        if name.startswith("nvml") and name in object.__getattribute__(self, "_missing"):
            raise AttributeError(f"Function Not Found: {name}")
        return object.__getattribute__(self, name)

    def _answer(self, name, value):
        if not self.open:
            raise NVMLError(NVML_ERROR_UNINITIALIZED)
        if name in self._lacks:
            raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
        return value

    def nvmlInit(self):  # noqa: N802
        if not self._driver:
            raise NVMLError(9)  # driver not loaded
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return self._answer("nvmlDeviceGetHandleByIndex", f"card {index}")

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        return self._answer("nvmlDeviceGetHandleByUUID", uuid)

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return self._answer("nvmlDeviceGetName", "Fake H100")

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return self._answer("nvmlSystemGetDriverVersion", "999.1")

    def nvmlDeviceGetClockInfo(self, handle, kind):  # noqa: N802
        return self._answer("nvmlDeviceGetClockInfo", next(self._clocks))

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):  # noqa: N802
        return self._answer("nvmlDeviceGetMaxClockInfo", 1980)

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        return self._answer("nvmlDeviceGetPowerUsage", round(self._power * 1000))

    def nvmlDeviceGetTemperature(self, handle, sensor):  # noqa: N802
        return self._answer("nvmlDeviceGetTemperature", 61)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):  # noqa: N802
        return self._answer("nvmlDeviceGetCurrentClocksEventReasons", self._throttle)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):  # noqa: N802
        return self._answer("nvmlDeviceGetCurrentClocksThrottleReasons", self._throttle)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        found = [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self._processes]
        return self._answer("nvmlDeviceGetComputeRunningProcesses", found)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        ticks = (time.perf_counter() - self._began) // self._step if self._counter_runs else 0
        return self._answer("nvmlDeviceGetTotalEnergyConsumption", round(ticks * self._step * self._power * 1000))

    def nvmlDeviceGetMigMode(self, handle):  # noqa: N802
        return self._answer("nvmlDeviceGetMigMode", [0, 0])

    def nvmlDeviceGetEccMode(self, handle):  # noqa: N802
        return self._answer("nvmlDeviceGetEccMode", [1, 1])

    def nvmlDeviceGetPersistenceMode(self, handle):  # noqa: N802
        return self._answer("nvmlDeviceGetPersistenceMode", 1)
