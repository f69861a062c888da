"""Files as people and enemies have them: upright 8-bit RGB of each, or one line why not; nothing but decoding runs."""

import os
import resource
import subprocess
import zipfile

import av
import numpy as np
import pytest
from PIL import Image

from metrics.files import load_npz
from metrics.videos import decode
from metrics.videos.decode import read_picture
from metrics.videos.read import list_stray_pictures, list_videos
from tests.metrics.video_files import copy_from, noisy, numbered, some_videos, write_lossless, write_video, write_xvid

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"
REFERENCES = {
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nwhole.mkv\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile whole.mkv\n",
}


def the_video(path):
    (video,) = list_videos(path)
    return video


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "muxer"),
    [
        ("a.webm", "libvpx-vp9", "yuv420p", {}),
        ("a.webm", "libvpx", "yuv420p", {"live": "1"}),  # neither segment nor clusters declare their sizes
        ("a.mkv", "ffv1", "bgr0", {}),
        ("a.mp4", "libx264", "yuv420p", {"movflags": "faststart"}),
        ("a.mp4", "libx264", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.avi", "mpeg4", "yuv420p", {}),
        ("a.avi", "mjpeg", "yuvj420p", {}),
        ("a.gif", "gif", "rgb8", {}),
    ],
)
def test_a_file_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path, name, codec, pix_fmt, muxer):
    write_video(tmp_path / name, noisy(), codec, pix_fmt, muxer=muxer)
    video, content = the_video(tmp_path / name), (tmp_path / name).read_bytes()
    assert video.probe().frames == len(video.read()) == 30
    for share in (0.35, 0.6, 0.9):
        (tmp_path / name).write_bytes(content[: int(len(content) * share)])
        for look in (video.probe, video.read):
            with pytest.raises(ValueError, match=rf"{name} cannot be decoded: "):
                look()


def test_what_lies_behind_the_frames_does_not_matter(tmp_path):
    for name, codec, behind in (
        ("a.mp4", "libx264", (1000).to_bytes(4, "big") + b"free" + b"half of a box"),
        ("b.mkv", "libvpx-vp9", b"some bytes that a server added"),
        ("c.gif", "gif", b"\0" * 20),
    ):
        write_video(tmp_path / name, noisy(6), codec, "rgb8" if codec == "gif" else "yuv420p")
        with (tmp_path / name).open("ab") as file:
            file.write(behind)
        assert the_video(tmp_path / name).probe().frames == len(the_video(tmp_path / name).read()) == 6


def test_a_file_that_counts_no_frames_is_cut_off_too(tmp_path):
    write_video(tmp_path / "a.avi", noisy(), "mpeg4")
    content = bytearray((tmp_path / "a.avi").read_bytes())
    for header, place in ((b"avih", 24), (b"strh", 40)):  # as a camera leaves them that lost its power
        at = content.index(header) + place
        content[at : at + 4] = bytes(4)
    (tmp_path / "a.avi").write_bytes(content)
    assert the_video(tmp_path / "a.avi").probe().frames == 30
    (tmp_path / "a.avi").write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(ValueError, match=r"a\.avi cannot be decoded: it is cut off: it ends in the middle"):
        the_video(tmp_path / "a.avi").probe()


