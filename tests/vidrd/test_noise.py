"""Noise depends on its key and the video's seed, and on nothing else; the priors keep unit variance."""

import pytest
import torch

from vidrd.noise import KeyedNoise, Noise, StreamNoise, mixed, progressive

SHAPE = (4, 6, 5, 5)


def test_both_sources_are_noise():
    assert isinstance(KeyedNoise((1,)), Noise)
    assert isinstance(StreamNoise(torch.Generator(), 1), Noise)


def test_noise_is_standard_normal_float32_on_the_cpu():
    noise = KeyedNoise(range(50))("initial", 0, SHAPE)
    assert noise.shape == (50, *SHAPE)
    assert (noise.dtype, noise.device.type) == (torch.float32, "cpu")
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.var()) == pytest.approx(1, abs=0.03)


def test_the_batch_and_the_order_of_calls_change_nothing():
    one, many = KeyedNoise((7,)), KeyedNoise((1, 7, 2))
    later = many("step", 3, SHAPE, 9)
    assert torch.equal(one("initial", 1, SHAPE)[0], many("initial", 1, SHAPE)[1])
    assert torch.equal(many("step", 3, SHAPE, 9), later)


def test_every_part_of_the_key_counts():
    draws = [
        KeyedNoise((seed,))(purpose, clip, SHAPE, step)
        for seed in (0, 1, 2**32, -1)
        for purpose in ("initial", "step")
        for clip in (0, 1)
        for step in (0, 1)
    ]
    flat = torch.stack(draws).flatten(1).double()
    alike = torch.corrcoef(flat) - torch.eye(len(flat), dtype=torch.float64)
    assert float(alike.abs().max()) < 0.25


def test_the_bits_of_a_seed_never_change():
    """Videos are named by their seed, so no later version may draw them another noise."""
    drawn = KeyedNoise((42,))("initial", 0, (1, 1, 1, 3)).flatten().tolist()
    assert drawn == pytest.approx([-0.92861426, 1.38364470, -0.33932897], abs=1e-6)


def test_the_global_generator_is_not_read():
    state = torch.random.get_rng_state()
    KeyedNoise((1,))("initial", 0, SHAPE)
    StreamNoise(torch.Generator().manual_seed(1), 1)("initial", 0, SHAPE)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_stream_goes_on_from_draw_to_draw():
    noise = StreamNoise(torch.Generator().manual_seed(1), batch=2)
    first, second = noise("initial", 1, SHAPE), noise("initial", 1, SHAPE)
    assert first.shape == (2, *SHAPE)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_priors_keep_variance_one_and_correlate_frames(alpha):
    own, shared = KeyedNoise(range(400))("own", 0, SHAPE), KeyedNoise(range(400))("shared", 0, (4, 1, 5, 5))
    share = alpha**2 / (1 + alpha**2)
    for frames, neighbours in ((mixed(shared, own, alpha), share), (progressive(own, alpha), share**0.5)):
        per_frame = frames.transpose(0, 2).flatten(1).double()
        assert per_frame.var(dim=1).tolist() == pytest.approx([1] * SHAPE[1], abs=0.04)
        assert float(torch.corrcoef(per_frame[:2])[0, 1]) == pytest.approx(neighbours, abs=0.03)


def test_the_released_priors_lose_variance():
    own, shared = KeyedNoise(range(400))("own", 0, SHAPE), KeyedNoise(range(400))("shared", 0, (4, 1, 5, 5))
    assert float(mixed(shared, own, 1.0, "released").std()) == pytest.approx(0.71, abs=0.01)
    spread = progressive(own, 1.0, "released").transpose(0, 2).flatten(1).std(dim=1)
    assert spread.tolist() == pytest.approx([1.00, 0.87, 0.79, 0.75, 0.73, 0.72], abs=0.015)


def test_priors_at_alpha_zero_are_the_frames_themselves():
    own, shared = KeyedNoise((1,))("own", 0, SHAPE), KeyedNoise((1,))("shared", 0, (4, 1, 5, 5))
    for compat in ("paper", "released"):
        assert torch.equal(mixed(shared, own, 0.0, compat), own)
        assert torch.equal(progressive(own, 0.0, compat), own)
