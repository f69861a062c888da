"""What is loaded is what was hashed, whole or not at all, and out of regular files alone."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.ucf101.standins.weight_files import field, table
from metrics.networks.i3d import I3D, build_i3d
from metrics.networks.pocket import NETWORKS, describe, is_classifier, load_classifier
from metrics.networks.torchscript import load_script
from metrics.temporal.raft import load_raft
from metrics.weights import WeightsError, load_safetensors_verified
from metrics.weights.tf_checkpoint import read_index

CLASSES = {"action": ("a", "b", "c")}


def state() -> dict[str, torch.Tensor]:
    return NETWORKS["pocket-c3d"]({"action": 3}).state_dict()


@pytest.fixture
def file(tmp_path) -> Path:
    save_file(state(), tmp_path / "a.safetensors", describe("pocket-c3d", CLASSES))
    return tmp_path / "a.safetensors"


def test_a_file_that_is_exchanged_after_it_was_hashed_is_not_what_is_loaded(file, tmp_path, monkeypatch):
    expected, _, sha256 = load_safetensors_verified(file)
    save_file({name: torch.zeros_like(tensor) for name, tensor in state().items()}, tmp_path / "other.safetensors")
    other, real_open = (tmp_path / "other.safetensors").read_bytes(), os.open

    def open_and_exchange(path, *args, **kwargs):
        handle = real_open(path, *args, **kwargs)
        if str(path) == str(file):
            (tmp_path / "new").write_bytes(other)
            os.replace(tmp_path / "new", file)  # whoever opens the path again gets the other file
        return handle

    monkeypatch.setattr(os, "open", open_and_exchange)
    tensors, metadata, digest = load_safetensors_verified(file, sha256)
    assert digest == sha256
    assert metadata["network"] == "pocket-c3d"
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert file.read_bytes() == other


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["pipe", "zero"])
def test_weights_are_read_out_of_regular_files_alone(tmp_path, make):
    for name, load in (
        ("a.safetensors", load_safetensors_verified),
        ("a.pt", lambda path: load_script(path, "i3d", trust=True)),
        ("a.pth", load_raft),
    ):
        make(tmp_path / name)
        with pytest.raises(ValueError, match=r"is no regular file|there is no such file"):
            load(tmp_path / name)
    assert not is_classifier(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensors: tensors.pop("heads.action.bias"), "it lacks heads.action.bias"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "it has an unknown more"),
        (lambda tensors: tensors.update({"heads.action.bias": torch.zeros(4)}), r"heads.action.bias is \(4,\)"),
        (lambda tensors: tensors.update({"unit": torch.ones((), dtype=torch.float16)}), "unit is torch.float16"),
    ],
)
def test_a_classifier_is_loaded_exactly_or_not_at_all(tmp_path, spoil, message):
    tensors = state()
    spoil(tensors)
    save_file(tensors, tmp_path / "a.safetensors", describe("pocket-c3d", CLASSES))
    with pytest.raises(ValueError, match=message):
        load_classifier(tmp_path / "a.safetensors")


def test_i3d_is_built_of_all_its_tensors_or_not_at_all():
    tensors = I3D(thin=8).state_dict()
    assert build_i3d(tensors, epsilon=1e-3, thin=8)
    counters = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    assert build_i3d(counters, epsilon=1e-3, thin=8)
    some = {name: tensor for name, tensor in tensors.items() if name != "logits.conv3d.bias"}
    with pytest.raises(ValueError, match=r"I3D lacks logits\.conv3d\.bias"):
        build_i3d(some, epsilon=1e-3, thin=8)
    with pytest.raises(ValueError, match="I3D has the unknown more"):
        build_i3d({**tensors, "more": torch.zeros(1)}, epsilon=1e-3, thin=8)


@pytest.mark.parametrize("shards", [0, 1 << 40])
def test_an_index_of_endless_shards_is_refused_before_they_are_counted(tmp_path, shards):
    (tmp_path / "model.ckpt.index").write_bytes(table({"": field(1, shards) + field(3, field(1, 1))}))
    with pytest.raises(WeightsError, match=rf"says that its tensors are in {shards} files"):
        read_index(tmp_path / "model.ckpt.index")
