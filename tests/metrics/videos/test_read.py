"""Videos from files: the right frames of every kind of file people have, and a word for those that are broken."""

import os

import av
import numpy as np
import pytest
from PIL import Image

from metrics.videos.read import list_videos, read_videos
from tests.metrics.video_files import numbered, real_clips, some_videos, write_lossless, write_xvid

ODD = {  # frames, height, width, of the stream that is read
    "R6llTwEh07w.mp4": (303, 256, 340),
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": (83, 240, 320),
    "mmaction2_demo.mp4": (280, 256, 340),
    "mmaction2_part_0.mp4": (32, 256, 340),
    "torchcodec_av1_video.mkv": (125, 360, 640),
    "torchcodec_bt709_full_range.mp4": (30, 720, 1280),
    "torchcodec_h264_10bits.mp4": (30, 200, 200),
    "torchcodec_h265_10bits.mp4": (30, 200, 200),
    "torchcodec_h265_video.mp4": (10, 128, 128),
    "torchcodec_nasa_13013.mp4": (390, 270, 480),
    "v_CricketShot_g04_c01_rgb.gif": (79, 224, 224),
}


def the_video(path):
    (video,) = list_videos(path)
    return video


def test_arrays_and_films_are_read_in_the_order_of_their_names(tmp_path):
    videos = some_videos(5)
    np.save(tmp_path / "a.npy", videos[:2])
    np.savez(tmp_path / "b.npz", videos[2])
    write_lossless(tmp_path / "c.mkv", videos[3])
    np.save(tmp_path / "d.npy", videos[4:])
    (tmp_path / "notes.txt").write_text("not a video")
    np.testing.assert_array_equal(read_videos(tmp_path), videos)
    np.testing.assert_array_equal(read_videos(tmp_path, n=4, frames=8), videos[:4, :8])
    np.testing.assert_array_equal(read_videos(tmp_path / "c.mkv"), videos[3:4])
    assert [video.name for video in list_videos(tmp_path)] == ["a.npy#0", "a.npy#1", "b.npz", "c.mkv", "d.npy"]


def test_folders_may_hold_folders_and_folders_may_be_videos(tmp_path):
    video = some_videos(1, frames=12)[0]
    (tmp_path / "Biking").mkdir()
    write_lossless(tmp_path / "Biking" / "v_01.mkv", video)
    (tmp_path / "Biking" / ".hidden.mkv").write_bytes(b"no video")
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(video):
        Image.fromarray(frame).save(tmp_path / "frames" / f"frame{t + 1}.png")  # 10 comes after 9, not after 1
    assert [item.name for item in list_videos(tmp_path)] == ["Biking/v_01.mkv", "frames"]
    np.testing.assert_array_equal(read_videos(tmp_path), np.stack([video, video]))
    np.testing.assert_array_equal(the_video(tmp_path / "frames").read(2, 3, 4), video[[2, 6, 10]])
    assert the_video(tmp_path / "frames").probe()[:3] == (12, 16, 16)


def test_frames_of_equal_numbers_have_one_order_everywhere(tmp_path):
    for level, name in enumerate(("1.png", "002.png", "02.png", "2.png", "10.png")):
        Image.new("RGB", (4, 4), (level, level, level)).save(tmp_path / name)
    assert the_video(tmp_path).read()[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_folders_that_hold_no_set_are_refused(tmp_path):
    with pytest.raises(ValueError, match="absent holds no videos"):
        read_videos(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"absent\.npy holds no videos"):
        read_videos(tmp_path / "absent.npy")
    np.save(tmp_path / "a.npy", some_videos(2))
    with pytest.raises(ValueError, match="holds 2 videos, 3 were requested"):
        read_videos(tmp_path, n=3)
    with pytest.raises(ValueError, match=r"a\.npy has 9 frames from 0 in steps of 1, requested: 10 frames"):
        read_videos(tmp_path, frames=10)
    np.save(tmp_path / "b.npy", some_videos(1, frames=8))
    with pytest.raises(ValueError, match=r"b\.npy has 8x16x16 \(frames, height, width\), those before 9x16x16"):
        read_videos(tmp_path)
    assert len(read_videos(tmp_path, frames=8)) == 3
    (tmp_path / "gone.npy").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"gone\.npy cannot be read as videos: No such file"):
        the_video(tmp_path / "gone.npy").probe()
    (tmp_path / "gone.npy").unlink()
    np.save(tmp_path / "a.npy", some_videos(2).astype(float))
    with pytest.raises(ValueError, match="must be uint8"):
        read_videos(tmp_path)
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy cannot be read as videos"):
        read_videos(tmp_path)
    (tmp_path / "a.npy").unlink()
    np.savez(tmp_path / "a.npz", one=some_videos(1), two=some_videos(1))
    with pytest.raises(ValueError, match="it holds 2 arrays, one is wanted"):
        read_videos(tmp_path)
    (tmp_path / "a.npz").unlink()
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"a\.mp4 cannot be decoded"):
        read_videos(tmp_path)
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"1\.png cannot be read as a frame"):
        read_videos(tmp_path / "frames")


