"""raft-things.pth: the authors' names, and VBench's flow, padding and verdict on recipe weights."""

import numpy as np
import pytest
import torch

from metrics.temporal.raft import Raft, load_raft, rename_authors
from metrics.vbench.formulas import fastest, moves
from tests.metrics import recipes2026 as recipe
from tests.metrics.recipes import rng, sample

VIDEOS = {
    "move_128x160": np.stack([recipe.textured(3 * t, 128, 160) for t in range(5)]),
    "noise_130x150": rng("m26/raft/noise").integers(0, 256, size=(3, 130, 150, 3), dtype=np.uint8),
}


@pytest.fixture(scope="module")
def raft(tmp_path_factory) -> Raft:
    path = tmp_path_factory.mktemp("raft") / "raft-things.pth"
    torch.save({f"module.{name}": tensor for name, tensor in recipe.raft_weights().items()}, path)
    return load_raft(path, updates=20)


@pytest.mark.parametrize("name", VIDEOS)
def test_flow_and_speed_are_vbenchs(raft, name):
    video, known = VIDEOS[name], recipe.golden("raft")["results"][name]
    flow = raft.padded(video[:1], video[1:2])[0]
    assert list(flow.shape[:2]) == known["flow_shape"][1:]
    golden = recipe.arrays("raft")[f"flow/{name}"][0]
    np.testing.assert_allclose(sample(flow.transpose(2, 0, 1), 64), golden, atol=1e-3)
    assert fastest(flow) == pytest.approx(known["max_rad"][0], abs=1e-4)
    assert moves(np.array(known["max_rad"]), *video.shape[1:3]) is known["moves"]


def test_small_frames_are_refused(raft):
    video = np.stack([recipe.textured(3 * t) for t in range(3)])
    with pytest.raises(ValueError, match="at least 128 pixels a side: got 96 x 128, give larger ones"):
        raft.padded(video[:1], video[1:2])
    known = recipe.golden("raft")["results"]["move_96x128"]
    assert moves(np.array([np.nan, np.nan]), 96, 128, compat=True) is known["moves"]


def test_float32_means_float32():
    seen = []

    class Still(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, a, b, num_flow_updates):
            seen.append(torch.backends.cudnn.conv.fp32_precision)
            return [torch.zeros_like(a[:, :2])]

    flow = Raft(Still(), "still")
    assert len(list(flow(VIDEOS["noise_130x150"]))) == 2
    flow.padded(VIDEOS["noise_130x150"][:1], VIDEOS["noise_130x150"][1:2])
    assert seen == ["ieee"] * 3


def test_a_norm_that_is_stored_twice_must_be_the_same_twice():
    tensors = recipe.raft_weights()
    assert len(tensors) == 179
    assert len(rename_authors(tensors)) == 169
    tensors["cnet.layer2.0.downsample.1.bias"] = tensors["cnet.layer2.0.downsample.1.bias"] + 1
    with pytest.raises(ValueError, match="stored twice with different values: the file is damaged"):
        rename_authors(tensors)
