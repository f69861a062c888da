"""VidRD's three ideas, each by its equation, and what they add up to."""

from dataclasses import replace

import pytest
import torch

import baselines.independent
from vidrd import sampling
from vidrd.noise import KeyedNoise
from vidrd.sampler_contract import Origin, Request, Seam
from vidrd.sampling import Options, guide_reversed, linear_guided_frames, plan, reuse_past, reverse_noise, sample
from vidrd.schedule import Schedule

CLIP, STEPS = 8, 10
SCHEDULE = Schedule.ddim({"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}, STEPS)


class FrameByFrame:
    """A network that sees each frame alone; keeps every state that entered it, clip by clip."""

    clip, longest, branches = CLIP, None, 1

    def __init__(self):
        self.entered = []

    def __call__(self, latents, timesteps):
        self.entered.append(latents.clone())
        return (0.6 + 0.3 * timesteps / 1000) * torch.tanh(latents)

    def state(self, clip, step, steps=STEPS):
        return self.entered[clip * steps + step]


class Coupled(FrameByFrame):
    """A network whose answer depends on the other frames and on the frame's place."""

    def __call__(self, latents, timesteps):
        place = torch.linspace(0.1, 0.4, latents.shape[2]).reshape(-1, 1, 1)
        return super().__call__(latents, timesteps) + place * latents.mean(dim=2, keepdim=True)


def ramp(frames):
    """Every frame holds its own number."""
    return torch.arange(float(frames)).reshape(1, 1, frames, 1, 1).expand(2, 3, frames, 2, 2)


def numbers(latents):
    return latents[0, 0, :, 0, 0].tolist()


def request(frames, **changes):
    return Request(**{"frames": frames, "clip": CLIP, "shape": (2, 3, 3), "seeds": (1, 2)} | changes)


def run(frames, denoise=None, schedule=SCHEDULE, noise=None, **options):
    return sample(denoise or Coupled(), schedule, request(frames), Options(**options), noise=noise).latents


def test_the_noise_is_reversed_in_time():
    assert numbers(reverse_noise(ramp(8))) == [7, 6, 5, 4, 3, 2, 1, 0]


def test_the_overlap_keeps_the_reversed_noise_and_the_rest_is_mixed():
    past, fresh = ramp(6), 100 + ramp(6)
    mixed = numbers(reuse_past(past, fresh, kept=2, alpha=4.0))
    assert mixed[:2] == [0, 1]
    assert mixed[2:] == pytest.approx([(4 * k + 100 + k) / 17**0.5 for k in range(2, 6)])
    assert numbers(reuse_past(past, fresh, kept=6, alpha=4.0)) == numbers(past)
    assert numbers(reuse_past(past, fresh, kept=0, alpha=0.0)) == numbers(fresh)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 4.0, 30.0])
def test_noise_has_variance_one_in_every_clip(alpha):
    denoise = FrameByFrame()
    asked = Request(frames=5 * CLIP, clip=CLIP, shape=(4, 8, 8), seeds=tuple(range(8)))
    sample(denoise, Schedule.ddim({"clip_sample": False}, 1), asked, Options(alpha=alpha, overlap=3))
    for state in denoise.entered:
        assert float(state.var()) == pytest.approx(1, abs=0.05)


def test_guided_steps_per_frame_fall_linearly():
    def counts(beta, steps, overlap):
        guided = [linear_guided_frames(step, steps, overlap, beta) for step in range(steps)]
        assert guided == sorted(guided, reverse=True)
        return [sum(count > frame for count in guided) for frame in range(overlap)]

    assert counts(0.4, 50, 4) == [20, 15, 10, 5]
    assert counts(1.0, 50, 4) == [50, 38, 25, 13]
    assert counts(0.29, 100, 1) == [29]
    assert counts(0.0, 50, 4) == [0, 0, 0, 0]
    assert counts(0.4, 50, 0) == []


