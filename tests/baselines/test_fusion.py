"""Where windows are fused (answers, clean frames, states), whose noise is renewed, and the presets made of it."""

import math

import pytest
import torch
from toys import CLIP, CONFIG, SCHEDULE, SEEDS, SHAPE, STEPS, Coupled, Separable, close, ddim, initial, request, run

from baselines import co_denoise
from baselines.co_denoise import Options, diffvf, flowlong, plan, videomerge
from baselines.fusion import answer_of, clean_of, fuse, renewed
from baselines.windows import cover, places, profile, shares, strided_cover
from vidrd.noise import KeyedNoise, video_noise
from vidrd.schedule import Schedule

FRAMES = 3 * CLIP - 1
WHOLE = (SHAPE[0], FRAMES, *SHAPE[1:])
FLOW = Schedule.flow([1000 * (8 - step) / 8 for step in range(8)], [1 - step / 8 for step in range(9)])
SCHEDULES = [
    Schedule.ddim({**CONFIG, "prediction_type": kind}, STEPS) for kind in ("epsilon", "v_prediction", "sample")
]
every_schedule = pytest.mark.parametrize("schedule", [*SCHEDULES, FLOW], ids=["noise", "v", "clean", "flow"])


def normal(key, shape=WHOLE):
    return KeyedNoise(SEEDS)(key, 0, shape).double()


@every_schedule
def test_fusing_clean_frames_of_one_state_is_fusing_answers(schedule):
    """Why windows that share their state have two places to fuse in, not three."""
    x, starts = normal("x"), cover(FRAMES, CLIP, 2)
    windows = [slice(start, start + CLIP) for start in starts]
    told = [Coupled()(x[:, :, window], torch.tensor(500.0)) for window in windows]
    share = shares(places(starts, CLIP), profile("ramp", CLIP, 2), FRAMES)
    by_answer = fuse(told, windows, share, FRAMES)
    clean = [clean_of(schedule, x[:, :, window], answer, 3) for window, answer in zip(windows, told, strict=True)]
    assert close(answer_of(schedule, x, fuse(clean, windows, share, FRAMES), 3), by_answer)


@every_schedule
@pytest.mark.parametrize("level", [1, STEPS - 1])
def test_a_renewed_step_keeps_the_clean_frames_and_has_the_noise_given(schedule, level):
    x, answer, fresh = normal("x"), normal("answer"), normal("fresh")
    clean = clean_of(schedule, x, answer, level)
    after = schedule.step(*renewed(schedule, x, answer, level, fresh), level)
    alpha, scale = schedule.alphas_prev[level], schedule.scales_prev[level]
    assert close(after, scale * (math.sqrt(alpha) * clean + math.sqrt(1 - alpha) * fresh))


def states_of(options, schedule=FLOW, frames=FRAMES, network=Coupled, **changes):
    """What the windows saw at each step: lists of B C F H W."""
    denoise, asked = network(), request(frames, **changes)
    co_denoise.sample(denoise, schedule, asked, options, dtype=torch.float64)
    seen = iter(denoise.calls)
    return [
        [next(seen)[0] for _ in co_denoise.windows_at(step, schedule.steps, asked, options)]
        for step in range(schedule.steps)
    ]


def check_flowlong(schedule=FLOW):
    """While the share of noise is 0.6 at least, a step goes to clean frames and new noise, one draw for the video."""
    options = flowlong(2)
    states, x = states_of(options, schedule), video_noise(KeyedNoise(SEEDS), FRAMES, CLIP, SHAPE).double()
    starts = cover(FRAMES, CLIP, 2)
    windows = [slice(start, start + CLIP) for start in starts]
    share, phases = shares(places(starts, CLIP), profile("ramp", CLIP, 2), FRAMES), []
    for step, timestep in enumerate(schedule.timesteps):
        for window, seen in zip(windows, states[step], strict=True):
            assert close(seen, x[:, :, window])
        told = [Coupled()(x[:, :, window], torch.tensor(timestep)) for window in windows]
        clean = fuse(
            [clean_of(schedule, x[:, :, w], a, step) for w, a in zip(windows, told, strict=True)],
            windows,
            share,
            FRAMES,
        )
        signal, spread = schedule.mix(step)
        noise = (x - signal * clean) / spread
        phases.append(spread / (signal + spread) >= 0.6)
        if phases[-1]:
            noise = KeyedNoise(SEEDS)("step", 0, WHOLE, step).double()
        if step + 1 < schedule.steps:
            x = schedule.noised(clean, noise, step + 1)
    assert phases[0]
    assert not phases[-1]


@pytest.mark.parametrize("schedule", [FLOW, SCHEDULE], ids=["flow", "noise"])
def test_flowlong_renews_noise_above_its_level_and_keeps_it_below(schedule):
    check_flowlong(schedule)


