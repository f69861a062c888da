"""The pocket classifiers: the contract of feature networks, the file, and what a broken file says."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from metrics.networks.features import FeatureNetwork, extract
from metrics.networks.pocket import NETWORKS, Conv, describe, load_classifier
from metrics.weights import load_safetensors_verified

CLASSES = {"action": ("left", "right", "still"), "colour": ("red", "blue")}


def untrained(name: str) -> torch.nn.Module:
    """Random weights whose batch-norms have seen something, so that folding them shows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NETWORKS[name]({head: len(names) for head, names in CLASSES.items()})
        network.train()
        network(torch.randn(4, 3, 8, 16, 16))
    network.unit.fill_(2.5)
    return network.eval()


@pytest.fixture(params=NETWORKS)
def saved(request, tmp_path):
    network = untrained(request.param)
    path = tmp_path / "classifier.safetensors"
    save_file(network.state_dict(), path, describe(request.param, CLASSES))
    return network, path


def some_videos(n: int, frames: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, frames, 32, 32, 3), dtype=np.uint8)


def test_a_judge_keeps_the_contract(saved):
    network, path = saved
    classifier = load_classifier(path)
    assert isinstance(classifier, FeatureNetwork)
    assert classifier.name in NETWORKS
    assert classifier.classes == CLASSES
    assert sum(p.numel() for p in network.parameters()) < 300_000
    assert load_classifier(path, sha256=classifier.sha256).sha256 == classifier.sha256
    features = classifier.embed(some_videos(3))
    assert features.embedding.shape == (3, 64)
    assert {head: rows.shape for head, rows in features.logits.items()} == {"action": (3, 3), "colour": (3, 2)}
    assert classifier.embed(some_videos(1, frames=8)).embedding.shape == (1, 64)
    with pytest.raises(ValueError, match="at least 8 frames: got 7"):
        classifier.embed(some_videos(1, frames=7))


def test_float32_means_float32(saved):
    _, path = saved
    classifier, seen = load_classifier(path), []
    classifier.network.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.conv.fp32_precision))
    classifier.embed(some_videos(1))
    assert seen == ["ieee"]


def test_a_loaded_judge_says_what_the_trained_network_said(saved):
    network, path = saved
    videos = some_videos(3)
    with torch.inference_mode():
        embedding, logits = network(torch.from_numpy(videos).permute(0, 4, 1, 2, 3) / 127.5 - 1)
    features = load_classifier(path).embed(videos)
    np.testing.assert_allclose(features.embedding, embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features.logits["action"], logits["action"], rtol=1e-4, atol=1e-5)


def test_the_batch_changes_nothing_beyond_rounding(saved):
    classifier = load_classifier(saved[1])
    videos = some_videos(7)
    whole = extract(classifier, videos)
    for batch_size in (1, 3):
        parts = extract(classifier, videos, batch_size=batch_size)
        np.testing.assert_allclose(parts.embedding, whole.embedding, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(parts.logits["colour"], whole.logits["colour"], rtol=1e-4, atol=1e-5)


def test_folding_leaves_no_batch_norm():
    network = untrained("pocket-i3d")
    folded = copy.deepcopy(network)
    for layer in folded.modules():
        if isinstance(layer, Conv):
            layer.fuse()
    assert not any(isinstance(layer, torch.nn.BatchNorm3d) for layer in folded.modules())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("absent", "No such file"),
        ("truncated", "is not a whole safetensors file"),
        ("text", "is not a whole safetensors file"),
        ("nan", r"heads\.action\.weight is not finite"),
        ("shape", r"heads\.colour\.bias is \(3,\), the network wants \(2,\)"),
        ("lacks", r"it lacks heads\.colour\.bias;"),
        ("more", r"it has an unknown extra and 1 more;"),
        ("network", "name the network 'other', a classifier is one of pocket-i3d, pocket-c3d"),
        ("heads", "do not name the classes"),
        ("digest", "its sha256 is .*, 0000 was asked for"),
    ],
)
def test_a_broken_file_is_told_in_one_line(tmp_path, fault, message):
    tensors = untrained("pocket-c3d").state_dict()
    metadata = describe("pocket-c3d", CLASSES)
    path = tmp_path / "classifier.safetensors"
    match fault:
        case "nan":
            tensors["heads.action.weight"][0, 0] = float("nan")
        case "shape":
            tensors["heads.colour.bias"] = torch.zeros(3)
        case "lacks":
            del tensors["heads.colour.bias"]
        case "more":
            tensors |= {"extra": torch.zeros(1), "spare": torch.zeros(1)}
        case "network":
            metadata["network"] = "other"
        case "heads":
            metadata["heads"] = json.dumps(["action"])
    save_file(tensors, path, metadata)
    whole = path.read_bytes()
    match fault:
        case "absent":
            path.unlink()
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "text":
            path.write_text("no weights")
    with pytest.raises(ValueError, match=message) as caught:
        load_classifier(path, sha256="0000" if fault == "digest" else None)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path} is not a whole safetensors file: ")
    assert line.endswith("make it again with `nox -s train -- --preset pocket` or give --weights")


def test_verified_tensors_come_with_their_metadata(tmp_path):
    path = tmp_path / "one.safetensors"
    save_file({"one": torch.ones(2)}, path, {"made": "here"})
    weights = load_safetensors_verified(path)
    assert weights.tensors["one"].tolist() == [1, 1]
    assert weights.metadata == {"made": "here"}
    assert load_safetensors_verified(path, weights.sha256.upper()).sha256 == weights.sha256
