"""Schedules made of diffusers' schedulers: the same levels and the same steps, for flows and for diffusion."""

import math
import warnings

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from vidrd.schedule import Mix, Schedule
from vidrd.solvers import MULTISTEP, schedule

STEPS = 6
FLOWS = {
    "static shift": (FlowMatchEulerDiscreteScheduler(shift=3.0), {}),
    "dynamic shift": (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), {"mu": 0.9}),
    "linear dynamic shift": (
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear"),
        {"mu": 1.7},
    ),
    "terminal": (
        FlowMatchEulerDiscreteScheduler(shift=2.0, shift_terminal=0.1),
        {"sigmas": np.linspace(1.0, 1 / STEPS, STEPS)},
    ),
    "sigmas": (FlowMatchEulerDiscreteScheduler(shift=7.0), {"sigmas": np.linspace(1.0, 0.0, STEPS + 1)[:-1]}),
    "karras": (FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True), {}),
    "exponential": (FlowMatchEulerDiscreteScheduler(use_exponential_sigmas=True), {}),
}
DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def tensors(*seeds):
    return [torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds]


def begun(scheduler, timetable):
    how = timetable if "sigmas" in timetable else {"num_inference_steps": STEPS, **timetable}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scheduler.set_timesteps(**how)
    return scheduler


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_steps_as_its_scheduler_does(name):
    scheduler, timetable = FLOWS[name]
    ours = schedule("ddim", scheduler, STEPS, **timetable)
    assert ours.prediction_type == "flow_prediction"
    theirs = begun(scheduler, timetable)
    assert list(ours.timesteps) == theirs.timesteps.tolist()
    (x,) = tensors(1)
    want = x
    for level, timestep in enumerate(theirs.timesteps):
        (answer,) = tensors(10 + level)
        x = ours.step(x, answer, level)
        want = theirs.step(answer, timestep, want, return_dict=False)[0]
        torch.testing.assert_close(x, want, rtol=1e-6, atol=1e-6)


def test_a_flow_that_counts_from_the_clean_end_has_its_noisiest_level_first():
    ours = schedule("ddim", FlowMatchEulerDiscreteScheduler(invert_sigmas=True), STEPS)
    spreads = [ours.mix(level).spread for level in range(STEPS)]
    assert spreads[0] == pytest.approx(1, abs=1e-6)
    assert spreads == sorted(spreads, reverse=True)
    assert ours.alphas_prev[-1] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        {"timestep_spacing": "leading", "steps_offset": 1},
    ],
)
def test_steps_over_sigmas_of_diffusion_are_eulers_but_for_the_scale_of_the_state(changes):
    scheduler = EulerDiscreteScheduler(**DIFFUSION | changes)
    ours, theirs = schedule("ddim", scheduler, STEPS), begun(scheduler, {})
    (x,) = tensors(1)
    for level, timestep in enumerate(theirs.timesteps):
        (answer,) = tensors(10 + level)
        want = theirs.step(answer, timestep, x * math.sqrt(1 + theirs.sigmas[level] ** 2)).prev_sample
        x = ours.step(x, answer, level)
        torch.testing.assert_close(x * math.sqrt(1 + theirs.sigmas[level + 1] ** 2), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("zero", [False, True])
def test_the_shifted_noise_of_cogvideox_is_taken_from_its_scheduler(zero):
    theirs = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=zero, snr_shift_scale=3.0
    )
    theirs.set_timesteps(5)
    ours = schedule("ddim", theirs, 5)
    assert ours.alphas[0] == pytest.approx(0 if zero else float(theirs.alphas_cumprod[-1]), abs=1e-12)
    (x,) = tensors(1)
    want = x
    for level, timestep in enumerate(theirs.timesteps):
        (answer,) = tensors(10 + level)
        x = ours.step(x, answer, level)
        want = theirs.step(answer, timestep, want)[0]
        torch.testing.assert_close(x, want.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MULTISTEP)
