"""Samplers do not know the kind of schedule: on a flow they make the videos of the diffusion that it is, rescaled."""

import pytest
import torch

from baselines.priors import FreeInit, again
from bench.methods import METHODS
from vidrd.sampler_contract import Request
from vidrd.schedule import Mix, Schedule

CLIP, STEPS = 4, 6
SIGMAS = (1.0, 0.9, 0.75, 0.5, 0.3, 0.1, 0.0)
TIMES = tuple(range(600, 0, -100))
FLOW = Schedule.flow(TIMES, SIGMAS)
DIFFUSION = Schedule(TIMES, FLOW.alphas, FLOW.alphas_prev, "v_prediction")
OPTIONS = {name: [method.options(2)] for name, method in METHODS.items()}
OPTIONS["replace"] += [
    type(OPTIONS["replace"][0])(overlap=2, guidance=2.0),
    type(OPTIONS["replace"][0])(overlap=2, floor=0.4, known="fixed"),
    type(OPTIONS["replace"][0])(overlap=2, resample=3, jump=2),
    type(OPTIONS["replace"][0])(overlap=2, resample=2, compat="repaint"),
]
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]


class Diffusion:
    """A network whose frames act on each other and that knows every frame's level; answers with v."""

    clip, longest, branches = CLIP, None, 1

    def __init__(self, coupling=0.3):
        self.coupling = coupling

    def __call__(self, latents, timesteps):
        times = (timesteps if timesteps.ndim == 0 else timesteps.reshape(-1, 1, timesteps.shape[-1], 1, 1)) / 600
        return (0.4 + 0.3 * times) * torch.tanh(latents) + self.coupling * latents.mean(dim=2, keepdim=True)


class Flow(Diffusion):
    """The same network on the flow: takes its states at their scale, answers with noise - clean."""

    def __call__(self, latents, timesteps):
        level = 6 - (timesteps / 100).round().long()
        if level.ndim:
            level = level.reshape(-1, 1, level.shape[-1], 1, 1)
        signal, spread = torch.tensor([FLOW.mix(k) for k in range(STEPS)], dtype=torch.float64).T[:, level]
        scale = torch.hypot(signal, spread)
        state, r, q = latents / scale, signal / scale, spread / scale
        answer = super().__call__(state, timesteps)
        return (q * state + r * answer) - (r * state - q * answer)


def run(name, options, kind, schedule, frames=11, eta=0.0, **more):
    alone = name.startswith(("fifo", "forcing"))  # they show finished frames, at no level's scale, to others
    denoise = kind(0.0 if alone else 0.3)
    asked = Request(frames, CLIP, (2, 3, 3), (3, 8), eta)
    return METHODS[name].sample(denoise, schedule, asked, options, dtype=torch.float64, **more).latents


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_every_sampler_makes_the_same_video_on_a_flow(name, options, eta):
    want = run(name, options, Diffusion, DIFFUSION, eta=eta)
    got = run(name, options, Flow, FLOW, eta=eta)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_a_sampler_that_takes_the_flow_for_diffusion_is_seen():
    blind = Schedule(TIMES, FLOW.alphas, FLOW.alphas_prev, "flow_prediction")
    want = run("replace", OPTIONS["replace"][0], Diffusion, DIFFUSION)
    assert (run("replace", OPTIONS["replace"][0], Flow, blind) - want).abs().max() > 0.1


def test_freeinit_noises_the_video_to_the_flows_first_level():
    """At a first level that shows half the clean video, a pass that keeps all frequencies starts from that mixture."""
    half = Schedule.of_mixes((600, 300), [Mix(0.5, 0.5), Mix(0.8, 0.2), Mix(1.0, 0.0)], "flow_prediction")
    started = []

    def sample(denoise, schedule, request, options, *, noise, on_event=None, **where):
        started.append(noise("initial", 0, (2, CLIP, 3, 3)))
        return METHODS["direct"].sample(denoise, schedule, request, options, noise=noise, **where)

    asked = Request(CLIP, CLIP, (2, 3, 3), (3, 8))
    options = METHODS["direct"].options(0)
    again(sample, Diffusion(), half, asked, options, FreeInit(passes=2, space=1.0, time=1.0, order=60))
    video = METHODS["direct"].sample(Diffusion(), half, asked, options).latents
    kept = torch.fft.fftn(started[1], dim=(-3, -2, -1))[..., 0, 0, 0]
    want = torch.fft.fftn(0.5 * video + 0.5 * started[0], dim=(-3, -2, -1))[..., 0, 0, 0]
    torch.testing.assert_close(kept, want)
