"""Going on from given frames: they are kept exactly, the rest follows them, and methods that cannot say so."""

import numpy as np
import pytest
import torch

from baselines.models.families import load_model
from bench.methods import METHODS
from tests.baselines.toys import CLIP, SCHEDULE, SEEDS, SHAPE, STEPS, Coupled, Separable, initial, request
from vidrd.noise import KeyedNoise
from vidrd.sampler_contract import Request
from vidrd.sampling import Options
from vidrd.video import fitted, to_float

GOING_ON = [name for name, method in METHODS.items() if method.goes_on]
PAST = torch.randn(2, SHAPE[0], 6, *SHAPE[1:], generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def go_on(name, frames, past=PAST, denoise=None, overlap=2, **more):
    method = METHODS[name]
    asked = Request(frames, CLIP, SHAPE, SEEDS, past=past, **more)
    events = []
    options = method.options(overlap)
    result = method.sample(denoise or Coupled(), SCHEDULE, asked, options, dtype=torch.float64, on_event=events.append)
    assert result.plan == method.plan(asked, STEPS, options)
    assert torch.equal(torch.cat([event.latents for event in events if event.kind == "frames"], dim=2), result.latents)
    assert events[-1].progress == 1
    return result


@pytest.mark.parametrize("name", GOING_ON)
@pytest.mark.parametrize("frames", [7, 6 + 3 * CLIP - 1])
def test_the_first_frames_are_the_given_ones_and_the_cost_is_as_planned(name, frames):
    denoise = Coupled()
    result = go_on(name, frames, denoise=denoise)
    assert result.latents.shape[2] == frames
    assert torch.equal(result.latents[:, :, :6], PAST)
    assert result.latents.isfinite().all()
    seen = [latents.shape[2] for latents, _ in denoise.calls]
    assert (len(seen), sum(seen)) == (result.plan.calls, result.plan.fe)
    assert len(result.plan.frames) == frames
    seam = result.plan.seams[0]
    assert seam.frame == 6
    assert result.plan.frames[5].clip + 1 == result.plan.frames[6].clip
    covered = {frame for start, stop in result.plan.windows for frame in range(start, stop)}
    assert covered >= set(range(6, frames))


@pytest.mark.parametrize("name", GOING_ON)
def test_what_comes_after_depends_on_the_last_given_frames_and_on_the_seed(name):
    one = go_on(name, 9).latents
    assert torch.equal(go_on(name, 9).latents, one)
    other = PAST.clone()
    other[:, :, -1] += 1
    assert not torch.allclose(go_on(name, 9, other).latents[:, :, 6:], one[:, :, 6:], atol=1e-3)
    method = METHODS[name]
    asked = Request(9, CLIP, SHAPE, (4, 9), past=PAST)
    reseeded = method.sample(Coupled(), SCHEDULE, asked, method.options(2), dtype=torch.float64)
    assert not torch.allclose(reseeded.latents[:, :, 6:], one[:, :, 6:], atol=1e-3)


@pytest.mark.precision
@pytest.mark.parametrize("name", GOING_ON)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_network_sees_states_of_the_dtype_that_was_asked_for(name, dtype):
    denoise, method = Coupled(), METHODS[name]
    asked = Request(9, CLIP, SHAPE, SEEDS, past=PAST)
    made = method.sample(denoise, SCHEDULE, asked, method.options(2), dtype=dtype).latents
    assert {made.dtype, *(latents.dtype for latents, _ in denoise.calls)} == {dtype}


def test_the_table_names_those_that_go_on():
    assert [name for name in METHODS if name.startswith(("vidrd", "replace", "cono", "fifo"))] == GOING_ON


@pytest.mark.parametrize("name", [name for name in METHODS if name not in GOING_ON])
def test_methods_that_make_whole_videos_refuse(name):
    denoise = Coupled()
    with pytest.raises(ValueError, match="makes whole videos from noise: got frames to go on from"):
        go_on(name, 9, denoise=denoise)
    assert denoise.calls == []


@pytest.mark.parametrize("name", ["vidrd", "vidrd-forwards", "replace"])
def test_joined_calls_change_nothing(name):
    assert torch.allclose(go_on(name, 20, budget=100).latents, go_on(name, 20).latents, atol=1e-12)


def test_replacement_goes_on_as_from_a_clip_of_its_own():
    """The second clip of a video, when the first is given, is the second clip."""
    method = METHODS["replace"]
    whole = method.sample(Coupled(), SCHEDULE, request(6), method.options(2), dtype=torch.float64).latents
    again = go_on("replace", 6, whole[:, :, :CLIP]).latents
    assert torch.equal(again, whole)


def test_vidrd_follows_the_given_frames_noised_to_each_level():
    denoise = Separable()
    go_on("vidrd-forwards", 8, denoise=denoise)
    noise = KeyedNoise(SEEDS)("initial", 0, (SHAPE[0], CLIP, *SHAPE[1:]))
    for step, (latents, _) in enumerate(denoise.calls[: int(0.8 * STEPS)]):
        known = SCHEDULE.noised(PAST[:, :, -2:], noise[:, :, -2:].double(), step)
        assert torch.allclose(latents[:, :, :2], known, atol=1e-12), step


def test_new_frames_of_a_queue_are_plain_where_frames_do_not_couple():
    made = go_on("fifo-plain", 6 + 2 * CLIP, denoise=Separable()).latents
    x = initial(3 * CLIP)[:, :, CLIP:]  # the noise of the frames that enter, from the second clip's on
    denoise = Separable()
    for step, timestep in enumerate(SCHEDULE.timesteps):
        x = SCHEDULE.step(x, denoise(x, torch.tensor(timestep)), step)
    assert torch.allclose(made[:, :, 6:], x, atol=1e-12)


def test_windows_of_a_queue_see_given_frames_as_they_are():
    """When the first new frame leaves, the cleanest window sees the last two given frames, to the bit."""
    denoise = Separable()
    go_on("fifo", 9, denoise=denoise)
    windows = len(denoise.calls) // (STEPS + 3)
    seen, _ = denoise.calls[STEPS * windows]
    assert torch.equal(seen[:, :, :2], PAST[:, :, 4:6])


@pytest.mark.parametrize(
    ("name", "past", "overlap", "message"),
    [
        ("replace", PAST[:, :, :1], 2, "as many as the overlap: got 1 frames and overlap 2"),
        ("replace", PAST, 0, "got 6 frames and overlap 0, use an overlap from 1 to 3"),
        ("vidrd", PAST[:, :, :1], 2, "as the overlap: got 1, give 2 or more"),
        ("vidrd", PAST, 0, "in its overlap by guidance: got overlap 0"),
        ("fifo", PAST[:1], 2, "given frames are those of each video"),
        ("fifo", torch.cat([PAST, PAST], dim=2), 2, "got 12 of 9, ask for more"),
    ],
)
def test_starts_that_do_not_fit_are_refused(name, past, overlap, message):
    with pytest.raises(ValueError, match=message):
        go_on(name, 9, past, overlap=overlap)


def test_the_pipeline_keeps_the_pixels_that_it_was_given():
    pipe = load_model("tiny:VidRDPipeline").pipe
    side = pipe.latent_shape[-1] * pipe.vae.downscale
    video = np.random.default_rng(0).integers(0, 256, (1, 4, side, side, 3), dtype=np.uint8)
    asked = {"num_frames": 7, "num_inference_steps": 2, "options": Options(overlap=2), "video": video}
    pipe.set_progress_bar_config(disable=True)
    made = pipe("a dog runs", output_type="uint8", **asked).frames
    assert np.array_equal(made[:, :4], video)
    latents = pipe("a dog runs", output_type="latent", **asked).frames
    want = pipe.vae.encode(to_float(video)[0].transpose(0, 1)).latent_dist.mode() * pipe.vae.config.scaling_factor
    assert torch.allclose(latents[0, :, :4].transpose(0, 1), want, atol=1e-5)
    assert np.array_equal(made[:, 6:], pipe.decode(latents)[:, 6:])
    with pytest.raises(ValueError, match=f"the size of the video, {side} x {side}: got {side} x 4, resize them"):
        pipe("a dog runs", **asked | {"video": video[:, :, :, :4]})


def test_a_video_of_the_right_size_is_fitted_without_a_change():
    video = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(fitted(video, 8)[0], video)
    wide = np.concatenate([video[:, :, :2], video, video[:, :, :2]], axis=2)
    assert np.array_equal(fitted(wide, 8)[0], video)
