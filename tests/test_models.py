"""What every model must keep, whatever its family: its own diffusers pipeline is the oracle."""

import inspect
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline, UniPCMultistepScheduler

import baselines.direct
import baselines.forcing
from baselines.models.families import FAMILIES, family, load_model, tiny_model
from baselines.models.wan import Wan
from bench.methods import METHODS
from vidrd.denoiser import Denoiser
from vidrd.noise import KeyedNoise
from vidrd.sampler_contract import Request
from vidrd.video import to_uint8

STEPS = 4
VARIANTS = [f"tiny:{name}:{variant}" for name in FAMILIES for variant in family(name).tiny()]
every_variant = pytest.mark.parametrize("name", VARIANTS)
SKYREELS = "diffusers.pipelines.skyreels_v2.pipeline_skyreels_v2_diffusion_forcing"
PROMPTS, NEGATIVE = ("a red ball rolls left", "the blue cat runs"), "blurry"


@pytest.fixture(autouse=True)
def without_ftfy(monkeypatch):
    """SkyReels-V2's pipeline calls ftfy whether it is installed or not; well-formed prompts are as they were."""
    monkeypatch.setattr(f"{SKYREELS}.ftfy", SimpleNamespace(fix_text=str), raising=False)


@pytest.fixture(scope="module")
def models():
    """Tiny models by name, each made once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = tiny_model(name)
        return made[name]

    return get


def small(model):
    """Height and width of the fewest patches that have two to each side."""
    return 2 * model.size_step, 3 * model.size_step


def noise_of(model, videos, longer=0):
    """Noise of the shortest video, or of one that is so many lengths longer."""
    latents = model.rule.dropped + 1 + longer * model.rule.step
    shape = (videos, *model.latent_shape(*small(model)))
    shape = (*shape[:2], latents, *shape[2:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def arguments(model, prompts, guidance):
    negative = {} if model.embedded or guidance == 1 else {"negative_prompt": [NEGATIVE] * len(prompts)}
    return {"prompt": list(prompts), "guidance_scale": guidance, **negative}


def of_pipeline(model, prompts, noise, guidance, **more):
    """What the family's own pipeline makes, with the faults of SkyReels-V2's repaired.

    That one fails where latents are passed (so it draws them) and for several videos (so they are made one by one), and
    it steps views of its latents in place, which also changes what its scheduler remembers of the step before.
    """
    if type(model.pipe) is not SkyReelsV2DiffusionForcingPipeline:
        return run_pipeline(model, prompts, noise, guidance, latents=model.packed(noise.clone()))
    step = UniPCMultistepScheduler.step

    def step_copy(self, answer, timestep, x, **more):
        return step(self, answer, timestep, x.clone(), **more)

    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UniPCMultistepScheduler, "step", step_copy)
        for prompt, one in zip(prompts, noise.split(1), strict=True):
            patch.setattr(f"{SKYREELS}.randn_tensor", lambda *_, one=one, **__: one.clone())
            made.append(run_pipeline(model, [prompt], one, guidance, **more))
    lasts, steps, frames = zip(*made, strict=True)
    return torch.cat(lasts), [torch.cat(each) for each in zip(*steps, strict=True)], torch.cat(frames)


def run_pipeline(model, prompts, noise, guidance, **start):
    """Latents of the family's own pipeline, after the last step and, where it tells, after each; and its frames."""
    latents, (height, width) = noise.shape[2:], small(model)
    steps = []

    def keep(pipe, step, timestep, tensors):
        steps.append(model.unpacked(tensors["latents"].clone(), latents))
        return {}

    tells = "callback_on_step_end" in inspect.signature(type(model.pipe).__call__).parameters
    shared = dict(
        arguments(model, prompts, guidance),
        num_frames=model.rule.frames(noise.shape[2]),
        height=height,
        width=width,
        num_inference_steps=STEPS,
        **({"callback_on_step_end": keep} if tells else {}),
        **start,
    )
    frames = model.pipe(output_type="pt", **shared).frames
    last = steps[-1] if tells else model.unpacked(model.pipe(output_type="latent", **shared).frames, latents)
    return last, steps, frames