def test_a_level_at_the_share_itself_is_renewed():
    """On a flow of 5 steps the shares are 1, 0.8, 0.6, 0.4 and 0.2, of which 0.4 comes back a little less."""
    schedule = Schedule.flow(range(1000, 0, -200), [1 - step / 5 for step in range(6)])
    for share, count in ((0.8, 2), (0.6, 3), (0.4, 4), (0.2, 5)):
        steps = set[int]()

        def noise(purpose, clip, shape, step=0, *, steps=steps):
            steps |= {step} if purpose == "step" else set()
            return KeyedNoise(SEEDS)(purpose, clip, shape, step)

        run(co_denoise, FRAMES, schedule=schedule, noise=noise, asked=request(FRAMES, eta=None), renew=share)
        assert steps == set(range(count))


HONEST = renewed


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("flowlong", lambda overlap: Options(overlap, weights="ramp", renew=0.6, fuse="state")),
        ("flowlong", lambda overlap: Options(overlap, weights="ramp", renew=0.8)),
        ("flowlong", lambda overlap: Options(overlap, weights="flat", renew=0.6)),
        ("renewed", lambda schedule, x, answer, level, fresh: (x, answer)),
        ("renewed", lambda schedule, x, answer, level, fresh: HONEST(schedule, x, answer, level, 2**-0.5 * fresh)),
    ],
    ids=["a draw a window", "level too high", "not cross-faded", "noise kept", "too little noise"],
)
def test_planted_faults_of_flowlong_are_seen(monkeypatch, name, fault):
    monkeypatch.setattr(co_denoise, name, fault)
    monkeypatch.setitem(globals(), name, fault)
    with pytest.raises(AssertionError):
        check_flowlong()


def test_an_eta_that_is_asked_for_takes_the_place_of_renewing():
    plain = run(co_denoise, FRAMES, overlap=2, weights="ramp", asked=request(FRAMES, eta=0.0))
    asked = run(co_denoise, FRAMES, overlap=2, weights="ramp", renew=0.6, asked=request(FRAMES, eta=0.0))
    assert torch.equal(asked, plain)
    assert close(run(co_denoise, CLIP, renew=0.6), ddim(initial(CLIP), Coupled()))  # nothing to fuse
    assert not close(run(co_denoise, FRAMES, overlap=2, weights="ramp", renew=0.6), plain, 1e-3)


def test_noise_of_each_window_loses_a_third_where_states_are_fused():
    """The trap that FlowLong's users fell into: the mean of two independent unit normals has a deviation of 0.71."""
    spread = {}
    for start in ("iid", "own"):
        options = Options(2, weights="flat", noise=start, fuse="state")
        states = states_of(options, frames=6, network=White, seeds=tuple(range(60)))
        middle = torch.cat([states[1][0][:, :, 2:], states[1][1][:, :, :2]], dim=2)
        spread[start] = float(middle.std() / FLOW.mix(1).spread)
    assert spread == pytest.approx({"iid": 1.0, "own": 0.5**0.5}, abs=0.02)


class White(Separable):
    """Knows the noise to be all of the state over its spread; what is left of the frames is 0."""

    def __call__(self, latents, timesteps):
        super().__call__(latents, timesteps)
        return latents / (timesteps.double() / 1000)


@pytest.mark.parametrize("fuse_what", ["answer", "clean", "state"])
def test_windows_with_states_of_their_own(fuse_what):
    """SyncTweedies' three places, as a reader would write them."""
    options, starts = Options(2, noise="own", fuse=fuse_what), cover(FRAMES, CLIP, 2)
    windows = [slice(start, start + CLIP) for start in starts]
    share = shares(places(starts, CLIP), profile("pyramid", CLIP, 2), FRAMES)
    own = [KeyedNoise(SEEDS)("initial", number, (SHAPE[0], CLIP, *SHAPE[1:])).double() for number in range(len(starts))]
    video = co_denoise.sample(Coupled(), SCHEDULE, request(FRAMES), options, dtype=torch.float64).latents
    states = states_of(options, SCHEDULE)
    for step, timestep in enumerate(SCHEDULE.timesteps):
        for seen, want in zip(states[step], own, strict=True):
            assert close(seen, want)
        told = [Coupled()(x, torch.tensor(timestep)) for x in own]
        if fuse_what == "answer":
            mean = fuse(told, windows, share, FRAMES)
            own = [SCHEDULE.step(x, mean[:, :, w], step) for x, w in zip(own, windows, strict=True)]
        elif fuse_what == "clean":
            signal, spread = SCHEDULE.mix(step)
            mean = fuse([(x - spread * y) / signal for x, y in zip(own, told, strict=True)], windows, share, FRAMES)
            noises = [(x - signal * mean[:, :, w]) / spread for x, w in zip(own, windows, strict=True)]
            own = [SCHEDULE.step(x, noise, step) for x, noise in zip(own, noises, strict=True)]
        else:
            mean = fuse([SCHEDULE.step(x, y, step) for x, y in zip(own, told, strict=True)], windows, share, FRAMES)
            own = [mean[:, :, w] for w in windows]
    assert close(video, fuse(own, windows, share, FRAMES))


