"""Attention in branches: bands of frequencies and principal components, as a reader would compute them."""

import math
from dataclasses import replace

import pytest
import torch
from toys import CLIP, SHAPE, close

from baselines import attention_branches, freenoise
from baselines.attention_branches import PrincipalBranches, SpectralBranches, places_of, whole
from baselines.freenoise import attention_of, attention_windows, freelong, freepca
from vidrd.models.blocks import TimeWindows
from vidrd.sampler_contract import Request

FRAMES, SIZE, WIDTH = 5 * CLIP, (4, 6), 3
ASKED = Request(FRAMES, CLIP, (SHAPE[0], *SIZE), (3, 8))


def tokens(videos=2, seed=0, size=SIZE):
    shape = (videos * FRAMES, math.prod(size), WIDTH)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_length(x, frames):
    """Clips answer once what they see, longer windows more often."""
    return x * (frames / CLIP)


def by_place(x, frames):
    """Frames of a window act on each other, by their place in it."""
    clips = x.unflatten(0, (-1, frames))
    place = torch.linspace(0.5, 1.5, frames, dtype=x.dtype)[:, None, None]
    return torch.sin(clips * place + clips.mean(dim=1, keepdim=True)).flatten(0, 1)


@pytest.mark.parametrize("options", [freelong(), freelong(4), freepca()], ids=["freelong", "freelong-bands", "freepca"])
def test_what_the_branches_agree_on_passes_unchanged(options):
    x = tokens()
    assert close(attention_of(ASKED, FRAMES, options)(lambda part, _: 2 * part, x), 2 * x)


def gain(bands, time, height, width):
    """Of a frequency, each in cycles over the video, the height and the width."""
    shares, lengths = [1.0], [*(2**number for number in range(bands - 1)), FRAMES / CLIP]
    for number in range(bands - 1):
        square = (2 * height / SIZE[0] / 0.25) ** 2 + (2 * width / SIZE[1] / 0.25) ** 2
        shares.append(math.exp(-((2 * time / FRAMES * 2**number / 0.25) ** 2 + square) / 2))
    return sum((a - b) * length for a, b, length in zip(shares, [*shares[1:], 0.0], lengths, strict=True))


def check_bands(bands, size=SIZE):
    """A wave comes out as often as its band's windows answer it."""
    branches = attention_of(ASKED, FRAMES, freelong(bands))
    for time, height, width in ((0, 0, 0), (1, 0, 0), (3, 0, 0), (8, 0, 0), (2, 1, 0), (0, 0, 1)):
        t, h, w = (torch.arange(length, dtype=torch.float64) / length for length in (FRAMES, *size))
        angle = time * t[:, None, None] + height * h[:, None] + width * w
        wave = torch.cos(2 * math.pi * angle).flatten(1)[..., None]
        expected = gain(bands, time, height, width) * wave
        assert close(branches(by_length, wave), expected, 1e-6), (time, height, width)  # the filter is float32


@pytest.mark.parametrize("bands", [2, 3, 4])
def test_long_windows_give_low_frequencies_and_clips_high_ones(bands):
    check_bands(bands)


def test_longer_windows_than_the_video_are_the_whole():
    short = replace(ASKED, frames=CLIP + 1)
    assert len(attention_of(short, CLIP + 1, freelong(4)).branches) == 2
    assert [each.seen.shape[1] for each in attention_of(ASKED, FRAMES, freelong(4)).branches] == [4, 8, 16, 20]
    assert attention_of(short, CLIP, freelong()) is None
    assert attention_of(short, CLIP, freepca()) is None


HONEST = attention_branches.gaussian_pass


@pytest.mark.parametrize(
    "fault",
    [
        lambda *given: 1 - HONEST(*given),
        lambda frames, h, w, space, time: HONEST(frames, h, w, space, 2 * time),
        lambda *given: torch.fft.fftshift(HONEST(*given)),
    ],
    ids=["high for low", "another cut-off", "off center"],
)
def test_planted_faults_of_the_bands_are_seen(monkeypatch, fault):
    monkeypatch.setattr(attention_branches, "gaussian_pass", fault)
    with pytest.raises(AssertionError):
        check_bands(2)


def principal(x, windows, layer=by_place):
    """FreePCA of one video, window by window and component by component."""
    far = layer(x, FRAMES)
    total, weight = torch.zeros_like(x), torch.zeros(FRAMES, 1, 1, dtype=x.dtype)
    for number, seen in enumerate(windows.seen):
        own, common = layer(x[seen], CLIP).flatten(1), far[seen].flatten(1)  # F R
        a, b = own - own.mean(dim=0), common - common.mean(dim=0)
        parts = []
        for vector in torch.linalg.eigh(b @ b.T)[1].T:
            near_part, far_part = vector @ a, vector @ b
            parts.append((float(torch.cosine_similarity(near_part, far_part, dim=0)), vector, near_part, far_part))
        parts.sort(key=lambda part: -part[0])
        mixed = own if number == 0 else common.mean(dim=0)
        for place, (_, vector, near_part, far_part) in enumerate(parts if number else ()):
            mixed = mixed + torch.outer(vector, far_part if place < min(number, 3) else near_part)
        total[seen] += mixed.reshape(CLIP, *x.shape[1:])
        weight[seen] += 1
    return total / weight


def check_principal():
    x = tokens()
    branches = attention_of(ASKED, FRAMES, freepca())
    assert isinstance(branches, PrincipalBranches)
    want = torch.cat([principal(video, branches.windows) for video in x.split(FRAMES)])
    assert close(branches(by_place, x), want, 1e-9)


def test_later_windows_take_the_most_alike_components_of_the_whole_video():
    check_principal()


class OneBatch(PrincipalBranches):
    """The published code's components, which depend on the other videos of the batch."""

    def __call__(self, layer, x):
        apart = torch.cat(x.split(FRAMES), dim=1)
        mixed = super().__call__(layer, apart)
        return torch.cat(mixed.chunk(len(x) // FRAMES, dim=1))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("PrincipalBranches", OneBatch),
        ("PrincipalBranches", lambda windows: PrincipalBranches(windows, most=2)),
        ("attention_windows", lambda length, clip, options: attention_windows(length, clip, freelong())),
    ],
    ids=["all videos at once", "too few", "weights"],
)
def test_planted_faults_of_the_components_are_seen(monkeypatch, name, fault):
    monkeypatch.setattr(freenoise, name, fault)
    with pytest.raises(AssertionError):
        check_principal()


def test_places_are_those_of_the_networks_stages():
    assert [places_of(count, (9, 6)) for count in (54, 15, 6, 2, 1)] == [(9, 6), (5, 3), (3, 2), (2, 1), (1, 1)]
    with pytest.raises(ValueError, match="frames of 9 x 6 or halves of it: got 20 a frame"):
        places_of(20, (9, 6))


def test_the_whole_video_is_a_window():
    x = tokens(1)
    assert torch.equal(whole(FRAMES)(by_place, x), by_place(x, FRAMES))
    with pytest.raises(ValueError, match="windows are of 20 frames: got 10"):
        SpectralBranches([whole(FRAMES)], SIZE)(by_place, x[:10])
    assert isinstance(attention_of(ASKED, FRAMES, freenoise.Options()), TimeWindows)
