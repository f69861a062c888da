"""What would disturb a measurement on this machine: what `python -m bench doctor` looks at."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench.hardware.machine import ROOT, files_hash, machine, revision, software
from bench.hardware.nvml import SPOILING, Card, card
from bench.hardware.threads import SCHEDSTAT

NEED_DISK = 5e9  # bytes: an environment and a long run
NEED_MEMORY = 2e9


class Check(NamedTuple):
    """One property of the machine. Only a "bad" one disturbs measurements; a "note" is worth knowing."""

    what: str
    state: Literal["good", "note", "bad"]
    observed: str
    advice: str = ""


def examine(api: Any = None) -> Iterator[Check]:
    """Check everything, in the order in which `bench doctor` prints it. `api`: pynvml, or a fake of it."""
    import torch  # noqa: PLC0415  (its threads and devices are looked at; --help needs none)

    here = machine()
    yield Check("project", "good", f"revision {revision()}")
    yield Check("software", "good", ", ".join(f"{name} {version}" for name, version in software().items()))
    yield Check("processor", "good", f"{here['cpu']}, {here['cores']} cores for this process")
    yield from _processor(int(here["cores"]), torch.get_num_threads())
    yield from _space()
    yield from _weights()
    yield from _precisions("cpu")
    yield _peaks("cpu", str(here["cpu"]))
    with card(None, api) as gpu:
        if isinstance(gpu, str):
            state: Literal["note", "bad"] = "bad" if torch.cuda.is_available() else "note"
            yield Check("GPU", state, f"none: {gpu}", "suites run on the CPU" if state == "note" else "fix NVML")
        else:
            yield from _gpu(gpu)
            if torch.cuda.is_available():
                yield from _precisions("cuda")
                yield _peaks("cuda", torch.cuda.get_device_name())
    if api is None and not isinstance(gpu, str) and not torch.cuda.is_available():
        yield Check("CUDA", "bad", f"torch {torch.__version__} sees no device", "install a CUDA build")


def _processor(cores: int, threads: int) -> Iterator[Check]:
    load = os.getloadavg()[0]
    busy = _busy_share()
    advice = "wait until other work is done, or use `bench gate`, which measures both sides alternately"
    disturbed = busy > 0.15 * cores
    observed = f"{busy:.2f} cores busy, load {load:.1f}"
    yield Check("load", "bad" if disturbed else "good", observed, advice if disturbed else "")
    variable = os.environ.get("OMP_NUM_THREADS", "")
    many = threads > cores
    observed = f"PyTorch takes {threads}, OMP_NUM_THREADS={variable or 'not set'}"
    yield Check("threads", "bad" if many else "good", observed, f"set OMP_NUM_THREADS={cores}" if many else "")
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = [*quota.read_text().split(), "100000"][:2]
        if limit != "max" and int(limit) / int(period) < cores:
            share = int(limit) / int(period)
            yield Check("quota", "bad", f"{share:.1f} of {cores} cores", f"use at most {max(1, int(share))} threads")
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        name = governor.read_text().strip()
        fast = name == "performance"
        yield Check("governor", "good" if fast else "note", name, "" if fast else "performance is steadier")
    yield from _noise()


def _noise() -> Iterator[Check]:
    """What makes times of equal work differ, and what tells it apart."""
    counted = SCHEDSTAT.exists()
    yield Check(
        "waiting for a core", "good" if counted else "note", "counted by the kernel" if counted else "not counted",
        "" if counted else "times of the gate hold what other work takes of a core: keep the machine idle",
    )  # fmt: skip
    layout = Path("/proc/sys/kernel/randomize_va_space")
    if layout.exists():
        random = layout.read_text().strip() != "0"
        yield Check(
            "memory layout", "good" if random else "note", "random for each process" if random else "always the same",
            "" if random else "a process is lucky or unlucky for ever: let the kernel randomize, the gate averages",
        )  # fmt: skip
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if pages.exists():
        chosen = pages.read_text().partition("[")[2].partition("]")[0]
        yield Check("huge pages", "good", f"{chosen}, for all processes alike")


def _busy_share(seconds: float = 0.5) -> float:
    """How many cores of this machine are busy now, averaged over `seconds`; 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0

    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in stat.read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]  # all, idle and waiting

    all_before, idle_before = ticks()
    time.sleep(seconds)
    all_after, idle_after = ticks()
    passed = all_after - all_before
    return (os.cpu_count() or 1) * (1 - (idle_after - idle_before) / passed) if passed else 0.0


