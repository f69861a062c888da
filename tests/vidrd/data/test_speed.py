"""Figures that depend on the machine: run by `pytest -m slow -s tests/vidrd/data/test_speed.py` on a quiet one."""

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
