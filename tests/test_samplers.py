"""What every sampler must keep, whatever its idea: one set of tests over the table of methods."""

import re
from dataclasses import replace

import jaxtyping
import pytest
import torch

import baselines.sampler_template
from bench.methods import METHODS, Method
from vidrd.denoiser import Denoiser
from vidrd.noise import KeyedNoise
from vidrd.sampler_contract import Cancelled, Request
from vidrd.schedule import Schedule
from vidrd.solvers import schedule as solver_schedule

CLIP, STEPS, OVERLAP = 4, 5, 2
MINGLED = ("syncos",)  # methods that let windows act on each other even where frames do not couple
LENGTHS = (1, CLIP - 1, CLIP, CLIP + 1, 2 * CLIP, 3 * CLIP - 1, 2 * CLIP - 1)
SCHEDULE = Schedule.ddim({"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}, STEPS)
FLOW = Schedule.flow(range(1000, 0, -200), (1.0, 0.9, 0.7, 0.4, 0.2, 0.0))
SKELETON = Method(
    plan=baselines.sampler_template.plan,
    sample=baselines.sampler_template.sample,
    options=lambda overlap: baselines.sampler_template.Options(),
    takes_overlap=False,
    paper="none",
    summary="the file to copy",
)
apart = [pytest.param(method, id=name) for name, method in METHODS.items() if name not in MINGLED]
every_method = pytest.mark.parametrize("method", {**METHODS, "skeleton": SKELETON}.values(), ids=[*METHODS, "skeleton"])


def over_frames(timesteps):
    """Timesteps of all frames, of each frame, or of each frame of each video, shaped to go with B C T H W."""
    times = timesteps.double() / 1000
    return times if times.ndim == 0 else times.reshape(-1, 1, times.shape[-1], 1, 1)


class Coupled:
    """A network whose answer mixes the frames, so that an error in one reaches all; counts and checks its calls."""

    clip, longest, branches = CLIP, None, 1

    def __init__(self):
        self.frames, self.shares = [], []  # of each call: frames, and videos times windows

    def __call__(self, latents, timesteps):
        self.frames.append(latents.shape[2])
        self.shares.append(len(latents))
        before = latents.clone()
        answer = (0.6 + 0.3 * over_frames(timesteps)) * torch.tanh(latents) + 0.2 * latents.mean(dim=2, keepdim=True)
        assert torch.equal(latents, before)
        return answer.to(latents.dtype)


class Separable:
    """A network that sees each frame alone; keeps every frame that entered it, by level."""

    clip, longest, branches = CLIP, None, 1

    def __init__(self, schedule=SCHEDULE):
        self.schedule, self.entered = schedule, {level: [] for level in range(STEPS)}

    def __call__(self, latents, timesteps):
        for frame, timestep in enumerate(timesteps.expand(latents.shape[2]).tolist()):
            self.entered[self.schedule.timesteps.index(timestep)].append(latents[:, :, frame].clone())
        return self.answer(latents, timesteps)

    def answer(self, latents, timesteps):
        return (0.6 + 0.3 * over_frames(timesteps)) * torch.tanh(latents)

    def way_of(self, frame):
        """The levels through which plain DDIM led to this finished frame (B C H W), from the last one backwards."""
        for level in reversed(range(STEPS)):
            states = torch.stack(self.entered[level], dim=2)
            answer = self.answer(states, torch.tensor(self.schedule.timesteps[level]))
            after = self.schedule.step(states, answer, level)
            gaps = (after - frame[:, :, None]).abs().amax(dim=(0, 1, 3, 4))
            if gaps.min() > 1e-12:
                return
            yield level
            frame = states[:, :, int(gaps.argmin())]


def request(frames, seeds=(3, 8), eta=0.0):
    return Request(frames=frames, clip=CLIP, shape=(2, 3, 3), seeds=seeds, eta=eta)


def run(method, asked, denoise=None, **kwargs):
    return method.sample(denoise or Coupled(), SCHEDULE, asked, method.options(OVERLAP), **kwargs)


def ddim(denoise, x, eta=0.0, noise=None):
    """Plain DDIM, as a reader would write it."""
    for step, timestep in enumerate(SCHEDULE.timesteps):
        fresh = noise("step", 0, tuple(x.shape[1:]), step) if eta else None
        x = SCHEDULE.step(x, denoise(x, torch.tensor(timestep)), step, eta, fresh)
    return x


def test_shapes_are_checked_while_testing():
    with pytest.raises(jaxtyping.TypeCheckError):
        SCHEDULE.step(torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 2, 3, 4, 5), 0)


def test_the_toys_are_denoisers():
    assert isinstance(Coupled(), Denoiser)


@every_method
def test_the_table_describes_the_method(method):
    assert method.paper
    assert method.summary
    assert "\n" not in method.summary
    changes = method.plan(request(9), STEPS, method.options(0)) != method.plan(request(9), STEPS, method.options(2))
    assert changes <= method.takes_overlap


@every_method
@pytest.mark.parametrize("frames", LENGTHS)
def test_calls_frames_and_origins_are_as_planned(method, frames):
    denoise = Coupled()
    result = run(method, request(frames), denoise)
    plan = method.plan(request(frames), STEPS, method.options(OVERLAP))
    assert result.plan == plan
    assert (result.seams, result.origin) == (plan.seams, plan.frames)
    assert result.latents.shape == (2, 2, frames, 3, 3)
    assert result.latents.isfinite().all()
    assert len(denoise.frames) == plan.calls
    assert sum(denoise.frames) == plan.fe
    assert max(denoise.frames) == max(stop - start for start, stop in plan.windows)
    assert len(plan.frames) == frames
    covered = {frame for start, stop in plan.windows for frame in range(start, stop)}
    assert covered >= set(range(frames))
    for seam in plan.seams:
        assert plan.frames[seam.frame - 1].clip + 1 == plan.frames[seam.frame].clip
    for frame, origin in enumerate(plan.frames):
        assert origin.duplicate_of is None or origin.duplicate_of < frame


@every_method
@pytest.mark.precision
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_is_kept(method, dtype):
    result = run(method, request(CLIP + 1), dtype=dtype)
    assert result.latents.dtype == dtype
    full = run(method, request(CLIP + 1)).latents
    assert (result.latents.float() - full).abs().max() < 0.06 * full.abs().max()


@every_method
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_same_seeds_give_the_same_bits_and_leave_the_global_generator_alone(method, eta):
    state = torch.random.get_rng_state()
    first = run(method, request(2 * CLIP, eta=eta)).latents
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(run(method, request(2 * CLIP, eta=eta)).latents, first)
    assert not torch.equal(run(method, request(2 * CLIP, seeds=(4, 8), eta=eta)).latents[0], first[0])


@every_method
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_video_does_not_depend_on_its_batch(method, eta):
    both = run(method, request(2 * CLIP + 1, seeds=(3, 8), eta=eta)).latents
    alone = run(method, request(2 * CLIP + 1, seeds=(8,), eta=eta)).latents
    turned = run(method, request(2 * CLIP + 1, seeds=(8, 3), eta=eta)).latents
    assert torch.equal(both[1:], alone)
    assert torch.equal(both.flip(0), turned)


@every_method
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_one_clip_is_plain_ddim_to_the_bit(method, eta):
    noise = KeyedNoise((3, 8))
    want = ddim(Coupled(), noise("initial", 0, (2, CLIP, 3, 3)), eta, noise)
    assert torch.equal(run(method, request(CLIP, eta=eta)).latents, want)


@every_method
@pytest.mark.parametrize("seeds", [(3,), (3, 8, 9)])
def test_noise_of_fewer_or_more_videos_is_refused_before_any_call(method, seeds):
    denoise = Coupled()
    with pytest.raises(ValueError, match=r"noise has the request's videos and shape .* got \(\d, 2"):
        run(method, request(2 * CLIP), denoise, noise=KeyedNoise(seeds))
    assert denoise.frames == []


@every_method
def test_the_callers_noise_is_not_written_to(method):
    drawn = []

    def noise(purpose, clip, shape, step=0):
        drawn.append(KeyedNoise((3, 8))(purpose, clip, shape, step))
        copies.append(drawn[-1].clone())
        return drawn[-1]

    copies = []
    run(method, request(3 * CLIP, eta=0.5), noise=noise)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(drawn, copies, strict=True))


