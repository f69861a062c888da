"""The pipeline without its temporal layers treats every frame alone."""

import torch

from bench.studies.temporal_layers import silenced
from vidrd.checkpoints import load_pipeline


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
