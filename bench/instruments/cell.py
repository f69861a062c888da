"""One cell of the suite `instruments`: clean and damaged videos of the same scenes, through every gauge."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from bench.harness.job import Job
from bench.instruments.damages import DAMAGES
from bench.instruments.gauges import GAUGES, OF_SETS, OF_VIDEOS, Seen, look, of_set, of_videos
from bench.instruments.instrument_suite import SIZES
from bench.results.records import CellResults, Number
from vidrd.pocket.world import TEST_SEEDS, draw_scene, render

DRAWS = 20  # of subsets of each size, for the gauges of sets
CERTAIN = 1.96  # standard errors


def run(job: Job) -> CellResults:
    """Which gauges tell damaged from clean video, from how many videos, and in which direction they move."""
    name, strength = str(job.values["damage"]), float(job.values["strength"])
    videos, frames, seed = (int(job.values[key]) for key in ("videos", "frames", "seed"))
    rng = np.random.default_rng([seed, list(DAMAGES).index(name), round(1000 * strength)])
    real_scenes, scenes = (
        [draw_scene(TEST_SEEDS[first + i]) for i in range(videos)] for first in (10_000 * seed, 10_000 * seed + 5_000)
    )
    clean, damaged = render(scenes, frames), DAMAGES[name].apply(scenes, frames, strength, rng)
    captions = list(scenes)
    if name == "wrong caption":
        wrong = round(strength * videos)
        captions[:wrong] = np.roll(np.array(captions[:wrong], dtype=object), 1).tolist()
    real_seen, clean_seen, damaged_seen = (look(videos) for videos in (render(real_scenes, frames), clean, damaged))
    effects = effects_of(of_videos(clean, scenes, clean_seen), of_videos(damaged, captions, damaged_seen))
    told = {gauge: fewest(effect) for gauge, effect in effects.items()}
    of_sets, directions = told_of_sets(real_seen, clean_seen, damaged_seen, rng)
    told |= of_sets
    directions |= {gauge: float(np.sign(effect)) for gauge, effect in effects.items()}
    return CellResults(
        numbers={gauge: Number(float(n), "videos", "lower") for gauge, n in told.items() if n is not None},
        absent={g: f"not told from clean video with {SIZES[-1]}" for g in GAUGES if told[g] is None},
        facts={
            f"{gauge} takes it for": verdict(gauge, directions[gauge]) for gauge in GAUGES if told[gauge] is not None
        },
    )


def effects_of(
    clean: Mapping[str, Float[np.ndarray, " N"]], damaged: Mapping[str, Float[np.ndarray, " N"]]
) -> dict[str, float]:
    """Difference of means over its standard deviation for one video a side: times root n it is the z of n videos."""
    effects = {}
    for gauge in OF_VIDEOS:
        change = float(damaged[gauge].mean() - clean[gauge].mean())
        spread = float(np.sqrt(damaged[gauge].var(ddof=1) + clean[gauge].var(ddof=1)))
        effects[gauge] = change / spread if spread > 0 else float(np.sign(change)) * np.inf if change else 0.0
    return effects


def fewest(effect: float) -> int | None:
    """The smallest size at which an effect is certain, or None."""
    return next((n for n in SIZES if abs(effect) * np.sqrt(n) > CERTAIN), None)


def told_of_sets(
    real: Seen, clean: Seen, damaged: Seen, rng: np.random.Generator
) -> tuple[dict[str, int | None], dict[str, float]]:
    """Per gauge of sets the smallest size at which damaged video leaves the spread of clean video; and directions.

    The spread is that of random subsets; of all videos there is one set, and its spread is that of the size before,
    less by the root of the ratio.
    """
    told: dict[str, int | None] = dict.fromkeys(OF_SETS)
    directions, spread = dict.fromkeys(OF_SETS, 0.0), dict.fromkeys(OF_SETS, 0.0)
    total, before = len(real.i3d), 0
    for n in (size for size in SIZES if size <= total):
        pairs = [(rng.permutation(total)[:n], rng.permutation(total)[:n]) for _ in range(DRAWS if n < total else 1)]
        sides = [[of_set(real, side, *pair) for pair in pairs] for side in (clean, damaged)]
        for gauge in OF_SETS:
            of_clean, of_damaged = (np.array([draw[gauge] for draw in side]) for side in sides)
            change = float(np.median(of_damaged) - np.median(of_clean))
            spread[gauge] = of_clean.std(ddof=1) if len(pairs) > 1 else spread[gauge] * np.sqrt(before / n)
            if told[gauge] is None and abs(change) > CERTAIN * spread[gauge]:
                told[gauge], directions[gauge] = n, float(np.sign(change))
        before = n
    return told, directions


def verdict(gauge: str, direction: float) -> str:
    """Whether a reader takes the change for worse, as it is, or for better."""
    better = {"lower": -1.0, "higher": 1.0}[GAUGES[gauge].naive]
    return "better" if direction == better else "worse"
