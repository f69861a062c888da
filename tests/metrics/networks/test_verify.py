"""Verification: which network, which tensors, which behavior."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from metrics.__main__ import main
from metrics.networks.c3d import c3d_shapes
from metrics.networks.verify import CONSTANT_CLIPS, describe, verify
from metrics.weights import WeightsError
from metrics.weights.published import CHECKSUMS, FILES, _checksum, hashes
from tests.metrics.weight_files import i3d_weights, write_checkpoint, write_npz


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Recipe weights in the place of the published ones, with their checksums."""
    weights = i3d_weights(unit_scales=True)
    index = write_checkpoint(tmp_path_factory.mktemp("tf") / "model.ckpt", weights)
    sums = {name: _checksum(tensor) for name, tensor in weights.items() if name in CHECKSUMS["rgb_scratch"]}
    return index, sums


@pytest.fixture(scope="module")
def unrecognised(checkpoint):
    return verify(checkpoint[0], lengths=(10,))


def test_recipe_weights_are_unrecognised(unrecognised):
    verification = unrecognised
    assert (verification.verdict, verification.network, verification.weights) == ("unrecognised", "i3d", "unrecognised")
    assert set(verification.tensors.values()) == {"unknown"}
    assert [file.published_as for file in verification.files] == [None, None]
    here, published = verification.clips[10]
    assert published == 569.23
    assert abs(here / published - 1) > 0.01
    text = describe(verification)
    assert "not one tensor is that of a published checkpoint: it is comparable with nothing" in text
    assert "black against white clips of 10 frames" in text
    json.dumps(asdict(verification), allow_nan=False)


def test_right_weights_are_right_only_if_they_behave(checkpoint, unrecognised, monkeypatch):
    index, sums = checkpoint
    monkeypatch.setitem(CHECKSUMS, "rgb_scratch", sums)
    monkeypatch.setitem(FILES, hashes(index)[1], "the index of the test")
    distance = unrecognised.clips[10][0]
    monkeypatch.setitem(CONSTANT_CLIPS, 10, distance * 1.005)
    verification = verify(index, lengths=(10,))
    assert (verification.verdict, verification.weights) == ("right", "rgb_scratch")
    assert verification.files[0].published_as == "the index of the test"
    assert "287 right" in describe(verification)
    monkeypatch.setitem(CONSTANT_CLIPS, 10, distance * 1.02)
    assert verify(index, lengths=(10,)).verdict == "wrong"


def test_one_other_tensor_is_found(checkpoint, monkeypatch):
    index, sums = checkpoint
    monkeypatch.setitem(CHECKSUMS, "rgb_scratch", {**sums, "Mixed_4f.b2b.conv3d.weight": "12345678"})
    verification = verify(index, lengths=())
    assert (verification.verdict, verification.weights) == ("wrong", "damaged")
    assert "tensors: 286 right, 1 wrong" in describe(verification).replace("1 wrong, 286 right", "286 right, 1 wrong")
    assert "  wrong: Mixed_4f.b2b.conv3d.weight" in describe(verification)
    monkeypatch.setitem(CHECKSUMS, "rgb_scratch", {})
    monkeypatch.setitem(CHECKSUMS, "rgb_imagenet", sums)
    verification = verify(index, lengths=())
    assert (verification.verdict, verification.weights) == ("wrong", "rgb_imagenet")


def test_c3d_is_at_best_unrecognised(tmp_path, monkeypatch):
    small = {name: tuple(1 + side % 3 for side in shape) for name, shape in c3d_shapes().items()}
    monkeypatch.setattr("metrics.networks.verify.c3d_shapes", lambda: small)
    tensors = {name: torch.ones(shape) for name, shape in small.items()}
    verification = verify(write_npz(tmp_path / "conv3d_deepnetA_ucf.npz", tensors))
    assert (verification.verdict, verification.network, verification.clips) == ("unrecognised", "c3d", {})
    assert "no checksum of C3D's values was ever published" in describe(verification)


def test_the_command_line(checkpoint, tmp_path, monkeypatch, capsys):
    index, _ = checkpoint
    monkeypatch.setattr("metrics.networks.verify.SOME_LENGTHS", (10,))

    def code(*words) -> int:
        monkeypatch.setattr("sys.argv", ["metrics", "verify", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code

    facts, exported = tmp_path / "facts.json", tmp_path / "i3d.safetensors"
    assert code("--weights", index, "--json", facts, "--export", exported) == 4
    assert "unrecognised: i3d" in capsys.readouterr().out
    assert json.loads(facts.read_text())["network"] == "i3d"
    assert verify(exported, lengths=()).digest == json.loads(facts.read_text())["digest"]
    assert code("--weights", tmp_path / "none") == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_what_cannot_be_read_is_refused(tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="none of its 1 tensors has a name"):
        verify(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"published for 10 to 30 frames: got \[9\]"):
        verify(tmp_path / "x.safetensors", lengths=(9,))


def test_the_published_table_has_the_steps_of_the_averaged_logits():
    """From 16 to 17 frames, and from 24 to 25, another step of logits enters the mean."""
    lengths = np.array(sorted(CONSTANT_CLIPS))
    assert lengths.tolist() == list(range(10, 31))
    assert CONSTANT_CLIPS[17] > 2 * CONSTANT_CLIPS[16]
    assert CONSTANT_CLIPS[25] > 4 * CONSTANT_CLIPS[24]
