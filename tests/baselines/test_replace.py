"""Replacement: the old frames stay bit for bit, the new ones are what the options say, guidance is a gradient."""

import pytest
import torch
from toys import CLIP, CONFIG, SCHEDULE, SEEDS, SHAPE, STEPS, Coupled, Separable, close, ddim, initial, request, run

import baselines.independent
from baselines import replace
from baselines.replace import Options, cono, guided, plan, put_known, step_order
from vidrd.noise import KeyedNoise
from vidrd.schedule import Schedule

WHOLE = (SHAPE[0], CLIP, *SHAPE[1:])


def clip_noise(clip):
    return KeyedNoise(SEEDS)("initial", clip, WHOLE).double()


def test_without_overlap_it_is_independent_clips():
    want = run(baselines.independent, 3 * CLIP - 1)
    assert torch.equal(run(replace, 3 * CLIP - 1, overlap=0), want)
    assert torch.equal(run(replace, 3 * CLIP - 1, overlap=0, resample=4), want)


@pytest.mark.parametrize("overlap", [0, 1, 3])
@pytest.mark.parametrize("known", ["fresh", "fixed", "trajectory"])
def test_new_frames_of_a_separable_network_are_plain_ddim_of_their_noise(overlap, known):
    video = run(replace, 3 * CLIP, Separable(), overlap=overlap, known=known)
    starts = [start for start, _ in plan(request(3 * CLIP), STEPS, Options(overlap=overlap)).windows]
    want = [ddim(clip_noise(clip))[:, :, overlap if clip else 0 :] for clip in range(len(starts))]
    assert close(video, torch.cat(want, dim=2)[:, :, : 3 * CLIP])


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_known_frames_enter_every_call_as_the_equation_says(overlap):
    denoise = Coupled()
    video = run(replace, 2 * CLIP, denoise, overlap=overlap)
    clean, noise = video[:, :, CLIP - overlap : CLIP], KeyedNoise(SEEDS)
    for step in range(STEPS):
        entered, timestep = denoise.calls[STEPS + step]
        fresh = noise("known", 1, (SHAPE[0], overlap, *SHAPE[1:]), step).double()
        alpha = SCHEDULE.alphas[step]
        assert int(timestep) == SCHEDULE.timesteps[step]
        assert close(entered[:, :, :overlap], alpha**0.5 * clean + (1 - alpha) ** 0.5 * fresh)


def check_cono(options):
    """Of 8 steps the fourth and fifth see known frames as the step before left them; all others see them put in."""
    denoise = Coupled()
    video = replace.sample(denoise, SCHEDULE, request(2 * CLIP), options(2), dtype=torch.float64).latents
    clean, noise, x = video[:, :, 2:4], KeyedNoise(SEEDS), clip_noise(1)
    for step, timestep in enumerate(SCHEDULE.timesteps):
        if step not in (3, 4):
            fresh = noise("known", 1, (SHAPE[0], 2, *SHAPE[1:]), step).double()
            x = put_known(x, clean, fresh, SCHEDULE, step)
        assert close(denoise.calls[STEPS + step][0], x)
        x = SCHEDULE.step(x, Coupled()(x, torch.tensor(timestep)), step)
    assert torch.equal(clean, video[:, :, 2:4])
    assert close(video[:, :, 4:6], x[:, :, 2:])


def test_cono_predicts_between_two_parts_that_extend():
    check_cono(cono)
    assert [len(Options(internal=1 / 3).internal_steps(steps)) for steps in (1, 2, 3, 8, 50)] == [0, 0, 1, 2, 16]