@pytest.mark.parametrize("zero", [False, True])
def test_solvers_with_a_memory_step_over_the_shifted_noise_of_cogvideox(name, zero):
    theirs = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=zero, snr_shift_scale=3.0
    )
    ours = schedule(name, theirs, 5)
    assert ours.alphas == pytest.approx(theirs.alphas_cumprod[list(ours.timesteps)].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("unipc", UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)),
        ("unipc", UniPCMultistepScheduler(**DIFFUSION, use_karras_sigmas=True, solver_order=3)),
        (
            "dpmsolver++",
            DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0),
        ),
    ],
)
def test_a_solver_of_the_schedulers_own_kind_keeps_its_settings(name, scheduler):
    ours = schedule(name, scheduler, STEPS)
    theirs = begun(scheduler, {})
    assert list(ours.timesteps) == theirs.timesteps.tolist()
    (x,) = tensors(1)
    want, solver = x, ours.fresh()
    for level, timestep in enumerate(theirs.timesteps):
        answer = torch.tanh(x)
        x = solver.step(x, answer, level)
        want = theirs.step(torch.tanh(want), timestep, want, return_dict=False)[0]
        torch.testing.assert_close(x, want)


@pytest.mark.parametrize("name", ["unipc", "dpmsolver++"])
def test_a_solver_of_another_kind_steps_over_the_same_flow(name):
    """The network that is exact for data of one point: any solver ends there."""
    clean = torch.linspace(-1, 1, 12).reshape(1, 1, 3, 2, 2)
    ours = schedule(name, FlowMatchEulerDiscreteScheduler(shift=3.0), 8)
    assert ours.prediction_type == "flow_prediction"
    (x,) = (torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)),)
    solver = ours.fresh()
    for level in range(ours.steps):
        x = solver.step(x, (x - clean) / ours.mix(level).spread, level)
    torch.testing.assert_close(x, clean, atol=1e-4, rtol=1e-4)


def test_ddim_over_the_levels_of_a_multistep_scheduler():
    ours = schedule("ddim", UniPCMultistepScheduler(**DIFFUSION, use_karras_sigmas=True), STEPS)
    theirs = begun(UniPCMultistepScheduler(**DIFFUSION, use_karras_sigmas=True), {})
    assert ours.alphas == pytest.approx([1 / (1 + float(sigma) ** 2) for sigma in theirs.sigmas[:-1]])
    assert ours.fresh() is ours


def test_schedulers_of_other_kinds_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        twice = HeunDiscreteScheduler(**DIFFUSION)
    with pytest.raises(ValueError, match="visits each level once, HeunDiscreteScheduler twice"):
        schedule("ddim", twice, STEPS)
    with pytest.raises(ValueError, match="alphas_cumprod or flow sigmas: got EDMEulerScheduler"):
        schedule("ddim", EDMEulerScheduler(), STEPS)
    with pytest.raises(ValueError, match="falls from level to level, that of PNDMScheduler at 7 does not"):
        schedule("ddim", PNDMScheduler(**DIFFUSION, skip_prk_steps=True), STEPS)
    with pytest.raises(ValueError, match="that of CogVideoXDDIMScheduler at 62 does not: take another number of steps"):
        schedule("ddim", CogVideoXDDIMScheduler(timestep_spacing="trailing"), 61)  # ends at a timestep of -1
    with pytest.raises(ValueError, match=r"prediction_type is one of .* got 'noise'"):
        schedule("ddim", DDIMScheduler(**DIFFUSION, clip_sample=False, prediction_type="noise"), STEPS)
    with pytest.raises(ValueError, match="the schedule has clip_sample=True: set clip_sample=False"):
        schedule("ddim", DDPMScheduler(**DIFFUSION), STEPS)
    with pytest.raises(ValueError, match=r"got algorithm_type='sde-dpmsolver\+\+', set 'dpmsolver\+\+'"):
        schedule("dpmsolver++", DPMSolverMultistepScheduler(**DIFFUSION, algorithm_type="sde-dpmsolver++"), STEPS)
    left_over = UniPCMultistepScheduler.from_config({**DIFFUSION, "algorithm_type": "sde-dpmsolver++"})
    assert schedule("unipc", left_over, STEPS).steps == STEPS
    with pytest.raises(ValueError, match="the schedule has thresholding=True: set thresholding=False"):
        schedule("ddim", UniPCMultistepScheduler(**DIFFUSION, thresholding=True), STEPS)
    for name, flow, key in (("unipc", "karras", "use_karras"), ("dpmsolver++", "terminal", "shift_terminal")):
        with pytest.raises(ValueError, match=f"cannot place a flow's levels as {key}.* does: use solver 'ddim'"):
            schedule(name, FLOWS[flow][0], STEPS)
    with pytest.raises(ValueError, match=r"dpmsolver\+\+ places its own sigmas"):
        schedule("dpmsolver++", FLOWS["terminal"][0], STEPS, **FLOWS["terminal"][1])