def test_guidance_writes_the_old_frames_in_mirror_order():
    past = 10 + ramp(8)[:, :, 5:]  # the old clip's last three frames: 15, 16, 17
    latents = ramp(8)
    assert numbers(guide_reversed(latents, past)) == [17, 16, 15, 3, 4, 5, 6, 7]
    assert numbers(latents) == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("overlap", [0, 1, 3, CLIP])
@pytest.mark.parametrize("beta", [0.0, 0.35, 1.0])
def test_every_state_that_enters_the_network_obeys_the_equations(overlap, beta):
    denoise = Coupled()
    run(3 * CLIP, denoise, overlap=overlap, alpha=2.0, beta=beta)
    noise = KeyedNoise((1, 2))
    for clip in (1, 2):
        old, new = denoise.state(clip - 1, 0), denoise.state(clip, 0)
        fresh = noise("initial", clip, (2, CLIP, 3, 3))
        for k in range(CLIP):
            want = old[:, :, CLIP - 1 - k]
            if k >= overlap:
                want = 2 / 5**0.5 * want + fresh[:, :, k] / 5**0.5
            assert torch.allclose(new[:, :, k], want, atol=1e-6)
        for step in range(STEPS):
            for k in range(overlap):
                guided = step < (1 - k / overlap) * beta * STEPS
                now, then = denoise.state(clip, step)[:, :, k], denoise.state(clip - 1, step)[:, :, CLIP - 1 - k]
                if guided:
                    assert torch.equal(now, then)
                elif clip == 1 and step > 0:  # a frame turned round twice may meet its old state by itself
                    assert not torch.equal(now, then)


def test_full_guidance_of_a_frame_by_frame_network_mirrors_the_old_frames():
    video = run(2 * CLIP, FrameByFrame(), overlap=4, beta=1.0)
    for k in range(4):
        assert torch.allclose(video[:, :, CLIP + k], video[:, :, CLIP - 1 - k], atol=1e-6)
    assert not torch.allclose(video[:, :, CLIP + 4], video[:, :, CLIP - 5], atol=1e-2)


def exact(purpose, clip, shape, step=0):
    return KeyedNoise((1, 2))(purpose, clip, shape, step).double()


@pytest.mark.parametrize("reverse", [True, False])
def test_without_guidance_frames_that_do_not_couple_are_plain_ddim_of_the_mixed_noise(reverse):
    overlap, alpha = 3, 2.0
    denoise = FrameByFrame()
    chosen = Options(overlap=overlap, alpha=alpha, beta=0.0, reverse=reverse)
    video = sample(denoise, SCHEDULE, request(3 * CLIP), chosen, noise=exact, dtype=torch.float64).latents
    clips = [exact("initial", 0, (2, CLIP, 3, 3))]
    for clip in (1, 2):
        fresh, mixed = exact("initial", clip, (2, CLIP, 3, 3)), []
        for k in range(CLIP):
            old = clips[-1][:, :, CLIP - 1 - k if reverse else (k - overlap) % CLIP]
            mixed.append(old if k < overlap else (alpha * old + fresh[:, :, k]) / (1 + alpha**2) ** 0.5)
        clips.append(torch.stack(mixed, dim=2))
    x = torch.cat(clips, dim=2)
    for step, timestep in enumerate(SCHEDULE.timesteps):
        x = SCHEDULE.step(x, FrameByFrame()(x, torch.tensor(timestep)), step)
    assert float((video - x).abs().max()) < 1e-12


@pytest.mark.parametrize("compat", ["paper", "released"])
def test_without_its_three_ideas_it_is_independent_clips(compat):
    got = run(3 * CLIP - 1, overlap=0, alpha=0.0, beta=0.0, compat=compat)
    want = baselines.independent.sample(Coupled(), SCHEDULE, request(3 * CLIP - 1)).latents
    assert torch.equal(got, want)


def test_independent_clips_do_not_know_how_many_follow():
    long, short = (baselines.independent.sample(Coupled(), SCHEDULE, request(n)).latents for n in (3 * CLIP, CLIP + 3))
    assert torch.equal(long[:, :, : CLIP + 3], short)


