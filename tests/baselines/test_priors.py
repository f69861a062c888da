"""Ties of noise: variance one, the correlation that is promised, over seams too, with any sampler; FreeInit."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from toys import CLIP, SCHEDULE, SEEDS, SHAPE, STEPS, Coupled, Separable, close, ddim, initial, request

import baselines.independent
from baselines import priors
from baselines.priors import (
    PRIORS,
    FreeInit,
    TiedNoise,
    again,
    cross_over,
    hybrid,
    low_pass,
    mix,
    progress,
    reschedule,
    share,
    spectral,
)
from bench.methods import METHODS, with_noise
from vidrd.noise import KeyedNoise, video_noise
from vidrd.sampler_contract import Cancelled, Plan, Result

MANY = KeyedNoise(range(3000))


@cache
def drawn(*key):
    """Noise of many videos, drawn once for all tests."""
    return MANY(*key)


def frames_of(tie, frames=3 * CLIP):
    """N T: one value a frame."""
    return video_noise(TiedNoise(lambda *key: drawn(*key).clone(), tie), frames, CLIP, (1, 1, 1))[
        :, 0, :, 0, 0
    ].double()


@pytest.mark.parametrize("name", [name for name, tie in PRIORS.items() if tie])
def test_every_frame_keeps_variance_one(name):
    tied = frames_of(PRIORS[name]())
    assert tied.var(dim=0).tolist() == pytest.approx([1] * (3 * CLIP), abs=0.1)
    assert tied.mean(dim=0).tolist() == pytest.approx([0] * (3 * CLIP), abs=0.08)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_mixed_frames_share_and_progressive_frames_follow_across_seams(alpha):
    shared = alpha**2 / (1 + alpha**2)
    of_mixed, of_progressive = (torch.corrcoef(frames_of(tie(alpha)).T) for tie in (mix, progress))
    for a, b in ((0, 1), (CLIP - 1, CLIP), (1, 2 * CLIP)):
        assert float(of_mixed[a, b]) == pytest.approx(shared, abs=0.06)
        assert float(of_progressive[a, b]) == pytest.approx(shared ** (0.5 * (b - a)), abs=0.06)


def test_the_released_variances_lose_noise():
    spread = frames_of(progress(2.0, "released")).std(dim=0)
    assert float(spread[-1]) < 0.6
    assert float(frames_of(mix(1.0, "released")).std()) == pytest.approx(0.71, abs=0.02)


def test_shared_clips_and_shuffled_chunks():
    assert torch.equal(frames_of(share())[:, CLIP:], frames_of(share())[:, :-CLIP])
    shuffled = frames_of(reschedule(2))
    old, new = shuffled[:, :-CLIP].unflatten(1, (-1, 2)), shuffled[:, CLIP:].unflatten(1, (-1, 2))
    assert torch.equal(old.sort(dim=2).values, new.sort(dim=2).values)
    moved = (old != new).any(dim=2)
    assert 0.4 < float(moved.double().mean()) < 0.6  # of two, half the shuffles turn them round
    assert not (moved == moved[:1]).all()


def check_hybrid(tie):
    ties = torch.corrcoef(frames_of(tie(0.3)).T)
    assert float(ties[1, CLIP + 1]) == pytest.approx(0.3**0.5, abs=0.06)  # with the first clip
    assert float(ties[CLIP + 1, 2 * CLIP + 1]) == pytest.approx(0.3, abs=0.06)  # later ones with each other
    assert float(ties[1, CLIP + 2]) == pytest.approx(0, abs=0.06)
    assert frames_of(tie(0.3)).var(dim=0).tolist() == pytest.approx([1] * (3 * CLIP), abs=0.1)


def test_hybrid_clips_share_the_variance_that_is_said():
    check_hybrid(hybrid)
    assert torch.equal(frames_of(hybrid(1.0)), frames_of(share()))
    assert torch.equal(frames_of(hybrid(0.0)), frames_of(lambda noise, clip, shape, _: noise("initial", clip, shape)))
    with pytest.raises(ValueError, match=r"share of the first clip's noise is in \[0, 1\]: got 1.5"):
        hybrid(1.5)


def test_clips_of_freepca_share_the_means_of_the_first():
    """A mean of 4 frames is a quarter of the variance."""
    tied = frames_of(priors.average()).unflatten(1, (-1, CLIP))
    assert close(tied.mean(dim=2), tied[:, :1].mean(dim=2).expand(-1, 3), 1e-6)
    assert float((tied[:, 0] * tied[:, 1]).mean()) == pytest.approx(1 / CLIP, abs=0.03)
    assert not close(tied[:, 0], tied[:, 1], 1)


def shares_of_deviation(part):
    def tie(noise, clip, shape, before):
        first = noise("initial", 0, shape)
        return first if before is None else part * first + (1 - part) * noise("initial", clip, shape)

    return tie


@pytest.mark.parametrize(
    "fault",
    [shares_of_deviation, lambda part: hybrid(part**2), lambda part: share()],
    ids=["deviations", "squared", "all"],
)
def test_planted_faults_of_hybrid_noise_are_seen(fault):
    with pytest.raises(AssertionError):
        check_hybrid(fault)


def check_spectral():
    """Of a later clip, each frequency is the first clip's by its share, and standard normal."""
    tied, shape = TiedNoise(KeyedNoise(range(400)), spectral()), (1, 8, 6, 6)
    first, later = (torch.fft.fftn(tied("initial", clip, shape).double(), dim=(-3, -2, -1))[:, 0] for clip in (0, 2))
    keep, size = low_pass(8, 6, 6, FreeInit()), 8 * 6 * 6
    assert float((later.abs().square().mean(dim=0) / size - 1).abs().max()) < 0.35  # of 400 videos
    assert float(later.abs().square().mean() / size) == pytest.approx(1, abs=0.01)
    common = (later * first.conj()).real.mean(dim=0) / size
    assert float((common - keep).abs().max()) < 0.3
    assert float((common - keep).mean()) == pytest.approx(0, abs=0.01)
    assert float((later - first)[:, 0, 0, 0].abs().max()) < 1e-3  # the mean is the first clip's