PAIRS = {
    "flow": [Mix(1 - s, s) for s in (1.0, 0.8, 0.3, 0.0)],
    "circle": [Mix(math.cos(a), math.sin(a)) for a in (1.5, 1.0, 0.4, 0.0)],
    "exploding": [Mix(1.0, s) for s in (9.0, 3.0, 0.5, 0.0)],
}


@pytest.mark.parametrize("kind", ["flow_prediction", "v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("name", PAIRS)
def test_clean_frames_and_noise_are_separated_at_any_pair_of_signal_and_spread(name, kind):
    if (name, kind) == ("flow", "epsilon"):
        pytest.skip("no clean frames can be had of pure noise")
    of = Schedule.of_mixes((3, 2, 1), PAIRS[name], kind)
    clean, noise = (tensor.double() for tensor in tensors(1, 2))
    for level, (before, after) in enumerate(zip(PAIRS[name], PAIRS[name][1:], strict=False)):
        assert of.mix(level) == pytest.approx(before)
        x = before.signal * clean + before.spread * noise
        torch.testing.assert_close(of.noised(clean, noise, level), x)
        size = math.hypot(*before)
        answer = {
            "epsilon": noise,
            "sample": clean,
            "flow_prediction": noise - clean,
            "v_prediction": before.signal / size * noise - before.spread / size * clean,
        }[kind]
        for coefficients, want in ((of.clean_coefficients(level), clean), (of.noise_coefficients(level), noise)):
            torch.testing.assert_close(coefficients[0] * x + coefficients[1] * answer, want)
        want = after.signal * clean + after.spread * noise
        torch.testing.assert_close(of.step(x, answer, level), want)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("name", PAIRS)
def test_a_step_with_eta_reaches_the_signal_and_variance_of_the_next_level(name, eta):
    of = Schedule.of_mixes((3, 2, 1), PAIRS[name], "flow_prediction")
    for level, (before, after) in enumerate(zip(PAIRS[name], PAIRS[name][1:], strict=False)):
        latent, prediction, fresh = of.coefficients(level, eta)
        signal = latent * before.signal - prediction
        old = latent * before.spread + prediction
        assert signal == pytest.approx(after.signal)
        assert old**2 + fresh**2 == pytest.approx(after.spread**2)
        assert (fresh > 0) == (after.spread > 0)


@pytest.mark.parametrize("name", PAIRS)
def test_renoising_undoes_a_step_in_signal_and_variance(name):
    of = Schedule.of_mixes((3, 2, 1), PAIRS[name], "flow_prediction")
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for level, (before, after) in enumerate(zip(PAIRS[name], PAIRS[name][1:], strict=False)):
        kept, fresh = float(of.renoised(one, none, level)), float(of.renoised(none, one, level))
        assert kept * after.signal == pytest.approx(before.signal)
        assert (kept * after.spread) ** 2 + fresh**2 == pytest.approx(before.spread**2)


def test_frames_of_a_flow_may_stand_at_levels_of_their_own():
    of = Schedule.flow((1000.0, 600.0, 200.0), (1.0, 0.6, 0.2, 0.0))
    x, answer = tensors(1, 2)
    mixed = of.step(x, answer, torch.tensor([0, 2, 1, 1]))
    for frame, level in enumerate((0, 2, 1, 1)):
        torch.testing.assert_close(mixed[:, :, frame], of.step(x, answer, level)[:, :, frame])


def test_a_schedule_that_preserves_variance_has_the_scale_one():
    config = DDIMScheduler(**DIFFUSION, clip_sample=False).config
    assert set(Schedule.ddim(config, 5).scales) == {1.0}
    with pytest.raises(ValueError, match="a scale for each of its 1 timesteps"):
        Schedule((5,), (0.5,), (0.9,), scales=(1.0, 1.0))
    with pytest.raises(ValueError, match="scale of a state is above 0"):
        Schedule((5,), (0.5,), (0.9,), scales=(0.0,))
