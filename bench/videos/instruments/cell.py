"""One cell of the suite `instruments`: damaged videos through every gauge, against clean videos of the same scenes.

The reference cell looks at clean and at other real videos once, and leaves what it saw for all others.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bench.harness.job import Job
from bench.results.records import CellResults, Number
from bench.videos.instruments.damages import DAMAGES
from bench.videos.instruments.gauges import ALIGNED, GAUGES, OF_SETS, OF_VIDEOS, SetFeatures, look, of_set, of_videos
from bench.videos.instruments.instrument_suite import SIZES
from bench.videos.instruments.sources import captions_of, sources_of

DRAWS = 20  # of subsets of each size, for the gauges of sets
CERTAIN = 1.96  # standard errors
FILE = "clean.npz"  # of the reference cell


def run(job: Job) -> CellResults:
    """Which gauges tell damaged from clean video, from how many videos, and in which direction they move."""
    name, strength = str(job.values["damage"]), float(job.values["strength"])
    videos, frames, seed = (int(job.values[key]) for key in ("videos", "frames", "seed"))
    source, others = sources_of(str(job.values["real"]), videos, frames, seed)
    captions = captions_of(source)
    if job.reference is None:
        clean = source.clean(frames)
        seen = look(clean)
        save(job.folder / FILE, of_videos(clean, captions, seen), seen, look(others()))
        return CellResults(absent=dict.fromkeys(GAUGES, "clean video itself"), facts={"videos": str(len(source))})
    values, clean_seen, real_seen = load(job.reference / FILE)
    rng = np.random.default_rng([seed, list(DAMAGES).index(name), round(1000 * strength)])
    damaged = DAMAGES[name].apply(source, frames, strength, rng)
    if name == "wrong caption" and captions is not None:
        wrong = round(strength * len(source))
        captions = [*captions[1:wrong], *captions[: min(1, wrong)], *captions[wrong:]]
    damaged_seen = look(damaged)
    effects = effects_of(values, of_videos(damaged, captions, damaged_seen))
    told: dict[str, int | None] = dict.fromkeys(GAUGES)
    told |= {gauge: fewest(effect) for gauge, effect in effects.items()}
    of_sets, directions = told_of_sets(real_seen, clean_seen, damaged_seen, rng)
    told |= of_sets
    directions |= {gauge: float(np.sign(effect)) for gauge, effect in effects.items()}
    untold = {} if captions is not None else dict.fromkeys(ALIGNED, "captions of real clips are not known here")
    if len(source) == SIZES[0]:
        untold |= dict.fromkeys(OF_SETS, f"sets are compared by the spread of smaller ones: got {len(source)} videos")
    return CellResults(
        numbers={gauge: Number(float(n), "videos", "lower") for gauge, n in told.items() if n is not None},
        absent={
            gauge: untold.get(gauge, f"not told from clean video with {most_of(gauge, len(source))}")
            for gauge in GAUGES
            if told[gauge] is None
        },
        facts={f"{g} takes it for": verdict(g, directions[g]) for g in GAUGES if told[g] is not None},
    )


def most_of(gauge: str, videos: int) -> int:
    """The largest of `SIZES` at which a gauge was tried: effects on single videos hold for any, sets need theirs."""
    return max(size for size in SIZES if gauge in OF_VIDEOS or size <= videos)


def save(path: Path, values: Mapping[str, Float[np.ndarray, " N"]], clean: SetFeatures, real: SetFeatures) -> None:
    """What was seen of clean and of other real videos, for `load`."""
    arrays = {f"value/{gauge}": rows for gauge, rows in values.items()}
    for side, seen in (("clean", clean), ("real", real)):
        arrays |= {f"{side}/i3d": seen.i3d, f"{side}/actions": seen.actions}
    np.savez(path, allow_pickle=False, **arrays)


def load(path: Path) -> tuple[dict[str, Float[np.ndarray, " N"]], SetFeatures, SetFeatures]:
    """Values of clean videos, and what the networks saw of them and of other real ones."""
    with np.load(path, allow_pickle=False) as file:
        clean, real = (SetFeatures(file[f"{side}/i3d"], {}, file[f"{side}/actions"]) for side in ("clean", "real"))
        values = {gauge: file[f"value/{gauge}"] for gauge in OF_VIDEOS if f"value/{gauge}" in file}
        return values, clean, real


def effects_of(
    clean: Mapping[str, Float[np.ndarray, " N"]], damaged: Mapping[str, Float[np.ndarray, " N"]]
) -> dict[str, float]:
    """Difference of means over its standard deviation for one video a side: times root n it is the z of n videos."""
    effects = {}
    for gauge in clean:
        change = float(damaged[gauge].mean() - clean[gauge].mean())
        spread = float(np.sqrt(damaged[gauge].var(ddof=1) + clean[gauge].var(ddof=1)))
        effects[gauge] = change / spread if spread > 0 else float(np.sign(change)) * np.inf if change else 0.0
    return effects


def fewest(effect: float) -> int | None:
    """The smallest size at which an effect is certain, or None."""
    return next((n for n in SIZES if abs(effect) * np.sqrt(n) > CERTAIN), None)


def told_of_sets(
    real: SetFeatures, clean: SetFeatures, damaged: SetFeatures, rng: np.random.Generator
) -> tuple[dict[str, int | None], dict[str, float]]:
    """Per gauge of sets the smallest size at which damaged video leaves the spread of clean video; and directions.

    The spread is that of random subsets; of all videos there is one set, and its spread is that of the size before,
    less by the root of the ratio. Subsets of more than a quarter of the videos share many: their spread is widened by
    what sampling without replacement takes from it.
    """
    told: dict[str, int | None] = dict.fromkeys(OF_SETS)
    directions, spread = dict.fromkeys(OF_SETS, 0.0), dict.fromkeys(OF_SETS, np.inf)
    total, before = len(real.i3d), 0
    for n in (size for size in SIZES if size <= total):
        pairs = [(rng.permutation(total)[:n], rng.permutation(total)[:n]) for _ in range(DRAWS if n < total else 1)]
        sides = [[of_set(real, side, *pair) for pair in pairs] for side in (clean, damaged)]
        for gauge in OF_SETS:
            of_clean, of_damaged = (np.array([drawn[gauge] for drawn in side]) for side in sides)
            change = float(np.median(of_damaged) - np.median(of_clean))
            shared = (1 - n / total) ** 0.5 if 4 * n > total > n else 1.0
            spread[gauge] = (
                float(of_clean.std(ddof=1)) / shared if len(pairs) > 1 else spread[gauge] * (before / n) ** 0.5
            )
            if told[gauge] is None and abs(change) > CERTAIN * spread[gauge]:
                told[gauge], directions[gauge] = n, float(np.sign(change))
        before = n
    return told, directions


def verdict(gauge: str, direction: float) -> str:
    """Whether a reader takes the change for worse, as it is, or for better."""
    better = {"lower": -1.0, "higher": 1.0}[GAUGES[gauge].naive]
    return "better" if direction == better else "worse"
