"""The comparison with and without temporal layers: paired, and silent where it says so."""

import numpy as np
import pytest
import torch

from bench.studies.temporal_layers import paired_difference, silenced
from vidrd.checkpoints import load_pipeline


def test_the_paired_difference_sees_what_two_intervals_would_not():
    rng = np.random.default_rng(0)
    real, base = rng.standard_normal((400, 6)), rng.standard_normal((200, 6))
    caption = np.arange(400) % 200
    score = paired_difference(real, base + 0.3, base + 0.4, caption)
    assert score.low > 0
    assert score.value == pytest.approx(6 * (0.16 - 0.09), abs=0.25)
    swapped = paired_difference(real, base + 0.4, base + 0.3, caption)
    assert swapped.value == pytest.approx(-score.value)
    same = paired_difference(real, base, base, caption)
    assert same.value == same.low == same.high == 0


@torch.no_grad()
def test_without_temporal_layers_frames_do_not_know_of_each_other():
    pipeline = load_pipeline("pocket")
    frames = torch.randn(5, 8, 8, 8)
    quiet = silenced(pipeline, decoder=True)
    alone = quiet.vae.decode(frames, num_frames=1).sample
    torch.testing.assert_close(quiet.vae.decode(frames, num_frames=5).sample, alone, rtol=0, atol=1e-4)
    assert not torch.allclose(pipeline.vae.decode(frames, num_frames=5).sample, alone, atol=1e-3)
    other = silenced(pipeline, unet=True).unet
    assert all(not layer.convs[-1].weight.any() for layer in other.modules() if hasattr(layer, "convs"))
    assert pipeline.unet.state_dict().keys() == other.state_dict().keys()
