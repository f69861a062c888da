"""SynCoS: what windows would change, shared by their likeness, as a reader would write it."""

import pytest
import torch
from toys import CLIP, SCHEDULE, SEEDS, SHAPE, STEPS, Coupled, close, initial, request, run

from baselines import co_denoise, distillation
from baselines.co_denoise import plan, syncos
from baselines.distillation import likeness
from vidrd.noise import KeyedNoise
from vidrd.schedule import Schedule

FRAMES, STARTS = 3 * CLIP - 1, (0, 2, 4, 6, 7)
FLOW = Schedule.flow(range(1000, 0, -125), [1 - step / 8 for step in range(9)])
PYRAMID = torch.tensor([1.0, 2.0, 2.0, 1.0], dtype=torch.float64)


def fused(parts):
    total, weight = torch.zeros(len(SEEDS), SHAPE[0], FRAMES, *SHAPE[1:], dtype=torch.float64), torch.zeros(FRAMES)
    for start, part in zip(STARTS, parts, strict=True):
        total[:, :, start : start + CLIP] += part * PYRAMID[:, None, None]
        weight[start : start + CLIP] += PYRAMID
    return total / weight[:, None, None]


def by_hand(schedule):
    """In clean frames and noise; the toy's answer is noise, or noise - clean on the flow."""
    x, baseline = initial(FRAMES), KeyedNoise(SEEDS)("baseline", 0, (SHAPE[0], FRAMES, *SHAPE[1:])).double()

    def estimate(state, level):
        signal, spread = schedule.mix(level)
        answer = Coupled()(state, torch.tensor(schedule.timesteps[level]))
        return state - spread * answer if schedule is FLOW else (state - spread * answer) / signal

    for level in range(schedule.steps):
        signal, spread = schedule.mix(level)
        parts = [estimate(x[:, :, start : start + CLIP], level) for start in STARTS]
        for _ in range(2):
            whole = fused(parts)
            parts = [whole[:, :, start : start + CLIP] for start in STARTS]
            noises = [baseline[:, :, start : start + CLIP] for start in STARTS]
            changes = [estimate(signal * p + spread * n, level) - p for p, n in zip(parts, noises, strict=True)]
            moved = [torch.zeros_like(part) for part in parts]
            for video in range(len(SEEDS)):
                gaps = torch.tensor([[float((a[video] - b[video]).square().sum()) for b in parts] for a in parts])
                width = gaps[~torch.eye(len(parts), dtype=torch.bool)].median()
                kernel = torch.exp(-gaps.double() / width)
                for i, part in enumerate(parts):
                    mean = sum(k * change[video] for k, change in zip(kernel[i], changes, strict=True))
                    moved[i][video] = part[video] + mean / kernel[i].sum()
            parts = moved
        clean = fused(parts)
        noise = (x - signal * clean) / spread
        alpha, scale = schedule.alphas_prev[level], schedule.scales_prev[level]
        x = scale * (alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise)
    return x


def check(schedule=SCHEDULE):
    video = co_denoise.sample(Coupled(), schedule, request(FRAMES), syncos(2), dtype=torch.float64).latents
    assert close(video, by_hand(schedule), 1e-5)


@pytest.mark.parametrize("schedule", [SCHEDULE, FLOW], ids=["noise", "flow"])
def test_every_step_is_refined_by_what_all_windows_would_change(schedule):
    check(schedule)


HONEST = likeness


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("likeness", lambda parts: torch.eye(len(parts))[..., None].expand(-1, -1, parts.shape[1])),
        ("likeness", lambda parts: torch.full((len(parts), len(parts), parts.shape[1]), 1 / len(parts))),
        ("likeness", lambda parts: HONEST(parts).mean(dim=-1, keepdim=True).expand(-1, -1, parts.shape[1])),
        ("answer_of", lambda schedule, x, clean, level: clean),
    ],
    ids=["each by itself", "all alike", "one kernel for all videos", "clean frames for answers"],
)
def test_planted_faults_are_seen(monkeypatch, name, fault):
    monkeypatch.setattr(distillation, name, fault)
    with pytest.raises(AssertionError):
        check()


class Knows(Coupled):
    """Answers that the clean frames are 0.7, whatever the state."""

    def __call__(self, latents, timesteps):
        signal, spread = SCHEDULE.mix(SCHEDULE.timesteps.index(int(timesteps)))
        super().__call__(latents, timesteps)
        return (latents - signal * 0.7) / spread


def test_a_network_that_knows_the_video_is_left_alone():
    refined, plain = (run(co_denoise, FRAMES, Knows(), overlap=2, refine=passes) for passes in (2, 0))
    assert close(refined, plain)


def test_a_step_costs_as_much_again_for_every_pass():
    todo = plan(request(FRAMES), STEPS, syncos(2))
    assert todo.fe == 3 * plan(request(FRAMES), STEPS, co_denoise.Options(2)).fe
    assert plan(request(CLIP), STEPS, syncos(2)).calls == STEPS
    with pytest.raises(ValueError, match="refine is a count of passes from 0 upwards: got -1"):
        co_denoise.Options(refine=-1)
