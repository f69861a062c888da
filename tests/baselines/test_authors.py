"""Samplers under `compat` against numbers of their authors' own codes (tests/golden/samplers has the recipes)."""

import json
import math
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import co_denoise, direct, fifo, freenoise, priors, replace
from vidrd import sampling
from vidrd.noise import StreamNoise
from vidrd.sampler_contract import UNSEEN, Request
from vidrd.sampling import linear_guided_frames
from vidrd.schedule import Schedule

FOLDER = Path(__file__).parents[1] / "golden" / "samplers"
CASES = json.loads((FOLDER / "samplers.json").read_text())
NUMBERS = np.load(FOLDER / "samplers.npz")


def each(family):
    return pytest.mark.parametrize("case", CASES[family])


def stream(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def normal(rng, shape):
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).double()


class Draws:
    """A case's numbers in the original's order, one list for each purpose."""

    def __init__(self, family, case):
        rng = stream(f"samplers/{family}/{case}")
        self.all, self.by = [], {}
        for purpose, shape, times in CASES[family][case]["draws"]:
            for _ in range(times):
                self.all.append(normal(rng, shape))
                self.by.setdefault(purpose, []).append(self.all[-1])


class Toy:
    longest, branches = None, 1

    def __init__(self, about):
        self.clip = about.get("clip", about.get("frames"))
        self.weight = about.get("guidance", 1.0) * about.get("s", 0.0)
        self.calls = []

    def __call__(self, latents, timesteps):
        self.calls.append(latents.clone())
        times = timesteps.double().reshape(-1, 1, 1) if timesteps.ndim else timesteps.double()
        place = torch.arange(latents.shape[2], dtype=torch.float64).reshape(-1, 1, 1)
        following = torch.cat([latents[:, :, 1:], latents[:, :, -1:]], dim=2)
        answer = 0.6 * latents + 0.3 * torch.tanh(latents.mean(dim=2, keepdim=True)) + 0.2 * torch.sin(following)
        return answer + 0.1 * torch.cos(place) * torch.sin(times / 100) + self.weight * torch.cos(latents)


def schedule_of(about):
    return Schedule(**{name: tuple(values) for name, values in about["schedule"].items()})


def asked(about, frames, **more):
    batch = tuple(range(about["batch"]))
    return Request(frames, about["clip"], tuple(about["shape"]), batch, **more)