def test_the_first_clip_knows_none_of_the_options():
    first = run(CLIP, overlap=0, alpha=0.0, beta=0.0)
    assert torch.equal(run(3 * CLIP, overlap=5, alpha=3.0, beta=0.9)[:, :, :CLIP], first)


@pytest.mark.parametrize("beta", [0.0, 0.4])
def test_an_overlap_of_the_whole_clip(beta):
    """The paper then reuses all noise; the released slice renews all of it, unless guidance puts it back."""
    paper, released = Coupled(), Coupled()
    run(2 * CLIP, paper, overlap=CLIP, beta=beta)
    run(2 * CLIP, released, overlap=CLIP, beta=beta, compat="released")
    mirrored = paper.state(0, 0).flip(2)
    assert torch.equal(paper.state(1, 0), mirrored)
    assert torch.equal(released.state(1, 0), mirrored) == (beta > 0)


def test_keep_crops_whole_clips_and_marks_the_held_frames():
    todo = plan(request(2 * CLIP + 3), STEPS, Options())
    assert (todo.calls, todo.fe) == (3 * STEPS, 3 * STEPS * CLIP)
    assert todo.windows == ((0, 8), (8, 16), (16, 24))
    assert todo.seams == (Seam(8, "mirror"), Seam(16, "mirror"))
    assert todo.frames[7:10] == (Origin(0, 7), Origin(1, 0, duplicate_of=7), Origin(1, 1))
    assert len(todo.frames) == 19


def test_nothing_is_held_or_mirrored_without_overlap_and_past_noise():
    todo = plan(request(CLIP + 1), STEPS, Options(overlap=0, alpha=0.0, beta=0.0))
    assert todo.seams == (Seam(8, "hard"),)
    assert todo.frames[8] == Origin(1, 0)
    assert plan(request(CLIP + 1), STEPS, Options(overlap=0)).seams == (Seam(8, "mirror"),)


def test_drop_duplicate_leaves_out_the_held_frames_only():
    keep, drop = run(3 * CLIP), run(3 * CLIP - 2, join="drop_duplicate")
    kept = [frame for frame in range(3 * CLIP) if frame not in (CLIP, 2 * CLIP)]
    assert torch.equal(drop, keep[:, :, kept])
    todo = plan(request(3 * CLIP - 2), STEPS, Options(join="drop_duplicate"))
    assert todo.seams == (Seam(8, "mirror", dropped=1), Seam(15, "mirror", dropped=1))
    assert todo.frames[8] == Origin(1, 1)
    assert all(origin.duplicate_of is None for origin in todo.frames)


@pytest.mark.parametrize(("frames", "clips"), [(1, 1), (8, 1), (9, 2), (15, 2), (16, 3), (22, 3), (23, 4)])
def test_drop_duplicate_needs_as_many_clips_as_its_formula_says(frames, clips):
    denoise = Coupled()
    video = run(frames, denoise, join="drop_duplicate")
    assert video.shape[2] == frames
    assert len(denoise.entered) == clips * STEPS == plan(request(frames), STEPS, Options(join="drop_duplicate")).calls


class WindowByWindow(Coupled):
    """A network that treats the windows of a call one after the other, so that a joined call changes no bit."""

    def __init__(self, videos):
        super().__init__()
        self.videos, self.calls = videos, 0

    def __call__(self, latents, timesteps):
        self.calls += 1
        return torch.cat([super(WindowByWindow, self).__call__(part, timesteps) for part in latents.split(self.videos)])


