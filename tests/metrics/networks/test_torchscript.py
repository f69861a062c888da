"""Programs run only when they are known or trusted."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from metrics.networks.features import FeatureNetwork
from metrics.networks.torchscript import CALLS, load_script
from metrics.weights import WeightsError
from tests.metrics.weight_files import save_script


class Flags(nn.Module):
    """Says what it was called with."""

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        flags = torch.tensor([float(rescale), float(resize), float(return_features)])
        return torch.cat([x.float().mean(dim=[2, 3, 4]), flags.expand(x.shape[0], 3)], dim=1)


class Classes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.25, 0.75, 0.0]]).expand(x.shape[0], 3)


def test_a_program_nobody_knows_does_not_run(tmp_path):
    path = save_script(tmp_path / "i3d_torchscript.pt", Flags())
    with pytest.raises(WeightsError, match=r"its sha256 [0-9a-f]{64} is not the published one's; say trust=True"):
        load_script(path, "i3d")
    with pytest.raises(WeightsError, match="is not known to anybody"):
        load_script(path, "c3d")
    with pytest.raises(WeightsError, match="there is no such file"):
        load_script(tmp_path / "none.pt", "i3d", trust=True)
    path.write_bytes(b"no program")
    with pytest.raises(WeightsError, match="it is no TorchScript program"):
        load_script(path, "i3d", trust=True)


def test_a_trusted_program_is_called_as_its_authors_call_it(tmp_path):
    network = load_script(save_script(tmp_path / "i3d.pt", Flags()), "i3d", trust=True, batch=2)
    assert isinstance(network, FeatureNetwork)
    assert network.name == f"script:i3d:{network.sha256[:8]}"
    videos = np.random.default_rng(0).integers(0, 256, (3, 9, 4, 6, 3), dtype=np.uint8)
    features = network.embed(videos)
    np.testing.assert_allclose(features.embedding[:, :3], videos.mean(axis=(1, 2, 3)), rtol=1e-5)
    assert (features.embedding[:, 3:] == 1).all()
    assert features.logits.keys() == {CALLS["i3d"].head}


def test_a_known_program_runs(tmp_path, monkeypatch):
    path = save_script(tmp_path / "i3d.pt", Flags())
    sha256 = load_script(path, "i3d", trust=True).sha256
    monkeypatch.setitem(CALLS, "i3d", dataclasses.replace(CALLS["i3d"], sha256=sha256))
    assert load_script(path, "i3d").sha256 == sha256
    path.rename(tmp_path / "i3d_torchscript.pt")
    assert load_script(tmp_path, "i3d").sha256 == sha256  # a folder of weights, as VIDRD_METRICS_WEIGHTS names one
    with pytest.raises(WeightsError, match=r"c3d_ucf101\.pt cannot be used as weights: there is no such file"):
        load_script(tmp_path, "c3d")


def test_probabilities_become_logits(tmp_path):
    network = load_script(save_script(tmp_path / "c3d.pt", Classes()), "c3d", trust=True)
    rows = network.embed(np.zeros((1, 16, 4, 4, 3), np.uint8)).logits["ucf101"]
    np.testing.assert_allclose(np.exp(rows), [[0.25, 0.75, 0]], rtol=1e-6)
