"""FVD, its interval and its floor, on a network small enough to know by heart."""

from dataclasses import dataclass

import numpy as np
import pytest

from metrics.distribution.accumulators import FvdAccumulator
from metrics.distribution.frechet import Gaussian, frechet_distance
from metrics.distribution.fvd import (
    frechet_floor,
    frechet_infinity,
    frechet_score,
    frechet_score_of_parts,
    fvd,
    fvd_floor,
    fvd_infinity,
    matched_frechet_score,
)
from metrics.distribution.kvd import kvd
from metrics.distribution.prdc import coverage, precision
from metrics.intervals import assign_groups
from metrics.networks.features import FeatureNetwork, Features, extract
from metrics.protocols import FVD
from metrics.videos.frames import windows
from metrics.videos.preprocess import store


@dataclass(frozen=True)
class Means:
    """Embeds a video by the mean level of each channel in its first and second half; classifies dark and bright."""

    name: str = "means"
    min_frames: int = 2

    def embed(self, videos):
        half = videos.shape[1] // 2
        parts = [part.mean(axis=(1, 2, 3), dtype=np.float64) for part in (videos[:, :half], videos[:, half:])]
        rows = np.concatenate(parts, axis=1)
        return Features(rows, {"light": rows[:, :2] - 100})


@dataclass(frozen=True)
class Weighed(Means):
    """The same name, other weights."""

    digest: str = ""


NETWORK = Means()


def drawn(n: int, seed: int = 0, frames: int = 4, low: int = 0, high: int = 200) -> np.ndarray:
    random = np.random.default_rng(seed)
    levels = random.integers(low, high, (n, frames, 1, 1, 3))
    return np.broadcast_to(levels, (n, frames, 4, 4, 3)).astype(np.uint8)


def test_the_contract_and_the_batch_size_that_changes_nothing():
    assert isinstance(NETWORK, FeatureNetwork)
    videos = drawn(10)
    whole = extract(NETWORK, videos, batch_size=10)
    for batch_size in (1, 3, 64):
        parts = extract(NETWORK, videos, batch_size=batch_size)
        np.testing.assert_allclose(parts.embedding, whole.embedding, rtol=1e-12)
        np.testing.assert_allclose(parts.logits["light"], whole.logits["light"], rtol=1e-12)


def test_equal_sets_are_0_apart_and_brighter_ones_by_the_square_of_the_step():
    real = drawn(60)
    assert fvd(real, real, network=NETWORK).value == pytest.approx(0, abs=1e-8)
    score = fvd(real, real + np.uint8(5), network=NETWORK)
    assert score.value == pytest.approx(6 * 25, abs=1e-6)
    assert score.n == 60
    order = np.random.default_rng(0).permutation(60)
    assert fvd(real[order], (real + np.uint8(5)), network=NETWORK).value == pytest.approx(score.value, rel=1e-9)


def test_long_videos_count_by_their_windows():
    long = drawn(30, frames=9)
    cut = np.concatenate([long[:, :4], long[:, 4:8]])
    short = drawn(30, seed=1)
    windowed = fvd(short, long, network=NETWORK, window=4)
    assert windowed.n == 60
    assert windowed.value == pytest.approx(fvd(short, cut, network=NETWORK).value, rel=1e-12)


def test_windows_of_one_video_do_not_pass_for_independent_ones():
    random = np.random.default_rng(0)
    real = random.standard_normal((400, 3))
    fake = np.repeat(random.standard_normal((40, 3)) + 1, 10, axis=0)  # ten equal windows a video
    source = np.repeat(np.arange(40), 10)
    blind, aware = frechet_score(real, fake), frechet_score(real, fake, None, source)
    assert aware.value == blind.value
    assert aware.high - aware.low > 1.5 * (blind.high - blind.low)


def test_interval_holds_the_mean_distance_at_this_n_as_often_as_it_says():
    random = np.random.default_rng(0)
    trials = [
        frechet_score(random.standard_normal((80, 4)), 1.3 * random.standard_normal((80, 4)) + 0.4) for _ in range(60)
    ]
    mean = np.mean([score.value for score in trials])
    assert mean > 4 * (0.4**2 + 0.3**2)  # finite sets add to it
    hits = np.mean([score.low <= mean <= score.high for score in trials])
    assert 0.87 <= hits <= 1.0
    width = np.mean([score.high - score.low for score in trials])
    assert width < 3 * 2 * 1.96 * np.std([score.value for score in trials])


