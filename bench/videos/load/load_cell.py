"""One cell of the suite `load`: batches are measured, or requests are served, simulated or sent to a server."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.harness.job import Job
from bench.harness.suite_spec import Values
from bench.results.records import CellResults, Number, write_atomic
from bench.results.statistics import median_number, trimmed_mean
from bench.videos.length_suite import read_prompts
from bench.videos.load.load_suite import MEASURES, OF_BATCHES, whole
from bench.videos.load.open_loop import LoadOutcome, ServiceTimes, arrivals, run_queue, simulate
from bench.videos.load.video_server import load_endpoint

if TYPE_CHECKING:
    from bench.videos.generator import Generator

SERVICE = "service.json"  # what the cell at rate 0 leaves
REPLICATIONS = 20  # of a simulated queue, each with arrivals of its own
WARM_UP = 2  # batches of a size before those that count
TIMEOUT = 1800.0  # seconds after which a video of a server has failed


def run(job: Job) -> CellResults:
    """Do one cell."""
    values = job.values
    if values["url"]:
        return _elsewhere(values)
    if values["queue"] == "real":
        return _served_here(values)
    return _measure_batches(job) if job.reference is None else _simulated(values, job.reference)


def _measure_batches(job: Job) -> CellResults:
    values = job.values
    generator, load = _load(values)
    make = _maker(generator, values)
    cold = make(0, 1)
    warm = dict[int, list[float]]()
    for size in range(1, int(values["batch"]) + 1):
        for _ in range(WARM_UP):
            make(0, size)
        warm[size] = [make(number, size) for number in range(int(values["repeats"]))]
    service = ServiceTimes(load, cold, warm)
    write_atomic(job.folder / SERVICE, json.dumps(service._asdict()))
    largest = max(warm)
    return CellResults(
        numbers={
            "capacity": Number(service.capacity(), "1/s", "higher", n=len(warm[largest])),
            "single_seconds": median_number(warm[1], "s", "lower"),
            "batch_seconds": median_number(warm[largest], "s", "lower"),
            "cold_seconds": Number(cold, "s", "lower"),
            "load_seconds": Number(load, "s", "lower"),
        },
        samples={f"batch_of_{size}_seconds": tuple(seconds) for size, seconds in warm.items()},
        absent=_absent(set(MEASURES) - set(OF_BATCHES), "no request waits in the cell that measures batches"),
    )


def _simulated(values: Values, reference: Path) -> CellResults:
    known = json.loads((reference / SERVICE).read_text(encoding="utf-8"))
    service = ServiceTimes(known["load"], known["cold"], {int(size): each for size, each in known["warm"].items()})
    seeds = [int(values["seed"]) * REPLICATIONS + number for number in range(REPLICATIONS)]
    runs = [
        simulate(
            _arrivals(values, seed), service, window=float(values["window"]), servers=int(values["concurrency"]),
            cold=values["start"] == "cold", seed=seed,
        )
        for seed in seeds
    ]  # fmt: skip
    results = _results(values, runs)
    absent = {**results.absent, **_absent(OF_BATCHES, "in the row at rate 0")}
    facts = {"queue": f"simulated {REPLICATIONS} times from measured batches; intervals are of those runs"}
    return CellResults(results.numbers, results.samples, absent, facts)


def _served_here(values: Values) -> CellResults:
    """Requests are served when they come; the first batch of a cold start loads the model."""
    loaded: list[Callable[[int, int], float]] = []

    def load() -> None:
        generator, _ = _load(values)
        loaded.append(_maker(generator, values))

    if values["start"] == "warm":
        load()
        for size in range(1, int(values["batch"]) + 1):
            for _ in range(WARM_UP):
                loaded[0](0, size)
    times, began = _arrivals(values, int(values["seed"])), time.monotonic()

    def serve(begin: float, first: int, size: int, _: int) -> float:
        time.sleep(max(0.0, began + begin - time.monotonic()))
        if not loaded:
            load()
        loaded[0](first, size)
        return time.monotonic() - began

    served = run_queue(times, serve, batch=int(values["batch"]), window=float(values["window"]))
    results = _results(values, [served])
    absent = {**results.absent, **_absent(OF_BATCHES, "batches of their own are measured with queue=simulated")}
    return CellResults(results.numbers, results.samples, absent, {"queue": "real, in this process"})


def _elsewhere(values: Values) -> CellResults:
    """Requests go to a server; a warm one was asked for a video before."""
    prompts, url = read_prompts(str(values["prompts"])), str(values["url"])
    size = {"size": f"{values['width']}x{values['height']}"} if values["height"] and values["width"] else {}
    bodies = [
        {"model": values["model"], "prompt": prompts[number % len(prompts)], "num_frames": values["frames"], **size}
        for number in range(int(values["requests"]))
    ]
    if values["start"] == "warm":
        load_endpoint(url, bodies[:1], np.zeros(1), TIMEOUT)
    served, reason = load_endpoint(url, bodies, _arrivals(values, int(values["seed"])), TIMEOUT)
    results = _results(values, [served], failure=reason)
    absent = _absent({*OF_BATCHES, "batch_mean", "busy"}, "what a server does inside is not seen from outside")
    facts = {"queue": f"of {url}"} | ({"failure": reason} if reason else {})
    return CellResults(results.numbers, results.samples, {**results.absent, **absent}, facts)


def _results(values: Values, runs: Sequence[LoadOutcome], failure: str = "") -> CellResults:
    """The numbers of one queue, or of several simulated ones: means of their values, with intervals."""
    slo, absent = float(values["slo"]), dict[str, str]()
    servers = int(values["concurrency"])
    of_each: dict[str, list[float]] = {
        **{f"latency_p{p}": [each.percentile(p) for each in runs] for p in (50, 95, 99)},
        "goodput": [each.goodput(slo) for each in runs],
        "in_time": [100 * float((each.latencies <= slo).mean()) for each in runs],
        "wait": [float(each.waits.mean()) for each in runs],
        "batch_mean": [float(np.mean(each.sizes)) for each in runs if each.sizes],
        "busy": [100 * _busy(each) / servers for each in runs if each.sizes],
    }
    numbers = dict[str, Number]()
    for name, each in of_each.items():
        measure = MEASURES[name]
        if not each:
            continue
        if not np.isfinite(each).all():
            absent[name] = f"so many requests failed, the first one by {failure}"
        elif len(each) == 1:
            numbers[name] = Number(each[0], measure.unit, measure.better, n=len(runs[0].arrivals))
        else:
            mean = trimmed_mean(each, 0.0)
            low, high = mean.low(0.025), mean.high(0.025)
            numbers[name] = Number(mean.mean, measure.unit, measure.better, len(each), low, high)
    latencies = [float(value) for value in runs[0].latencies if np.isfinite(value)]
    return CellResults(numbers, {"latency_seconds": tuple(latencies)}, absent)


def _busy(served: LoadOutcome) -> float:
    """Batches at work, on average until the last one is done."""
    firsts = np.cumsum([0, *served.sizes[:-1]])
    return float((served.ends - served.begins)[firsts].sum() / served.ends.max())


def _arrivals(values: Values, seed: int) -> np.ndarray:
    return arrivals(float(values["rate"]), int(values["requests"]), str(values["arrivals"]), seed)


def _absent(names: Sequence[str] | set[str], reason: str) -> dict[str, str]:
    return dict.fromkeys(names, reason)


def _load(values: Values) -> tuple["Generator", float]:
    """The pipeline, and the seconds of loading it."""
    from bench.videos.generator import Generator  # noqa: PLC0415  (loads torch, which a simulation need not)

    began = time.perf_counter()
    generator = Generator(whole(values))
    return generator, time.perf_counter() - began


def _maker(generator: "Generator", values: Values) -> Callable[[int, int], float]:
    """What makes the videos of so many requests from one on, and returns the seconds that it took."""
    prompts, steps = read_prompts(str(values["prompts"])), int(values["steps"])

    def make(first: int, size: int) -> float:
        texts = [prompts[number % len(prompts)] for number in range(first, first + size)]
        began = time.perf_counter()
        generator.make(texts, first, steps)
        return time.perf_counter() - began

    return make
