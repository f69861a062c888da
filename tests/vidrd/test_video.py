"""Ranges, axes and files: what is written is what is read, and real files are read frame for frame."""

import math
import warnings

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from tests.real_clips import CLIPS, WANTED
from vidrd.pocket.world import world
from vidrd.video import ENCODINGS, read_video, to_float, to_uint8, write_video


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """A video of the pocket world whose middle stands still."""
    clip = world([4], frames=9)[0][0]
    return np.concatenate([clip, clip[-1:], clip[-1:], clip[::-1]])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def counted(frames: int, size: int = 32) -> np.ndarray:
    """Frame t is grey of brightness 10 + 3 t."""
    return np.repeat(np.arange(10, 10 + 3 * frames, 3, dtype=np.uint8), size * size * 3).reshape(frames, size, size, 3)


def test_pixels_survive_the_way_there_and_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 2, 8, 16, 1).repeat(3, axis=-1)
    floats = to_float(pixels)
    assert floats.shape == (1, 3, 2, 8, 16)
    assert (floats.min(), floats.max()) == (-1, 1)
    assert np.array_equal(to_uint8(floats), pixels)


def test_axes_go_where_they_belong():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)
    floats = to_float(pixels)
    assert floats[1, 2, 0, 3, 4] == pytest.approx(pixels[1, 0, 3, 4, 2] / 127.5 - 1)
    assert np.array_equal(to_uint8(floats), pixels)
    still = np.broadcast_to(pixels[:, :1], pixels.shape)  # read-only, and not contiguous
    assert np.array_equal(to_uint8(to_float(still)), still)


@pytest.mark.precision
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_values_are_clamped_and_rounded_halves_up(dtype):
    values = torch.tensor([-3, -1, 0, 1, 1.25], dtype=dtype).reshape(1, 1, 1, 1, 5)
    assert to_uint8(values).ravel().tolist() == [0, 0, 128, 255, 255]  # 0 is 127.5


def test_the_tensor_given_stays_as_it_was():
    values = torch.zeros(1, 3, 1, 2, 2, requires_grad=True)
    to_uint8(values)
    assert (values == 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_becomes_no_pixel(bad):
    values = torch.zeros(1, 3, 1, 2, 2)
    values[0, 1, 0, 1, 1] = bad
    with pytest.raises(ValueError, match="must be finite to become pixels: 1 of 12 values"):
        to_uint8(values)


def test_pngs_are_exact(tmp_path, video):
    for name in ("frames", "with.dots/"):
        write_video(f"{tmp_path}/{name}", video)
        assert np.array_equal(read_video(tmp_path / name), video)
    odd = video[:2, :7, :5]
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "empty", odd, scale=3)
    assert np.array_equal(read_video(tmp_path / "empty")[:, 1::3, 1::3], odd)
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == ["000000.png", "000001.png"]


@pytest.mark.parametrize(("suffix", "decibels"), [(".mp4", 37), (".avi", 35), (".gif", 45), (".GIF", 45)])
def test_files_keep_every_frame(tmp_path, video, suffix, decibels):
    """At scale 4 colors at half the size cost little; still frames are kept like the others."""
    file = tmp_path / f"video{suffix}"
    write_video(file, video, scale=4)
    back = read_video(file)
    assert back.shape == (len(video), 128, 128, 3)
    assert psnr(back, video.repeat(4, axis=1).repeat(4, axis=2)) > decibels
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_mkv_is_exact_and_equal_frames_make_equal_files(tmp_path, video):
    """Odd sizes too: a score must not depend on how its videos lay on the disk."""
    noisy = np.random.default_rng(0).integers(0, 256, (16, 31, 17, 3), dtype=np.uint8)
    for number, frames in enumerate((video, noisy)):
        first, second = tmp_path / f"{number}.mkv", tmp_path / f"again{number}.mkv"
        write_video(first, frames)
        write_video(second, frames)
        assert np.array_equal(read_video(first), frames)
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("suffix", ENCODINGS)
def test_files_play_at_the_rate_asked_for(tmp_path, video, suffix):
    for fps in (8, 12.5, 30000 / 1001):
        write_video(tmp_path / f"video{suffix}", video, fps=fps)
        with av.open(str(tmp_path / f"video{suffix}")) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert np.diff(times) == pytest.approx(1 / fps, abs=0.011 if suffix == ".gif" else 1e-3)
        assert times[-1] - times[0] == pytest.approx((len(video) - 1) / fps, abs=0.02)