def test_fused_clean_frames_end_in_windows_that_agree_and_fused_answers_do_not():
    for fuse_what, agree in (("clean", True), ("answer", False)):
        steps = Schedule.ddim(CONFIG, 60)  # whose last step leaves no noise
        states = states_of(Options(2, noise="own", fuse=fuse_what), steps)[-1]
        gap = float((states[0][:, :, 2:] - states[1][:, :, :2]).abs().max())
        assert (gap < 0.5) == agree, (fuse_what, gap)


def half_of_the_first(purpose, clip, shape, step=0):
    """VideoMerge's and Diff-VF's noise, as a reader would write it."""
    first, own = (KeyedNoise(SEEDS)(purpose, number, shape, step) for number in (0, clip))
    return own if clip == 0 else 0.5**0.5 * (first + own)


@pytest.mark.parametrize("frames", [CLIP + 1, 2 * CLIP, FRAMES, 13])
@pytest.mark.parametrize("options", [videomerge, diffvf], ids=["videomerge", "diffvf"])
def test_presets_of_a_separable_network_are_plain_ddim_of_their_noise(options, frames):
    video = co_denoise.sample(Separable(), SCHEDULE, request(frames), options(2), dtype=torch.float64).latents
    assert close(video, ddim(initial(frames, half_of_the_first)), 1e-4)  # noise is float32


def check_strided():
    frames, asked = 11, request(11)
    denoise, x = Separable(), initial(11, half_of_the_first)
    co_denoise.sample(denoise, SCHEDULE, asked, diffvf(2), dtype=torch.float64)
    calls = iter(denoise.calls)
    for step, timestep in enumerate(SCHEDULE.timesteps):
        far = (STEPS - step) % 2 == 0
        for window in strided_cover(frames, CLIP) if far else places(cover(frames, CLIP, 2), CLIP):
            assert close(next(calls)[0], x[:, :, window], 1e-4)
        x = SCHEDULE.step(x, Separable()(x, torch.tensor(timestep)), step)
    assert next(calls, None) is None
    assert plan(asked, STEPS, diffvf(2)).calls == len(denoise.calls)


def test_every_second_step_sees_windows_spread_over_the_video_and_the_last_step_does_not():
    check_strided()


def tail_twice(frames, clip):
    *others, last = strided_cover(frames, clip)
    return (*others, last - 1)


@pytest.mark.parametrize(
    "fault",
    [
        lambda frames, clip: tuple(places(cover(frames, clip, clip), clip)),
        lambda *given: strided_cover(*given)[:-1],
        tail_twice,
    ],
    ids=["neighbors", "a window left out", "a frame too early"],
)
def test_planted_faults_of_strided_windows_are_seen(monkeypatch, fault):
    monkeypatch.setattr(co_denoise, "strided_cover", fault)
    with pytest.raises(AssertionError):
        check_strided()


def test_fused_states_have_noise_of_their_own_window_each():
    drawn = []

    def noise(purpose, clip, shape, step=0):
        drawn.append((purpose, clip, shape[1]))
        return KeyedNoise(SEEDS)(purpose, clip, shape, step)

    for fuse_what, want in (("answer", {(0, FRAMES)}), ("state", {(number, CLIP) for number in range(5)})):
        drawn.clear()
        run(co_denoise, FRAMES, noise=noise, fuse=fuse_what, asked=request(FRAMES, eta=0.5), overlap=2)
        assert {(clip, frames) for purpose, clip, frames in drawn if purpose == "step"} == want


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fuse": "clean"}, "share their states are fused by fusing answers: use fuse='answer', or noise='own'"),
        ({"compat": "genl", "fuse": "answer"}, "compat='genl' fuses states: got fuse='answer', leave it out"),
        ({"compat": "genl", "renew": 0.5}, "never renews its noise: got renew=0.5, leave it out"),
        ({"noise": "own", "windows": "strided"}, "only in its place: got windows='strided', use 'static'"),
        ({"blend": "cut", "windows": "strided"}, "strided windows have none: use blend='mean'"),
        ({"renew": 0.0}, r"renew is a share of noise in \(0, 1\], or None: got 0.0"),
    ],
)
def test_options_without_effect_or_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


@pytest.mark.parametrize(
    "fault",
    [
        lambda schedule, x, clean, level: clean,
        lambda schedule, x, clean, level: answer_of(schedule, x, clean, level - 1),
    ],
    ids=["clean frames for answers", "level off by one"],
)
def test_planted_faults_of_clean_frames_are_seen(monkeypatch, fault):
    monkeypatch.setattr(co_denoise, "answer_of", fault)
    with pytest.raises(AssertionError):
        test_windows_with_states_of_their_own("clean")
