"""The stateless DDIM is diffusers' DDIM, and frames may be at different levels."""

import dataclasses

import pytest
import torch
from diffusers import DDIMScheduler

from vidrd.schedule import Schedule

SD = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
SHAPE = (2, 3, 4, 5, 5)


def draw(seed, dtype=torch.float32):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def diffusers_ddim(config, steps):
    """Its alphas in float64: in float32 it loses digits to 1 - alpha where alpha is near 1, and ours does not."""
    theirs = DDIMScheduler(**config)
    theirs.set_timesteps(steps)
    theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    theirs.final_alpha_cumprod = theirs.final_alpha_cumprod.double()
    return theirs


def near(got, want, share=2e-6):
    return float((got - want).abs().max()) <= share * max(1.0, float(want.abs().max()))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"set_alpha_to_one": True, "steps_offset": 0},
        {"timestep_spacing": "trailing"},
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
    ],
    ids=str,
)
def test_every_step_equals_diffusers(prediction_type, eta, changes):
    config = SD | changes | {"prediction_type": prediction_type}
    theirs = diffusers_ddim(config, 10)
    ours = Schedule.ddim(theirs.config, 10)
    assert list(ours.timesteps) == theirs.timesteps.tolist()
    for level, timestep in enumerate(ours.timesteps):
        x, prediction, noise = draw(level), draw(100 + level), draw(200 + level)
        want = theirs.step(prediction, timestep, x, eta=eta, variance_noise=noise if eta else None).prev_sample
        assert near(ours.step(x, prediction, level, eta, noise), want)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_a_schedule_that_ends_in_pure_noise_equals_diffusers(prediction_type):
    config = SD | {
        "prediction_type": prediction_type,
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "set_alpha_to_one": True,
    }
    theirs = diffusers_ddim(config, 20)
    ours = Schedule.ddim(config, 20)
    assert ours.alphas[0] == 0
    x, prediction, noise = draw(0), draw(1), draw(2)
    want = theirs.step(prediction, ours.timesteps[0], x, eta=1.0, variance_noise=noise).prev_sample
    assert near(ours.step(x, prediction, 0, 1.0, noise), want)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_timesteps_equal_diffusers_for_any_number_of_steps(spacing):
    config = SD | {"timestep_spacing": spacing}
    theirs = DDIMScheduler(**config)
    for steps in (1, 2, 3, 7, 27, 30, 50, 64, 100, 333, 500):
        theirs.set_timesteps(steps)
        assert list(Schedule.ddim(config, steps).timesteps) == theirs.timesteps.tolist()[:steps]


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_each_step_ends_where_the_next_begins(spacing):
    schedule = Schedule.ddim(SD | {"timestep_spacing": spacing}, 64)
    assert schedule.alphas_prev[:-1] == schedule.alphas[1:]
    assert list(schedule.alphas) == sorted(schedule.alphas)


