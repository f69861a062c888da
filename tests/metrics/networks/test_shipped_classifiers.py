"""The shipped classifiers: they know real pocket video, and FVD and IS rank planted faults by their weight."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.videos.train_classifiers import FILES, accuracy, draw_windows
from metrics.distribution.fvd import frechet_score
from metrics.distribution.inception_score import score_of_logits
from metrics.networks.features import extract
from metrics.networks.pocket import load_classifier
from vidrd.pocket.world import TEST_SEEDS

SHIPPED = Path(__file__).parents[3] / "weights" / "pocket-judges"
CARD = json.loads((SHIPPED / "card.json").read_text())
N = 192


@pytest.fixture(scope="module")
def classifiers():
    return {name: load_classifier(SHIPPED / file, sha256=CARD["files"][file]["sha256"]) for name, file in FILES.items()}


@pytest.fixture(scope="module")
def sets():
    """Real videos, others, and others with one fault each."""
    random = np.random.default_rng(0)
    real, _ = draw_windows(TEST_SEEDS[2000 : 2000 + N])
    fresh, _ = draw_windows(TEST_SEEDS[3000 : 3000 + N])
    noisy = np.clip(np.rint(fresh + 8 * random.standard_normal(fresh.shape)), 0, 255).astype(np.uint8)
    cut = np.concatenate([fresh[:, :8], np.roll(fresh, 1, axis=0)[:, 8:]], axis=1)
    return {
        "real": real,
        "fresh": fresh,
        "noise": noisy,
        "shuffled": fresh[:, random.permutation(16)],
        "cut": cut,
        "still": np.repeat(fresh[:, :1], 16, axis=1),
    }


def test_classifiers_know_real_videos_of_seeds_they_never_saw(classifiers):
    for name, file in FILES.items():
        reached = CARD["files"][file]["held_out_accuracy_by_frames"]
        assert set(reached) == {"8", "16"}
        for heads in reached.values():
            assert heads["action"] >= 0.95
            assert min(heads.values()) >= 0.93
        videos, wanted = draw_windows(TEST_SEEDS[5000 : 5000 + N], frames=8)
        for head, share in accuracy(classifiers[name], videos, wanted).items():
            assert share > reached["8"][head] - 0.06


def test_fvd_ranks_planted_faults_by_their_weight(classifiers, sets):
    rows = {name: extract(classifiers["pocket-i3d"], videos).embedding for name, videos in sets.items()}
    fvd = {name: frechet_score(rows["real"], rows[name]) for name in sets if name != "real"}
    order = ["fresh", "noise", "cut", "shuffled", "still"]
    values = [fvd[name].value for name in order]
    assert values == sorted(values)
    assert fvd["cut"].low > fvd["fresh"].high
    assert fvd["still"].value > 5 * fvd["fresh"].value


def test_inception_score_sinks_where_no_action_is_seen(classifiers, sets):
    score = {
        name: score_of_logits(extract(classifiers["pocket-c3d"], sets[name]).logits["action"]).value
        for name in ("fresh", "still", "shuffled", "cut")
    }
    assert 10 < score["fresh"] <= 14
    assert max(score["still"], score["shuffled"], score["cut"]) < 0.4 * score["fresh"]