def test_an_element_that_is_damaged_loses_no_frames_in_silence(tmp_path):
    write_video(tmp_path / "a.webm", noisy(60), "libvpx-vp9", options={"g": "10"})
    content = bytearray((tmp_path / "a.webm").read_bytes())
    block = content.index(b"\xa3", len(content) // 2)
    content[block : block + 2] = b"\x11\x22"
    (tmp_path / "a.webm").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be decoded: "):
        the_video(tmp_path / "a.webm").read()


def test_bytes_that_the_decoder_finds_damaged_are_no_frames(tmp_path):
    write_xvid(tmp_path / "a.avi", noisy(), b_frames=0)
    content = bytearray((tmp_path / "a.avi").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 24] = bytes(255 - octet for octet in content[middle : middle + 24])
    (tmp_path / "a.avi").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.avi cannot be decoded: (frame \d+ is damaged|Invalid data)"):
        the_video(tmp_path / "a.avi").read()


def test_an_edit_list_leaves_frames_out_and_cuts_nothing_off(tmp_path):
    write_video(tmp_path / "whole.mp4", noisy(64), options={"g": "64", "bf": "0"})
    copy_from(tmp_path / "whole.mp4", tmp_path / "cut.mp4", 10)
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert container.streams.video[0].frames == 64  # announced; else this would prove nothing
    video = the_video(tmp_path / "cut.mp4")
    frames = video.read()
    assert video.probe().frames == len(frames) == 54
    np.testing.assert_array_equal(frames, the_video(tmp_path / "whole.mp4").read()[10:])


TURNS = {  # a, b, c, d of x' = a x + c y, y' = b x + d y, and what that does to pixels
    (0, -1, 1, 0): lambda x: np.rot90(x, 1, axes=(1, 2)),
    (-1, 0, 0, -1): lambda x: np.rot90(x, 2, axes=(1, 2)),
    (0, 1, -1, 0): lambda x: np.rot90(x, 3, axes=(1, 2)),
    (-1, 0, 0, 1): lambda x: x[:, :, ::-1],
    (1, 0, 0, -1): lambda x: x[:, ::-1],
    (0, 1, 1, 0): lambda x: x.transpose(0, 2, 1, 3),
    (0, -1, -1, 0): lambda x: np.rot90(x, 2, axes=(1, 2)).transpose(0, 2, 1, 3),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_display_matrix_turns_and_mirrors(tmp_path, turn):
    stored = numbered(3).copy()
    stored[:, :8], stored[:, :, :8] = 250, 10  # bright on top, dark on the left
    (a, b, c, d), one = turn, 1 << 16
    write_video(
        tmp_path / "a.mp4",
        stored,
        options={"crf": "1"},
        matrix=[a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30],
    )
    video = the_video(tmp_path / "a.mp4")
    frames, expected = video.read(), TURNS[turn](stored)
    assert video.probe()[:3] == frames.shape[:3] == expected.shape[:3]
    np.testing.assert_allclose(frames.astype(int), expected, atol=12)


def test_a_display_matrix_that_leans_is_refused(tmp_path):
    half = round(2**0.5 / 2 * (1 << 16))
    write_video(tmp_path / "a.mp4", numbered(3), matrix=[half, -half, 0, half, half, 0, 0, 0, 1 << 30])
    with pytest.raises(ValueError, match="its display matrix is no quarter turn and no mirror"):
        the_video(tmp_path / "a.mp4").read()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_tag_says(tmp_path, orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:4], upright[:, :6] = 250, 120
    transpose = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's way back from upright to stored
    image = Image.fromarray(upright)
    stored = image if orientation == 1 else image.transpose(Image.Transpose(transpose[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for i in range(3):
        stored.save(tmp_path / f"{i}.png", exif=exif)
    np.testing.assert_array_equal(the_video(tmp_path).read(), np.stack([upright] * 3))
    assert the_video(tmp_path).probe()[:3] == (3, 16, 24)


def test_pictures_of_any_kind_become_8_bit_rgb(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    rgb = Image.fromarray(colors)
    palette, gray = rgb.quantize(16), rgb.convert("L")
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    gray.save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "gray.png"), np.asarray(gray)[..., None].repeat(3, axis=2))
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png")[..., 0], np.arange(256).reshape(16, 16))
    rgb.convert("RGBA").save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "opaque.png"), colors)
    clear = rgb.convert("RGBA")
    clear.putpixel((3, 3), (0, 0, 0, 100))
    clear.save(tmp_path / "clear.png")
    palette.save(tmp_path / "index.png", transparency=palette.getpixel((0, 0)))
    for name in ("clear.png", "index.png"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a frame: it has transparent pixels"):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("kind", ["webp", "png"])
def test_an_animation_is_no_frame(tmp_path, kind):
    first, *others = (Image.fromarray(frame) for frame in some_videos(1, frames=4)[0])
    first.save(tmp_path / f"1.{kind}", save_all=True, append_images=others, duration=40)
    first.save(tmp_path / f"2.{kind}")
    with pytest.raises(ValueError, match=rf"1\.{kind} cannot be read as a frame: it is an animation of 4 frames"):
        the_video(tmp_path).read()


def test_a_gif_with_holes_is_refused(tmp_path):
    frames = [Image.fromarray(frame).convert("RGBA") for frame in some_videos(1, frames=3)[0]]
    for frame in frames:
        frame.putpixel((2, 2), (0, 0, 0, 0))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], disposal=2)
    with pytest.raises(ValueError, match=r"a\.gif cannot be decoded: it has transparent pixels"):
        the_video(tmp_path / "a.gif").read()


def test_frames_of_two_sizes_name_the_file(tmp_path):
    for i, size in enumerate((16, 16, 24)):
        Image.fromarray(some_videos(1, size=size)[0, 0]).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match=r"2\.png is 24x24 pixels, the frames before it 16x16"):
        the_video(tmp_path).read()


@pytest.mark.parametrize(("fps", "believed"), [(25, 25), (8, 8), (1000, None)])
def test_a_rate_that_no_camera_has_is_none(tmp_path, fps, believed):
    write_video(tmp_path / "a.webm", noisy(), "libvpx-vp9", fps=fps)
    assert the_video(tmp_path / "a.webm").probe().fps == believed


def test_time_stamps_speak_against_the_header(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=200)  # and a frame every 40 ms
        stream.height, stream.width, stream.pix_fmt = 16, 16, "bgr0"
        for i, pixels in enumerate(some_videos(1, frames=12)[0]):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
            frame.pts = 8 * i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert the_video(tmp_path / "a.mkv").probe().fps == pytest.approx(25, rel=0.01)