def test_what_a_config_leaves_out_means_diffusers_default():
    theirs = DDIMScheduler(clip_sample=False)
    assert Schedule.ddim({"clip_sample": False}, 50) == Schedule.ddim(theirs.config, 50)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_right_prediction_leads_to_the_clean_frames(prediction_type):
    schedule = Schedule.ddim(SD | {"prediction_type": prediction_type, "set_alpha_to_one": True}, 10)
    clean, noise = draw(1, torch.float64), draw(2, torch.float64)
    x = schedule.alphas[0] ** 0.5 * clean + (1 - schedule.alphas[0]) ** 0.5 * noise
    for level, alpha in enumerate(schedule.alphas):
        answers = {
            "epsilon": noise,
            "v_prediction": alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean,
            "sample": clean,
        }
        x = schedule.step(x, answers[prediction_type], level)
    assert torch.allclose(x, clean, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_frames_may_be_at_different_levels(eta):
    schedule = Schedule.ddim(SD, 10)
    levels = torch.tensor([9, 0, 4, 4])
    x, prediction, noise = draw(1), draw(2), draw(3)
    got = schedule.step(x, prediction, levels, eta, noise)
    for frame, level in enumerate(levels.tolist()):
        alone = schedule.step(x, prediction, level, eta, noise)
        assert near(got[:, :, frame], alone[:, :, frame])


@pytest.mark.precision
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32_and_returned_as_it_came(dtype):
    schedule = Schedule.ddim(SD, 10)
    x, prediction = draw(1, dtype), draw(2, dtype)
    before = x.clone()
    got = schedule.step(x, prediction, 0)
    assert torch.equal(got, schedule.step(x.float(), prediction.float(), 0).to(dtype))
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("changes", "steps", "message"),
    [
        ({"clip_sample": True}, 10, "set clip_sample=False"),
        ({"thresholding": True}, 10, "set thresholding=False"),
        ({"trained_betas": [0.1]}, 10, "has trained_betas"),
        ({"beta_schedule": "sigmoid"}, 10, "beta_schedule is one of .* got 'sigmoid'"),
        ({"timestep_spacing": "karras"}, 10, "timestep_spacing is one of .* got 'karras'"),
        ({"prediction_type": "flow"}, 10, "prediction_type is one of .* got 'flow'"),
        ({}, 0, "steps are between 1 and the 1000 of the training: got 0"),
        ({}, 1001, "got 1001"),
        ({}, 1000, "begin at 1000"),
        ({"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, 10, "rescale_betas_zero_snr needs"),
    ],
)
def test_configs_that_cannot_be_stepped_are_refused(changes, steps, message):
    with pytest.raises(ValueError, match=message):
        Schedule.ddim(SD | changes, steps)


def test_a_missing_clip_sample_means_diffusers_true():
    with pytest.raises(ValueError, match="clip_sample=True"):
        Schedule.ddim({}, 10)


def test_pairs_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="got 2, 1 and 1"):
        Schedule((5, 3), (0.5,), (0.9,))
    with pytest.raises(ValueError, match="at least one: got 0, 0 and 0"):
        Schedule((), (), ())
    with pytest.raises(ValueError, match=r"shares of variance, in \[0, 1\]"):
        Schedule((5,), (0.5,), (1.1,))
    with pytest.raises(ValueError, match="leave out the level whose alpha is 1"):
        Schedule((5,), (1.0,), (1.0,), "sample")
    with pytest.raises(ValueError, match=r"prediction_type is one of .* got 'flow'"):
        Schedule((5,), (0.5,), (1.0,), "flow")


def test_steps_that_make_no_sense_are_refused():
    schedule = Schedule.ddim(SD, 10)
    x = draw(1)
    for level in (-1, 10, torch.tensor([0, 1, 2, 10])):
        with pytest.raises(ValueError, match=r"levels of this schedule are 0 to 9: got (-1|10)"):
            schedule.step(x, x, level)
    with pytest.raises(ValueError, match="eta is between"):
        schedule.step(x, x, 0, eta=2.0, noise=x)
    with pytest.raises(ValueError, match=r"got eta 0\.5 and no noise"):
        schedule.step(x, x, 0, eta=0.5)
    with pytest.raises(ValueError, match="these are on meta"):
        schedule.step(x, x, torch.zeros(4, dtype=torch.int64, device="meta"))


def test_a_wrong_alpha_is_seen():
    """The comparison with diffusers is only worth something if it fails for a schedule shifted by one timestep."""
    theirs = diffusers_ddim(SD, 10)
    ours = Schedule.ddim(SD, 10)
    shifted = dataclasses.replace(ours, alphas=tuple(theirs.alphas_cumprod[t - 1].item() for t in ours.timesteps))
    x, prediction = draw(1), draw(2)
    want = theirs.step(prediction, ours.timesteps[3], x).prev_sample
    assert near(ours.step(x, prediction, 3), want)
    assert not near(shifted.step(x, prediction, 3), want)
