"""All variants of one ladder in one process: built, checked, counted, then timed in turns.

    build and check each -> rounds: every variant and a matrix product once, in a new random order -> numbers

Variants are compared only within a round, so that other work on the machine affects them alike: the ratio of two
variants is the trimmed mean of the logarithms of their ratios in each round. If a variant fails, the others go on.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
import torch._dynamo
from torch import Tensor

from bench.hardware.device import keep_float32
from bench.hardware.peaks import PRODUCTS, nominal
from bench.hardware.roofline import Op, count
from bench.harness.job import verdict
from bench.results.records import InvalidError, Number
from bench.results.statistics import median_number, ratio
from bench.speed.models import Model
from bench.speed.peak_memory import allocations
from bench.speed.variants import REFERENCE, VARIANTS, ModelOnDevice, Step, Variant
from vidrd.precision import DTYPES

LEAST = 0.05  # seconds of a sample: shorter steps are repeated until they take this long
SHORT = 1.0  # seconds: a step below is run more often before it counts
# Largest error of an output, of the reference's largest value: float32's rounding, and what is no rounding any more
# (guidance multiplies the difference of two answers, and its error, by 10).
TOLERANCES = {"fp32": 1e-4, "bf16": 0.3}
COMPLETE = 0.9  # of the reference's FLOPs: what variants save by reading a clip's text once is less
ATTENTION = ("_scaled_dot_product", "bmm", "baddbmm")  # operators whose FLOPs are attention's own


@dataclass(frozen=True)
class Rounds:
    """How long to measure: `most` rounds, or fewer when `seconds` are over, but never below `least`."""

    most: int = 12
    seconds: float | int = 240.0
    least: int = 6


@dataclass
class VariantResult:
    """The result of a variant: its numbers, or the reason why there are none."""

    status: str = "ok"
    reason: str = ""
    numbers: dict[str, Number] = field(default_factory=dict)
    samples: dict[str, tuple[float, ...]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


@dataclass
class ReadyVariant:
    """A variant that was made, is right, and waits for its turn."""

    variant: Variant
    step: Step
    calls: int  # of the step in one sample
    flops: int  # of one call
    layers: int  # of them outside attention's own products
    cold: float  # seconds of the first call
    error: tuple[float, float] | None  # largest and root mean square error of the output, relative; None: other work
    weights: int  # bytes
    activations: int  # bytes
    seconds: list[float] = field(default_factory=list)  # of a clip's step, one a round


def time_variants(
    model: Model,
    device: str,
    names: Sequence[str],
    rounds: Rounds = Rounds(),
    *,
    seed: int = 0,
    say: Callable[[str], None] = print,
    variants: Mapping[str, Variant] = VARIANTS,
    keep: Callable[[dict[str, VariantResult]], None] = lambda found: None,
) -> dict[str, VariantResult]:
    """Measure the variants of that name, the reference among them, on one model.

    `keep` gets what is known after every round, between the times that are taken.

    Raises:
        ValueError: the reference is not among them, or a variant stands after one that is not.
    """
    needed = {REFERENCE} | {after for name in names if (after := variants[name].after) is not None}
    missing = sorted(needed - {*names})
    if missing:
        raise ValueError(f"a ladder has the variants that its own stand on: add {', '.join(missing)}")
    keep_float32()
    bench = ModelOnDevice(model, device)
    results = {name: VariantResult() for name in names}
    ready: dict[str, ReadyVariant] = {}
    expected: Tensor | None = None
    with torch.no_grad():
        for name in names:
            say(f"make {name}")
            try:
                ready[name], output = prepare(bench, variants[name], expected)
                if name == REFERENCE:
                    expected = output
            except Exception as error:  # compilers and memory fail in many ways, and each is this variant's alone
                results[name] = failure(error)
                if name == REFERENCE:
                    raise

        def current_results(rates: Mapping[str, float]) -> dict[str, VariantResult]:
            current = dict(results)
            for name, runner in ready.items():
                if current[name].status == "ok":
                    current[name] = _variant_result(name, runner, ready, current, rates, device)
            return current

        rates = _take_turns(ready, results, device, rounds, seed, say, lambda rates: keep(current_results(rates)))
    return current_results(rates)


def failure(error: Exception) -> VariantResult:
    """A variant that could not be made or did not end well."""
    return VariantResult(*verdict(error))


def prepare(bench: ModelOnDevice, variant: Variant, expected: Tensor | None) -> tuple[ReadyVariant, Tensor]:
    """Make a variant, run it until it is compiled and warm, check its output, count its work and its memory.

    Raises:
        InvalidError: its output is not that of the reference, nor near it.
    """
    device = bench.device
    if not variant.peer:
        bench.unet(variant.precision)  # its bytes are counted as weights, not as what the variant adds to them
    before = _reset(device)
    runner = variant.make(bench, variant)
    began = perf_counter()
    output = runner.step()
    _wait(device)
    cold = perf_counter() - began
    error = None
    first = output[:1].float().clone()
    if not variant.peer:
        error = (0.0, 0.0) if expected is None else errors(first, expected)
        if not error[0] <= TOLERANCES[variant.precision]:  # NaN is no less than anything
            raise InvalidError(
                f"its output differs from the reference by {error[0]:.2g} of its largest value, "
                f"{TOLERANCES[variant.precision]:g} is rounding"
            )
    elif not bool(torch.isfinite(first).all()):
        raise InvalidError("its output is not finite")
    usual = _timed(runner.step, 1, device)
    if usual < SHORT:
        usual = min(usual, *(_timed(runner.step, 1, device) for _ in range(2)))
    if device == "cuda":
        grown = torch.cuda.max_memory_allocated() - before
        activations = max(0, grown - (runner.weights if variant.peer else 0))
    else:
        activations = allocations(runner.step)
    # A compiled network of ours is counted as it was written: what replays a graph shows no operators.
    written = (
        variant.make(bench, variant._replace(compiled=False)).step
        if variant.compiled and not variant.peer
        else runner.step
    )
    flops, layers = _work(written)
    calls = max(1, math.ceil(LEAST / usual))
    return ReadyVariant(variant, runner.step, calls, flops, layers, cold, error, runner.weights, activations), first


def errors(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """Largest and root mean square difference, each relative to the expected tensor's own."""
    difference = (found - expected).double()
    exact = expected.double()
    largest = float(difference.abs().max() / exact.abs().max())
    return largest, float((difference.square().mean() / exact.square().mean()).sqrt())