@pytest.mark.parametrize(
    "fault",
    [
        lambda self, steps: range(steps // 3),
        lambda self, steps: range(2 * steps // 3, steps),
        lambda self, steps: range(0),
    ],
    ids=["first", "last", "none"],
)
def test_planted_faults_of_cono_are_seen(monkeypatch, fault):
    monkeypatch.setattr(Options, "internal_steps", fault)
    with pytest.raises(AssertionError):
        check_cono(cono)


def test_fixed_noise_is_that_of_the_clip_and_a_trajectory_is_the_old_clips():
    fixed, followed = Coupled(), Coupled()
    clean = run(replace, 2 * CLIP, fixed, known="fixed")[:, :, 2:4]
    run(replace, 2 * CLIP, followed, known="trajectory")
    for step in range(STEPS):
        alpha = SCHEDULE.alphas[step]
        want = alpha**0.5 * clean + (1 - alpha) ** 0.5 * clip_noise(1)[:, :, :2]
        assert close(fixed.calls[STEPS + step][0][:, :, :2], want)
        assert torch.equal(followed.calls[STEPS + step][0][:, :, :2], followed.calls[step][0][:, :, 2:])


@pytest.mark.parametrize(
    ("frames", "overlap", "clips"), [(1, 2, 1), (4, 2, 1), (5, 2, 2), (6, 2, 2), (7, 2, 3), (11, 3, 8)]
)
def test_as_many_clips_as_the_formula_says(frames, overlap, clips):
    denoise = Coupled()
    assert run(replace, frames, denoise, overlap=overlap).shape[2] == frames
    assert len(denoise.calls) == clips * STEPS == plan(request(frames), STEPS, Options(overlap=overlap)).calls
    again = plan(request(frames), STEPS, Options(overlap=overlap, resample=3))
    assert again.calls == STEPS * (1 + 3 * (clips - 1))
    assert again.fe == again.calls * CLIP


def test_seams_stand_before_the_first_new_frames():
    todo = plan(request(9), STEPS, Options(overlap=1))
    assert todo.windows == ((0, 4), (3, 7), (6, 10))
    assert [(seam.frame, seam.kind) for seam in todo.seams] == [(4, "soft"), (7, "soft")]
    assert [(origin.clip, origin.index) for origin in todo.frames[3:8]] == [(0, 3), (1, 1), (1, 2), (1, 3), (2, 1)]


def test_resampling_once_is_no_resampling():
    assert torch.equal(run(replace, 9, resample=1), run(replace, 9))
    assert not close(run(replace, 9, resample=2), run(replace, 9), 1e-3)


def test_renoising_keeps_the_forward_process():
    """A clean frame brought to a level, then renoised from the level after it, has that level's signal and variance."""
    noise = KeyedNoise(range(4000))
    level = 3
    alpha, after = SCHEDULE.alphas[level], SCHEDULE.alphas_prev[level]
    at_after = after**0.5 * 2 + (1 - after) ** 0.5 * noise("a", 0, (1, 1, 1, 1)).double()
    back = SCHEDULE.renoised(at_after, noise("b", 0, (1, 1, 1, 1)).double(), level)
    assert float(back.mean()) == pytest.approx(2 * alpha**0.5, abs=0.05)
    assert float(back.var()) == pytest.approx(1 - alpha, abs=0.05)


def test_conditioning_noise_is_kept_to_the_end_and_the_network_is_told():
    denoise = Coupled()
    run(replace, 2 * CLIP, denoise, floor=0.5, known="fixed")
    kept = STEPS - 1 - STEPS // 2
    for step in range(STEPS):
        entered, timesteps = denoise.calls[STEPS + step]
        level = min(step, kept)
        if level == step:
            assert timesteps.ndim == 0
        else:
            assert timesteps.tolist() == [SCHEDULE.timesteps[level]] * 2 + [SCHEDULE.timesteps[step]] * 2
        if step > kept:
            assert torch.equal(entered[:, :, :2], denoise.calls[STEPS + kept][0][:, :, :2])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_guidance_moves_the_clean_estimate_along_the_gradient(prediction_type):
    config = {"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
    schedule = Schedule.ddim(config | {"prediction_type": prediction_type}, STEPS)
    level, weight, overlap = 5, 3.0, 2
    alpha = schedule.alphas[level]
    mixing = torch.randn(CLIP, CLIP, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    class Linear(Separable):
        def __call__(self, latents, timesteps):
            return torch.einsum("st,bcthw->bcshw", mixing, latents)

    linear = Linear()
    x, clean = initial(CLIP), initial(3 * CLIP)[:, :, -overlap:]
    answer = guided(linear, schedule, x, torch.tensor(3), level, clean, weight)
    of_x, of_answer = schedule.clean_coefficients(level)
    estimate = (of_x * x + of_answer * linear(x, None))[:, :, :overlap]
    # d/dx_new |clean - estimate|^2 = -2 (d estimate / d x_new)^T (clean - estimate), estimate linear in x_new
    slope = of_answer * mixing[:overlap, overlap:]
    gradient = -2 * torch.einsum("st,bcshw->bcthw", slope, clean - estimate)
    moved = of_x * x + of_answer * answer
    want = (of_x * x + of_answer * linear(x, None))[:, :, overlap:] - weight * alpha**0.5 / 2 * gradient
    assert close(moved[:, :, overlap:], want, 1e-10)
    assert close(answer[:, :, :overlap], linear(x, None)[:, :, :overlap])


def test_guidance_brings_the_known_estimate_nearer_to_the_known_frames():
    """The network takes frames for alike, so new frames that are pulled along fit the old ones better."""

    class Alike(Separable):
        def __call__(self, latents, timesteps):
            return latents - 0.7 * latents.mean(dim=2, keepdim=True)

    plain, pulled = (
        replace.sample(Alike(), SCHEDULE, request(2 * CLIP), Options(overlap=2, guidance=weight)).latents
        for weight in (0.0, 2.0)
    )
    assert not pulled.requires_grad
    gaps = [
        (video[:, :, CLIP:].mean(dim=2) - video[:, :, 2:CLIP].mean(dim=2)).abs().mean() for video in (plain, pulled)
    ]
    assert gaps[1] < 0.9 * gaps[0]


def test_a_network_without_gradient_cannot_be_guided():
    class Blind(Coupled):
        @torch.no_grad()
        def __call__(self, latents, timesteps):
            return super().__call__(latents.detach(), timesteps)

    with pytest.raises(ValueError, match="needs a differentiable network: use guidance 0"):
        run(replace, 2 * CLIP, Blind(), guidance=1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"overlap": -1}, "overlap is a count of frames .* got -1"),
        ({"resample": 0}, "at least once: got resample 0"),
        ({"floor": 1.0}, r"floor is a share .* got 1\.0"),
        ({"guidance": -1.0}, r"guidance is a weight .* got -1\.0"),
        ({"jump": 0, "resample": 2}, "at least 1 step: got 0"),
        ({"jump": 2}, "at resample 1: got a jump of 2, use resample 2 or more"),
    ],
)
def test_options_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Options(**wrong)


def test_an_overlap_of_a_whole_clip_is_refused():
    with pytest.raises(ValueError, match="has fewer known ones: got 4, try 2"):
        plan(request(9), STEPS, Options(overlap=4))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("put_known", lambda x, clean, *rest: put_known(x, clean.flip(2), *rest)),
        ("put_known", lambda *known: put_known(*known[:-1], (known[-1] + 1) % STEPS)),
        ("put_known", lambda x, *_: x),
        ("put_known", lambda x, *rest: put_known(x.roll(1, 2), *rest)),
    ],
    ids=["wrong order", "wrong level", "not replaced", "off by one"],
)
def test_planted_faults_are_seen(monkeypatch, name, fault):
    monkeypatch.setattr(replace, name, fault)

    def invariants():
        test_known_frames_enter_every_call_as_the_equation_says(2)
        test_new_frames_of_a_separable_network_are_plain_ddim_of_their_noise(3, "fresh")

    with pytest.raises(AssertionError):
        invariants()