def check_ways(method, frames, schedule=SCHEDULE, denoise=None):
    """Frames of a separable network went through every level by plain DDIM.

    A method may put its first clip back to a later level (FIFO does), every frame after it begins as noise.
    """
    denoise = denoise or Separable()
    result = method.sample(denoise, schedule, request(frames), method.options(0), dtype=torch.float64)
    for number, frame in enumerate(result.latents.unbind(dim=2)):
        way = list(denoise.way_of(frame))
        assert way == list(range(STEPS - 1, STEPS - 1 - len(way), -1))
        assert len(way) == STEPS or (way and number < CLIP)


@pytest.mark.parametrize("method", [*apart, pytest.param(SKELETON, id="skeleton")])
@pytest.mark.parametrize("schedule", [SCHEDULE, FLOW], ids=["noise", "flow"])
@pytest.mark.parametrize("frames", [2 * CLIP, 3 * CLIP - 1])
def test_frames_of_a_separable_network_are_plain_ddim_whatever_the_noise(method, frames, schedule):
    check_ways(method, frames, schedule, Separable(schedule))


class Late(Schedule):
    """A schedule that steps from the level after."""

    def step(self, x, prediction, level, eta=0.0, noise=None):
        return super().step(x, prediction, (level + 1) % STEPS, eta, noise)


class WrongOrder(Separable):
    """A network whose answers come in the wrong order of frames."""

    def __call__(self, latents, timesteps):
        return super().__call__(latents, timesteps).flip(2)


@pytest.mark.parametrize("method", apart)
def test_a_wrong_level_or_order_is_caught(method):
    """The invariant above is only worth something if it fails for every method."""
    late = Late(SCHEDULE.timesteps, SCHEDULE.alphas, SCHEDULE.alphas_prev)
    with pytest.raises(AssertionError):
        check_ways(method, 2 * CLIP, late)
    with pytest.raises(AssertionError):
        check_ways(method, 2 * CLIP, denoise=WrongOrder())


