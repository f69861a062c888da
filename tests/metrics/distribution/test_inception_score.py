"""Inception Score: oracles, published implementations, splits, the ceiling, edges."""

import numpy as np
import pytest
from scipy.special import softmax

from metrics.distribution.accumulators import IsAccumulator
from metrics.distribution.inception_score import (
    ceiling,
    inception_score,
    score_of_logits,
    score_of_probabilities,
    split_scores,
)
from metrics.networks.features import Features
from tests.metrics.distribution.test_fvd import NETWORK, Means, Weighed, drawn
from tests.metrics.goldens import class_logits, golden

PEER = "torch-fidelity 0.4.0 isc_features_to_metric(splits={},shuffle=False,rng_seed=2020)"


def onehot(n: int, classes: int) -> np.ndarray:
    return np.eye(classes)[np.arange(n) % classes]


class Broken(Means):
    """A network whose logits are no numbers."""

    def embed(self, videos):
        return Features(np.zeros((len(videos), 2)), {"light": np.full((len(videos), 2), np.nan)})


def test_certainty_and_variety_decide():
    assert score_of_probabilities(onehot(101, 101)).value == pytest.approx(101, rel=1e-12)
    assert score_of_probabilities(np.full((50, 10), 0.1)).value == pytest.approx(1, rel=1e-12)
    assert score_of_probabilities(np.tile(onehot(1, 10), (50, 1))).value == pytest.approx(1, rel=1e-12)
    assert score_of_probabilities(onehot(40, 4) * 0.5 + 0.125).value == pytest.approx(
        np.exp(0.625 * np.log(2.5) + 0.375 * np.log(0.5)), rel=1e-12
    )


@pytest.mark.parametrize("n", [1000, 2048, 50])
def test_score_agrees_with_published_implementations(n):
    values, logits = golden("inception_score.json")["values"], class_logits(n)
    for splits in (1, 10):
        assert score_of_logits(logits, splits=splits).value == pytest.approx(
            values[PEER.format(splits)][f"N{n}"][0], rel=1e-9
        )
    probabilities = softmax(logits.astype(np.float64), axis=1).astype(np.float32)
    tgan2 = values["tgan2.inception_score(logits,splits=10)"][f"N{n}"][0]
    assert score_of_probabilities(probabilities, splits=10).value == pytest.approx(tgan2, rel=1e-6)
    tgan = values["tgan.calc_inception(probs float64)"][f"N{n}"]
    assert score_of_probabilities(probabilities, epsilon=1e-7).value == pytest.approx(tgan, rel=1e-9)
    for splits in (1, 10):
        shuffled = values[f"stylegan-v.compute_isv(num_gen=N,splits={splits})"][f"N{n}"][0]
        assert score_of_probabilities(probabilities, splits=splits, shuffle=42).value == pytest.approx(
            shuffled, rel=1e-6
        )
        epsilon = values[f"tgan2.inception_score(logits,splits={splits})"][f"N{n}"][0]
        value = score_of_probabilities(probabilities, splits=splits, epsilon=1e-20).value
        assert value == pytest.approx(epsilon, rel=1e-6)


@pytest.mark.parametrize("n", [1000, 2048])
def test_the_spread_over_splits_is_the_published_one(n):
    values = golden("inception_score.json")["values"]
    probabilities = softmax(class_logits(n).astype(np.float64), axis=1).astype(np.float32)
    for key, options in (
        ("tgan2.inception_score(logits,splits=10)", {"epsilon": 1e-20}),
        ("stylegan-v.compute_isv(num_gen=N,splits=10)", {"shuffle": 42}),
    ):
        each = split_scores(probabilities, splits=10, **options)
        assert [each.mean(), each.std()] == pytest.approx(values[key][f"N{n}"], rel=1e-5)


