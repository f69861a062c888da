"""Precisions by name, and which of them a machine computes natively.

A precision that a machine only emulates runs there, but up to a hundred times slower than float32: its times say
nothing about that precision. PyTorch and oneDNN answer for the CPU, so ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA,
which make a machine behave like an older one, are respected.
"""

import os
from typing import NamedTuple

import torch


class Precision(NamedTuple):
    """How the networks hold and compute numbers.

    Args:
        compute: dtype of activations and arithmetic, and of the weights at work.
        weights: dtype to which the weights are rounded when they are loaded.
    """

    compute: torch.dtype
    weights: torch.dtype


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision(torch.float32, torch.float32),
    "bf16": Precision(torch.bfloat16, torch.bfloat16),
    "fp16": Precision(torch.float16, torch.float16),
    "bf16-weights": Precision(torch.float32, torch.bfloat16),  # shows what bf16 at rest loses, on any machine
}
DTYPES: dict[str, torch.dtype] = {name: precision.compute for name, precision in PRECISIONS.items()}
# Instruction sets that compute in a dtype, as `torch.cpu.get_capabilities` names them (x86, then Arm).
INSTRUCTIONS = {
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16", "fp16_arith"),
}
# Values of ONEDNN_MAX_CPU_ISA that leave all of them out.
OLDER = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
LEAST_CAPABILITY = {torch.bfloat16: (8, 0), torch.float16: (5, 3)}  # of CUDA devices


def why_emulated(precision: str, device: str) -> str | None:
    """Why the device only emulates the arithmetic of this precision; None where it computes natively.

    Args:
        precision: a key of `PRECISIONS`.
        device: "cpu", "cuda", "cuda:1", ...
    """
    dtype = DTYPES[precision]
    if dtype == torch.float32:
        return None
    if torch.device(device).type == "cuda":
        capability, least = torch.cuda.get_device_capability(device), LEAST_CAPABILITY[dtype]
        native, lacks = capability >= least, f"compute capability {capability[0]}.{capability[1]}"
        lacks += f" is below {least[0]}.{least[1]}"
    else:
        native, lacks = _native_on_cpu(dtype), f"{_instructions(dtype)} are missing or switched off"
    return None if native else f"{precision} is emulated on this {_kind(device)} ({lacks})"


def default_precisions(device: str) -> tuple[str, str]:
    """The two precisions that a sweep compares by default: float32, and a reduced one that is native to the machine.

    On a CPU without bf16 arithmetic that is bf16 at rest: it tells what the reduced weights lose, in float32's time.
    """
    reduced = ("bf16", "fp16") if torch.device(device).type == "cuda" else ("bf16",)
    native = (name for name in reduced if why_emulated(name, device) is None)
    return "fp32", next(native, "bf16-weights")


def _native_on_cpu(dtype: torch.dtype) -> bool:
    supported = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}[dtype]
    if not torch.backends.mkldnn.is_available() or os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in OLDER:
        return False
    has = torch.cpu.get_capabilities()
    return bool(getattr(torch.ops.mkldnn, supported)()) and any(has.get(name) for name in INSTRUCTIONS[dtype])


def _instructions(dtype: torch.dtype) -> str:
    x86 = torch.cpu.get_capabilities().get("architecture", "x86_64").startswith("x86")
    names = {torch.bfloat16: ("AVX-512 BF16 and AMX", "BF16"), torch.float16: ("AVX-512 FP16 and AMX", "FP16")}
    return f"the {names[dtype][0 if x86 else 1]} instructions"


def _kind(device: str) -> str:
    return "GPU" if torch.device(device).type == "cuda" else "CPU"
