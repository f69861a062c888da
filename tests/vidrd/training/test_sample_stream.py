"""The order of samples is exact: the same for any number of processes, and resumed from one integer."""

import numpy as np
import pytest
import torch

from vidrd.training.sample_stream import (
    BatchLoader,
    IndexedSamples,
    MixedSamples,
    View,
    Views,
    hold_out,
    shares_of,
)
from vidrd.training.settings import weighted_sets
from vidrd.video import square


class Counting:
    """Clips whose pixels say row and frame."""

    def __init__(self, lengths):
        self.frames, self.views = np.array(lengths), []

    def captions(self, row):
        return [f"row {row}", f"also row {row}"]

    def origins(self):
        return [f"file {row}" for row in range(len(self.frames))]

    def clip(self, row, indices, view=None):
        self.views.append(view)
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
    assert torch.equal(square(frames, 64), torch.ones(3, 2, 64, 64))
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255
    small = square(stripes, 16)
    assert small.shape == (3, 1, 16, 16)
    assert float(small[..., 2:-2].abs().max()) < 0.1  # stripes finer than a pixel are grey


def test_several_sets_have_their_shares_and_each_its_own_epochs():
    sets = [drawn(lengths=(9, 9, 9)), drawn(lengths=(5,) * 7)]
    mixed = MixedSamples(sets, [0.7, 0.3])
    chosen = [len(mixed[n].clip) and mixed[n] for n in range(1000)]
    assert [sample.number for sample in chosen] == list(range(1000))
    own = [sets[0].clips.views, sets[1].clips.views]
    assert sum(map(len, own)) == 2000
    assert len(own[0]) / 2000 == pytest.approx(0.7, abs=0.04)
    assert mixed.counts == (7000, 3000)
    block = [int(s) for s in _sets_of(mixed, range(10_000))]
    assert block.count(0) == 7000  # exactly
    again = MixedSamples([drawn(lengths=(9, 9, 9)), drawn(lengths=(5,) * 7)], [0.7, 0.3])
    assert torch.equal(again[777].clip, chosen[777].clip)


def _sets_of(mixed, numbers):
    from vidrd.training.sample_stream import BLOCK, _mixture

    return [_mixture(mixed.counts, mixed.seed, mixed.stream, n // BLOCK)[n % BLOCK] for n in numbers]


def test_each_set_goes_through_its_rows_in_epochs_across_blocks(monkeypatch):
    monkeypatch.setattr("vidrd.training.sample_stream.BLOCK", 10)
    mixed = MixedSamples([drawn(lengths=(9,) * 4), drawn(lengths=(20,) * 3)], [2, 3], "video")
    seen = {0: [], 1: []}
    for number in range(60):  # 24 samples of the first set, six epochs; 36 of the second, twelve
        sample = mixed[number]
        chosen = int(_block_of(mixed, number))
        seen[chosen].append(int(sample.clip[0, 0, 0, 0]))
    assert sorted(seen[0]) == sorted([0, 1, 2, 3] * 6)
    assert sorted(seen[1]) == sorted([0, 1, 2] * 12)
    assert all(sorted(seen[1][e : e + 3]) == [0, 1, 2] for e in range(0, 36, 3))


def _block_of(mixed, number):
    from vidrd.training.sample_stream import _mixture

    return _mixture(mixed.counts, mixed.seed, mixed.stream, number // 10)[number % 10]


def test_shares_are_whole_numbers_of_the_largest_remainders():
    assert shares_of([1, 1, 1], 10) == (4, 3, 3)
    assert shares_of([0.7, 0.3], 10) == (7, 3)
    with pytest.raises(ValueError, match="at least 1 of 10 samples: got weights 1000, 1"):
        shares_of([1000, 1], 10)


def test_words_name_folders_and_weights(tmp_path):
    for name in ("a", "b:0.5", "s3:c"):
        (tmp_path / name).mkdir()
    words = [f"{tmp_path}/a:0.7", f"{tmp_path}/b:0.5", f"{tmp_path}/s3:c", f"{tmp_path}/s3:x:2"]
    assert weighted_sets(words) == [
        (tmp_path / "a", 0.7), (tmp_path / "b:0.5", 1.0), (tmp_path / "s3:c", 1.0), (tmp_path / "s3:x", 2.0),
    ]  # fmt: skip
    assert weighted_sets([f"{tmp_path}/b:0.5:3"]) == [(tmp_path / "b:0.5", 3.0)]
    for word, message in (("", "names folders"), ("a:0", "above 0"), ("a:-1", "above 0"), ("a:nan", "above 0"),
                          ("a:inf", "above 0"), (":1", "names folders")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            weighted_sets([word])
    with pytest.raises(ValueError, match="each folder once"):
        weighted_sets(["a:1", "a:2"])


def test_held_out_clips_take_their_source_files_with_them():
    clips = Counting([9, 9, 9, 2, 9, 9])
    clips.origins = lambda: ["x", "x", "y", "y", "z", "z"]
    for seed in range(8):
        left_out = hold_out(clips, 1, 4, seed)
        origins = {clips.origins()[row] for row in left_out}
        assert len(origins) == 1
        assert sorted(left_out) == [row for row in range(6) if clips.origins()[row] in origins]
        assert clips.frames[left_out[0]] >= 4
        draws = IndexedSamples(clips, seed=0, frames=4, left_out=left_out)
        assert not set(draws.rows.tolist()) & set(left_out)
    assert len({tuple(hold_out(clips, 1, 4, seed)) for seed in range(8)}) > 1
    assert hold_out(clips, 0, 4, 0) == []
    with pytest.raises(ValueError, match="no clips: prepare one that has"):
        hold_out(Counting([]), 1, 4, 0)
    with pytest.raises(ValueError, match="got 5, the set has 5 clips of 4 frames from 3 files"):
        hold_out(clips, 5, 4, 0)


def test_views_belong_to_the_sample_and_spare_captions_that_name_sides():
    views = Views(anywhere=True, smallest=0.5, flip=True)
    some = [views.draw("a dog", 0, "video", n) for n in range(400)]
    assert some == [views.draw("a dog", 0, "video", n) for n in range(400)]
    assert min(v.side for v in some) >= 0.5
    assert np.mean([v.side for v in some]) == pytest.approx(0.75, abs=0.03)
    assert np.mean([v.across for v in some]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([v.mirrored for v in some]) == pytest.approx(0.5, abs=0.1)
    assert not any(views.draw("a ball moving Left.", 0, "video", n).mirrored for n in range(99))
    draws = IndexedSamples(Counting([9]), seed=0, frames=4, views=views)
    samples = [draws[3], draws[3], draws[4]]
    assert samples[0].caption == samples[1].caption
    assert draws.clips.views[0] == draws.clips.views[1] != draws.clips.views[2]
    plain = drawn()
    assert plain[0]
    assert plain.clips.views == [View()]


def test_a_random_square_shows_its_part_of_the_frame():
    frames = np.zeros((1, 40, 80, 3), np.uint8)
    frames[:, 20:, 60:] = 255  # the bottom right
    assert float(square(frames, 8, 0.5, (1.0, 1.0)).min()) == pytest.approx(1)
    assert float(square(frames, 8, 0.5, (0.0, 0.0)).max()) == pytest.approx(-1)
