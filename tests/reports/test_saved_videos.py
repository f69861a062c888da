import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from made_runs import EVIL, grid, moving_square, write, write_videos
from PIL import Image, ImageDraw

from reports import saved_videos
from reports.filmstrip import group_strips, strip_picture
from reports.run_table import load, rows


def video(frames=16, seams=(8,), size=16):
    return saved_videos.SavedVideo("id", moving_square(frames, size, seams), seams, 8.0)


def opened(picture):
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


@pytest.mark.parametrize("frames", [1, 2, 5, 16])
def test_a_video_holds_every_frame_exactly(frames):
    one = video(frames, seams=())
    sheet = opened(saved_videos.sheet(one))
    for i, frame in enumerate(one.pixels):
        top, left = i // one.columns * 16, i % one.columns * 16
        assert (sheet[top : top + 16, left : left + 16] == frame).all()


def test_large_frames_are_shrunk_and_keep_their_shape():
    pixels = np.zeros((4, 300, 600, 3), np.uint8)
    one = saved_videos.SavedVideo("id", pixels, None, 8.0)
    assert one.size == (256, 128)
    assert opened(saved_videos.sheet(one)).shape == (256, 512, 3)
    assert opened(saved_videos.poster(one)).shape == (128, 256, 3)


def test_the_slice_is_one_row_of_pixels_over_time():
    one = video()
    picture = saved_videos.xt_slice(one, 0.5)
    assert picture.shape == (16, 16, 3)  # x, t
    assert (picture[:, 3] == one.pixels[3, round(0.5 * 15)]).all()


def test_a_slice_is_exact_and_no_wider_than_a_video():
    one = video()
    assert (opened(saved_videos.slice_picture(one, 0.5)) == saved_videos.xt_slice(one, 0.5)).all()
    wide = saved_videos.SavedVideo("id", np.zeros((12, 2, 1024, 3), np.uint8), None, 8.0)
    assert opened(saved_videos.slice_picture(wide, 0.5)).shape == (256, 12, 3)


def test_the_row_of_the_slice_is_where_things_move():
    row = saved_videos.liveliest_row([video()])
    assert 6 <= row * 15 <= 9.01  # the square is on rows 6 to 9


def test_a_cut_is_an_edge_and_a_mirror_a_symmetry_of_the_slice():
    forth = moving_square(8, seams=())
    mirrored = saved_videos.SavedVideo("id", np.concatenate([forth, forth[::-1]]), (8,), 8.0)
    picture = saved_videos.xt_slice(mirrored, 0.5)
    assert (picture == picture[:, ::-1]).all()
    first, second = saved_videos.change(mirrored)
    assert first[7] == 0.0  # the frame is held at the seam
    assert len(first) == 15
    assert len(second) == 14
    cut = saved_videos.change(video())[0]
    assert np.argmax(cut) == 7


def test_change_agrees_with_the_definition():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    first, second = saved_videos.change(saved_videos.SavedVideo("id", pixels, None, 8.0))
    unit = pixels / 255
    assert first == pytest.approx([np.abs(unit[t + 1] - unit[t]).mean() for t in range(4)])
    assert second == pytest.approx([np.abs(unit[t + 1] - 2 * unit[t] + unit[t - 1]).mean() for t in range(1, 4)])
    assert saved_videos.change(saved_videos.SavedVideo("id", pixels[:1], None, 8.0)) == ([], [])


def test_a_strip_lies_true_above_its_time_axis():
    one = video(20, seams=())
    frames = saved_videos.strip_frames(one, 10)
    assert (frames[0] == one.pixels[1]).all()
    assert (frames[9] == one.pixels[19]).all()
    assert len(saved_videos.strip_frames(video(3, seams=()))) == 3


def test_scenes_are_whole_and_the_first_prompts_come_first(tmp_path):
    run = load(write(tmp_path / "run", grid(), videos=2))
    shown = saved_videos.scenes(run, rows(run), most=30)
    assert [(scene.group, scene.prompt, len(scene.videos)) for scene in shown.scenes] == [(16, 0, 13), (32, 0, 13)]
    assert shown.left_out == 26
    assert shown.scenes[0].caption == EVIL.replace("\u2028", "").replace("\x1b", " ")
    assert saved_videos.scenes(run, rows(run), most=60).scenes[3].caption == "second prompt"
    one = saved_videos.scenes(run, rows(run), most=5)
    assert [len(scene.videos) for scene in one.scenes] == [5]
    assert one.left_out == 47


