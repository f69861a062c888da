"""What measuring costs: the same batch with and without the harness around it, alternately, in one process.

python -m bench.studies.harness_overhead --blocks 15
"""

import random
import statistics
import sys
import time
from collections.abc import Sequence

import tyro

from bench.methods import METHODS
from bench.results.verdicts import Finding, Pair, speed
from bench.suites import SUITES
from bench.videos.generator import Generator
from bench.videos.video_suites import settle
from vidrd.checkpoints import load_pipeline
from vidrd.entry import obey
from vidrd.pocket.world import TEST_SEEDS, caption, draw_scene
from vidrd.sampler_contract import Request

SHARE, SECONDS = 0.01, 0.005  # that are allowed, of a batch's time


def main(blocks: int = 15, batch: int = 2, steps: int = 4, seed: int = 0) -> None:
    """Print how much longer a batch takes when stages and steps are timed and calls recorded.

    Args:
        blocks: Of A B B A.
        batch: Videos.
        steps: Denoising steps.
        seed: Of the order.
    """
    suite = SUITES["gate"]
    values = settle({**suite.fixed, "method": "vidrd", "precision": "fp32", "batch": batch, "steps": steps})
    prompts = [caption(draw_scene(TEST_SEEDS[i])) for i in range(batch)]
    generator, pipe = Generator(values), load_pipeline("pocket")
    method, options = METHODS["vidrd"], METHODS["vidrd"].options(int(values["overlap"]))
    request = Request(generator.frames, generator.clip, pipe.latent_shape, tuple(range(batch)))

    def bare() -> None:
        denoise = pipe.denoiser(prompts, guidance=generator.guidance)
        result = method.sample(
            denoise, pipe.schedule(steps), request, options, device=generator.device, dtype=generator.dtype
        )
        pipe.decode(result.latents, clip=generator.clip)

    def measured() -> None:
        generator.make(prompts, 0, steps)

    lot = random.Random(seed)
    pairs = []
    for work in (bare, measured) * 3:
        work()
    for _ in range(blocks):
        block = [bare, measured] if lot.random() < 0.5 else [measured, bare]
        for order in (block, block[::-1]):
            seconds = {}
            for work in order:
                began = time.perf_counter()
                work()
                seconds[work] = time.perf_counter() - began
            pairs.append(Pair(seconds[bare], seconds[measured]))
    finding = verdict_on(pairs)
    print(f"{finding.verdict}: {finding.base:.3f} s bare, {finding.margin:.2%} are allowed, {finding.reason}")


def verdict_on(pairs: Sequence[Pair]) -> Finding:
    """Whether the harness costs more than is allowed: 1 % of a batch's time or 5 ms, whichever is larger."""
    bare = statistics.median(pair.base for pair in pairs)
    return speed("harness", pairs, margin=max(SHARE, SECONDS / bare))


if __name__ == "__main__":
    sys.exit(obey("bench.studies.harness_overhead", lambda: tyro.cli(main)))
