"""What VidRD may do about its cycling content: each option by what enters the network."""

import pytest
import torch

from vidrd import sampling
from vidrd.noise import KeyedNoise
from vidrd.sampler_contract import Origin, Request
from vidrd.sampling import Options, blend_weights, continue_noise, guide_forwards, guided_frames, plan, sample
from vidrd.schedule import Schedule

CLIP, STEPS = 8, 10
SCHEDULE = Schedule.ddim({"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}, STEPS)


class Coupled:
    """A network whose answer depends on the other frames; keeps every state that entered it."""

    clip, longest, branches = CLIP, None, 1

    def __init__(self):
        self.entered = []

    def __call__(self, latents, timesteps):
        self.entered.append(latents.clone())
        place = torch.linspace(0.1, 0.4, latents.shape[2]).reshape(-1, 1, 1)
        return (0.6 + 0.3 * timesteps / 1000) * torch.tanh(latents) + place * latents.mean(dim=2, keepdim=True)

    def state(self, clip, step):
        return self.entered[clip * STEPS + step]


class FrameByFrame(Coupled):
    def __call__(self, latents, timesteps):
        self.entered.append(latents.clone())
        return (0.6 + 0.3 * timesteps / 1000) * torch.tanh(latents)


def request(frames, clip=CLIP):
    return Request(frames, clip, (2, 3, 3), (1, 2))


def run(frames, denoise=None, **options):
    return sample(denoise or Coupled(), SCHEDULE, request(frames), Options(**options)).latents


def test_noise_goes_on_where_the_old_clip_ends():
    past = torch.arange(8.0).reshape(1, 1, 8, 1, 1)
    assert continue_noise(past, 3).flatten().tolist() == [5, 6, 7, 0, 1, 2, 3, 4]
    assert guide_forwards(past, 10 + past[:, :, 6:], 3).flatten().tolist() == [0, 16, 17, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("overlap", [1, 3])
@pytest.mark.parametrize("stages", ["linear", "constant"])
def test_every_state_of_a_clip_that_goes_on_forwards(overlap, stages):
    denoise, beta = Coupled(), 0.35
    run(2 * CLIP, denoise, overlap=overlap, alpha=2.0, beta=beta, reverse=False, join="drop_duplicate", stages=stages)
    fresh = KeyedNoise((1, 2))("initial", 1, (2, CLIP, 3, 3))
    old, new = denoise.state(0, 0), denoise.state(1, 0)
    for k in range(CLIP):
        want = old[:, :, (k + CLIP - overlap) % CLIP]
        if k >= overlap:
            want = 2 / 5**0.5 * want + fresh[:, :, k] / 5**0.5
        assert torch.allclose(new[:, :, k], want, atol=1e-6)
    for step in range(1, STEPS):
        for k in range(overlap):
            distance = overlap - 1 - k  # from the seam, which is after the overlap
            share = 1 if stages == "constant" else 1 - distance / overlap
            same = torch.equal(denoise.state(1, step)[:, :, k], denoise.state(0, step)[:, :, CLIP - overlap + k])
            assert same == (step < round(share * beta * STEPS, 6))


def test_forwards_with_full_guidance_nothing_jumps_where_frames_do_not_couple():
    """The overlap is the old clip's end, frame by frame; left out, the video holds each of its frames once."""
    kept = run(2 * CLIP, FrameByFrame(), overlap=3, beta=1.0, stages="constant", reverse=False)
    assert torch.allclose(kept[:, :, CLIP : CLIP + 3], kept[:, :, CLIP - 3 : CLIP], atol=1e-6)
    dropped = run(
        2 * CLIP - 3, FrameByFrame(), overlap=3, beta=1.0, stages="constant", reverse=False, join="drop_duplicate"
    )
    assert torch.allclose(dropped, torch.cat([kept[:, :, :CLIP], kept[:, :, CLIP + 3 :]], dim=2), atol=1e-6)


@pytest.mark.parametrize(("frames", "clips"), [(8, 1), (9, 2), (13, 2), (14, 3), (18, 3)])
def test_forwards_a_clip_adds_what_it_does_not_repeat(frames, clips):
    options, denoise = Options(overlap=3, reverse=False, join="drop_duplicate"), Coupled()
    assert sample(denoise, SCHEDULE, request(frames), options).latents.shape[2] == frames
    todo = plan(request(frames), STEPS, options)
    assert len(denoise.entered) == todo.calls == clips * STEPS
    assert todo.windows == tuple((5 * k, 5 * k + 8) for k in range(clips))
    assert [(seam.frame, seam.kind) for seam in todo.seams] == [(8 + 5 * k, "soft") for k in range(clips - 1)]


def test_kept_the_overlap_is_marked_as_what_it_repeats():
    todo = plan(request(2 * CLIP), STEPS, Options(overlap=2, reverse=False))
    assert todo.frames[7:11] == (Origin(0, 7), Origin(1, 0, duplicate_of=6), Origin(1, 1, duplicate_of=7), Origin(1, 2))
    assert todo.seams[0].kind == "hard"


def test_constant_stages_let_all_frames_go_at_once():
    held = [guided_frames(step, STEPS, Options(overlap=4, beta=0.5, stages="constant")) for step in range(STEPS)]
    assert held == [4] * 5 + [0] * 5


@pytest.mark.parametrize("reverse", [True, False])
def test_blended_frames_pass_from_the_old_states_to_their_own(reverse):
    options = Options(overlap=2, beta=0.5, guide="blend", reverse=reverse)
    near, far = (0, 1) if reverse else (1, 0)  # frames of the overlap, by their distance from the seam
    assert [blend_weights(step, STEPS, options, CLIP)[near] for step in (0, 1, 4, 5, 9)] == pytest.approx(
        [1, 0.8, 0.2, 0, 0]
    )
    assert [blend_weights(step, STEPS, options, CLIP)[far] for step in (0, 1, 2, 3)] == pytest.approx([1, 0.6, 0.2, 0])
    assert blend_weights(1, STEPS, options, CLIP)[2:] == [0.0] * 6
    denoise = Coupled()
    sample(denoise, SCHEDULE, request(2 * CLIP), options)
    old = denoise.state(0, 1)[:, :, CLIP - 1]
    own = SCHEDULE.step(denoise.state(1, 0), Coupled()(denoise.state(1, 0), torch.tensor(SCHEDULE.timesteps[0])), 0)
    want = 0.8 * old + 0.2 * own[:, :, near]
    assert torch.allclose(denoise.state(1, 1)[:, :, near], want, atol=1e-6)


def test_dropping_all_of_a_clip_is_refused():
    with pytest.raises(ValueError, match="dropping the overlap leaves nothing of clips of 4 frames: use join='keep'"):
        plan(request(9, clip=4), STEPS, Options(overlap=4, reverse=False, join="drop_duplicate"))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("continue_noise", lambda past, overlap: past.roll(overlap + 1, dims=2)),
        ("continue_noise", lambda past, overlap: past.flip(2)),
        ("guide_forwards", lambda latents, past, overlap: guide_forwards(latents, past.flip(2), overlap)),
        ("guided_frames", lambda step, steps, options: guided_frames(step + 1, steps, options)),
    ],
    ids=["off by one", "reversed", "wrong order", "step late"],
)
def test_planted_faults_are_seen(monkeypatch, name, fault):
    monkeypatch.setattr(sampling, name, fault)
    with pytest.raises(AssertionError):
        test_every_state_of_a_clip_that_goes_on_forwards(3, "linear")