def _work(step: Step) -> tuple[int, int]:
    """FLOPs of a step, and those outside attention's own products; what torch.compile made is counted as written."""
    with torch.compiler.set_stance("force_eager"):
        work = count(step)

    def own(op: Op) -> bool:
        return op.name.startswith(ATTENTION)

    return work.flops, work.flops - sum(op.flops for op in work.ops if own(op))


def _take_turns(
    ready: Mapping[str, ReadyVariant],
    results: dict[str, VariantResult],
    device: str,
    rounds: Rounds,
    seed: int,
    say: Callable[[str], None],
    after: Callable[[Mapping[str, float]], None],
) -> dict[str, float]:
    """Time everything once a round and call `after` with the rates so far.

    Returns:
        The fastest matrix product of each precision, FLOP a second.
    """
    precisions = list(dict.fromkeys(runner.variant.precision for runner in ready.values()))
    rates = {precision: MatrixProduct(device, precision) for precision in precisions}
    draw, began, graphs = random.Random(seed), perf_counter(), _graphs()
    for done in range(rounds.most):
        if done >= rounds.least and perf_counter() - began > rounds.seconds:
            break
        say(f"round {done}")
        turns: list[tuple[str, ReadyVariant | MatrixProduct]] = [*ready.items(), *rates.items()]
        draw.shuffle(turns)
        for name, runner in turns:
            if isinstance(runner, MatrixProduct):
                runner.time()
            elif results[name].status == "ok":
                try:
                    seconds = _timed(runner.step, runner.calls, device)
                    runner.seconds.append(seconds / runner.variant.clips)
                except Exception as error:  # as above
                    results[name] = failure(error)
        after({precision: product.rate for precision, product in rates.items()})
    for name, runner in ready.items():
        if runner.variant.compiled and _graphs() != graphs:
            results[name] = VariantResult("invalid", "torch.compile compiled again while the variants were timed")
    return {precision: product.rate for precision, product in rates.items()}


class MatrixProduct:
    """Square matrix products in one precision: the fastest of all their turns is the machine's rate."""

    def __init__(self, device: str, precision: str) -> None:
        self._device, self.rate = device, 0.0
        self._pairs = [
            tuple(torch.randn(rows, rows, device=device).to(DTYPES[precision]) for _ in range(2))
            for rows, inner, columns in PRODUCTS[device]
            if rows == inner == columns
        ]

    def time(self) -> None:
        """A burst of every size."""
        for a, b in self._pairs:
            out = torch.empty_like(a)

            def work(a: Tensor = a, b: Tensor = b, out: Tensor = out) -> Tensor:
                return torch.mm(a, b, out=out)

            usual = min(_timed(work, 1, self._device) for _ in range(3))
            calls = max(1, math.ceil(LEAST / 2 / usual))
            best = min(usual, *(_timed(work, calls, self._device) for _ in range(2)))
            self.rate = max(self.rate, 2 * len(a) ** 3 / best)


