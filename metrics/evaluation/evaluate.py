"""Embedded sets to scores, each with what must be known to read it: floor, ceiling, counts, gaps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64
from scipy.special import softmax

from metrics.distribution.fvd import frechet_floor, frechet_infinity, frechet_replicates
from metrics.distribution.inception_score import ceiling, probability_replicates, split_scores
from metrics.distribution.kvd import kernel_replicates
from metrics.distribution.prdc import neighbourhood
from metrics.evaluation.dataset import FeatureSet, ReadOptions, ResolvedProtocol, protocol_manifest
from metrics.evaluation.result import Result, versions
from metrics.networks.features import FeatureNetwork
from metrics.score import Replicated, Score

APART = ("names_sha256", "content_sha256", "clips_sha256", "gap_reasons")  # of a generated set: its own affair


def check_enough(sides: Mapping[str, int], features: int, what: str, setting: ReadOptions) -> list[str]:
    """Refuse sets of fewer than twice as many clips as there are features or classes, unless told not to.

    Returns:
        what to say beside the number, if it was allowed.

    Raises:
        ValueError: too few.
    """
    few = {side: n for side, n in sides.items() if n < 2 * features}
    if not few:
        return []
    came = " and ".join(f"{n} {side}" for side, n in few.items())
    if not setting.allow_small:
        raise ValueError(
            f"{what} with {features} dimensions needs at least {2 * features} clips a side, {came} came: give more, or "
            f"--allow-small for a number that says little"
        )
    return [f"too few clips ({came}, at least {2 * features} are needed): the number is mostly bias"]


def score_fvd(
    real: FeatureSet,
    fake: FeatureSet,
    recipe: ResolvedProtocol,
    network: FeatureNetwork,
    setting: ReadOptions,
    *,
    infinity: bool = False,
    floor: FeatureSet
    | None = None,  # the real side and more of its kind, see `metrics.evaluation.dataset.extend_for_floor`
) -> Result:
    """FVD; its floor at that n, or at the largest n that half of the real set allows; where asked for, at infinity.

    Raises:
        ValueError: too few clips.
    """
    x, y = real.features.embedding, fake.features.embedding
    notes = check_enough({"real": real.n, "fake": fake.n}, x.shape[1], "FVD", setting)
    found = frechet_replicates(x, y, real.source, fake.source, ddof=recipe.ddof)
    scores = {"fvd": found.score}
    every = floor or real
    at = min(len(np.unique(fake.source)), len(np.unique(every.source)) // 2)
    if at >= 2:
        scores["fvd_floor"] = frechet_floor(every.features.embedding, at, every.source, ddof=recipe.ddof)
        if every.n > real.n:
            notes.append(f"for the floor {every.n - real.n} more real clips were drawn by the same rule")
        if scores["fvd_floor"].n < fake.n:
            notes.append(
                f"the floor is that at n = {scores['fvd_floor'].n}, as half of the real clips are no more; at "
                f"n = {fake.n} it is about {scores['fvd_floor'].value * scores['fvd_floor'].n / fake.n:.4g}"
            )
    if infinity:
        scores["fvd_infinity"] = frechet_infinity(x, y, ddof=recipe.ddof)
    return _result(scores, {"fvd": found.left_out}, real, fake, recipe, network, notes)


def score_kvd(
    real: FeatureSet, fake: FeatureSet, recipe: ResolvedProtocol, network: FeatureNetwork, *, k: int = 3
) -> Result:
    """Kernel distance, precision, recall, density and coverage of the same features.

    Raises:
        ValueError: no more than k clips on a side.
    """
    rows = real.features.embedding, fake.features.embedding, real.source, fake.source
    found = kernel_replicates(*rows)
    near, dense = neighbourhood(*rows, k=k), neighbourhood(*rows, k=k + 2)
    scores = {"kvd": found.score, "precision": near.precision, "recall": near.recall}
    scores |= {"density": dense.density, "coverage": dense.coverage}
    notes = [f"precision and recall with k = {k}, density and coverage with k = {k + 2}"]
    return _result(scores, {"kvd": found.left_out}, real, fake, recipe, network, notes)


def score_is(
    fake: FeatureSet,
    recipe: ResolvedProtocol,
    network: FeatureNetwork,
    setting: ReadOptions,
    *,
    head: str | None = None,  # None = the network's only one
    splits: int | None = None,
    real: FeatureSet | None = None,  # scored beside it, as what real video reaches
) -> Result:
    """Inception Score, the standard deviation over its splits, and its ceiling for that n and number of splits.

    Under a protocol that draws several times, the consecutive parts of the side are the draws, each of exactly the size
    that the protocol has; the score is the mean over them.

    Raises:
        ValueError: a head that the network has not, or too few clips.
    """
    heads = fake.features.logits
    head = head or (next(iter(heads)) if len(heads) == 1 else "action")
    if head not in heads:
        raise ValueError(f"{network.name} has no head {head!r}: it tells apart {', '.join(sorted(heads))}")
    sides = {"fake": fake} | ({} if real is None else {"real": real})
    classes = heads[head].shape[1]
    notes = check_enough({name: side.n for name, side in sides.items()}, classes, "Inception Score", setting)
    scores: dict[str, Score] = {}
    left_out: dict[str, tuple[list[float], ...]] = {}
    for name, side in sides.items():
        label = "is" if name == "fake" else "is_real"
        draws, n = _draws(side.n, recipe)
        parts = (splits or recipe.splits) * draws
        found, each = _inception(side, n, head, parts, recipe)
        scores[label], left_out[label] = found.score, found.left_out
        if parts > 1:
            scores[f"{label}_std"] = Score(float(each.std()), n)
        if n < side.n:
            notes.append(f"{name}: {side.n - n} of {side.n} clips make no whole draw of {recipe.draw}: not scored")
        if name == "fake":
            scores["is_ceiling"] = Score(ceiling(classes, n, splits=parts), n)
            notes.append(
                f"{parts} {'split' if parts == 1 else 'splits'}; a perfect classifier on random classes scores "
                f"{scores['is_ceiling'].value:.4g}"
            )
    result = _result(scores, left_out, real, fake, recipe, network, notes)
    return replace(result, manifest={**result.manifest, "head": head, "splits": splits or recipe.splits})


def _draws(n: int, recipe: ResolvedProtocol) -> tuple[int, int]:
    """(how many draws n clips make, how many clips are in them); what makes no whole draw is one smaller one."""
    if recipe.draw is None or n < recipe.draw:
        return 1, n
    draws = min(recipe.repeats, n // recipe.draw)
    return draws, draws * recipe.draw


def _inception(
    side: FeatureSet, n: int, head: str, splits: int, recipe: ResolvedProtocol
) -> tuple[Replicated, Float64[np.ndarray, " S"]]:
    """The score of the first n clips with its interval, and the scores of its splits."""
    probabilities = softmax(side.features.logits[head][:n].astype(np.float64), axis=1)
    replicated = probability_replicates(
        probabilities, side.source[:n], splits=splits, epsilon=recipe.epsilon, shuffle=recipe.shuffle
    )
    return replicated, split_scores(probabilities, splits=splits, epsilon=recipe.epsilon, shuffle=recipe.shuffle)


def _result(
    scores: dict[str, Score],
    left_out: dict[str, tuple[list[float], ...]],
    real: FeatureSet | None,
    fake: FeatureSet,
    recipe: ResolvedProtocol,
    network: FeatureNetwork,
    notes: Sequence[str],
) -> Result:
    manifest: dict[str, object] = {
        **protocol_manifest(recipe, network),
        "real": None if real is None else {k: v for k, v in real.manifest.items() if k != "gap_reasons"},
        "fake": {key: value for key, value in fake.manifest.items() if key not in APART},
    }
    made_with = versions() | {"fake": {key: fake.manifest.get(key) for key in APART}}
    if real is not None:
        made_with["real"] = {"gap_reasons": real.manifest.get("gap_reasons")}
    gaps = [
        f"{x.manifest['gaps']} {name} videos could not be read and are left out"
        for name, x in (("real", real), ("fake", fake))
        if x is not None and x.manifest["gaps"]
    ]
    split = recipe.real.split if real is not None else "given"
    asked = [] if split == "given" else [f"the protocol takes UCF-101's {split} videos as real: here they are as given"]
    return Result(scores, manifest, made_with, left_out, {}, [*notes, *gaps, *asked])
