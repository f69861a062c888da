"""Co-denoised windows: any windows and weights give plain DDIM where frames do not know of each other."""

import pytest
import torch
from toys import CLIP, SCHEDULE, SEEDS, SHAPE, STEPS, Coupled, Separable, close, ddim, initial, request, run

import baselines.independent
from baselines import co_denoise
from baselines.co_denoise import Options, cut_shares, fuse, overwritten_shares, plan
from baselines.windows import cover, moving_cover, places, profile, shares
from vidrd.noise import KeyedNoise
from vidrd.sampler_contract import UNSEEN


@pytest.mark.parametrize("frames", [1, CLIP, CLIP + 1, 3 * CLIP - 1, 13])
@pytest.mark.parametrize("overlap", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        *({"weights": weights} for weights in ("flat", "pyramid", "ramp", "sine")),
        {"blend": "cut"},
        {"windows": "moving"},
        {"windows": "strided"},
        {"fuse": "state"},
    ],
    ids=["flat", "pyramid", "ramp", "sine", "cut", "moving", "strided", "states"],
)
def test_windows_of_a_separable_network_change_nothing(frames, overlap, options):
    video = run(co_denoise, frames, Separable(), overlap=overlap, **options)
    assert close(video, ddim(initial(frames)))


def test_without_overlap_it_is_independent_clips():
    video = run(co_denoise, 3 * CLIP, overlap=0)
    assert torch.equal(video, run(baselines.independent, 3 * CLIP))
    assert torch.equal(run(co_denoise, 3 * CLIP, overlap=0, blend="cut"), video)


def test_one_frame_more_than_a_clip_is_seen_by_two_windows():
    todo = plan(request(CLIP + 1), STEPS, Options(overlap=0))
    assert todo.windows == ((0, 4), (1, 5))
    assert todo.fe == 2 * CLIP * STEPS


def test_seams_stand_where_windows_hand_over_and_say_their_kind():
    soft = plan(request(3 * CLIP), STEPS, Options())
    assert [(seam.frame, seam.kind) for seam in soft.seams] == [(3, "soft"), (5, "soft"), (7, "soft"), (9, "soft")]
    hard = plan(request(3 * CLIP), STEPS, Options(overlap=0))
    assert [(seam.frame, seam.kind) for seam in hard.seams] == [(4, "hard"), (8, "hard")]
    moving = plan(request(3 * CLIP), STEPS, Options(windows="moving"))
    assert moving.seams == ()


def test_a_last_window_that_is_shifted_back_shares_frames_with_the_one_before():
    shifted = plan(request(10), STEPS, Options(overlap=0))
    assert shifted.windows == ((0, 4), (4, 8), (6, 10))
    assert [(seam.frame, seam.kind) for seam in shifted.seams] == [(4, "hard"), (7, "soft")]


def test_the_plan_of_released_windows_is_what_runs():
    todo = plan(request(14, clip=8), 1, Options(overlap=4, compat="genl"))
    assert todo.windows == ((0, 8), (4, 12))
    assert [(seam.frame, seam.kind) for seam in todo.seams] == [(6, "soft")]
    assert [(origin.clip, origin.index) for origin in todo.frames] == [
        *((0, index) for index in range(6)),
        *((1, index) for index in range(2, 8)),
        (UNSEEN, 0),
        (UNSEEN, 1),
    ]


def test_the_law_of_streamingt2v_is_even_over_the_shared_frames_and_later_windows_overwrite():
    noise, starts = KeyedNoise(range(600)), (0, 2, 4)
    share = overwritten_shares(starts, 8, 12, noise, 0)
    total = torch.zeros(600, 12, dtype=torch.float64)
    for start, weight in zip(starts, share, strict=True):
        total[:, start : start + 8] += weight
    assert (total == 1).all()
    last = 8 - share[2].sum(dim=1)  # frames that the last window leaves to those before
    assert set(last.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    assert float((last == 0).double().mean()) == pytest.approx(1 / 6, abs=0.06)
    assert (share[1].sum(dim=1) == 0).any()  # overwritten altogether
    assert (share[1].sum(dim=1) > 4).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compat": "genl", "weights": "pyramid"}, "averages flatly: got weights='pyramid', leave them out"),
        ({"compat": "genl", "windows": "moving"}, "do not move: use windows='static'"),
        ({"blend": "cut", "weights": "flat"}, "a cut has no weights: got 'flat'"),
        ({"compat": "streamingt2v"}, "is a law of cuts: got blend='mean', use blend='cut'"),
    ],
)
def test_options_that_another_leaves_without_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_lengths_that_streamingt2v_cannot_make_are_refused():
    with pytest.raises(ValueError, match="needs 4 frames and whole strides of 2: got 9, try 8"):
        plan(request(9), STEPS, Options(blend="cut", compat="streamingt2v"))


