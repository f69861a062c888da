"""Figures that depend on the machine: run by `pytest -m slow -s tests/vidrd/data/test_speed.py` on a quiet one."""

import math
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from statistics import median
from time import thread_time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.hardware.machine import ROOT
from tests.vidrd.data.ingest import COUNT, plan
from tests.vidrd.data.test_zoompan import picture
from vidrd.data.adapters import Where, records
from vidrd.data.media import EncoderSettings, decode, to_rgb
from vidrd.data.prepare import prepare
from vidrd.data.shards import ShardSet
from vidrd.data.zoompan import Camera, draw_path, move

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)
def test_ingest_costs_little_beside_decoding_and_encoding(real_clips, tmp_path, capsys):
    # In a process of its own: the tests' checks of shapes cost time at every frame.
    words = [sys.executable, "-m", "tests.vidrd.data.ingest", str(real_clips), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    with capsys.disabled():
        print(done.stdout)
    assert median(float(ratio) for ratio in re.findall(r"ratio ([\d.]+)", done.stdout)) >= 0.8


@pytest.mark.timeout(600)
@pytest.mark.parametrize("crf", [0, 17])
def test_forty_real_clips_come_back_in_order_frame_for_frame(real_clips, tmp_path, crf):
    asked = plan(real_clips, encoder=EncoderSettings(crf))
    summary = prepare(asked, tmp_path, say=lambda line: None)
    shards = ShardSet(tmp_path)
    short = summary.tally.dropped.pop("cut", {})  # pieces of videos, too short for a clip; nothing else is lost
    assert not summary.tally.dropped
    assert short.keys() <= {"short"}
    rows = [shards.row(row) for row in range(len(shards))]
    sources = list(islice(records("ucf101", Where(real_clips)), COUNT))
    assert list(dict.fromkeys(row["uri"] for row in rows)) == [record.uri for record in sources]
    frames = {record.uri: np.stack([to_rgb(frame) for frame in decode(Path(record.uri))]) for record in sources}
    lost = sum(map(len, frames.values())) - sum(int(count) for count in shards.frames)
    assert 0 <= lost < 16 * (sum(short.values()) or 1)
    for number, row in enumerate(rows):
        source, stored = frames[row["uri"]][row["start"] : row["end"]], shards.read(number)
        assert stored.shape == source.shape
        if crf == 0:  # without loss
            assert (stored == source).all(), row["key"]
            continue
        own = psnr(stored, source)
        assert own.min() > 33, row["key"]
        # Nearer to its own frame than to the one before, wherever these two differ by more than the coding's error.
        differ = psnr(source[1:], source[:-1]) < own[1:]
        assert (own[1:] >= psnr(stored[1:], source[:-1]))[differ].all(), row["key"]


def psnr(a, b):
    """Of each frame."""
    error = np.stack([((x.astype(np.float32) - y) ** 2).mean() for x, y in zip(a, b, strict=True)])
    return 10 * np.log10(255**2 / np.maximum(error, 1e-3))


def sampled_by_grid(pictures, boxes, size):
    """What `move` was: every point of the fine grid by itself. Of pictures that are reduced less than four times."""
    samples = max(2, math.ceil(float(boxes[..., 2].max()) / size / 2))
    at = (torch.arange(size * samples) + 0.5) / (size * samples) - 0.5
    x, y, side = (boxes[..., i, None] for i in range(3))
    to_x, to_y = (x + side * at) * (2 / pictures.shape[3]) - 1, (y + side * at) * (2 / pictures.shape[2]) - 1
    to_x, to_y = (to.unflatten(-1, (size, samples)).mT for to in (to_x, to_y))
    planes = (*boxes.shape[:2], samples, samples, size, size)
    grid = torch.stack([to_x[:, :, None, :, None, :].expand(planes), to_y[:, :, :, None, :, None].expand(planes)], -1)
    flat = grid.reshape(len(pictures), -1, size, 2)
    sampled = F.grid_sample(pictures, flat, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.view(len(pictures), 3, boxes.shape[1], samples**2, size, size).mean(3)


@pytest.mark.parametrize(("size", "most"), [(128, 20), (256, 60)])
def test_a_moving_still_costs_few_milliseconds(capsys, size, most):
    """Both ways in turns, so that the load of the machine hits both."""
    height, width = 3 * size, 4 * size
    image = torch.from_numpy(picture(height, width)).permute(2, 0, 1)[None].float()
    camera = Camera(frames=16, size=size)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    costs = {"by rows and columns": [], "by grid": []}
    for _ in range(24):
        boxes = torch.from_numpy(draw_path(height, width, camera, rng).boxes(16)).float()[None]
        for name, way in zip(costs, (move, sampled_by_grid), strict=True):
            began = thread_time()
            way(image, boxes, size)
            costs[name].append(1000 * (thread_time() - began))
    with capsys.disabled():
        for name, times in costs.items():
            print(f"\n16 frames of {size} x {size}, {name}: median {median(times):.1f} ms, most {max(times):.1f}")
    assert median(costs["by rows and columns"]) <= most
