"""Kernel distance, precision, recall, density, coverage: published values, plain loops, properties, edges."""

import numpy as np
import pytest

from metrics.distribution.kvd import kernel_score, kvd
from metrics.distribution.prdc import coverage, density, neighborhood, precision, recall
from tests.metrics.distribution.test_fvd import NETWORK, drawn
from tests.metrics.goldens import feature_sets, golden

SETS = feature_sets()
PEER = "torch-fidelity 0.4.0 kernel_mmd(poly,3,None,1) on the whole sets"


def clouds(n: int, m: int, shift: float = 0.0, seed: int = 0):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, 6)), random.standard_normal((m, 6)) + shift


@pytest.mark.parametrize("name", SETS)
def test_values_agree_with_published_implementations(name):
    values = golden("frechet.json")
    x, y = SETS[name]
    assert kernel_score(x, y).value == pytest.approx(values["kernel"][PEER][name], rel=1e-6, abs=1e-7)
    jedi = 100 * kernel_score(x, y, degree=2, offset=0.0, biased=True).value
    tolerance = (
        {"abs": 0.01} if name == "D_tiny_variance" else {"rel": 1e-3, "abs": 1e-6}
    )  # its float32 has no digits left
    assert jedi == pytest.approx(values["kernel"]["jedi.mmd_poly(degree=2,coef0=0)*100"][name], **tolerance)
    near = neighborhood(x, y)
    assert [near.precision.value, near.recall.value] == pytest.approx(values["precision_recall_k3"][name], abs=1e-6)


def test_kernel_distance_is_that_of_plain_loops_and_leaves_itself_out():
    x, y = clouds(12, 9, 0.5)

    def k(a, b):
        return (a @ b / 6 + 1) ** 3

    within = [np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    between = np.mean([k(a, b) for a in x for b in y])
    assert kernel_score(x, y).value == pytest.approx(sum(within) - 2 * between, rel=1e-12)


def test_kernel_distance_has_no_bias_and_an_interval_that_holds():
    trials = [kernel_score(*clouds(60, 60, seed=seed)) for seed in range(60)]
    values = np.array([trial.value for trial in trials])
    assert abs(values.mean()) < 3 * values.std() / 60**0.5
    assert (values < 0).any()
    apart = [kernel_score(*clouds(60, 60, 0.5, seed)) for seed in range(60)]
    mean = np.mean([trial.value for trial in apart])
    assert 0.85 <= np.mean([trial.low <= mean <= trial.high for trial in apart]) <= 1


def test_kernel_replicates_are_the_distances_without_a_group_and_mind_windows():
    x, y = clouds(20, 20, 1.0)
    score = kernel_score(x, y)
    assert len(score.replicates[0]) == len(score.replicates[1]) == 20
    missing = [np.delete(x, i, axis=0) for i in range(20)]
    singles = [kernel_score(rows, y).value for rows in missing]
    assert sorted(score.replicates[0]) == pytest.approx(sorted(singles), rel=1e-9)
    windows = np.repeat(y, 5, axis=0)
    source = np.repeat(np.arange(20), 5)
    blind, aware = kernel_score(x, windows), kernel_score(x, windows, None, source)
    assert aware.value == pytest.approx(blind.value, rel=1e-12)
    assert aware.high - aware.low > blind.high - blind.low
    assert kernel_score(x[:2], y[:2]).low is None


def test_neighbours_are_those_of_plain_loops():
    x, y = clouds(30, 25, 0.7)

    def radius(z, i, k):
        return sorted(np.linalg.norm(z - z[i], axis=1))[k]

    for k in (1, 3):
        among = np.array([[np.linalg.norm(a - b) <= radius(x, i, k) for i, a in enumerate(x)] for b in y])
        back = np.array([[np.linalg.norm(a - b) <= radius(y, j, k) for j, b in enumerate(y)] for a in x])
        near = neighborhood(x, y, k=k)
        assert near.precision.value == among.any(axis=1).mean()
        assert near.recall.value == back.any(axis=1).mean()
        assert near.density.value == pytest.approx(among.sum() / (k * 25), rel=1e-12)
        assert near.coverage.value == among.any(axis=0).mean()


def test_collapse_loses_variety_and_noise_loses_quality():
    x, y = clouds(300, 300)
    same, collapsed, noisy = neighborhood(x, y), neighborhood(x, y * 0.05), neighborhood(x, y * 6)
    assert collapsed.precision.value > 0.95
    assert collapsed.recall.value < 0.1
    assert collapsed.coverage.value < 0.5 * same.coverage.value
    assert collapsed.density.value > same.density.value
    assert noisy.precision.value < 0.2
    assert same.precision.low < same.precision.value < same.precision.high <= 1


def test_neither_place_nor_turn_nor_copies_of_a_set_matter():
    x, y = clouds(80, 80, 0.3)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((6, 6)))[0]
    for here, moved in zip(neighborhood(x, y), neighborhood(x @ turn + 1e5, y @ turn + 1e5), strict=True):
        assert moved[:4] == pytest.approx(here[:4], abs=1e-12)
    own = neighborhood(x, x.copy())
    assert own.precision.value == own.recall.value == own.coverage.value == 1
    twice = np.repeat(x, 5, axis=0)
    assert neighborhood(twice, twice).precision.value == 1  # neighbors at distance 0 are neighbors


def test_windows_of_one_video_widen_the_interval():
    x, y = clouds(50, 20, 0.8)
    source = np.repeat(np.arange(20), 5)
    near = neighborhood(x, np.repeat(y, 5, axis=0), None, source)
    blind = neighborhood(x, np.repeat(y, 5, axis=0))
    assert near.precision.value == blind.precision.value
    assert near.precision.high - near.precision.low > blind.precision.high - blind.precision.low
    assert near.precision.n == 100


def test_videos_are_measured_by_their_embeddings():
    real, fake = drawn(30), drawn(30, seed=1)
    rows = [NETWORK.embed(videos).embedding for videos in (real, fake)]
    assert kvd(real, fake, network=NETWORK) == kernel_score(*rows)
    near, dense = neighborhood(*rows), neighborhood(*rows, k=5)
    assert precision(real, fake, network=NETWORK) == near.precision
    assert recall(real, fake, network=NETWORK) == near.recall
    assert density(real, fake, network=NETWORK) == dense.density
    assert coverage(real, fake, network=NETWORK) == dense.coverage


def test_sets_that_are_too_small_or_of_other_networks_are_refused():
    x, y = clouds(4, 4)
    with pytest.raises(ValueError, match="k=4 neighbors need more than 4 samples"):
        neighborhood(x, y, k=4)
    with pytest.raises(ValueError, match="6 and of 5 features have no distance"):
        neighborhood(x, y[:, :5])
    with pytest.raises(ValueError, match="6 and of 5 features have no distance"):
        kernel_score(x, y[:, :5])
    with pytest.raises(ValueError, match="at least 2 samples in each set: got 4 and 1"):
        kernel_score(x, y[:1])
    for measure in (kernel_score, neighborhood):
        for value in (np.nan, np.inf):
            with pytest.raises(ValueError, match="1 of 4 rows are not"):
                measure(x, np.where(np.arange(4)[:, None] == 2, value, y))
