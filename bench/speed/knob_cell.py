"""One setting of the suite `knobs`: it and the setting without its last part make the same videos in turns."""

from functools import partial

import numpy as np
import torch

from bench.hardware.device import emulation_facts
from bench.hardware.memory import MemoryReading, allocator_peaks
from bench.harness.job import Job
from bench.results.records import CellResults, InvalidError, Number
from bench.results.statistics import median_number, ratio
from bench.speed.knob_suite import FVD_LOSS, PLAIN, as_lengths, inexact, parts, with_setting
from bench.videos.generator import Generator
from bench.videos.knobs.context_parallel import on_devices
from bench.videos.knobs.losses import (
    EFFICIENCY,
    FIRED,
    LOSSES,
    NO_CACHE,
    SettingVideos,
    check_exact,
    firing_numbers,
    load,
    losses,
    save,
    scaling,
)
from bench.videos.length_suite import read_prompts
from bench.videos.paired_quality import differences
from vidrd.pocket.world import TEST_SEEDS, caption, draw_scene

WINDOW = 16  # frames that the pocket judge sees at a time


class SettingRun:
    """A setting of the model that makes the cell's videos batch by batch."""

    def __init__(self, job: Job, chosen: list[str]) -> None:
        self.values = with_setting(job.values, chosen)
        self.maker = Generator(self.values)
        self.steps = int(self.values["steps"])
        self.videos: list[np.ndarray] = []
        self.seconds: list[float] = []
        self.laps: list[float] = []
        self.peaks: list[MemoryReading] = []
        self.cold = 0.0

    def warm_up(self, prompts: list[str]) -> None:
        """Two calls of all steps; the first compiles, and MagCache measures before it."""
        if self.maker.cache is not None and not self.maker.cache.calibrated:
            self.maker.cache.calibrate(lambda: self.maker.make(prompts, 0, self.steps))
        self.cold = self.maker.make(prompts, 0, self.steps)[1].seconds["total"]
        self.maker.make(prompts, 0, self.steps)
        self.maker.kept = []

    def make(self, prompts: list[str], first: int) -> None:
        """The next batch."""
        if self.maker.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        videos, cost = self.maker.make(prompts, first, self.steps)
        self.peaks.append(allocator_peaks(self.maker.device)[0])
        self.videos.append(videos)
        self.seconds.append(cost.seconds["total"])
        self.laps += self.maker.stopwatch.laps.get("denoise", ())

    @property
    def made(self) -> SettingVideos:
        """All videos and latents."""
        return SettingVideos(np.concatenate(self.videos), np.concatenate(self.maker.kept or []))


def run(job: Job) -> CellResults:
    """Make the videos both ways in turns, and compare what was made with the plain model's; on all devices it takes.

    Raises:
        InvalidError: the plain model makes other videos the second time, an exact setting computes something else, or a
            step cache never fires.
    """
    return on_devices(as_lengths(job.values), partial(_run, job), Generator)


def _run(job: Job) -> CellResults:
    values, chosen = job.values, parts(str(job.values["setting"]))
    videos, batch, device = int(values["videos"]), int(values["batch"]), str(values["device"])
    prompts = _prompts(job, videos)
    sides, held = [], 0
    for some in (chosen[:-1], chosen):
        held = torch.cuda.memory_allocated() if device == "cuda" else 0  # by the other side
        print("load", flush=True)
        sides.append(SettingRun(job, some))
        print("warm up", flush=True)
        sides[-1].warm_up(prompts[:batch])
    before, after = sides
    for number, first in enumerate(range(0, videos, batch)):
        print(f"videos {first} to {first + batch - 1}", flush=True)
        for side in (before, after) if number % 2 else (after, before):  # A B B A ...
            side.make(prompts[first : first + batch], first)
    numbers, samples, absent = _loss(job, before.made, after.made, chosen)
    if peaks := [each.bytes for each in after.peaks if each.bytes is not None]:
        numbers["allocated_peak"] = Number(float(max(peaks) - held), "bytes", "lower")
    else:
        absent["allocated_peak"] = after.peaks[0].source
    if after.maker.cache is None:
        absent |= dict.fromkeys(FIRED, NO_CACHE)
    else:
        firing = after.maker.cache.count(lambda: after.maker.make(prompts[:batch], 0, after.steps))
        numbers |= firing_numbers(firing, str(after.values["cache"]))
    gain = ratio(before.seconds, after.seconds)
    if after.maker.devices > before.maker.devices == 1:
        numbers["efficiency"] = scaling(gain, after.maker.devices)["efficiency"]
    else:
        absent |= dict.fromkeys(EFFICIENCY, "the last part of this setting adds no devices")
    approximate = [part for part in chosen if inexact(part)]
    return CellResults(
        numbers={
            **numbers,
            "gain": gain,
            "seconds_per_frame": median_number(after.seconds, "s", "lower", per=batch * after.maker.length),
            "step_seconds": median_number(after.laps, "s", "lower"),
            "cold_seconds": Number(after.cold, "s", "lower"),
        },
        samples={
            **samples, "total_seconds": tuple(after.seconds), "before_seconds": tuple(before.seconds),
            "step_seconds": tuple(after.laps),
        },
        absent=absent,
        facts={
            **emulation_facts(str(after.values["precision"]), device),
            "settings": f"approximation: {', '.join(approximate)}" if approximate else "exact",
            "prompts": "\n".join(prompts),
            "threads": str(torch.get_num_threads()),
        },
    )  # fmt: skip


def _prompts(job: Job, videos: int) -> list[str]:
    """The prompts of a file, or the captions that the pocket judge knows."""
    if job.values["model"] == "pocket" and not job.values["prompts"]:
        return [caption(draw_scene(TEST_SEEDS[number])) for number in range(videos)]
    known = read_prompts(str(job.values["prompts"]))
    return [known[number % len(known)] for number in range(videos)]


def _loss(
    job: Job, before: SettingVideos, after: SettingVideos, chosen: list[str]
) -> tuple[dict[str, Number], dict[str, tuple[float, ...]], dict[str, str]]:
    absent = dict.fromkeys(FVD_LOSS, "the pocket model's own captions alone have judges")
    if not chosen:
        if not np.array_equal(before.videos, after.videos):
            raise InvalidError("the plain model made other videos the second time: nothing can be compared with it")
        save(after, job.folder)
        return {}, {}, absent | dict.fromkeys((*LOSSES, *FVD_LOSS), f"this is the {PLAIN} model itself")
    if job.reference is None:
        raise ValueError("a setting is compared with the plain model, and this job names none")
    exact = load(job.reference)
    numbers, samples = losses(exact, after)
    if not any(map(inexact, chosen)):
        check_exact(numbers, chosen, str(job.values["precision"]))
    if job.values["model"] == "pocket" and not job.values["prompts"]:
        if exact.videos.shape[1] < WINDOW or len(exact.videos) < 3:
            absent["fvd_loss"] = f"the judge needs 3 videos of {WINDOW} frames or more"
        else:
            both = differences(exact.videos, after.videos, window=WINDOW)
            of = both.base_fvd
            low, high = both.fvd.low(0.025) / of, both.fvd.high(0.025) / of
            numbers["fvd_loss"] = Number(both.fvd.mean / of, "", "lower", both.fvd.n, low, high)
            del absent["fvd_loss"]
    return numbers, samples, absent