@pytest.mark.parametrize(
    ("options", "eta"),
    [
        (Options(overlap=3), 0.0),
        (Options(overlap=3), 0.5),
        (Options(overlap=CLIP, beta=1.0), 0.5),
        (Options(overlap=CLIP, beta=0.0, compat="released"), 0.0),
        (Options(overlap=3, reverse=False, stages="constant", guide="blend", join="drop_duplicate"), 0.5),
    ],
    ids=["paper", "paper, eta", "whole overlap", "released", "remedies"],
)
@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_clips_side_by_side_are_those_of_the_plain_loop_bit_for_bit(options, eta, together):
    asked = request(5 * CLIP - 3, eta=eta)
    wanted = sample(Coupled(), SCHEDULE, asked, options).latents
    denoise = WindowByWindow(len(asked.seeds))
    joined = replace(asked, budget=together * CLIP * len(asked.seeds))
    result = sampling.sample_side_by_side(denoise, SCHEDULE, joined, options)
    assert torch.equal(result.latents, wanted)
    assert denoise.calls == result.plan.calls == -(-len(result.plan.windows) // together) * STEPS
    assert torch.equal(sample(WindowByWindow(len(asked.seeds)), SCHEDULE, joined, options).latents, wanted)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"overlap": -1}, "overlap is a count of frames .* got -1"),
        ({"alpha": -0.1}, r"alpha is a weight .* got -0\.1"),
        ({"alpha": float("nan")}, "alpha is a weight .* got nan"),
        ({"beta": 1.1}, r"beta is a share .* got 1\.1"),
        ({"beta": float("nan")}, "beta is a share .* got nan"),
        ({"overlap": 0, "join": "drop_duplicate"}, "use join='keep'"),
    ],
)
def test_options_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Options(**wrong)


def test_options_that_do_not_fit_the_clip_are_refused_before_anything_runs():
    denoise = Coupled()
    with pytest.raises(ValueError, match="at most the clip: got 9 frames of clips of 8, try 4"):
        run(41, denoise, overlap=9)
    with pytest.raises(ValueError, match="leaves nothing of clips of 1 frame"):
        plan(request(3, clip=1), STEPS, Options(overlap=1, join="drop_duplicate"))
    assert denoise.entered == []


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("reverse_noise", lambda past: past),
        ("reverse_noise", lambda past: past.flip(2).roll(1, dims=2)),
        ("reuse_past", lambda past, fresh, kept, alpha: reuse_past(past, fresh, kept, alpha**2)),
        ("reuse_past", lambda past, fresh, kept, alpha: reuse_past(past, fresh, kept + 1, alpha)),
        ("guide_reversed", lambda latents, past: guide_reversed(latents, past.flip(2))),
        ("linear_guided_frames", lambda step, *rest: linear_guided_frames(step + 1, *rest)),
    ],
    ids=["not reversed", "reversed off by one", "variance as weight", "kept off by one", "not mirrored", "step late"],
)
def test_planted_faults_are_seen(monkeypatch, name, fault):
    """The equations' test is only worth something if it fails for each way to get them wrong."""
    monkeypatch.setattr(sampling, name, fault)
    with pytest.raises(AssertionError):
        test_every_state_that_enters_the_network_obeys_the_equations(overlap=3, beta=0.35)


def test_the_released_comparison_is_made_in_floats():
    """(6 - 1) (50 / 6) 0.6 is a little more than 25, so that code guides frame 1 once more."""
    for compat, steps_of_frame_1 in (("paper", 25), ("released", 26)):
        guided = [sampling.guided_frames(step, 50, Options(overlap=6, beta=0.6, compat=compat)) for step in range(50)]
        assert sum(held > 1 for held in guided) == steps_of_frame_1


def test_the_released_loop_asks_its_stream_in_its_own_order():
    """With eta: the frames of clip 0 one by one, its steps, the noise of clip 1, its steps."""
    asked = []

    def noise(purpose, clip, shape, step=0):
        asked.append((purpose, clip, step))
        return KeyedNoise((1, 2))(purpose, clip, shape, step)

    sample(Coupled(), SCHEDULE, request(2 * CLIP, eta=1.0, budget=1000), Options(compat="released"), noise=noise)
    steps = [[("step", clip, step) for step in range(STEPS)] for clip in (0, 1)]
    assert asked == [("initial", 0, 0), *steps[0], ("initial", 1, 0), *steps[1]]
