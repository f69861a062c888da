"""The work of a computation, counted on the meta device, and the least time that a machine needs for it.

    work = count(lambda: unet(latents, timestep, context))      # nothing is computed, a full-size U-Net takes seconds
    bound(work, peaks).ideal                                    # seconds that no implementation can beat

FLOPs are PyTorch's own counts (two a multiply-add). Bytes of an operator are those of its distinct inputs and outputs.
This file needs nothing but torch, so that a gate can use one version of it on two revisions.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

UNCACHED = 2**27  # bytes that no cache holds


class Op(NamedTuple):
    """One call of one operator. Its FLOPs are 0 unless it is a product, a convolution or an attention."""

    name: str
    flops: int
    bytes: int


@dataclass(frozen=True)
class Work:
    """The work of a computation.

    Args:
        ops: every operator that computes or moves something, in order; views are none.
        flops: their sum by PyTorch's FlopCounterMode.
        peak_bytes: the most that tensors made by the computation held at one time; inputs and weights not counted.
        held_bytes: bytes that its tensors still hold when it has ended and its result is dropped: a leak, or a cache.
    """

    ops: tuple[Op, ...]
    flops: int
    peak_bytes: int
    held_bytes: int


class Peaks(NamedTuple):
    """The highest rates that were measured on a machine.

    Args:
        flops: floating-point operations a second of a large matrix product, by dtype ("float32", "bfloat16", ...).
        memory: bytes a second of a copy far larger than any cache, reads and writes counted.
        cache: bytes a second of the fastest copy of any size; at least `memory`.
    """

    flops: Mapping[str, float]
    memory: float
    cache: float


class Bound(NamedTuple):
    """Seconds that a computation takes at the peaks of a machine.

    Args:
        ideal: no implementation is faster: the operators with FLOPs one after another, each at the peak of arithmetic
            or of the fastest copy, whichever takes longer; all others free, as if fused into them.
        eager: operator by operator, everything read from and written to main memory. An implementation that fuses, or
            whose tensors stay in a cache, may be faster.
        arithmetic: FLOPs alone.
    """

    ideal: float
    eager: float
    arithmetic: float


def count(function: Callable[[], Any]) -> Work:
    """Run a function once and count its work. On meta tensors nothing is computed.

    Attention is counted as one operator that keeps its scores to itself, as the fused kernels do. What the function
    returns is dropped.
    """
    ledger = Ledger()
    with torch.no_grad(), _FusedAttention(), FlopCounterMode(display=False) as counter, ledger:
        function()
    gc.collect()
    storages = ledger.storages
    return Work(tuple(ledger.ops), counter.get_total_flops(), storages.peak, storages.held())


def bandwidth(moved: int, best: Peaks) -> float:
    """Bytes a second of a copy of so many: what fits no cache goes to memory."""
    return best.memory if moved >= UNCACHED else best.cache


def bound(work: Work, peaks: Peaks, dtype: str) -> Bound:
    """The least seconds for the work at these peaks.

    Raises:
        ValueError: the peak of this dtype was not measured.
    """
    if dtype not in peaks.flops:
        raise ValueError(f"no peak was measured for {dtype}: there are {', '.join(peaks.flops)}")
    speed = peaks.flops[dtype]
    return Bound(
        ideal=sum(max(op.flops / speed, op.bytes / peaks.cache) for op in work.ops if op.flops),
        eager=sum(max(op.flops / speed, op.bytes / peaks.memory) for op in work.ops),
        arithmetic=work.flops / speed,
    )


class Probe:
    """Runs a computation once more on its real tensors, and times its operators one by one.

    Every operator with FLOPs is counted under the name that `stage` returns at that moment. The first operator of each
    kind and shape is repeated and timed: its rate is what the machine can reach, whatever its peaks say.

    Args:
        stage: names the part of the work that is being done.
        fastest: seconds of one call of a function, the best of some.
    """

    def __init__(self, stage: Callable[[], str], fastest: Callable[[Callable[[], object]], float]) -> None:
        self.flops: Counter[str] = Counter()
        self._flop_rates: dict[str, float] = {}
        self._byte_rate = 0.0
        self._stage, self._fastest = stage, fastest
        self._timed: set[Any] = set()

    def run(self, function: Callable[[], object]) -> None:
        """Call the function and time its operators."""
        with torch.no_grad(), Ledger(self._note):
            function()

    @property
    def rates(self) -> Peaks:
        """The rates of the fastest operators: FLOPs a second by dtype, and bytes a second; `memory` is 0, unknown."""
        return Peaks(self._flop_rates, 0.0, self._byte_rate)

    def _note(self, op: Op, call: Callable[[], object], inputs: list[Tensor]) -> None:
        if not op.flops:
            return
        self.flops[self._stage()] += op.flops
        key = (op.name, op.flops, *((tuple(x.shape), x.stride(), x.dtype) for x in inputs))
        if key in self._timed:
            return
        self._timed.add(key)
        seconds = self._fastest(call)
        dtype = str(next(x.dtype for x in inputs if x.is_floating_point())).removeprefix("torch.")
        self._flop_rates[dtype] = max(self._flop_rates.get(dtype, 0.0), op.flops / seconds)
        self._byte_rate = max(self._byte_rate, op.bytes / seconds)


class _FusedAttention(TorchFunctionMode):
    """On meta tensors attention would be taken apart into products and a softmax; keep it whole."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            given = {**dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)), **kwargs}
            query, key, value = given["query"], given["key"], given["value"]
            whole = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            masked = isinstance(given.get("attn_mask"), Tensor)
            if query.is_meta and value.shape[-1] == query.shape[-1] and not masked:
                return whole(query, key, value)[0]
        return func(*args, **kwargs)


