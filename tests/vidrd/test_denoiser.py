"""Guidance is bound into the network once, costs one call, and vanishes at 1."""

from types import SimpleNamespace

import pytest
import torch

from vidrd.denoiser import Denoiser, GuidedDenoiser

LATENTS = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
TEXT, EMPTY = torch.full((2, 5, 6), 2.0), torch.full((2, 5, 6), 1.0)


class Network:
    """Answers latents scaled by the text's mean, and remembers what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, latents, timestep, encoder_hidden_states):
        self.calls.append((len(latents), timestep, encoder_hidden_states))
        return SimpleNamespace(sample=latents * encoder_hidden_states.mean(dim=(1, 2)).reshape(-1, 1, 1, 1, 1))


def test_guidance_is_one_call_of_both_branches():
    network = Network()
    denoise = GuidedDenoiser(network, TEXT, EMPTY, guidance=10.0)
    assert isinstance(denoise, Denoiser)
    assert denoise.branches == 2
    # away from 1, towards 2, ten times: 1 + 10 * (2 - 1)
    assert torch.allclose(denoise(LATENTS, torch.tensor(500)), 11 * LATENTS)
    assert [size for size, *_ in network.calls] == [4]


def test_guidance_of_one_never_evaluates_the_negative_text():
    network = Network()
    denoise = GuidedDenoiser(network, TEXT, EMPTY, guidance=1.0)
    assert denoise.branches == 1
    assert torch.equal(denoise(LATENTS, torch.tensor(500)), 2 * LATENTS)
    (call,) = network.calls
    assert call[0] == 2
    assert torch.equal(call[2], TEXT)


@pytest.mark.parametrize(("guidance", "batch"), [(1.0, 2), (3.0, 4)])
def test_timesteps_of_frames_reach_every_video(guidance, batch):
    network = Network()
    GuidedDenoiser(network, TEXT, EMPTY, guidance)(LATENTS, torch.tensor([1, 2, 3]))
    assert network.calls[0][1].tolist() == [[1, 2, 3]] * batch


def test_texts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"guidance 7\.5 steers away from a negative text"):
        GuidedDenoiser(Network(), TEXT, guidance=7.5)
    with pytest.raises(ValueError, match=r"one shape: got .*2, 4, 6.*2, 5, 6"):
        GuidedDenoiser(Network(), TEXT, EMPTY[:, :4], guidance=7.5)
    with pytest.raises(ValueError, match="got 1 videos and 2 texts"):
        GuidedDenoiser(Network(), TEXT)(LATENTS[:1], torch.tensor(0))
