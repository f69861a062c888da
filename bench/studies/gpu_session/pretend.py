"""A CUDA device that is none: what needs a GPU runs on a CPU with made-up clocks, memory, streams and NVML.

    with pretended_cuda():
        torch.zeros(2, device="cuda")  # on the CPU

Code that asks for `cuda` takes its own way, as far as it does not look where a tensor lies, so that a slip in it does
not wait for a GPU. Nothing is compiled, and no number means anything.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from time import perf_counter
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pynvml
import torch
from torch.overrides import TorchFunctionMode

from bench.hardware import peaks
from bench.hardware.device import has_cuda
from bench.hardware.roofline import Peaks
from bench.studies.gpu_session.fake_nvml import FakeNvml

NAME = "Pretended H200"  # its data sheet is known
HELD = 2**30  # bytes that everything takes
RATES = Peaks({"float32": 1e15, "bfloat16": 1e15, "float16": 1e15}, memory=1e15, cache=1e15)  # beyond every CPU


class _OnCPU(TorchFunctionMode):
    """Every function of torch that is told "cuda" takes the CPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.device:  # a name, which code asks for its type
            return func(*args, **(kwargs or {}))
        return func(*map(_here, args), **{name: _here(value) for name, value in (kwargs or {}).items()})


def _here(value: Any) -> Any:
    on_gpu = isinstance(value, str | torch.device) and str(value).startswith("cuda")
    return torch.device("cpu") if on_gpu else value


class Event:
    """A CUDA event that reads the host's clock."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._at = 0.0

    def record(self, stream: object = None) -> None:
        """Mark now."""
        self._at = perf_counter()

    def elapsed_time(self, end: "Event") -> float:
        """Milliseconds until another event."""
        return 1e3 * (end._at - self._at)


class _Generator(torch.Generator):
    def __new__(cls, device: object = "cpu") -> "_Generator":
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]


class _Stream:
    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, other: object) -> None:
        """Nothing is asynchronous."""


def _uncompiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    return (lambda given: given) if function is None else function


def _nothing(*_: object, **__: object) -> None:
    return None


def _answer(value: object) -> Callable[..., Any]:
    return lambda *_, **__: value


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """Every question for a GPU is answered as if there were one."""
    properties = SimpleNamespace(name=NAME, uuid="pretended", total_memory=128 * HELD, major=9, minor=0)
    profiler = SimpleNamespace(cudaProfilerStart=_nothing, cudaProfilerStop=_nothing)
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "get_device_name": NAME,
        "get_device_capability": (9, 0), "get_device_properties": properties, "is_bf16_supported": True,
        "memory_allocated": HELD, "max_memory_allocated": 2 * HELD, "max_memory_reserved": 3 * HELD,
        "current_stream": _Stream(), "stream": nullcontext(), "cudart": profiler,
        **dict.fromkeys(("synchronize", "empty_cache", "reset_peak_memory_stats", "set_device")),
    }  # fmt: skip
    nvml = FakeNvml(name=NAME, processes=[(os.getpid(), HELD)])
    with ExitStack() as stack:
        fakes: dict[str, Any] = {name: _answer(value) for name, value in answers.items()}
        stack.enter_context(patch.multiple(torch.cuda, **fakes, Event=Event, Stream=_Stream))
        stack.enter_context(patch.object(torch.cuda.nvtx, "range", _answer(nullcontext())))
        stack.enter_context(patch.object(torch.accelerator, "is_available", _answer(value=False)))  # optimizers ask it
        stack.enter_context(patch.multiple(torch, Generator=_Generator, compile=_uncompiled))
        stack.callback(sys.modules.__setitem__, "pynvml", pynvml)
        sys.modules["pynvml"] = nvml  # type: ignore[assignment]
        stack.enter_context(patch.dict(peaks.PRODUCTS, cuda=((256, 256, 256),)))
        stack.enter_context(patch.multiple(peaks, measure=_answer(RATES), stored=_answer(RATES), _keep=_kept))
        stack.enter_context(_OnCPU())
        has_cuda.cache_clear()
        stack.callback(has_cuda.cache_clear)
        yield


def _kept(kind: str, best: Peaks, store: object) -> Peaks:
    return best