def test_spectral_noise_shares_low_frequencies():
    check_spectral()


@pytest.mark.parametrize(
    "fault",
    [
        lambda low, high, keep, over: cross_over(high, low, keep, over),
        lambda low, high, keep, over: cross_over(low, high, keep.roll(1, dims=1), over),
        lambda low, high, keep, over: (
            torch.fft.ifftn(
                torch.fft.fftn(low, dim=over) * keep + torch.fft.fftn(high, dim=over) * (1 - keep), dim=over
            ).real
        ),
    ],
    ids=["the wrong way round", "another frequency", "amplitudes that add up to 1"],
)
def test_planted_faults_of_spectral_noise_are_seen(monkeypatch, fault):
    monkeypatch.setattr(priors, "cross_over", fault)
    with pytest.raises(AssertionError):
        check_spectral()


def frames_late(stride):
    """The clip before is read a frame too late."""
    honest = priors.reschedule(stride)
    return lambda noise, clip, shape, before: honest(
        noise, clip, shape, None if before is None else before.roll(1, dims=2)
    )


@pytest.mark.parametrize(
    "fault",
    [
        frames_late,
        lambda stride: priors.reschedule(stride + 1),
        lambda stride: priors.reschedule(1),
        lambda stride: share(),
    ],
    ids=["off by one", "chunk too long", "chunk too short", "not shuffled"],
)
def test_planted_faults_of_the_shuffle_are_seen(monkeypatch, fault):
    monkeypatch.setitem(globals(), "reschedule", fault)
    with pytest.raises(AssertionError):
        test_shared_clips_and_shuffled_chunks()


def test_a_tie_leaves_other_draws_and_draws_in_any_order_alone():
    noise, tied = KeyedNoise(SEEDS), TiedNoise(KeyedNoise(SEEDS), progress())
    shape = (SHAPE[0], CLIP, *SHAPE[1:])
    assert torch.equal(tied("step", 1, shape, 3), noise("step", 1, shape, 3))
    third = TiedNoise(KeyedNoise(SEEDS), progress())("initial", 2, shape)
    first = [tied("initial", clip, shape) for clip in range(3)]
    assert torch.equal(first[2], third)
    assert torch.equal(TiedNoise(KeyedNoise(SEEDS[1:]), progress())("initial", 2, shape), third[1:])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("prior", PRIORS)
def test_any_sampler_takes_any_prior(name, prior):
    method, tie = METHODS[name], PRIORS[prior]
    noise = TiedNoise(KeyedNoise(SEEDS), tie()) if tie else KeyedNoise(SEEDS)
    result = method.sample(Coupled(), SCHEDULE, request(CLIP + 2), method.options(2), noise=noise)
    assert result.latents.isfinite().all()
    first = KeyedNoise(SEEDS) if not tie else TiedNoise(KeyedNoise(SEEDS), tie())
    clip = method.sample(Coupled(), SCHEDULE, request(CLIP), method.options(2), noise=first).latents
    assert close(clip, ddim(video_noise(first, CLIP, CLIP, SHAPE), Coupled()), 1e-5)