class LiveStorages:
    """The storages that operators made and that are still held. Storages that operators only read do not count.

    Attributes:
        peak: the most bytes that were held at one time.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._inputs: dict[int, StorageWeakRef] = {}  # a weak reference also keeps the address from being used again

    def follow(self, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
        """Note the tensors of one operator, all of which are still alive."""
        for tensor in inputs:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._live and storage._cdata not in self._inputs:
                self._inputs[storage._cdata] = StorageWeakRef(storage)
        grown = False
        for tensor in outputs:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._inputs and storage._cdata not in self._live:
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                grown = True
        if grown:
            self.peak = max(self.peak, self.held())

    def held(self) -> int:
        """Bytes that are held now."""
        self._live = {key: (weak, size) for key, (weak, size) in self._live.items() if not weak.expired()}
        return sum(size for _, size in self._live.values())


class Ledger(TorchDispatchMode):
    """Lists every operator that computes or moves something.

    Args:
        note: is called with each of them, a function that repeats it, and its inputs.
    """

    def __init__(self, note: Callable[[Op, Callable[[], object], list[Tensor]], None] | None = None) -> None:
        super().__init__()
        self._note = note
        self.ops: list[Op] = []
        self.storages = LiveStorages()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in flop_registry and func._overloadpacket not in flop_registry:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not _is_view(func):
            self.ops.append(self._op(func, args, kwargs, out, inputs, outputs))
            if self._note is not None:
                self._note(self.ops[-1], lambda: func(*args, **kwargs), inputs)
        self.storages.follow(inputs, outputs)
        return out

    def _op(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Any,
        inputs: list[Tensor],
        outputs: list[Tensor],
    ) -> Op:
        formula = flop_registry.get(func._overloadpacket)
        flops = int(formula(*args, **kwargs, out_val=out)) if formula else 0
        name = str(func._overloadpacket).removeprefix("aten.")
        if name.startswith("empty"):
            return Op(name, 0, 0)
        tensors = {(tensor.data_ptr() if not tensor.is_meta else id(tensor), tensor.shape): tensor for tensor in inputs}
        return Op(name, flops, sum(map(_size, tensors.values())) + sum(map(_size, outputs)))


def _is_view(func: Any) -> bool:
    """Whether the operator only reinterprets its input and moves no bytes."""
    returns = func._schema.returns
    if func._overloadpacket is torch.ops.aten._unsafe_view:  # a view that its schema does not call one
        return True
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _size(tensor: Tensor) -> int:
    """Bytes that reading or writing the tensor moves: repeated values of an expanded one move once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
