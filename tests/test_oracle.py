"""Samplers against a network that is exactly right: what remains is what the sampler does.

Frames are a stationary Gaussian AR(1) process, so the best denoiser of a window is a matrix, whatever level each of its
frames has, and a sampler is a linear map of what it draws. Its videos' second moments are then exact, from one video
for each number drawn. Truth: variance 1, a jump at a seam as large as any other, correlation rho^16 = .61 between
frames 16 apart. (Fifty steps alone bring the variance of a clip to .90, on a flow to .92.)
"""

import math
import zlib
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import pytest
import torch

import baselines.replace
from bench.methods import METHODS, with_noise
from vidrd.sampler_contract import Request
from vidrd.schedule import Schedule

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # tests/test_samplers.py checks them

RHO, CLIP, FRAMES, STEPS = 0.97, 16, 64, 50
CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
NOISE = Schedule.ddim(CONFIG, STEPS)
FLOW = Schedule.flow(range(1000, 0, -1000 // STEPS), [1 - step / STEPS for step in range(STEPS + 1)])


class PosteriorMean:
    """The exact posterior mean of the clean frames, told as noise or as a flow; frames may have levels of their own.

    It stands for temporal attention, too: what that sees together, it is the posterior mean of.
    """

    clip, longest, branches = CLIP, None, 1

    def __init__(self, schedule):
        self.schedule, self.over_time = schedule, None
        self.level = {timestep: level for level, timestep in enumerate(schedule.timesteps)}
        self.matrix = lru_cache(self.matrix)

    def __call__(self, latents, timesteps):
        if self.over_time is not None:
            tokens = latents.reshape(-1, 1, 1)
            return self.over_time(lambda x, frames: self.answer(x, timesteps.expand(frames)), tokens).view_as(latents)
        return self.answer(latents, timesteps.expand(latents.shape[2]))

    def answer(self, x, timesteps):
        return (x.reshape(-1, len(timesteps)) @ self.matrix(tuple(timesteps.tolist())).T).view_as(x)

    @contextmanager
    def attend_in(self, over_time):
        self.over_time = over_time
        yield
        self.over_time = None

    def matrix(self, timesteps):
        mixes = torch.tensor([self.schedule.mix(self.level[each]) for each in timesteps], dtype=torch.float64)
        signal, spread = mixes.T
        frame, one = torch.arange(len(timesteps), dtype=torch.float64), torch.eye(len(timesteps), dtype=torch.float64)
        prior = RHO ** (frame[:, None] - frame).abs()
        clean = prior * signal @ torch.linalg.inv(signal[:, None] * prior * signal + (spread**2).diag())
        noise = (one - signal[:, None] * clean) / spread[:, None]
        return (noise if self.schedule.prediction_type == "epsilon" else noise - clean).float()


class Draws:
    """Each number that a sampler draws is sqrt(videos) in one video and 0 in all others.

    So means of products over the videos are what they are for independent standard normal numbers. Shuffles and cuts
    are random, and the same in all videos.
    """

    def __init__(self):
        self.places, self.count, self.videos = {}, 0, 300  # more of these where a sampler draws more

    def __call__(self, purpose, clip, shape, step=0):
        if purpose in ("shuffle", "cut"):
            generator = torch.Generator().manual_seed(zlib.crc32(repr((purpose, clip, step)).encode()))
            return torch.randn((1, *shape), generator=generator).expand(self.videos, *shape)
        size, key = math.prod(shape), (purpose, clip, step)
        if key not in self.places:
            self.places[key], self.count = self.count, self.count + size
        drawn, first = torch.zeros(self.videos, size), self.places[key]
        drawn[first : first + size].fill_diagonal_(math.sqrt(self.videos))
        return drawn.reshape(self.videos, *shape)


class Seen(NamedTuple):
    variance: float
    seam_correlation: float
    jump: float  # mean square difference at seams over that inside clips
    recall: float  # correlation of frames one clip apart
    begin: float  # variance of the first clip's frames
    end: float  # and of as many at the end


def see(method, options, schedule=NOISE, frames=FRAMES, network=None):
    drawn = Draws()
    while True:
        asked = Request(frames=frames, clip=CLIP, shape=(1, 1, 1), seeds=tuple(range(drawn.videos)))
        result = method.sample(network or PosteriorMean(schedule), schedule, asked, options, noise=drawn)
        if drawn.count <= drawn.videos:
            return look(result.latents[:, 0, :, 0, 0].double(), [seam.frame for seam in result.seams])
        drawn.videos = drawn.count


def look(video, seams):
    frames = video.shape[1]
    seams = seams or list(range(CLIP, frames, CLIP))  # where there are none, the places where clips would meet

    def correlation(a, b):
        return float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt())

    change, energy = video.diff(dim=1).square().mean(dim=0), video.square().mean(dim=0)
    at_seam = torch.isin(torch.arange(1, frames), torch.tensor(seams))
    return Seen(
        variance=float(energy.mean()),
        seam_correlation=correlation(video[:, :-1][:, at_seam], video[:, 1:][:, at_seam]),
        jump=float(change[at_seam].mean() / change[~at_seam].mean()),
        recall=correlation(video[:, :-CLIP], video[:, CLIP:]),
        begin=float(energy[:CLIP].mean()),
        end=float(energy[-CLIP:].mean()),
    )


def named(name, overlap=8, prior="iid", **changes):
    """A method of the table with its options, some of them changed, on the noise of a prior."""
    return with_noise(METHODS[name], prior), replace(METHODS[name].options(overlap), **changes)


# without those that draw much, or that are no linear maps
CASES = {name: named(name) for name in METHODS if name not in ("replace-resampled", "freepca", "syncos")} | {
    "vidrd, O=4": named("vidrd", 4),
    "vidrd, no noise reused": named("vidrd", 4, alpha=0.0),
    "vidrd, no guidance": named("vidrd", 4, beta=0.0),
    "codenoise, O=12": named("codenoise", 12),
    "codenoise, flat": named("codenoise", weights="flat"),
    "fused states": named("codenoise", fuse="state"),
    "own noise, answers": named("codenoise", noise="own", fuse="answer"),
    "own noise, clean frames": named("codenoise", noise="own", fuse="clean"),
    "own noise, states": named("codenoise", noise="own", fuse="state"),
    "replace, O=4": named("replace", 4),
    "independent, spectral noise": named("independent", prior="spectral"),
    "codenoise, spectral noise": named("codenoise", prior="spectral"),
    "fifo, spectral noise": named("fifo", prior="spectral"),
    "forcing, spectral noise": named("forcing", prior="spectral"),
}
# variance, seam correlation, jump, recall, begin and end: by noise prediction, then the same on a flow
MOMENTS = """
vidrd                        0.896  0.998   0.08  0.774   0.90   0.90    0.922  0.999   0.05  0.777   0.92   0.92
vidrd-forwards               0.749  0.776   6.43  0.176   0.90   0.70    0.767  0.796   5.35  0.180   0.92   0.71
independent                  0.898  0.000   37.1  0.000   0.90   0.90    0.924  0.000   34.4  0.000   0.92   0.92
independent-shared           0.898  0.620   14.1  1.000   0.90   0.90    0.924  0.626   12.9  1.000   0.92   0.92
direct                       0.845  0.971   1.00  0.577   0.86   0.86    0.906  0.970   1.00  0.601   0.91   0.91
codenoise                    0.737  0.965   0.92  0.172   0.78   0.78    0.758  0.962   0.92  0.173   0.80   0.80
codenoise-cut                0.737  0.965   0.90  0.170   0.78   0.78    0.760  0.963   0.90  0.170   0.81   0.80
codenoise-rescheduled        0.902  0.974   0.94  0.938   0.90   0.90    0.929  0.972   0.94  0.937   0.93   0.93
flowlong                     0.423  0.943   0.94  0.226   0.45   0.45    0.423  0.937   0.95  0.223   0.45   0.45
videomerge                   0.831  0.971   0.93  0.688   0.86   0.84    0.855  0.969   0.93  0.689   0.89   0.86
diffvf                       0.709  0.816   0.98  0.914   0.74   0.68    0.720  0.845   0.97  0.910   0.75   0.69
freenoise                    0.897  0.969   1.14  0.969   0.90   0.90    0.925  0.967   1.13  0.968   0.92   0.92
freelong                     0.849  0.968   1.09  0.573   0.86   0.86    0.911  0.967   1.09  0.597   0.92   0.92
freelong-bands               1.943  0.992   0.71  0.969   1.75   1.75    2.159  0.992   0.71  0.970   1.94   1.94
replace                      0.664  0.746   6.25  0.189   0.90   0.58    0.680  0.741   5.87  0.187   0.92   0.59
replace-trajectory           0.745  0.811   5.32  0.179   0.90   0.69    0.766  0.808   5.01  0.180   0.92   0.71
cono                         0.696  0.711   7.30  0.155   0.90   0.62    0.711  0.686   7.29  0.157   0.92   0.63
fifo                         0.681  0.954   1.02  0.317   0.83   0.62    0.766  0.960   1.00  0.410   0.87   0.72
fifo-plain                   0.661  0.943   1.02  0.204   0.75   0.63    0.726  0.953   1.00  0.255   0.77   0.71
fifo-zigzag                  0.698  0.944   1.28  0.513   0.82   0.65    0.825  0.950   1.21  0.592   0.86   0.81
fifo-neighbor                5.006  0.984   1.25  0.536   0.89   7.72    0.766  0.960   1.00  0.410   0.87   0.72
forcing                      0.761  0.967   1.01  0.512   0.90   0.69    0.950  0.972   1.00  0.615   0.95   0.95
vidrd, O=4                   0.896  0.994   0.23  0.768   0.90   0.90    0.922  0.995   0.16  0.771   0.92   0.92
vidrd, no noise reused       0.855  0.785   7.43  0.210   0.90   0.84    0.866  0.833   5.22  0.226   0.92   0.85
vidrd, no guidance           0.898  0.990   0.36  0.766   0.90   0.90    0.924  0.990   0.33  0.769   0.92   0.92
codenoise, O=12              0.722  0.963   0.94  0.190   0.76   0.76    0.743  0.961   0.94  0.192   0.78   0.78
codenoise, flat              0.717  0.966   0.68  0.172   0.76   0.76    0.737  0.964   0.69  0.174   0.78   0.78
fused states                 0.737  0.965   0.92  0.172   0.78   0.78    0.758  0.962   0.92  0.173   0.80   0.80
own noise, answers           4.704  0.924   1.17 -0.077   3.77   3.77    0.574  0.949   0.90  0.063   0.67   0.67
own noise, clean frames      0.507  0.960   0.77  0.108   0.61   0.61    0.522  0.957   0.77  0.108   0.62   0.62
own noise, states            0.525  0.968   0.67  0.165   0.61   0.61    0.541  0.966   0.67  0.167   0.63   0.63
replace, O=4                 0.731  0.728   7.55  0.147   0.90   0.70    0.751  0.723   7.12  0.146   0.92   0.72
independent, spectral noise  0.898  0.717   10.5  0.953   0.90   0.90    0.924  0.723   9.54  0.952   0.92   0.92
codenoise, spectral noise    0.917  0.974   0.95  0.937   0.91   0.91    0.945  0.972   0.95  0.935   0.94   0.94
fifo, spectral noise         0.960  0.967   0.92  0.845   0.85   1.08    1.190  0.971   0.94  0.875   0.89   1.50
forcing, spectral noise      1.407  0.989   0.70  0.951   0.94   1.74    2.008  0.991   0.70  0.954   0.98   2.94
"""
WANT = {line[:28].strip(): [float(value) for value in line[28:].split()] for line in MOMENTS.strip().splitlines()}


def check(case):
    for schedule, want in ((NOISE, WANT[case][:6]), (FLOW, WANT[case][6:])):
        assert see(*CASES[case], schedule) == pytest.approx(want, abs=0.006, rel=0.006)


@pytest.mark.parametrize("case", CASES)
def test_what_a_sampler_makes_of_gaussian_frames_is_known(case):
    """Independent clips cut hard and remember nothing, and shared noise repeats them; one long window is right.

    VidRD's reversed noise holds a frame at the seam and recalls too much; without it the seam steps. Replacement steps
    too. Windows lose contrast; each with noise of its own, they lose more where clean frames or states are fused, and
    by noise prediction gain it out of bounds where answers are. A posterior mean has too little variance, which noise
    drawn anew at every step never lets grow (FlowLong). Strided windows show the network far frames as neighbors, which
    it makes them, and so neighbors less alike. Queues lose contrast along the video; of a tail with its neighbor's low
    frequencies, which are all of a single pixel, noise that is alike is amplified, unless the noisiest level is noise
    only, as on a flow. Repeated or shared low frequencies repeat the content.
    """
    check(case)


def test_distillation_remembers_most_of_what_windows_forget():
    """At random, since its kernel is no linear map."""
    asked, method = Request(FRAMES, CLIP, (1, 1, 1), tuple(range(300))), METHODS["syncos"]
    result = method.sample(PosteriorMean(NOISE), NOISE, asked, method.options(8))
    seen = look(result.latents[:, 0, :, 0, 0].double(), [seam.frame for seam in result.seams])
    assert (seen.variance, seen.recall) == pytest.approx((0.87, 0.49), abs=0.06)
    assert WANT["codenoise"][3] < 0.2 < seen.recall < WANT["direct"][3]


def test_resampling_repairs_the_step_of_replacement():
    """On two clips, since it draws much."""
    options = [baselines.replace.Options(overlap=8, resample=resample) for resample in (1, 5)]
    once, often = (see(METHODS["replace"], each, frames=2 * CLIP) for each in options)
    assert (once.jump, often.jump) == pytest.approx((6.6, 1.9), abs=0.4)
    assert (once.seam_correlation, often.seam_correlation) == pytest.approx((0.75, 0.94), abs=0.03)


@pytest.mark.parametrize(
    ("name", "fault", "case"),
    [
        ("vidrd.sampling.reverse_noise", lambda past: past, "vidrd, O=4"),
        ("baselines.co_denoise.answer_of", lambda schedule, x, clean, level: clean, "own noise, clean frames"),
        ("baselines.co_denoise.strided_cover", lambda frames, clip: torch.arange(frames).split(clip), "diffvf"),
    ],
)
def test_the_oracle_sees_faults(monkeypatch, name, fault, case):
    """The first is what it exists for: the same noise in its old order puts a cut at the seam."""
    monkeypatch.setattr(name, fault)
    with pytest.raises(AssertionError):
        check(case)


def test_the_oracle_sees_a_flow_taken_for_diffusion():
    blind = Schedule(FLOW.timesteps, FLOW.alphas, FLOW.alphas_prev, "flow_prediction")
    assert see(*CASES["direct"], blind, network=PosteriorMean(FLOW)).variance > 2 * WANT["direct"][6]