def test_gifs_read_alike_with_pillow(tmp_path, video):
    write_video(tmp_path / "video.gif", video[:, :31, :17])
    with Image.open(tmp_path / "video.gif") as image:
        frames = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])
    assert np.array_equal(frames, read_video(tmp_path / "video.gif"))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, video, monkeypatch):
    file = tmp_path / "video.mp4"
    write_video(file, counted(4))
    write_video(file, video)
    assert len(read_video(file)) == len(video)

    def fail(array: np.ndarray, format: str) -> None:  # noqa: A002
        raise OSError("disk full")

    before = file.read_bytes()
    monkeypatch.setattr("vidrd.video.av.VideoFrame.from_ndarray", fail, raising=True)
    with pytest.raises(ValueError, match=r"cannot write .*video.mp4: disk full"):
        write_video(file, video)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("video.webm", {}, "unknown suffix '.webm'; take .mp4, .avi, .gif, .mkv, or none for PNGs"),
        ("missing/video.mp4", {}, "the folder .*missing does not exist; make it first"),
        ("taken", {}, "it exists and is no empty folder"),
        (".", {}, "it exists and is no empty folder"),
        ("video.mp4", {"scale": 0}, "1 or more: got 0"),
        ("video.mp4", {"fps": 0}, "fps must be between 0.01 and 1000: got 0"),
        ("video.mp4", {"fps": math.nan}, "fps must be between 0.01 and 1000: got nan"),
        ("video.gif", {"fps": 60}, "at most 50 frames per second: got 60"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, video, name, options, message):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/notes.txt").touch()
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, video, **options)
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "notes.txt"]


def test_videos_that_no_file_can_hold(tmp_path, video):
    with pytest.raises(ValueError, match=r"needs an even height and width: got 31 x 32 at scale 1; double the scale"):
        write_video(tmp_path / "video.mp4", video[:, 1:])
    write_video(tmp_path / "video.mp4", video[:, 1:], scale=2)
    assert read_video(tmp_path / "video.mp4").shape[1:] == (62, 64, 3)
    with pytest.raises(ValueError, match="got 0 frames of 3 channels"):
        write_video(tmp_path / "video.gif", video[:0])
    with pytest.raises(ValueError, match="frames of 1 channels"):
        write_video(tmp_path / "video.gif", video[..., :1])


def test_frames_come_in_the_order_in_which_they_are_shown(tmp_path):
    """An AVI with B-frames, as some real data sets hold, stores frames out of order and no time stamps."""
    with av.open(str(tmp_path / "b.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"bf": "2", "g": "250", "qmin": "2", "qmax": "2"})
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.codec_tag = "XVID"
        for picture in counted(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    video = read_video(tmp_path / "b.avi")
    assert len(video) == 60
    assert np.abs(video.mean((1, 2, 3)) - counted(60).mean((1, 2, 3))).max() < 1.5


def test_what_cannot_be_read_is_said(tmp_path, video):
    with pytest.raises(ValueError, match="there is no such file or folder"):
        read_video(tmp_path / "video.mp4")
    with pytest.raises(ValueError, match="holds no PNGs"):
        read_video(tmp_path)
    for name, content in (("text.mp4", b"not a video" * 99), ("empty.avi", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="it is broken or no video"):
            read_video(tmp_path / name)
    write_video(tmp_path / "frames", video)
    first, second = sorted((tmp_path / "frames").iterdir())[:2]
    Image.fromarray(video[0, :5]).save(first)
    with pytest.raises(ValueError, match=r"frames differ in size \(\(5, 32, 3\), \(32, 32, 3\)\)"):
        read_video(tmp_path / "frames")
    second.write_bytes(second.read_bytes()[:60])
    with pytest.raises(ValueError, match="it is broken or no video"):
        read_video(tmp_path / "frames")


def test_a_file_cut_short_is_no_secret(tmp_path):
    whole = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "whole.avi", whole)
    data = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut\.avi: it is broken or no video"):
        read_video(tmp_path / "cut.avi")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", (164, 240, 320, 3)),
        ("UCF-101/JavelinThrow/v_JavelinThrow_g22_c01.avi", (56, 240, 320, 3)),
        ("UCF-101/SoccerJuggling/v_SoccerJuggling_g23_c01.avi", (240, 240, 320, 3)),
        ("odd/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi", (83, 240, 320, 3)),  # a title not in UTF-8
        ("odd/mmaction2_part_0.mp4", (32, 256, 340, 3)),  # pixels that are not square
        ("odd/torchcodec_h264_10bits.mp4", (30, 200, 200, 3)),
        ("odd/torchcodec_h265_video.mp4", (10, 128, 128, 3)),
        ("odd/torchcodec_nasa_13013.mp4", (390, 270, 480, 3)),  # two video streams
        ("odd/v_CricketShot_g04_c01_rgb.gif", (79, 224, 224, 3)),
    ],
)
def test_real_files_are_read_frame_for_frame(name, shape):
    if not (CLIPS / name).exists():
        pytest.skip(WANTED)
    with warnings.catch_warnings(action="error"):
        video = read_video(CLIPS / name)
    assert video.shape == shape
    assert video.std() > 10
