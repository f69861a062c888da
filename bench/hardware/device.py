"""Which device a cell runs on, and whether its precision is native there."""

from collections.abc import Mapping
from functools import cache

import torch

from bench.results.records import Value
from vidrd.precision import why_emulated

NO_CUDA = "no CUDA device was found"  # why a cell that asks for one is skipped


@cache
def has_cuda() -> bool:
    """Whether this machine has a CUDA device; looked up once, as plans have many cells."""
    return torch.cuda.is_available()


def named_device(device: Value) -> Value:
    """The device of a cell; "auto" is "cuda" where there is one, else "cpu"."""
    return device if device != "auto" else "cuda" if has_cuda() else "cpu"


def emulated(values: Mapping[str, Value]) -> str | None:
    """Why the precision of a cell is only emulated on its device; None where it is native, or the device is missing."""
    precision, device = str(values["precision"]), str(named_device(values["device"]))
    return None if device == "cuda" and not has_cuda() else why_emulated(precision, device)


def keep_float32() -> None:
    """Let float32 be float32 on a GPU, from now on in this process: its products are those that bound it."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def emulation_facts(precision: str, device: str) -> dict[str, str]:
    """What the record of a cell says of emulation: its precision as `emulated`, or nothing."""
    return {} if why_emulated(precision, device) is None else {"emulated": precision}
