"""The calls that a pipeline makes to its networks, and the least time that they take: the bound next to every speed."""

import copy
import inspect
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.hardware.peaks import PROBED, fastest, peaks, raised
from bench.hardware.roofline import Bound, Peaks, Probe, Work, bound, count
from bench.results.records import InvalidError

STAGES = {"text": ("text_encoder", "forward"), "denoise": ("unet", "forward"), "decode": ("vae", "decode")}
ADDED = {
    "forward",
    "_compiled_call_impl",
    "_diffusers_hook",
    "_hf_hook",
    "_old_forward",
    "_parallel_config",
}  # to modules
COMPLETE = 0.99  # of the FLOPs that calls ask for: kernels may count the edges of a padded operation otherwise


class CallRecorder:
    """Counts the calls of a pipeline's networks by their arguments, whose shapes decide how much work a call is.

    Recording a call takes some microseconds; the work of the calls is counted only in `work`.
    """

    def __init__(self, pipe: Any, more: Mapping[str, str] = {}) -> None:  # other parts of the pipeline -> their stage
        self.calls: dict[str, Counter[Any]] = {}
        self._modules: dict[str, list[tuple[nn.Module, str]]] = {}
        self._stage = ""  # whose network is at work
        parts = [(stage, *part) for stage, part in STAGES.items()]
        known = {part for _, part, _ in parts}
        parts += [(stage, part, STAGES[stage][1]) for part, stage in more.items() if part not in known]
        for stage, part, method in parts:
            module = getattr(pipe, part, None)
            if isinstance(module, nn.Module):
                self.calls.setdefault(stage, Counter())
                self._watch(stage, module, method)
                self._modules.setdefault(stage, []).append((module, method))

    def clear(self) -> None:
        """Forget all calls."""
        for calls in self.calls.values():
            calls.clear()

    def _watch(self, stage: str, module: nn.Module, method: str) -> None:
        original: Callable[..., Any] = getattr(module, method)
        number = len(self._modules.get(stage, ()))  # of the stage's networks

        def recording(*args: Any, **kwargs: Any) -> Any:
            self.calls[stage][(number, *_key(args, kwargs))] += 1
            self._stage = stage
            try:
                return original(*args, **kwargs)
            finally:
                self._stage = ""

        recording.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        setattr(module, method, recording)

    def work(self) -> dict[str, list[tuple[int, Work]]]:
        """Stage -> (how many calls, the work of one), counted on copies without weights.

        A stage whose network asks for the values of its tensors cannot be counted, and is left out.
        """
        work: dict[str, list[tuple[int, Work]]] = {}
        for stage, modules in self._modules.items():
            try:
                work[stage] = [
                    each for number, module in enumerate(modules) for each in self._work_of(stage, number, *module)
                ]
            except (NotImplementedError, RuntimeError):
                continue
        return work

    def _work_of(self, stage: str, number: int, module: nn.Module, method: str) -> list[tuple[int, Work]]:
        """The calls of one of a stage's networks."""
        recording = module.__dict__.pop(method)  # a copy must neither record calls nor copy the recorder
        try:
            twin = _as_written(module)
        finally:
            setattr(module, method, recording)
        calls = [(key[1:], times) for key, times in self.calls[stage].items() if key[0] == number]
        return [(times, _count(getattr(twin, method), key)) for key, times in calls]

    def probe(self, make: Callable[[], object], device: str) -> Probe:
        """Run `make` once more, each operator of the networks timed and counted by stage."""
        probe = Probe(lambda: self._stage, lambda call: fastest(call, device, PROBED))
        probe.run(make)
        return probe


def _as_written(module: nn.Module) -> nn.Module:
    """A copy on the meta device without what was added to the module: compiled calls, hooks, offloading, ranks."""
    left_out: dict[int, Any] = {
        id(part.__dict__[name]): None
        for part in module.modules()
        for name in ADDED
        if part.__dict__.get(name) is not None
    }
    for part in module.modules():
        left_out |= {id(hooks): OrderedDict() for hooks in (part._forward_hooks, part._forward_pre_hooks)}
    tensors = {
        id(each): nn.Parameter(torch.empty(each.shape, dtype=each.dtype, device="meta"), requires_grad=False)
        for each in module.parameters()
    }
    twin = copy.deepcopy(module, memo={**left_out, **tensors})
    for part in twin.modules():
        for name in ADDED & part.__dict__.keys():
            del part.__dict__[name]
        processor: Any = getattr(part, "processor", None)
        if hasattr(processor, "_attention_backend"):
            processor._attention_backend = None
    return twin.to("meta")


