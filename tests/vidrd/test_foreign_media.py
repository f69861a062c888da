"""Files of strangers: the same upright 8-bit pixels whoever wrote them, or a refusal; never anything but decoding."""

import io
import os
import socket
import struct
import subprocess
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.vidrd.data.clips import number_of, numbered
from vidrd import foreign_media
from vidrd.data.media import decode, to_rgb
from vidrd.foreign_media import UnreadableError, frames_of_video, open_video, read_image, rgb_of
from vidrd.video import read_video


def encoded(video, container, codec, *, pixels="yuv420p", **options):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=Fraction(25), options=options)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], pixels
        for picture in video:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="module")
def files():
    video = numbered(64)
    return {
        "avi": encoded(video, "avi", "mpeg4", bf="2", g="12", b="2000000"),
        "mp4": encoded(video, "mp4", "libx264", g="12"),
        "mkv": encoded(video, "matroska", "libx264", g="12"),
        "webm": encoded(video, "webm", "libvpx", g="12"),
        "gif": encoded(video, "gif", "gif", pixels="rgb8"),
    }


def read(data):
    """Numbers of the frames before the end or a fault, and the fault."""
    numbers = []
    try:
        for frame in decode(data):
            numbers.append(number_of(to_rgb(frame)))
    except UnreadableError as error:
        return numbers, str(error)
    return numbers, ""


@pytest.mark.parametrize("kind", ["avi", "mp4", "mkv", "webm", "gif"])
def test_whole_files_are_read_whole(files, kind):
    assert read(files[kind]) == (list(range(64)), "")


@pytest.mark.parametrize("kind", ["avi", "mp4", "mkv", "webm", "gif"])
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_a_file_that_is_cut_off_says_so_after_its_good_frames(files, kind, share):
    numbers, fault = read(files[kind][: int(share * len(files[kind]))])
    assert fault
    assert numbers == list(range(len(numbers)))
    assert (0 if kind == "mp4" else 4) <= len(numbers) < 64


@pytest.mark.parametrize("kind", ["avi", "mp4", "mkv"])
def test_no_frame_behind_damage_is_believed(files, kind):
    data = bytearray(files[kind])
    rng = np.random.default_rng(3)
    for place in rng.integers(len(data) // 3, 2 * len(data) // 3, 24):
        data[place] ^= int(rng.integers(1, 256))
    numbers, fault = read(bytes(data))
    assert "decod" in fault or "damaged" in fault
    assert numbers == list(range(len(numbers)))


def test_an_edit_list_is_no_damage(files):
    """A cut without encoding: the file holds the frames from a key frame on, and shows those after the cut."""
    file = io.BytesIO()
    with av.open(io.BytesIO(files["mp4"])) as source, av.open(file, "w", format="mp4") as out:
        old = source.streams.video[0]
        new = out.add_stream_from_template(old)
        for packet in source.demux(old):
            if packet.dts is not None:
                packet.pts -= round(5 / 25 / old.time_base)
                packet.dts -= round(5 / 25 / old.time_base)
                packet.stream = new
                out.mux(packet)
    with open_video(file.getvalue()) as (_, stream):
        assert stream.frames == 64
    assert read(file.getvalue()) == (list(range(5, 64)), "")


def with_matrix(data, *entries):
    """The file with another display matrix in its track header."""
    at = data.index(b"tkhd")
    version = data[at + 4]
    place = at + 4 + (52 if version else 40)
    a, b, c, d = (int(entry * 65536).to_bytes(4, "big", signed=True) for entry in entries)
    none = bytes(4)
    return data[:place] + a + b + none + c + d + none + data[place + 24 :]


TURNS = {
    "a quarter to the right": ((0, 1, -1, 0), lambda v: np.rot90(v, -1, (1, 2))),
    "a quarter to the left": ((0, -1, 1, 0), lambda v: np.rot90(v, 1, (1, 2))),
    "upside down": ((-1, 0, 0, -1), lambda v: v[:, ::-1, ::-1]),
    "mirrored": ((-1, 0, 0, 1), lambda v: v[:, :, ::-1]),
    "a quarter and mirrored": ((0, 1, 1, 0), lambda v: v.swapaxes(1, 2)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_videos_stand_upright(files, tmp_path, turn):
    entries, apply = TURNS[turn]
    stored = np.stack([rgb_of(frame) for frame in frames_of_video(files["mp4"])])[:40:13]
    turned = with_matrix(files["mp4"], *entries)
    upright = np.stack([rgb_of(frame) for frame in frames_of_video(turned)])[:40:13]
    assert np.array_equal(upright, apply(stored))
    prepared = np.stack([to_rgb(frame) for frame in decode(turned)])[:40:13]
    assert prepared.shape == upright.shape
    assert np.abs(prepared.astype(int) - upright).mean() < 2
    (tmp_path / "v.mp4").write_bytes(turned)
    assert np.array_equal(read_video(tmp_path / "v.mp4")[:40:13], upright)


def test_a_slant_is_refused(files):
    with pytest.raises(UnreadableError, match="no quarter turn and no mirror"):
        list(decode(with_matrix(files["mp4"], 0.7, 0.7, -0.7, 0.7)))


def test_the_full_range_of_brightness_is_kept(tmp_path):
    ramp = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None, None, :, None], 64, 1).repeat(3, 3).repeat(4, 0)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuvj420p"
        for picture in ramp:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p", dst_color_range=2)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    for frame in decode(file.getvalue()):
        assert np.abs(to_rgb(frame).astype(int) - ramp[0]).max() <= 4


def png(array, mode=None, **options):
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, "PNG", **options)
    return file.getvalue()


GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3


def test_pictures_of_sixteen_bits_keep_their_upper_eight():
    file = io.BytesIO()
    Image.fromarray(GRAY.astype(np.uint16) * 256 + 77).save(file, "PNG")
    assert np.array_equal(read_image(file.getvalue()), np.repeat(GRAY[..., None], 3, 2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(orientation):
    color = np.stack([GRAY, GRAY.T, 255 - GRAY], -1)[:, :6]
    stored = {
        1: color, 2: color[:, ::-1], 3: color[::-1, ::-1], 4: color[::-1], 5: color.swapaxes(0, 1),
        6: np.rot90(color, 1), 7: np.rot90(color, 2).swapaxes(0, 1), 8: np.rot90(color, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read_image(png(np.ascontiguousarray(stored), exif=exif)), color)


def test_palettes_and_opaque_alpha_are_read_and_transparency_is_refused():
    color = np.stack([GRAY] * 3, -1)
    file = io.BytesIO()
    Image.fromarray(GRAY).convert("P").save(file, "PNG")
    assert np.array_equal(read_image(file.getvalue()), color)
    opaque = np.dstack([color, np.full_like(GRAY, 255)])
    assert np.array_equal(read_image(png(opaque)), color)
    opaque[3, 3, 3] = 254
    with pytest.raises(UnreadableError, match="transparent pixels: flatten it"):
        read_image(png(opaque))


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_an_animation_is_no_picture(kind):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (0, 200)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableError, match="animation of 2 frames: make it a video file"):
        read_image(file.getvalue())


def test_pixels_of_32_bits_are_refused():
    file = io.BytesIO()
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(file, "TIFF")
    with pytest.raises(UnreadableError, match=r"32 bits \(mode F\)"):
        read_image(file.getvalue())


def test_declared_sizes_are_held_to_a_limit_before_memory_is_taken(monkeypatch, files):
    whole = png(np.zeros((64, 96), np.uint8))
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + whole[24:29]
    huge = whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]
    with pytest.raises(UnreadableError, match=r"at most 67108864 pixels: got 60000 x 60000|decompression bomb"):
        read_image(huge)
    monkeypatch.setattr(foreign_media, "MOST_PIXELS", 64 * 95)
    with pytest.raises(UnreadableError, match="at most 6080 pixels: got 96 x 64"):
        list(decode(files["mp4"]))
    with pytest.raises(UnreadableError, match="at most 6080 pixels"):
        read_image(png(np.zeros((64, 96), np.uint8)))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
SDP = (
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 45004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
HOSTILE = {
    "eps": EPS,
    "sdp": SDP,
    "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>',
    "fpx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["x.png", "x.mp4", "x.gif"])
def test_no_file_starts_a_program_opens_a_socket_or_another_file(kind, name, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a file of a stranger must start or open nothing")

    for module, call in ((subprocess, "Popen"), (os, "system"), (socket, "socket")):
        monkeypatch.setattr(module, call, refuse)
    path = tmp_path / name
    path.write_bytes(HOSTILE[kind])
    before, children = open_files(), children_of_this_process()
    for source in (path, HOSTILE[kind]):
        for reader in (read_image, lambda source: list(decode(source))):
            with pytest.raises(UnreadableError):
                reader(source)
    assert set(open_files()) <= set(before)
    assert children_of_this_process() <= children


def children_of_this_process():
    """Those of other tests too, such as a fork server."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def open_files():
    """Names of open files, of pipes and sockets too."""
    names = (Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
    return sorted(os.readlink(name) for name in names if name.is_symlink())


def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "v.mp4")
    for reader in (read_image, lambda source: list(decode(source))):
        with pytest.raises(UnreadableError, match="no regular file"):
            reader(tmp_path / "v.mp4")


def test_a_text_chunk_of_a_picture_is_no_fault():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 1000)
    assert read_image(png(GRAY, pnginfo=info)).shape == (8, 8, 3)
