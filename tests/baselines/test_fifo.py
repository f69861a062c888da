"""FIFO: every frame that leaves the queue is plain DDIM of the noise that entered it, where frames do not couple."""

import pytest
import torch
from jaxtyping import TypeCheckError
from toys import CLIP, CONFIG, SEEDS, SHAPE, STEPS, Coupled, Separable, close, ddim, initial, request, run

from baselines import fifo
from baselines.fifo import Options, enter, fill, plan, queue_of, turn, turns_of
from baselines.priors import cross_over, low_pass
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


@every_queue
@both_ways
@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("prefix", [0.0, 0.25])
@pytest.mark.parametrize("frames", [CLIP + 1, 3 * CLIP - 1])
def test_zigzag_frames_that_were_enqueued_are_plain_ddim_of_their_noise(steps, lookahead, width, prefix, frames):
    schedule, denoise = Schedule.ddim(CONFIG, steps), Separable()
    video = run(fifo, frames, denoise, schedule, lookahead=lookahead, width=width, prefix=prefix)
    assert close(video[:, :, CLIP:], ddim(initial(frames), schedule=schedule)[:, :, CLIP:])
    todo = plan(request(frames), steps, Options(lookahead=lookahead, width=width, prefix=prefix))
    assert len(denoise.calls) == todo.calls


def check_zigzag():
    """A level stands for two frames, which leave together; before every window stands the clean head."""
    options, frames, schedule, denoise = Options(width=2, prefix=0.25), 13, Schedule.ddim(CONFIG, STEPS), Coupled()
    queue, clip = queue_of(CLIP, STEPS, options), Coupled()
    first = ddim(initial(CLIP), clip)
    run(fifo, frames, denoise, schedule, width=2, prefix=0.25)
    turns = turns_of(request(frames), STEPS, options)
    assert turns == -(-(frames + 2 * STEPS - CLIP) // 2)
    calls = denoise.calls[STEPS:]
    assert len(calls) == turns * len(queue.windows)
    assert [queue.levels[queue.front :].tolist().count(level) for level in range(STEPS)] == [2] * STEPS
    assert len(set(queue.levels[-CLIP:].tolist())) == CLIP // 2
    for number, (seen, told) in enumerate(calls):
        start = queue.windows[number % len(queue.windows)]
        assert close(seen[:, :, :1], first[:, :, :1])
        levels = [STEPS - 1, *queue.levels[start : start + CLIP - 1].tolist()]
        assert told.tolist() == [schedule.timesteps[level] for level in levels]
    tail = calls[2 * len(queue.windows) - 1][0][:, :, -2:]  # what entered after the first turn
    noise = KeyedNoise(SEEDS)("initial", 1, (SHAPE[0], CLIP, *SHAPE[1:])).double()
    assert torch.equal(tail, noise[:, :, :2])


def test_zigzag_and_prefix_are_what_the_network_sees():
    check_zigzag()


HONEST = queue_of


@pytest.mark.parametrize(
    "fault",
    [
        lambda clip, steps, options: HONEST(clip, steps, Options(width=3, prefix=0.25)),
        lambda clip, steps, options: HONEST(clip, steps, Options(width=2)),
        lambda *given: HONEST(*given)._replace(levels=HONEST(*given).levels.roll(1)),
    ],
    ids=["three a level", "no room for the head", "rolled by a frame"],
)
def test_planted_faults_of_the_zigzag_are_seen(monkeypatch, fault):
    monkeypatch.setattr(fifo, "queue_of", fault)
    with pytest.raises((AssertionError, RuntimeError, TypeCheckError)):
        check_zigzag()


def test_the_head_is_whole_frames_below_a_clip():
    assert [Options(prefix=share).head(8) for share in (0.0, 0.1, 0.25, 0.99)] == [0, 0, 2, 7]
    assert Options(prefix=0.29).head(100) == 29
    assert [Options(prefix=0.99).head(1), Options(prefix=1 - 1e-9).head(8)] == [0, 7]


def check_tail():
    """Low frequencies are the neighbor's, noised again, high ones the noise's; what comes of noises is noise."""
    schedule, generator = Schedule.ddim(CONFIG, STEPS), torch.Generator().manual_seed(3)
    waiting, arriving, fresh = (torch.randn(500, 1, frames, 8, 8, generator=generator) for frames in (5, 2, 2))
    assert torch.equal(enter(waiting, arriving, schedule, None), torch.cat([waiting[:, :, 2:], arriving], dim=2))
    after = enter(waiting, arriving, schedule, fresh)
    assert torch.equal(after[:, :, :3], waiting[:, :, 2:])
    kept = schedule.alphas[0] / schedule.alphas_prev[0]
    neighbor = kept**0.5 * waiting[:, :, -1:] + (1 - kept) ** 0.5 * fresh
    keep = low_pass(1, 8, 8, fifo.FreeInit())[0]
    low, high = (torch.fft.fftn(part.double(), dim=(-2, -1)) for part in (neighbor, arriving))
    want = torch.fft.ifftn(keep * low + (1 - keep**2).sqrt() * high, dim=(-2, -1)).real
    assert close(after[:, :, 3:].double(), want, 1e-4)
    assert float(after[:, :, 3:].var(dim=0).mean()) == pytest.approx(1, abs=0.02)


def test_a_tail_with_the_neighbors_low_frequencies():
    check_tail()
    plain, tied = run(fifo, 9), run(fifo, 9, tail="neighbor")
    first = plan(request(9), STEPS, Options()).frames[CLIP - 1]
    assert first.clip == 0
    assert not close(plain[:, :, CLIP:], tied[:, :, CLIP:], 1e-3)
    assert "low frequencies" in plan(request(9), STEPS, Options(tail="neighbor")).mixes


@pytest.mark.parametrize(
    "fault",
    [
        lambda low, high, keep, over: cross_over(high, low, keep, over),
        lambda low, high, keep, over: cross_over(low, high, keep**2, over),
        lambda low, high, keep, over: cross_over(low.roll(1, dims=0), high, keep, over),
        lambda low, high, keep, over: (
            torch.fft.ifftn(
                torch.fft.fftn(low, dim=over) * keep + torch.fft.fftn(high, dim=over) * (1 - keep), dim=over
            ).real
        ),
    ],
    ids=["the wrong way round", "squared", "another video's", "amplitudes that add up to 1"],
)
def test_planted_faults_of_the_tail_are_seen(monkeypatch, fault):
    monkeypatch.setattr(fifo, "cross_over", fault)
    with pytest.raises(AssertionError):
        check_tail()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "at least 1 frame of the queue has a level: got a width of 0"),
        ({"prefix": 1.0}, r"prefix is a share of a call in \[0, 1\): got 1.0"),
        ({"compat": "official", "width": 2}, "the official queue has a frame a level, .* got width 2, prefix 0.0"),
    ],
)
def test_queues_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


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
