"""Which device a network runs on."""

import torch


def resolve_device(name: str) -> str:
    """The device that `name` means, for torch: "auto" is a GPU where torch can use one, otherwise the CPU.

    Raises:
        ValueError: a device that torch does not know, or that this machine does not have.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        works = torch.empty(0, device=name).device.type != "meta"
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        works = False
    if not works:
        raise ValueError(f"--device is auto, cpu or a GPU that torch can use here, as cuda:0: got {name!r}, try auto")
    return name