def _key(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    return (tuple(map(_spec, args)), tuple(sorted((name, _spec(value)) for name, value in kwargs.items())))


def _spec(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ("tensor", tuple(value.shape), value.dtype)
    if isinstance(value, list | tuple):
        return ("several", tuple(map(_spec, value)))
    return value if isinstance(value, bool | int | float | str) or value is None else ("other", type(value).__name__)


def _count(function: Callable[..., Any], key: tuple[Any, ...]) -> Work:
    args, kwargs = key
    return count(lambda: function(*map(_meta, args), **{name: _meta(value) for name, value in kwargs}))


def _meta(spec: Any) -> Any:
    if isinstance(spec, tuple) and spec[0] == "tensor":
        return torch.empty(spec[1], dtype=spec[2], device="meta")
    if isinstance(spec, tuple) and spec[0] == "several":
        return tuple(map(_meta, spec[1]))
    return spec


def stage_bounds(work: Mapping[str, list[tuple[int, Work]]], best: Peaks, dtype: str) -> dict[str, Bound]:
    """Stage -> the sum of the bounds of all its calls, in seconds."""
    bounds = {}
    for stage, calls in work.items():
        each = [(times, bound(one, best, dtype)) for times, one in calls]
        bounds[stage] = Bound(*(sum(times * limit[i] for times, limit in each) for i in range(3)))
    return bounds


def roofline_shares(
    recorder: "CallRecorder",
    seconds: Mapping[str, float],
    *,
    device: str,
    dtype: str,
    batches: int,
    make: Callable[[], object],
    devices: Mapping[str, int] | None = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Share of each stage's time that the machine would need at its peaks, in (0, 1], or why there is none.

    A stage that was faster than the peaks allow makes them doubtful: they are measured once more, and then lifted to
    what the stage's own operators reach, one by one, in one more batch. That batch also shows whether all FLOPs are
    computed that the calls ask for.

    Args:
        recorder: counted the calls of all batches.
        seconds: of each stage, all batches together.
        device: "cpu" or "cuda".
        dtype: of the arithmetic: "float32", "bfloat16", ...
        batches: how many there were, all alike.
        make: makes one more batch.
        devices: by stage, how many share its work; 1 if not given.

    Raises:
        InvalidError: a stage was faster than the machine can be because it left arithmetic out; or, on a GPU, although
            it computed everything: then the clock did not wait for it.
    """
    shared = dict.fromkeys(seconds, 1) | dict(devices or {})
    seconds = {stage: shared[stage] * each for stage, each in seconds.items()}  # of all devices together
    work = recorder.work()
    for measure in (peaks, partial(peaks, again=True)):
        limits = stage_bounds(work, measure(device), dtype)
        if not (fast := _faster(limits, seconds)):
            return _shares(limits, seconds), {}
    probe = recorder.probe(make, device)
    for stage in fast:
        needed = sum(times * one.flops for times, one in work[stage]) / batches
        computed = probe.flops[stage] * shared[stage]  # a probe sees the share of one
        if computed < COMPLETE * needed:
            raise InvalidError(
                f"{stage} took {seconds[stage]:.3g} s, at this machine's peaks it takes {limits[stage].ideal:.3g} s: a "
                f"batch computes {computed / 1e9:.3g} GFLOP of the {needed / 1e9:.3g} that its calls ask for"
            )
    limits = stage_bounds(work, raised(device, probe.rates), dtype)
    fast = _faster(limits, seconds)
    if fast and device != "cpu":
        raise InvalidError(
            f"{fast[0]} took {seconds[fast[0]]:.3g} s, its own operators one by one take {limits[fast[0]].ideal:.3g} "
            "s: the clock did not wait for the GPU"
        )
    doubtful = {
        stage: f"it took {seconds[stage]:.3g} s, computed all its FLOPs, and takes {limits[stage].ideal:.3g} s at the "
        "peaks measured on this machine: they are too low"
        for stage in fast
    }
    return {stage: share for stage, share in _shares(limits, seconds).items() if stage not in doubtful}, doubtful


def _shares(limits: Mapping[str, Bound], seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: limit.ideal / seconds[stage] for stage, limit in limits.items() if limit.ideal}


def _faster(limits: Mapping[str, Bound], seconds: Mapping[str, float]) -> list[str]:
    """The stages that took less than the machine needs at its peaks, the fastest first."""
    shares = _shares(limits, seconds)
    return sorted((stage for stage, share in shares.items() if share > 1), key=lambda stage: -shares[stage])
