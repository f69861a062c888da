"""One cell of the suite `lengths`: videos of any model, timed as pocket videos are, and measured without judges."""

from dataclasses import replace
from functools import partial

from bench.harness.job import Job
from bench.results.records import CellResults
from bench.videos.cell import Videos, generate
from bench.videos.columns import REAL_MEASURES
from bench.videos.generator import Generator
from bench.videos.knobs.context_parallel import on_devices
from bench.videos.length_suite import REAL, prompts_of
from bench.videos.plan import model_of
from bench.videos.quality import QualityResults, measure_frames
from bench.videos.real_videos import NO_REAL, Comparison, compare, embed_real


def run(job: Job) -> CellResults:
    """Do one cell, on as many devices as it asks for."""
    return on_devices(job.values, partial(_run, job), Generator)


def _run(job: Job) -> CellResults:
    comparison, facts = Comparison.of(job.values), dict[str, str]()
    if comparison is not None and job.values["method"] == REAL:
        return embed_real(comparison, job.folder, job.measures)
    prompts = prompts_of(job.values)

    def judge(made: Videos, seams: list[int], no_seams: str, turned: int) -> QualityResults:
        quality = QualityResults()
        measure_frames(quality, made, seams, no_seams, job.measures, turned=turned)
        if comparison is None or job.reference is None:
            quality.absent |= dict.fromkeys(REAL_MEASURES, NO_REAL)
        else:
            facts.update(compare(quality, made, comparison, job.reference, job.folder))
        return quality

    measured, model = generate(job, prompts, judge), model_of(job.values)
    about = {
        "model": f"{type(model.pipe).__name__}, frames of {_counted(model.rule.every)}, {model.fps:g} frames a second",
        "levels": f"trained on {model.trained}",
        "prompts": "\n".join(prompts),
    }
    return replace(measured, facts={**measured.facts, **about, **facts})


def _counted(every: int) -> str:
    return "the video" if every == 1 else f"the video {every}k+1"