def _space() -> Iterator[Check]:
    free = shutil.disk_usage(ROOT).free
    full = free < NEED_DISK
    yield Check("disk", "bad" if full else "good", f"{free / 1e9:.0f} GB free", "make room" if full else "")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        available = int(lines["MemAvailable"].split()[0]) * 1024
        few = available < NEED_MEMORY
        observed = f"{available / 1e9:.1f} GB available"
        yield Check("memory", "bad" if few else "good", observed, "end other programs" if few else "")


def _weights() -> Iterator[Check]:
    for name in ("weights/pocket", "weights/pocket-judges"):
        try:
            yield Check(name, "good", f"whole, {files_hash((name,))[:12]}")
        except ValueError as error:
            yield Check(name, "bad", str(error), "git checkout -- weights")


def _precisions(device: str) -> Iterator[Check]:
    """Which precisions the device computes natively, and which it only emulates."""
    from vidrd.precision import DTYPES, why_emulated  # noqa: PLC0415  (loads torch)

    reasons = {name: why_emulated(name, device) for name in DTYPES}
    native = ", ".join(name for name, reason in reasons.items() if reason is None)
    yield Check(f"precision {device}", "good", f"native: {native}")
    for reason in filter(None, reasons.values()):
        yield Check(f"precision {device}", "note", reason, "suites leave it out; --emulated measures it")


def _peaks(device: str, name: str) -> Check:
    """The measured peaks next to the data sheet's: if they are far below it, something is wrong with the machine."""
    from bench.hardware.peaks import nominal, stored  # noqa: PLC0415  (loads torch)
    from vidrd.precision import DTYPES, why_emulated  # noqa: PLC0415

    measured = stored(device)
    if measured is None:
        return Check(f"peaks {device}", "note", "not measured yet", "the first run with a bound measures them")
    sheet = nominal(name)
    emulated = {str(DTYPES[each]).removeprefix("torch.") for each in DTYPES if why_emulated(each, device)}
    texts = [
        f"{dtype} {speed / 1e12:.3g} TFLOP/s" + (f" (nominal {sheet[dtype] / 1e12:.3g})" if dtype in sheet else "")
        for dtype, speed in measured.flops.items()
        if dtype not in emulated
    ]
    texts.append(
        f"copy {measured.memory / 1e9:.3g} GB/s" + (f" (nominal {sheet['memory'] / 1e9:.3g})" if sheet else "")
    )
    return Check(f"peaks {device}", "good", ", ".join(texts))


def _gpu(gpu: Card) -> Iterator[Check]:
    api = gpu.api
    name = gpu.read("name", "nvmlDeviceGetName")
    try:
        driver = api.nvmlSystemGetDriverVersion()
    except api.NVMLError as error:
        driver = f"unknown ({error})"
    yield Check("GPU", "good", f"{name}, driver {driver}")
    snapshot = gpu.look()
    highest = gpu.read("highest clock", "nvmlDeviceGetMaxClockInfo", 1)
    yield Check("clocks", "good", f"SM {_or_why(snapshot.sm_clock, gpu, 'sm_clock')} of at most {highest} MHz")
    hot = [reason for reason in snapshot.throttle or () if reason in SPOILING]
    observed = ", ".join(snapshot.throttle or ()) or (
        "none" if snapshot.throttle is not None else gpu.absent["throttle"]
    )
    yield Check("throttling", "bad" if hot else "good", observed, "cool the card" if hot else "")
    power = _or_why(snapshot.power, gpu, "power")
    yield Check("power", "good", f"{power} W, {_or_why(snapshot.temperature, gpu, 'temperature')} degrees Celsius")
    others = gpu.foreign({os.getpid()}, holding=0)
    if others is None:
        yield Check("other processes", "note", gpu.absent["processes"], "make sure that no one else uses the card")
    else:
        text = ", ".join(map(str, others)) or "none"
        yield Check("other processes", "bad" if others else "good", text, "wait for them" if others else "")
    for what, function, expected in (
        ("MIG", "nvmlDeviceGetMigMode", None),
        ("ECC", "nvmlDeviceGetEccMode", None),
        ("persistence", "nvmlDeviceGetPersistenceMode", 1),
    ):
        mode = gpu.read(what, function)
        if mode is None:
            yield Check(what, "note", gpu.absent[what])
            continue
        now = mode[0] if isinstance(mode, list | tuple) else mode
        off = expected is not None and now != expected
        yield Check(what, "note" if off else "good", "on" if now else "off", "nvidia-smi -pm 1" if off else "")


def _or_why(value: float | None, gpu: Card, name: str) -> str:
    return gpu.absent[name] if value is None else f"{value:.0f}"
