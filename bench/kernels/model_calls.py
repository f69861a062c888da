"""The products, convolutions and attentions that a model asks for, as kernels: their shapes come from its own calls.

A kernel's name says its shapes, so that a cell needs no model: "linear 32760x1536x8960" (rows, inputs, outputs),
"attention 2x12x4096x128:512" (queries: batch, heads, length, width; length of keys), and
"conv3d INPUT/WEIGHT/STRIDE/PADDING/GROUPS".
"""

import math
from collections import Counter
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from bench.kernels.implementations import ATTENTION, KERNELS, Inputs, Kernel, Run, draw, eager, plain

MOST = 3  # shapes of each kind, those with the most FLOPs in the model
CONVOLUTIONS: dict[Any, str] = {F.conv1d: "conv1d", F.conv2d: "conv2d", F.conv3d: "conv3d"}


class _Names(TorchFunctionMode):
    """Counts calls by the name of their kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is F.linear:
            x, weight = args[0], args[1]
            self.calls[f"linear {_spelled((x.numel() // x.shape[-1], *reversed(weight.shape)))}"] += 1
        elif func is F.scaled_dot_product_attention:
            query, key = (args[i] if len(args) > i else given[name] for i, name in enumerate(("query", "key")))
            self.calls[f"attention {_spelled(query.shape)}:{key.shape[-2]}"] += 1
        elif func in CONVOLUTIONS:
            x, weight, sides = args[0], args[1], args[0].ndim - 2
            stride, padding, dilation, groups = _options(args[3:], given)
            if dilation == 1 and not isinstance(padding, str):
                every = [[each] * sides if isinstance(each, int) else list(each) for each in (stride, padding)]
                parts = (x.shape, weight.shape, *every, [groups])
                self.calls[f"{CONVOLUTIONS[func]} {'/'.join(map(_spelled, parts))}"] += 1
        return func(*args, **given)


def _options(rest: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, Any, int, int]:
    """Stride, padding, dilation (1: none) and groups of a convolution."""
    names = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    values = {**names, **dict(zip(names, rest, strict=False)), **{name: given[name] for name in names if name in given}}
    dilation = values["dilation"]
    plain_dilation = dilation == 1 or all(each == 1 for each in dilation)
    return values["stride"], values["padding"], 1 if plain_dilation else 2, values["groups"]


def _spelled(numbers: Any) -> str:
    return "x".join(str(int(number)) for number in numbers)


def _read(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("x"))


def names_of(model: str, revision: str = "") -> tuple[str, ...]:
    """The kernels of one guided call of a model's network and of its VAE, the most FLOPs first, `MOST` of each kind.

    Raises:
        ValueError: there is no such model.
    """
    from bench.videos.predict import call_clip  # noqa: PLC0415  (loads diffusers)

    with _Names() as names:
        call_clip(model, revision)
    kinds: dict[str, list[str]] = {}
    for name in sorted(names.calls, key=lambda name: -names.calls[name] * flops(name)):
        kinds.setdefault(name.split()[0], []).append(name)
    return tuple(name for each in kinds.values() for name in each[:MOST])


def flops(name: str) -> int:
    """Of one call, two for a multiply-add."""
    kind, _, shapes = name.partition(" ")
    if kind == "linear":
        return 2 * math.prod(_read(shapes))
    if kind == "attention":
        query, _, keys = shapes.partition(":")
        return 4 * math.prod(_read(query)) * int(keys)
    x, weight, stride, padding, _ = map(_read, shapes.split("/"))
    places = [
        (size + 2 * pad - kernel) // step + 1
        for size, pad, kernel, step in zip(x[2:], padding, weight[2:], stride, strict=True)
    ]
    return 2 * x[0] * math.prod(places) * math.prod(weight)


def described(name: str) -> Kernel:
    """The kernel of that name: one of `KERNELS`, or one whose name says its shapes.

    Raises:
        ValueError: it is no name of a kernel.
    """
    if name in KERNELS:
        return KERNELS[name]
    kind, _, shapes = name.partition(" ")
    try:
        if kind == "linear":
            rows, width, outputs = _read(shapes)
            return Kernel(partial(_linear_inputs, rows, width, outputs), eager(plain(F.linear)))
        if kind == "attention":
            query, _, keys = shapes.partition(":")
            return Kernel(partial(_attention_inputs, _read(query), int(keys)), ATTENTION)
        x, weight, stride, padding, (groups,) = map(_read, shapes.split("/"))
        convolve = {spelled: function for function, spelled in CONVOLUTIONS.items()}[kind]
        run: Run = partial(convolve, stride=stride, padding=padding, groups=groups)
        return Kernel(partial(_convolution_inputs, x, weight), eager(plain(run)))
    except (KeyError, ValueError):
        raise ValueError(f'a kernel is named as in "linear 4096x320x1280": got {name!r}') from None


def _linear_inputs(rows: int, width: int, outputs: int, _: str, generator: torch.Generator) -> Inputs:
    return draw(generator, rows, width), draw(generator, outputs, width) / width**0.5, draw(generator, outputs)


def _attention_inputs(query: tuple[int, ...], keys: int, _: str, generator: torch.Generator) -> Inputs:
    others = (*query[:-2], keys, query[-1])
    return draw(generator, *query), draw(generator, *others), draw(generator, *others)


def _convolution_inputs(x: tuple[int, ...], weight: tuple[int, ...], _: str, generator: torch.Generator) -> Inputs:
    scale: float = math.prod(weight[1:]) ** 0.5
    return draw(generator, *x), draw(generator, *weight) / scale, draw(generator, weight[0])