def test_a_cell_that_says_no_seams_is_told_from_one_that_has_none(tmp_path):
    run = load(write(tmp_path / "run", grid()))
    cells = [cell["id"] for cell in run.manifest["cells"]]
    place = tmp_path / "run" / "cells" / cells[0]
    place.mkdir(parents=True)
    np.savez(place / "videos.npz", videos=np.zeros((1, 4, 8, 8, 3), np.uint8))
    assert saved_videos.read_videos(place, "a")[0].seams is None
    np.savez(place / "videos.npz", videos=np.zeros((1, 4, 8, 8, 3), np.uint8), seams=np.array([], int), fps=12)
    (only,) = saved_videos.read_videos(place, "a")
    assert (only.seams, only.fps) == ((), 12.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a zip", "videos.npz is not a complete .npz file"),
        (np.zeros((1, 4, 8, 8), np.uint8), "videos are N T H W 3 uint8"),
        (np.zeros((1, 4, 8, 8, 3), np.float32), "got .* float32"),
        (np.array([{"a": 1}]), "allow_pickle"),
    ],
)
def test_what_cannot_be_read_is_said_and_stops_nothing(tmp_path, content, said):
    folder = write(tmp_path / "run", grid())
    run = load(folder)
    first, second = (cell["id"] for cell in run.manifest["cells"][:2])
    place = folder / "cells" / first
    place.mkdir(parents=True)
    if isinstance(content, bytes):
        (place / "videos.npz").write_bytes(content)
    else:
        np.savez(place / "videos.npz", videos=content)
    (other,) = (cell for cell in run.records.values() if cell.cell.id == second)
    write_videos(folder, other.cell, 16)
    shown = saved_videos.scenes(run, rows(run))
    assert [video.id for video in shown.scenes[0].videos] == [second]
    (reason,) = shown.unreadable
    assert re.search(said, reason), reason


def test_the_picture_of_a_scene_has_a_row_per_video():
    scene = saved_videos.Scene(16, 0, "a prompt", 0.5, [video(), video(size=24)])
    picture = opened(strip_picture(scene, ["ours overlap=4 with a rather long name", "<b>"]))
    assert picture.shape[0] == 44 + 2 * (68 + 8)
    assert (picture == 255).all(axis=2).mean() < 0.5


def test_rows_that_do_not_fit_a_picture_are_counted(tmp_path, monkeypatch):
    written, text = [], ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda draw, at, said, *more: written.append(said) or text(draw, at, said, *more)
    )
    run = load(write(tmp_path / "run", grid(frames=(16,), overlaps=range(1, 6)), videos=1))
    table = rows(run)
    ((name, (picture, said)),) = group_strips(run, table, saved_videos.scenes(run, table).scenes).items()
    assert name == "videos-frames-16.png"
    assert said.endswith("; 7 more rows are not shown")
    assert opened(picture).shape[0] == 44 + 24 * (68 + 8) + 20
    assert written[-1] == "7 more rows are not shown"
    written.clear()
    strip_picture(saved_videos.Scene(16, 0, "a prompt", 0.5, [video()]), ["ours"])
    assert written[-1] == "ours"


@pytest.mark.parametrize("harm", ["packed bytes", {"fps": np.ones(2)}, {"seams": np.ones((1, 2))}])
def test_a_file_that_is_whole_and_damaged_inside_stops_no_report(tmp_path, harm):
    run = load(write(tmp_path / "run", grid(), videos=1))
    file = sorted(run.folder.glob("cells/*/videos.npz"))[0]
    with np.load(file) as held:
        content = dict(held)
    np.savez_compressed(file, **content | (harm if isinstance(harm, dict) else {}))
    if isinstance(harm, str):
        data = bytearray(file.read_bytes())
        data[60:100] = bytes(40)
        file.write_bytes(data)
    (reason,) = saved_videos.scenes(run, rows(run)).unreadable
    assert "videos.npz cannot be read" in reason


def test_videos_that_declare_more_than_a_report_reads_stay_packed(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "videos.npz", videos=np.zeros((1, 8, 256, 256, 3), np.uint8))
    assert len(saved_videos.read_videos(tmp_path, "a")) == 1
    monkeypatch.setattr(saved_videos, "MOST_BYTES", 2**20)
    with pytest.raises(ValueError, match=r"unpacks to 1,57[0-9,]+ bytes: a report reads at most 1,048,576 of a cell"):
        saved_videos.read_videos(tmp_path, "a")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "videos.npz")
    with pytest.raises(ValueError, match="not a complete"):
        saved_videos.read_videos(tmp_path, "a")


@pytest.mark.parametrize("value", ["../../../escaped", "a/b", "..", "x" * 300, "\x00", "a\nb"])
def test_a_value_of_a_group_names_a_file_in_the_folder(tmp_path, value):
    run = load(write(tmp_path / "run", grid(frames=(16,)), videos=1))
    table = rows(run)
    scene = saved_videos.scenes(run, table).scenes[0]._replace(group=value)
    (name,) = group_strips(run, table, [scene])
    assert Path(name).name == name
    assert (tmp_path / name).resolve().parent == tmp_path
    assert len(name) < 120
    assert name != next(iter(group_strips(run, table, [scene._replace(group=f"{value}-")])))