def test_floor_is_what_real_sets_of_this_size_are_apart():
    real = drawn(200)
    floor = fvd_floor(real, 40, network=NETWORK)
    assert floor.n == 40
    assert 0 < floor.low < floor.value < floor.high
    fresh = [fvd(drawn(40, seed=i), drawn(40, seed=100 + i), network=NETWORK).value for i in range(1, 11)]
    assert floor.value == pytest.approx(np.mean(fresh), rel=0.3)
    assert fvd_floor(real, 100, network=NETWORK).value < 0.7 * floor.value
    assert fvd_floor(real, 40, network=NETWORK) == floor


def test_sets_that_cannot_be_compared_are_refused():
    real = drawn(4)
    for measure in (fvd, fvd_infinity, kvd, precision, coverage):
        with pytest.raises(ValueError, match="got 4 and 6 frames, give a window"):
            measure(real, drawn(4, frames=6), network=NETWORK)
    with pytest.raises(ValueError, match="at least 5 frames: got 4"):
        fvd(real, real, network=NETWORK, window=5)
    for window in (0, -4):
        with pytest.raises(ValueError, match=f"a window holds at least one frame: got {window}"):
            fvd(real, real, network=NETWORK, window=window)
    with pytest.raises(ValueError, match="at least 2 frames: got 1"):
        fvd(real[:, :1], real[:, :1], network=NETWORK)
    with pytest.raises(ValueError, match="at least 2 samples in each set: got 4 and 1"):
        fvd(real, real[:1], network=NETWORK)
    with pytest.raises(ValueError, match="needs n >= 2 and 6 real videos: got 4, ask for n up to 2"):
        fvd_floor(real, 3, network=NETWORK)
    with pytest.raises(ValueError, match="batch_size=0"):
        extract(NETWORK, real, batch_size=0)
    assert fvd(real[:2], real[:2], network=NETWORK).low is None


def captioned(per_caption: int, captions: int = 24, *, step: float = 0.0, seed: int = 0):
    """Rows whose place is their caption's, but for little noise and a step common to all."""
    places = np.random.default_rng(7).normal(size=(captions, 4)) * 10
    caption = np.arange(captions * per_caption) % captions
    noise = np.random.default_rng(seed).normal(size=(len(caption), 4))
    return places[caption] + noise + step, caption


def test_equal_captions_on_both_sides_let_few_videos_tell_a_small_step():
    (real, real_captions), (same, fake_captions), (moved, _) = (
        captioned(10),
        captioned(1, seed=1),
        captioned(1, seed=1, step=2.0),
    )
    near, far = (matched_frechet_score(real, rows, real_captions, fake_captions) for rows in (same, moved))
    assert near.high < far.low
    assert far.value - near.value == pytest.approx(16, abs=6)
    assert far.value == frechet_score(real, moved).value
    loose = frechet_score(real, moved, real_captions, fake_captions)
    assert far.high - far.low < (loose.high - loose.low) / 2


def test_the_order_of_rows_does_not_matter_to_matched_captions():
    (real, real_captions), (fake, fake_captions) = captioned(3), captioned(1, seed=1)
    order = np.random.default_rng(0).permutation(len(real))
    shuffled = matched_frechet_score(real[order], fake, real_captions[order], fake_captions)
    whole = matched_frechet_score(real, fake, real_captions, fake_captions)
    assert shuffled.value == pytest.approx(whole.value, rel=1e-9)
    assert shuffled.high == pytest.approx(whole.high, rel=1e-6)


