"""What a profiled computation spends its time on, by stage and kind of layer, and what limits each operator.

    profiler --operators--> seconds, kernels     (torch.profiler, with a range around every layer)
    ledger   --operators--> FLOPs, bytes         (the same work once more, counted; bench.hardware.roofline)
    both, joined by stage, layer and operator -> rows; the ranges are the frames of a flame graph

Nothing here is a timing to compare: the profiler slows everything down. Shares mean something.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile, record_function

from bench.hardware.roofline import Ledger, Op, Peaks, bandwidth

LAYER = "layer: "  # begins the names of the ranges around layers
COMPILED = "_torchdynamo_orig_callable"  # an attribute of what torch.compile made
HOST = "(host)"  # the time of Python and PyTorch between operators
HALF = 0.5  # of an operator's time: from there on it is launching that limits it
TENTH = 0.1  # of the bound: below, neither arithmetic nor memory is what a call waits for


class RowKey(NamedTuple):
    """What rows are told apart by."""

    stage: str
    layer: str  # kind: the class of the module, after that of the one that holds it
    operator: str


@dataclass
class OperatorCost:
    """What one operator of one kind of layer took and needed.

    Args:
        calls: how often the operator was called.
        seconds: on the device.
        launch: seconds of the host for these calls: on a GPU in the operators themselves, on a CPU what as many calls
            take that compute nothing.
        flops, arithmetic: FLOPs, and the seconds that they take at the peak.
        bytes, memory: bytes, likewise.
        kernels: name -> seconds, of what the operator ran.
    """

    calls: int = 0
    seconds: float = 0.0
    launch: float = 0.0
    flops: int = 0
    arithmetic: float = 0.0
    bytes: int = 0
    memory: float = 0.0
    kernels: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float | None:
        """Share of the time that the machine needs at its peaks; None where the work could not be counted."""
        least = max(self.arithmetic, self.memory)
        return least / self.seconds if least and self.seconds else None

    @property
    def limit(self) -> str:
        """What keeps it from being faster; "" where the work is unknown.

        launch gaps: the host needs half of the time or more; latency: a call does too little work to come near a peak;
        arithmetic or memory: whichever takes longer at its peak.
        """
        if self.launch >= HALF * self.seconds:
            return "launch gaps"
        if self.share is None:
            return ""
        if self.share < TENTH:
            return "latency"
        return "arithmetic" if self.arithmetic >= self.memory else "memory"


class Layers:
    """Opens a range around every layer of some networks while it runs, and knows which one is at work.

    Args:
        networks: none of their modules that is compiled, or within one that is, gets a range.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self.path: list[str] = []
        self._networks = list(networks)
        self._open: list[Any] = []

    @property
    def kind(self) -> str:
        """The layer that is at work."""
        return kind_of(self.path)

    @contextmanager
    def ranges(self) -> Iterator[None]:
        """Ranges as long as the body runs."""
        with ExitStack() as stack:
            for network in self._networks:
                for name, module in uncompiled(network, type(network).__name__):
                    hooks = (
                        module.register_forward_pre_hook(lambda *_, name=name: self._enter(name)),
                        module.register_forward_hook(lambda *_: self._leave(), always_call=True),
                    )
                    for hook in hooks:
                        stack.callback(hook.remove)
            yield

    def _enter(self, name: str) -> None:
        self.path.append(name)
        self._open.append(record_function(LAYER + name))
        self._open[-1].__enter__()

    def _leave(self) -> None:
        self._open.pop().__exit__(None, None, None)
        self.path.pop()


