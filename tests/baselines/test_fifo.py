"""FIFO: every frame that leaves the queue is plain DDIM of the noise that entered it, where frames do not couple."""

import pytest
import torch
from toys import CLIP, CONFIG, SEEDS, SHAPE, STEPS, Coupled, Separable, close, ddim, initial, request, run

from baselines import fifo
from baselines.fifo import Options, fill, plan, queue_of, turn
from vidrd.noise import KeyedNoise
from vidrd.schedule import Schedule

every_queue = pytest.mark.parametrize("steps", [1, 2, CLIP - 1, CLIP, CLIP + 1, 2 * CLIP, 11])
both_ways = pytest.mark.parametrize("lookahead", [True, False])


@every_queue
@both_ways
@pytest.mark.parametrize("frames", [CLIP + 1, 2 * CLIP, 3 * CLIP - 1])
def test_frames_that_were_enqueued_are_plain_ddim_of_their_noise(steps, lookahead, frames):
    schedule = Schedule.ddim(CONFIG, steps)
    video = run(fifo, frames, Separable(), schedule, lookahead=lookahead)
    want = ddim(initial(frames), schedule=schedule)
    assert close(video[:, :, CLIP:], want[:, :, CLIP:])


@every_queue
@both_ways
def test_the_first_clip_is_denoised_on_from_where_it_was_put_in(steps, lookahead):
    """Frame j of the first clip stands steps - CLIP + j places before the end; frames beyond the queue are done."""
    schedule = Schedule.ddim(CONFIG, steps)
    video = run(fifo, CLIP + 1, Separable(), schedule, lookahead=lookahead)
    clip = ddim(initial(CLIP), schedule=schedule)
    queue = queue_of(CLIP, steps, Options(lookahead=lookahead))
    noise = KeyedNoise(SEEDS)("queue", 0, (SHAPE[0], len(queue.levels), *SHAPE[1:])).double()
    for frame in range(CLIP):
        place = steps - CLIP + frame
        want = clip[:, :, frame : frame + 1]
        if place >= 0:
            level = steps - 1 - place
            alpha = schedule.alphas[level]
            at = queue.front + place
            want = alpha**0.5 * want + (1 - alpha) ** 0.5 * noise[:, :, at : at + 1]
            for step in range(level, steps):
                want = schedule.step(want, Separable()(want, torch.tensor(schedule.timesteps[step])), step)
        assert close(video[:, :, frame : frame + 1], want), frame


@every_queue
@both_ways
@pytest.mark.parametrize("clip", [1, 2, 5, 8])
def test_windows_renew_every_place_of_the_queue_once(steps, lookahead, clip):
    queue = queue_of(clip, steps, Options(lookahead=lookahead))
    assert queue.levels.tolist() == [steps - 1] * queue.front + list(range(steps - 1, -1, -1))
    renewed = [first + clip - 1 - back for first in queue.windows for back in range(queue.renewed)]
    places = [place for place in renewed if place >= queue.front]
    assert sorted(places) == list(range(queue.front, len(queue.levels)))
    assert queue.windows[-1] + clip == len(queue.levels)


def test_looking_ahead_costs_twice_as_much():
    ahead, plain = (plan(request(20), STEPS, Options(lookahead=ahead)) for ahead in (True, False))
    turns = 20 + STEPS - CLIP
    assert ahead.fe == CLIP * STEPS + turns * 2 * STEPS
    assert plain.fe == CLIP * STEPS + turns * STEPS
    assert [(seam.frame, seam.kind) for seam in ahead.seams] == [(CLIP, "soft")]


def test_one_partition_is_pure_diagonal_denoising():
    """As many steps as frames of a clip: the window is the whole queue, every frame at another level."""
    schedule, denoise = Schedule.ddim(CONFIG, CLIP), Coupled()
    run(fifo, CLIP + 2, denoise, schedule, lookahead=False)
    diagonal = denoise.calls[CLIP:]
    assert len(diagonal) == 2 + CLIP
    for _, told in diagonal:
        assert told.tolist() == list(schedule.timesteps)[::-1]


def test_a_video_of_one_clip_needs_no_queue():
    for frames in (1, CLIP):
        assert close(run(fifo, frames, Coupled()), ddim(initial(CLIP), Coupled())[:, :, :frames])