def test_b_frames_in_an_avi_come_in_the_order_in_which_they_are_shown(tmp_path):
    video = numbered(50)
    write_xvid(tmp_path / "b.avi", video)
    with av.open(str(tmp_path / "b.avi")) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert stamps != list(range(50))  # time stamps lead to other frames; else this would prove nothing
    video_file = the_video(tmp_path / "b.avi")
    assert video_file.probe().frames == 50
    levels = video_file.read().mean(axis=(1, 2, 3))
    np.testing.assert_allclose(levels, video.mean(axis=(1, 2, 3)), atol=2)
    for start, count, stride in ((0, 1, 1), (17, 5, 3), (49, 1, 1), (1, 49, 1)):
        read = video_file.read(start, count, stride)
        np.testing.assert_allclose(read.mean(axis=(1, 2, 3)), levels[start::stride][:count], atol=1e-9)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_frames_recorded_lying_down_are_turned_upright(tmp_path, rotation):
    video = numbered(6).copy()
    video[:, :8] = 250  # a bright edge on top, as stored
    write_xvid(tmp_path / "turned.mp4", video, rotation=rotation, codec="libx264")
    with av.open(str(tmp_path / "turned.mp4")) as container:
        stored = next(container.decode(video=0)).rotation
    video_file = the_video(tmp_path / "turned.mp4")
    frames = video_file.read()
    expected = np.rot90(video, stored // 90, axes=(1, 2))
    assert abs(stored) == abs(rotation)
    assert video_file.probe()[:3] == frames.shape[:3] == expected.shape[:3]
    np.testing.assert_allclose(frames.astype(float), expected, atol=12)


@pytest.mark.parametrize("name", ODD)
def test_odd_files_have_the_frames_that_they_hold(name):
    video_file = the_video(real_clips("odd") / name)
    info, frames = video_file.probe(), video_file.read()
    assert info[:3] == frames.shape[:3] == ODD[name]
    middle = len(frames) // 2
    np.testing.assert_array_equal(video_file.read(middle, 2, 3), frames[middle::3][:2])
    np.testing.assert_array_equal(video_file.read(len(frames) - 1, 1), frames[-1:])
    if name == "mmaction2_demo.mp4":
        assert info.pixel_aspect == pytest.approx(64 / 51)


def test_every_clip_of_ucf_101_has_the_frames_that_were_counted():
    video_files = list_videos(real_clips("UCF-101"))
    assert len(video_files) >= 40
    assert video_files == sorted(video_files, key=lambda video_file: video_file.name)
    for video_file in video_files[::4]:
        info, frames = video_file.probe(), video_file.read()
        assert info[:3] == frames.shape[:3]
        assert frames.shape[1:] == (240, 320, 3)
    for video_file in video_files:
        assert video_file.probe().frames > 16


@pytest.mark.parametrize(("name", "full"), [("torchcodec_bt709_full_range.mp4", True), ("mmaction2_demo.mp4", False)])
def test_colours_are_those_of_the_file_s_range_and_matrix(name, full):
    path = real_clips("odd") / name
    with av.open(str(path), metadata_errors="replace") as container:
        frame = next(container.decode(container.streams.best("video")))
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(float)
        for plane in frame.planes
    ]
    y, (u, v) = planes[0][::2, ::2], planes[1:]
    y, u, v = (y, u - 128, v - 128) if full else ((y - 16) * 255 / 219, *((c - 128) * 255 / 224 for c in (u, v)))
    red, blue = (0.2126, 0.0722) if full else (0.299, 0.114)  # BT.709 as the file says; BT.601 where it says nothing
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    ours = the_video(path).read(0, 1)[0, ::2, ::2]
    error = np.abs(ours - np.clip(np.stack([r, g, b], axis=-1), 0, 255))
    assert error.mean() < 2.5  # chroma is half a pixel aside


def test_files_that_are_cut_off_or_damaged_are_told(tmp_path):
    whole = tmp_path / "whole.avi"
    random = np.random.default_rng(0)
    video = np.clip(numbered(60).astype(int) + random.integers(-20, 20, (60, 48, 64, 3)), 0, 255).astype(np.uint8)
    write_xvid(whole, video, b_frames=0)
    content = whole.read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(
        ValueError, match=r"cut\.avi is cut off: it announces 60 frames and holds \d\d|cannot be decoded"
    ):
        the_video(tmp_path / "cut.avi").probe()
    with pytest.raises(ValueError, match=r"cut\.avi is cut off: it announces 60 frames|cannot be decoded"):
        the_video(tmp_path / "cut.avi").read()
    middle = len(content) // 2
    noise = random.integers(0, 256, 600, dtype=np.uint8).tobytes()
    (tmp_path / "noise.avi").write_bytes(content[:middle] + noise + content[middle + 600 :])
    with pytest.raises(ValueError, match=r"noise\.avi cannot be decoded"):
        the_video(tmp_path / "noise.avi").read()
    assert the_video(tmp_path / "noise.avi").read(0, 16).shape == (16, 48, 64, 3)  # the damage comes later
    with pytest.raises(ValueError, match=r"whole\.avi has 5 frames from 55 in steps of 1, requested: 6 frames"):
        the_video(whole).read(55, 6)
    with pytest.raises(ValueError, match="got start -1, stride 1"):
        the_video(whole).read(-1, 6)


def test_sound_without_pictures_is_no_video(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="it holds no video stream"):
        the_video(tmp_path / "sound.mp4").probe()


def test_a_fingerprint_says_which_bytes_came(tmp_path):
    video = some_videos(1)[0]
    write_lossless(tmp_path / "a.mkv", video)
    (tmp_path / "b.mkv").write_bytes((tmp_path / "a.mkv").read_bytes())
    np.save(tmp_path / "c.npy", video)
    a, b, c = list_videos(tmp_path)
    assert a.fingerprint() == b.fingerprint()
    assert c.fingerprint() is None
    (tmp_path / "b.mkv").write_bytes((tmp_path / "a.mkv").read_bytes() + b"!")
    assert b.fingerprint() != a.fingerprint()
    content, times = bytearray((tmp_path / "a.mkv").read_bytes()), (tmp_path / "a.mkv").stat()
    content[-1] ^= 1
    before = a.fingerprint()
    (tmp_path / "a.mkv").write_bytes(content)
    os.utime(tmp_path / "a.mkv", ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` does: equal size, equal time
    assert a.fingerprint() != before
