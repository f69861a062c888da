"""Noise depends on its key and the video's seed, and on nothing else; the priors keep unit variance."""

import numpy as np
import pytest
import torch

from vidrd.noise import KeyedNoise, Noise, StreamNoise, as_seeds, mixed, progressive
from vidrd.sampler_contract import Request

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
    for frames, correlation in ((mixed(shared, own, alpha), share), (progressive(own, alpha), share**0.5)):
        per_frame = frames.transpose(0, 2).flatten(1).double()
        assert per_frame.var(dim=1).tolist() == pytest.approx([1] * SHAPE[1], abs=0.04)
        assert float(torch.corrcoef(per_frame[:2])[0, 1]) == pytest.approx(correlation, abs=0.03)


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


@pytest.mark.parametrize(
    "three",
    [np.int64(3), np.int32(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.uint8)],
    ids=lambda three: f"{type(three).__name__} {three.dtype}",
)
def test_equal_integers_are_one_seed_whatever_their_kind(three):
    want = KeyedNoise((3,))("initial", 0, SHAPE)
    assert torch.equal(KeyedNoise((three,))("initial", 0, SHAPE), want)
    assert Request(8, 4, (1, 1, 1), (three, 4)).seeds == (3, 4)
    assert as_seeds(three, 2) == as_seeds([three, 4], 2) == as_seeds(np.array([3, 4]), 2) == (3, 4)
    assert type(as_seeds(three, 1)[0]) is int


@pytest.mark.parametrize(
    "wrong",
    [3.0, np.float32(3), "3", None, True, np.True_, np.array([3]), torch.tensor([3]), torch.tensor(3.0), (3,)],
    ids=repr,
)
def test_what_is_no_integer_is_no_seed(wrong):
    for make in (lambda: KeyedNoise((wrong,)), lambda: Request(8, 4, (1, 1, 1), (2, wrong))):
        with pytest.raises(ValueError, match="a seed is one integer: got "):
            make()


@pytest.mark.parametrize("wrong", ["12", 3, np.array(3), np.array([[1, 2]])], ids=repr)
def test_seeds_are_a_sequence_where_each_video_has_its_own(wrong):
    with pytest.raises(ValueError, match="seeds are a sequence of integers, one for each video: got"):
        Request(8, 4, (1, 1, 1), wrong)


def test_seeds_have_64_bits_with_or_without_a_sign():
    ends = (-(2**63), -1, 0, 2**63, 2**64 - 1)
    assert Request(8, 4, (1, 1, 1), ends).seeds == ends
    drawn = KeyedNoise(ends)("initial", 0, (1, 1, 1, 4))
    assert len({tuple(one.flatten().tolist()) for one in drawn}) == len(ends)
    for wrong in (-(2**63) - 1, 2**64):
        with pytest.raises(ValueError, match=r"64 bits, from -2\*\*63 to 2\*\*64 - 1: got"):
            KeyedNoise((wrong,))
    with pytest.raises(ValueError, match="got 2 prompts and 3 seeds"):
        as_seeds((1, 2, 3), 2)


def test_a_stream_gives_steps_their_noise_frame_by_frame_as_the_released_loop_folds_it():
    (C, T, H, W), batch = SHAPE, 2
    noise = StreamNoise(torch.Generator().manual_seed(5), batch)("step", 0, SHAPE)
    folded = torch.randn(batch * T, C, H, W, generator=torch.Generator().manual_seed(5))
    for video in range(batch):
        for frame in range(T):
            assert torch.equal(noise[video, :, frame], folded[video * T + frame])


@pytest.mark.parametrize("alpha", [-0.5, float("inf"), float("nan"), 1e200])
def test_weights_that_mix_nothing_are_refused(alpha):
    own, shared = torch.zeros(1, *SHAPE), torch.zeros(1, 4, 1, 5, 5)
    for make in (
        lambda: mixed(shared, own, alpha),
        lambda: progressive(own, alpha),
        lambda: StreamNoise(torch.Generator(), 1, alpha),
    ):
        with pytest.raises(ValueError, match="alpha is a weight from 0"):
            make()
