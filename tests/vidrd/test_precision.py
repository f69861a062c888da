import os
import subprocess
import sys

import pytest
import torch

from vidrd.precision import DTYPES, PRECISIONS, default_precisions, why_emulated


@pytest.fixture
def cpu(monkeypatch):
    """Set what the CPU has and what oneDNN says of it."""

    def has(*instructions, supported=True, architecture="x86_64", limit=""):
        capabilities = {"architecture": architecture, **dict.fromkeys(instructions, True)}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
        operators = type("Operators", (), {})
        for name in ("_is_mkldnn_bf16_supported", "_is_mkldnn_fp16_supported"):
            setattr(operators, name, staticmethod(lambda: supported))
        monkeypatch.setattr(torch.ops, "mkldnn", operators, raising=False)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)

    return has


def test_float32_is_native_everywhere():
    assert why_emulated("fp32", "cpu") is None
    assert why_emulated("bf16-weights", "cpu") is None
    assert PRECISIONS["bf16-weights"] == (torch.float32, torch.bfloat16)
    assert DTYPES["bf16-weights"] == torch.float32


@pytest.mark.parametrize(
    ("instructions", "architecture", "native"),
    [
        (("avx2",), "x86_64", False),
        (("avx2", "avx512_f"), "x86_64", False),  # oneDNN supports bf16 there, by way of float32
        (("avx512_f", "avx512_bf16"), "x86_64", True),
        (("amx_bf16",), "x86_64", True),
        (("bf16",), "aarch64", True),
        ((), "aarch64", False),
    ],
)
def test_bf16_takes_instructions_of_its_own(cpu, instructions, architecture, native):
    cpu(*instructions, architecture=architecture)
    assert (why_emulated("bf16", "cpu") is None) == native
    assert default_precisions("cpu") == ("fp32", "bf16" if native else "bf16-weights")


def test_what_onednn_or_a_variable_switches_off_is_not_there(cpu):
    cpu("avx512_bf16", supported=False)
    assert "AVX-512 BF16 and AMX instructions are missing or switched off" in str(why_emulated("bf16", "cpu"))
    cpu("avx512_bf16", limit="avx512_core")
    assert why_emulated("bf16", "cpu") is not None
    cpu("avx512_bf16", limit="AVX512_CORE_BF16")
    assert why_emulated("bf16", "cpu") is None


@pytest.mark.parametrize(
    ("capability", "bf16", "fp16"),
    [((9, 0), True, True), ((8, 0), True, True), ((7, 5), False, True), ((5, 2), False, False)],
)
def test_gpus_are_told_by_their_compute_capability(monkeypatch, capability, bf16, fp16):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert (why_emulated("bf16", "cuda") is None, why_emulated("fp16", "cuda:1") is None) == (bf16, fp16)
    best = "bf16" if bf16 else "fp16" if fp16 else "bf16-weights"
    assert default_precisions("cuda") == ("fp32", best)


def test_two_variables_make_a_machine_without_bf16():
    limits = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    code = "from vidrd.precision import *; print(why_emulated('bf16', 'cpu'), default_precisions('cpu'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **limits}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("bf16 is emulated on this CPU")
    assert done.stdout.strip().endswith("('fp32', 'bf16-weights')")
