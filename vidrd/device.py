"""Devices by name, as the command lines take them."""

import torch


def resolve_device(name: str) -> str:
    """The device of that name; "auto" is the GPU where there is one, else the CPU.

    Raises:
        ValueError: this machine has no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device is auto, cpu, cuda, cuda:1, ...: got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"this machine has {torch.cuda.device_count()} CUDA devices that PyTorch can use: got {name}")
    return name
