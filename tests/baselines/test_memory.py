"""Memory does not grow with the video for methods whose calls hold one clip, but for the finished latents."""

import pytest
import torch

from bench.methods import METHODS
from bench.speed.memory_cell import PeakTracker
from tests.baselines.toys import SCHEDULE, Separable
from vidrd.sampler_contract import Request

FLAT = [name for name in METHODS if name.startswith(("vidrd", "independent", "replace", "cono", "fifo"))]
SHAPE, CLIP = (4, 16, 16), 4
FRAME = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2]  # bytes


class Forgetful(Separable):
    """Keeps nothing of its calls, so that the sampler's own memory shows."""

    def __call__(self, latents, timesteps):
        answer = super().__call__(latents, timesteps)
        self.calls.clear()
        return answer


def working_set(name, frames):
    """Bytes beyond the video's latents and the copy that joins them."""
    method, asked = METHODS[name], Request(frames, CLIP, SHAPE, (0,))
    with PeakTracker() as tracker:
        method.sample(Forgetful(), SCHEDULE, asked, method.options(2))
    return tracker.peak - 2 * frames * FRAME


def check_flat(name, short, long):
    grown = working_set(name, long) - working_set(name, short)
    assert grown <= 4 * CLIP * FRAME, f"{grown / FRAME:.1f} frames more at {long} than at {short}"


@pytest.mark.parametrize("name", ["vidrd", "vidrd-forwards", "replace", "fifo"])
def test_the_working_set_is_that_of_a_shorter_video(name):
    check_flat(name, 12, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAT)
def test_the_working_set_is_flat_to_1024_frames(name):
    check_flat(name, 32, 1024)


def test_a_method_that_keeps_the_whole_video_is_seen():
    with pytest.raises(AssertionError, match="frames more"):
        check_flat("direct", 12, 60)
    with pytest.raises(AssertionError, match="frames more"):
        check_flat("codenoise", 12, 60)


def test_tensors_are_followed():
    with PeakTracker() as tracker:
        torch.ones(10, dtype=torch.float32) + 1
    assert tracker.peak == 80