def test_a_planted_fault_in_renoising_is_seen(monkeypatch):
    monkeypatch.setattr(
        Schedule,
        "renoised",
        lambda self, x, noise, level: x + (1 - self.alphas[level] / self.alphas_prev[level]) ** 0.5 * noise,
    )
    with pytest.raises(AssertionError):
        test_renoising_keeps_the_forward_process()


@pytest.mark.parametrize("known", ["fresh", "fixed", "trajectory"])
@pytest.mark.parametrize("resample", [1, 2])
def test_guidance_above_a_floor_does_not_depend_on_what_the_network_answers(known, resample):
    """The known frames stand at another level than the new ones, and are estimated there."""

    def network(schedule):
        class Same(Coupled):
            """One estimate of the clean frames, in the schedule's prediction type, frame by frame at its own level."""

            def __call__(self, latents, timesteps):
                self.calls.append((latents.detach(), timesteps))
                of_frames = [schedule.timesteps.index(int(t)) for t in timesteps.expand(latents.shape[2])]
                alpha = torch.tensor([schedule.alphas[level] for level in of_frames]).double().reshape(-1, 1, 1)
                clean = torch.tanh(latents) + 0.3 * latents.mean(dim=2, keepdim=True)
                noise = (latents - alpha.sqrt() * clean) / (1 - alpha).sqrt()
                of = {"epsilon": noise, "sample": clean}
                return of.get(schedule.prediction_type, alpha.sqrt() * noise - (1 - alpha).sqrt() * clean)

        return Same()

    videos = []
    for prediction_type in ("epsilon", "v_prediction", "sample"):
        schedule = Schedule.ddim(CONFIG | {"prediction_type": prediction_type}, STEPS)
        options = {"overlap": 2, "resample": resample, "known": known, "floor": 0.5, "guidance": 2.0}
        videos.append(run(replace, 3 * CLIP, network(schedule), schedule, **options))
    assert close(videos[0], videos[1], 1e-9)
    assert close(videos[0], videos[2], 1e-9)
    assert not close(videos[0], run(replace, 3 * CLIP, overlap=2, known=known, resample=resample), 1e-3)