def test_ceiling_is_below_the_number_of_classes_and_sinks_with_splits():
    values = golden("inception_score.json")["values"]
    reference = values[
        "IS of a perfect classifier on uniformly random labels of 101 classes (own computation, not a peer)"
    ]
    assert ceiling(101, 2048) == pytest.approx(reference["N2048_splits1"][0], abs=0.15)
    assert ceiling(101, 2048, splits=10) == pytest.approx(reference["N2048_splits10"][0], abs=0.4)
    assert ceiling(101, 10000) == pytest.approx(reference["N10000_splits1"][0], abs=0.05)
    assert ceiling(101, 10000, splits=20) == pytest.approx(reference["N10000_splits20"][0], abs=0.1)
    assert ceiling(12, 10**6) == pytest.approx(12, rel=1e-3)


def test_interval_holds_the_truth_and_minds_windows_of_one_video():
    random = np.random.default_rng(0)
    trials = [score_of_logits(2 * random.standard_normal((100, 4))) for _ in range(60)]
    mean = np.mean([score.value for score in trials])
    assert 0.87 <= np.mean([score.low <= mean <= score.high for score in trials]) <= 1
    assert all(1 <= score.low < score.value < score.high <= 4 for score in trials)
    twice = np.repeat(class_logits(100), 10, axis=0)
    blind, aware = score_of_logits(twice), score_of_logits(twice, np.repeat(np.arange(100), 10))
    assert aware.value == blind.value
    assert aware.high - aware.low > 1.5 * (blind.high - blind.low)


def test_videos_are_scored_by_the_windows_of_a_head():
    videos = drawn(30, frames=9)
    score = inception_score(videos, network=NETWORK, head="light", window=4)
    assert score.n == 60
    assert 1 < score.value <= 2
    with pytest.raises(ValueError, match="means has no head 'action': it tells apart light"):
        inception_score(videos, network=NETWORK)


def test_what_is_no_probability_is_refused():
    for rows in (np.array([[0.5, 0.6]]), np.array([[1.5, -0.5]]), np.array([[np.nan, 1.0]])):
        with pytest.raises(ValueError, match="at least 0 and sum to 1"):
            score_of_probabilities(rows)
    for splits in (0, 5):
        with pytest.raises(ValueError, match=f"1 to 4 splits: got splits={splits}"):
            score_of_probabilities(onehot(4, 2), splits=splits)
    with pytest.raises(ValueError, match="1 to 4 splits: got splits=5"):
        ceiling(2, 4, splits=5)
    assert score_of_probabilities(onehot(2, 2)).low is None


def test_zero_probabilities_score_where_published_code_has_none():
    assert score_of_probabilities(onehot(1000, 101), splits=1, shuffle=42).value == pytest.approx(100.95, abs=0.01)


def test_pieces_and_workers_make_the_same_score_as_all_at_once():
    videos = drawn(50)
    whole = inception_score(videos, network=NETWORK, head="light")
    first, second = IsAccumulator(NETWORK, head="light"), IsAccumulator(NETWORK, head="light")
    first.update(videos[:13])
    first.update(videos[13:30])
    second.update(videos[30:])
    first.merge(second)
    score = first.compute()
    assert score.value == pytest.approx(whole.value, rel=1e-9)
    assert score.n == 50
    assert score.low < score.value < score.high
    with pytest.raises(ValueError, match="needs at least one video: got none"):
        IsAccumulator(NETWORK, head="light").compute()
    with pytest.raises(ValueError, match="has no head 'action'"):
        IsAccumulator(NETWORK).update(videos)
    with pytest.raises(ValueError, match="at least 0 and sum to 1"):
        IsAccumulator(Broken(), head="light").update(videos)
    with pytest.raises(ValueError, match="only equal accumulators merge"):
        first.merge(IsAccumulator(NETWORK, head="dark"))
    with pytest.raises(ValueError, match="only equal accumulators merge"):
        IsAccumulator(Weighed(digest="a"), head="light").merge(IsAccumulator(Weighed(digest="b"), head="light"))
