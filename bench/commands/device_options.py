"""`--devices` and `--ray` of `bench run`: who does the cells, checked before anything runs."""

from collections.abc import Sequence

from bench.hardware.threads import pin, pin_to, usable_cores
from bench.harness.cell_pool import HERE, Workers, cores_of, use
from bench.harness.progress import say
from bench.harness.suite_spec import PlannedCell, Suite


def workers_of(devices: str | None, threads: int | None, *, ray: bool) -> Workers:
    """Who does the cells; this process then computes on what each of them has, so that plans hold for all.

    Args:
        devices: all, or names joined by commas; None: not given.
        threads: the cores of this process, of which there are as many as threads; None: all.
        ray: whether a Ray cluster does them.

    Raises:
        ValueError: devices that are not here, that differ, or that --ray or --threads would choose too.
    """
    if devices is not None and (ray or threads is not None):
        other = "--ray" if ray else "--threads"
        raise ValueError(f"--devices and {other} both say where cells run: got both, give one of them")
    if threads is not None:
        pin(threads)
    if devices is None:
        return Workers(ray=ray)
    names = _gpus() if devices == "all" else tuple(name.strip() for name in devices.split(","))
    _check(names)
    if len(names) == 1:
        use(names[0])
        return HERE
    if names[0].startswith("cpu"):
        pin_to(cores_of(names[0]))
    return Workers(names)


def fitted(workers: Workers, suite: Suite, chosen: Sequence[PlannedCell]) -> Workers:
    """Those who may do these cells: of a suite of times, one on a machine.

    Raises:
        ValueError: the cells compute on devices of another kind, or one of them on several.
    """
    from bench.speed.knob_suite import as_lengths  # noqa: PLC0415  (loads torch, which --help need not)
    from bench.videos.knobs.settings import devices_of  # noqa: PLC0415

    shared = any(devices_of(as_lengths(item.cell.values)) > 1 for item in chosen if item.skip is None)
    if shared and (workers.ray or len(workers.devices) > 1):
        raise ValueError("a cell with --gpus takes several devices of this machine: leave --devices and --ray out")
    kinds = {str(item.cell.values.get("device", "cpu")) for item in chosen if item.skip is None}
    named = {name.partition(":")[0] for name in workers.devices} or kinds
    if kinds - named:
        raise ValueError(f"--devices names {named.pop()} and cells compute on {', '.join(kinds)}: give --device too")
    if not suite.alone:
        return workers
    if workers.devices:
        say(f"the cells of this suite are timed, so they run one after another, on {workers.devices[0]}")
        use(workers.devices[0])
    return workers._replace(devices=(), alone=True)


def _check(names: Sequence[str]) -> None:
    kinds = {name.partition(":")[0] for name in names}
    if len(set(names)) < len(names) or len(kinds) > 1 or not kinds <= {"cpu", "cuda"}:
        raise ValueError(f"--devices are different ones of one kind, cuda:N or cpu:FIRST-LAST: got {','.join(names)}")
    if kinds == {"cpu"}:
        cores = [cores_of(name) for name in names]
        here = usable_cores()
        every = [core for each in cores for core in each]
        if len(set(map(len, cores))) > 1 or len(set(every)) < len(every) or not set(every) <= set(here):
            raise ValueError(f"each of --devices has as many cores, of its own, among {here}: got {','.join(names)}")
        return
    import torch  # noqa: PLC0415  (--help need not load it)

    known = _gpus()
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"there is no {unknown[0]} here: there are {', '.join(known)}")
    if len(models := {torch.cuda.get_device_name(name) for name in names}) > 1:
        raise ValueError(f"the GPUs of a run are of one model: got {', '.join(sorted(models))}, name those of one")


def _gpus() -> tuple[str, ...]:
    """All of this machine.

    Raises:
        ValueError: there are none.
    """
    import torch  # noqa: PLC0415

    if not (count := torch.cuda.device_count()):
        raise ValueError("there is no GPU here: name cores, as in --devices cpu:0-3,cpu:4-7")
    return tuple(f"cuda:{number}" for number in range(count))