@pytest.mark.parametrize(("floor", "steps", "kept"), [(0.29, 100, 29), (0.57, 100, 57), (0.58, 50, 29), (0.5, 9, 4)])
def test_the_floor_is_counted_in_whole_steps(floor, steps, kept):
    denoise = Coupled()
    run(replace, CLIP + 1, denoise, Schedule.ddim(CONFIG, steps), floor=floor)
    assert sum(timesteps.ndim == 1 for _, timesteps in denoise.calls[steps:]) == kept


def test_a_jump_does_stretches_again_and_the_authors_leave_the_last_step_alone():
    assert step_order(4, Options(resample=1)) == [0, 1, 2, 3]
    assert step_order(3, Options(resample=2)) == [0, 0, 1, 1, 2, 2]
    assert step_order(5, Options(resample=2, jump=2)) == [0, 1, 2, 1, 2, 3, 4, 3, 4]
    assert step_order(4, Options(resample=3, jump=1, compat="repaint")) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert step_order(5, Options(resample=2, jump=2, compat="repaint")) == [0, 1, 0, 1, 2, 3, 2, 3, 4]
    assert len(step_order(250, Options(resample=10, compat="repaint"))) == 2410  # the authors' settings
    with pytest.raises(ValueError, match="goes back by at most all 8 steps: got 9"):
        plan(request(9), STEPS, Options(resample=2, jump=9))


@pytest.mark.parametrize(("jump", "compat"), [(None, "paper"), (3, "paper"), (1, "repaint"), (3, "repaint")])
def test_every_call_of_a_jump_meets_its_level(jump, compat):
    """Where frames do not couple and noise is told apart by its level: new frames stay at the level of the call."""
    denoise, options = Coupled(), Options(overlap=2, resample=2, jump=jump, compat=compat)
    asked, events = request(2 * CLIP), []
    replace.sample(denoise, SCHEDULE, asked, options, on_event=events.append, dtype=torch.float64)
    assert [int(told) for _, told in denoise.calls[:STEPS]] == list(SCHEDULE.timesteps)
    later = [int(told) for _, told in denoise.calls[STEPS : STEPS + len(step_order(STEPS, options))]]
    assert later == [SCHEDULE.timesteps[step] for step in step_order(STEPS, options)]
    assert len(denoise.calls) == plan(asked, STEPS, options).calls
    steps = [event.step for event in events if event.kind == "step" and event.clip == 1]
    assert steps == list(range(STEPS))


def test_repaint_is_ancestral_where_no_eta_is_asked():
    ways = [run(replace, 9, asked=request(9, eta=eta), compat="repaint") for eta in (None, 1.0, 0.0)]
    assert torch.equal(ways[0], ways[1])
    assert torch.equal(ways[2], run(replace, 9))
