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


class Timed(Network):
    """Answers by the text of each video and by the timestep of each frame."""

    def __call__(self, latents, timestep, encoder_hidden_states):
        answer = super().__call__(latents, timestep, encoder_hidden_states).sample
        times = timestep if timestep.ndim == 0 else timestep[:, None, :, None, None]
        return SimpleNamespace(sample=answer + times)


TIMES = {"one": torch.tensor(7), "of frames": torch.tensor([1, 2, 3]), "of all": torch.tensor([[1, 2, 3], [4, 5, 6]])}
APART = torch.stack([TEXT[0], 3 * TEXT[1]])  # the videos' texts differ, so that no row may take another's place


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("budget", [1, 3, 5, 6, 1000])
def test_a_budget_splits_a_call_and_changes_no_answer(times, guidance, budget):
    network = Timed()
    split = GuidedDenoiser(network, APART, EMPTY, guidance, budget=budget)(LATENTS, times)
    assert torch.equal(split, GuidedDenoiser(Timed(), APART, EMPTY, guidance)(LATENTS, times))
    held = [size * LATENTS.shape[2] for size, *_ in network.calls]
    assert max(held) <= max(budget, LATENTS.shape[2])  # a video's frames stay together
    assert sum(held) == LATENTS.shape[2] * 2 * (1 if guidance == 1 else 2)
    assert len(held) == -(-sum(held) // max(3, budget // 3 * 3))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_network_may_take_no_text(guidance):
    network = lambda latents, timestep: SimpleNamespace(sample=2 * latents)  # noqa: E731
    assert torch.equal(GuidedDenoiser(network, {}, {}, guidance)(LATENTS, torch.tensor(7)), 2 * LATENTS)


def test_texts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"guidance 7\.5 steers away from a negative text"):
        GuidedDenoiser(Network(), TEXT, guidance=7.5)
    with pytest.raises(ValueError, match=r"one shape: got .*2, 4, 6.*2, 5, 6"):
        GuidedDenoiser(Network(), TEXT, EMPTY[:, :4], guidance=7.5)
    with pytest.raises(ValueError, match="got 1 videos and 2 texts"):
        GuidedDenoiser(Network(), TEXT)(LATENTS[:1], torch.tensor(0))
