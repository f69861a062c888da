"""Is this machine fit to measure on? `python -m bench doctor`."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tabulate import tabulate

from bench.measure.machine import ROOT, files_hash, machine, revision, software
from bench.measure.nvml import SPOILING, Card, card

DISTURBED = 4  # exit code: timings here would be disturbed
NEED_DISK = 5e9  # bytes: an environment and a long run
NEED_MEMORY = 2e9


class Finding(NamedTuple):
    """One thing looked at. Only what is "bad" disturbs measurements; "note" is worth knowing."""

    what: str
    state: Literal["good", "note", "bad"]
    seen: str
    advice: str = ""


def doctor() -> int:
    """Look at driver, clocks, MIG, ECC, other processes, threads, load, memory, disk and weights.

    Exit codes: 0 fit to measure on, 4 something would disturb timings or is broken.
    """
    findings = list(examine())
    print(tabulate([tuple(finding) for finding in findings], headers=("what", "", "seen", "what to do")))
    bad = [finding.what for finding in findings if finding.state == "bad"]
    print(f"\ntimings here would be disturbed: {', '.join(bad)}" if bad else "\nfit to measure on")
    return DISTURBED if bad else 0


def examine(api: Any = None) -> Iterator[Finding]:
    """Everything that is looked at. `api`: pynvml, or a fake of it."""
    import torch  # noqa: PLC0415  (its threads and devices are looked at; --help needs none)

    here = machine()
    yield Finding("project", "good", f"revision {revision()}")
    yield Finding("software", "good", ", ".join(f"{name} {version}" for name, version in software().items()))
    yield Finding("processor", "good", f"{here['cpu']}, {here['cores']} cores for this process")
    yield from _processor(int(here["cores"]), torch.get_num_threads())
    yield from _space()
    yield from _weights()
    yield from _precisions("cpu")
    yield _peaks("cpu", str(here["cpu"]))
    with card(None, api) as found:
        if isinstance(found, str):
            state: Literal["note", "bad"] = "bad" if torch.cuda.is_available() else "note"
            yield Finding("GPU", state, f"none: {found}", "suites run on the CPU" if state == "note" else "mend NVML")
        else:
            yield from _gpu(found)
            if torch.cuda.is_available():
                yield from _precisions("cuda")
                yield _peaks("cuda", torch.cuda.get_device_name())
    if api is None and not isinstance(found, str) and not torch.cuda.is_available():
        yield Finding("CUDA", "bad", f"torch {torch.__version__} sees no device", "install a CUDA build")


def _processor(cores: int, threads: int) -> Iterator[Finding]:
    load = os.getloadavg()[0]
    busy = _busy_share()
    advice = "wait until other work is done, or use `bench gate`, which measures both sides alternately"
    disturbed = busy > 0.15 * cores
    seen = f"{busy:.2f} cores busy, load {load:.1f}"
    yield Finding("load", "bad" if disturbed else "good", seen, advice if disturbed else "")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    many = threads > cores
    seen = f"PyTorch takes {threads}, OMP_NUM_THREADS={asked or 'not set'}"
    yield Finding("threads", "bad" if many else "good", seen, f"set OMP_NUM_THREADS={cores}" if many else "")
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = [*quota.read_text().split(), "100000"][:2]
        if limit != "max" and int(limit) / int(period) < cores:
            share = int(limit) / int(period)
            yield Finding("quota", "bad", f"{share:.1f} of {cores} cores", f"use at most {max(1, int(share))} threads")
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        name = governor.read_text().strip()
        fast = name == "performance"
        yield Finding("governor", "good" if fast else "note", name, "" if fast else "performance is steadier")


def _busy_share(seconds: float = 0.5) -> float:
    """Cores that work now, of this machine; 0 where the system does not say."""
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


def _space() -> Iterator[Finding]:
    free = shutil.disk_usage(ROOT).free
    full = free < NEED_DISK
    yield Finding("disk", "bad" if full else "good", f"{free / 1e9:.0f} GB free", "make room" if full else "")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        left = int(lines["MemAvailable"].split()[0]) * 1024
        few = left < NEED_MEMORY
        seen = f"{left / 1e9:.1f} GB available"
        yield Finding("memory", "bad" if few else "good", seen, "end other programs" if few else "")


def _weights() -> Iterator[Finding]:
    for name in ("weights/pocket", "weights/pocket-judges"):
        try:
            yield Finding(name, "good", f"whole, {files_hash((name,))[:12]}")
        except ValueError as error:
            yield Finding(name, "bad", str(error), "git checkout -- weights")


def _precisions(device: str) -> Iterator[Finding]:
    """Which precisions the device computes, and which it only emulates."""
    from vidrd.precision import DTYPES, why_emulated  # noqa: PLC0415  (loads torch)

    reasons = {name: why_emulated(name, device) for name in DTYPES}
    native = ", ".join(name for name, reason in reasons.items() if reason is None)
    yield Finding(f"precision {device}", "good", f"native: {native}")
    for reason in filter(None, reasons.values()):
        yield Finding(f"precision {device}", "note", reason, "suites leave it out; --emulated measures it all the same")


def _peaks(device: str, name: str) -> Finding:
    """What was measured here, beside what the data sheet promises: far below it something is wrong with the machine."""
    from bench.measure.peaks import nominal, stored  # noqa: PLC0415  (loads torch)
    from vidrd.precision import DTYPES, why_emulated  # noqa: PLC0415

    found = stored(device)
    if found is None:
        return Finding(f"peaks {device}", "note", "not measured yet", "the first run with a bound measures them")
    sheet = nominal(name)
    emulated = {str(DTYPES[each]).removeprefix("torch.") for each in DTYPES if why_emulated(each, device)}
    told = [
        f"{dtype} {speed / 1e12:.3g} TFLOP/s" + (f" (nominal {sheet[dtype] / 1e12:.3g})" if dtype in sheet else "")
        for dtype, speed in found.flops.items()
        if dtype not in emulated
    ]
    told.append(f"copy {found.memory / 1e9:.3g} GB/s" + (f" (nominal {sheet['memory'] / 1e9:.3g})" if sheet else ""))
    return Finding(f"peaks {device}", "good", ", ".join(told))


def _gpu(found: Card) -> Iterator[Finding]:
    api = found.api
    name = found.read("name", "nvmlDeviceGetName")
    try:
        driver = api.nvmlSystemGetDriverVersion()
    except api.NVMLError as error:
        driver = f"unknown ({error})"
    yield Finding("GPU", "good", f"{name}, driver {driver}")
    look = found.look()
    highest = found.read("highest clock", "nvmlDeviceGetMaxClockInfo", 1)
    yield Finding("clocks", "good", f"SM {_or_why(look.sm_clock, found, 'sm_clock')} of at most {highest} MHz")
    hot = [reason for reason in look.throttle or () if reason in SPOILING]
    seen = ", ".join(look.throttle or ()) or ("none" if look.throttle is not None else found.absent["throttle"])
    yield Finding("throttling", "bad" if hot else "good", seen, "cool the card" if hot else "")
    power = _or_why(look.power, found, "power")
    yield Finding("power", "good", f"{power} W, {_or_why(look.temperature, found, 'temperature')} degrees Celsius")
    others = found.foreign({os.getpid()}, holding=0)
    if others is None:
        yield Finding("other processes", "note", found.absent["processes"], "make sure that no one else uses the card")
    else:
        text = ", ".join(map(str, others)) or "none"
        yield Finding("other processes", "bad" if others else "good", text, "wait for them" if others else "")
    for what, function, wanted in (
        ("MIG", "nvmlDeviceGetMigMode", None),
        ("ECC", "nvmlDeviceGetEccMode", None),
        ("persistence", "nvmlDeviceGetPersistenceMode", 1),
    ):
        mode = found.read(what, function)
        if mode is None:
            yield Finding(what, "note", found.absent[what])
            continue
        now = mode[0] if isinstance(mode, list | tuple) else mode
        off = wanted is not None and now != wanted
        yield Finding(what, "note" if off else "good", "on" if now else "off", "nvidia-smi -pm 1" if off else "")


def _or_why(value: float | None, found: Card, name: str) -> str:
    return found.absent[name] if value is None else f"{value:.0f}"
