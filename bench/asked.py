"""What the networks of a pipeline were asked for, and the least time that this takes: the bound beside every speed."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.measure.peaks import peaks
from bench.measure.physics import Bound, Peaks, Work, bound, count
from bench.worker import InvalidError

STAGES = {"text": ("text_encoder", "forward"), "denoise": ("unet", "forward"), "decode": ("vae", "decode")}


class Asked:
    """Counts the calls of a pipeline's networks by what they were given: the shapes decide how much work a call is.

    Noting a call takes some microseconds; nothing is computed until `bounds`.
    """

    def __init__(self, pipe: Any) -> None:
        self.calls: dict[str, Counter[Any]] = {}
        self._modules: dict[str, tuple[nn.Module, str]] = {}
        for stage, (part, method) in STAGES.items():
            module = getattr(pipe, part, None)
            if isinstance(module, nn.Module):
                self.calls[stage] = Counter()
                self._modules[stage] = (module, method)
                self._watch(stage, module, method)

    def clear(self) -> None:
        """Forget all calls."""
        for calls in self.calls.values():
            calls.clear()

    def _watch(self, stage: str, module: nn.Module, method: str) -> None:
        original: Callable[..., Any] = getattr(module, method)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.calls[stage][_key(args, kwargs)] += 1
            return original(*args, **kwargs)

        noted.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        setattr(module, method, noted)

    def work(self) -> dict[str, list[tuple[int, Work]]]:
        """Stage -> (how many calls, the work of one), counted on copies without weights.

        A stage whose network asks for the values of its tensors cannot be counted, and is left out.
        """
        found: dict[str, list[tuple[int, Work]]] = {}
        for stage, (module, method) in self._modules.items():
            noted = module.__dict__.pop(method)  # a copy must not note, nor copy what notes
            try:
                twin = copy.deepcopy(module).to("meta")
                calls = self.calls[stage].items()
                found[stage] = [(times, _count(getattr(twin, method), key)) for key, times in calls]
            except (NotImplementedError, RuntimeError):
                continue
            finally:
                setattr(module, method, noted)
        return found


def _key(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    return (tuple(map(_spec, args)), tuple(sorted((name, _spec(value)) for name, value in kwargs.items())))


def _spec(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ("tensor", tuple(value.shape), value.dtype)
    return value if isinstance(value, bool | int | float | str) or value is None else ("other", type(value).__name__)


def _count(function: Callable[..., Any], key: tuple[Any, ...]) -> Work:
    args, kwargs = key
    return count(lambda: function(*map(_meta, args), **{name: _meta(value) for name, value in kwargs}))


def _meta(spec: Any) -> Any:
    if isinstance(spec, tuple) and spec[0] == "tensor":
        return torch.empty(spec[1], dtype=spec[2], device="meta")
    return spec


def stage_bounds(work: Mapping[str, list[tuple[int, Work]]], best: Peaks, dtype: str) -> dict[str, Bound]:
    """The bounds of all calls of each stage."""
    found = {}
    for stage, calls in work.items():
        each = [(times, bound(one, best, dtype)) for times, one in calls]
        found[stage] = Bound(*(sum(times * limit[i] for times, limit in each) for i in range(3)))
    return found


def shares(
    work: Mapping[str, list[tuple[int, Work]]], seconds: Mapping[str, float], *, device: str, dtype: str
) -> dict[str, float]:
    """Share of each stage's time that the machine at its peaks would need for it, in (0, 1].

    Raises:
        InvalidError: a stage was faster than the machine can be, also after its peaks were measured once more.
    """
    if not work:
        return {}
    for again in (False, True):
        limits = stage_bounds(work, peaks(device, again=again), dtype)
        found = {stage: limit.ideal / seconds[stage] for stage, limit in limits.items() if limit.ideal}
        if max(found.values(), default=0.0) <= 1:
            return found
    stage = max(found, key=found.__getitem__)
    raise InvalidError(
        f"{stage} took {seconds[stage]:.3g} s, at the measured peaks of this machine it takes {limits[stage].ideal:.3g}"
        " s: work was skipped, or the clock did not wait for it"
    )