def test_independent_clips_with_shared_noise_are_its_own_option():
    shared = baselines.independent.sample(
        Coupled(), SCHEDULE, request(3 * CLIP), noise=TiedNoise(KeyedNoise(SEEDS), share())
    )
    option = baselines.independent.Options(shared_noise=True)
    assert torch.equal(
        shared.latents, baselines.independent.sample(Coupled(), SCHEDULE, request(3 * CLIP), option).latents
    )


def test_the_low_pass_keeps_the_mean_and_half_at_its_cut_off():
    keep = low_pass(16, 8, 8, FreeInit())
    assert float(keep[0, 0, 0]) == 1
    assert float(keep[2, 0, 0]) == pytest.approx(0.5)  # 2 cycles in 16 frames are a quarter of the highest, 8
    assert float(keep[0, 1, 0]) == pytest.approx(0.5)
    assert float(keep[8, 0, 0]) < 1e-4
    assert torch.equal(keep[1], keep[-1])


def test_one_pass_is_the_sampler_itself():
    method = METHODS["vidrd"]
    plain = method.sample(Coupled(), SCHEDULE, request(9), method.options(2))
    once = again(method.sample, Coupled(), SCHEDULE, request(9), method.options(2), FreeInit(passes=1))
    assert torch.equal(once.latents, plain.latents)
    assert once.plan == plain.plan


STARTS = [name for name in METHODS if not METHODS[name].plan(request(2 * CLIP), STEPS, METHODS[name].options(0)).mixes]


@pytest.mark.parametrize("name", STARTS)
def test_free_init_keeps_low_frequencies_and_renews_the_others(name):
    """Any sampler; where frames do not couple, the second pass is DDIM of the first video's filtered noise."""
    method, events = METHODS[name], []
    denoise = Separable()
    result = again(
        method.sample,
        denoise,
        SCHEDULE,
        request(2 * CLIP),
        method.options(0),
        FreeInit(passes=2),
        on_event=events.append,
    )
    once = method.plan(request(2 * CLIP), STEPS, method.options(0))
    assert isinstance(result.plan, Plan)
    assert (result.plan.calls, result.plan.fe) == (2 * once.calls, 2 * once.fe)
    assert len(denoise.calls) == result.plan.calls
    progress_seen = [event.progress for event in events]
    assert progress_seen == sorted(progress_seen)
    assert progress_seen[-1] == 1
    assert result.latents.shape[2] == 2 * CLIP
    assert torch.equal(torch.cat([event.latents for event in events if event.kind == "frames"], 2), result.latents)


def test_the_second_pass_starts_from_the_filtered_video():
    options, passes = baselines.independent.Options(), FreeInit(passes=2)
    denoise = Separable()
    again(baselines.independent.sample, denoise, SCHEDULE, request(2 * CLIP), options, passes)
    alpha = SCHEDULE.alphas[0]
    first = initial(2 * CLIP)
    video = ddim(first)
    for clip in range(2):
        part = slice(clip * CLIP, (clip + 1) * CLIP)
        noised = alpha**0.5 * video[:, :, part] + (1 - alpha) ** 0.5 * first[:, :, part]
        fresh = KeyedNoise(SEEDS)("freeinit", clip, (SHAPE[0], CLIP, *SHAPE[1:]), 0).double()
        keep, over = low_pass(CLIP, *SHAPE[1:], passes).double(), (-3, -2, -1)
        want = torch.fft.ifftn(
            torch.fft.fftn(noised, dim=over) * keep + torch.fft.fftn(fresh, dim=over) * (1 - keep), dim=over
        )
        entered = denoise.calls[(2 + clip) * STEPS][0]
        assert close(entered.double(), want.real, 1e-5)


