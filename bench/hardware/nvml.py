"""A GPU's clocks, power, temperature, throttling, other users and energy, through NVML (nvidia-ml-py).

Nothing here raises because a card, a driver or a permission lacks something: what cannot be read is absent with its
reason, for a benchmark must run without it and say so. `api` is pynvml, or in tests a fake of it.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple

# Bits of NVML's clocks event reasons. The first two and the last are no fault of the machine.
REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
# A card that draws all the power it may is capped whoever runs on it; the SM clock tells what that does to a sample.
SPOILING = ("hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "hardware power brake")
SAME_CLOCK = 0.01  # samples whose SM clocks differ by more, as a share, do not compare
LEAST_WINDOW = 1.0  # seconds; the energy counter moves in steps of some 10 to 100 ms


class Snapshot(NamedTuple):
    """One reading of a card; None stands for a value that could not be read."""

    at: float  # time.perf_counter() seconds
    sm_clock: float | None = None  # MHz
    power: float | None = None  # W
    temperature: float | None = None  # degrees Celsius
    throttle: tuple[str, ...] | None = None  # of REASONS, without idle
    used: float | None = None  # bytes of GPU memory of this process and its children


class Energy(NamedTuple):
    """Joules of one run of some work, and their source."""

    joules: float
    seconds: float  # of the whole window
    runs: int  # in the window
    source: str


class Card:
    """One GPU. `absent` collects name -> why a reading could not be had."""

    def __init__(self, api: Any, handle: Any) -> None:
        self.api, self._handle = api, handle
        self.absent: dict[str, str] = {}

    def read(self, name: str, function: str, *args: Any) -> Any:
        """Call one NVML function of this card; None, with the reason under `name`, if it fails or is not there."""
        try:
            reading = getattr(self.api, function)(self._handle, *args)
        except (self.api.NVMLError, AttributeError) as error:
            self.absent[name] = f"NVML: {error}"
            return None
        return reading

    def look(self) -> Snapshot:
        """Clock, power, temperature, throttling and memory, now."""
        clock = self.read("sm_clock", "nvmlDeviceGetClockInfo", getattr(self.api, "NVML_CLOCK_SM", 1))
        power = self.read("power", "nvmlDeviceGetPowerUsage")
        temperature = self.read("temperature", "nvmlDeviceGetTemperature", getattr(self.api, "NVML_TEMPERATURE_GPU", 0))
        return Snapshot(
            at=time.perf_counter(),
            sm_clock=None if clock is None else float(clock),
            power=None if power is None else power / 1e3,
            temperature=None if temperature is None else float(temperature),
            throttle=self.throttle(),
            used=self.used(),
        )

    def throttle(self) -> tuple[str, ...] | None:
        """Why the clocks are not higher, "idle" left out."""
        newer = hasattr(self.api, "nvmlDeviceGetCurrentClocksEventReasons")
        name = "nvmlDeviceGetCurrentClocks" + ("EventReasons" if newer else "ThrottleReasons")
        bits = self.read("throttle", name)
        if bits is None:
            return None
        return tuple(text for bit, text in REASONS.items() if bits & bit and text != "idle")

    def processes(self) -> list[tuple[int, int | None]] | None:
        """(process number, bytes or None) of everything that computes on the card."""
        running = self.read("processes", "nvmlDeviceGetComputeRunningProcesses")
        return None if running is None else [(process.pid, process.usedGpuMemory) for process in running]

    def used(self, own: Iterable[int] | None = None) -> float | None:
        """Bytes that the driver counts for this process, or for those of `own`."""
        mine = {os.getpid()} if own is None else set(own)
        sizes = [size for pid, size in self.processes() or [] if pid in mine and size is not None]
        if not sizes:
            self.absent.setdefault(
                "used", "NVML does not show this process (in a container it counts the host's process numbers)"
            )
        return float(sum(sizes)) if sizes else None

    def foreign(self, own: Iterable[int], *, holding: int) -> list[int] | None:
        """Process numbers of others on the card; None if NVML does not say.

        Args:
            own: numbers of this process and those that belong to it.
            holding: how many of them use the card now. In a container NVML shows the host's numbers, so if none of
                `own` is seen, as many of those that are seen are taken for them.
        """
        running = self.processes()
        if running is None:
            return None
        mine = set(own)
        others = [pid for pid, _ in running if pid not in mine]
        return others[holding:] if len(others) == len(running) else others

    def energy_counter(self) -> float | None:
        """Joules since the driver was loaded."""
        millijoules = self.read("energy", "nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1e3


@contextmanager
def card(uuid: str | None = None, api: Any = None) -> Iterator[Card | str]:
    """A card by its UUID (None: the first), or the reason why there is none."""
    if api is None:
        try:
            import pynvml  # noqa: PLC0415  (a machine without NVML must still run)
        except ImportError:
            yield "nvidia-ml-py is not installed"
            return
        api = pynvml
    try:
        api.nvmlInit()
    except api.NVMLError as error:
        yield f"NVML: {error}"
        return
    try:
        try:
            if uuid is None:
                handle = api.nvmlDeviceGetHandleByIndex(0)
            else:
                handle = api.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
        except api.NVMLError as error:
            yield f"NVML: {error}"
            return
        yield Card(api, handle)
    finally:
        api.nvmlShutdown()


class Watch:
    """Reads a card every `period` seconds in a thread while something else runs: `with Watch(card) as watch: ...`.

    It disturbs latency: use it in a pass of its own.
    """

    def __init__(self, card: Card, period: float = 0.05) -> None:
        self.snapshots: list[Snapshot] = []
        self._card, self._period = card, period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch-gpu", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.snapshots.append(self._card.look())
            if self._stop.wait(self._period):
                self.snapshots.append(self._card.look())
                return

    def peak_used(self) -> float | None:
        """The most bytes that this process held at any reading; None if no reading shows it."""
        return max((look.used for look in self.snapshots if look.used is not None), default=None)

    def watts(self) -> float | None:
        """Mean power over the readings in W, by the trapezoidal rule; None with fewer than two."""
        points = [(look.at, look.power) for look in self.snapshots if look.power is not None]
        if len(points) < 2:
            return None
        joules = sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(points))
        return joules / (points[-1][0] - points[0][0])


def energy_of(work: Callable[[], object], card: Card, *, least: float = LEAST_WINDOW) -> Energy | str:
    """Joules of one run of `work`, or why there are none. Nothing is subtracted for an idle card.

    The work is repeated until the window lasts `least` seconds, since the counter moves in steps. Cards without a
    counter have their mean power taken. `work` must return only when the GPU has finished.
    """
    began, runs = time.perf_counter(), 0
    before = card.energy_counter()
    with Watch(card) as watch:
        while not runs or time.perf_counter() - began < least:
            work()
            runs += 1
    after = card.energy_counter()
    seconds = time.perf_counter() - began
    if before is not None and after is not None:
        if after <= before:
            return f"NVML's energy counter did not move for {seconds:.1f} s"
        return Energy((after - before) / runs, seconds, runs, "NVML energy counter")
    watts = watch.watts()
    if watts is None:
        return card.absent.get("energy", "no counter") + "; " + card.absent.get("power", "no power readings")
    return Energy(watts * seconds / runs, seconds, runs, "NVML power, averaged")


def spoiled(looks: Iterable[Snapshot]) -> str:
    """Why a sample between these readings is not a fair one; "" if nothing speaks against it."""
    looks = list(looks)
    throttled = sorted({reason for look in looks for reason in look.throttle or () if reason in SPOILING})
    if throttled:
        return f"throttled: {', '.join(throttled)}"
    clocks = [look.sm_clock for look in looks if look.sm_clock]
    if clocks and max(clocks) > (1 + SAME_CLOCK) * min(clocks):
        return f"SM clock moved from {min(clocks):.0f} to {max(clocks):.0f} MHz"
    return ""


def columns(looks: Iterable[Snapshot]) -> dict[str, tuple[float, ...]]:
    """The readings as raw samples of a record: name with unit -> values; what a reading lacks is left out."""
    names = {"sm_clock_mhz": "sm_clock", "power_watts": "power", "temperature_celsius": "temperature"}
    looks = list(looks)
    samples = {name: tuple(getattr(look, key) for look in looks) for name, key in names.items()}
    samples["throttled"] = tuple(None if look.throttle is None else float(bool(look.throttle)) for look in looks)
    return {name: values for name, values in samples.items() if values and None not in values}