@every_method
@pytest.mark.parametrize("budget", [1, 2 * CLIP, 5 * CLIP, 1000])
def test_a_budget_joins_calls_and_changes_no_video(method, budget):
    denoise, asked = Coupled(), request(3 * CLIP - 1)
    together = run(method, replace(asked, budget=budget), denoise)
    alone = run(method, asked)
    assert torch.allclose(together.latents, alone.latents, atol=1e-5)
    assert len(denoise.frames) == together.plan.calls <= alone.plan.calls
    assert together.plan.fe == alone.plan.fe
    held = [frames * share for frames, share in zip(denoise.frames, denoise.shares, strict=True)]
    assert sum(held) == together.plan.fe * len(asked.seeds)
    assert max(held) <= max(budget, max(denoise.frames) * len(asked.seeds))


@pytest.mark.gpu
@every_method
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_gpu_makes_the_same_videos(method, eta):
    asked = request(3 * CLIP - 1, eta=eta)
    there = run(method, asked, device="cuda")
    assert there.latents.device.type == "cuda"
    assert torch.allclose(there.latents.cpu(), run(method, asked).latents, atol=1e-4)


@every_method
def test_the_calls_of_a_method_follow_from_its_steps(method):
    """What makes methods comparable at equal cost: more steps never cost less."""
    costs = [method.plan(request(3 * CLIP), steps, method.options(OVERLAP)).fe for steps in range(1, 25)]
    assert costs == sorted(costs)


@every_method
@pytest.mark.parametrize("frames", [1, CLIP, 2 * CLIP + 1])
def test_events_come_in_order_and_progress_ends_at_one(method, frames):
    events = []
    denoise = Coupled()
    result = run(method, request(frames), denoise, on_event=events.append)
    kinds = [event.kind for event in events]
    assert kinds.count("call") == result.plan.calls
    assert kinds[-1] == "frames"
    assert kinds.index("call") < kinds.index("step") < kinds.index("clip") <= kinds.index("frames")
    progress = [event.progress for event in events]
    assert progress == sorted(progress)
    assert progress[0] > 0
    assert progress[-1] == 1
    assert [(event.clip, event.step) for event in events] == sorted((event.clip, event.step) for event in events)
    emitted = torch.cat([event.latents for event in events if event.kind == "frames"], dim=2)
    assert torch.equal(emitted, result.latents)


@every_method
def test_a_listener_may_stop_the_sampler(method):
    denoise = Coupled()

    def stop(event):
        if event.step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(method, request(CLIP), denoise, on_event=stop)
    assert len(denoise.frames) == 3
    assert torch.equal(run(method, request(CLIP), denoise).latents, run(method, request(CLIP)).latents)


@every_method
def test_what_was_stopped_anywhere_begins_again_as_new(method):
    whole, denoise = run(method, request(3 * CLIP)).latents, Coupled()
    for share in (0.2, 0.6, 1.0):

        def stop(event, share=share):
            if event.progress >= share:
                raise Cancelled

        with pytest.raises(Cancelled):
            run(method, request(3 * CLIP), denoise, on_event=stop)
    assert torch.equal(run(method, request(3 * CLIP), denoise).latents, whole)


@every_method
def test_a_window_longer_than_the_network_bears_is_refused(method):
    denoise = Coupled()
    denoise.longest = CLIP - 1
    with pytest.raises(ValueError, match=re.escape(f"at most {CLIP - 1} frames a call: got {CLIP}")):
        run(method, request(CLIP), denoise)
    assert denoise.frames == []


@every_method
def test_no_gradient_is_kept(method):
    class Learned(Coupled):
        weight = torch.ones((), requires_grad=True)

        def __call__(self, latents, timesteps):
            return super().__call__(latents, timesteps) * self.weight

    assert not run(method, request(CLIP), Learned()).latents.requires_grad


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "at least 1 frame"),
        ({"clip": 0}, "at least 1 frame"),
        ({"shape": (4, 0, 8)}, "at least 1 value"),
        ({"seeds": ()}, "got no seeds"),
        ({"seeds": (1.0,)}, "a seed is one integer: got 1.0"),
        ({"eta": 1.5}, "eta is between 0"),
    ],
)
def test_requests_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Request(**{"frames": 8, "clip": 4, "shape": (4, 8, 8), "seeds": (1,)} | wrong)


@every_method
def test_solvers_with_a_memory_run_where_steps_follow_the_order_of_a_clip(method):
    """What the table says of it is true; elsewhere the plan of the solver refuses the first step."""
    config = {"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
    schedule = solver_schedule("unipc", config, STEPS)
    options, asked = method.options(2), request(2 * CLIP, eta=None)
    if method.any_order:
        with pytest.raises(ValueError, match="remembers the steps of one clip"):
            method.sample(Coupled(), schedule, asked, options)
    else:
        assert method.sample(Coupled(), schedule, asked, options).latents.isfinite().all()