def test_rows_fewer_than_features_have_an_interval_too():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((30, 50)), random.standard_normal((35, 50)) + 1
    score = frechet_score(x, y)
    assert 0 < score.low < score.value < score.high
    wide = np.concatenate([x, np.zeros((30, 5))], axis=1), np.concatenate([y, np.zeros((35, 5))], axis=1)
    assert frechet_score(*wide)[:4] == pytest.approx(score[:4], rel=1e-9)  # features that are always 0 say nothing
    by_parts = [
        [Gaussian.of(rows[group == number]) for number in range(20)]
        for rows, group in ((rows, assign_groups(np.arange(len(rows)))) for rows in (x, y))
    ]
    assert frechet_score_of_parts(*by_parts)[:4] == pytest.approx(score[:4], rel=1e-8)


def test_endless_sets_of_one_distribution_are_0_apart():
    random = np.random.default_rng(0)
    trials = [
        frechet_infinity(random.standard_normal((300, 8)), random.standard_normal((300, 8)), permutations=2)
        for _ in range(12)
    ]
    points = [frechet_score(random.standard_normal((300, 8)), random.standard_normal((300, 8))).value for _ in range(4)]
    assert abs(np.mean([trial.value for trial in trials])) < 0.3 * np.mean(points)
    assert np.mean([trial.low <= 0 <= trial.high for trial in trials]) >= 0.7
    step = frechet_infinity(random.standard_normal((300, 8)), random.standard_normal((300, 8)) + 1)
    assert step.value == pytest.approx(8, rel=0.1)
    assert step.low < 8 < step.high
    few = random.standard_normal((20, 3))
    assert frechet_infinity(few, few).low is None
    assert frechet_infinity(few[:8], few[8:]).value > -np.inf  # two of eight sizes are one number of rows


