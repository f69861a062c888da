"""A card that can throttle, fail and lack features: stands in for the module pynvml, in tests and in a dry session."""

import itertools
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from pynvml import NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_UNINITIALIZED, NVMLError


class FakeNvml:
    """NVML with one card.

    Args:
        name: of the card.
        clocks: MHz that the looks see in turn, the last one again and again.
        throttle: bits of the clocks event reasons.
        power: watts; the energy counter runs at this rate in real time.
        lacks: functions that this card does not support.
        missing: functions that this version of NVML does not have at all.
        driver: False: nvmlInit fails.
        processes: (number, bytes) on the card.
        step: seconds between two moves of the energy counter.
        counter_runs: False: it stands still.
    """

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1

    def __init__(
        self,
        *,
        name: str = "Fake H100",
        clocks: Sequence[int] = (1980,),
        throttle: int = 0,
        power: float = 300.0,
        lacks: Sequence[str] = (),
        missing: Sequence[str] = (),
        driver: bool = True,
        processes: Sequence[tuple[int, int | None]] = (),
        step: float = 0.02,
        counter_runs: bool = True,
    ):
        self._name = name
        self._clocks = itertools.chain(clocks, itertools.repeat(clocks[-1]))
        self._throttle, self._power, self._lacks, self._driver = throttle, power, set(lacks), driver
        self._processes, self._step, self._counter_runs = list(processes), step, counter_runs
        self._missing, self._began = set(missing), time.perf_counter()
        self.open = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "_missing"):
            raise AttributeError(f"Function Not Found: {name}")
        return object.__getattribute__(self, name)

    def _answer(self, name: str, value: Any) -> Any:
        if not self.open:
            raise NVMLError(NVML_ERROR_UNINITIALIZED)
        if name in self._lacks:
            raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
        return value

    def nvmlInit(self) -> None:  # noqa: N802, D102
        if not self._driver:
            raise NVMLError(9)  # driver not loaded
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802, D102
        self.open -= 1

    def nvmlDeviceGetCount(self) -> Any:  # noqa: N802, D102
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetHandleByIndex", f"card {index}")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetHandleByUUID", uuid)

    def nvmlDeviceGetName(self, handle: str) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetName", self._name)

    def nvmlSystemGetDriverVersion(self) -> Any:  # noqa: N802, D102
        return self._answer("nvmlSystemGetDriverVersion", "999.1")

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetClockInfo", next(self._clocks))

    def nvmlDeviceGetMaxClockInfo(self, handle: str, kind: int) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetMaxClockInfo", 1980)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetPowerUsage", round(self._power * 1000))

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetTemperature", 61)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetCurrentClocksEventReasons", self._throttle)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetCurrentClocksThrottleReasons", self._throttle)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> Any:  # noqa: N802, D102
        found = [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self._processes]
        return self._answer("nvmlDeviceGetComputeRunningProcesses", found)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> Any:  # noqa: N802, D102
        ticks = (time.perf_counter() - self._began) // self._step if self._counter_runs else 0
        return self._answer("nvmlDeviceGetTotalEnergyConsumption", round(ticks * self._step * self._power * 1000))

    def nvmlDeviceGetMigMode(self, handle: str) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetMigMode", [0, 0])

    def nvmlDeviceGetEccMode(self, handle: str) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetEccMode", [1, 1])

    def nvmlDeviceGetPersistenceMode(self, handle: str) -> Any:  # noqa: N802, D102
        return self._answer("nvmlDeviceGetPersistenceMode", 1)
