"""GPU telemetry: readings between the samples of the latency pass, and separate passes for memory and energy.

A thread that reads the card while work runs disturbs it, so the latency pass is read only between its samples.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch

from bench.hardware.nvml import Card, Snapshot, Watch, card, columns, energy_of, spoiled
from bench.results.records import CellResults, Number

NO_GPU = "no GPU is used on {device}"


class Telemetry:
    """Reads the card before, between and after the samples of a latency pass; on a CPU it reads nothing."""

    def __init__(self, device: str, api: Any = None) -> None:
        self.looks: list[Snapshot] = []
        self._device, self._api = device, api
        self._card: Card | str = NO_GPU.format(device=device)
        self._open = ExitStack()
        self._others: set[int] = set()

    def __enter__(self) -> "Telemetry":
        if torch.device(self._device).type == "cuda":
            uuid = None if self._api is not None else str(torch.cuda.get_device_properties(self._device).uuid)
            self._card = self._open.enter_context(card(uuid, self._api))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def look(self) -> None:
        """Record clocks, power, temperature, throttling and which other processes compute on the card."""
        if isinstance(self._card, Card):
            self.looks.append(self._card.look())
            self._others |= set(self._card.foreign({os.getpid()}, holding=1) or ())

    def samples(self) -> dict[str, tuple[float, ...]]:
        """Raw samples for the record (MHz, W, degrees Celsius): one more of each than there are samples of time."""
        return columns(self.looks)

    def facts(self) -> dict[str, str]:
        """Texts for the record: whether the pass was disturbed, by what, and what could not be read."""
        if isinstance(self._card, str):
            return {} if self._card == NO_GPU.format(device=self._device) else {"gpu_looks": self._card}
        facts = {f"no_{name}": why for name, why in self._card.absent.items()}
        facts["disturbed"] = spoiled(self.looks) or "no"
        facts["other_processes"] = ", ".join(map(str, sorted(self._others))) or "none"
        reasons = sorted({reason for look in self.looks for reason in look.throttle or ()})
        return facts | ({"throttle_reasons": ", ".join(reasons)} if reasons else {})


def gpu_passes(make: Callable[[], object], *, device: str, videos: int, api: Any = None) -> CellResults:
    """Largest memory of the process while `make` runs, and energy of one of its `videos`, each in its own pass."""
    if torch.device(device).type != "cuda":
        return CellResults(absent=dict.fromkeys(("driver_peak", "joules_per_video"), NO_GPU.format(device=device)))

    def work() -> None:
        make()
        if api is None:
            torch.cuda.synchronize()

    uuid = None if api is not None else str(torch.cuda.get_device_properties(device).uuid)
    numbers, absent, facts = {}, {}, {}
    with card(uuid, api) as gpu:
        if isinstance(gpu, str):
            return CellResults(absent=dict.fromkeys(("driver_peak", "joules_per_video"), gpu))
        with Watch(gpu, period=0.01) as watch:
            work()
        peak = watch.peak_used()
        if peak is None:
            absent["driver_peak"] = gpu.absent["used"]
        else:
            numbers["driver_peak"] = Number(peak, "bytes", "lower", n=len(watch.snapshots))
        energy = energy_of(work, gpu)
        if isinstance(energy, str):
            absent["joules_per_video"] = energy
        else:
            numbers["joules_per_video"] = Number(energy.joules / videos, "J", "lower", n=energy.runs * videos)
            facts["energy_by"] = f"{energy.source} over {energy.seconds:.1f} s"
    return CellResults(numbers=numbers, absent=absent, facts=facts)