def test_windows_of_one_video_count_as_one_towards_endless_sets():
    """Rows that are there four times say no more than once: taken for videos, their intervals missed 0 in 5 of 6."""
    source, widths = np.repeat(np.arange(100), 4), []
    for seed in range(3):
        random = np.random.default_rng(seed)
        x, y = (np.repeat(random.standard_normal((100, 6)), 4, axis=0) for _ in range(2))
        score = frechet_infinity(x, y, source, source, permutations=2)
        once = frechet_infinity(x[::4], y[::4], permutations=2)
        assert score.value == pytest.approx(once.value, abs=0.05)
        assert score.low < 0 < score.high
        widths.append((score.high - score.low, once.high - once.low))
    assert np.sum(widths, axis=0)[0] == pytest.approx(np.sum(widths, axis=0)[1], rel=0.2)
    assert frechet_infinity(x, y, source // 50, source // 50, permutations=2).low is None  # two videos


@pytest.mark.parametrize(("n", "m", "features"), [(30, 30, 3), (30, 47, 3), (30, 47, 80), (90, 41, 3)])
def test_a_bias_of_1_over_n_is_taken_off_to_the_last_digit(monkeypatch, n, m, features):
    monkeypatch.setattr("metrics.distribution.fvd.frechet_distance", lambda a, b: 5 + 30 / a.n + 30 / b.n)
    score = frechet_infinity(np.eye(n, features), np.eye(m, features))
    assert score.value == pytest.approx(5, rel=1e-9)


def test_fvd_of_endless_sets_takes_videos_and_needs_some():
    real, fake = drawn(60), drawn(60, seed=1)
    score = fvd_infinity(real, fake, network=NETWORK)
    assert score.value < fvd(real, fake, network=NETWORK).value
    (a, a_source), (b, b_source) = (windows(videos, 2) for videos in (real, fake))
    rows = (extract(NETWORK, cut).embedding for cut in (a, b))
    assert fvd_infinity(real, fake, network=NETWORK, window=2) == frechet_infinity(*rows, a_source, b_source)
    with pytest.raises(ValueError, match=r"got 8 sizes from 0\.25 of 4 rows, give more videos"):
        frechet_infinity(np.eye(4), np.eye(4))
    with pytest.raises(ValueError, match="a line in 1/n needs"):
        frechet_infinity(np.eye(9), np.eye(9), permutations=0)


def test_a_floor_of_rows_is_that_of_their_videos():
    random = np.random.default_rng(0)
    rows = np.repeat(random.standard_normal((40, 3)), 3, axis=0)
    source = np.repeat(np.arange(40), 3)
    assert frechet_floor(rows, 20, source).n == 60
    assert frechet_floor(rows, 20, source).value == pytest.approx(frechet_floor(rows[::3], 20, ddof=0).value, rel=0.05)
    with pytest.raises(ValueError, match="got 40, ask for n up to 20"):
        frechet_floor(rows, 21, source)


def test_pieces_and_workers_make_the_same_fvd_as_all_at_once():
    real, fake = drawn(90), drawn(70, seed=1)
    one = FvdAccumulator(NETWORK)
    one.update(real=real, fake=fake)
    first, second = FvdAccumulator(NETWORK), FvdAccumulator(NETWORK)
    for start in range(0, 40, 7):
        first.update(real=real[start : min(start + 7, 40)])
    first.update(fake=fake[:50])
    second.update(real=real[40:], fake=fake[50:])
    first.merge(second)
    whole = frechet_score(*(NETWORK.embed(videos).embedding for videos in (real, fake)))
    for accumulator in (one, first):
        score = accumulator.compute()
        assert score.value == pytest.approx(whole.value, rel=1e-9)
        assert score.n == 70
        assert score.high - score.low == pytest.approx(whole.high - whole.low, rel=0.6)
    longer = FvdAccumulator(NETWORK)
    longer.update(real=drawn(2, frames=6))
    for add in (lambda: first.merge(longer), lambda: first.update(fake=drawn(2, frames=6))):
        with pytest.raises(ValueError, match="only at equal length: got 6 frames after 4, cut windows"):
            add()
    first.reset()
    with pytest.raises(ValueError, match="at least 2 samples in each set: got 0 and 0"):
        first.compute()
    with pytest.raises(ValueError, match="only equal accumulators merge"):
        first.merge(FvdAccumulator(NETWORK, ddof=0))
    with pytest.raises(ValueError, match=r"\(network, weights, storage, ddof, groups\) \('means', 'a'"):
        FvdAccumulator(Weighed(digest="a")).merge(FvdAccumulator(Weighed(digest="b")))
    FvdAccumulator(Weighed(digest="a")).merge(FvdAccumulator(Weighed(digest="a")))


def test_what_an_accumulator_refuses_adds_nothing():
    class Dazzled(Means):
        """No numbers for white videos."""

        def embed(self, videos):
            rows = super().embed(videos).embedding
            return Features(np.where(rows == 255, np.nan, rows), {})

    accumulator = FvdAccumulator(Dazzled())
    accumulator.update(real=drawn(30), fake=drawn(30, seed=1))
    before, damaged = accumulator.compute(), drawn(30, seed=2)
    damaged[-1] = 255
    for refused in ({"fake": damaged}, {"real": drawn(5), "fake": damaged}):
        with pytest.raises(ValueError, match="1 of 2 rows are not: look at those videos"):
            accumulator.update(**refused)
        assert accumulator.compute() == before


def test_an_accumulator_stores_and_divides_as_its_protocol_says():
    random = np.random.default_rng(0)
    real, fake = (random.integers(0, 256, (7, 2, 40, 60, 3), dtype=np.uint8) for _ in range(2))
    row = FVD["styleganv"]
    under, stored = FvdAccumulator(NETWORK, row), FvdAccumulator(NETWORK, row, stored=True)
    under.update(real=real[:3], fake=fake, batch_size=2)
    under.update(real=real[3:])
    stored.update(real=store(real, row.real.storage), fake=fake)
    a, b = (Gaussian.of(NETWORK.embed(videos).embedding) for videos in (store(real, row.real.storage), fake))
    for accumulator in (under, stored):
        assert accumulator.compute().value == pytest.approx(frechet_distance(a, b, ddof=0), rel=1e-9)
    with pytest.raises(ValueError, match="only equal accumulators merge"):
        under.merge(stored)


def test_replicates_are_the_distances_with_one_group_left_out():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((60, 3)), random.standard_normal((60, 3)) + 1
    score = frechet_score(x, y)
    group = assign_groups(np.arange(60))
    left_out = score.replicates[1][4]
    assert left_out == pytest.approx(frechet_score(x, y[group != 4]).value, rel=1e-9)
    assert [len(side) for side in score.replicates] == [20, 20]
    assert frechet_score(x[:2], y[:2]).replicates == ([], [])