def test_fusing_answers_is_fusing_states():
    """For DDIM without fresh noise the two are one: what Gen-L-Video does and what this does."""
    starts = cover(10, CLIP, 2)
    x = initial(10)
    windows = [x[:, :, start : start + CLIP] for start in starts]
    answers = [Coupled()(window, torch.tensor(500)) for window in windows]
    share = shares(places(starts, CLIP), profile("pyramid", CLIP, 2), 10)
    frames = [slice(start, start + CLIP) for start in starts]
    by_answer = SCHEDULE.step(x, fuse(answers, frames, share, 10), 3)
    by_state = fuse([SCHEDULE.step(w, a, 3) for w, a in zip(windows, answers, strict=True)], frames, share, 10)
    assert close(by_answer, by_state)


def test_cuts_are_hard_random_and_each_videos_own():
    noise, starts, frames = KeyedNoise(range(200)), cover(13, 8, 4), 13
    share = cut_shares(starts, 8, frames, noise, 0)
    assert share.shape == (3, 200, 8)
    assert set(share.unique().tolist()) == {0.0, 1.0}
    total = torch.zeros(200, frames, dtype=torch.float64)
    for start, weight in zip(starts, share, strict=True):
        total[:, start : start + 8] += weight
    assert (total == 1).all()
    first = share[0].sum(dim=1)  # where the first window ends: from 4, where the second begins, to 8
    assert set(first.tolist()) == {4.0, 5.0, 6.0, 7.0, 8.0}
    again = cut_shares(starts, 8, frames, noise, 1)
    assert not torch.equal(again, share)
    assert torch.equal(cut_shares(starts, 8, frames, KeyedNoise((5,)), 0)[:, 0], share[:, 5])


def test_windows_in_one_call_change_nothing():
    alone = run(co_denoise, 13)
    for budget in (8, 16, 24, 1000):
        denoise = Coupled()
        together = run(co_denoise, 13, denoise, asked=request(13, budget=budget))
        assert close(together, alone)
        assert len(denoise.calls) == plan(request(13, budget=budget), STEPS, Options()).calls
        assert max(len(latents) * latents.shape[2] for latents, _ in denoise.calls) <= max(budget, 2 * CLIP)


class White(Separable):
    """Exactly right about frames of white noise."""

    def __call__(self, latents, timesteps):
        return (1 - SCHEDULE.alphas[SCHEDULE.timesteps.index(int(timesteps))]) ** 0.5 * latents


def test_the_mean_of_windows_keeps_the_noise_of_ancestral_steps():
    """Windows stepped each by itself average their fresh noise away; one step of the fused answer does not."""
    spread = {}
    for compat in ("paper", "genl"):
        asked = request(10, seeds=tuple(range(40)), eta=1.0)
        video = run(co_denoise, 10, White(), asked=asked, compat=compat, weights="flat")
        spread[compat] = float(video[:, :, 3:7].std())
    assert spread["genl"] < 0.85 * spread["paper"]


def test_the_released_windows_blank_the_tail():
    video = run(co_denoise, 11, compat="genl")
    assert (video[:, :, 10:] == 0).all()
    assert (run(co_denoise, 11)[:, :, 10:] != 0).all()
    assert close(run(co_denoise, 10, compat="genl"), run(co_denoise, 10, weights="flat"))
    with pytest.raises(ValueError, match=r"whole clip of 4 frames: got 3, use compat='paper'"):
        run(co_denoise, 3, compat="genl")