def _variant_result(
    name: str,
    runner: ReadyVariant,
    ready: Mapping[str, ReadyVariant],
    results: Mapping[str, VariantResult],
    rates: Mapping[str, float],
    device: str,
) -> VariantResult:
    """The numbers of a variant. One that is faster than the machine is invalid."""
    variant, clips = runner.variant, runner.variant.clips
    flops, layers = runner.flops / clips, runner.layers / clips
    seconds = median_number(runner.seconds, "s", "lower")
    rate = rates[variant.precision]
    faster = flops / min(runner.seconds) > rate
    took = f"a step took {min(runner.seconds):.3g} s, at the matrix product's rate in the same run {flops / rate:.3g} s"
    if faster and (device != "cpu" or flops < COMPLETE * ready[REFERENCE].flops):
        why = "the clock did not wait" if device != "cpu" else "it does not do the reference's arithmetic"
        return VariantResult("invalid", f"{took}: {why}")
    numbers = {
        "step_seconds": seconds,
        "gflop": Number(flops / 1e9, "GFLOP"),
        "gflops": _per(flops / 1e9, seconds, "GFLOP/s"),
        "tflop_seconds": Number(
            seconds.value * 1e12 / flops, "s/TFLOP", "lower", seconds.n,
            *((None, None) if seconds.low is None or seconds.high is None
              else (seconds.low * 1e12 / flops, seconds.high * 1e12 / flops)),
        ),
        "share": _per(100 * flops / rate, seconds, "%"),
        "layer_share": _per(100 * layers / rate, seconds, "%"),
        "rate": Number(rate / 1e9, "GFLOP/s", "higher"),
        "weights": Number(float(runner.weights), "bytes", "lower"),
        "activations": Number(float(runner.activations), "bytes", "lower"),
        "cold_seconds": Number(runner.cold, "s", "lower"),
    }  # fmt: skip
    absent: dict[str, str] = {}
    if faster:  # all FLOPs are there and the output is right: the product is slow at its own shapes on this machine
        for unbounded in ("share", "layer_share", "rate"):
            del numbers[unbounded]
            absent[unbounded] = f"{took}: the product is no bound here"
    if runner.error is None:
        absent |= dict.fromkeys(("error", "error_rms", "speedup", "gain"), "other mathematics than ours: see s/TFLOP")
    else:
        numbers["error"] = Number(runner.error[0], "", "lower")
        numbers["error_rms"] = Number(runner.error[1], "", "lower")
        numbers["speedup"] = ratio(ready[REFERENCE].seconds, runner.seconds)
        before = ready.get(variant.after or "")
        if variant.after is None:
            absent["gain"] = "the first variant adds nothing to another"
        elif before is None or results[variant.after].status != "ok":
            absent["gain"] = f"{variant.after}, to which it adds, was not measured"
        else:
            numbers["gain"] = ratio(before.seconds, runner.seconds)
    known = ready[REFERENCE]
    numbers["flop_speedup"] = ratio(known.seconds, runner.seconds, flops * known.variant.clips / known.flops)
    sheet = nominal(torch.cuda.get_device_name()) if device == "cuda" else {}
    dtype = str(DTYPES[variant.precision]).removeprefix("torch.")
    if dtype in sheet:
        numbers["nominal_share"] = _per(100 * flops / sheet[dtype], seconds, "%")
    else:
        absent["nominal_share"] = "no data sheet of this device is known here"
    facts = {
        "adds": variant.says, "after": variant.after or "nothing", "precision": variant.precision,
        "exact": "yes" if variant.exact else "no", "calls_a_sample": str(runner.calls),
        "threads": str(torch.get_num_threads()), "device": device,
        "activations_by": "torch.cuda.max_memory_allocated, from making it until it is warm"
        if device == "cuda" else "the CPU allocator's events in one step",
    }  # fmt: skip
    return VariantResult("ok", "", numbers, {"step_seconds": tuple(runner.seconds)}, absent, facts)


def _per(amount: float, seconds: Number, unit: str) -> Number:
    ends: tuple[float, float] | tuple[None, None] = (None, None)
    if seconds.low is not None and seconds.high is not None:
        ends = (amount / seconds.high, amount / seconds.low)
    return Number(amount / seconds.value, unit, "higher", seconds.n, *ends)


def _timed(work: Callable[[], Any], calls: int, device: str) -> float:
    """Seconds of a call, of several that the device does one after another without waiting for the host."""
    _wait(device)
    began = perf_counter()
    for _ in range(calls):
        work()
    _wait(device)
    return (perf_counter() - began) / calls


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _reset(device: str) -> int:
    """Bytes that tensors hold on the GPU now; its peak is counted from here on."""
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _graphs() -> int:
    """How many graphs torch.compile has made in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
