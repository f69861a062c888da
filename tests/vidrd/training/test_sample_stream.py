"""The order of samples is exact: the same for any number of processes, and resumed from one integer."""

import numpy as np
import pytest
import torch

from vidrd.training.sample_stream import BatchLoader, IndexedSamples
from vidrd.video import middle_square


class Counting:
    """Clips whose pixels say row and frame."""

    def __init__(self, lengths):
        self.frames = np.array(lengths)

    def captions(self, row):
        return [f"row {row}", f"also row {row}"]

    def clip(self, row, indices):
        assert max(indices) < self.frames[row]
        return torch.tensor([[row, i] for i in indices]).float().T[:, :, None, None]


def drawn(seed=0, frames=4, stride=1, lengths=(9, 3, 6, 20, 4)):
    return IndexedSamples(Counting(lengths), seed=seed, frames=frames, stride=stride)


def rows(samples):
    return [int(sample.clip[0, 0, 0, 0]) for sample in samples]


def test_every_epoch_meets_every_usable_row_once():
    draws = drawn()
    assert len(draws) == 4
    first, second = (rows([draws[n] for n in range(e * 4, e * 4 + 4)]) for e in (0, 1))
    assert sorted(first) == sorted(second) == [0, 2, 3, 4]
    orders = {tuple(rows([drawn(seed)[n] for n in range(4)])) for seed in range(20)}
    assert len(orders) > 5


@pytest.mark.parametrize("stride", [1, 3])
def test_windows_lie_inside_with_the_stride_that_fits(stride):
    draws = drawn(stride=stride)
    for number in range(60):
        clip = draws[number].clip
        frames, row = clip[1, :, 0, 0], int(clip[0, 0, 0, 0])
        assert frames.diff().unique().tolist() == [min(stride, (draws.clips.frames[row] - 1) // 3)]


def test_starts_and_captions_vary_and_repeat_by_number():
    draws = drawn(lengths=(20,))
    starts = [int(draws[n].clip[1, 0, 0, 0]) for n in range(40)]
    assert len(set(starts)) > 8
    assert {draws[n].caption for n in range(20)} == {"row 0", "also row 0"}
    assert starts == [int(drawn(lengths=(20,))[n].clip[1, 0, 0, 0]) for n in range(40)]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_what_one_process_sees(world):
    alone = BatchLoader(drawn(), 6)
    several = [BatchLoader(drawn(), 6, rank=rank, world=world) for rank in range(world)]
    for step in range(5):
        whole = alone(step)
        parts = [sample for feed in several for sample in feed(step)]
        assert [s.number for s in parts] == [s.number for s in whole]
        assert all(torch.equal(a.clip, b.clip) and a.caption == b.caption for a, b in zip(parts, whole, strict=True))


def test_a_run_resumes_from_the_number_of_its_step():
    whole = BatchLoader(drawn(), 3)
    batches = [rows(whole(step)) for step in range(9)]
    resumed = BatchLoader(drawn(), 3)
    assert [rows(resumed(step)) for step in range(4, 9)] == batches[4:]
    assert rows(resumed(2)) == batches[2]


def test_reading_ahead_changes_nothing():
    alone, ahead = BatchLoader(drawn(), 3), BatchLoader(drawn(), 3, workers=1)
    for step in (5, 6, 7):
        assert [s.number for s in ahead(step)] == [s.number for s in alone(step)]


def test_uneven_shares_and_short_clips_are_refused():
    with pytest.raises(ValueError, match="7 clips among 2 processes"):
        BatchLoader(drawn(), 7, world=2)
    with pytest.raises(ValueError, match="no clip of the data set has 30 frames"):
        drawn(frames=30)


def test_the_middle_square_is_reduced_without_aliasing():
    frames = np.zeros((2, 64, 128, 3), np.uint8)
    frames[:, :, 32:96] = 255
    assert torch.equal(middle_square(frames, 64), torch.ones(3, 2, 64, 64))
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255
    small = middle_square(stripes, 16)
    assert small.shape == (3, 1, 16, 16)
    assert float(small[..., 2:-2].abs().max()) < 0.1  # stripes finer than a pixel are grey