def test_rescheduled_noise_is_made_of_the_first_clips_frames():
    first = KeyedNoise(SEEDS)("initial", 0, (SHAPE[0], CLIP, *SHAPE[1:])).double()
    denoise = Separable()
    chosen = Options(overlap=2, noise="rescheduled")
    co_denoise.sample(denoise, SCHEDULE, request(3 * CLIP), chosen, dtype=torch.float64)
    for latents, _ in denoise.calls[: len(cover(3 * CLIP, CLIP, 2))]:
        for frame in latents.unbind(dim=2):
            assert any(torch.equal(frame[0], other[0]) for other in first.unbind(dim=2))


def test_overlaps_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"overlap is a count of frames .* got -1"):
        Options(overlap=-1)
    with pytest.raises(ValueError, match="overlap by less than that: got 4, try 2"):
        plan(request(9), STEPS, Options(overlap=4))


def test_moving_windows_of_each_step_see_the_state_at_that_step():
    denoise, frames = Separable(), 13
    run(co_denoise, frames, denoise, overlap=2, windows="moving")
    x, calls = initial(frames), iter(denoise.calls)
    for step, timestep in enumerate(SCHEDULE.timesteps):
        for start in moving_cover(frames, CLIP, 2, step):
            latents, _ = next(calls)
            assert close(latents, x[:, :, start : start + CLIP])
        x = SCHEDULE.step(x, Separable()(x, torch.tensor(timestep)), step)
    assert next(calls, None) is None


def late_window(windows):
    first, *inner, last = windows
    return [first, *(slice(window.start + 1, window.stop + 1) for window in inner), last]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("fuse", lambda parts, windows, share, frames: fuse(parts, late_window(windows), share, frames)),
        ("shares", lambda index, weights, frames: weights.expand(len(index), -1) / 2),
        ("cover", lambda frames, clip, stride: tuple(range(0, frames - clip + 1, stride))),
    ],
    ids=["off by one", "shares of one half", "tail unseen"],
)
def test_planted_faults_are_seen(monkeypatch, name, fault):
    monkeypatch.setattr(co_denoise, name, fault)
    with pytest.raises(AssertionError):
        test_windows_of_a_separable_network_change_nothing(13, 2, {"weights": "pyramid"})


HONEST = cut_shares  # whose name the faults take


def cut_late(starts, clip, frames, noise, step):
    """Every window begins and ends a frame too late."""
    return HONEST(starts, clip, frames, noise, step).roll(1, dims=-1)


def cut_before(starts, clip, frames, noise, step):
    """The windows' shares in the wrong order."""
    return HONEST(starts, clip, frames, noise, step).flip(0)


@pytest.mark.parametrize("fault", [cut_late, cut_before], ids=["off by one", "wrong order"])
def test_planted_faults_of_cuts_are_seen(monkeypatch, fault):
    monkeypatch.setattr(co_denoise, "cut_shares", fault)
    with pytest.raises(AssertionError):
        test_windows_of_a_separable_network_change_nothing(13, 2, {"blend": "cut"})


def one_cut_for_all(starts, clip, frames, noise, step):
    share = HONEST(starts, clip, frames, noise, step)
    return share[:, :1].expand_as(share)


def cut_once(starts, clip, frames, noise, step):
    return HONEST(starts, clip, frames, noise, 0)


@pytest.mark.parametrize("fault", [cut_late, one_cut_for_all, cut_once], ids=["off by one", "one for all", "one step"])
def test_cuts_that_are_not_random_are_seen(monkeypatch, fault):
    monkeypatch.setitem(globals(), "cut_shares", fault)
    with pytest.raises(AssertionError):
        test_cuts_are_hard_random_and_each_videos_own()


def tail_unseen(frames, clip, stride, step):
    return moving_cover(frames, clip, stride, step)[:-1]


def a_step_late(frames, clip, stride, step):
    return moving_cover(frames, clip, stride, step + 1)


def never_moving(frames, clip, stride, step):
    return cover(frames, clip, stride)


@pytest.mark.parametrize("fault", [tail_unseen, a_step_late, never_moving])
def test_planted_faults_of_moving_windows_are_seen(monkeypatch, fault):
    monkeypatch.setattr(co_denoise, "moving_cover", fault)
    with pytest.raises(AssertionError):
        test_moving_windows_of_each_step_see_the_state_at_that_step()
