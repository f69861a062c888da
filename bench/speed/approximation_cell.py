"""A cell of the suite `approximations`: the same videos made exactly and approximately, and their differences.

Both are made in one process, alternating batch by batch: exactly (DDIM, float32, all steps) and approximately. Times
are compared within each pair of batches, videos within pairs of the same prompt and noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bench.hardware.device import emulation_facts
from bench.harness.job import Job
from bench.results.records import CellResults, InvalidError, Number, Value
from bench.results.statistics import Estimate, median_number, ratio
from bench.speed.approximations import APPROXIMATIONS, EXACT
from bench.videos.generator import Generator
from bench.videos.length_suite import prompts_of
from bench.videos.paired_quality import Differences, differences
from vidrd.approximate import ReusingUNet, fp8_linears
from vidrd.denoiser import GuidedDenoiser
from vidrd.pocket.world import TEST_SEEDS, caption, draw_scene


def generator(name: str, values: Mapping[str, Value]) -> tuple[Generator, int]:
    """The generator of an approximation, and its number of denoising steps."""
    chosen = APPROXIMATIONS[name]
    settings: dict[str, Value] = {**values, "precision": chosen.precision, "noise": "iid", "budget": 0}
    base, steps = Generator(settings), max(1, round(chosen.steps * int(values["steps"])))
    model, bind = base.model, base.model.denoiser
    if chosen.fp8:
        fp8_linears(base.pipe.unet)
    base.solver = chosen.solver
    if chosen.reuse_every > 1:

        def reusing(prompts: Sequence[str], **more: Any) -> GuidedDenoiser:
            bound = bind(prompts, **more)
            return replace(bound, unet=ReusingUNet(bound.unet, chosen.reuse_every, steps))

        model.denoiser = reusing  # type: ignore[method-assign]
    return base, steps


def run(job: Job) -> CellResults:
    """Make the videos both ways and compare them.

    Raises:
        InvalidError: the exact way makes other videos the second time.
    """
    values = job.values
    name, videos, batch = str(values["approximation"]), int(values["videos"]), int(values["batch"])
    ways = {"exact": generator(EXACT, values), "approximate": generator(name, values)}
    judged = values["model"] == "pocket"
    prompts = [caption(draw_scene(TEST_SEEDS[i])) for i in range(videos)] if judged else prompts_of(values)
    videos_by_way: dict[str, list[UInt8[np.ndarray, "B T H W C"]]] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for make, _ in ways.values():
        make.make(prompts[:batch], 0, 2)
    for number, first in enumerate(range(0, videos, batch)):
        for way in list(ways)[:: 1 if number % 2 else -1]:  # A B B A ...
            make, steps = ways[way]
            frames, cost = make.make(prompts[first : first + batch], first, steps)
            videos_by_way[way].append(frames)
            seconds[way].append(cost.seconds["total"])
    exact, other = (np.concatenate(videos_by_way[way]) for way in ("exact", "approximate"))
    if name == EXACT and not np.array_equal(exact, other):
        raise InvalidError("the exact way made other videos the second time: nothing can be compared with it")
    losses = _losses(differences(exact, other, window=int(values["window"]))) if judged else {}
    return CellResults(
        numbers={
            "speedup": ratio(seconds["exact"], seconds["approximate"]),
            "batch_seconds": median_number(seconds["approximate"], "s", "lower"),
            "exact_seconds": median_number(seconds["exact"], "s", "lower"),
            "steps": Number(float(ways["approximate"][1])),
            **losses,
            "pixel_change": Number(_change(exact, other), "", "lower", videos),
        },
        absent={} if judged else dict.fromkeys(LOSSES, "no judge knows the videos of this model"),
        samples={f"{way}_batch_seconds": tuple(each) for way, each in seconds.items()},
        facts={
            **emulation_facts(APPROXIMATIONS[name].precision, str(values["device"])),
            "approximation": APPROXIMATIONS[name].says,
        },
    )


LOSSES = ("fvd_loss", "exact_fvd", "caption_loss")


def _losses(losses: Differences) -> dict[str, Number]:
    return {
        "fvd_loss": _number(losses.fvd, 1),
        "exact_fvd": Number(losses.base_fvd, "", "lower", losses.fvd.n),
        "caption_loss": _number(losses.named, -1),
    }


def _number(loss: Estimate, sign: int) -> Number:
    ends = sorted((sign * loss.low(0.025), sign * loss.high(0.025)))
    return Number(sign * loss.mean, "", "lower", loss.n, *ends)


def _change(a: UInt8[np.ndarray, "N T H W C"], b: UInt8[np.ndarray, "N T H W C"]) -> float:
    return float(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean() / 255)
