"""The suite `load`: a model behind a queue, by arrival rate. `bench serve-load` runs it.

    the cell at rate 0 -> seconds of loading, of a cold batch and of warm ones, by size     (measured)
    every other cell   -> latencies and goodput at its rate                                 (simulated from those)

With queue=real a cell serves its requests when they come; with a URL a server elsewhere does.
"""

from collections.abc import Mapping

from bench.hardware.device import named_device
from bench.harness.suite_spec import Measure, Suite, Values
from bench.methods import METHODS
from bench.results.records import Value
from bench.videos import length_suite
from bench.videos.length_suite import SOLVERS
from bench.videos.load.open_loop import SHAPES
from vidrd.precision import PRECISIONS

# What a cell of `lengths` also has, and requests of a server have not.
REST: Mapping[str, Value] = {
    "negative": "", "equal": "steps", "noise": "iid", "budget": 0, "real": "", "weights": "", "protocol": "clean",
    "compat": "paper", "positions": "trained", "overlap": 0,
}  # fmt: skip
QUIET: Mapping[str, Value] = {  # of the cell that measures batches
    "rate": 0.0, "arrivals": "poisson", "start": "warm", "window": 0.0, "concurrency": 1, "requests": 0, "slo": 0.0,
    "queue": "simulated",
}  # fmt: skip
ELSEWHERE: Mapping[str, Value] = {  # what a server decides for itself
    "batch": 1, "window": 0.0, "concurrency": 1, "queue": "real", "device": "cpu", "precision": "fp32", "steps": 1,
    "guidance": 0.0, "clip": 0, "repeats": 1, "method": "direct", "solver": "ddim", "revision": "",
}  # fmt: skip

MEASURES: dict[str, Measure] = {
    "latency_p50": Measure("p50", "s", "lower", "cost", "Median of the seconds from a request's arrival to its video."),
    "latency_p95": Measure("p95", "s", "lower", "cost", "Of 20 requests, 19 take no longer."),
    "latency_p99": Measure("p99", "s", "lower", "cost", "Of 100 requests, 99 take no longer."),
    "goodput": Measure(
        "goodput", "1/s", "higher", "cost", "Videos a second that came within `slo` seconds of their arrival."
    ),
    "in_time": Measure("in time", "%", "higher", "cost", "Share of the requests that came within `slo` seconds."),
    "wait": Measure("wait", "s", "lower", "cost", "Mean seconds from the arrival until the batch began."),
    "batch_mean": Measure("batch", "", None, "cost", "Mean videos of a batch."),
    "busy": Measure("busy", "%", None, "cost", "Share of the time in which the pipelines work."),
    "capacity": Measure("capacity", "1/s", "higher", "cost", "Videos a second in full batches, one after the other."),
    "single_seconds": Measure("1 video", "s", "lower", "cost", "Of a warm batch of one: median of the repeats."),
    "batch_seconds": Measure("full batch", "s", "lower", "cost", "Of a warm batch of the largest size: median."),
    "cold_seconds": Measure("cold s", "s", "lower", "cost", "Of the very first batch, of one video."),
    "load_seconds": Measure("load s", "s", "lower", "cost", "From weights to a pipeline."),
}  # fmt: skip
OF_BATCHES = ("capacity", "single_seconds", "batch_seconds", "cold_seconds", "load_seconds")


def whole(values: Values) -> dict[str, Value]:
    """The values of the videos, as a cell of `lengths` has them."""
    return {**REST, **values, "videos": values["batch"]}


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device; of a server elsewhere, leave out what it decides for itself."""
    if values["url"]:
        return {**values, **ELSEWHERE}
    return {**values, "device": named_device(values["device"])}


def fill(values: dict[str, Value]) -> dict[str, Value]:
    """Set what is left out to the model's own."""
    if values["url"]:
        return values
    filled = length_suite.fill(whole(values))
    return {name: value for name, value in filled.items() if name in values or name == "inputs"}


def reference(values: Values) -> dict[str, Value] | None:
    """The cell that measures batches, where the queue is simulated."""
    return None if values["queue"] == "real" or not values["rate"] else {**values, **QUIET}


def skip(values: Values) -> str | None:
    """Why it cannot be."""
    if values["url"]:
        return None
    if values["queue"] == "real" and int(values["concurrency"]) > 1:
        return "one pipeline serves one batch at a time: take queue=simulated for several, or the URL of a server"
    return length_suite.skip(whole(values))


def cost(values: Values) -> float:
    """Videos that are made."""
    if values["queue"] == "real":
        return float(values["requests"])
    batch = int(values["batch"])
    return 0.01 if values["rate"] else float(1 + int(values["repeats"]) * batch * (batch + 1) // 2)


LOAD_SUITE = Suite(
    question="How long do requests wait for a model's videos, and how many come in time, by the rate of arrivals?",
    workload="load",
    axes={"arrivals": tuple(SHAPES), "start": ("warm", "cold"), "rate": (0.25, 0.5, 1.0, 2.0)},
    fixed={
        "url": "",  # of a server that speaks OpenAI's protocol of videos; "": a model in this process
        "model": "pocket",  # preset, folder, repository at `revision`, tiny:PIPELINE; or a name that the server knows
        "revision": "",
        "prompts": "",  # a file with one prompt a line, taken in turn
        "frames": 16,
        "method": "direct",
        "steps": 20,
        "precision": "fp32",
        "solver": "ddim",
        "guidance": 0.0,  # 0: the model's own
        "clip": 0,
        "height": 0,  # pixels; 0: the model's own
        "width": 0,
        "device": "auto",
        "batch": 4,  # requests that are served together, at most
        "window": 0.0,  # seconds that the first of them waits for more
        "concurrency": 1,  # pipelines side by side
        "requests": 200,
        "slo": 10.0,  # seconds within which a video counts as goodput
        "queue": "simulated",  # from measured batches; or real, in real time
        "repeats": 3,  # batches of each size that are measured
        "seed": 0,
    },
    measures=MEASURES,
    group="model",
    headlines=("latency_p50", "latency_p95", "latency_p99", "goodput"),
    allowed={
        "arrivals": tuple(SHAPES),
        "start": ("warm", "cold"),
        "method": tuple(METHODS),
        "precision": tuple(PRECISIONS),
        "solver": SOLVERS,
        "device": ("auto", "cpu", "cuda"),
        "queue": ("simulated", "real"),
    },
    least={"rate": 0.0001, "frames": 1, "steps": 1, "batch": 1, "concurrency": 1, "requests": 1, "repeats": 1},
    settle=settle,
    fill=fill,
    reference=reference,
    among=lambda values: True,
    skip=skip,
    cost=cost,
    alone=True,
    timeout=3600,
)