def sampled(tensor, count):
    flat = tensor.flatten()
    return [float(flat[(i * (len(flat) - 1)) // (count - 1)]) for i in range(count)]


def assert_same(got, family, case, array="out", tolerance=1e-9):
    want = torch.from_numpy(NUMBERS[f"{family}/{case}/{array}"])
    got = torch.as_tensor(got, dtype=torch.float64)
    assert got.shape == want.shape
    assert float((got - want).abs().max() / want.abs().max()) < tolerance


@each("vidrd")
def test_the_released_stream_and_its_steps(case, monkeypatch):
    about = CASES["vidrd"][case]
    generator = torch.Generator().manual_seed(about.get("torch_seed", 0))
    if "torch_seed" not in about:
        drawn = iter(Draws("vidrd", case).all)
        monkeypatch.setattr(torch, "randn", lambda shape, **_: next(drawn).reshape(shape))
    toy = Toy(about)
    options = sampling.Options(about["overlap"], about["alpha"], about["beta"], compat="released")
    made = sampling.sample(
        toy,
        schedule_of(about),
        asked(about, about["clips"] * about["clip"], eta=about["eta"]),
        options,
        noise=StreamNoise(generator, about["batch"], about["noise_alpha"]),
        dtype=torch.float64,
    )
    assert_same(made.latents, "vidrd", case, tolerance=1e-5)
    assert_same([sampled(latents, 24) for latents in toy.calls], "vidrd", case, "call", 1e-5)


@pytest.mark.parametrize(("steps", "overlap", "beta", "wanted"), CASES["guided_frames"])
def test_frames_that_the_released_loop_guides(steps, overlap, beta, wanted):
    guided = [linear_guided_frames(step, steps, overlap, beta, "released") for step in range(steps)]
    assert [sum(count > frame for count in guided) for frame in range(overlap)] == wanted


@pytest.mark.parametrize(("steps", "jump", "resample", "calls"), CASES["repaint_calls"])
def test_calls_of_the_authors_jumps(steps, jump, resample, calls):
    options = replace.Options(resample=resample, jump=jump if resample > 1 else None, compat="repaint")
    assert len(replace.step_order(steps, options)) == calls


@each("repaint")
def test_resampling_as_repaint(case):
    about, draws = CASES["repaint"][case], Draws("repaint", case)
    clip, overlap, steps = about["clip"], about["known"], about["steps"]
    (batch, channels, *_), schedule = draws.all[0].shape, schedule_of(about)
    known = normal(stream(f"samplers/repaint/{case}/known"), (batch, channels, overlap, *about["shape"][1:]))
    lists = {"step": draws.by["step"], "resample": draws.by.get("renoise", [])}
    lists["known"] = draws.by["known, for the first call"] + draws.by["known"]
    left = {name: iter(drawn) for name, drawn in lists.items()}

    def noise(purpose, number, shape, step=0):
        if number == 0:
            return torch.zeros(batch, *shape, dtype=torch.float64)
        drawn = draws.all[0] if purpose == "initial" else next(left[purpose])
        return drawn[:, :, : shape[1]]

    class First(Toy):
        """The first clip ends in the known frames, whatever it begins with."""

        def __call__(self, latents, timesteps):
            answer = super().__call__(latents, timesteps)
            if len(self.calls) > steps:
                return answer
            alpha, end = schedule.alphas[len(self.calls) - 1], torch.zeros_like(latents)
            end[:, :, clip - overlap :] = known
            return (latents - math.sqrt(alpha) * end) / math.sqrt(1 - alpha)

    toy, (jump, resample) = First(about), (about["jump_length"], about["jump_n_sample"])
    options = replace.Options(overlap, resample, jump=jump if resample > 1 else None, compat="repaint")
    request = asked(about, 2 * clip - overlap)
    made = replace.sample(toy, schedule, request, options, noise=noise, dtype=torch.float64)
    assert len(toy.calls) == steps + about["calls"] == replace.plan(request, steps, options).calls
    count = NUMBERS[f"repaint/{case}/call"].shape[1]
    assert_same([sampled(latents, count) for latents in toy.calls[steps:]], "repaint", case, "call")
    want = torch.from_numpy(NUMBERS[f"repaint/{case}/out"])[:, :, overlap:]
    assert float((made.latents[:, :, clip:] - want).abs().max() / want.abs().max()) < 1e-9


@each("streaming")
def test_cuts_as_streamingt2v(case):
    about, draws = CASES["streaming"][case], Draws("streaming", case)
    clip, overlap, shape = about["clip"], about["overlap"], (about["clip"], *about["shape"][1:])
    steps = iter(draws.by.get("step of one chunk", []))

    def noise(purpose, number, wanted, step=0):
        if purpose == "initial":
            return torch.nn.functional.pad(draws.all[0], (0, 0, 0, 0, 0, clip))[:, :, number * clip :][:, :, :clip]
        if purpose == "cut":
            place = torch.tensor((about["cuts"][step][number] + 0.5) / overlap, dtype=torch.float64)
            return torch.special.ndtri(place).expand(about["batch"], 1, 1, 1, 1)
        return next(steps).reshape(about["batch"], shape[0], -1, *shape[1:]).transpose(1, 2)

    options = co_denoise.Options(overlap, blend="cut", compat="streamingt2v")
    request = asked(about, about["frames"], eta=about["eta"])
    made = co_denoise.sample(Toy(about), schedule_of(about), request, options, noise=noise, dtype=torch.float64)
    assert_same(made.latents, "streaming", case)


@each("genl")
def test_windows_as_gen_l_video(case):
    about, draws = CASES["genl"][case], Draws("genl", case)
    clip, steps = about["clip"], iter(draws.by.get("step of one window", []))

    def noise(purpose, number, shape, step=0):
        if purpose == "step":
            return next(steps)
        return torch.nn.functional.pad(draws.all[0], (0, 0, 0, 0, 0, clip))[:, :, number * clip :][:, :, :clip]

    options = co_denoise.Options(clip - about["stride"], compat="genl")
    request = asked(about, about["frames"], eta=about["eta"])
    made = co_denoise.sample(Toy(about), schedule_of(about), request, options, noise=noise, dtype=torch.float64)
    assert_same(made.latents, "genl", case)
    unseen = sum(origin.clip == UNSEEN for origin in made.origin)
    assert unseen == about["unseen_frames"] == int((made.latents == 0).all(dim=(0, 1, 3, 4)).sum())


@each("fifo")
def test_the_queue_as_fifo(case):
    about, draws = CASES["fifo"][case], Draws("fifo", case)
    clip, options = about["clip"], fifo.Options(about["lookahead"], "official")
    windows = fifo.queue_of(clip, about["steps"], options).windows
    first, single, entering = draws.all[0], draws.by["step of one frame"], draws.by["the frame that enters the queue"]

    def noise(purpose, number, shape, step=0):
        if purpose == "queue":
            return torch.cat(draws.by["one place of the first queue"], dim=2)
        if purpose == "initial":
            if number == 0:
                return first
            frames = entering[(number - 1) * clip : number * clip]
            return torch.stack(frames + [frames[0]] * (clip - len(frames)), dim=2)
        if number == 0:
            return draws.by["step of the first clip"][step]
        begin = ((number - 1) * len(windows) + len(windows) - 1 - step) * clip
        return torch.cat(single[begin : begin + clip], dim=2)

    request = asked(about, about["frames"])  # whose eta is the code's own, 1
    made = fifo.sample(Toy(about), schedule_of(about), request, options, noise=noise, dtype=torch.float64)
    assert_same(made.latents, "fifo", case)


class Attends(Toy):
    """Attention over frames, in windows."""

    windows = None

    @contextmanager
    def attend_in(self, windows):
        self.windows = windows
        yield

    def __call__(self, latents, timesteps):
        y = 1.5 * torch.sin(latents + timesteps.double() / 300)
        tokens = y.permute(0, 3, 4, 2, 1)  # B H W T C
        fused = torch.zeros_like(tokens)
        for seen, share in zip(self.windows.seen, self.windows.share, strict=True):
            part = tokens[..., seen, :]
            attended = torch.softmax(part @ part.mT / math.sqrt(part.shape[-1]), dim=-1) @ part
            fused[..., seen, :] += (part + attended) * share[:, None]
        return 0.6 * latents + 0.3 * fused.permute(0, 4, 3, 1, 2) + 0.1 * torch.sin(timesteps.double() / 100)


@pytest.mark.parametrize(
    ("family", "case"), [(family, case) for family in ("freenoise", "freenoise_diffusers") for case in CASES[family]]
)
def test_one_pass_as_freenoise(family, case):
    about, draws = CASES[family][case], Draws(family, case)
    clip, stride = about["clip"], about["stride"]
    compat = "official" if family == "freenoise" else "diffusers"
    first = draws.all[0] if draws.all[0].ndim == 5 else draws.all[0].expand(about["batch"], -1, -1, -1, -1)
    chunks, steps = iter(about["permutations"] or []), iter(draws.by.get("step", []))

    def noise(purpose, number, shape, step=0):
        if purpose == "initial":
            return torch.nn.functional.pad(first, (0, 0, 0, 0, 0, clip))[:, :, number * clip :][:, :, :clip]
        if purpose == "step":
            return next(steps)
        ranks = torch.tensor(next(chunks)).argsort().double()  # values whose order is the permutation
        return ranks.reshape(1, 1, -1, 1, 1).expand(about["batch"], -1, -1, -1, -1)

    shuffled = about.get("noise", "shuffle_context") == "shuffle_context"
    options = freenoise.Options(stride, about.get("weights"), "rescheduled" if shuffled else "iid", compat=compat)
    request = asked(about, about["frames"], eta=about["eta"])
    made = freenoise.sample(Attends(about), schedule_of(about), request, options, noise=noise, dtype=torch.float64)
    assert_same(made.latents, family, case)


@each("freeinit")
def test_passes_as_freeinit(case):
    about, draws = CASES["freeinit"][case], Draws("freeinit", case)
    about = {**about, "clip": about["frames"]}

    def noise(purpose, number, shape, step=0):
        return draws.all[0] if purpose == "initial" else draws.by["noise of a later pass"][step]

    settings = priors.FreeInit(about["passes"], about["space"], about["time"], about["order"])
    made = priors.again(
        direct.sample,
        Toy(about),
        schedule_of(about),
        asked(about, about["frames"]),
        direct.Options(),
        settings,
        noise=noise,
        dtype=torch.float64,
    )
    assert_same(made.latents, "freeinit", case, tolerance=1e-5)