@pytest.mark.parametrize("lookahead", [True, False])
def test_windows_in_one_call_change_nothing(lookahead):
    alone = run(fifo, 9, lookahead=lookahead)
    for budget in (16, 24, 1000):
        denoise = Coupled()
        assert close(run(fifo, 9, denoise, asked=request(9, budget=budget), lookahead=lookahead), alone)
        todo = plan(request(9, budget=budget), STEPS, Options(lookahead=lookahead))
        assert len(denoise.calls) == todo.calls
        assert sum(len(latents) * latents.shape[2] for latents, _ in denoise.calls) == todo.fe * len(SEEDS)


def test_without_eta_only_the_start_draws_noise():
    purposes = set()

    def noise(purpose, clip, shape, step=0):
        purposes.add(purpose)
        return KeyedNoise(SEEDS)(purpose, clip, shape, step)

    run(fifo, 9, noise=noise)
    assert purposes == {"initial", "queue"}
    run(fifo, 9, noise=noise, asked=request(9, eta=0.5))
    assert purposes == {"initial", "queue", "step"}


def test_the_official_queue_is_ancestral_and_whole_clips_of_steps():
    official = run(fifo, 9, compat="official")
    assert torch.equal(official, run(fifo, 9, asked=request(9, eta=1.0), compat="official"))
    assert not close(official, run(fifo, 9, asked=request(9, eta=0.0), compat="official"), 1e-3)
    ancestral = run(fifo, 9, asked=request(9, eta=1.0))
    assert not close(official, run(fifo, 9), 1e-3)
    assert not torch.equal(official, ancestral)  # the finished frames that the first windows see are noised there
    with pytest.raises(ValueError, match="whole clips of 4 frames, as many as steps: got 7, try 4"):
        plan(request(9), 7, Options(compat="official"))


def forward_order(frames, queue, answer):
    """The fault: from the clean end to the noisy one, each window seeing what the one before has done."""
    frames, clip = frames.clone(), frames.shape[2] - queue.windows[-1]
    for number, first in enumerate(queue.windows):
        windows = [frames[:, :, f : f + clip] for f in queue.windows]
        begin = max(queue.front, first + clip - queue.renewed)
        frames[:, :, begin : first + clip] = answer(windows)[number][:, :, begin - first :]
    return frames


def test_the_order_of_windows_matters_to_a_coupled_network_and_to_no_other(monkeypatch):
    """A separable network cannot see it, so the invariant needs both."""
    coupled, separable = run(fifo, 9), run(fifo, 9, Separable())
    monkeypatch.setattr(fifo, "turn", forward_order)
    monkeypatch.setattr(fifo, "Announce", lambda on_event, calls: lambda *event: None)
    assert close(run(fifo, 9, Separable()), separable)
    assert not close(run(fifo, 9), coupled, 1e-6)


def test_windows_see_the_frames_as_they_were_before_the_turn():
    queue = queue_of(CLIP, STEPS, Options())
    seen = []

    def answer(windows):
        seen.extend(windows)
        return [window + 1 for window in windows]

    frames = torch.arange(float(len(queue.levels))).reshape(1, 1, -1, 1, 1)
    after = turn(frames, queue, answer)
    assert torch.equal(after[:, :, queue.front :], frames[:, :, queue.front :] + 1)
    assert torch.equal(after[:, :, : queue.front], frames[:, :, : queue.front])
    for first, window in zip(queue.windows, seen, strict=True):
        assert window.flatten().tolist() == list(range(first, first + CLIP))


def levels_off_by_one(clip, steps, options):
    queue = queue_of(clip, steps, options)
    return queue._replace(levels=(queue.levels - 1).clamp(min=0))


def reversed_levels(clip, steps, options):
    queue = queue_of(clip, steps, options)
    return queue._replace(levels=queue.levels.flip(0))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("queue_of", levels_off_by_one),
        ("queue_of", reversed_levels),
        ("queue_of", lambda *given: queue_of(*given)._replace(renewed=queue_of(*given).renewed - 1)),
        ("fill", lambda clip, *rest: fill(clip.flip(2), *rest)),
    ],
    ids=["level off by one", "queue turned round", "a place not renewed", "clip in wrong order"],
)
def test_planted_faults_are_seen(monkeypatch, name, fault):
    monkeypatch.setattr(fifo, name, fault)

    def invariants():
        test_frames_that_were_enqueued_are_plain_ddim_of_their_noise(STEPS, True, 3 * CLIP - 1)
        test_the_first_clip_is_denoised_on_from_where_it_was_put_in(STEPS, True)

    with pytest.raises(AssertionError):
        invariants()
