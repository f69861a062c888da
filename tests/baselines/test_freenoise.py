"""FreeNoise: shuffled repeats of noise, temporal attention in windows, and nothing left behind in the network."""

from dataclasses import replace

import pytest
import torch
from toys import CLIP, SCHEDULE, SEEDS, SHAPE, STEPS, close, ddim, initial, request, run

import baselines.direct
from baselines import freenoise
from baselines.freenoise import Options, attention_of, attention_windows, freelong, freepca, plan, run_on
from baselines.priors import TiedNoise, reschedule
from vidrd.denoiser import GuidedDenoiser, WindowedDenoiser
from vidrd.models.blocks import TimeWindows, TransformerBlock
from vidrd.models.unet import UNet3DConditionModel
from vidrd.noise import KeyedNoise, video_noise
from vidrd.sampler_contract import Cancelled


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    network = UNet3DConditionModel(
        sample_size=3,
        in_channels=2,
        out_channels=2,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock3D",),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=4,
        norm_num_groups=2,
    )
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)  # temporal layers start as the identity
    return network.eval().double()


def denoiser(unet, guidance=2.0):
    text = torch.randn(len(SEEDS), 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return GuidedDenoiser(unet, text, torch.zeros_like(text), guidance, clip=CLIP)


def is_closed(unet):
    return all(block.over_time is None for block in unet.modules() if isinstance(block, TransformerBlock))


def test_the_denoiser_offers_its_attention(unet):
    assert isinstance(denoiser(unet), WindowedDenoiser)
    with pytest.raises(ValueError, match="attention of function cannot be cut in windows"):
        GuidedDenoiser(lambda: None, torch.zeros(1, 2, 3)).attend_in(attention_windows(8, 4, Options()))


def test_a_clip_is_what_it_would_be_without(unet):
    assert torch.equal(run(freenoise, CLIP, denoiser(unet)), run(baselines.direct, CLIP, denoiser(unet)))


def test_without_its_two_ideas_it_is_one_long_window(unet):
    plain = run(baselines.direct, 9, denoiser(unet))
    video = freenoise.sample(
        denoiser(unet), SCHEDULE, request(9), Options(noise="iid", attention="full"), dtype=torch.float64
    ).latents
    assert torch.equal(video, plain)
    windowed = freenoise.sample(denoiser(unet), SCHEDULE, request(9), Options(noise="iid"), dtype=torch.float64).latents
    assert not close(windowed, plain, 1e-3)


def test_one_window_is_full_attention_and_many_are_not(unet):
    x, text = initial(CLIP), torch.ones(len(SEEDS), 3, 4, dtype=torch.float64)
    with torch.no_grad():
        full = unet(x, 500, text).sample
        with unet.attend_in(attention_windows(CLIP, CLIP, Options())):
            assert torch.equal(unet(x, 500, text).sample, full)
        with unet.attend_in(attention_windows(CLIP, 3, Options())):
            assert not close(unet(x, 500, text).sample, full, 1e-3)
    assert is_closed(unet)


@pytest.mark.parametrize("frames", range(CLIP, 4 * CLIP))
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_constant_features_pass_unchanged_at_every_length(frames, stride):
    """What windows say of a frame adds up to one weight, also at the tail."""
    windows = attention_windows(frames, CLIP, Options(stride=stride))
    x = torch.full((2 * frames, 3, 5), 1.7, dtype=torch.float64)
    assert close(windows(lambda tokens, _: tokens, x), x)


def test_windows_are_attended_each_by_itself():
    """The fused answer of a layer that knows places and neighbours, done by hand."""
    frames, options = 7, Options(stride=2)
    windows = attention_windows(frames, CLIP, options)
    x = torch.randn(2 * frames, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def layer(tokens, count):
        clips = tokens.unflatten(0, (-1, count))
        place = torch.arange(count, dtype=torch.float64)[:, None, None]
        return (clips.cumsum(dim=1) * (1 + place)).flatten(0, 1)

    want, weight = torch.zeros(2, frames, 3, 5, dtype=torch.float64), torch.zeros(frames, dtype=torch.float64)
    pyramid = torch.tensor([1.0, 2.0, 2.0, 1.0], dtype=torch.float64)
    for start in (0, 2, 3):
        part = layer(x.unflatten(0, (2, frames))[:, start : start + CLIP].flatten(0, 1), CLIP).unflatten(0, (2, CLIP))
        want[:, start : start + CLIP] += part * pyramid[:, None, None]
        weight[start : start + CLIP] += pyramid
    want /= weight[:, None, None]
    assert close(windows(layer, x), want.flatten(0, 1))


def test_a_video_is_plain_ddim_of_a_network_whose_windows_were_opened_by_hand(unet):
    frames, denoise = 7, denoiser(unet)
    pyramid = torch.tensor([1.0, 2.0, 2.0, 1.0], dtype=torch.float64)
    seen = torch.tensor([[0, 1, 2, 3], [2, 3, 4, 5], [3, 4, 5, 6]])
    total = torch.tensor([1, 2, 3, 4, 4, 3, 1], dtype=torch.float64)
    x = initial(frames)
    with torch.no_grad(), unet.attend_in(TimeWindows(seen, pyramid / total[seen], frames)):
        want = ddim(x, denoise)
    chosen = Options(stride=2, noise="iid")
    assert close(freenoise.sample(denoise, SCHEDULE, request(frames), chosen, dtype=torch.float64).latents, want)


@pytest.mark.parametrize("options", [freelong(), freepca()], ids=["freelong", "freepca"])
def test_branches_are_open_in_the_steps_that_the_method_says(unet, options):
    """Plain DDIM of a network opened by hand: FreePCA mixes in the first three quarters of the steps."""
    frames, denoise, asked = 7, denoiser(unet), request(7)
    branches, windows = attention_of(asked, frames, options), attention_windows(frames, CLIP, options)
    x = (
        initial(frames)
        if options.noise == "iid"
        else freenoise.initial_noise(KeyedNoise(SEEDS), frames, asked, options)
    )
    x = x.double()
    with torch.no_grad():
        for step, timestep in enumerate(SCHEDULE.timesteps):
            with unet.attend_in(windows if options == freepca() and step >= 0.75 * STEPS else branches):
                x = SCHEDULE.step(x, denoise(x, torch.tensor(timestep)), step)
    assert close(freenoise.sample(denoise, SCHEDULE, asked, options, dtype=torch.float64).latents, x)
    plain = freenoise.sample(denoise, SCHEDULE, asked, replace(options, attention="windows", bands=2), dtype=x.dtype)
    assert not close(plain.latents, x, 1e-3)


def test_windows_of_another_length_are_refused(unet):
    with (
        unet.attend_in(attention_windows(6, CLIP, Options())),
        pytest.raises(ValueError, match="windows are of 6 frames: got 10"),
    ):
        unet(initial(5), 500, torch.ones(2, 3, 4, dtype=torch.float64))
    assert is_closed(unet)


@pytest.mark.parametrize("options", [Options(), freelong(), freepca()], ids=["freenoise", "freelong", "freepca"])
def test_a_cancelled_run_leaves_no_hook_behind(unet, options):
    open_while_running = []

    def stop(event):
        open_while_running.append(not is_closed(unet))
        if event.kind == "step" and event.step == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        freenoise.sample(denoiser(unet), SCHEDULE, request(9), options, dtype=torch.float64, on_event=stop)
    assert all(open_while_running)
    assert is_closed(unet)


def test_windows_may_be_opened_within_others(unet):
    outer, inner = attention_windows(8, CLIP, Options()), attention_windows(8, CLIP, Options(stride=2))
    blocks = [block for block in unet.modules() if isinstance(block, TransformerBlock)]
    with unet.attend_in(outer):
        with unet.attend_in(inner):
            assert all(block.over_time is inner for block in blocks)
        assert all(block.over_time is outer for block in blocks)
    assert is_closed(unet)


def test_each_chunk_of_noise_is_a_shuffle_of_the_chunk_a_clip_before():
    drawn = []

    class Keep:
        clip, longest, branches = CLIP, None, 1

        def __call__(self, latents, timesteps):
            drawn.append(latents.clone())
            return latents * 0

    freenoise.sample(Keep(), SCHEDULE, request(3 * CLIP), Options(stride=2))
    (x,), turned = drawn[:1], []
    assert torch.equal(x[:, :, :CLIP], KeyedNoise(SEEDS)("initial", 0, (SHAPE[0], CLIP, *SHAPE[1:])))
    for start in range(CLIP, 3 * CLIP, 2):
        for video in x:
            old = video[:, start - CLIP : start - CLIP + 2]
            new = video[:, start : start + 2]
            turned.append(torch.equal(new, old.flip(1)))
            assert turned[-1] or torch.equal(new, old)
    assert 0 < sum(turned) < len(turned)


def test_videos_have_their_own_noise_unless_the_official_code_is_asked_for():
    noises = {}

    class Keep:
        clip, longest, branches = CLIP, None, 1

        def __call__(self, latents, timesteps):
            noises.setdefault(compat, latents.clone())
            return latents * 0

    for compat in ("paper", "official"):
        freenoise.sample(Keep(), SCHEDULE, request(8), Options(compat=compat))
    assert not torch.equal(noises["paper"][0], noises["paper"][1])
    assert torch.equal(noises["official"][0], noises["official"][1])
    assert torch.equal(noises["official"][0], noises["paper"][0])


@pytest.mark.parametrize(("frames", "scales"), [(18, [1, 0.5]), (19, [1, 2 / 3, 1 / 3]), (20, [1] * 4), (17, [1])])
def test_the_mixin_of_diffusers_scales_the_tail(frames, scales):
    """Recorded from its FreeNoise block: 18 frames end in half a feature, 19 in 2/3 and 1/3, whole strides in one."""
    windows = attention_windows(frames, 16, Options(stride=4, compat="diffusers"))
    x = torch.ones(frames, 1, 1, dtype=torch.float64)
    passed = windows(lambda tokens, _: tokens, x).flatten().tolist()
    assert passed == pytest.approx([1.0] * (frames - len(scales)) + scales)


@pytest.mark.parametrize(
    "options", [{"weights": "flat"}, {"compat": "diffusers"}, {"noise": "iid", "stride": 2}], ids=str
)
def test_what_only_windows_need_is_refused_without_them(options):
    with pytest.raises(ValueError, match="full attention has no windows, so"):
        Options(attention="full", **options)


@pytest.mark.parametrize("options", [{"weights": "flat"}, {"compat": "diffusers"}], ids=str)
def test_what_only_windows_need_is_refused_by_networks_that_offer_none(options):
    with pytest.raises(ValueError, match="this network offers none"):
        run(freenoise, 8, **options)


@pytest.mark.parametrize("frames", [5, 9, 13])
def test_chunks_of_the_published_codes_run_on_where_a_clip_ends(frames):
    """5 frames a clip in chunks of 2: the third chunk is frames 4 and 5 of the video so far."""
    x = run_on(KeyedNoise(range(9)), frames, 5, (1, 1, 1), 2)
    for first in range(5, frames, 2):
        old, new = x[:, 0, first - 5 : first - 3, 0, 0], x[:, 0, first : first + 2, 0, 0]
        assert all(set(b.tolist()) == set(a.tolist()[: len(b)]) or len(b) < 2 for a, b in zip(old, new, strict=True))
        turned = (old != new).any(dim=1) if new.shape == old.shape else torch.tensor([True, False])
        assert turned.any()
        assert not turned.all()


def test_where_the_stride_divides_the_clip_the_two_shuffles_are_one():
    noise = KeyedNoise(SEEDS)
    tied = video_noise(TiedNoise(noise, reschedule(2)), 11, CLIP, SHAPE)
    assert torch.equal(run_on(noise, 11, CLIP, SHAPE, 2), tied)


def test_the_plan_is_one_window_without_seams():
    todo = plan(request(11), STEPS, Options())
    assert (todo.calls, todo.fe, todo.windows, todo.seams) == (STEPS, 11 * STEPS, ((0, 11),), ())
    assert plan(request(2), STEPS, Options()).windows == ((0, CLIP),)


def test_what_does_not_fit_the_request_is_refused():
    with pytest.raises(ValueError, match="move on by at least 1 frame: got a stride of 0"):
        Options(stride=0)
    with pytest.raises(ValueError, match="move on by at most that: got 5, try 1"):
        plan(request(9), STEPS, Options(stride=5))
    with pytest.raises(ValueError, match="whole strides of 3: got 9, try 7"):
        plan(request(9), STEPS, Options(stride=3, compat="official"))
    with pytest.raises(ValueError, match="whole clip of 4 frames: got 3"):
        plan(request(3), STEPS, Options(compat="diffusers"))


HONEST = attention_windows  # whose name the faults take


def off_by_one(frames, clip, options):
    windows = HONEST(frames, clip, options)
    return replace(windows, seen=(windows.seen + 1).clamp(max=frames - 1))


def tail_of_the_mixin(frames, clip, options):
    return HONEST(frames, clip, Options(stride=options.stride, compat="diffusers"))


def wrong_order(frames, clip, options):
    windows = HONEST(frames, clip, options)
    return replace(windows, share=windows.share.flip(0))


@pytest.mark.parametrize("fault", [off_by_one, tail_of_the_mixin, wrong_order])
def test_faults_within_the_sampler_are_seen(monkeypatch, unet, fault):
    monkeypatch.setattr(freenoise, "attention_windows", fault)
    with pytest.raises(AssertionError):
        test_a_video_is_plain_ddim_of_a_network_whose_windows_were_opened_by_hand(unet)


@pytest.mark.parametrize("stride", [1, 3])
def test_a_wrong_shuffle_within_the_sampler_is_seen(monkeypatch, stride):
    monkeypatch.setattr(freenoise, "reschedule", lambda _: reschedule(stride))
    with pytest.raises(AssertionError):
        test_each_chunk_of_noise_is_a_shuffle_of_the_chunk_a_clip_before()


@pytest.mark.parametrize("fault", [off_by_one, tail_of_the_mixin])
def test_planted_faults_are_seen(monkeypatch, fault):
    monkeypatch.setitem(globals(), "attention_windows", fault)

    def invariants():
        test_constant_features_pass_unchanged_at_every_length(4 * CLIP - 2, 4)
        test_windows_are_attended_each_by_itself()

    with pytest.raises(AssertionError):
        invariants()