def ours(model, prompts, noise, guidance):
    steps = []
    negative = "" if model.embedded or guidance == 1 else NEGATIVE
    request = Request(noise.shape[2], noise.shape[2], (noise.shape[1], *noise.shape[3:]), tuple(range(len(noise))))
    result = baselines.direct.sample(
        model.denoiser(prompts, negative=negative, guidance=guidance),
        model.schedule(STEPS, model.solver, tuple(noise.shape[2:])),
        request,
        noise=lambda purpose, clip, shape, step=0: noise,
        on_event=lambda event: steps.append(event.latents) if event.kind == "step" else None,
    )
    return result.latents, steps


@pytest.mark.parametrize("name", [name for name in VARIANTS if "VidRD" not in name])  # which tests/vidrd/ has
@pytest.mark.parametrize(
    ("guidance", "longer", "videos"),
    [
        (1.0, 0, 2),
        (4.0, 2, 1),
        *(
            pytest.param(*rest, marks=pytest.mark.slow)
            for rest in itertools.product((1.0, 4.0), (0, 2), (1, 2))
            if rest not in ((1.0, 0, 2), (4.0, 2, 1))
        ),
    ],
)
def test_one_window_is_what_the_pipeline_makes(models, name, videos, longer, guidance):
    model = models(name)
    noise = noise_of(model, videos, longer)
    want, want_steps, want_frames = of_pipeline(model, PROMPTS[:videos], noise, guidance)
    got, got_steps = ours(model, PROMPTS[:videos], noise, guidance)
    assert len(got_steps) == STEPS
    for ours_, theirs in [(got, want), *zip(got_steps, want_steps, strict=len(want_steps) == STEPS)]:
        assert (ours_ - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert (got - noise).abs().max() > 0.01
    frames = model.decode(got)
    pixels = to_uint8(2 * want_frames.transpose(1, 2) - 1)
    assert frames.shape == pixels.shape
    assert frames.shape[1] == model.rule.frames(noise.shape[2])
    assert np.abs(frames.astype(int) - pixels.astype(int)).max() <= 1


@pytest.mark.parametrize(("ar_step", "block", "frames"), [(0, 1, 3), (1, 1, 3), (2, 1, 5), (2, 2, 4)])
def test_diffusion_forcing_is_that_of_skyreels(models, ar_step, block, frames):
    """Frames behind one another, each with a UniPC of its own; blocks that see no later one."""
    model = models("tiny:SkyReelsV2DiffusionForcingPipeline:1.3B")
    shape = model.latent_shape(*small(model))
    noise = torch.randn((1, shape[0], frames, *shape[1:]), generator=torch.Generator().manual_seed(7))
    asynchronous = {"ar_step": ar_step, "causal_block_size": block}
    want, _, _ = of_pipeline(model, PROMPTS[:1], noise, 4.0, **asynchronous)  # sets the network's mask: ours has it too
    try:
        got = baselines.forcing.sample(
            model.denoiser(PROMPTS[:1], negative=NEGATIVE, guidance=4.0),
            model.schedule(STEPS, "unipc", tuple(noise.shape[2:])),
            Request(frames, frames, shape, (0,)),
            baselines.forcing.Options(ar_step, block, "diffusers"),
            noise=lambda *_: noise,
        ).latents
    finally:
        model.pipe.transformer._set_ar_attention(1)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    assert (got - noise).abs().max() > 0.01


@every_variant
def test_prompts_and_guidance_reach_the_network(models, name):
    """Else the equality above would hold for a network that ignores its text."""
    model = models(name)
    noise = noise_of(model, 1)
    one, _ = ours(model, PROMPTS[:1], noise, 4.0)
    other, _ = ours(model, PROMPTS[1:], noise, 4.0)
    weak, _ = ours(model, PROMPTS[:1], noise, 1.5)
    assert (one - other).abs().max() > 1e-4
    assert (one - weak).abs().max() > 1e-4


@every_variant
def test_the_contract_is_kept(models, name):
    model = models(name)
    denoise = model.denoiser(PROMPTS, guidance=1.0)
    assert isinstance(denoise, Denoiser)
    assert denoise.clip == model.clip
    assert model.rule.latents(model.rule.frames(model.clip)) == model.clip
    assert model.fps > 0
    assert set(model.networks()) >= {model.network, "vae"}
    assert model.levels in ("video", "frame")
    assert denoise.per_frame == (model.levels == "frame")
    with pytest.raises(ValueError, match=f"multiples of {model.size_step} pixels: got"):
        model.latent_shape(model.size_step + 1, model.size_step)


@every_variant
def test_frames_at_one_level_each_are_frames_at_one_level(models, name):
    model = models(name)
    latents = noise_of(model, 2, longer=2)
    frames = latents.shape[2]
    denoise = model.denoiser(PROMPTS, guidance=1.0)
    timestep = torch.tensor(model.schedule(STEPS).timesteps)[1]
    if model.levels == "video":
        with pytest.raises(ValueError, match="takes one noise level for all frames of a call"):
            denoise(latents, timestep.expand(frames))
        return
    want = denoise(latents, timestep)
    for times in (timestep.expand(frames), timestep.expand(2, frames)):
        assert (denoise(latents, times) - want).abs().max() <= 1e-5 * want.abs().max()
    later = timestep.expand(frames).clone()
    later[-1] = torch.tensor(model.schedule(STEPS).timesteps)[2]
    assert (denoise(latents, later) - want).abs().max() > 1e-4


@every_variant
def test_windows_and_their_budget_change_nothing(models, name):
    model = models(name)
    latents = noise_of(model, 2)
    timestep = torch.tensor(model.schedule(STEPS).timesteps)[1]
    denoise = model.denoiser(PROMPTS, guidance=3.0 if not model.embedded else 1.0)
    alone = denoise(latents, timestep)
    joined = denoise(torch.cat([latents.flip(3), latents]), timestep)
    assert (joined[2:] - alone).abs().max() <= 1e-5 * alone.abs().max()
    split = type(denoise)(**{**vars(denoise), "budget": 1})
    assert (split(latents, timestep) - alone).abs().max() <= 1e-5 * alone.abs().max()


class Counted:
    """A denoiser that counts its calls and their frames."""

    def __init__(self, denoise, videos):
        self.denoise, self.videos, self.calls, self.frames = denoise, videos, 0, 0
        for name in ("clip", "longest", "branches", "per_frame"):
            setattr(self, name, getattr(denoise, name))

    def __call__(self, latents, timesteps):
        self.calls += 1
        self.frames += latents.shape[2] * len(latents) // self.videos
        return self.denoise(latents, timesteps)


LIKE_VIDRD = ("AnimateDiffPipeline", "TextToVideoSDPipeline")  # a U-Net over frames, of which VidRD's is one


@pytest.mark.parametrize(
    "name",
    [pytest.param(f"tiny:{name}", marks=pytest.mark.slow if name in LIKE_VIDRD else ()) for name in FAMILIES],
)
def test_every_sampler_makes_a_longer_video_of_every_model(models, name):
    model = models(name)
    shape, overlap = model.latent_shape(*small(model)), model.group
    frames = model.clip + model.group * model.rule.step
    asked = Request(frames, model.clip, shape, (3,))
    schedule = model.schedule(2, shape=(model.clip, *shape[1:]))
    bound = model.denoiser(PROMPTS[:1], guidance=1.0)
    for key, method in METHODS.items():
        options = method.options(overlap)
        denoise = bound if method.cuts_attention else Counted(bound, 1)
        refused = (method.per_frame and model.levels == "video") or (method.cuts_attention and not model.windowed)
        if refused:
            with pytest.raises(ValueError, match=r"one noise level for all frames|cannot be cut in windows"):
                method.sample(denoise, schedule, asked, options, dtype=model.dtype)
            continue
        result = method.sample(denoise, schedule, asked, options, dtype=model.dtype)
        assert result.latents.shape == (1, shape[0], frames, *shape[1:]), key
        assert result.latents.isfinite().all(), key
        if isinstance(denoise, Counted):
            assert (denoise.calls, denoise.frames) == (result.plan.calls, result.plan.fe), key


@pytest.mark.parametrize("name", [f"tiny:{name}" for name in FAMILIES])
def test_a_window_later_in_the_video_is_answered_as_one_at_its_beginning(models, name):
    """Positions are counted within a call: nothing of the place in the video reaches the network."""
    model = models(name)
    shape = model.latent_shape(*small(model))
    noise = KeyedNoise((3,))("initial", 0, (shape[0], model.clip, *shape[1:]))
    seen = []

    def keep(latents, timesteps):
        seen.append((latents, bound(latents, timesteps)))
        return seen[-1][1]

    bound = model.denoiser(PROMPTS[:1], guidance=1.0)
    keep.clip, keep.longest, keep.branches, keep.per_frame = model.clip, model.longest, 1, True
    asked = Request(2 * model.clip, model.clip, shape, (3,))
    schedule = model.schedule(2, shape=(model.clip, *shape[1:]))
    METHODS["independent"].sample(
        keep, schedule, asked, METHODS["independent"].options(0), noise=lambda *_, **__: noise
    )
    steps = len(seen) // 2
    for first, later in zip(seen[:steps], seen[steps:], strict=True):
        assert torch.equal(first[0], later[0])
        assert torch.equal(first[1], later[1])


def test_frames_of_different_levels_see_their_own_time_where_a_network_takes_them():
    """Each latent frame's time reaches its own tokens: changing one changes the answer there most."""
    for name in FAMILIES:
        model = tiny_model(f"tiny:{name}")
        if model.levels == "video" or name == "VidRDPipeline":
            continue
        latents = noise_of(model, 1, longer=2)
        times = torch.tensor(model.schedule(STEPS, shape=tuple(latents.shape[2:])).timesteps)
        denoise = model.denoiser(PROMPTS[:1], guidance=1.0)
        level = times[1].expand(latents.shape[2])
        changed = level.clone()
        changed[-1] = times[3]
        change = (denoise(latents, changed) - denoise(latents, level)).abs().amax(dim=(0, 1, 3, 4))
        assert int(change.argmax()) == latents.shape[2] - 1, name


@pytest.mark.parametrize("name", ["tiny:AnimateDiffPipeline", "tiny:TextToVideoSDPipeline"])
def test_ancestral_steps_are_the_pipelines_where_it_has_them(models, name):
    model = models(name)
    start = noise_of(model, 2, longer=2)
    B, _, T, _, _ = start.shape
    drawn = torch.Generator().manual_seed(5)

    def noise(purpose, clip, shape, step=0):
        if purpose == "initial":
            return start
        if "TextToVideo" in name:  # that pipeline steps frames as pictures
            frames = torch.randn(B * T, shape[0], *shape[2:], generator=drawn)
            return frames.unflatten(0, (B, T)).transpose(1, 2)
        return torch.randn(B, *shape, generator=drawn)

    asked = Request(T, T, (start.shape[1], *start.shape[3:]), (0, 1), eta=0.7)
    got = baselines.direct.sample(
        model.denoiser(PROMPTS, negative=NEGATIVE, guidance=4.0), model.schedule(STEPS), asked, noise=noise
    ).latents
    height, width = small(model)
    want = model.pipe(
        **arguments(model, PROMPTS, 4.0),
        num_frames=T,
        height=height,
        width=width,
        num_inference_steps=STEPS,
        eta=0.7,
        generator=torch.Generator().manual_seed(5),
        latents=start.clone(),
        output_type="latent",
    ).frames
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def test_shapes_with_drawn_weights_are_the_same_each_time_and_in_the_precision_asked_for(monkeypatch):
    monkeypatch.setattr(Wan, "drawn", Wan.tiny)  # the published shapes take gigabytes
    weights = []
    for _ in range(2):
        before = torch.random.get_rng_state()
        model = load_model("drawn:WanPipeline:2.1", dtype=torch.bfloat16)
        assert torch.equal(torch.random.get_rng_state(), before)
        weights.append(model.pipe.transformer.proj_out.weight)
    assert weights[0].dtype == torch.bfloat16
    assert torch.equal(*weights)
    assert model.size == Wan.size  # that of the published model
    with pytest.raises(ValueError, match=r"variants of WanPipeline are 2\.1, .*: got '9B'"):
        load_model("drawn:WanPipeline:9B")
    with pytest.raises(ValueError, match="no shapes of CogVideoXPipeline are known here: take tiny:CogVideoXPipeline"):
        load_model("drawn:CogVideoXPipeline")