def test_no_reader_starts_a_program_or_opens_anything_but_its_file(tmp_path, monkeypatch):
    """There is one descriptor to be had, which the file itself takes: a socket or a second file would be refused."""
    place = tmp_path / "set"
    place.mkdir()
    write_lossless(tmp_path / "whole.mkv", some_videos(1)[0])
    for name, text in REFERENCES.items():
        (place / f"{name}.mp4").write_text(text)
    (place / "script.mkv").write_bytes(EPS)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(EPS)
    whole, picture, videos = the_video(tmp_path / "whole.mkv"), the_video(tmp_path / "pictures"), list_videos(place)
    assert len(videos) == 4
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: started.append(args))
    monkeypatch.setattr(os, "posix_spawn", lambda *args, **kwargs: started.append(args))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, before[1]))
    try:
        assert whole.read().shape == (9, 16, 16, 3)
        for video in videos:
            with pytest.raises(ValueError, match=r"cannot be decoded: (it is none of avi|Invalid data)"):
                video.read()
            with pytest.raises(ValueError, match=r"cannot be decoded: (it is none of avi|Invalid data)"):
                video.probe()
        with pytest.raises(ValueError, match=r"1\.png cannot be read as a frame: it is no BMP, JPEG, PNG, WEBP file"):
            picture.read()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not started


def test_what_a_file_declares_is_held_to_limits_before_memory_is_taken(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", np.zeros((20, 64, 64, 3), np.uint8))
    np.save(tmp_path / "a.npy", np.zeros((20, 64, 64, 3), np.uint8))
    (tmp_path / "a").mkdir()
    for i in range(20):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a" / f"{i}.png")
    monkeypatch.setattr(decode, "MOST_BYTES", 10 * 64 * 64 * 3)
    for name in ("a.mp4", "a.npy", "a"):
        assert len(the_video(tmp_path / name).read(0, 10)) == 10
        with pytest.raises(ValueError, match=r"20 frames of 64x64 are \S+ GiB"):
            the_video(tmp_path / name).read()
    monkeypatch.setattr(decode, "MOST_PIXELS", 63 * 64)
    for look in (the_video(tmp_path / "a.mp4").probe, lambda: read_picture(tmp_path / "a" / "0.png")):
        with pytest.raises(ValueError, match="frames of 64x64 are too large"):
            look()


def test_an_npz_unpacks_to_no_more_than_is_allowed(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", np.zeros((300, 64, 64, 3), np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"it unpacks to 0\.0 GiB, at most 0\.0 are read"):
        load_npz(tmp_path / "a.npz", 1 << 20)
    assert load_npz(tmp_path / "a.npz", 1 << 22)["arr_0"].shape == (300, 64, 64, 3)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)})
    with pytest.raises(ValueError, match="does not have the size that its shape"):
        the_video(tmp_path / "b.npz").read()


@pytest.mark.parametrize("name", ["a.mp4", "a.npy", "a.npz", "a/1.png"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="is no regular file"):
        the_video(tmp_path).read()


def test_pictures_beside_or_above_videos_are_no_video(tmp_path):
    video = some_videos(1)[0]
    for name in ("Archery", "Biking"):
        (tmp_path / name).mkdir()
        write_lossless(tmp_path / name / "v.mkv", video)
        Image.fromarray(video[0]).save(tmp_path / name / "v.jpg")
    Image.fromarray(video[0]).save(tmp_path / "preview.jpg")
    assert [each.name for each in list_videos(tmp_path)] == ["Archery/v.mkv", "Biking/v.mkv"]
    assert list_stray_pictures(tmp_path) == ["Archery/v.jpg", "Biking/v.jpg", "preview.jpg"]
    (tmp_path / "frames" / "deeper").mkdir(parents=True)
    for place in ("frames", "frames/deeper"):
        Image.fromarray(video[0]).save(tmp_path / place / "1.png")
    assert [each.name for each in list_videos(tmp_path)] == ["Archery/v.mkv", "Biking/v.mkv", "frames/deeper"]
    assert "frames/1.png" in list_stray_pictures(tmp_path)


def test_a_file_is_listed_once_however_links_lead_to_it(tmp_path):
    (tmp_path / "set" / "real").mkdir(parents=True)
    for i in range(3):
        write_lossless(tmp_path / "set" / "real" / f"{i}.mkv", some_videos(1, seed=i)[0])
    names = [f"real/{i}.mkv" for i in range(3)]
    (tmp_path / "set" / "self").symlink_to(".")
    (tmp_path / "set" / "again").symlink_to("real")
    (tmp_path / "set" / "real" / "up").symlink_to("..")
    (tmp_path / "set" / "0.mkv").symlink_to("real/0.mkv")
    assert [video.name for video in list_videos(tmp_path / "set")] == names
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a").symlink_to(tmp_path / "set" / "real")
    assert [video.name for video in list_videos(tmp_path / "linked")] == [f"a/{i}.mkv" for i in range(3)]


def test_a_name_that_is_no_utf_8_is_read_and_can_be_written(tmp_path):
    write_lossless(tmp_path / "a.mkv", some_videos(1)[0])
    os.rename(tmp_path / "a.mkv", os.fsencode(tmp_path) + b"/v_\xe4.mkv")
    video = the_video(tmp_path)
    assert video.name.encode() == b"v_\\xe4.mkv"
    assert video.read().shape == (9, 16, 16, 3)