def uncompiled(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules that are not compiled, each with a name: its class, after its own name where it has parts and one."""
    if getattr(module, "_compiled_call_impl", None) is not None or hasattr(module.forward, COMPILED):
        return
    yield name, module
    for own, child in module.named_children():
        kind = type(child).__name__
        plain = own.isdigit() or not any(True for _ in child.children())
        yield from uncompiled(child, kind if plain else f"{own} {kind}")


def kind_of(path: list[str]) -> str:
    """The innermost module, after the one that holds it."""
    return " › ".join(path[-2:])


class Needs:
    """What every operator of a computation needs, by stage and layer, counted while it runs.

    Args:
        stage: names the part of the work that is being done.
        layers: whose ranges are open.
        best: the machine's peaks.
    """

    def __init__(self, stage: Callable[[], str], layers: Layers, best: Peaks) -> None:
        self.rows: defaultdict[RowKey, OperatorCost] = defaultdict(OperatorCost)
        self._stage, self._layers, self._best = stage, layers, best

    def run(self, function: Callable[[], object]) -> None:
        """Call the function and count; what is compiled runs as it was written."""
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), Ledger(self._note):
            function()

    def _note(self, op: Op, call: Callable[[], object], inputs: list[Tensor]) -> None:
        row = self.rows[RowKey(self._stage(), self._layers.kind, op.name)]
        dtype = next((str(x.dtype).removeprefix("torch.") for x in inputs if x.is_floating_point()), "float32")
        row.flops += op.flops
        row.arithmetic += op.flops / self._best.flops.get(dtype, self._best.flops["float32"])
        row.bytes += op.bytes
        row.memory += op.bytes / bandwidth(op.bytes, self._best)


def explain(
    profiled: profile, needs: Mapping[RowKey, OperatorCost], *, cuda: bool, call_seconds: float, stages: tuple[str, ...]
) -> tuple[dict[RowKey, OperatorCost], dict[str, Any]]:
    """Rows of all operators, and the flame graph: name -> [seconds, its own flame graph].

    Args:
        profiled: with the ranges of `Layers` and of the stages.
        needs: what was counted of the same work.
        cuda: whether kernels of a GPU were recorded; else operators on the CPU are what takes time.
        call_seconds: of the host, for an operator that computes nothing.
        stages: names of the stages.
    """
    rows: defaultdict[RowKey, OperatorCost] = defaultdict(OperatorCost)
    flame: dict[str, Any] = {}
    known: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for need in needs:
        known[need.stage, need.layer].add(need.operator)
    for event in profiled.events():
        chain = _chain(event)
        stage = next((each.name for each in chain if each.name in stages), "")
        if event.device_type.name != "CPU" or not stage:
            continue
        path = [each.name.removeprefix(LAYER) for each in chain if each.name.startswith(LAYER)]
        operators = [each for each in chain if not _is_range(each, stages)]
        if not operators:
            host = event.self_cpu_time_total / 1e6
            row = rows[RowKey(stage, "", HOST)]
            row.launch += host
            row.seconds += 0.0 if cuda else host
            _add(flame, [stage, *path], 0.0 if cuda else host)
            continue
        layer = kind_of(path)
        top = next((each for each in operators if _plain(each.name) in known[stage, layer]), operators[0])
        row = rows[RowKey(stage, layer, _plain(top.name))]
        ran = {each.name: each.duration / 1e6 for each in event.kernels}
        ran = ran if cuda else {_plain(event.name): event.self_cpu_time_total / 1e6}
        row.kernels.update(ran)
        row.seconds += sum(ran.values())
        if top is event:
            row.calls += 1
            row.launch += event.cpu_time_total / 1e6 if cuda else call_seconds
        _add(flame, [stage, *path, _plain(top.name)], sum(ran.values()))
    for key in rows.keys() & needs.keys():
        row, need_of = rows[key], needs[key]
        row.flops, row.arithmetic = need_of.flops, need_of.arithmetic
        row.bytes, row.memory = need_of.bytes, need_of.memory
    return dict(rows), flame


def _chain(event: FunctionEvent) -> list[FunctionEvent]:
    """The event and all that it is part of, the outermost first."""
    chain = [event]
    while (parent := chain[0].cpu_parent) is not None:
        chain.insert(0, parent)
    return chain


def _is_range(event: FunctionEvent, stages: tuple[str, ...]) -> bool:
    return event.name.startswith(LAYER) or event.name.split(" ")[0] in stages


def _plain(name: str) -> str:
    return name.removeprefix("aten::")


def _add(flame: dict[str, Any], path: list[str], seconds: float) -> None:
    for name in path:
        node = flame.setdefault(name, [0.0, {}])
        node[0] += seconds
        flame = node[1]
