"""Figures that depend on the machine: run by `pytest -m slow -s tests/vidrd/data/test_speed.py` on a quiet one."""

from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time

import numpy as np
import pytest
import torch

from tests.vidrd.data.test_zoompan import picture
from vidrd.data.adapters import Where, records
from vidrd.data.media import decode, encode_mp4, probe, to_rgb
from vidrd.data.prepare import describe, prepare
from vidrd.data.scenes import Cutting
from vidrd.data.shards import ShardSet
from vidrd.data.units import Plan
from vidrd.data.zoompan import Camera, draw_path, move

pytestmark = pytest.mark.slow
COUNT = 40


@pytest.mark.timeout(600)
def test_ingest_costs_little_beside_decoding_and_encoding(real_clips, tmp_path, capsys):
    found = list(islice(records("ucf101", Where(real_clips)), COUNT))
    began = perf_counter()
    frames = 0
    for record in found:
        path = Path(record.uri)
        held = list(decode(path))
        frames += len(held)
        encode_mp4(held, probe(path).fps)
    alone = perf_counter() - began
    plan = Plan("ucf101", Where(real_clips), Cutting(None, min_frames=16, max_frames=10_000), duplicates=11, unit=COUNT)
    began = perf_counter()
    summary = prepare(plan, tmp_path / "set", say=lambda line: None)
    whole = perf_counter() - began
    shards = ShardSet(tmp_path / "set")
    with capsys.disabled():
        print(f"\n{len(found)} clips, {frames} frames; decoding and x264 alone {alone:.2f} s, prepare {whole:.2f} s,")
        print(f"ratio {alone / whole:.3f}")
        print(describe(summary))
    short = summary.tally.dropped.pop("cut", {})  # pieces of films, too short for a clip; nothing else is lost
    assert not summary.tally.dropped
    assert short.keys() <= {"short"}
    assert 0 <= frames - sum(int(count) for count in shards.frames) < 16 * (sum(short.values()) or 1)
    rows = [shards.row(row) for row in range(len(shards))]
    assert list(dict.fromkeys(row["uri"] for row in rows)) == [record.uri for record in found]
    for number, row in enumerate(rows):  # in exact order, frame for frame
        source = np.stack([to_rgb(frame) for frame in decode(Path(row["uri"]))])[row["start"] : row["end"]]
        stored = shards.read(number)
        assert stored.shape == source.shape
        assert psnr(stored, source).min() > 33, row["key"]
        assert (psnr(stored, source) >= psnr(stored, np.roll(source, 1, axis=0)) - 0.1).all(), row["key"]
    assert alone / whole >= 0.8


def psnr(a, b):
    """Of each frame."""
    error = np.stack([((x.astype(np.float32) - y) ** 2).mean() for x, y in zip(a, b, strict=True)])
    return 10 * np.log10(255**2 / np.maximum(error, 1e-3))


def test_a_moving_still_costs_at_most_20_ms(capsys):
    image = torch.from_numpy(picture(768, 1024)).permute(2, 0, 1)[None].float()
    camera = Camera(frames=16, size=128)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    costs = []
    for _ in range(60):
        boxes = torch.from_numpy(draw_path(768, 1024, camera, rng).boxes(16)).float()[None]
        began = thread_time()
        move(image, boxes, 128)
        costs.append(1000 * (thread_time() - began))
    with capsys.disabled():
        print(f"\n16 frames of 128 x 128: median {median(costs):.1f} ms of a core, most {max(costs):.1f}")
    assert median(costs) <= 20