def test_a_cancelled_pass_comes_out():
    def stop(event):
        if event.progress > 0.6:
            raise Cancelled

    with pytest.raises(Cancelled):
        again(
            baselines.independent.sample,
            Coupled(),
            SCHEDULE,
            request(4),
            baselines.independent.Options(),
            on_event=stop,
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"passes": 0}, "at least once: got 0 passes"),
        ({"space": 0.0}, "cut-off frequencies are in"),
        ({"time": 1.1}, "are in"),
        ({"order": 0}, "order is an integer from 1 upwards: got 0"),
        ({"order": -4}, "order is an integer from 1 upwards: got -4"),
    ],
)
def test_options_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        FreeInit(**wrong)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("vidrd", {}, r"mixes it with the old clip's \(alpha 4\)"),
        ("vidrd", {"alpha": 0.0}, "starts the overlap from the old clip's"),
        ("vidrd", {"alpha": 0.0, "reverse": False}, "starts the overlap from the old clip's"),  # and keeps it
        ("independent-shared", {}, "starts every clip from the first one's"),
        ("codenoise-rescheduled", {}, "repeats the first clip's in its place"),
        ("freenoise", {}, "repeats the first clip's in its place"),
        ("freenoise", {"noise": "iid", "compat": "official"}, "gives every video the first one's"),
    ],
)
def test_free_init_refuses_samplers_that_do_not_start_from_what_they_draw(name, options, reason):
    method, denoise = METHODS[name], Coupled()
    chosen = replace(method.options(2), **options)
    with pytest.raises(ValueError, match=reason):
        again(method.sample, denoise, SCHEDULE, request(2 * CLIP), chosen, plan=method.plan)
    assert denoise.calls == []
    with pytest.raises(ValueError, match=reason):
        again(method.sample, denoise, SCHEDULE, request(2 * CLIP), chosen)
    with pytest.raises(ValueError, match=reason):
        with_noise(method, "freeinit").plan(request(2 * CLIP), STEPS, chosen)
    again(method.sample, denoise, SCHEDULE, request(CLIP, seeds=(3,)), chosen)  # a single clip starts from its noise


@pytest.mark.parametrize("name", [name for name in METHODS if name in STARTS])
def test_what_free_init_takes_starts_from_what_it_draws(name):
    """Other noise for the frames of a piece changes these frames: what comes back through it reaches the video."""
    method, asked = METHODS[name], request(3 * CLIP)
    todo = method.plan(asked, STEPS, method.options(2))
    if todo.mixes:
        return

    def other(purpose, clip, shape, step=0):
        drawn = KeyedNoise(SEEDS)(purpose, clip, shape, step)
        return -drawn if purpose == "initial" and clip == 1 else drawn

    one, two = (
        method.sample(Separable(), SCHEDULE, asked, method.options(2), noise=noise).latents for noise in (None, other)
    )
    piece = (todo.drawn or todo.windows)[1]
    changed = (one - two).abs().amax(dim=(0, 1, 3, 4)) > 1e-3
    assert changed[CLIP : piece[1]].all()


def test_later_passes_are_noised_with_the_first_ones_noise():
    """Where nothing is denoised (the schedule keeps the video at 0) the start shows which noise it was."""
    started = []

    def still(denoise, schedule, asked, options, *, noise, on_event=None):
        started.append(noise("initial", 0, (SHAPE[0], CLIP, *SHAPE[1:])))
        plan = baselines.independent.plan(asked, STEPS, baselines.independent.Options())
        return Result(torch.zeros_like(started[-1]), plan)

    again(still, None, SCHEDULE, request(CLIP), None, FreeInit(passes=4))
    keep, over = low_pass(CLIP, *SHAPE[1:], FreeInit()), (-3, -2, -1)
    for number, start in enumerate(started[1:]):
        old = (1 - SCHEDULE.alphas[0]) ** 0.5 * started[0]
        fresh = KeyedNoise(SEEDS)("freeinit", 0, (SHAPE[0], CLIP, *SHAPE[1:]), number)
        mixed = torch.fft.fftn(old, dim=over) * keep + torch.fft.fftn(fresh, dim=over) * (1 - keep)
        assert close(start, torch.fft.ifftn(mixed, dim=over).real, 1e-6)


def test_tied_noise_serves_one_request():
    tied = TiedNoise(KeyedNoise(SEEDS), progress())
    baselines.independent.sample(Coupled(), SCHEDULE, request(CLIP), noise=tied)
    baselines.independent.sample(Coupled(), SCHEDULE, request(3 * CLIP), noise=tied)
    for other in (request(CLIP, shape=(2, 5, 5)), request(CLIP, clip=2)):
        with pytest.raises(ValueError, match=r"tied noise serves one request: .* make a new TiedNoise"):
            baselines.independent.sample(Coupled(), SCHEDULE, other, noise=tied)


@pytest.mark.parametrize("alpha", [-1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("tie", [mix, progress])
def test_ties_of_no_weight_are_refused(tie, alpha):
    with pytest.raises(ValueError, match="alpha is a weight from 0"):
        tie(alpha)
