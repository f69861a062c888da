"""Streaming statistics and the Fréchet distance: oracles, invariances, reference values, edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from metrics.distribution.frechet import Gaussian, GaussianFactor, frechet_distance, leave_one_out
from metrics.intervals import assign_groups, jackknife_interval, mean_score
from tests.metrics.goldens import feature_sets, golden


def cloud(n: int, features: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((n, features)) @ random.standard_normal((features, features)) + 3


def same(a: Gaussian, b: Gaussian) -> bool:
    tight = {"rtol": 1e-12, "atol": 1e-12 * np.abs(a.scatter).max()}
    return a.n == b.n and np.allclose(a.mean, b.mean, **tight) and np.allclose(a.scatter, b.scatter, **tight)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 99), max_size=6, unique=True), order=st.permutations(range(100)))
def test_neither_chunks_nor_order_change_the_statistics(cuts, order):
    rows = cloud(100, 5) + 1e4  # far from zero: summing squares would lose eight digits
    parts = np.split(rows[list(order)], sorted(cuts))
    streamed = Gaussian.of(parts[0])
    for part in parts[1:]:
        streamed = streamed.add(part)
    assert same(streamed, Gaussian.of(rows))
    backwards = Gaussian.of(parts[-1])
    for part in reversed(parts[:-1]):
        backwards = backwards.merge(Gaussian.of(part))
    assert same(backwards, streamed)


def test_statistics_are_those_of_numpy():
    rows = cloud(50, 4)
    statistics = Gaussian.of(rows)
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(statistics.covariance(), np.cov(rows, rowvar=False), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance(ddof=0), np.cov(rows, rowvar=False, ddof=0), rtol=1e-12)


def test_statistics_leave_their_input_alone():
    rows = cloud(20, 3)
    before = rows.copy()
    Gaussian.of(rows)
    assert (rows == before).all()


def test_a_shift_by_2_in_6_axes_is_24_away():
    rows = cloud(300, 6)
    assert frechet_distance(Gaussian.of(rows), Gaussian.of(rows + 2)) == pytest.approx(24, abs=1e-9)


def test_equal_sets_are_0_away():
    rows = Gaussian.of(cloud(300, 16))
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-10 * np.trace(rows.covariance()))


def test_scaling_by_a_adds_the_squared_difference_of_the_roots():
    rows = cloud(300, 6)
    rows -= rows.mean(axis=0)
    a = Gaussian.of(rows)
    assert frechet_distance(a, Gaussian.of(3 * rows)) == pytest.approx(4 * np.trace(a.covariance()), rel=1e-12)


def test_distance_is_symmetric_blind_to_rotation_and_that_of_the_matrix_root():
    x, y = cloud(200, 8), cloud(150, 8, seed=1)
    a, b = Gaussian.of(x), Gaussian.of(y)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))[0]
    distance = frechet_distance(a, b)
    A, B = a.covariance(), b.covariance()
    plain = ((a.mean - b.mean) ** 2).sum() + np.trace(A + B - 2 * sqrtm(A @ B).real)
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(Gaussian.of(x @ turn), Gaussian.of(y @ turn)) == pytest.approx(distance, rel=1e-12)
    assert distance == pytest.approx(plain, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("A_n256_d64", {"rel": 1e-6}),
        ("B_n50_d400_rankdef", {"rel": 1e-6}),
        ("C_identical", {"abs": 1e-6}),
        ("D_tiny_variance", {"rel": 0.02}),
        ("F_n2048_d400", {"rel": 1e-4}),
    ],
)
def test_distance_agrees_with_published_implementations(name, tolerance):
    values = golden("frechet.json")["frechet"]
    a, b = (Gaussian.of(rows) for rows in feature_sets()[name])
    reference = values["tensorflow_gan 2.1.0 frechet_classifier_distance_from_activations float64"][name]
    assert frechet_distance(a, b) == pytest.approx(reference, **tolerance)
    population = next(row for peer, row in values.items() if peer.lower().startswith("stylegan"))[name]
    assert frechet_distance(a, b, ddof=0) == pytest.approx(population, **{"rel": 1e-5, "abs": 1e-6})


def test_exact_distance_where_the_reference_leaves_small_roots_out():
    assert frechet_distance(*(Gaussian.of(rows) for rows in feature_sets()["D_tiny_variance"])) == pytest.approx(
        6.40e-5, rel=1e-3
    )


def test_saved_statistics_come_back_bit_by_bit(tmp_path):
    statistics = Gaussian.of(cloud(20, 3))
    statistics.save(tmp_path / "real.npz")
    again = Gaussian.load(tmp_path / "real.npz")
    assert again.n == 20
    assert (again.mean == statistics.mean).all()
    assert (again.scatter == statistics.scatter).all()
    assert [path.name for path in tmp_path.iterdir()] == ["real.npz"]


def test_broken_files_of_statistics_are_told_in_one_line(tmp_path):
    whole = tmp_path / "whole.npz"
    Gaussian.of(cloud(20, 3)).save(whole)
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:300])
    np.savez(tmp_path / "other.npz", other=1)
    np.savez(tmp_path / "pickled.npz", n=1, mean=np.array([{}], dtype=object), scatter=np.eye(1))
    np.savez(tmp_path / "shape.npz", n=1, mean=np.zeros(3), scatter=np.eye(2))
    for name in ("absent", "cut", "other", "pickled", "shape"):
        with pytest.raises(ValueError, match=rf"{name}\.npz is not a whole file of statistics") as caught:
            Gaussian.load(tmp_path / f"{name}.npz")
        assert "\n" not in str(caught.value)


def test_sets_that_have_no_distance_are_refused():
    one, some, other = Gaussian.of(cloud(1, 3)), Gaussian.of(cloud(9, 3)), Gaussian.of(cloud(9, 4))
    with pytest.raises(ValueError, match="at least 2 samples in each set: got 9 and 1"):
        frechet_distance(some, one)
    with pytest.raises(ValueError, match="3 and of 4 features"):
        frechet_distance(some, other)
    with pytest.raises(ValueError, match="3 and of 4 features do not merge"):
        some.merge(other)
    with pytest.raises(ValueError, match="must be finite"):
        frechet_distance(some, Gaussian(9, some.mean * np.inf, some.scatter))
    for rows in (1e60 * cloud(9, 3), -1e60 * cloud(9, 30)):
        with pytest.raises(ValueError, match="must be finite and below 1e\\+50, 9 of 9 rows are not"):
            GaussianFactor.of(rows)
    with pytest.raises(ValueError, match="1 of 9 rows are not"):
        Gaussian.of(np.where(np.arange(9)[:, None] == 4, np.nan, cloud(9, 3)))
    with pytest.raises(ValueError, match="got none"):
        Gaussian.of(np.zeros((0, 3)))


def test_jackknife_of_a_mean_is_the_t_interval():
    values = np.random.default_rng(0).standard_normal(20)
    left_out = [np.delete(values, i).mean() for i in range(20)]
    score = mean_score(values)
    assert jackknife_interval(score.value, [left_out]) == pytest.approx((score.low, score.high), rel=1e-12)
    assert mean_score([0.5]) == (0.5, 1, None, None, ())
    for bad in ([], [0.5, np.nan], [np.inf]):
        with pytest.raises(ValueError, match="a mean needs finite values, one or more: flicker got"):
            mean_score(bad, "flicker")


def test_jackknife_of_two_samples_adds_their_variances():
    random = np.random.default_rng(0)
    x, y = random.standard_normal(20), 2 * random.standard_normal(20)
    left_out = [
        [np.delete(x, i).mean() - y.mean() for i in range(20)],
        [x.mean() - np.delete(y, i).mean() for i in range(20)],
    ]
    low, high = jackknife_interval(x.mean() - y.mean(), left_out)
    width = 2 * 2.093024 * np.sqrt(x.var(ddof=1) / 20 + y.var(ddof=1) / 20)
    assert high - low == pytest.approx(width, rel=1e-6)


def test_rows_of_one_source_share_a_group_and_groups_are_even():
    source = np.repeat(np.arange(45), 3)
    group = assign_groups(source)
    assert set(group) == set(range(20))
    assert all(len(set(group[source == video])) == 1 for video in range(45))
    sizes = np.bincount(group) // 3
    assert set(sizes) == {2, 3}
    assert (assign_groups(source) == group).all()
    assert set(assign_groups(np.arange(4))) == {0, 1, 2, 3}


def test_leaving_one_out_is_merging_the_others():
    parts = [Gaussian.of(cloud(5 + i, 3, seed=i)) for i in range(4)]
    rest = leave_one_out(parts)
    assert same(rest[0], parts[1].merge(parts[2]).merge(parts[3]))
    assert same(rest[2], parts[0].merge(parts[1]).merge(parts[3]))
    assert same(rest[3], parts[0].merge(parts[1]).merge(parts[2]))
    assert leave_one_out(parts[:2]) == [parts[1], parts[0]]


@pytest.mark.parametrize(("n", "m", "features"), [(20, 30, 64), (20, 300, 64), (64, 65, 64), (200, 300, 8)])
def test_rows_and_eigenvectors_make_the_same_distance(n, m, features):
    x, y = cloud(n, features), cloud(m, features, seed=1) * 1.1
    by_moments = frechet_distance(Gaussian.of(x), Gaussian.of(y))
    assert frechet_distance(GaussianFactor.of(x), GaussianFactor.of(y)) == pytest.approx(by_moments, rel=1e-9)
    assert frechet_distance(GaussianFactor.of(x), Gaussian.of(y)) == pytest.approx(by_moments, rel=1e-9)
    zero = frechet_distance(GaussianFactor.of(x, ddof=0), GaussianFactor.of(y, ddof=0))
    assert zero == pytest.approx(frechet_distance(Gaussian.of(x), Gaussian.of(y), ddof=0), rel=1e-9)
    assert GaussianFactor.of(x).root.shape[1] == (n if n <= features else features)


def test_few_samples_agree_with_the_nuclear_norm_of_a_published_check():
    values = golden("frechet.json")["frechet"]["closed form nuclear norm of A B^T, ddof=1 float64 (not a peer)"]
    x, y = feature_sets()["B_n50_d400_rankdef"]
    for route in (GaussianFactor.of, lambda rows: GaussianFactor.of_gaussian(Gaussian.of(rows))):
        assert frechet_distance(route(x), route(y)) == pytest.approx(values["B_n50_d400_rankdef"], rel=1e-10)


def summed(rows: np.ndarray) -> np.ndarray:
    """The scatter as sums of squares give it."""
    total = rows.sum(axis=0)
    return rows.T @ rows - np.outer(total, total) / len(rows)


@pytest.mark.parametrize("away", [0, 1e4])
def test_the_order_of_merging_changes_nothing_beyond_the_twelfth_digit(away):
    """Of the spread, also where the mean is ten thousand spreads away: sums of squares keep eight digits there."""
    random = np.random.default_rng(0)
    rows = cloud(400, 12) + away
    parts = [Gaussian.of(part) for part in np.array_split(rows, 37)]
    whole = Gaussian.of(rows)
    for _ in range(5):
        pile = [parts[i] for i in random.permutation(len(parts))]
        while len(pile) > 1:  # merge any two, as workers that finish at odd times do
            i, j = sorted(random.choice(len(pile), 2, replace=False))
            pile.append(pile.pop(j).merge(pile.pop(i)))
        assert np.abs(pile[0].mean - whole.mean).max() <= 1e-14 * np.abs(whole.mean).max()
        scale = np.sqrt(np.outer(np.diag(whole.scatter), np.diag(whole.scatter)))
        assert (np.abs(pile[0].scatter - whole.scatter) / scale).max() <= 1e-12
    assert away == 0 or (np.abs(summed(rows) - whole.scatter) / scale).max() > 1e-9


def test_the_naive_bootstrap_doubles_the_bias():
    random = np.random.default_rng(0)
    n, features = 200, 16

    def distance(a, b):
        return frechet_distance(GaussianFactor.of(a), GaussianFactor.of(b))

    points, resampled = [], []
    for _ in range(10):
        x, y = random.standard_normal((n, features)), random.standard_normal((n, features))  # truly 0 apart
        points.append(distance(x, y))
        resampled += [distance(x[random.integers(n, size=n)], y[random.integers(n, size=n)]) for _ in range(6)]
    assert np.mean(points) > 0.5  # all of it bias
    assert np.mean(resampled) == pytest.approx(2 * np.mean(points), rel=0.12)


def test_spreads_of_one_sample_or_of_none_are_refused():
    with pytest.raises(ValueError, match="at least 2 samples: got 1"):
        GaussianFactor.of(cloud(1, 3))
    with pytest.raises(ValueError, match="got none"):
        GaussianFactor.of(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="1 of 2 rows are not"):
        GaussianFactor.of(np.array([[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]]))
